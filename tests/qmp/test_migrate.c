/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that move between two real QEMUs. Whatever goes wrong, and whenever:
 * the guest is whole and on exactly one side.
 *
 * The guest writes memory all the time and checks what it wrote. Its RAM is no
 * multiple of 256 KiB: QEMU 7.2 loses writes under TCG otherwise (docs/payload.md).
 */
#include "base/fd.h"
#include "base/time.h"
#include "drive.h"
#include "engine/migrate_in.h"
#include "engine/migrate_link.h"
#include "engine/migrate_out.h"
#include "engine/vm_ops.h"
#include "vmm_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define MEMORY "32640K"
#define DISK_SIZE (UINT64_C(6) << 20)
#define WAIT (120 * SECONDS)

/* Where something is done to a migration. */
typedef enum Stage {
	STAGE_DISKS,   /* while disks are copied */
	STAGE_MEMORY,  /* while memory is copied */
	STAGE_STOPPED, /* the guest stands still */
	STAGE_WHOLE,   /* both sides have it */
	STAGE_NEVER,
} Stage;

typedef enum Blow { BLOW_CANCEL, BLOW_KILL_THERE, BLOW_KILL_HERE, BLOW_CUT } Blow;

/* A link that breaks. */
typedef struct Relay {
	int listen;
	unsigned to;
	gint left;  /* bytes that it moves still */
	bool hangs; /* then, rather than to break */
	gint stop;
	GThread *thread;
} Relay;

typedef struct Move {
	VmmRig rig;
	RigVm here, there;
	bool disks, alone;
	char *disk_here, *disk_there, *key_dir;
	const char *node[2];
	struct migrate_in_ports ports;
	struct migrate_out_spec spec;
	Stage at; /* of the blow */
	Blow blow;
	bool struck;
	Relay relay;
	gint cut_after; /* bytes */
	unsigned n_progress;
	struct migrate_stats stats;
	GError *error;
} Move;

/* ---- the two QEMUs ---- */

static void add_disk(RigVm *v, const char *path)
{
	g_autofree char *file = g_strdup_printf("driver=file,node-name=root-file,filename=%s", path);

	rig_vm_add_pair(v, "-blockdev", file);
	rig_vm_add_pair(v, "-blockdev", "driver=raw,node-name=root,file=root-file");
	rig_vm_add_pair(v, "-device", "virtio-blk-pci,drive=root");
}

static char *console_path(const RigVm *v)
{
	return g_build_filename(v->dir, "console", NULL);
}

static void make_vm(Move *m, RigVm *v, const char *name, const char *job, const char *disk)
{
	g_autofree char *console = NULL, *chardev = NULL;

	rig_vm_init(v, &m->rig, name, job);
	console = console_path(v);
	chardev = g_strdup_printf("file,id=con,path=%s", console);
	rig_vm_add_pair(v, "-m", MEMORY);
	rig_vm_add_pair(v, "-chardev", chardev);
	rig_vm_add_pair(v, "-device", "isa-debugcon,iobase=0xe9,chardev=con");
	if (m->disks)
		add_disk(v, disk);
}

static char *make_disk(Move *m, const char *name, bool filled)
{
	char *path = g_build_filename(m->rig.dir, name, NULL);
	g_autofree char *bytes = g_malloc0(DISK_SIZE);
	g_autoptr(GError) e = NULL;

	if (filled)
		random_bytes(bytes, DISK_SIZE);
	g_file_set_contents(path, bytes, DISK_SIZE, &e);
	g_assert_no_error(e);
	return path;
}

static bool on_ended(void *data, GError **err);
static void on_progress(unsigned percent, uint64_t left, const struct migrate_sample *x, void *data);

static bool move_init(Move *m, const char *job, bool disks)
{
	*m = (Move){ .disks = disks, .at = STAGE_NEVER };
	if (!vmm_rig_init(&m->rig))
		return false;
	m->disk_here = make_disk(m, "here.raw", true);
	m->disk_there = make_disk(m, "there.raw", false);
	m->key_dir = g_build_filename(m->rig.dir, "key", NULL);
	m->node[0] = disks ? "root" : NULL;
	make_vm(m, &m->here, "here", job, m->disk_here);
	rig_vm_must_launch(&m->here);
	make_vm(m, &m->there, "there", job, m->disk_there);
	rig_vm_add_pair(&m->there, "-incoming", "defer");
	rig_vm_add(&m->there, "-S");
	m->spec = (struct migrate_out_spec){ .host = "127.0.0.1",
					     .key_dir = m->key_dir,
					     .node = m->node,
					     .ended = on_ended,
					     .progress = on_progress,
					     .data = m };
	migrate_settings_init(&m->spec.settings);
	return true;
}

