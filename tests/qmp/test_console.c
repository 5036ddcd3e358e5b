/* SPDX-License-Identifier: Apache-2.0 */
/* The console: its ring, its readers, its input. The other side is a socket of the test's own. */
#include "base/fd.h"
#include "base/socket.h"
#include "base/time.h"
#include "drive.h"
#include "engine/console.h"
#include "engine/stream.h"

#include <sys/socket.h>
#include <sys/stat.h>

/*
 * The ring
 */

static char *ring_text(const ConsoleRing *r, uint64_t from, uint64_t *lost)
{
	char *buf = g_malloc0(CONSOLE_RING_SIZE + 1);

	console_ring_read(r, &from, buf, CONSOLE_RING_SIZE, lost);
	return buf;
}

static void test_a_ring_outlives_who_wrote_it(void)
{
	g_autofree char *dir = g_dir_make_tmp("ring-XXXXXX", NULL), *path = g_strconcat(dir, "/ring", NULL),
			*text = NULL;
	ConsoleRing *r = console_ring_open(path, NULL);
	uint64_t lost;

	console_ring_write(r, "before ", 7);
	console_ring_close(r);
	r = console_ring_open(path, NULL);
	console_ring_write(r, "after", 5);
	g_assert_cmpuint(console_ring_end(r), ==, 12);
	text = ring_text(r, 0, &lost);
	g_assert_cmpstr(text, ==, "before after");
	g_assert_cmpuint(lost, ==, 0);
	console_ring_close(r);
	dir_remove(dir, NULL);
}

/* Against a plain array: random writes, random reads. */
static void test_a_ring_holds_the_last_bytes_whatever_is_written(void)
{
	g_autofree char *dir = g_dir_make_tmp("ring-XXXXXX", NULL), *path = g_strconcat(dir, "/ring", NULL);
	g_autofree char *chunk = g_malloc(3 * CONSOLE_RING_SIZE), *got = g_malloc(CONSOLE_RING_SIZE);
	ConsoleRing *r = console_ring_open(path, NULL);
	g_autoptr(GByteArray) all = g_byte_array_new();

	for (unsigned i = 0; i < 200; i++) {
		size_t n = (size_t)g_test_rand_int_range(0, i % 20 == 0 ? 3 * CONSOLE_RING_SIZE : 5000);
		uint64_t at, from, lost, begin;

		for (size_t k = 0; k < n; k++)
			chunk[k] = (char)g_test_rand_int();
		console_ring_write(r, chunk, n);
		g_byte_array_append(all, (const guint8 *)chunk, (guint)n);
		g_assert_cmpuint(console_ring_end(r), ==, all->len);
		begin = all->len > CONSOLE_RING_SIZE ? all->len - CONSOLE_RING_SIZE : 0;
		g_assert_cmpuint(console_ring_begin(r), ==, begin);
		at = from = (uint64_t)g_test_rand_int_range(0, (gint32)all->len + 1);
		n = console_ring_read(r, &at, got, (size_t)g_test_rand_int_range(0, CONSOLE_RING_SIZE),
				      &lost);
		g_assert_cmpuint(lost, ==, from < begin ? begin - from : 0);
		g_assert_cmpuint(at, ==, from + lost + n);
		g_assert_cmpint(memcmp(got, all->data + from + lost, n), ==, 0);
	}
	console_ring_close(r);
	dir_remove(dir, NULL);
}

static void test_a_file_that_is_no_ring_becomes_one(void)
{
	static const char *const contents[] = { "", "short", "PLMRING1" };
	g_autofree char *dir = g_dir_make_tmp("ring-XXXXXX", NULL), *path = g_strconcat(dir, "/ring", NULL);

	for (size_t i = 0; i < G_N_ELEMENTS(contents); i++) {
		ConsoleRing *r;

		g_assert_true(file_write_atomic(path, contents[i], strlen(contents[i]), 0600, NULL));
		r = console_ring_open(path, NULL);
		g_assert_nonnull(r);
		g_assert_cmpuint(console_ring_end(r), ==, 0);
		console_ring_close(r);
	}
	dir_remove(dir, NULL);
}

