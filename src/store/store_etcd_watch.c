/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches of the store in etcd. A watch is one long request whose answer never
 * ends: a JSON object a line. One thread a store runs all of them, takes the
 * lines apart and leaves the changes in the watch's queue; the watch's descriptor
 * is an eventfd that it rings. So nobody else ever waits for etcd here.
 *
 * A stream that ends is opened again, at the next endpoint, behind the revision
 * up to which all has arrived. Where there is something to catch up with, that
 * revision itself is asked for too, and dropped: if the first change behind it was
 * a deletion and the history was cut right there, etcd would neither send it nor
 * say that it is forgotten, but this way it must say so.
 *
 * A member that was stopped, or cut off from the others, keeps its streams open
 * and silent. Therefore each stream asks for a leader ("hasleader": the member
 * ends it when it has none), and a read is sent to the same endpoint every
 * PING_US; if that fails, all streams move on.
 *
 * While its owner does not fetch what came, a stream is paused at QUEUE_BYTES.
 *
 *   thread only: what the comment says; under the watcher's lock: the rest
 */
#include "base/fd.h"
#include "base/time.h"
#include "store/store-etcd.h"
#include "store/store-local.h"

#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>

#define PING_US UINT64_C(2000000)
#define PING_TIMEOUT_MS 3000L
#define BACKOFF_MIN UINT64_C(20000)
#define BACKOFF_MAX UINT64_C(1000000)
#define QUEUE_BYTES ((size_t)8 << 20)
#define POLL_MS 1000

typedef struct EtcdWatch {
	StoreWatch base;
	EtcdWatcher *owner;
	char *prefix;
	int fd;

	GQueue queue; /* StoreItem */
	size_t bytes; /* of it */
	int64_t complete, told;
	bool closed; /* by its owner: to be freed */
	bool opened; /* etcd has confirmed a stream */
	bool paused;
	GError *error; /* it has ended with that */

	/* thread only */
	CURL *curl; /* NULL: not running */
	struct curl_slist *headers;
	char *body;
	GString *line;
	bool ended;    /* by a line; to be opened again */
	bool careful;  /* ask for revision `start` too */
	bool reopen;   /* ended to be opened so */
	guint at;      /* endpoint */
	int64_t start; /* all up to here has arrived */
	uint64_t retry_at, backoff;
} EtcdWatch;

typedef struct Ping {
	CURL *curl; /* NULL: none under way */
	struct curl_slist *headers;
	char *body;
	GString *answer;
	guint at;
	int64_t seen_before;
	uint64_t next;
} Ping;

struct EtcdWatcher {
	EtcdStore *s;
	CURLM *multi;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a watch was confirmed, or has ended */
	bool quit;
	GPtrArray *watch; /* EtcdWatch; freed by the thread */

	/* thread only */
	guint endpoint;
	Ping ping;
};

static void lock(EtcdWatcher *r)
{
	pthread_mutex_lock(&r->lock);
}

static void unlock(EtcdWatcher *r)
{
	pthread_mutex_unlock(&r->lock);
}

static void ring(const EtcdWatch *w)
{
	eventfd_write(w->fd, 1);
}

/* ---- what arrives ---- */

/* Ends the watch for good; takes the error. */
static void watch_fail(EtcdWatch *w, GError *take_error)
{
	lock(w->owner);
	if (w->error == NULL)
		w->error = g_steal_pointer(&take_error);
	pthread_cond_broadcast(&w->owner->changed);
	unlock(w->owner);
	g_clear_error(&take_error);
	ring(w);
}

static void fail_gone(EtcdWatch *w, int64_t compacted)
{
	GError *e = NULL;

	fail_advice(&e, ERR_GONE, "List again, and watch from the revision of that list.",
		    "the changes after revision %" PRId64 " are forgotten; the history begins at %" PRId64,
		    w->start, compacted);
	watch_fail(w, e);
}

