/* SPDX-License-Identifier: Apache-2.0 */
/* The store when members of etcd are killed, stopped or cut off, answers are lost, and worse. */
#include "base/fd.h"
#include "base/time.h"
#include "etcd_rig.h"
#include "store/etcd_client.h"
#include "store/store.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE UINT64_C(120000000)
#define SECOND UINT64_C(1000000)

static Store *open_at(const char *kind, const char *where, const char *options)
{
	g_autofree char *url = g_strconcat(kind, "etcd:", where, options, NULL);
	g_autoptr(GError) e = NULL;
	Store *s = store_open(url, &e);

	g_assert_no_error(e);
	return s;
}

/* As open_at(), for a store that gives up sooner than a busy machine may let it get through. */
static Store *open_hasty(const char *kind, const char *where, const char *options)
{
	g_autofree char *url = g_strconcat(kind, "etcd:", where, options, NULL);
	Store *s;

	for (uint64_t end = time_monotonic() + DEADLINE; (s = store_open(url, NULL)) == NULL; g_usleep(20000))
		g_assert_cmpuint(time_monotonic(), <, end);
	return s;
}

static bool put(Store *s, const char *key, const char *value, GError **err)
{
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, key, STORE_ANY, value);
	return store_commit(s, tx, STORE_DURABLE, NULL, err);
}

static void must_put(Store *s, const char *key, const char *value)
{
	g_autoptr(GError) e = NULL;

	put(s, key, value, &e);
	g_assert_no_error(e);
}

static void assert_value(Store *s, const char *key, const char *value)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) i = store_get(s, key, &e);

	g_assert_no_error(e);
	g_assert_cmpstr(i != NULL ? i->value : NULL, ==, value);
}

/* ---- a counter that is never wrong ---- */

struct counting {
	Store *s;
	GThread *thread;
	gint stop;
	uint64_t done, unsure;
};

/*
 * Each value is one more than the one it replaces, whoever wrote that: a commit that was carried out twice,
 * or reported wrongly, shows in the sum.
 */
static bool count_once(struct counting *c)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) i = store_get(c->s, "n", &e);
	uint64_t n = i != NULL ? g_ascii_strtoull(i->value, NULL, 10) : 0;
	g_autofree char *value = g_strdup_printf("%" PRIu64, n + 1);
	StoreTx *tx;

	if (e != NULL)
		return false;
	tx = store_tx_new();
	store_tx_set(tx, "n", i != NULL ? i->rev : 0, value);
	if (store_commit(c->s, tx, STORE_DURABLE, NULL, &e)) {
		c->done++;
		return true;
	}
	c->unsure += !g_error_matches(e, ERR, ERR_CONFLICT);
	return false;
}

static gpointer count_until_stopped(gpointer data)
{
	struct counting *c = data;

	while (!g_atomic_int_get(&c->stop))
		count_once(c);
	return NULL;
}

static void counting_start(struct counting *c, Store *s)
{
	*c = (struct counting){ .s = s };
	c->thread = g_thread_new("count", count_until_stopped, c);
}

static void counting_stop(struct counting *c)
{
	g_atomic_int_set(&c->stop, 1);
	g_thread_join(c->thread);
}

static uint64_t counted(Store *s)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) i = store_get(s, "n", &e);

	g_assert_no_error(e);
	return i != NULL ? g_ascii_strtoull(i->value, NULL, 10) : 0;
}

/* The watch tells 1, 2, 3 ... `upto`, each once, whatever happened meanwhile. */
static void assert_told(StoreWatch *w, uint64_t upto)
{
	uint64_t next = 1;
	int64_t rev = 0;

	for (uint64_t end = time_monotonic() + DEADLINE; next <= upto;) {
		struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;
		g_autoptr(GError) e = NULL;

		g_assert_cmpuint(time_monotonic(), <, end);
		poll(&p, 1, 1000);
		store_watch_next(w, &some, &e);
		g_assert_no_error(e);
		for (guint i = 0; i < some->len; i++) {
			const StoreItem *item = some->pdata[i];

			g_assert_cmpuint(g_ascii_strtoull(item->value, NULL, 10), ==, next++);
			g_assert_cmpint(item->rev, >, rev);
			rev = item->rev;
		}
	}
	g_assert_cmpuint(next, ==, upto + 1);
}

/* ---- answers that are lost ---- */

