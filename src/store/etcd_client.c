/* SPDX-License-Identifier: Apache-2.0 */
#include "store/etcd_client.h"
#include "base/fd.h"
#include "base/time.h"

#include <pthread.h>
#include <string.h>

#define CONNECT_MS 3000L
/* The only one there is may be busy: a connection with TLS costs it some time. */
#define CONNECT_ALONE_MS 10000L
/* A member that is stopped or cut off takes connections and never answers: the next one is asked then. */
#define TRY_US UINT64_C(3000000)
#define GRACE_US UINT64_C(3000000)
#define PAUSE_US UINT64_C(50000)
#define IDLE_MAX 8
#define PASSWORD_MAX 1024

/* Of etcd's gateway, in plain text: else whoever has such a certificate would be that user. */
#define GATEWAY_NO_NAMES "CommonName of client"

#define GRPC_UNAVAILABLE 14
#define GRPC_UNAUTHENTICATED 16

struct EtcdClient {
	const EtcdConfig *config;
	pthread_mutex_t lock; /* for what follows */
	GQueue idle;          /* CURL */
	guint endpoint;
	char *token;
};

typedef enum Outcome {
	OUTCOME_DONE,
	OUTCOME_REFUSED, /* for good */
	OUTCOME_AGAIN,   /* and it was not carried out */
	OUTCOME_MAYBE,
	OUTCOME_LOGIN, /* and it was not carried out */
} Outcome;

/* One HTTP exchange. */
typedef struct Exchange {
	GString *body;
	bool too_long;
	char words[CURL_ERROR_SIZE];
} Exchange;

static void lock(EtcdClient *c)
{
	pthread_mutex_lock(&c->lock);
}

static void unlock(EtcdClient *c)
{
	pthread_mutex_unlock(&c->lock);
}

static void once_global(void)
{
	static gsize done;

	if (g_once_init_enter(&done)) {
		curl_global_init(CURL_GLOBAL_DEFAULT);
		g_once_init_leave(&done, 1);
	}
}

EtcdClient *etcd_client_new(const EtcdConfig *config, GError **err)
{
	EtcdClient *c;

	(void)err;
	once_global();
	c = g_new0(EtcdClient, 1);
	c->config = config;
	pthread_mutex_init(&c->lock, NULL);
	g_queue_init(&c->idle);
	return c;
}

static void drop_curl(gpointer p)
{
	curl_easy_cleanup(p);
}

EtcdClient *etcd_client_free(EtcdClient *c)
{
	if (c == NULL)
		return NULL;
	g_queue_clear_full(&c->idle, drop_curl);
	pthread_mutex_destroy(&c->lock);
	g_free(c->token);
	g_free(c);
	return NULL;
}

guint etcd_client_endpoint(EtcdClient *c)
{
	guint e;

	lock(c);
	e = c->endpoint;
	unlock(c);
	return e;
}

/* Away from endpoint `from`, unless another thread has left it already. */
static void leave_endpoint(EtcdClient *c, guint from)
{
	lock(c);
	if (c->endpoint == from)
		c->endpoint = (from + 1) % c->config->endpoint->len;
	unlock(c);
}

void etcd_client_forget_login(EtcdClient *c)
{
	lock(c);
	g_clear_pointer(&c->token, g_free);
	unlock(c);
}

/* ---- what etcd says when it refuses ---- */

static const char advice_quorum[] =
    "More than half of etcd's members must run and reach each other: `etcdctl endpoint status` shows them.";
static const char advice_reach[] = "Check that etcd runs there and that this host reaches it.";
static const char advice_tls[] =
    "Check that etcd runs there. If it wants a certificate (--client-cert-auth), name one that it accepts with "
    "'cert' and 'key'.";
static const char advice_login[] = "Check the user, the password file and the rights of that user in etcd.";