/* The server ended it: for a reason that passes, or for good. */
static void on_refusal(EtcdWatch *w, const struct wire_event *ev)
{
	GError *e = NULL;
	bool again;

	w->ended = true;
	etcd_fail_refused(ev->grpc_code, ev->words, &again, &e);
	if (strstr(ev->words, "auth token") != NULL) {
		etcd_client_forget_login(w->owner->s->client);
		again = true;
	}
	if (again)
		g_clear_error(&e);
	else
		watch_fail(w, e);
}

static void take_items(EtcdWatch *w, struct wire_event *ev)
{
	int64_t complete = ev->fragment ? ev->last - 1 : ev->last;

	if (ev->progress)
		complete = ev->header.rev;
	lock(w->owner);
	while (ev->items->len > 0) {
		StoreItem *i = g_ptr_array_steal_index(ev->items, 0);

		if (i->rev <= w->start) {
			store_item_free(i);
			continue;
		}
		w->bytes += local_item_size(i->key, i->value);
		g_queue_push_tail(&w->queue, i);
	}
	w->complete = MAX(w->complete, complete);
	unlock(w->owner);
	if (complete > 0)
		ring(w);
}

static void on_created(EtcdWatch *w, int64_t now)
{
	w->backoff = BACKOFF_MIN;
	if (!w->careful && now > w->start) {
		w->careful = w->reopen = w->ended = true;
		return;
	}
	lock(w->owner);
	w->opened = true;
	pthread_cond_broadcast(&w->owner->changed);
	unlock(w->owner);
}

static void on_line(EtcdWatch *w, const char *line, size_t len)
{
	struct wire_event ev;
	GError *e = NULL;

	if (!wire_event_read(line, len, w->owner->s->config->root, &ev, &e)) {
		w->ended = true;
		watch_fail(w, e);
		return;
	}
	if (ev.words != NULL) {
		on_refusal(w, &ev);
	} else if (!etcd_header_fits(w->owner->s, &ev.header, 0, NULL)) {
		w->ended = true; /* the thread tells all watches */
	} else if (ev.compacted != 0) {
		w->ended = true;
		fail_gone(w, ev.compacted);
	} else if (ev.created) {
		on_created(w, ev.header.rev);
	} else {
		take_items(w, &ev);
	}
	wire_event_clear(&ev);
}

static bool pauses(EtcdWatch *w)
{
	bool full;

	lock(w->owner);
	full = w->bytes >= QUEUE_BYTES;
	w->paused = full;
	unlock(w->owner);
	return full;
}

/* Lock held. */
static bool may_resume(const EtcdWatch *w)
{
	return w->paused && w->bytes < QUEUE_BYTES / 2;
}

static size_t on_stream(char *data, size_t size, size_t n, void *user)
{
	EtcdWatch *w = user;
	const char *end;
	size_t len = size * n, done = 0;

	if (pauses(w))
		return CURL_WRITEFUNC_PAUSE;
	while (!w->ended && (end = memchr(data + done, '\n', len - done)) != NULL) {
		g_string_append_len(w->line, data + done, end - (data + done));
		done = (size_t)(end - data) + 1;
		on_line(w, w->line->str, w->line->len);
		g_string_truncate(w->line, 0);
	}
	if (w->ended || w->line->len + len - done > JSON_TEXT_MAX)
		return 0; /* libcurl ends the transfer */
	g_string_append_len(w->line, data + done, (gssize)(len - done));
	return len;
}

/* ---- streams: all on the thread ---- */

static void move_on(EtcdWatcher *r, guint from)
{
	if (r->endpoint == from)
		r->endpoint = (from + 1) % r->s->config->endpoint->len;
}

static void stream_stop(EtcdWatch *w)
{
	if (w->curl == NULL)
		return;
	curl_multi_remove_handle(w->owner->multi, w->curl);
	curl_easy_cleanup(w->curl);
	curl_slist_free_all(w->headers);
	g_free(w->body);
	g_string_truncate(w->line, 0);
	w->curl = NULL;
	w->headers = NULL;
	w->body = NULL;
	w->ended = false;
}