static void test_a_lost_answer_is_decided(void)
{
	g_autofree char *where = NULL;
	g_autoptr(Store) lossy = NULL, direct = NULL;
	Rig r;

	if (!rig_up(&r, 1, NULL))
		return;
	direct = open_at("", r.url, "");
	where = g_strdup_printf("http://127.0.0.1:%d", rig_lossy_proxy(&r, 15));
	lossy = open_at("", where, "?timeout=120s");
	for (struct counting c = { .s = lossy }; c.done < 300;) {
		count_once(&c);
		g_assert_cmpuint(c.unsure, ==, 0);
		/* After every one: neither lost, nor done twice, nor told wrongly. */
		g_assert_cmpuint(counted(direct), ==, c.done);
	}
	g_clear_pointer(&lossy, store_close);
	g_clear_pointer(&direct, store_close);
	rig_down(&r);
}

/* ---- three members ---- */

static void hit_stop(Rig *r, int i)
{
	rig_signal(r, i, SIGSTOP);
}

static void mend_stop(Rig *r, int i)
{
	rig_signal(r, i, SIGCONT);
}

static void mend_kill(Rig *r, int i)
{
	rig_start(r, i);
}

static const struct {
	const char *what;
	void (*hit)(Rig *r, int i);
	void (*mend)(Rig *r, int i);
} harm[] = {
	{ "stopped", hit_stop, mend_stop },
	{ "cut off", rig_cut, rig_join },
	{ "killed", rig_kill, mend_kill },
};

/* Waits until the counter has moved by some, which shows that commits go through. */
static void wait_for_progress(Store *s, const char *what)
{
	uint64_t began = time_monotonic(), from, n = 0;
	g_autoptr(GError) e = NULL;

	for (from = counted(s); n < from + 20; n = counted(s))
		g_assert_cmpuint(time_monotonic() - began, <, DEADLINE);
	g_test_message("%s: 20 commits later after %.1f s", what,
		       (double)(time_monotonic() - began) / (double)SECOND);
}

static void test_commits_and_watches_outlive_each_leader(void)
{
	struct counting c;
	Store *s, *reader;
	StoreWatch *w;
	uint64_t n;
	Rig r;

	if (!rig_up(&r, 3, NULL))
		return;
	s = open_at("", r.url, "?timeout=120s");
	reader = open_at("", r.url, "?timeout=120s");
	w = store_watch_open(reader, "n", 0, NULL);
	g_assert_nonnull(w);
	counting_start(&c, s);
	for (size_t h = 0; h < G_N_ELEMENTS(harm); h++) {
		int leader = rig_leader(&r);

		harm[h].hit(&r, leader);
		wait_for_progress(reader, harm[h].what);
		harm[h].mend(&r, leader);
		rig_wait(&r, leader);
	}
	counting_stop(&c);
	n = counted(reader);
	g_assert_cmpuint(n, >=, c.done);
	g_assert_cmpuint(n, <=, c.done + c.unsure);
	assert_told(w, n);
	store_watch_close(w);
	store_close(reader);
	store_close(s);
	rig_down(&r);
}

/* Reads go on and say how old they are; changes fail and say why; all heals by itself. */
static void test_without_a_majority_the_cache_reads_on(void)
{
	g_autoptr(GError) e = NULL;
	Store *s, *hasty;
	StoreWatch *w;
	uint64_t end, began;
	int leader;
	Rig r;

	if (!rig_up(&r, 3, NULL))
		return;
	s = open_at("cache:", r.url, "?timeout=120s");
	hasty = open_hasty("cache:", r.url, "?timeout=2s"); /* so that its failure need not be waited for */
	must_put(s, "a", "1");
	w = store_watch_open(s, "n", store_revision(s, NULL), NULL);
	leader = rig_leader(&r);
	rig_signal(&r, leader, SIGSTOP);
	rig_signal(&r, (leader + 1) % 3, SIGSTOP);
	for (end = time_monotonic() + DEADLINE; store_age(s) < 4 * SECOND; g_usleep(20000)) {
		g_assert_cmpuint(time_monotonic(), <, end);
		assert_value(s, "a", "1");
	}
	began = time_monotonic();
	g_assert_false(put(hasty, "a", "2", &e));
	g_assert_cmpuint(time_monotonic() - began, <, DEADLINE);
	g_assert_true(g_error_matches(e, ERR, ERR_TIMEOUT) || g_error_matches(e, ERR, ERR_UNAVAILABLE));
	g_assert_nonnull(err_advice(e));
	rig_signal(&r, leader, SIGCONT);
	rig_signal(&r, (leader + 1) % 3, SIGCONT);
	rig_wait(&r, leader);
	must_put(s, "n", "1");
	assert_value(s, "n", "1");
	assert_told(w, 1);
	for (end = time_monotonic() + DEADLINE; store_age(s) > 3 * SECOND; g_usleep(20000))
		g_assert_cmpuint(time_monotonic(), <, end);
	/* The one that failed, too; on a busy machine not at once, as it gives up soon. */
	for (end = time_monotonic() + DEADLINE; !put(hasty, "a", "3", NULL); g_usleep(20000))
		g_assert_cmpuint(time_monotonic(), <, end);
	store_watch_close(w);
	store_close(hasty);
	store_close(s);
	rig_down(&r);
}