static void move_done(Move *m)
{
	rig_vm_done(&m->here);
	rig_vm_done(&m->there);
	vmm_rig_done(&m->rig);
	g_free(m->disk_here);
	g_free(m->disk_there);
	g_free(m->key_dir);
	g_clear_error(&m->error);
}

/* ---- what the guest says ---- */

static char *console_text(const RigVm *v)
{
	g_autofree char *path = console_path(v);
	char *text = NULL;

	g_file_get_contents(path, &text, NULL, NULL);
	return text != NULL ? text : g_strdup("");
}

/* The lines of `dirty`, each checked: nothing the guest wrote was lost. */
static unsigned good_lines(const RigVm *v)
{
	g_autofree char *text = console_text(v);
	g_auto(GStrv) line = g_strsplit(text, "\n", -1);
	unsigned n = 0;

	for (char **l = line; *l != NULL && l[1] != NULL; l++) {
		uint64_t pages, ns, bad;

		g_assert_null(strstr(*l, "error"));
		if (sscanf(*l, "dirty %lu %lu %lu", &pages, &ns, &bad) != 3)
			continue;
		g_assert_cmpuint(bad, ==, 0);
		n++;
	}
	return n;
}

/* Until the guest of `v` has written `more` further lines. Turns the loop. */
static void wait_lines(Move *m, const RigVm *v, unsigned more)
{
	uint64_t until = time_monotonic() + WAIT;
	unsigned want = good_lines(v) + more;

	while (good_lines(v) < want) {
		g_assert_cmpuint(time_monotonic(), <, until);
		loop_turn(m->rig.loop, SECONDS / 50);
	}
}

/* ---- the move ---- */

static void strike(Move *m)
{
	g_autoptr(GError) e = NULL;

	m->struck = true;
	if (m->blow == BLOW_KILL_THERE)
		vmm_kill(m->there.vmm, 120 * SECONDS, &e);
	else if (m->blow == BLOW_KILL_HERE)
		vmm_kill(m->here.vmm, 120 * SECONDS, &e);
	else if (m->blow == BLOW_CUT)
		g_atomic_int_set(&m->relay.left, m->cut_after);
	g_assert_no_error(e);
}

static bool on_ended(void *data, GError **err)
{
	Move *m = data;

	if (m->struck && m->blow == BLOW_CANCEL)
		return fail(err, ERR_CANCELLED, "cancelled by the test"), true;
	return false;
}

static void on_progress(unsigned percent, uint64_t left, const struct migrate_sample *x, void *data)
{
	Move *m = data;
	Stage now = x->total == 0 ? STAGE_DISKS : STAGE_MEMORY;

	(void)left;
	g_assert_cmpuint(percent, <=, 100);
	m->n_progress++;
	if (now == m->at && !m->struck)
		strike(m);
}

static bool reach(Move *m, Stage stage)
{
	if (m->at == stage && !m->struck)
		strike(m);
	return !on_ended(m, &m->error);
}

static bool open_there(Move *m)
{
	g_autofree char *key = migrate_key_new();
	struct migrate_in_spec in = { .address = "127.0.0.1", .key_dir = m->key_dir, .node = m->node };

	return migrate_key_write(m->key_dir, key, NULL, &m->error) &&
	       migrate_in_open(m->there.vmm, &in, &m->ports, &m->error);
}

static void open_there_only(void *data)
{
	open_there(data);
}

/* What the sender has is another key than what the receiver loaded. */
static void change_key(void *data)
{
	Move *m = data;
	g_autofree char *key = migrate_key_new();

	g_free(m->key_dir);
	m->key_dir = g_build_filename(m->rig.dir, "key2", NULL);
	m->spec.key_dir = m->key_dir;
	migrate_key_write(m->key_dir, key, NULL, &m->error);
}