static void stream_retry(EtcdWatch *w)
{
	stream_stop(w);
	w->careful = w->reopen = false;
	w->retry_at = time_monotonic() + w->backoff;
	w->backoff = MIN(w->backoff * 2, BACKOFF_MAX);
}

/* What came of a revision that is not complete comes again. */
static void drop_incomplete(EtcdWatch *w)
{
	StoreItem *i;

	lock(w->owner);
	while ((i = g_queue_peek_tail(&w->queue)) != NULL && i->rev > w->complete) {
		w->bytes -= local_item_size(i->key, i->value);
		store_item_free(g_queue_pop_tail(&w->queue));
	}
	w->start = w->complete;
	w->paused = false;
	unlock(w->owner);
}

static void stream_start(EtcdWatch *w)
{
	EtcdWatcher *r = w->owner;
	g_autoptr(GError) e = NULL;

	drop_incomplete(w);
	w->at = r->endpoint;
	w->curl = curl_easy_init();
	if (!etcd_client_prepare(r->s->client, w->curl, w->at, "watch", &w->headers, &e)) {
		curl_easy_cleanup(g_steal_pointer(&w->curl));
		move_on(r, w->at);
		stream_retry(w);
		return;
	}
	w->headers = curl_slist_append(w->headers, "Grpc-Metadata-hasleader: true");
	w->body = wire_watch(r->s->config->root, w->prefix, MAX(w->careful ? w->start : w->start + 1, 1));
	curl_easy_setopt(w->curl, CURLOPT_HTTPHEADER, w->headers);
	curl_easy_setopt(w->curl, CURLOPT_POSTFIELDS, w->body);
	curl_easy_setopt(w->curl, CURLOPT_WRITEFUNCTION, on_stream);
	curl_easy_setopt(w->curl, CURLOPT_WRITEDATA, w);
	curl_easy_setopt(w->curl, CURLOPT_PRIVATE, w);
	curl_multi_add_handle(r->multi, w->curl);
}

static void drop_item(gpointer p)
{
	store_item_free(p);
}

static void watch_free(EtcdWatch *w)
{
	stream_stop(w);
	g_queue_clear_full(&w->queue, drop_item);
	g_clear_error(&w->error);
	g_string_free(w->line, TRUE);
	close(w->fd);
	g_free(w->prefix);
	g_free(w);
}

/* What the owner asked for since the last turn, and what has become due. */
static void serve_watch(EtcdWatch *w, bool ended, bool resume)
{
	if (ended) {
		stream_stop(w);
	} else if (w->curl == NULL && time_monotonic() >= w->retry_at) {
		stream_start(w);
	} else if (w->curl != NULL && resume) {
		curl_easy_pause(w->curl, CURLPAUSE_CONT);
	}
}

/* A copy, with references to nothing that another thread frees: only this thread frees watches. */
static GPtrArray *watches(EtcdWatcher *r)
{
	GPtrArray *a = g_ptr_array_new();

	lock(r);
	g_ptr_array_extend(a, r->watch, NULL, NULL);
	unlock(r);
	return a;
}

/* Returns how many there are. */
static guint serve_watches(EtcdWatcher *r)
{
	g_autoptr(GPtrArray) all = watches(r);

	for (guint i = 0; i < all->len; i++) {
		EtcdWatch *w = all->pdata[i];
		bool closed, ended, resume;

		lock(r);
		closed = w->closed;
		ended = w->error != NULL;
		resume = may_resume(w);
		if (resume)
			w->paused = false;
		if (closed)
			g_ptr_array_remove_fast(r->watch, w);
		unlock(r);
		if (closed)
			watch_free(w);
		else
			serve_watch(w, ended, resume);
	}
	return all->len;
}