/* A lease with "host" bound to it. On a busy machine one may end before that: another one then. */
static StoreLease *hold(Store *s)
{
	for (uint64_t end = time_monotonic() + DEADLINE;;) {
		g_autoptr(GError) e = NULL;
		StoreLease *l = store_lease_grant(s, 5 * SECOND, &e);
		StoreTx *tx = store_tx_new();

		g_assert_no_error(e);
		store_tx_bind(tx, "host", 0, "1", l);
		if (store_commit(s, tx, STORE_DURABLE, NULL, &e))
			return l;
		g_assert_error(e, ERR, ERR_GONE);
		g_assert_cmpuint(time_monotonic(), <, end);
		store_lease_free(l);
	}
}

/* A holder that is cut off can't renew; whoever waits for the key to go sees it go after the holder's time.
 */
static void test_a_lease_ends_for_its_holder_first(void)
{
	g_autoptr(StoreLease) l = NULL;
	g_autofree char *only = NULL;
	Store *holder, *other;
	uint64_t until, end;
	int leader;
	Rig r;

	if (!rig_up(&r, 3, NULL))
		return;
	leader = rig_leader(&r);
	only = g_strdup_printf("http://%s:%d", r.m[leader].ip, r.m[leader].client);
	holder = open_at("", only, "?timeout=120s");
	other = open_at("", r.url, "?timeout=120s");
	l = hold(holder);
	rig_cut(&r, leader);
	/* The leader that is none any more must not renew for long, and never beyond what the others grant.
	 */
	for (end = time_monotonic() + DEADLINE; store_lease_renew(l, SECOND, NULL);)
		g_assert_cmpuint(time_monotonic(), <, end);
	until = store_lease_until(l);
	for (bool there = true; there;) {
		g_autoptr(GError) failed = NULL;
		g_autoptr(StoreItem) i = store_get(other, "host", &failed);

		g_assert_no_error(failed);
		there = i != NULL;
		g_assert_true(there || time_monotonic() > until);
		g_assert_cmpuint(time_monotonic(), <, end);
	}
	rig_join(&r, leader);
	store_close(holder);
	store_close(other);
	rig_down(&r);
}

/* ---- worse ---- */

static void copy_folder(const char *from, const char *to)
{
	const char *const argv[] = { "cp", "-a", from, to, NULL };
	int status = -1;

	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
				   &status, NULL));
	g_assert_cmpint(status, ==, 0);
}

static void wait_for_gone(StoreWatch *w)
{
	g_autoptr(GError) e = NULL;

	for (uint64_t end = time_monotonic() + DEADLINE; e == NULL;) {
		struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;

		g_assert_cmpuint(time_monotonic(), <, end);
		poll(&p, 1, 1000);
		store_watch_next(w, &some, &e);
	}
	g_assert_error(e, ERR, ERR_GONE);
}

