/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http_tls.h"
#include "base/str.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

#define SHA256_LEN 32
#define CN_MAX 256
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct TlsContext {
	gnutls_certificate_credentials_t cred;
	gnutls_priority_t priority;
	HttpClientCert mode;
};

struct Tls {
	gnutls_session_t session;
	size_t unsent; /* of a write that GnuTLS took but could not send yet */
};

static bool tls_fail(GError **err, int r, const char *what, const char *file)
{
	return fail_advice(err, ERR_INVALID, "Give a PEM file that the daemon may read.",
			   "can't use the %s '%s': %s", what, file, gnutls_strerror(r));
}

static bool load_files(TlsContext *c, const char *cert, const char *key, const char *ca, GError **err)
{
	int r = gnutls_certificate_set_x509_key_file(c->cred, cert, key, GNUTLS_X509_FMT_PEM);

	if (r < 0)
		return tls_fail(err, r, "certificate and key", cert);
	if (c->mode == HTTP_CLIENT_CERT_NONE)
		return true;
	if (ca == NULL)
		return fail_advice(err, ERR_INVALID, "Name the CA that signs the client certificates.",
				   "client certificates can't be checked without a CA");
	r = gnutls_certificate_set_x509_trust_file(c->cred, ca, GNUTLS_X509_FMT_PEM);
	if (r <= 0)
		return tls_fail(err, r < 0 ? r : GNUTLS_E_NO_CERTIFICATE_FOUND, "client CA", ca);
	return true;
}

TlsContext *tls_context_new(const char *cert, const char *key, const char *client_ca, HttpClientCert mode,
			    GError **err)
{
	g_autoptr(TlsContext) c = g_new0(TlsContext, 1);
	int r;

	c->mode = mode;
	r = gnutls_certificate_allocate_credentials(&c->cred);
	g_assert(r == 0); /* only for lack of memory */
	r = gnutls_priority_init(&c->priority, PRIORITY, NULL);
	if (r < 0) {
		fail_advice(err, ERR_UNAVAILABLE, "Allow TLS 1.2 or 1.3 in the system's crypto policy.",
			    "GnuTLS refuses the priorities %s: %s", PRIORITY, gnutls_strerror(r));
		return NULL;
	}
	if (!load_files(c, cert, key, client_ca, err))
		return NULL;
	return g_steal_pointer(&c);
}

TlsContext *tls_context_free(TlsContext *c)
{
	if (c != NULL) {
		gnutls_certificate_free_credentials(c->cred);
		gnutls_priority_deinit(c->priority);
		g_free(c);
	}
	return NULL;
}

/* In the handshake, so that a client with a bad certificate hears of it. */
static int check_client(gnutls_session_t session)
{
	gnutls_typed_vdata_st purpose = { .type = GNUTLS_DT_KEY_PURPOSE_OID,
					  .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT };
	unsigned status = 0, n = 0;

	/* None is fine here: where one is required GnuTLS has failed before. */
	if (gnutls_certificate_get_peers(session, &n) == NULL || n == 0)
		return 0;
	if (gnutls_certificate_verify_peers(session, &purpose, 1, &status) < 0 || status != 0)
		return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
	return 0;
}

static void set_client_check(Tls *t, HttpClientCert mode)
{
	if (mode == HTTP_CLIENT_CERT_NONE)
		return;
	gnutls_certificate_server_set_request(
	    t->session, mode == HTTP_CLIENT_CERT_REQUIRED ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
	gnutls_session_set_verify_function(t->session, check_client);
}

Tls *tls_new(const TlsContext *c, int fd, GError **err)
{
	static const gnutls_datum_t alpn = { .data = (unsigned char *)"http/1.1", .size = 8 };
	g_autoptr(Tls) t = g_new0(Tls, 1);
	int r = gnutls_init(&t->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

	if (r == 0)
		r = gnutls_priority_set(t->session, c->priority);
	if (r == 0)
		r = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, c->cred);
	if (r == 0)
		r = gnutls_alpn_set_protocols(t->session, &alpn, 1, 0);
	if (r < 0) {
		fail(err, ERR_INTERNAL, "can't begin a TLS session: %s", gnutls_strerror(r));
		return NULL;
	}
	set_client_check(t, c->mode);
	gnutls_transport_set_int(t->session, fd);
	gnutls_handshake_set_timeout(t->session, GNUTLS_INDEFINITE_TIMEOUT); /* the connection has a timer */
	return g_steal_pointer(&t);
}

Tls *tls_free(Tls *t)
{
	if (t != NULL) {
		if (t->session != NULL)
			gnutls_deinit(t->session);
		g_free(t);
	}
	return NULL;
}

static int errno_of(ssize_t r)
{
	return r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED ? -EAGAIN : -EPROTO;
}

int tls_handshake(Tls *t)
{
	int r;

	do
		r = gnutls_handshake(t->session);
	while (r < 0 && r != GNUTLS_E_AGAIN && gnutls_error_is_fatal(r) == 0);
	if (r == 0 || r == GNUTLS_E_AGAIN)
		return r == 0 ? 0 : -EAGAIN;
	gnutls_alert_send_appropriate(t->session, r);
	return -EPROTO;
}

bool tls_wants_write(const Tls *t)
{
	return gnutls_record_get_direction(t->session) != 0;
}

ssize_t tls_read(Tls *t, void *buf, size_t len)
{
	ssize_t r = gnutls_record_recv(t->session, buf, len);

	if (r >= 0)
		return r;
	/* Most clients close without a goodbye. A length or an end of chunks was said inside, so nothing is
	 * cut off. */
	return r == GNUTLS_E_PREMATURE_TERMINATION ? 0 : errno_of(r);
}

ssize_t tls_write(Tls *t, const void *buf, size_t len)
{
	ssize_t r;

	if (t->unsent > 0)
		r = gnutls_record_send(t->session, NULL, 0);
	else
		r = gnutls_record_send(t->session, buf, len);
	if (r < 0) {
		if (errno_of(r) == -EAGAIN && t->unsent == 0)
			t->unsent = len;
		return errno_of(r);
	}
	t->unsent = 0;
	return r;
}

bool tls_pending(const Tls *t)
{
	return gnutls_record_check_pending(t->session) > 0;
}

void tls_bye(Tls *t)
{
	gnutls_bye(t->session, GNUTLS_SHUT_WR);
}

static bool cert_name(gnutls_x509_crt_t crt, char **ret)
{
	char cn[CN_MAX];
	size_t len = sizeof cn;
	int r = gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, cn, &len);

	/* A NUL inside would make two different names look the same. */
	if (r < 0 || len == 0 || strlen(cn) != len)
		return false;
	/* It goes on to other hosts in a header: it may not end a line. */
	if (!text_is_plain(cn))
		return false;
	*ret = g_strndup(cn, len);
	return true;
}

bool tls_identity(const Tls *t, char **ret_cn, char **ret_sha256)
{
	unsigned n = 0;
	const gnutls_datum_t *der = gnutls_certificate_get_peers(t->session, &n);
	gnutls_x509_crt_t crt;
	bool ok;

	if (der == NULL || n == 0)
		return true;
	if (gnutls_x509_crt_init(&crt) < 0)
		return false;
	ok = gnutls_x509_crt_import(crt, &der[0], GNUTLS_X509_FMT_DER) == 0 && cert_name(crt, ret_cn);
	if (ok)
		*ret_sha256 = g_compute_checksum_for_data(G_CHECKSUM_SHA256, der[0].data, der[0].size);
	gnutls_x509_crt_deinit(crt);
	return ok;
}
