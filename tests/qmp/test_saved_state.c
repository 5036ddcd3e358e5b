/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a suspended guest, when QEMU does not let the guest go on: against a scripted monitor. */
#include "base/fd.h"
#include "drive.h"
#include "engine/saved_state.h"
#include "fake_qmp.h"

#include <glib/gstdio.h>

#define SCHEMA SCHEMAS "/7.2.json"
#define STATUS(running, status)                                                                              \
	"{\"running\": " running ", \"singlestep\": false, \"status\": \"" status "\"}"
#define STANDS STATUS("false", "paused")
#define RUNS STATUS("true", "running")
#define STOPPED_BY_DISK STATUS("false", "io-error")

typedef struct Rig {
	Loop *loop;
	FakeQmp *fake;
	Qmp *qmp;
	char *dir, *path, *taken;
	SavedEnd end;
	GError *error;
} Rig;

static const QmpHandler handler = { 0 };

static void rig_init(Rig *r)
{
	*r = (Rig){ .loop = loop_new(NULL), .fake = fake_qmp_new(SCHEMA) };
	r->dir = g_dir_make_tmp("test-saved-XXXXXX", NULL);
	r->path = g_build_filename(r->dir, "state", NULL);
	r->taken = g_strconcat(r->path, ".taken", NULL);
	g_assert_true(file_write_atomic(r->path, "memory", 6, 0600, NULL));
	r->qmp = qmp_new(r->loop, &handler, r);
	fake_greet(r->fake);
}

static void run(void *data)
{
	Rig *r = data;

	g_assert_true(qmp_wait_ready(r->qmp, 60 * SECONDS, NULL));
	r->end = saved_state_run(r->qmp, r->path, 60 * SECONDS, &r->error);
}

/* Plays the script that was written down. */
static void rig_run(Rig *r)
{
	fake_start(r->fake);
	qmp_attach(r->qmp, fake_qmp_take_fd(r->fake));
	drive_worker(r->loop, run, r);
	g_assert_true((r->error == NULL) == (r->end == SAVED_RUNS));
}

static void assert_file(const Rig *r, bool there)
{
	g_assert_cmpint(access(r->path, F_OK) == 0, ==, there);
	g_assert_cmpint(access(r->taken, F_OK), ==, -1);
}

static void rig_done(Rig *r)
{
	qmp_close(r->qmp, NULL);
	fake_finish(r->fake);
	drive_idle(r->loop);
	loop_free(r->loop);
	g_clear_error(&r->error);
	g_assert_true(dir_remove(r->dir, NULL));
	g_free(r->dir);
	g_free(r->path);
	g_free(r->taken);
}

/* As a daemon leaves it that died when it had told QEMU, or was about to. */
static void take(const Rig *r)
{
	g_assert_cmpint(g_rename(r->path, r->taken), ==, 0);
}

static void test_a_guest_that_runs_needs_its_file_no_more(void)
{
	Rig r;

	rig_init(&r);
	fake_answer(r.fake, "query-status", NULL, STANDS);
	fake_answer(r.fake, "cont", NULL, "{}");
	rig_run(&r);
	g_assert_cmpint(r.end, ==, SAVED_RUNS);
	assert_file(&r, false);
	rig_done(&r);
}

static void test_a_guest_that_was_refused_to_run_keeps_its_file(void)
{
	Rig r;

	rig_init(&r);
	fake_answer(r.fake, "query-status", NULL, STANDS);
	fake_refuse(r.fake, "cont", "GenericError", "the disk is locked");
	fake_answer(r.fake, "query-status", NULL, STANDS);
	rig_run(&r);
	g_assert_cmpint(r.end, ==, SAVED_KEPT);
	g_assert_nonnull(strstr(err_advice(r.error), "kept"));
	assert_file(&r, true);
	rig_done(&r);
}