static void move_to_whole(void *data)
{
	Move *m = data;
	g_autoptr(MigrateOut) out = NULL;

	if (m->ports.memory == 0 && !open_there(m))
		return;
	if (m->spec.memory == 0) {
		m->spec.memory = m->ports.memory;
		m->spec.disks = m->ports.disks;
	}
	out = migrate_out_new(m->here.vmm, &m->spec);
	if (migrate_out_send(out, &m->error) && reach(m, STAGE_STOPPED) &&
	    migrate_out_release(out, &m->error) && migrate_out_wait(out, &m->error))
		reach(m, STAGE_WHOLE);
	migrate_out_stats(out, &m->stats);
}

static void finish_there(void *data)
{
	Move *m = data;

	struct migrate_in_end how = { .disks = m->disks, .alone = m->alone, .run = true, .timeout = WAIT };
	struct migrate_in_result got;

	if (migrate_in_finish(m->there.vmm, &how, &got, &m->error)) {
		g_assert_cmpuint(got.ran_at, >, 0);
		g_assert_cmpuint(got.ran_at, <=, time_monotonic());
	}
}

static void revert_here(void *data)
{
	Move *m = data;

	migrate_out_revert(m->here.vmm, m->node, true, &m->error);
}

static void run_on(Move *m, void (*func)(void *data))
{
	drive_worker(m->rig.loop, func, m);
}

/* As migrate_in_finish() does, without waiting for what only comes afterwards. */
static void tell_early(void *data)
{
	Move *m = data;

	vm_resume(m->there.vmm, &m->error);
}

struct asked {
	Vmm *vmm;
	char *status;
	bool gave_up;
};

static void ask(void *data)
{
	struct asked *a = data;

	a->status = vm_status(a->vmm, NULL);
}

/* "" when there is no QEMU any more. Caller frees. */
static char *status_of(Move *m, const RigVm *v)
{
	struct asked a = { .vmm = v->vmm };

	drive_worker(m->rig.loop, ask, &a);
	return a.status != NULL ? a.status : g_strdup("");
}

static void assert_status(Move *m, const RigVm *v, const char *want)
{
	uint64_t until = time_monotonic() + WAIT;
	g_autofree char *status = status_of(m, v);

	/* QEMU says that it completed a moment before it lets go, and the other end needs a moment to take
	 * it. */
	while ((g_str_equal(status, "finish-migrate") || g_str_equal(status, "inmigrate")) &&
	       time_monotonic() < until) {
		g_free(status);
		status = status_of(m, v);
	}
	g_assert_cmpstr(status, ==, want);
}

static void assert_status_now(Move *m, const RigVm *v, const char *want)
{
	g_autofree char *status = status_of(m, v);

	g_assert_cmpstr(status, ==, want);
}

static void assert_same_disks(const Move *m)
{
	g_autofree char *a = NULL, *b = NULL;
	gsize la, lb;

	g_assert_true(g_file_get_contents(m->disk_here, &a, &la, NULL));
	g_assert_true(g_file_get_contents(m->disk_there, &b, &lb, NULL));
	g_assert_cmpuint(la, ==, lb);
	g_assert_true(memcmp(a, b, la) == 0);
}

/* ---- it works ---- */

static void moves(bool disks)
{
	Move m;

	if (!move_init(&m, "job=dirty:40:12", disks))
		return;
	wait_lines(&m, &m.here, 1);
	rig_vm_must_launch(&m.there);
	run_on(&m, move_to_whole);
	g_assert_no_error(m.error);
	assert_status(&m, &m.here, "postmigrate");
	assert_status(&m, &m.there, "paused");
	g_assert_cmpuint(good_lines(&m.there), ==, 0);
	run_on(&m, finish_there);
	g_assert_no_error(m.error);
	wait_lines(&m, &m.there, 1);
	assert_status(&m, &m.here, "postmigrate");
	g_assert_cmpuint(m.stats.rounds, >=, 2);
	g_assert_cmpuint(m.stats.bytes, >, 12 << 20);
	g_assert_cmpuint(m.stats.memory, >=, 32640 << 10);
	g_assert_cmpuint(m.stats.stopped_at, >, 0);
	g_assert_true(disks == (m.stats.disk_bytes == DISK_SIZE));
	if (disks)
		assert_same_disks(&m);
	move_done(&m);
}

static void test_a_writing_guest_moves_without_losing_a_write(void)
{
	moves(false);
}

static void test_a_disk_moves_along(void)
{
	moves(true);
}

/* ---- it does not work: the guest stays, wherever it was ---- */

