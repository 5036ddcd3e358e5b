/* SPDX-License-Identifier: Apache-2.0 */
/* The exchange itself, with libcurl. */
#include "base/str.h"
#include "engine/peer.h"
#include "engine/pki.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_MAX (64 << 20)
#define CONNECT_TIMEOUT 30000L /* ms, with the handshake, which an emulated host takes seconds for */
#define PORT_LEN 6
#define KEEPALIVE 15L /* s */

struct exchange {
	CURL *curl;
	const struct peer_target *target;
	struct curl_slist *headers, *connect_to;
	GByteArray *body;
	PeerAnswer *answer;
	bool too_long;
	char words[CURL_ERROR_SIZE];
};

PeerAnswer *peer_answer_free(PeerAnswer *a)
{
	if (a != NULL) {
		g_free(a->content_type);
		g_free(a->etag);
		g_free(a->location);
		if (a->body != NULL)
			g_bytes_unref(a->body);
		g_free(a);
	}
	return NULL;
}

static void once_global(void)
{
	static gsize done;

	if (g_once_init_enter(&done)) {
		curl_global_init(CURL_GLOBAL_DEFAULT);
		g_once_init_leave(&done, 1);
	}
}

static size_t take_body(char *buf, size_t size, size_t n, void *data)
{
	struct exchange *x = data;

	if (x->body->len + size * n > ANSWER_MAX) {
		x->too_long = true;
		return 0;
	}
	g_byte_array_append(x->body, (const guint8 *)buf, (guint)(size * n));
	return size * n;
}

static void take_value(const char *line, size_t len, const char *name, char **ret)
{
	size_t n = strlen(name);

	if (len > n && line[n] == ':' && g_ascii_strncasecmp(line, name, n) == 0) {
		g_free(*ret);
		*ret = g_strstrip(g_strndup(line + n + 1, len - n - 1));
	}
}

static size_t take_header(char *buf, size_t size, size_t n, void *data)
{
	struct exchange *x = data;
	g_autofree char *revision = NULL;

	take_value(buf, size * n, "Content-Type", &x->answer->content_type);
	take_value(buf, size * n, "ETag", &x->answer->etag);
	take_value(buf, size * n, "Location", &x->answer->location);
	take_value(buf, size * n, PEER_REVISION, &revision);
	if (revision != NULL)
		x->answer->revision = g_ascii_strtoll(revision, NULL, 10);
	return size * n;
}

/* libcurl sends what it is given: a line end in a value would begin another header. */
static bool add_header(struct exchange *x, const char *name, const char *value, GError **err)
{
	g_autofree char *line = value != NULL ? g_strdup_printf("%s: %s", name, value) : NULL;

	if (line == NULL)
		return true;
	if (!text_is_plain(value))
		return fail(err, ERR_INVALID,
			    "'%s' can't be passed on to another host: it holds control characters", name);
	x->headers = curl_slist_append(x->headers, line);
	return true;
}

static const char *name_of(const struct peer_target *t)
{
	return t->name != NULL ? t->name : t->url;
}

/*
 * The host's id is asked for as the name in TLS, and the address only says
 * where: so the certificate must be that host's, wherever it is.
 */
static bool set_address(struct exchange *x, const char *path, GError **err)
{
	const struct peer_target *t = x->target;
	const char *address = g_str_has_prefix(t->url, "https://") ? t->url + strlen("https://") : NULL;
	const char *port = address != NULL ? strrchr(address, ':') : NULL;
	g_autofree char *url = NULL, *map = NULL;

	if (port == NULL || port == address || strchr(address, '/') != NULL || strlen(port) > PORT_LEN)
		return fail_advice(err, ERR_INVALID, "Write it like https://192.0.2.1:7443.",
				   "'%s' is not the address of a host", t->url);
	if (t->host_id == NULL) {
		url = g_strconcat(t->url, path, NULL);
	} else {
		url = g_strconcat("https://", t->host_id, port, path, NULL);
		map = g_strconcat(t->host_id, port, ":", address, NULL);
		x->connect_to = curl_slist_append(NULL, map);
		curl_easy_setopt(x->curl, CURLOPT_CONNECT_TO, x->connect_to);
	}
	curl_easy_setopt(x->curl, CURLOPT_URL, url);
	return true;
}

static void set_given_trust(struct exchange *x)
{
	const struct peer_target *t = x->target;

	if (t->ca != NULL) {
		curl_easy_setopt(x->curl, CURLOPT_CAPATH, NULL);
		curl_easy_setopt(x->curl, CURLOPT_CAINFO, t->ca);
	}
	if (t->cert != NULL)
		curl_easy_setopt(x->curl, CURLOPT_SSLCERT, t->cert);
	if (t->key != NULL)
		curl_easy_setopt(x->curl, CURLOPT_SSLKEY, t->key);
}