// clang-format off
static const struct {
	const char *words; /* a part of them */
	ErrCode code;
	bool again;
	const char *advice;
} refusals[] = {
	{ "revision has been compacted", ERR_GONE, false, "List again, and watch from the revision of that list." },
	{ "revision is a future revision", ERR_GONE, false, "List again, and watch from the revision of that list." },
	{ "lease not found", ERR_GONE, false, "Take a new lease." },
	{ "database space exceeded", ERR_NO_SPACE, false,
	  "Compact and defragment etcd (`etcdctl compact`, `etcdctl defrag`), then `etcdctl alarm disarm`." },
	{ "permission denied", ERR_DENIED, false, advice_login },
	{ "user name is empty", ERR_DENIED, false, "This etcd wants a login: give 'user' and 'password-file'." },
	{ "authentication failed", ERR_DENIED, false, advice_login },
	{ "request is too large", ERR_INVALID, false, "Raise --max-request-bytes of etcd to 1.5 MiB or more." },
	{ "too many operations", ERR_INVALID, false, "Raise --max-txn-ops of etcd to 128 or more." },
	{ "not supported for learner", ERR_UNAVAILABLE, true, "Name the endpoints of voting members." },
	{ "too many requests", ERR_BUSY, true, "Try again." },
	{ "unhealthy cluster", ERR_UNAVAILABLE, true, "Bring back the members that are away, or remove them, first." },
	{ "not enough started members", ERR_UNAVAILABLE, false, advice_quorum },
	{ "in sync with leader", ERR_BUSY, false, "Try again when the new member has caught up." },
	{ "only promote a learner", ERR_BAD_STATE, false, "Nothing is left to do: it has its vote." },
	{ "too many learner", ERR_BUSY, false, "Wait until the other new member has its vote, or remove it." },
	{ "Peer URLs already exists", ERR_CONFLICT, false, "Remove the member that has this address first." },
	{ "member not found", ERR_NOT_FOUND, false, "List the members of etcd." },
	{ "no leader", ERR_UNAVAILABLE, true, advice_quorum },
	{ "connection closed", ERR_UNAVAILABLE, true,
	  "If etcd wants certificates of its clients, its own must be for clients too (extendedKeyUsage)." },
	{ "leader changed", ERR_UNAVAILABLE, true, advice_quorum },
	{ "request timed out", ERR_UNAVAILABLE, true, advice_quorum },
	{ "corrupt", ERR_STORE, false, "A member's data is damaged: remove it from etcd and add it anew." },
};
// clang-format on

bool etcd_fail_refused(int grpc_code, const char *words, bool *ret_again, GError **err)
{
	*ret_again = grpc_code == GRPC_UNAVAILABLE;
	for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
		if (strstr(words, refusals[i].words) == NULL)
			continue;
		*ret_again = refusals[i].again;
		return fail_advice(err, refusals[i].code, refusals[i].advice, "etcd refuses: %s", words);
	}
	if (*ret_again)
		return fail_advice(err, ERR_UNAVAILABLE, advice_quorum, "etcd can't do it now: %s", words);
	return fail(err, ERR_STORE, "etcd refuses: %s", words);
}

/* ---- one exchange ---- */

static size_t on_data(char *data, size_t size, size_t n, void *user)
{
	Exchange *x = user;

	if (x->body->len + size * n > JSON_TEXT_MAX) {
		x->too_long = true;
		return 0;
	}
	g_string_append_len(x->body, data, (gssize)(size * n));
	return size * n;
}

static CURL *take_handle(EtcdClient *c)
{
	CURL *h;

	lock(c);
	h = g_queue_pop_tail(&c->idle);
	unlock(c);
	return h != NULL ? h : curl_easy_init();
}

static void give_handle(EtcdClient *c, CURL *h)
{
	curl_easy_reset(h); /* keeps its connections */
	lock(c);
	if (c->idle.length < IDLE_MAX) {
		g_queue_push_tail(&c->idle, h);
		h = NULL;
	}
	unlock(c);
	if (h != NULL)
		curl_easy_cleanup(h);
}

static void set_tls(const EtcdConfig *f, CURL *h)
{
	if (f->ca != NULL)
		curl_easy_setopt(h, CURLOPT_CAINFO, f->ca);
	if (f->cert != NULL) {
		curl_easy_setopt(h, CURLOPT_SSLCERT, f->cert);
		curl_easy_setopt(h, CURLOPT_SSLKEY, f->key);
	}
}

static void set_common(const EtcdConfig *f, CURL *h, guint endpoint, const char *path)
{
	g_autofree char *url =
	    g_strconcat(f->endpoint->pdata[endpoint % f->endpoint->len], "/v3/", path, NULL);

	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, f->endpoint->len > 1 ? CONNECT_MS : CONNECT_ALONE_MS);
	curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(h, CURLOPT_TCP_KEEPIDLE, 5L);
	curl_easy_setopt(h, CURLOPT_TCP_KEEPINTVL, 2L);
	set_tls(f, h);
}