static void test_an_etcd_restored_from_a_backup_is_noticed(void)
{
	g_autofree char *data = NULL, *backup = NULL;
	g_autoptr(GError) e = NULL;
	Store *s, *cache, *writer;
	StoreWatch *w;
	Rig r;

	if (!rig_up(&r, 1, NULL))
		return;
	data = rig_data(&r, 0);
	backup = g_strconcat(data, ".backup", NULL);
	s = open_at("", r.url, "");
	must_put(s, "a", "old");
	rig_kill(&r, 0);
	copy_folder(data, backup);
	rig_start(&r, 0);
	rig_wait(&r, 0);
	cache = open_at("cache:", r.url, "");
	for (int i = 0; i < 5; i++)
		must_put(s, "a", "new");
	must_put(cache, "b", "new");
	writer = open_at("", r.url, "");
	must_put(writer, "c", "new");
	w = store_watch_open(s, "", store_revision(s, NULL), NULL);
	g_assert_nonnull(w);
	rig_kill(&r, 0);
	g_assert_true(dir_remove(data, NULL));
	copy_folder(backup, data);
	rig_start(&r, 0);
	rig_wait(&r, 0);
	wait_for_gone(w);
	/* One that notices it by what it has just written. */
	g_assert_false(put(writer, "c", "perhaps", &e));
	g_assert_error(e, ERR, ERR_STORE);
	g_assert_nonnull(strstr(err_advice(e), "may have been done"));
	g_assert_nonnull(strstr(err_advice(e), "backup"));
	g_clear_error(&e);
	g_assert_false(put(s, "a", "lost", &e));
	g_assert_error(e, ERR, ERR_STORE);
	g_assert_nonnull(strstr(err_advice(e), "backup"));
	g_clear_error(&e);
	assert_value(cache, "b", "new"); /* what it knows */
	g_assert_false(put(cache, "b", "lost", &e));
	g_assert_error(e, ERR, ERR_STORE);
	store_watch_close(w);
	store_close(s);
	store_close(cache);
	store_close(writer);
	s = open_at("", r.url, ""); /* opened anew, it is what it is */
	assert_value(s, "a", "old");
	store_close(s);
	rig_down(&r);
}

static void test_a_full_etcd_says_so_and_reads_on(void)
{
	static const char *const small[] = { "--quota-backend-bytes=300000", NULL };
	g_autofree char *value = g_strnfill(100000, 'x');
	g_autoptr(GError) e = NULL;
	Store *s;
	Rig r;

	if (!rig_up(&r, 1, small))
		return;
	s = open_at("", r.url, "");
	must_put(s, "a", "1");
	for (int i = 0; i < 20 && put(s, "big", value, &e); i++)
		;
	g_assert_error(e, ERR, ERR_NO_SPACE);
	g_assert_nonnull(strstr(err_advice(e), "defrag"));
	assert_value(s, "a", "1");
	store_close(s);
	rig_down(&r);
}

static void admin(const Rig *r, const char *path, const char *body)
{
	g_autoptr(EtcdConfig) config = etcd_config_parse(r->url, NULL);
	g_autoptr(EtcdClient) c = etcd_client_new(config, NULL);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *j = etcd_client_call(c, &(EtcdCall){ .path = path, .body = body }, &e);

	g_assert_no_error(e);
	g_assert_nonnull(j);
}

/* "cg==" to "cw==": keys that begin with r, which a reader may read. */
static void make_users(const Rig *r)
{
	admin(r, "auth/user/add", "{\"name\":\"root\",\"password\":\"secret\"}");
	admin(r, "auth/user/add", "{\"name\":\"reader\",\"password\":\"secret\"}");
	admin(r, "auth/role/add", "{\"name\":\"root\"}");
	admin(r, "auth/role/add", "{\"name\":\"reading\"}");
	admin(
	    r, "auth/role/grant",
	    "{\"name\":\"reading\",\"perm\":{\"permType\":\"READ\",\"key\":\"AA==\",\"range_end\":\"AA==\"}}");
	admin(r, "auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}");
	admin(r, "auth/user/grant", "{\"user\":\"reader\",\"role\":\"reading\"}");
	admin(r, "auth/enable", "{}");
}