static const struct {
	const char *what;
	Stage at;
	Blow blow;
	bool disks;
} blows[] = {
	{ "cancelled_while_disks_are_copied", STAGE_DISKS, BLOW_CANCEL, true },
	{ "cancelled_while_memory_is_copied", STAGE_MEMORY, BLOW_CANCEL, false },
	{ "cancelled_while_it_stands_still", STAGE_STOPPED, BLOW_CANCEL, true },
	{ "cancelled_when_both_have_it", STAGE_WHOLE, BLOW_CANCEL, false },
	{ "cancelled_when_both_have_it_and_its_disk", STAGE_WHOLE, BLOW_CANCEL, true },
	{ "there_killed_while_disks_are_copied", STAGE_DISKS, BLOW_KILL_THERE, true },
	{ "there_killed_while_memory_is_copied", STAGE_MEMORY, BLOW_KILL_THERE, false },
	{ "there_killed_with_disks_while_memory_is_copied", STAGE_MEMORY, BLOW_KILL_THERE, true },
	{ "there_killed_while_it_stands_still", STAGE_STOPPED, BLOW_KILL_THERE, true },
	{ "there_killed_when_both_have_it", STAGE_WHOLE, BLOW_KILL_THERE, false },
};

static void test_it_stays(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	Move m;

	if (!move_init(&m, "job=dirty:40:12", blows[i].disks))
		return;
	m.at = blows[i].at;
	m.blow = blows[i].blow;
	m.spec.settings.bandwidth = 8 << 20; /* long enough to be hit */
	m.spec.settings.auto_converge = false;
	m.spec.settings.downtime = 10 * SECONDS;
	wait_lines(&m, &m.here, 1);
	rig_vm_must_launch(&m.there);
	run_on(&m, move_to_whole);
	g_assert_true(m.struck);
	if (blows[i].at != STAGE_WHOLE || blows[i].blow == BLOW_CANCEL)
		g_assert_nonnull(m.error);
	g_clear_error(&m.error);
	run_on(&m, revert_here);
	g_assert_no_error(m.error);
	assert_status(&m, &m.here, "running");
	wait_lines(&m, &m.here, 1);
	g_assert_cmpuint(good_lines(&m.there), ==, 0);
	/* and once more is fine */
	run_on(&m, revert_here);
	g_assert_no_error(m.error);
	move_done(&m);
}

/* A sender that dies takes its guest along: the receiver has a part of it and ends. */
static void test_a_receiver_ends_when_its_sender_dies(void)
{
	Move m;

	if (!move_init(&m, "job=dirty:40:12", false))
		return;
	m.at = STAGE_MEMORY;
	m.blow = BLOW_KILL_HERE;
	m.spec.settings.bandwidth = 8 << 20;
	wait_lines(&m, &m.here, 1);
	rig_vm_must_launch(&m.there);
	run_on(&m, move_to_whole);
	/* Its end is seen at its process or at its monitor, whichever comes first. */
	g_assert_true(g_error_matches(m.error, ERR, ERR_GONE) ||
		      g_error_matches(m.error, ERR, ERR_UNAVAILABLE));
	drive_until_count(m.rig.loop, &m.rig.n_exited, 2);
	g_assert_cmpuint(good_lines(&m.there), ==, 0);
	move_done(&m);
}

/* One that has all of it stands still: whoever owns the guest decides. */
static void test_a_receiver_that_has_all_waits_for_its_owner(void)
{
	Move m;

	if (!move_init(&m, "job=dirty:40:12", false))
		return;
	m.at = STAGE_WHOLE;
	m.blow = BLOW_KILL_HERE;
	wait_lines(&m, &m.here, 1);
	rig_vm_must_launch(&m.there);
	run_on(&m, move_to_whole);
	drive_until_count(m.rig.loop, &m.rig.n_exited, 1);
	assert_status(&m, &m.there, "paused");
	run_on(&m, finish_there);
	g_assert_no_error(m.error);
	wait_lines(&m, &m.there, 1);
	move_done(&m);
}

/* ---- the link: a relay that breaks after some bytes ---- */

#define RELAY_BYTES (4 << 20)

