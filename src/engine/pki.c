/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pki.h"
#include "base/fd.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (64 << 10)
#define SECOND UINT64_C(1000000)
/* Clocks of hosts differ a little: a certificate holds from somewhat before it was made. */
#define CLOCK_SLACK (UINT64_C(3600) * SECOND)
#define SERIAL_LEN 16

static void crt_deinitp(gnutls_x509_crt_t *c)
{
	gnutls_x509_crt_deinit(*c);
}

static void key_deinitp(gnutls_x509_privkey_t *k)
{
	gnutls_x509_privkey_deinit(*k);
}

static void crq_deinitp(gnutls_x509_crq_t *c)
{
	gnutls_x509_crq_deinit(*c);
}

static void datum_freep(gnutls_datum_t *d)
{
	gnutls_free(d->data);
}

#define _cleanup_crt_ __attribute__((cleanup(crt_deinitp)))
#define _cleanup_key_ __attribute__((cleanup(key_deinitp)))
#define _cleanup_crq_ __attribute__((cleanup(crq_deinitp)))
#define _cleanup_datum_ __attribute__((cleanup(datum_freep)))

static bool good(int r, ErrCode code, const char *what, GError **err)
{
	return r >= 0 || fail(err, code, "%s: %s", what, gnutls_strerror(r));
}

static gnutls_datum_t datum_of(const char *text)
{
	return (gnutls_datum_t){ .data = (unsigned char *)text, .size = (unsigned)strlen(text) };
}

bool pki_file_write(const char *folder, const char *name, const char *text, GError **err)
{
	g_autofree char *path = g_build_filename(folder, name, NULL);

	return file_write_atomic(path, text, strlen(text), g_str_has_suffix(name, ".key") ? 0600 : 0644, err);
}

char *pki_file_read(const char *folder, const char *name, GError **err)
{
	g_autofree char *path = g_build_filename(folder, name, NULL);

	return file_read(path, FILE_MAX, NULL, err);
}

static bool is_there(const char *folder, const char *name)
{
	g_autofree char *path = g_build_filename(folder, name, NULL);
	struct stat st;

	return lstat(path, &st) == 0;
}

/* ---- keys ---- */

static bool key_save(const char *folder, const char *name, gnutls_x509_privkey_t key, GError **err)
{
	_cleanup_datum_ gnutls_datum_t pem = { 0 };
	g_autofree char *text = NULL;
	int r = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem);

	if (!good(r, ERR_INTERNAL, "can't print a key", err))
		return false;
	text = g_strndup((const char *)pem.data, pem.size);
	return pki_file_write(folder, name, text, err);
}

static bool key_make(const char *folder, const char *name, gnutls_x509_privkey_t key, GError **err)
{
	unsigned bits = GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1);

	return good(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, bits, 0), ERR_INTERNAL,
		    "can't make a key", err) &&
	       key_save(folder, name, key, err);
}

static bool key_load(const char *folder, const char *name, gnutls_x509_privkey_t key, GError **err)
{
	g_autofree char *text = pki_file_read(folder, name, err);
	gnutls_datum_t pem;

	if (text == NULL)
		return false;
	pem = datum_of(text);
	return good(gnutls_x509_privkey_import(key, &pem, GNUTLS_X509_FMT_PEM), ERR_INVALID,
		    "can't read the key of the pool's certificates", err);
}

static bool crt_parse(const char *text, gnutls_x509_crt_t crt, GError **err)
{
	gnutls_datum_t pem = datum_of(text);

	return good(gnutls_x509_crt_import(crt, &pem, GNUTLS_X509_FMT_PEM), ERR_INVALID,
		    "this is no certificate", err);
}

static bool crt_load(const char *folder, const char *name, gnutls_x509_crt_t crt, GError **err)
{
	g_autofree char *text = pki_file_read(folder, name, err);

	return text != NULL && crt_parse(text, crt, err);
}

/* ---- certificates ---- */

static int set_serial(gnutls_x509_crt_t crt)
{
	uint8_t serial[SERIAL_LEN];

	random_bytes(serial, sizeof serial);
	serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, and without leading zeros */
	return gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
}

/* Names it, numbers it, says from when to when it holds. */
static bool set_frame(gnutls_x509_crt_t crt, const char *cn, uint64_t from, uint64_t until, GError **err)
{
	time_t begin = (time_t)((from - CLOCK_SLACK) / SECOND), end = (time_t)(until / SECOND);
	int r = gnutls_x509_crt_set_version(crt, 3);

	if (r >= 0)
		r = set_serial(crt);
	if (r >= 0)
		r = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn,
						  (unsigned)strlen(cn));
	if (r >= 0)
		r = gnutls_x509_crt_set_activation_time(crt, begin);
	if (r >= 0)
		r = gnutls_x509_crt_set_expiration_time(crt, end);
	return good(r, ERR_INTERNAL, "can't make a certificate", err);
}