static void test_a_guest_that_ran_a_moment_never_runs_from_its_file_again(void)
{
	Rig r;

	rig_init(&r);
	fake_answer(r.fake, "query-status", NULL, STANDS);
	fake_refuse(r.fake, "cont", "GenericError", "no");
	fake_answer(r.fake, "query-status", NULL, STOPPED_BY_DISK);
	rig_run(&r);
	g_assert_cmpint(r.end, ==, SAVED_SPENT);
	g_assert_nonnull(strstr(err_advice(r.error), "--discard-state"));
	assert_file(&r, false);
	rig_done(&r);
}

static void test_a_qemu_that_is_lost_after_the_word_may_have_run_it(void)
{
	Rig r;

	rig_init(&r);
	fake_answer(r.fake, "query-status", NULL, STANDS);
	fake_hold(r.fake, "cont", NULL);
	fake_hang_up(r.fake);
	rig_run(&r);
	g_assert_cmpint(r.end, ==, SAVED_SPENT);
	assert_file(&r, false);
	rig_done(&r);
}

static void test_a_qemu_that_is_lost_before_the_word_did_not_run_it(void)
{
	Rig r;

	rig_init(&r);
	fake_hold(r.fake, "query-status", NULL);
	fake_hang_up(r.fake);
	rig_run(&r);
	g_assert_cmpint(r.end, ==, SAVED_KEPT);
	assert_file(&r, true);
	rig_done(&r);
}

static void test_the_next_daemon_goes_on_with_a_file_that_was_taken(void)
{
	static const char *const status[] = { STANDS, RUNS };

	for (size_t i = 0; i < G_N_ELEMENTS(status); i++) {
		Rig r;

		rig_init(&r);
		take(&r);
		fake_answer(r.fake, "query-status", NULL, status[i]);
		fake_answer(r.fake, "cont", NULL, "{}");
		rig_run(&r);
		g_assert_cmpint(r.end, ==, SAVED_RUNS);
		assert_file(&r, false);
		rig_done(&r);
	}
}

static void test_the_next_daemon_gives_a_file_back_whose_guest_never_ran(void)
{
	Rig r;

	rig_init(&r);
	take(&r);
	fake_answer(r.fake, "query-status", NULL, STANDS);
	fake_refuse(r.fake, "cont", "GenericError", "no");
	fake_answer(r.fake, "query-status", NULL, STANDS);
	rig_run(&r);
	g_assert_cmpint(r.end, ==, SAVED_KEPT);
	assert_file(&r, true);
	rig_done(&r);
}

static void test_without_a_qemu_the_name_tells(void)
{
	g_autofree char *dir = g_dir_make_tmp("test-saved-XXXXXX", NULL), *path = NULL, *taken = NULL;

	path = g_build_filename(dir, "state", NULL);
	taken = g_strconcat(path, ".taken", NULL);
	for (int i = 0; i < 2; i++) {
		g_autoptr(GError) e = NULL;
		bool fresh = i == 0;

		g_assert_true(file_write_atomic(fresh ? path : taken, "memory", 6, 0600, NULL));
		g_assert_cmpint(saved_state_run(NULL, path, 0, &e), ==, fresh ? SAVED_KEPT : SAVED_SPENT);
		g_assert_error(e, ERR, ERR_GONE);
		g_assert_nonnull(err_advice(e));
		g_assert_cmpint(access(path, F_OK) == 0, ==, fresh);
		g_assert_cmpint(access(taken, F_OK), ==, -1);
		g_assert_true(saved_state_remove(path, NULL));
	}
	g_assert_true(dir_remove(dir, NULL));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/saved-state/" #name, test_##name)
	T(a_guest_that_runs_needs_its_file_no_more);
	T(a_guest_that_was_refused_to_run_keeps_its_file);
	T(a_guest_that_ran_a_moment_never_runs_from_its_file_again);
	T(a_qemu_that_is_lost_after_the_word_may_have_run_it);
	T(a_qemu_that_is_lost_before_the_word_did_not_run_it);
	T(the_next_daemon_goes_on_with_a_file_that_was_taken);
	T(the_next_daemon_gives_a_file_back_whose_guest_never_ran);
	T(without_a_qemu_the_name_tells);
	return g_test_run();
}