static void test_a_ring_that_cannot_be_is_refused(void)
{
	g_autofree char *dir = g_dir_make_tmp("ring-XXXXXX", NULL), *link = g_strconcat(dir, "/link", NULL);
	g_autoptr(GError) e = NULL;

	g_assert_null(console_ring_open("/no/such/folder/ring", &e));
	g_assert_error(e, ERR, ERR_NOT_FOUND);
	g_clear_error(&e);
	g_assert_null(console_ring_open(dir, &e));
	g_assert_nonnull(e);
	g_clear_error(&e);
	g_assert_cmpint(symlink("/etc/passwd", link), ==, 0);
	g_assert_null(console_ring_open(link, &e));
	g_assert_nonnull(e);
	dir_remove(dir, NULL);
}

/*
 * Readers
 */

typedef struct Rig {
	Loop *loop;
	char *dir, *sock, *ring;
	int listener, guest; /* what would be QEMU's */
	Console *console;
} Rig;

typedef struct Looker {
	ConsoleReader *reader;
	GString *seen;
	unsigned n_readable, n_writable, n_ended;
	uint64_t lost;
	bool lazy; /* reads when the test says so */
	bool detach_at_once;
} Looker;

static void fetch(Looker *l)
{
	char buf[1000];
	uint64_t lost;
	size_t n;

	while ((n = console_read(l->reader, buf, sizeof buf, &lost)) > 0) {
		g_string_append_len(l->seen, buf, (gssize)n);
		l->lost += lost;
	}
}

static void on_readable(void *data)
{
	Looker *l = data;

	l->n_readable++;
	if (l->detach_at_once)
		l->reader = console_detach(l->reader);
	else if (!l->lazy)
		fetch(l);
}

static void on_writable(void *data)
{
	((Looker *)data)->n_writable++;
}

static void on_ended(void *data)
{
	Looker *l = data;

	fetch(l);
	l->n_ended++;
}

static const ConsoleHandler handler = { .readable = on_readable, .writable = on_writable, .ended = on_ended };

static void rig_accept(Rig *r)
{
	r->guest = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
	g_assert_cmpint(r->guest, >=, 0);
}

static void rig_open(Rig *r)
{
	g_autoptr(GError) e = NULL;

	r->console = console_open(r->loop, r->sock, r->ring, &e);
	g_assert_no_error(e);
	rig_accept(r);
}

static void rig_init(Rig *r)
{
	g_autoptr(GError) e = NULL;

	*r = (Rig){ .loop = loop_new(NULL), .dir = g_dir_make_tmp("console-XXXXXX", NULL) };
	r->sock = g_strconcat(r->dir, "/console.sock", NULL);
	r->ring = g_strconcat(r->dir, "/console.ring", NULL);
	r->listener = socket_listen(r->sock, &e);
	g_assert_no_error(e);
	rig_open(r);
}

static void rig_done(Rig *r)
{
	console_close(r->console);
	drive_idle(r->loop);
	close(r->guest);
	close(r->listener);
	loop_free(r->loop);
	dir_remove(r->dir, NULL);
	g_free(r->dir);
	g_free(r->sock);
	g_free(r->ring);
}

static void guest_says(Rig *r, const char *text)
{
	g_assert_cmpint(fd_write_all(r->guest, text, strlen(text)), ==, 0);
	drive_idle(r->loop);
}

static void look(Rig *r, Looker *l, uint64_t replay)
{
	*l = (Looker){ .seen = g_string_new(NULL) };
	l->reader = console_attach(r->console, replay, &handler, l);
	g_assert_cmpuint(l->n_readable, ==, 0);
}

static void look_away(Looker *l)
{
	console_detach(l->reader);
	g_string_free(l->seen, TRUE);
}

static void test_readers_see_what_was_and_what_comes(void)
{
	Looker all, some, none;
	Rig r;

	rig_init(&r);
	guest_says(&r, "hello ");
	look(&r, &all, CONSOLE_RING_SIZE);
	look(&r, &some, 3);
	look(&r, &none, 0);
	drive_idle(r.loop);
	g_assert_cmpstr(all.seen->str, ==, "hello ");
	g_assert_cmpstr(some.seen->str, ==, "lo ");
	g_assert_cmpuint(none.n_readable, ==, 0);
	guest_says(&r, "world");
	g_assert_cmpstr(all.seen->str, ==, "hello world");
	g_assert_cmpstr(some.seen->str, ==, "lo world");
	g_assert_cmpstr(none.seen->str, ==, "world");
	look_away(&some);
	guest_says(&r, "!");
	g_assert_cmpstr(all.seen->str, ==, "hello world!");
	look_away(&all);
	look_away(&none);
	rig_done(&r);
}