static void set_pool_trust(struct exchange *x)
{
	const struct peer_target *t = x->target;
	g_autofree char *ca = g_build_filename(t->folder, PKI_CA, NULL);
	g_autofree char *cert = g_build_filename(t->folder, PKI_CERT, NULL);
	g_autofree char *key = g_build_filename(t->folder, PKI_KEY, NULL);

	/* Only the pool's authority, none of the system's. */
	curl_easy_setopt(x->curl, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(x->curl, CURLOPT_CAINFO, ca);
	if (!t->stranger) {
		curl_easy_setopt(x->curl, CURLOPT_SSLCERT, cert);
		curl_easy_setopt(x->curl, CURLOPT_SSLKEY, key);
	}
}

static void set_trust(struct exchange *x)
{
	curl_easy_setopt(x->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (x->target->unverified) {
		curl_easy_setopt(x->curl, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(x->curl, CURLOPT_SSL_VERIFYHOST, 0L);
	} else if (x->target->folder != NULL) {
		set_pool_trust(x);
	} else {
		set_given_trust(x);
	}
}

static void set_times(struct exchange *x, uint64_t timeout)
{
	curl_easy_setopt(x->curl, CURLOPT_TIMEOUT_MS, (long)MIN(timeout / 1000, LONG_MAX));
	curl_easy_setopt(x->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(timeout / 1000, CONNECT_TIMEOUT));
}

static int look_at_end(void *data, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
	const struct peer_request *r = data;

	(void)dltotal;
	(void)dlnow;
	(void)ultotal;
	(void)ulnow;
	return r->ended(r->data);
}

static void set_end(struct exchange *x, const struct peer_request *r)
{
	if (r->ended == NULL)
		return;
	curl_easy_setopt(x->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(x->curl, CURLOPT_XFERINFOFUNCTION, look_at_end);
	curl_easy_setopt(x->curl, CURLOPT_XFERINFODATA, r);
}

static bool set_request(struct exchange *x, const struct peer_request *r, GError **err)
{
	const char *type = r->content_type != NULL ? r->content_type : "application/json";
	g_autofree char *revision = r->revision > 0 ? g_strdup_printf("%" PRId64, r->revision) : NULL;

	if (g_str_equal(r->method, "HEAD"))
		curl_easy_setopt(x->curl, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(x->curl, CURLOPT_CUSTOMREQUEST, r->method);
	if (r->body != NULL) {
		curl_easy_setopt(x->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(r->body));
		curl_easy_setopt(x->curl, CURLOPT_POSTFIELDS, r->body);
	}
	if (!add_header(x, "Content-Type", r->body != NULL ? type : NULL, err) ||
	    !add_header(x, "If-Match", r->if_match, err) || !add_header(x, "Plimsoll-User", r->user, err) ||
	    !add_header(x, "Plimsoll-Role", r->role, err) || !add_header(x, PEER_REVISION, revision, err))
		return false;
	x->headers = curl_slist_append(x->headers, "Expect:"); /* no round trip for its sake */
	curl_easy_setopt(x->curl, CURLOPT_HTTPHEADER, x->headers);
	set_times(x, r->timeout);
	set_end(x, r);
	return true;
}

static void set_common(struct exchange *x)
{
	curl_easy_setopt(x->curl, CURLOPT_NOSIGNAL, 1L);
	/* Nobody else finds out that the host is gone. */
	curl_easy_setopt(x->curl, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(x->curl, CURLOPT_TCP_KEEPIDLE, KEEPALIVE);
	curl_easy_setopt(x->curl, CURLOPT_TCP_KEEPINTVL, KEEPALIVE);
	curl_easy_setopt(x->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(x->curl, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(x->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(x->curl, CURLOPT_ERRORBUFFER, x->words);
	curl_easy_setopt(x->curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(x->curl, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(x->curl, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(x->curl, CURLOPT_HEADERDATA, x);
}

/* A certificate that TLS 1.3's server refuses is only heard of when its answer is read. */
static bool is_refused(CURLcode c, const char *words)
{
	return c == CURLE_SSL_CERTPROBLEM || strstr(words, "alert") != NULL ||
	       (c == CURLE_SSL_CONNECT_ERROR && strstr(words, "ertificate") != NULL);
}

/* Of a host in no pool of ours: it goes by the files that were given. */
static bool fail_given(const char *url, CURLcode c, const char *why, GError **err)
{
	if (c == CURLE_PEER_FAILED_VERIFICATION || c == CURLE_SSL_CACERT_BADFILE)
		return fail_advice(err, ERR_DENIED,
				   "Name the file of the authority that signed its certificate (--tls-ca).",
				   "the certificate of %s can't be trusted: %s", url, why);
	/* Its GnuTLS has one code for all; these are the words for files. */
	if (c == CURLE_SSL_CERTPROBLEM || strstr(why, "error reading") != NULL)
		return fail_advice(err, ERR_INVALID,
				   "Give PEM files that belong together (--tls-cert, --tls-key).",
				   "the certificate for %s can't be used: %s", url, why);
	return fail_advice(err, ERR_DENIED,
			   "Give a certificate that its plimsolld knows (--tls-cert, --tls-key; there it is "
			   "--tls-client-ca). Or run `plim host cpu --export` there and give the file.",
			   "%s does not let us in: %s", url, why);
}

static bool fail_exchange(const struct exchange *x, CURLcode c, GError **err)
{
	const struct peer_target *t = x->target;
	const char *name = name_of(t), *why = x->words[0] != '\0' ? x->words : curl_easy_strerror(c);
	bool refused =
	    is_refused(c, why) || c == CURLE_PEER_FAILED_VERIFICATION || c == CURLE_SSL_CACERT_BADFILE;

	if (x->too_long)
		return fail(err, ERR_LIMIT, "%s: its answer is longer than %d bytes", name, ANSWER_MAX);
	if (c == CURLE_ABORTED_BY_CALLBACK)
		return fail_advice(
		    err, ERR_UNAVAILABLE,
		    "Try again in a few seconds; `plim operation list` shows what was begun.",
		    "the daemon is stopping and waits no longer for %s, which may go on with it", name);
	if (c == CURLE_OPERATION_TIMEDOUT)
		return fail_advice(err, ERR_TIMEOUT,
				   "Look at that host's load and at the network between the hosts.",
				   "%s: no answer in time from %s: %s", name, t->url, why);
	if (refused && t->folder == NULL)
		return fail_given(t->url, c, why, err);
	if (c == CURLE_PEER_FAILED_VERIFICATION)
		return fail_advice(err, ERR_DENIED,
				   "See who has that address now. A host that was made anew must join the "
				   "pool again; look at the clocks of both.",
				   "%s: who answers at %s is not that host of this pool: %s", name, t->url,
				   why);
	if (is_refused(c, why))
		return fail_advice(err, ERR_DENIED,
				   "`plim pool status` on that host says whom it knows; join the pool again "
				   "with a new token, if this host was taken out of it.",
				   "%s does not accept this host's certificate: %s", name, why);
	return fail_advice(err, ERR_UNAVAILABLE,
			   "See whether plimsolld runs there, and whether the network lets you through.",
			   "%s: nobody answers at %s: %s", name, t->url, why);
}

static PeerAnswer *perform(struct exchange *x, GError **err)
{
	CURLcode c = curl_easy_perform(x->curl);
	long status = 0;

	if (c != CURLE_OK) {
		fail_exchange(x, c, err);
		return NULL;
	}
	curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
	x->answer->status = (unsigned)status;
	x->answer->body = g_byte_array_free_to_bytes(g_steal_pointer(&x->body));
	return g_steal_pointer(&x->answer);
}

static CURL *handle_new(void)
{
	CURL *curl;

	once_global();
	curl = curl_easy_init();
	g_assert(curl != NULL); /* only for lack of memory */
	return curl;
}

/* With a handle that may have connections left from an exchange before. */
static PeerAnswer *exchange_on(CURL *curl, const struct peer_target *t, const struct peer_request *r,
			       GError **err)
{
	struct exchange x = { .target = t, .curl = curl };
	PeerAnswer *a;

	x.body = g_byte_array_new();
	x.answer = g_new0(PeerAnswer, 1);
	set_common(&x);
	set_trust(&x);
	a = set_request(&x, r, err) && set_address(&x, r->path, err) ? perform(&x, err) : NULL;
	curl_easy_reset(curl); /* it points into `x`; connections stay */
	curl_slist_free_all(x.headers);
	curl_slist_free_all(x.connect_to);
	if (x.body != NULL)
		g_byte_array_unref(x.body);
	peer_answer_free(x.answer);
	return a;
}

PeerAnswer *peer_exchange(const struct peer_target *t, const struct peer_request *r, GError **err)
{
	CURL *curl = handle_new();
	PeerAnswer *a = exchange_on(curl, t, r, err);

	curl_easy_cleanup(curl);
	return a;
}

/* Its own error, with its name in front. */
static void pass_error(const struct peer_target *t, const PeerAnswer *a, const Json *j, GError **err)
{
	g_autoptr(GError) theirs = NULL;

	if (json_str(j, "code") == NULL) {
		fail(err, ERR_UNAVAILABLE, "%s answers with HTTP status %u", name_of(t), a->status);
		return;
	}
	theirs = err_of_json(j);
	g_prefix_error(&theirs, "%s: ", name_of(t));
	g_propagate_error(err, g_steal_pointer(&theirs));
}

/* Takes `a`; NULL: *err is set. */
static Json *json_of_answer(const struct peer_target *t, PeerAnswer *take, GError **err)
{
	g_autoptr(PeerAnswer) a = take;
	_cleanup_json_ Json *j = NULL;
	g_autoptr(GError) e = NULL;
	gsize len;
	const char *text;

	if (a == NULL)
		return NULL;
	text = g_bytes_get_data(a->body, &len);
	j = len > 0 ? json_parse(text, len, &e) : json_object();
	if (a->status >= 400 || j == NULL) {
		if (a->status < 400)
			fail(err, ERR_UNAVAILABLE, "%s answers what is no JSON: %s", name_of(t), e->message);
		else
			pass_error(t, a, j, err);
		return NULL;
	}
	return g_steal_pointer(&j);
}

Json *peer_json(const struct peer_target *t, const struct peer_request *r, GError **err)
{
	return json_of_answer(t, peer_exchange(t, r, err), err);
}

/* ---- connections ---- */

static ssize_t curl_result(CURLcode c, size_t n)
{
	if (c == CURLE_AGAIN)
		return -EAGAIN;
	return c == CURLE_OK ? (ssize_t)n : -ECONNRESET;
}

static ssize_t connection_recv(void *data, void *buf, size_t len)
{
	size_t n = 0;
	CURLcode c = curl_easy_recv(data, buf, len, &n);

	return curl_result(c, n);
}

static ssize_t connection_send(void *data, const void *buf, size_t len)
{
	size_t n = 0;
	CURLcode c = curl_easy_send(data, buf, len, &n);

	return curl_result(c, n);
}

static void connection_close(void *data)
{
	curl_easy_cleanup(data);
}

bool peer_connect_to(const struct peer_target *t, uint64_t timeout, struct ws_connection *ret, GError **err)
{
	struct exchange x = { .target = t, .curl = handle_new() };
	curl_socket_t fd = CURL_SOCKET_BAD;
	CURLcode c;
	bool ok;

	set_common(&x);
	set_trust(&x);
	set_times(&x, timeout);
	curl_easy_setopt(x.curl, CURLOPT_CONNECT_ONLY, 1L);
	ok = set_address(&x, "/", err);
	c = ok ? curl_easy_perform(x.curl) : CURLE_OK;
	if (ok && c == CURLE_OK)
		c = curl_easy_getinfo(x.curl, CURLINFO_ACTIVESOCKET, &fd);
	if (c != CURLE_OK)
		ok = fail_exchange(&x, c, err);
	curl_easy_setopt(x.curl, CURLOPT_ERRORBUFFER, NULL);
	curl_easy_setopt(x.curl, CURLOPT_CONNECT_TO, NULL);
	curl_slist_free_all(x.connect_to);
	if (!ok) {
		curl_easy_cleanup(x.curl);
		return false;
	}
	*ret = (struct ws_connection){
		.fd = fd,
		.data = x.curl,
		.recv = connection_recv,
		.send = connection_send,
		.close = connection_close,
	};
	return true;
}

/* ---- links ---- */

struct PeerLink {
	CURL *curl;
	struct peer_target target;
	char *url, *host_id, *name, *folder;
	curl_socket_t fd;
};

PeerLink *peer_link_new(const struct peer_target *t)
{
	PeerLink *l = g_new0(PeerLink, 1);

	l->curl = handle_new();
	l->url = g_strdup(t->url);
	l->host_id = g_strdup(t->host_id);
	l->name = g_strdup(t->name);
	l->folder = g_strdup(t->folder);
	l->target = *t;
	l->target.url = l->url;
	l->target.host_id = l->host_id;
	l->target.name = l->name;
	l->target.folder = l->folder;
	l->fd = CURL_SOCKET_BAD;
	return l;
}

PeerLink *peer_link_free(PeerLink *l)
{
	if (l != NULL) {
		curl_easy_cleanup(l->curl);
		g_free(l->url);
		g_free(l->host_id);
		g_free(l->name);
		g_free(l->folder);
		g_free(l);
	}
	return NULL;
}

Json *peer_link_call(PeerLink *l, const char *method, const char *path, const Json *body, uint64_t timeout,
		     GError **err)
{
	g_autofree char *text = body != NULL ? json_print(body) : NULL;
	const struct peer_request r = { .method = method, .path = path, .body = text, .timeout = timeout };
	PeerAnswer *a = exchange_on(l->curl, &l->target, &r, err);

	if (curl_easy_getinfo(l->curl, CURLINFO_ACTIVESOCKET, &l->fd) != CURLE_OK)
		l->fd = CURL_SOCKET_BAD;
	return json_of_answer(&l->target, a, err);
}

bool peer_link_lives(const PeerLink *l)
{
	char byte;

	/* Between calls the other side has nothing to say: what can be read is its end. */
	return l->fd != CURL_SOCKET_BAD && recv(l->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
	       errno == EAGAIN;
}