static void test_users_and_their_rights(void)
{
	g_autofree char *good = NULL, *bad = NULL, *as_root = NULL, *as_reader = NULL, *as_wrong = NULL,
			*anonymous = NULL;
	g_autoptr(GError) e1 = NULL, e2 = NULL, e3 = NULL;
	StoreWatch *w;
	Store *s;
	Rig r;

	if (!rig_up(&r, 1, NULL))
		return;
	good = g_build_filename(r.dir, "good", NULL);
	bad = g_build_filename(r.dir, "bad", NULL);
	g_assert_true(file_write_atomic(good, "secret\n", 7, 0600, NULL));
	g_assert_true(file_write_atomic(bad, "wrong\n", 6, 0600, NULL));
	as_root = g_strdup_printf("?user=root&password-file=%s", good);
	as_reader = g_strdup_printf("etcd:%s?user=reader&password-file=%s", r.url, good);
	as_wrong = g_strdup_printf("etcd:%s?user=root&password-file=%s", r.url, bad);
	anonymous = g_strconcat("etcd:", r.url, NULL);
	s = open_at("", r.url, as_root); /* before a login is wanted */
	make_users(&r);
	must_put(s, "n", "1");
	w = store_watch_open(s, "n", 1, NULL);
	g_assert_nonnull(w);
	assert_told(w, 1);
	store_watch_close(w);
	store_close(s);
	g_assert_null(store_open(as_wrong, &e1));
	g_assert_error(e1, ERR, ERR_DENIED);
	g_assert_null(strstr(e1->message, "wrong"));
	g_assert_null(store_open(anonymous, &e2));
	g_assert_error(e2, ERR, ERR_DENIED);
	s = store_open(as_reader, NULL);
	g_assert_nonnull(s);
	assert_value(s, "n", "1");
	g_assert_false(put(s, "n", "2", &e3));
	g_assert_error(e3, ERR, ERR_DENIED);
	store_close(s);
	rig_down(&r);
}

static void test_nobody_there_is_told_soon(void)
{
	uint64_t began = time_monotonic();
	g_autoptr(GError) e = NULL;

	g_assert_null(store_open("etcd:http://127.0.0.1:1,http://127.0.0.1:2", &e));
	g_assert_error(e, ERR, ERR_UNAVAILABLE);
	g_assert_nonnull(err_advice(e));
	g_assert_cmpuint(time_monotonic() - began, <, DEADLINE);
}

/* Breaks off as many connections as it is told, as who wants another certificate does; then it is silent. */
struct sullen {
	int listening, port, breaks;
	GThread *thread;
};

static gpointer be_sullen(gpointer data)
{
	struct sullen *s = data;
	int fd;

	while ((fd = accept4(s->listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		char buf[65536];

		/* Until the request is there; then until the other side gives up. */
		while (read(fd, buf, sizeof buf) > 0 && s->breaks-- <= 0)
			continue;
		close(fd);
	}
	return NULL;
}

static void sullen_start(struct sullen *s, int breaks)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;

	*s = (struct sullen){ .listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .breaks = breaks };
	g_assert_cmpint(bind(s->listening, (struct sockaddr *)&a, sizeof a), ==, 0);
	g_assert_cmpint(listen(s->listening, 64), ==, 0);
	g_assert_cmpint(getsockname(s->listening, (struct sockaddr *)&a, &len), ==, 0);
	s->port = ntohs(a.sin_port);
	s->thread = g_thread_new("sullen", be_sullen, s);
}

static void sullen_stop(struct sullen *s)
{
	shutdown(s->listening, SHUT_RDWR);
	g_thread_join(s->thread);
	close(s->listening);
}

static void assert_failure(int breaks, int code)
{
	g_autofree char *url = NULL;
	g_autoptr(EtcdConfig) config = NULL;
	g_autoptr(EtcdClient) c = NULL;
	g_autoptr(GError) e = NULL;
	struct sullen s;

	sullen_start(&s, breaks);
	url = g_strdup_printf("http://127.0.0.1:%d", s.port);
	config = etcd_config_parse(url, NULL);
	c = etcd_client_new(config, NULL);
	g_assert_null(
	    etcd_client_call(c, &(EtcdCall){ .path = "kv/range", .body = "{}", .timeout = 3 * SECOND }, &e));
	g_assert_error(e, ERR, code);
	sullen_stop(&s);
}

static void test_a_last_try_that_was_cut_short_hides_no_reason(void)
{
	/* It had all the time there was, and nobody answered. */
	assert_failure(0, ERR_TIMEOUT);
	/* The last one had what was left. */
	assert_failure(1, ERR_UNAVAILABLE);
	assert_failure(5, ERR_UNAVAILABLE);
}

int main(int argc, char **argv)
{
	rig_main_begin();
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/etcd-outage/" #name, test_##name)
	T(nobody_there_is_told_soon);
	T(a_last_try_that_was_cut_short_hides_no_reason);
	T(a_lost_answer_is_decided);
	T(an_etcd_restored_from_a_backup_is_noticed);
	T(a_full_etcd_says_so_and_reads_on);
	T(users_and_their_rights);
	T(commits_and_watches_outlive_each_leader);
	T(without_a_majority_the_cache_reads_on);
	T(a_lease_ends_for_its_holder_first);
	return g_test_run();
}