/* The store is another one now: no watch can go on. */
static void fail_all(EtcdWatcher *r, const GError *why)
{
	g_autoptr(GPtrArray) all = watches(r);

	for (guint i = 0; i < all->len; i++) {
		GError *e = NULL;

		fail_advice(&e, ERR_GONE, err_advice(why), "%s", why->message);
		watch_fail(all->pdata[i], e);
	}
}

/* ---- the ping ---- */

static size_t on_pong(char *data, size_t size, size_t n, void *user)
{
	GString *answer = user;

	g_string_append_len(answer, data, (gssize)(size * n));
	return answer->len <= 4096 ? size * n : 0;
}

static void ping_stop(EtcdWatcher *r)
{
	Ping *p = &r->ping;

	if (p->curl == NULL)
		return;
	curl_multi_remove_handle(r->multi, p->curl);
	curl_easy_cleanup(g_steal_pointer(&p->curl));
	curl_slist_free_all(g_steal_pointer(&p->headers));
	g_free(g_steal_pointer(&p->body));
	g_string_free(g_steal_pointer(&p->answer), TRUE);
}

static void leave_endpoint(EtcdWatcher *r, guint at)
{
	g_autoptr(GPtrArray) all = watches(r);

	move_on(r, at);
	for (guint i = 0; i < all->len; i++) {
		EtcdWatch *w = all->pdata[i];

		if (w->curl != NULL && w->at == at)
			stream_retry(w);
	}
}

static void ping_start(EtcdWatcher *r)
{
	Ping *p = &r->ping;

	p->next = time_monotonic() + PING_US;
	p->at = r->endpoint;
	p->curl = curl_easy_init();
	if (!etcd_client_prepare(r->s->client, p->curl, p->at, "kv/range", &p->headers, NULL)) {
		curl_easy_cleanup(g_steal_pointer(&p->curl));
		leave_endpoint(r, p->at);
		return;
	}
	p->seen_before = etcd_seen(r->s);
	p->answer = g_string_new(NULL);
	p->body = wire_range(r->s->config->root, WIRE_SCHEMA_KEY, WIRE_KEYS_ONLY, 0, 0);
	curl_easy_setopt(p->curl, CURLOPT_HTTPHEADER, p->headers);
	curl_easy_setopt(p->curl, CURLOPT_POSTFIELDS, p->body);
	curl_easy_setopt(p->curl, CURLOPT_TIMEOUT_MS, PING_TIMEOUT_MS);
	curl_easy_setopt(p->curl, CURLOPT_WRITEFUNCTION, on_pong);
	curl_easy_setopt(p->curl, CURLOPT_WRITEDATA, p->answer);
	curl_easy_setopt(p->curl, CURLOPT_PRIVATE, NULL);
	curl_multi_add_handle(r->multi, p->curl);
}

static void on_ping_end(EtcdWatcher *r)
{
	Ping *p = &r->ping;
	_cleanup_json_ Json *j = json_parse(p->answer->str, p->answer->len, NULL);
	guint at = p->at;
	int64_t seen_before = p->seen_before;
	struct wire_header h;
	long status = 0;

	curl_easy_getinfo(p->curl, CURLINFO_RESPONSE_CODE, &status);
	ping_stop(r);
	if (status == 200 && wire_header_read(j, &h, NULL))
		etcd_header_fits(r->s, &h, seen_before, NULL); /* if not, the thread sees it */
	else if (status == 401 || status == 400)
		etcd_client_forget_login(r->s->client); /* it answers: the streams are fine */
	else
		leave_endpoint(r, at);
}

/* ---- the thread ---- */

static void on_stream_end(EtcdWatch *w)
{
	if (w->reopen) {
		stream_stop(w);
		w->reopen = false;
		w->retry_at = 0;
		return;
	}
	move_on(w->owner, w->at);
	stream_retry(w);
}

static void read_ends(EtcdWatcher *r)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(r->multi, &left)) != NULL) {
		EtcdWatch *w = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &w);
		if (w == NULL) {
			on_ping_end(r);
			continue;
		}
		on_stream_end(w);
	}
}