/* "Expect" would delay every large request by a second: the gateway does not answer it. */
static struct curl_slist *headers_new(const char *token)
{
	struct curl_slist *l = curl_slist_append(NULL, "Content-Type: application/json");

	l = curl_slist_append(l, "Expect:");
	if (token != NULL) {
		g_autofree char *line = g_strconcat("Authorization: ", token, NULL);

		l = curl_slist_append(l, line);
	}
	return l;
}

/* Whether nothing of the request can have arrived. */
static bool never_sent(CURL *h, CURLcode r)
{
	curl_off_t pretransfer = 0;

	if (r == CURLE_COULDNT_CONNECT || r == CURLE_COULDNT_RESOLVE_HOST ||
	    r == CURLE_PEER_FAILED_VERIFICATION || r == CURLE_SSL_CONNECT_ERROR)
		return true;
	/* The time until the request could begin is known only when it could. */
	return curl_easy_getinfo(h, CURLINFO_PRETRANSFER_TIME_T, &pretransfer) == CURLE_OK &&
	       pretransfer == 0;
}

/*
 * It took the connection and no more. With TLS 1.3 a server says what it thinks of our certificate when we
 * believe to be connected already, and is gone then: what is seen of that is any kind of broken connection.
 */
static bool is_refusal_of_tls(const char *endpoint, CURLcode r)
{
	return g_str_has_prefix(endpoint, "https:") && r != CURLE_COULDNT_CONNECT &&
	       r != CURLE_COULDNT_RESOLVE_HOST;
}

static Outcome fail_transfer(const char *endpoint, CURL *h, CURLcode r, const Exchange *x, GError **err)
{
	const char *words = x->words[0] != '\0' ? x->words : curl_easy_strerror(r);
	bool unsent = never_sent(h, r);

	if (x->too_long) {
		fail(err, ERR_LIMIT, "the answer of etcd is longer than %" G_GUINT64_FORMAT " bytes",
		     JSON_TEXT_MAX);
		return OUTCOME_REFUSED;
	}
	/* With GnuTLS a file that can't be used is only known by these words. */
	if (r == CURLE_SSL_CERTPROBLEM || r == CURLE_SSL_CACERT_BADFILE ||
	    strstr(words, "error reading") != NULL) {
		fail_advice(err, ERR_INVALID, "Check the files that 'ca', 'cert' and 'key' name.",
			    "can't use the certificates for etcd: %s", words);
		return OUTCOME_REFUSED;
	}
	if (r == CURLE_PEER_FAILED_VERIFICATION)
		fail_advice(err, ERR_UNAVAILABLE, "Check 'ca' and the names in etcd's certificate.",
			    "%s is not the etcd that was meant: %s", endpoint, words);
	else if (r == CURLE_OPERATION_TIMEDOUT && !unsent)
		fail_advice(err, ERR_TIMEOUT, advice_quorum, "etcd at %s does not answer", endpoint);
	else
		fail_advice(err, ERR_UNAVAILABLE, is_refusal_of_tls(endpoint, r) ? advice_tls : advice_reach,
			    "can't reach etcd at %s: %s", endpoint, words);
	return unsent ? OUTCOME_AGAIN : OUTCOME_MAYBE;
}

/*
 * An answer that is no 200: {"error": ..., "code": ...}, or text of something else; or a 200 of what is a
 * stream for gRPC: {"error": {"message": ..., "grpc_code": ...}}. `j` is what it is as JSON, or NULL.
 */
static Outcome fail_status(const char *endpoint, long status, const char *text, const Json *j, GError **err)
{
	const Json *inner = json_obj(j, "error");
	const char *words = inner != NULL ? json_str(inner, "message") : json_str(j, "error");
	int code = (int)(inner != NULL ? json_int(inner, "grpc_code", -1) : json_int(j, "code", -1));
	bool again;

	if (words == NULL && status == 404) {
		fail_advice(err, ERR_UNSUPPORTED, "Use etcd 3.4 or newer.",
			    "%s has no v3 API: it is no etcd, or one that is too old", endpoint);
		return OUTCOME_REFUSED;
	}
	if (words == NULL && strstr(text, GATEWAY_NO_NAMES) != NULL) {
		fail_advice(
		    err, ERR_DENIED,
		    "Where etcd has users, give 'user' and 'password-file', and a certificate without a "
		    "common name (an empty subject).",
		    "etcd at %s takes no certificate with a common name while its users must log in",
		    endpoint);
		return OUTCOME_REFUSED;
	}
	if (words == NULL) {
		fail(err, ERR_STORE, "%s answers with HTTP status %ld: it is no etcd, or it is broken",
		     endpoint, status);
		return OUTCOME_MAYBE;
	}
	if (code == GRPC_UNAUTHENTICATED || strstr(words, "revision of auth store is old") != NULL) {
		fail_advice(err, ERR_DENIED, advice_login, "etcd refuses the login: %s", words);
		return OUTCOME_LOGIN;
	}
	etcd_fail_refused(code, words, &again, err);
	/* What a learner or a full queue refuses was not begun; of the rest one can't know. */
	if (strstr(words, "learner") != NULL || strstr(words, "too many requests") != NULL)
		return OUTCOME_AGAIN;
	return again ? OUTCOME_MAYBE : OUTCOME_REFUSED;
}