static int loopback(unsigned *port, bool listens)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(fd, >=, 0);
	a.sin_port = htons(listens ? 0 : (uint16_t)*port);
	if (!listens) {
		g_assert_cmpint(connect(fd, (struct sockaddr *)&a, len), ==, 0);
		return fd;
	}
	g_assert_cmpint(bind(fd, (struct sockaddr *)&a, len), ==, 0);
	g_assert_cmpint(listen(fd, 1), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)&a, &len), ==, 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* Moves what there is; false at the end of the stream. */
static bool relay_some(Relay *r, int from, int to)
{
	char bytes[4096];
	ssize_t n = read(from, bytes, (size_t)CLAMP(g_atomic_int_get(&r->left), 1, (gint)sizeof bytes));

	if (n <= 0)
		return false;
	g_atomic_int_add(&r->left, -(gint)n);
	return fd_write_all(to, bytes, (size_t)n) == 0;
}

static gpointer relay_run(gpointer data)
{
	Relay *r = data;
	_cleanup_close_ int in = accept(r->listen, NULL, NULL), out = loopback(&r->to, false);
	struct pollfd p[2] = { { .fd = in, .events = POLLIN }, { .fd = out, .events = POLLIN } };

	while (!g_atomic_int_get(&r->stop)) {
		bool full = g_atomic_int_get(&r->left) <= 0;

		if (full && !r->hangs)
			break;
		if (poll(p, full ? 0 : 2, 20) <= 0)
			continue;
		if ((p[0].revents != 0 && !relay_some(r, in, out)) ||
		    (p[1].revents != 0 && !relay_some(r, out, in)))
			break;
	}
	return NULL;
}

/* Both QEMUs are there, and what they will say to each other goes through the relay. */
static void relay_start(Move *m, gint left)
{
	wait_lines(m, &m->here, 1);
	rig_vm_must_launch(&m->there);
	m->spec.memory = 0;
	m->relay.listen = loopback(&m->spec.memory, true);
	m->relay.left = left;
	run_on(m, open_there_only);
	g_assert_no_error(m->error);
	m->relay.to = m->ports.memory;
	m->relay.thread = g_thread_new("relay", relay_run, &m->relay);
}

static void relay_stop(Move *m)
{
	g_atomic_int_set(&m->relay.stop, 1);
	g_thread_join(m->relay.thread);
	close(m->relay.listen);
}

static void assert_it_goes_on_here(Move *m)
{
	g_clear_error(&m->error);
	run_on(m, revert_here);
	g_assert_no_error(m->error);
	assert_status(m, &m->here, "running");
	wait_lines(m, &m->here, 1);
	g_assert_cmpuint(good_lines(&m->there), ==, 0);
}

static void link_breaks(bool hangs, ErrCode code)
{
	Move m;

	if (!move_init(&m, "job=dirty:40:12", false))
		return;
	if (hangs) /* else a guest that gets no CPU for a second would look like this too */
		m.spec.settings.stall = SECONDS;
	m.relay.hangs = hangs;
	relay_start(&m, RELAY_BYTES);
	run_on(&m, move_to_whole);
	g_assert_error(m.error, ERR, (int)code);
	g_clear_error(&m.error);
	run_on(&m, revert_here);
	relay_stop(&m);
	assert_it_goes_on_here(&m);
	move_done(&m);
}

static void test_a_link_that_is_cut_leaves_the_guest_here(void)
{
	link_breaks(false, ERR_QEMU);
}

static void test_a_link_that_hangs_is_noticed(void)
{
	link_breaks(true, ERR_UNAVAILABLE);
}

/* ---- a link that is cut while the guest stands still ---- */

static const gint cut_after[] = { 0, 1, 20000, 300000, G_MAXINT };

static void ask_gave_up(void *data)
{
	struct asked *a = data;

	a->gave_up = migrate_out_gave_up(a->vmm);
}

static bool gave_up(Move *m)
{
	struct asked a = { .vmm = m->here.vmm };

	drive_worker(m->rig.loop, ask_gave_up, &a);
	return a.gave_up;
}

/* Until the receiver has all of the guest, or has ended, which QEMU does that had a part of it. */
static bool arrived(Move *m)
{
	uint64_t until = time_monotonic() + WAIT;
	g_autofree char *status = status_of(m, &m->there);

	while (g_str_equal(status, "inmigrate")) {
		g_assert_cmpuint(time_monotonic(), <, until);
		g_free(status);
		status = status_of(m, &m->there);
	}
	return g_str_equal(status, "paused");
}