static bool sign_and_save(const char *folder, const char *name, gnutls_x509_crt_t crt,
			  gnutls_x509_crt_t issuer, gnutls_x509_privkey_t key, char **ret, GError **err)
{
	_cleanup_datum_ gnutls_datum_t pem = { 0 };
	g_autofree char *text = NULL;
	int r = gnutls_x509_crt_sign2(crt, issuer, key, GNUTLS_DIG_SHA256, 0);

	if (r >= 0)
		r = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
	if (!good(r, ERR_INTERNAL, "can't sign a certificate", err))
		return false;
	text = g_strndup((const char *)pem.data, pem.size);
	if (name != NULL && !pki_file_write(folder, name, text, err))
		return false;
	if (ret != NULL)
		*ret = g_steal_pointer(&text);
	return true;
}

bool pki_ca_make(const char *folder, const char *pool_id, uint64_t now, GError **err)
{
	_cleanup_crt_ gnutls_x509_crt_t crt = NULL;
	_cleanup_key_ gnutls_x509_privkey_t key = NULL;
	g_autofree char *cn = g_strconcat("plimsoll pool ", pool_id, NULL);
	int r;

	if (is_there(folder, PKI_CA) || is_there(folder, PKI_CA_KEY))
		return fail(err, ERR_CONFLICT, "'%s' has a pool's authority already", folder);
	r = gnutls_x509_crt_init(&crt);
	if (r >= 0)
		r = gnutls_x509_privkey_init(&key);
	if (!good(r, ERR_INTERNAL, "can't begin a certificate", err) ||
	    !key_make(folder, PKI_CA_KEY, key, err) || !set_frame(crt, cn, now, now + PKI_CA_LIFE, err))
		return false;
	r = gnutls_x509_crt_set_key(crt, key);
	if (r >= 0)
		r = gnutls_x509_crt_set_basic_constraints(crt, 1, 0);
	if (r >= 0)
		r = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN);
	return good(r, ERR_INTERNAL, "can't make the pool's authority", err) &&
	       sign_and_save(folder, PKI_CA, crt, crt, key, NULL, err);
}

char *pki_request(const char *folder, const char *host_id, GError **err)
{
	_cleanup_key_ gnutls_x509_privkey_t key = NULL;
	_cleanup_crq_ gnutls_x509_crq_t crq = NULL;
	_cleanup_datum_ gnutls_datum_t pem = { 0 };
	int r = gnutls_x509_privkey_init(&key);

	if (r >= 0)
		r = gnutls_x509_crq_init(&crq);
	if (!good(r, ERR_INTERNAL, "can't begin a request", err) ||
	    !(is_there(folder, PKI_KEY) ? key_load(folder, PKI_KEY, key, err)
					: key_make(folder, PKI_KEY, key, err)))
		return NULL;
	r = gnutls_x509_crq_set_version(crq, 1);
	if (r >= 0)
		r = gnutls_x509_crq_set_dn_by_oid(crq, GNUTLS_OID_X520_COMMON_NAME, 0, host_id,
						  (unsigned)strlen(host_id));
	if (r >= 0)
		r = gnutls_x509_crq_set_key(crq, key);
	if (r >= 0)
		r = gnutls_x509_crq_sign2(crq, key, GNUTLS_DIG_SHA256, 0);
	if (r >= 0)
		r = gnutls_x509_crq_export2(crq, GNUTLS_X509_FMT_PEM, &pem);
	if (!good(r, ERR_INTERNAL, "can't make a request", err))
		return NULL;
	return g_strndup((const char *)pem.data, pem.size);
}

static int add_name(gnutls_x509_crt_t crt, const char *name)
{
	uint8_t ip[16];

	if (inet_pton(AF_INET, name, ip) == 1)
		return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, ip, 4,
							    GNUTLS_FSAN_APPEND);
	if (inet_pton(AF_INET6, name, ip) == 1)
		return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, ip, 16,
							    GNUTLS_FSAN_APPEND);
	return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
						    GNUTLS_FSAN_APPEND);
}

/*
 * Key encipherment means nothing for ECDSA, but QEMU before 9.2 refuses a
 * certificate whose critical usage lacks it (crypto/tlscredsx509.c).
 */