static Outcome read_answer(const char *endpoint, CURL *h, const GString *body, Json **ret, GError **err)
{
	_cleanup_json_ Json *j = json_parse(body->str, body->len, NULL);
	long status = 0;

	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200 || json_object_get(j, "error") != NULL)
		return fail_status(endpoint, status, body->str, j, err);
	if (!json_is_object(j)) {
		fail(err, ERR_STORE, "%s answers with what is no JSON of etcd", endpoint);
		return OUTCOME_MAYBE;
	}
	*ret = g_steal_pointer(&j);
	return OUTCOME_DONE;
}

static Outcome exchange(EtcdClient *c, guint endpoint, const EtcdCall *call, const char *token,
			uint64_t timeout, Json **ret, GError **err)
{
	const char *name = c->config->endpoint->pdata[endpoint];
	Exchange x = { .body = g_string_new(NULL) };
	struct curl_slist *headers = headers_new(token);
	CURL *h = take_handle(c);
	Outcome o;
	CURLcode r;

	set_common(c->config, h, endpoint, call->path);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h, CURLOPT_POSTFIELDS, call->body);
	curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(call->body));
	curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)(timeout / 1000) + 1);
	curl_easy_setopt(h, CURLOPT_FRESH_CONNECT, call->fresh ? 1L : 0L);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, x.words);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, &x);
	r = curl_easy_perform(h);
	o = r == CURLE_OK ? read_answer(name, h, x.body, ret, err) : fail_transfer(name, h, r, &x, err);
	give_handle(c, h);
	curl_slist_free_all(headers);
	g_string_free(x.body, TRUE);
	return o;
}

/* ---- logging in ---- */

static char *read_password(const EtcdConfig *f, GError **err)
{
	char *text = file_read(f->password_file, PASSWORD_MAX, NULL, err);

	if (text == NULL)
		return NULL;
	text[strcspn(text, "\r\n")] = '\0';
	if (text[0] != '\0' && g_utf8_validate(text, -1, NULL))
		return text;
	fail(err, ERR_INVALID, "'%s' holds no password", f->password_file);
	g_free(text);
	return NULL;
}

/* Leaves `ret_token` NULL where etcd wants no login. */
static Outcome log_in(EtcdClient *c, guint endpoint, uint64_t timeout, char **ret_token, GError **err)
{
	g_autofree char *password = read_password(c->config, err), *body = NULL;
	_cleanup_json_ Json *ask = json_object(), *answer = NULL;
	g_autoptr(GError) e = NULL;
	Outcome o;

	if (password == NULL)
		return OUTCOME_REFUSED;
	json_put_str(ask, "name", c->config->user);
	json_put_str(ask, "password", password);
	body = json_print(ask);
	o = exchange(c, endpoint, &(EtcdCall){ .path = "auth/authenticate", .body = body }, NULL, timeout,
		     &answer, &e);
	if (e != NULL && strstr(e->message, "authentication is not enabled") != NULL)
		return OUTCOME_DONE;
	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	if (o == OUTCOME_DONE)
		*ret_token = g_strdup(json_str(answer, "token"));
	return o == OUTCOME_MAYBE ? OUTCOME_AGAIN : o;
}

static Outcome token_get(EtcdClient *c, guint endpoint, uint64_t timeout, char **ret_token, GError **err)
{
	Outcome o;

	if (c->config->user == NULL)
		return OUTCOME_DONE;
	lock(c);
	*ret_token = g_strdup(c->token);
	unlock(c);
	if (*ret_token != NULL)
		return OUTCOME_DONE;
	o = log_in(c, endpoint, timeout, ret_token, err);
	if (o != OUTCOME_DONE)
		return o;
	lock(c);
	g_free(c->token);
	c->token = g_strdup(*ret_token);
	unlock(c);
	return OUTCOME_DONE;
}

