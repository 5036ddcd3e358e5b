/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store costs: commits, reads, lists and the way from a commit to a
 * watch, on a file in the folder given (else the current one, because what counts is that disk), or on the
 * store of a URL, as in
 *
 *     build/bench/bench_store [FOLDER]
 *     tests/store/with_etcd.py build/bench/bench_store etcd:%ETCD%
 *     tests/store/with_etcd.py build/bench/bench_store cache:etcd:%ETCD%
 *
 * A relaxed commit is a durable one in etcd, which has no other.
 */
#include "store/store.h"
#include "base/fd.h"
#include "base/time.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000)

enum { RECORD = 2000, N_ITEMS = 1000, MAX_THREADS = 8 };

static void must(bool ok, GError *err)
{
	if (!ok) {
		fprintf(stderr, "%s\n", err != NULL ? err->message : "failed");
		exit(1);
	}
}

struct run {
	Store *s;
	StoreFlags flags;
	const char *value;
	uint64_t end;
	int id;
	uint64_t n;
};

static void commit_one(Store *s, const char *key, const char *value, StoreFlags flags)
{
	GError *err = NULL;
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, key, STORE_ANY, value);
	must(store_commit(s, tx, flags, NULL, &err), err);
}

static gpointer commit_for_a_while(gpointer data)
{
	struct run *r = data;

	for (; time_monotonic() < r->end; r->n++) {
		g_autofree char *key = g_strdup_printf("/bench/%d/%" PRIu64, r->id, r->n % N_ITEMS);

		commit_one(r->s, key, r->value, r->flags);
	}
	return NULL;
}

static void print_rate(const char *what, uint64_t n, uint64_t took)
{
	printf("%-38s %10.0f /s %12.1f us\n", what, (double)n * (double)SECOND / (double)took,
	       (double)took / (double)n);
}

static void bench_commits(Store *s, const char *what, StoreFlags flags, int threads, const char *value)
{
	struct run r[MAX_THREADS];
	GThread *t[MAX_THREADS];
	uint64_t began = time_monotonic(), n = 0;

	for (int i = 0; i < threads; i++) {
		r[i] = (struct run){
			.s = s, .flags = flags, .value = value, .end = began + 2 * SECOND, .id = i
		};
		t[i] = g_thread_new("commit", commit_for_a_while, &r[i]);
	}
	for (int i = 0; i < threads; i++) {
		g_thread_join(t[i]);
		n += r[i].n;
	}
	print_rate(what, n, time_monotonic() - began);
}

static void bench_reads(Store *s)
{
	uint64_t began, n = 0;

	for (began = time_monotonic(); time_monotonic() < began + SECOND; n++)
		store_item_free(store_get(s, "/bench/0/7", NULL));
	print_rate("get", n, time_monotonic() - began);
	for (began = time_monotonic(), n = 0; time_monotonic() < began + SECOND; n++)
		g_ptr_array_unref(store_list(s, "/list/", NULL, NULL));
	print_rate("list of 1000", n, time_monotonic() - began);
}

struct pong {
	Store *s;
	StoreWatch *w;
	gint seen;
};

static gpointer watch_for_ever(gpointer data)
{
	struct pong *p = data;

	while (g_atomic_int_get(&p->seen) >= 0) {
		struct pollfd fd = { .fd = store_watch_fd(p->w), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;
		GError *err = NULL;

		poll(&fd, 1, -1);
		must(store_watch_next(p->w, &some, &err), err);
		if (some->len > 0 && ((StoreItem *)some->pdata[some->len - 1])->value == NULL)
			break;
		commit_one(p->s, "/pong", "1", STORE_RELAXED);
	}
	return NULL;
}

/* There and back: a commit wakes a thread, whose commit wakes this one. */
static void bench_watch(Store *s)
{
	GError *err = NULL;
	int64_t now = store_revision(s, NULL);
	g_autoptr(StoreWatch) ping = store_watch_open(s, "/ping", now, &err),
			      back = store_watch_open(s, "/pong", now, &err);
	struct pong p = { .s = s, .w = ping };
	GThread *t;
	uint64_t began = time_monotonic(), n = 0;

	must(ping != NULL && back != NULL, err);
	t = g_thread_new("watch", watch_for_ever, &p);
	for (; time_monotonic() < began + SECOND; n += 2) {
		struct pollfd fd = { .fd = store_watch_fd(back), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;

		commit_one(s, "/ping", "1", STORE_RELAXED);
		poll(&fd, 1, -1);
		must(store_watch_next(back, &some, &err), err);
	}
	print_rate("relaxed commit to watch in a thread", n, time_monotonic() - began);
	commit_one(s, "/ping", NULL, STORE_RELAXED);
	g_thread_join(t);
}

static void bench_open(const char *url, Store **s)
{
	uint64_t began;
	GError *err = NULL;

	*s = store_close(*s);
	began = time_monotonic();
	*s = store_open(url, &err);
	must(*s != NULL, err);
	print_rate("open", 1, time_monotonic() - began);
}

static void fill(Store *s, const char *value)
{
	for (int i = 0; i < N_ITEMS; i++) {
		g_autofree char *key = g_strdup_printf("/list/%d", i);

		commit_one(s, key, value, STORE_RELAXED);
	}
}

static void bench_all(const char *url)
{
	g_autofree char *value = g_strnfill(RECORD, 'x');
	GError *err = NULL;
	Store *s = store_open(url, &err);

	must(s != NULL, err);
	printf("%.*s, records of %d bytes\n", (int)strcspn(url, "/"), url, RECORD);
	bench_commits(s, "durable commit, 1 thread", STORE_DURABLE, 1, value);
	bench_commits(s, "durable commit, 4 threads", STORE_DURABLE, 4, value);
	bench_commits(s, "relaxed commit, 1 thread", STORE_RELAXED, 1, value);
	bench_commits(s, "relaxed commit, 4 threads", STORE_RELAXED, 4, value);
	fill(s, value);
	bench_reads(s);
	bench_watch(s);
	bench_open(url, &s);
	store_close(s);
}

static void bench_folder(const char *folder)
{
	g_autofree char *dir = g_build_filename(folder, "bench-store-XXXXXX", NULL);
	g_autofree char *url = NULL;
	GError *err = NULL;

	must(g_mkdtemp(dir) != NULL, NULL);
	url = g_strdup_printf("sqlite:%s/state.db", dir);
	bench_all(url);
	must(dir_remove(dir, &err), err);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strchr(argv[1], ':') != NULL)
		bench_all(argv[1]);
	else
		bench_folder(argc > 1 ? argv[1] : ".");
	return 0;
}