static bool set_host(gnutls_x509_crt_t crt, const struct pki_subject *s, GError **err)
{
	int r = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);

	if (r >= 0)
		r = gnutls_x509_crt_set_key_usage(crt,
						  GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_ENCIPHERMENT);
	if (r >= 0)
		r = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
	if (r >= 0)
		r = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0);
	if (r >= 0)
		r = add_name(crt, s->host_id);
	for (const char *const *n = s->names; r >= 0 && n != NULL && *n != NULL; n++)
		r = add_name(crt, *n);
	return good(r, ERR_INVALID, "can't write the names of a host into its certificate", err);
}

static bool request_parse(const char *text, gnutls_x509_crq_t crq, GError **err)
{
	gnutls_datum_t pem = datum_of(text);

	return good(gnutls_x509_crq_import(crq, &pem, GNUTLS_X509_FMT_PEM), ERR_INVALID,
		    "this is no request for a certificate", err) &&
	       good(gnutls_x509_crq_verify(crq, 0), ERR_INVALID,
		    "the request for a certificate is not signed with its own key", err);
}

static bool issuer_load(const char *folder, gnutls_x509_crt_t ca, gnutls_x509_privkey_t key, GError **err)
{
	return crt_load(folder, PKI_CA, ca, err) && key_load(folder, PKI_CA_KEY, key, err);
}

/* Only the key: gnutls_x509_crt_set_crq() would take the names as well, which are the requester's word. */
static bool take_key(gnutls_x509_crt_t crt, gnutls_x509_crq_t crq, GError **err)
{
	gnutls_pubkey_t key;
	int r = gnutls_pubkey_init(&key);

	if (!good(r, ERR_INTERNAL, "can't begin a key", err))
		return false;
	r = gnutls_pubkey_import_x509_crq(key, crq, 0);
	if (r >= 0)
		r = gnutls_x509_crt_set_pubkey(crt, key);
	gnutls_pubkey_deinit(key);
	return good(r, ERR_INVALID, "can't take the key of a request", err);
}

char *pki_sign(const char *folder, const char *request, const struct pki_subject *subject, GError **err)
{
	_cleanup_crt_ gnutls_x509_crt_t ca = NULL, crt = NULL;
	_cleanup_key_ gnutls_x509_privkey_t key = NULL;
	_cleanup_crq_ gnutls_x509_crq_t crq = NULL;
	char *text = NULL;
	int r = gnutls_x509_crt_init(&ca);

	if (r >= 0)
		r = gnutls_x509_crt_init(&crt);
	if (r >= 0)
		r = gnutls_x509_privkey_init(&key);
	if (r >= 0)
		r = gnutls_x509_crq_init(&crq);
	if (!good(r, ERR_INTERNAL, "can't begin a certificate", err) || !request_parse(request, crq, err) ||
	    !issuer_load(folder, ca, key, err) || !take_key(crt, crq, err) ||
	    !set_frame(crt, subject->host_id, subject->from, subject->until, err) ||
	    !set_host(crt, subject, err) || !sign_and_save(folder, NULL, crt, ca, key, &text, err))
		return NULL;
	return text;
}

bool pki_host_make(const char *folder, const struct pki_subject *subject, GError **err)
{
	g_autofree char *request = pki_request(folder, subject->host_id, err), *pem = NULL;

	pem = request != NULL ? pki_sign(folder, request, subject, err) : NULL;
	return pem != NULL && pki_file_write(folder, PKI_CERT, pem, err);
}

char *pki_only(const char *pem, GError **err)
{
	_cleanup_crt_ gnutls_x509_crt_t crt = NULL;
	_cleanup_datum_ gnutls_datum_t again = { 0 };

	if (!good(gnutls_x509_crt_init(&crt), ERR_INTERNAL, "can't begin a certificate", err) ||
	    !crt_parse(pem, crt, err) ||
	    !good(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &again), ERR_INTERNAL,
		  "can't print a certificate", err))
		return NULL;
	return g_strndup((const char *)again.data, again.size);
}

char *pki_fingerprint(const char *pem, GError **err)
{
	_cleanup_crt_ gnutls_x509_crt_t crt = NULL;
	_cleanup_datum_ gnutls_datum_t der = { 0 };

	if (!good(gnutls_x509_crt_init(&crt), ERR_INTERNAL, "can't begin a certificate", err) ||
	    !crt_parse(pem, crt, err) ||
	    !good(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der), ERR_INTERNAL,
		  "can't print a certificate", err))
		return NULL;
	return g_compute_checksum_for_data(G_CHECKSUM_SHA256, der.data, der.size);
}