/* What the change of owner before the end relies on: a sender that gave up left no whole guest behind. */
static void test_a_sender_that_gives_up_has_not_sent_all(gconstpointer data)
{
	Move m;
	bool all;

	if (!move_init(&m, "job=dirty:40:2", false))
		return;
	m.at = STAGE_STOPPED;
	m.blow = BLOW_CUT;
	m.cut_after = *(const gint *)data;
	m.spec.settings.downtime = 2 * SECONDS;
	relay_start(&m, G_MAXINT);
	run_on(&m, move_to_whole);
	all = arrived(&m);
	relay_stop(&m);
	if (all) {
		g_assert_no_error(m.error);
		g_assert_false(gave_up(&m));
		assert_status(&m, &m.here, "postmigrate");
		run_on(&m, finish_there);
		g_assert_no_error(m.error);
		wait_lines(&m, &m.there, 1);
		assert_status(&m, &m.here, "postmigrate");
	} else {
		g_assert_cmpint(m.cut_after, !=, G_MAXINT);
		g_clear_error(&m.error);
		run_on(&m, finish_there);
		g_assert_nonnull(m.error);
		assert_it_goes_on_here(&m);
	}
	move_done(&m);
}

/* The guest was let go before all of it was there: it goes on when it is, and never in part. */
static void test_a_receiver_that_was_told_early_lets_go_a_whole_guest_only(void)
{
	Move m;

	if (!move_init(&m, "job=dirty:40:2", false))
		return;
	wait_lines(&m, &m.here, 1);
	rig_vm_must_launch(&m.there);
	run_on(&m, open_there_only);
	g_assert_no_error(m.error);
	m.alone = true;
	run_on(&m, tell_early);
	g_assert_no_error(m.error);
	assert_status_now(&m, &m.there, "inmigrate");
	g_assert_cmpuint(good_lines(&m.there), ==, 0);
	run_on(&m, move_to_whole);
	g_assert_no_error(m.error);
	wait_lines(&m, &m.there, 1);
	assert_status(&m, &m.here, "postmigrate");
	move_done(&m);
}

/* ---- a disk that does not fit there ---- */

static void test_a_full_disk_there_is_told_and_leaves_the_guest_here(void)
{
	g_autofree char *small = NULL;
	Move m;

	if (!move_init(&m, "job=dirty:40:12", true))
		return;
	small = g_build_filename(m.rig.dir, "small", NULL);
	g_assert_cmpint(mkdir(small, 0700), ==, 0);
	if (mount("tmpfs", small, "tmpfs", 0, "size=2m") < 0) {
		g_test_skip("mounting a small file system needs root");
		move_done(&m);
		return;
	}
	g_free(m.disk_there);
	m.disk_there = g_build_filename(small, "there.raw", NULL);
	g_assert_true(g_file_set_contents(m.disk_there, "", 0, NULL));
	g_assert_cmpint(truncate(m.disk_there, DISK_SIZE), ==, 0);
	rig_vm_done(&m.there);
	make_vm(&m, &m.there, "there2", "job=dirty:40:12", m.disk_there);
	rig_vm_add_pair(&m.there, "-incoming", "defer");
	rig_vm_add(&m.there, "-S");
	wait_lines(&m, &m.here, 1);
	rig_vm_must_launch(&m.there);
	run_on(&m, move_to_whole);
	g_assert_error(m.error, ERR, ERR_NO_SPACE);
	g_clear_error(&m.error);
	run_on(&m, revert_here);
	g_assert_no_error(m.error);
	assert_status(&m, &m.here, "running");
	wait_lines(&m, &m.here, 1);
	rig_vm_done(&m.there);
	m.there = (RigVm){ .rig = &m.rig };
	g_assert_cmpint(umount2(small, MNT_DETACH), ==, 0);
	make_vm(&m, &m.there, "none", "", m.disk_there); /* for move_done() */
	move_done(&m);
}

/* ---- keys ---- */

static void test_a_wrong_key_is_refused(void)
{
	Move m;

	if (!move_init(&m, "job=dirty:40:12", false))
		return;
	wait_lines(&m, &m.here, 1);
	rig_vm_must_launch(&m.there);
	run_on(&m, open_there_only);
	g_assert_no_error(m.error);
	m.spec.memory = m.ports.memory;
	run_on(&m, change_key);
	run_on(&m, move_to_whole);
	g_assert_nonnull(m.error);
	g_clear_error(&m.error);
	run_on(&m, revert_here);
	g_assert_no_error(m.error);
	assert_status(&m, &m.here, "running");
	move_done(&m);
}