static void test_a_restarted_daemon_shows_the_old_lines(void)
{
	Looker l;
	Rig r;

	rig_init(&r);
	guest_says(&r, "before the restart\n");
	r.console = console_close(r.console);
	close(r.guest);
	rig_open(&r);
	guest_says(&r, "after it\n");
	look(&r, &l, CONSOLE_RING_SIZE);
	drive_idle(r.loop);
	g_assert_cmpstr(l.seen->str, ==, "before the restart\nafter it\n");
	look_away(&l);
	rig_done(&r);
}

static void test_a_slow_reader_holds_nobody_up_and_is_told_what_it_missed(void)
{
	g_autofree char *block = g_strnfill(50000, 'b');
	Looker slow, fast;
	Rig r;

	rig_init(&r);
	look(&r, &slow, 0);
	look(&r, &fast, 0);
	slow.lazy = true;
	for (unsigned i = 0; i < 4; i++)
		guest_says(&r, block);
	g_assert_cmpuint(fast.seen->len, ==, 200000);
	g_assert_cmpuint(fast.lost, ==, 0);
	g_assert_cmpuint(slow.n_readable, ==, 1); /* told once */
	fetch(&slow);
	g_assert_cmpuint(slow.seen->len, ==, CONSOLE_RING_SIZE);
	g_assert_cmpuint(slow.lost, ==, 200000 - CONSOLE_RING_SIZE);
	guest_says(&r, "x");
	g_assert_cmpuint(slow.n_readable, ==, 2); /* told again */
	look_away(&slow);
	look_away(&fast);
	rig_done(&r);
}

static void test_input_of_all_reaches_the_guest_and_is_bounded(void)
{
	g_autofree char *big = g_strnfill(1 << 20, 'i'), *got = g_malloc(1 << 20);
	Looker a, b;
	size_t taken, n = 0;
	Rig r;

	rig_init(&r);
	look(&r, &a, 0);
	look(&r, &b, 0);
	g_assert_cmpuint(console_write(a.reader, "one ", 4), ==, 4);
	g_assert_cmpuint(console_write(b.reader, "two", 3), ==, 3);
	g_assert_cmpint(recv(r.guest, got, 7, MSG_WAITALL), ==, 7);
	g_assert_cmpint(memcmp(got, "one two", 7), ==, 0);
	/* The guest does not read: what the socket takes, and then the bound. */
	for (taken = 0; (n = console_write(a.reader, big, 1 << 20)) > 0; taken += n)
		g_assert_cmpuint(taken, <, 8 << 20);
	g_assert_cmpuint(console_write(a.reader, "x", 1), ==, 0);
	g_assert_cmpuint(a.n_writable, ==, 0);
	for (n = 0; n < taken; n += (size_t)recv(r.guest, got, 1 << 20, 0))
		drive_idle(r.loop);
	drive_idle(r.loop);
	g_assert_cmpuint(a.n_writable, ==, 1);
	g_assert_cmpuint(b.n_writable, ==, 0);
	g_assert_cmpuint(console_write(a.reader, "x", 1), ==, 1);
	look_away(&a);
	look_away(&b);
	rig_done(&r);
}

