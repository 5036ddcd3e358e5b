/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Download with resume. One try is one request for what is still missing:
 *
 *   Range: bytes=N-        what we lack
 *   If-Range: VALIDATOR    only if it is still the same thing
 *
 * 206 with the same beginning goes on, 200 begins anew, 416 at the full length
 * means that nothing is missing. A validator is a strong ETag, else the date
 * of Last-Modified (RFC 9110, 13.1.5 and 14.2).
 */
#include "engine/image/fetch.h"

#include <curl/curl.h>
#include <string.h>

#define REDIRECTS_MAX 5L
#define CONNECT_SECONDS 30L
#define STALL_SECONDS 60L
#define TRIES_MAX 5 /* without a single byte in between */
#define TRIES_IN_ALL 200

struct
try {
	struct fetch_http *f;
	Sink *sink;
	CURL *curl;
	/* of the response */
	bool begun;
	char *etag, *last_modified;
	int64_t range_start, range_total; /* of Content-Range; -1 when there is none */
	GError *error;                    /* why a callback stopped it */
	char curl_words[CURL_ERROR_SIZE];
};

static void once_global(void)
{
	static gsize done;

	if (g_once_init_enter(&done)) {
		curl_global_init(CURL_GLOBAL_DEFAULT);
		g_once_init_leave(&done, 1);
	}
}

static void response_clear(struct try *t)
{
	t->begun = false;
	g_clear_pointer(&t->etag, g_free);
	g_clear_pointer(&t->last_modified, g_free);
	t->range_start = t->range_total = -1;
}

static bool header_is(const char *line, const char *name, char **ret_value)
{
	size_t n = strlen(name);

	if (g_ascii_strncasecmp(line, name, n) != 0 || line[n] != ':')
		return false;
	*ret_value = g_strstrip(g_strdup(line + n + 1));
	return true;
}

/* "bytes 100-999/1000", "bytes STAR/1000" */
static void parse_range(struct try *t, const char *text)
{
	const char *slash = strchr(text, '/');
	char *end;

	if (g_ascii_strncasecmp(text, "bytes ", 6) != 0 || slash == NULL)
		return;
	if (g_ascii_isdigit(slash[1]))
		t->range_total = g_ascii_strtoll(slash + 1, NULL, 10);
	if (g_ascii_isdigit(text[6])) {
		t->range_start = g_ascii_strtoll(text + 6, &end, 10);
		if (*end != '-')
			t->range_start = -1;
	}
}

static size_t on_header(char *buf, size_t size, size_t n, void *data)
{
	struct try *t = data;
	g_autofree char *line = g_strndup(buf, size * n), *range = NULL;
	char *value;

	if (g_ascii_strncasecmp(line, "HTTP/", 5) == 0) /* also that of a redirect's target */
		response_clear(t);
	else if (header_is(line, "ETag", &value))
		g_free(t->etag), t->etag = value;
	else if (header_is(line, "Last-Modified", &value))
		g_free(t->last_modified), t->last_modified = value;
	else if (header_is(line, "Content-Range", &range))
		parse_range(t, range);
	return size * n;
}

/* NULL when there is none that can be trusted. Borrowed. */
static const char *validator(const Json *known)
{
	const char *etag = json_str(known, "etag");

	if (etag != NULL && etag[0] == '"')
		return etag;
	return json_str(known, "last_modified");
}

static long status_of(struct try *t)
{
	long status = 0;

	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static bool remember(struct try *t, GError **err)
{
	struct fetch_http *f = t->f;

	json_put_str(f->known, "etag", t->etag);
	json_put_str(f->known, "last_modified", t->last_modified);
	return f->save(f->known, f->data, err);
}

/* The first bytes of a response: do they go on, or begin anew? */
static bool begin(struct try *t, GError **err)
{
	curl_off_t length = -1;
	uint64_t total = 0;

	t->begun = true;
	if (status_of(t) != 200 && status_of(t) != 206)
		return fail_advice(err, ERR_UNAVAILABLE, "Check the address.",
				   "the server answered %ld instead of sending the image", status_of(t));
	if (status_of(t) == 206 && t->range_start != (int64_t)sink_size(t->sink))
		return fail_advice(err, ERR_UNAVAILABLE,
				   "Fetch it with another program, then import the file.",
				   "the server sent another part than was asked for");
	if (status_of(t) != 206 && (!sink_restart(t->sink, err) || !remember(t, err)))
		return false;
	curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	if (length >= 0)
		total = sink_size(t->sink) + (uint64_t)length;
	return sink_expect(t->sink, total, length >= 0 ? (uint64_t)length : 0, err);
}

static size_t on_body(char *buf, size_t size, size_t n, void *data)
{
	struct try *t = data;

	if (!t->begun && !begin(t, &t->error))
		return 0;
	return sink_write(t->sink, buf, size * n, &t->error) ? size * n : 0;
}

static int on_tick(void *data, curl_off_t dl_total, curl_off_t dl_now, curl_off_t ul_total, curl_off_t ul_now)
{
	struct try *t = data;

	(void)dl_total, (void)dl_now, (void)ul_total, (void)ul_now;
	return t->error != NULL || !hooks_continue(t->f->hooks, &t->error);
}

static void set_options(struct try *t)
{
	CURL *c = t->curl;

	curl_easy_setopt(c, CURLOPT_URL, t->f->url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
	curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "plimsoll");
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->curl_words);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_tick);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
}