static void test_a_key_is_nobody_elses(void)
{
	g_autofree char *dir = g_dir_make_tmp("key-XXXXXX", NULL),
			*path = g_build_filename(dir, "keys.psk", NULL),
			*group = g_build_filename(dir, "dh-params.pem", NULL), *key = migrate_key_new(),
			*other = migrate_key_new();
	g_autoptr(GError) e = NULL;
	struct stat st;

	g_assert_true(migrate_key_write(dir, key, NULL, &e));
	g_assert_cmpint(stat(path, &st), ==, 0);
	g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
	g_assert_true(g_file_test(group, G_FILE_TEST_IS_REGULAR));
	g_assert_cmpstr(key, !=, other);
	g_assert_false(migrate_key_write(dir, "secret", NULL, &e));
	g_assert_error(e, ERR, ERR_INVALID);
	g_assert_true(dir_remove(dir, NULL));
}

static void open_with_damaged_group(void *data)
{
	Move *m = data;
	g_autofree char *key = migrate_key_new(), *path = g_build_filename(m->key_dir, "dh-params.pem", NULL);
	struct migrate_in_spec in = { .address = "127.0.0.1", .key_dir = m->key_dir, .node = m->node };

	g_assert_true(migrate_key_write(m->key_dir, key, NULL, &m->error));
	g_assert_true(g_file_set_contents(path, "no group", -1, NULL));
	g_assert_false(migrate_in_open(m->there.vmm, &in, &m->ports, &m->error));
}

/* It would search for a prime of its own if it did not look at the file. */
static void test_qemu_takes_the_group_that_it_is_given(void)
{
	Move m;

	if (!move_init(&m, "job=idle", false))
		return;
	rig_vm_must_launch(&m.there);
	run_on(&m, open_with_damaged_group);
	g_assert_nonnull(m.error);
	g_assert_nonnull(strstr(m.error->message, "DH parameters"));
	g_clear_error(&m.error);
	run_on(&m, open_there_only);
	g_assert_no_error(m.error);
	move_done(&m);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/migrate/a_writing_guest_moves_without_losing_a_write",
			test_a_writing_guest_moves_without_losing_a_write);
	g_test_add_func("/migrate/a_disk_moves_along", test_a_disk_moves_along);
	g_test_add_func("/migrate/qemu_takes_the_group_that_it_is_given",
			test_qemu_takes_the_group_that_it_is_given);
	for (size_t i = 0; i < G_N_ELEMENTS(blows); i++) {
		g_autofree char *path = g_strdup_printf("/migrate/it_stays/%s", blows[i].what);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_it_stays);
	}
	g_test_add_func("/migrate/a_receiver_ends_when_its_sender_dies",
			test_a_receiver_ends_when_its_sender_dies);
	g_test_add_func("/migrate/a_receiver_that_has_all_waits_for_its_owner",
			test_a_receiver_that_has_all_waits_for_its_owner);
	g_test_add_func("/migrate/a_link_that_is_cut_leaves_the_guest_here",
			test_a_link_that_is_cut_leaves_the_guest_here);
	g_test_add_func("/migrate/a_link_that_hangs_is_noticed", test_a_link_that_hangs_is_noticed);
	for (size_t i = 0; i < G_N_ELEMENTS(cut_after); i++) {
		g_autofree char *path =
		    g_strdup_printf("/migrate/a_sender_that_gives_up_has_not_sent_all/%d", cut_after[i]);

		g_test_add_data_func(path, &cut_after[i], test_a_sender_that_gives_up_has_not_sent_all);
	}
	g_test_add_func("/migrate/a_receiver_that_was_told_early_lets_go_a_whole_guest_only",
			test_a_receiver_that_was_told_early_lets_go_a_whole_guest_only);
	g_test_add_func("/migrate/a_full_disk_there_is_told_and_leaves_the_guest_here",
			test_a_full_disk_there_is_told_and_leaves_the_guest_here);
	g_test_add_func("/migrate/a_wrong_key_is_refused", test_a_wrong_key_is_refused);
	g_test_add_func("/migrate/a_key_is_nobody_elses", test_a_key_is_nobody_elses);
	return g_test_run();
}