static bool wants_quit(EtcdWatcher *r)
{
	bool quit;

	lock(r);
	quit = r->quit;
	unlock(r);
	return quit;
}

/* Streams that wait to be opened again set how long a turn may sleep. */
static int turn_ms(EtcdWatcher *r)
{
	g_autoptr(GPtrArray) all = watches(r);
	uint64_t now = time_monotonic(), wait = POLL_MS * UINT64_C(1000);

	for (guint i = 0; i < all->len; i++) {
		const EtcdWatch *w = all->pdata[i];

		if (w->curl == NULL)
			wait = MIN(wait, w->retry_at > now ? w->retry_at - now : 1000);
	}
	return (int)(wait / 1000) + 1;
}

static void *run_watcher(void *data)
{
	EtcdWatcher *r = data;
	int running;

	while (!wants_quit(r)) {
		g_autoptr(GError) broken = NULL;

		if (!etcd_usable(r->s, &broken))
			fail_all(r, broken);
		if (serve_watches(r) > 0 && r->ping.curl == NULL && time_monotonic() >= r->ping.next)
			ping_start(r);
		curl_multi_perform(r->multi, &running);
		read_ends(r);
		curl_multi_poll(r->multi, NULL, 0, turn_ms(r), NULL);
	}
	ping_stop(r);
	return NULL;
}

static EtcdWatcher *watcher_new(EtcdStore *s, GError **err)
{
	EtcdWatcher *r = g_new0(EtcdWatcher, 1);
	int e;

	r->s = s;
	r->multi = curl_multi_init();
	r->watch = g_ptr_array_new();
	r->endpoint = etcd_client_endpoint(s->client);
	pthread_mutex_init(&r->lock, NULL);
	cond_init_monotonic(&r->changed);
	e = pthread_create(&r->thread, NULL, run_watcher, r);
	if (e == 0)
		return r;
	fail_errno(err, e, "can't make a thread for watches");
	curl_multi_cleanup(r->multi);
	g_ptr_array_unref(r->watch);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	g_free(r);
	return NULL;
}

void etcd_watcher_free(EtcdWatcher *r)
{
	if (r == NULL)
		return;
	lock(r);
	r->quit = true;
	unlock(r);
	curl_multi_wakeup(r->multi);
	pthread_join(r->thread, NULL);
	for (guint i = 0; i < r->watch->len; i++) {
		EtcdWatch *w = r->watch->pdata[i];

		g_assert(w->closed);
		watch_free(w);
	}
	g_ptr_array_unref(r->watch);
	curl_multi_cleanup(r->multi);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	g_free(r);
}

/* ---- for owners of watches ---- */

static EtcdWatcher *watcher_of(EtcdStore *s, GError **err)
{
	EtcdWatcher *r;

	pthread_mutex_lock(&s->lock);
	if (s->watcher == NULL)
		s->watcher = watcher_new(s, err);
	r = s->watcher;
	pthread_mutex_unlock(&s->lock);
	return r;
}

static EtcdWatch *watch_new(EtcdWatcher *r, const char *prefix, int64_t after, GError **err)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	EtcdWatch *w;

	if (fd < 0) {
		fail_errno(err, errno, "can't make an eventfd");
		return NULL;
	}
	w = g_new0(EtcdWatch, 1);
	w->owner = r;
	w->prefix = g_strdup(prefix);
	w->fd = fd;
	w->complete = w->told = after;
	w->backoff = BACKOFF_MIN;
	w->line = g_string_new(NULL);
	g_queue_init(&w->queue);
	return w;
}

/*
 * Until etcd has confirmed it: from then on it misses nothing, however the history is cut. On failure the
 * watch is closed.
 */