/* What we have already is asked for again unless we can be sure that it is of the same thing. */
static bool set_range(struct try *t, struct curl_slist **headers, GError **err)
{
	const char *v = validator(t->f->known);
	g_autofree char *range = NULL;

	if (sink_size(t->sink) == 0)
		return true;
	if (v == NULL && !t->f->trust_resume)
		return sink_restart(t->sink, err);
	range = g_strdup_printf("%" G_GUINT64_FORMAT "-", sink_size(t->sink));
	curl_easy_setopt(t->curl, CURLOPT_RANGE, range);
	if (v != NULL) {
		g_autofree char *line = g_strconcat("If-Range: ", v, NULL);

		*headers = curl_slist_append(NULL, line);
		curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, *headers);
	}
	return true;
}

static ErrCode code_of_status(long status)
{
	return status == 404 || status == 410   ? ERR_NOT_FOUND
	       : status == 401 || status == 403 ? ERR_DENIED
						: ERR_UNAVAILABLE;
}

static bool worth_another_try(CURLcode c, long status)
{
	switch ((int)c) {
	case CURLE_HTTP_RETURNED_ERROR:
		return status >= 500 || status == 408 || status == 429;
	case CURLE_COULDNT_CONNECT:
	case CURLE_PARTIAL_FILE:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		return true;
	default:
		return false;
	}
}

static bool fail_transfer(struct try *t, CURLcode c, GError **err)
{
	g_autofree char *shown = fetch_shown(t->f->url);
	long status = status_of(t);

	if (t->error != NULL) {
		g_propagate_error(err, g_steal_pointer(&t->error));
		return false;
	}
	if (c == CURLE_HTTP_RETURNED_ERROR)
		return fail_advice(err, code_of_status(status),
				   "Check the address, and that it may be read without logging in.",
				   "'%s' can't be fetched: the server answered %ld", shown, status);
	return fail_advice(err, ERR_UNAVAILABLE, "Check the address and the host's network, then try again.",
			   "'%s' can't be fetched: %s", shown,
			   t->curl_words[0] != '\0' ? t->curl_words : curl_easy_strerror(c));
}

/* Nothing was missing, or what we have is of something else. */
static bool at_full_length(struct try *t, bool *ret_again, GError **err)
{
	if (t->range_total == (int64_t)sink_size(t->sink))
		return true;
	*ret_again = sink_restart(t->sink, err);
	return *ret_again && fail_advice(err, ERR_UNAVAILABLE, "Import it when nobody changes it.",
					 "the image changed while it was fetched");
}

static bool perform(struct try *t, bool *ret_again, GError **err)
{
	CURLcode c = curl_easy_perform(t->curl);

	if (c == CURLE_OK)
		return t->begun || begin(t, err);
	if (c == CURLE_HTTP_RETURNED_ERROR && status_of(t) == 416)
		return at_full_length(t, ret_again, err);
	*ret_again = t->error == NULL && worth_another_try(c, status_of(t));
	return fail_transfer(t, c, err);
}

/* `ret_again`: when it fails, another try may help. */
static bool try_once(struct fetch_http *f, Sink *s, bool *ret_again, GError **err)
{
	struct try t = { .f = f, .sink = s, .curl = curl_easy_init() };
	struct curl_slist *headers = NULL;
	bool ok = false;

	response_clear(&t);
	*ret_again = false;
	set_options(&t);
	if (set_range(&t, &headers, err))
		ok = perform(&t, ret_again, err);
	response_clear(&t);
	curl_slist_free_all(headers);
	curl_easy_cleanup(t.curl);
	return ok;
}

static bool wait_for(uint64_t us, const struct hooks *hooks, GError **err)
{
	for (uint64_t waited = 0; waited < us; waited += 50000) {
		if (!hooks_continue(hooks, err))
			return false;
		g_usleep((gulong)MIN(us - waited, 50000));
	}
	return true;
}

bool fetch_http(struct fetch_http *f, Sink *s, GError **err)
{
	int idle = 0;

	once_global();
	for (int tries = 0;; tries++) {
		g_autoptr(GError) e = NULL;
		uint64_t before = sink_size(s);
		bool again;

		if (try_once(f, s, &again, &e))
			return true;
		idle = sink_size(s) > before ? 0 : idle + 1;
		if (!again || idle >= TRIES_MAX || tries >= TRIES_IN_ALL) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
		if (!wait_for(f->retry_delay << idle, f->hooks, err))
			return false;
	}
}