/* ---- checks ---- */

static bool in_time(gnutls_x509_crt_t crt, uint64_t now, uint64_t *ret_until, GError **err)
{
	time_t from = gnutls_x509_crt_get_activation_time(crt);
	time_t until = gnutls_x509_crt_get_expiration_time(crt);
	g_autofree char *begin = time_print((uint64_t)from * SECOND),
			*end = time_print((uint64_t)until * SECOND);

	if (now / SECOND < (uint64_t)from)
		return fail_advice(err, ERR_DENIED, "Set this host's clock.",
				   "this host's certificate only holds from %s on", begin);
	if (now / SECOND > (uint64_t)until)
		return fail_advice(err, ERR_DENIED,
				   "Restart the daemon: it renews the certificate. Look at the clock if that "
				   "does not help.",
				   "this host's certificate expired at %s", end);
	if (ret_until != NULL)
		*ret_until = (uint64_t)until * SECOND;
	return true;
}

static bool signed_by(gnutls_x509_crt_t crt, gnutls_x509_crt_t ca, GError **err)
{
	unsigned why = 0;
	/* in_time() looks at the time, and says more about it. */
	const unsigned flags = GNUTLS_VERIFY_DISABLE_TIME_CHECKS;
	int r = gnutls_x509_crt_verify(crt, &ca, 1, flags, &why);

	if (r >= 0 && why == 0)
		return true;
	return fail_advice(err, ERR_DENIED, "Join the pool again with a new token.",
			   "this host's certificate was not signed by its pool's authority");
}

static bool of_key(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, GError **err)
{
	uint8_t a[64], b[64];
	size_t n = sizeof a, m = sizeof b;
	const unsigned how = GNUTLS_KEYID_USE_SHA256;

	if (gnutls_x509_crt_get_key_id(crt, how, a, &n) >= 0 &&
	    gnutls_x509_privkey_get_key_id(key, how, b, &m) >= 0 && n == m && memcmp(a, b, n) == 0)
		return true;
	return fail_advice(err, ERR_DENIED, "Join the pool again with a new token.",
			   "this host's certificate does not belong to its key");
}

static bool of_host(gnutls_x509_crt_t crt, const char *host_id, GError **err)
{
	char cn[128] = "";
	size_t len = sizeof cn;
	int r = gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, cn, &len);

	if (r >= 0 && g_str_equal(cn, host_id))
		return true;
	return fail_advice(err, ERR_DENIED, "Do not copy a host's folder to another; join the pool instead.",
			   "the certificate is that of host '%s', this is '%s'", r >= 0 ? cn : "", host_id);
}

bool pki_check(const char *folder, const char *host_id, uint64_t now, uint64_t *ret_until, GError **err)
{
	_cleanup_crt_ gnutls_x509_crt_t ca = NULL, crt = NULL;
	_cleanup_key_ gnutls_x509_privkey_t key = NULL;
	int r = gnutls_x509_crt_init(&ca);

	if (r >= 0)
		r = gnutls_x509_crt_init(&crt);
	if (r >= 0)
		r = gnutls_x509_privkey_init(&key);
	return good(r, ERR_INTERNAL, "can't begin a certificate", err) && crt_load(folder, PKI_CA, ca, err) &&
	       crt_load(folder, PKI_CERT, crt, err) && key_load(folder, PKI_KEY, key, err) &&
	       signed_by(crt, ca, err) && of_host(crt, host_id, err) && of_key(crt, key, err) &&
	       in_time(crt, now, ret_until, err);
}

/* PKCS #3. The GnuTLS error code; at 0 the caller frees with gnutls_free(). */
static int print_group(gnutls_datum_t *ret_pem)
{
	gnutls_dh_params_t group;
	int r = gnutls_dh_params_init(&group);

	if (r < 0)
		return r;
	r = gnutls_dh_params_import_raw(group, &gnutls_ffdhe_2048_group_prime,
					&gnutls_ffdhe_2048_group_generator);
	if (r >= 0)
		r = gnutls_dh_params_export2_pkcs3(group, GNUTLS_X509_FMT_PEM, ret_pem);
	gnutls_dh_params_deinit(group);
	return r;
}

char *pki_group(GError **err)
{
	_cleanup_datum_ gnutls_datum_t pem = { 0 };

	return good(print_group(&pem), ERR_INTERNAL, "can't print the group of Diffie-Hellman", err)
		   ? g_strndup((const char *)pem.data, pem.size)
		   : NULL;
}