static bool wait_until_open(EtcdWatch *w, GError **err)
{
	EtcdWatcher *r = w->owner;
	uint64_t until = time_monotonic() + r->s->config->timeout;
	struct timespec ts = { .tv_sec = (time_t)(until / 1000000),
			       .tv_nsec = (long)(until % 1000000) * 1000 };
	bool ok;

	lock(r);
	while (!w->opened && w->error == NULL)
		if (pthread_cond_timedwait(&r->changed, &r->lock, &ts) != 0)
			break;
	ok = w->opened && w->error == NULL;
	if (!ok && w->error != NULL)
		g_propagate_error(err, g_error_copy(w->error));
	else if (!ok)
		fail_advice(err, ERR_TIMEOUT, "Check that etcd runs and that this host reaches it.",
			    "etcd did not begin to tell changes in time");
	unlock(r);
	if (!ok)
		etcd_watch_close(&w->base);
	return ok;
}

StoreWatch *etcd_watch_open(Store *base, const char *prefix, int64_t after_rev, GError **err)
{
	EtcdStore *s = (EtcdStore *)base;
	int64_t now = etcd_revision_now(s, err); /* etcd would wait for a revision of the future */
	EtcdWatcher *r;
	EtcdWatch *w;

	if (now < 0)
		return NULL;
	if (after_rev > now) {
		fail_advice(err, ERR_GONE, "List again, and watch from the revision of that list.",
			    "revision %" PRId64 " has not happened here; the last one is %" PRId64, after_rev,
			    now);
		return NULL;
	}
	r = watcher_of(s, err);
	w = r != NULL ? watch_new(r, prefix, after_rev, err) : NULL;
	if (w == NULL)
		return NULL;
	lock(r);
	g_ptr_array_add(r->watch, w);
	unlock(r);
	curl_multi_wakeup(r->multi);
	return wait_until_open(w, err) ? &w->base : NULL;
}

int etcd_watch_fd(const StoreWatch *w)
{
	return ((const EtcdWatch *)w)->fd;
}

/* The next complete revision begins; NULL when there is none. */
static StoreItem *next_complete(EtcdWatch *w)
{
	StoreItem *i = g_queue_peek_head(&w->queue);

	return i != NULL && i->rev <= w->complete ? i : NULL;
}

static GPtrArray *take_piece(EtcdWatch *w)
{
	GPtrArray *piece = store_items_new();
	size_t bytes = 0, size;
	StoreItem *i;

	while ((i = next_complete(w)) != NULL) {
		if (local_batch_full(piece, bytes) && i->rev != w->told)
			break;
		size = local_item_size(i->key, i->value);
		bytes += size;
		w->bytes -= size;
		w->told = i->rev;
		g_ptr_array_add(piece, g_queue_pop_head(&w->queue));
	}
	return piece;
}

bool etcd_watch_next(StoreWatch *base, GPtrArray **ret_changes, GError **err)
{
	EtcdWatch *w = (EtcdWatch *)base;
	g_autoptr(GPtrArray) piece = NULL;
	eventfd_t rings;
	bool ok, wake;

	eventfd_read(w->fd, &rings);
	lock(w->owner);
	piece = take_piece(w);
	ok = piece->len > 0 || w->error == NULL;
	if (!ok && err != NULL)
		*err = g_error_copy(w->error);
	if (next_complete(w) != NULL || w->error != NULL)
		ring(w);
	else
		w->told = MAX(w->told, w->complete);
	wake = may_resume(w);
	unlock(w->owner);
	if (wake)
		curl_multi_wakeup(w->owner->multi);
	if (ok)
		*ret_changes = g_steal_pointer(&piece);
	return ok;
}

int64_t etcd_watch_seen(const StoreWatch *base)
{
	const EtcdWatch *w = (const EtcdWatch *)base;
	int64_t told;

	lock(w->owner);
	told = w->told;
	unlock(w->owner);
	return told;
}

void etcd_watch_close(StoreWatch *base)
{
	EtcdWatch *w = (EtcdWatch *)base;
	EtcdWatcher *r = w->owner;

	lock(r);
	w->closed = true;
	unlock(r);
	curl_multi_wakeup(r->multi);
}