/* ---- a call: exchanges until one counts ---- */

static Outcome try_call(EtcdClient *c, guint endpoint, const EtcdCall *call, uint64_t timeout, Json **ret,
			GError **err)
{
	g_autofree char *token = NULL;
	Outcome o = token_get(c, endpoint, timeout, &token, err);

	return o == OUTCOME_DONE ? exchange(c, endpoint, call, token, timeout, ret, err) : o;
}

struct attempt {
	uint64_t began, deadline, timeout; /* of the try under way */
	guint tries;
	bool answered, logged_in; /* any endpoint took a connection; a login was renewed */
};

static uint64_t try_timeout(const EtcdClient *c, const struct attempt *a, uint64_t now)
{
	uint64_t left = a->deadline > now ? a->deadline - now : 1000;

	return c->config->endpoint->len > 1 ? MIN(left, TRY_US) : left;
}

/* A try in less time would end with it, whatever there is to tell. */
static bool has_time(const struct attempt *a)
{
	return time_monotonic() + PAUSE_US < a->deadline;
}

/*
 * The last try gets what is left of the time. When that is over before it knows more, it only seems that
 * nobody answers: what the try before it was told says more (that etcd wants another certificate, for one).
 */
static bool is_cut_short(const struct attempt *a, const EtcdCall *call, Outcome o)
{
	return (o == OUTCOME_AGAIN || o == OUTCOME_MAYBE) &&
	       a->timeout < MIN(a->deadline - a->began, TRY_US) &&
	       time_monotonic() >= call->sent + a->timeout;
}

/* Whether to go on after outcome `o`. */
static bool goes_on(EtcdClient *c, struct attempt *a, const EtcdCall *call, guint endpoint, Outcome o)
{
	if (o == OUTCOME_LOGIN) {
		bool first = !a->logged_in && c->config->user != NULL;

		a->logged_in = true;
		etcd_client_forget_login(c);
		return first;
	}
	if (o == OUTCOME_REFUSED || o == OUTCOME_DONE)
		return false;
	leave_endpoint(c, endpoint);
	if (o == OUTCOME_MAYBE)
		a->answered = true;
	if (o == OUTCOME_MAYBE && call->once)
		return false;
	a->tries++;
	if (!has_time(a))
		return false;
	/* Each endpoint gets its turn, however long a dead one takes. */
	if (a->tries % c->config->endpoint->len != 0)
		return true;
	if (!a->answered && time_monotonic() - a->began >= GRACE_US)
		return false;
	g_usleep(PAUSE_US);
	return has_time(a);
}

Json *etcd_client_call(EtcdClient *c, EtcdCall *call, GError **err)
{
	uint64_t now = time_monotonic();
	struct attempt a = { .began = now,
			     .deadline = now + (call->timeout != 0 ? call->timeout : c->config->timeout) };
	g_autoptr(GError) told = NULL;

	for (;;) {
		guint endpoint = etcd_client_endpoint(c);
		g_autoptr(GError) e = NULL;
		Json *answer = NULL;
		Outcome o;

		call->sent = time_monotonic();
		a.timeout = try_timeout(c, &a, call->sent);
		o = try_call(c, endpoint, call, a.timeout, &answer, &e);
		if (told == NULL || !is_cut_short(&a, call, o)) {
			g_clear_error(&told);
			told = g_steal_pointer(&e);
		}
		if (goes_on(c, &a, call, endpoint, o)) {
			if (o == OUTCOME_LOGIN) /* which was renewed: nothing to be told */
				g_clear_error(&told);
			continue;
		}
		call->maybe = o == OUTCOME_MAYBE;
		if (told != NULL)
			g_propagate_error(err, g_steal_pointer(&told));
		return answer;
	}
}

bool etcd_client_prepare(EtcdClient *c, CURL *curl, guint endpoint, const char *path,
			 struct curl_slist **ret_headers, GError **err)
{
	g_autofree char *token = NULL;

	if (token_get(c, endpoint, TRY_US, &token, err) != OUTCOME_DONE)
		return false;
	set_common(c->config, curl, endpoint, path);
	*ret_headers = headers_new(token);
	return true;
}