static void test_a_lost_connection_is_made_again(void)
{
	g_autoptr(GError) e = NULL;
	Looker l;
	Rig r;

	rig_init(&r);
	look(&r, &l, 0);
	guest_says(&r, "one ");
	close(r.guest);
	drive_idle(r.loop);
	g_assert_cmpuint(console_write(l.reader, "x", 1), ==, 0); /* nobody is there */
	while (l.seen->len < 7) {
		struct timeval soon = { .tv_usec = 1000 };
		int fd;

		setsockopt(r.listener, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
		fd = accept4(r.listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			r.guest = fd;
			g_assert_cmpint(fd_write_all(fd, "two", 3), ==, 0);
		}
		loop_turn(r.loop, SECONDS / 100);
	}
	g_assert_cmpstr(l.seen->str, ==, "one two");
	look_away(&l);
	rig_done(&r);
}

static gint flooding;

static gpointer flood(gpointer data)
{
	g_autofree char *block = g_strnfill(65536, 'f');
	int fd = GPOINTER_TO_INT(data);

	while (g_atomic_int_get(&flooding))
		if (send(fd, block, 65536, MSG_NOSIGNAL) < 0)
			break;
	return NULL;
}

static void test_a_guest_that_floods_is_read_at_a_bounded_rate(void)
{
	uint64_t began, bytes, windows;
	GThread *t;
	Looker l;
	Rig r;

	rig_init(&r);
	look(&r, &l, 0);
	g_atomic_int_set(&flooding, 1);
	t = g_thread_new("flood", flood, GINT_TO_POINTER(r.guest));
	began = time_monotonic();
	do { /* on a busy machine the flood may take longer to come up */
		loop_turn(r.loop, SECONDS / 100);
		bytes = l.seen->len + l.lost;
		g_assert_cmpuint(time_monotonic() - began, <, 120 * SECONDS);
	} while (time_monotonic() - began < 5 * CONSOLE_WINDOW || bytes < CONSOLE_RATE);
	windows = (time_monotonic() - began) / CONSOLE_WINDOW + 2;
	g_atomic_int_set(&flooding, 0);
	g_assert_cmpuint(bytes, <=, windows * (CONSOLE_RATE + STREAM_CHUNK));
	look_away(&l);
	r.console = console_close(r.console); /* which lets the flood's last block go */
	g_thread_join(t);
	rig_done(&r);
}

static void test_the_end_is_told_with_the_last_bytes(void)
{
	Looker l, gone;
	Rig r;

	rig_init(&r);
	look(&r, &l, 0);
	look(&r, &gone, 0);
	gone.detach_at_once = true;
	g_assert_cmpint(fd_write_all(r.guest, "last words", 10), ==, 0);
	r.console = console_close(r.console);
	g_assert_cmpstr(l.seen->str, ==, "last words");
	g_assert_cmpuint(l.n_ended, ==, 1);
	g_assert_cmpuint(gone.n_ended, ==, 0);
	g_assert_cmpuint(console_read(l.reader, (char[1]){ 0 }, 1, NULL), ==, 0);
	g_assert_cmpuint(console_write(l.reader, "x", 1), ==, 0);
	look_away(&l);
	look_away(&gone);
	rig_done(&r);
}

static Console *to_close;

static void close_it(void *data)
{
	(void)data;
	to_close = console_close(to_close);
}

static const ConsoleHandler closer = { .readable = close_it };

static void test_closing_and_leaving_inside_a_handler_is_safe(void)
{
	Looker before, after;
	ConsoleReader *c;
	Rig r;

	rig_init(&r);
	look(&r, &before, 0);
	c = console_attach(r.console, 0, &closer, NULL);
	look(&r, &after, 0);
	before.detach_at_once = true;
	to_close = r.console;
	guest_says(&r, "x");
	r.console = NULL;
	g_assert_null(before.reader);
	g_assert_cmpuint(after.n_ended, ==, 1);
	console_detach(c);
	look_away(&before);
	look_away(&after);
	rig_done(&r);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/console/ring/outlives", test_a_ring_outlives_who_wrote_it);
	g_test_add_func("/console/ring/random", test_a_ring_holds_the_last_bytes_whatever_is_written);
	g_test_add_func("/console/ring/no-ring", test_a_file_that_is_no_ring_becomes_one);
	g_test_add_func("/console/ring/refused", test_a_ring_that_cannot_be_is_refused);
	g_test_add_func("/console/readers", test_readers_see_what_was_and_what_comes);
	g_test_add_func("/console/restart", test_a_restarted_daemon_shows_the_old_lines);
	g_test_add_func("/console/slow", test_a_slow_reader_holds_nobody_up_and_is_told_what_it_missed);
	g_test_add_func("/console/input", test_input_of_all_reaches_the_guest_and_is_bounded);
	g_test_add_func("/console/lost", test_a_lost_connection_is_made_again);
	g_test_add_func("/console/flood", test_a_guest_that_floods_is_read_at_a_bounded_rate);
	g_test_add_func("/console/end", test_the_end_is_told_with_the_last_bytes);
	g_test_add_func("/console/close-inside", test_closing_and_leaving_inside_a_handler_is_safe);
	return g_test_run();
}
