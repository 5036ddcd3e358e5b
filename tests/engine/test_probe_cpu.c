/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU probe on this host, with its real QEMU under TCG, and with QEMUs that
 * promise more than they keep: scripts that hand over to the real one.
 */
#include "base/fd.h"
#include "engine/cpu_raw.h"
#include "engine/probe_cpu.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Rig {
	char *dir;
	Folders folders;
	HostFacts *facts;
	Probe probe;
} Rig;

static void rig_up(Rig *r)
{
	g_autoptr(GError) e = NULL;

	*r = (Rig){ .dir = g_dir_make_tmp("test-probe-cpu-XXXXXX", &e) };
	g_assert_no_error(e);
	g_assert_cmpint(chmod(r->dir, 0711), ==, 0);
	r->folders = (Folders){ r->dir, g_build_filename(r->dir, "run", NULL), r->dir };
	g_assert_cmpint(g_mkdir(r->folders.run, 0711), ==, 0);
	r->facts = host_facts_new();
	r->facts->qemu = g_strdup(QEMU);
	r->probe = (Probe){ .facts = r->facts, .folders = &r->folders };
	g_setenv("PLIMSOLL_PAYLOAD", PAYLOAD, TRUE);
}

/* Each test also finds that no copy of the payload stayed. */
static void rig_down(Rig *r)
{
	g_assert_cmpint(g_rmdir(r->folders.run), ==, 0);
	host_facts_free(r->facts);
	g_assert_true(dir_remove(r->dir, NULL));
	g_free(r->folders.run);
	g_free(r->dir);
}

static void use_script(Rig *r, const char *body)
{
	g_autofree char *path = g_build_filename(r->dir, "qemu", NULL),
			*text = g_strdup_printf("#!/bin/bash\nREAL=%s\n%s\n", QEMU, body);

	g_assert_true(file_write_atomic(path, text, strlen(text), 0755, NULL));
	g_free(r->facts->qemu);
	r->facts->qemu = g_steal_pointer(&path);
}

static bool has(const struct featureset *s, const char *name)
{
	const struct feature *f = feature_find(name);

	g_assert_nonnull(f);
	return cpu_bits_has(&s->has, f->id);
}

static void test_a_guest_sees_exactly_what_is_found(void)
{
	g_auto(CpuFound) f = { 0 }, again = { 0 };
	struct cpu_bits closed;
	Rig r;

	rig_up(&r);
	probe_cpu(&r.probe, ACCEL_TCG, NULL, &f);
	g_assert_cmpstr(f.reason, ==, NULL);
	g_assert_true(f.known);
	g_assert_true(has(&f.max, "sse2") && has(&f.max, "lm") && has(&f.max, "svm"));
	g_assert_cmpuint(f.max.phys_bits, ==, 40);
	g_assert_cmpuint(f.max.level, ==, 0xd);
	g_assert_cmpuint(f.max.xsave[0].size + f.max.xsave[1].size + f.max.xsave[2].size, >, 0);
	closed = f.max.has;
	g_assert_false(cpu_bits_close(&closed, CLOSE_HARD, NULL));
	/* What was found holds: one run. */
	probe_cpu(&r.probe, ACCEL_TCG, &f.max, &again);
	g_assert_true(again.known);
	g_assert_true(cpu_bits_equal(&again.max.has, &f.max.has));
	g_assert_cmpuint(json_array_size(again.dropped), ==, 0);
	rig_down(&r);
}

/* QEMU's list of features goes through sed; every other run is as `other` says. */
static void use_liar(Rig *r, const char *sed, const char *other)
{
	g_autofree char *body = g_strdup_printf(
	    "case \"$*\" in *'-M none'*) ;; *) %s ;; esac\n"
	    "for a in \"$@\"; do case \"$a\" in socket,*) fd=${a##*fd=};; esac; done\n"
	    "fd=${fd%%%%,*}\n"
	    "$REAL -nodefaults -no-user-config -display none -M none,accel=tcg -qmp stdio <&$fd |"
	    " sed -u '%s' >&$fd",
	    other, sed);

	use_script(r, body);
}

/* The real one does not start with what it did not list. */
static void test_what_qemu_promises_and_refuses_is_taken_away(void)
{
	g_auto(CpuFound) f = { 0 }, plain = { 0 };
	g_autofree char *text = NULL;
	Rig r;

	rig_up(&r);
	probe_cpu(&r.probe, ACCEL_TCG, NULL, &plain);
	use_liar(&r, "s/\"avx512f\": false/\"avx512f\": true/; s/\"avx512bw\": false/\"avx512bw\": true/",
		 "exec $REAL \"$@\"");
	probe_cpu(&r.probe, ACCEL_TCG, NULL, &f);
	g_assert_cmpstr(f.reason, ==, NULL);
	g_assert_true(f.known);
	g_assert_true(cpu_bits_equal(&f.max.has, &plain.max.has));
	g_assert_cmpuint(json_array_size(f.dropped), ==, 1);
	text = json_print(f.dropped);
	g_assert_nonnull(strstr(text, "\"avx512bw\""));
	g_assert_nonnull(strstr(text, "\"avx512f\""));
	g_assert_nonnull(strstr(text, "QEMU refuses"));
	rig_down(&r);
}

/* A QEMU that starts the guest with another CPU than it was told: guest code tells. */
static void test_what_guest_code_does_not_see_is_taken_away(void)
{
	g_auto(CpuFound) f = { 0 };
	Rig r;

	rig_up(&r);
	use_script(&r, "args=(); for a in \"$@\"; do args+=(\"${a/,avx2=on/}\"); done\n"
		       "exec $REAL \"${args[@]}\"");
	probe_cpu(&r.probe, ACCEL_TCG, NULL, &f);
	g_assert_cmpstr(f.reason, ==, NULL);
	g_assert_true(f.known && !has(&f.max, "avx2") && has(&f.max, "avx"));
	rig_down(&r);
}

/* More than was asked for is no set to pin a guest to. */
static void test_a_guest_that_sees_more_is_an_error(void)
{
	g_auto(CpuFound) f = { 0 };
	Rig r;

	rig_up(&r);
	use_liar(&r, "s/\"sse4a\": true/\"sse4a\": false/",
		 "args=(); for a in \"$@\"; do args+=(\"${a/enforce/sse4a=on}\"); done;"
		 " exec $REAL \"${args[@]}\"");
	probe_cpu(&r.probe, ACCEL_TCG, NULL, &f);
	g_assert_false(f.known);
	g_assert_nonnull(strstr(f.reason, "sse4a"));
	rig_down(&r);
}

static void test_an_old_finding_that_no_longer_holds_is_searched_anew(void)
{
	g_auto(CpuFound) f = { 0 }, again = { 0 };
	struct featureset more;
	Rig r;

	rig_up(&r);
	probe_cpu(&r.probe, ACCEL_TCG, NULL, &f);
	more = f.max;
	cpu_bits_set(&more.has, feature_find("avx512f")->id);
	probe_cpu(&r.probe, ACCEL_TCG, &more, &again);
	g_assert_true(again.known);
	g_assert_true(cpu_bits_equal(&again.max.has, &f.max.has));
	rig_down(&r);
}

static void test_a_qemu_that_does_not_answer_is_a_reason(void)
{
	g_auto(CpuFound) f = { 0 };
	Rig r;

	rig_up(&r);
	use_script(&r, "exit 1");
	probe_cpu(&r.probe, ACCEL_TCG, NULL, &f);
	g_assert_false(f.known);
	g_assert_nonnull(f.reason);
	rig_down(&r);
}

static void test_every_cpu_is_visited_and_the_thread_comes_back(void)
{
	g_autoptr(GPtrArray) cpus = NULL;
	g_autoptr(GError) e = NULL;
	cpu_set_t before, after;

	g_assert_cmpint(sched_getaffinity(0, sizeof before, &before), ==, 0);
	cpus = cpu_raw_read(&e);
	g_assert_no_error(e);
	g_assert_cmpuint(cpus->len, ==, (guint)CPU_COUNT(&before));
	g_assert_cmpint(sched_getaffinity(0, sizeof after, &after), ==, 0);
	g_assert_true(CPU_EQUAL(&before, &after));
	for (guint i = 0; i < cpus->len; i++)
		g_assert_nonnull(cpuid_leaf_at(cpus->pdata[i], 1, 0));
}

static void test_the_digest_is_the_same_until_something_changes(void)
{
	_cleanup_json_ Json *a = NULL, *b = NULL, *c = NULL;
	g_autoptr(GError) e = NULL;
	Rig r;

	rig_up(&r);
	a = probe_cpu_digest(&r.probe, &e);
	g_assert_no_error(e);
	b = probe_cpu_digest(&r.probe, &e);
	g_assert_true(json_equal(a, b));
	g_assert_nonnull(json_str(a, "kernel"));
	use_script(&r, "exit 1");
	c = probe_cpu_digest(&r.probe, &e);
	g_assert_false(json_equal(a, c));
	g_assert_cmpstr(json_str(a, "cpuid"), ==, json_str(c, "cpuid"));
	rig_down(&r);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/probe-cpu/every-cpu", test_every_cpu_is_visited_and_the_thread_comes_back);
	if (QEMU[0] == '\0') {
		g_test_message("there is no QEMU to probe");
		return g_test_run();
	}
	g_test_add_func("/probe-cpu/exact", test_a_guest_sees_exactly_what_is_found);
	g_test_add_func("/probe-cpu/refused", test_what_qemu_promises_and_refuses_is_taken_away);
	g_test_add_func("/probe-cpu/unseen", test_what_guest_code_does_not_see_is_taken_away);
	g_test_add_func("/probe-cpu/more", test_a_guest_that_sees_more_is_an_error);
	g_test_add_func("/probe-cpu/old", test_an_old_finding_that_no_longer_holds_is_searched_anew);
	g_test_add_func("/probe-cpu/mute", test_a_qemu_that_does_not_answer_is_a_reason);
	g_test_add_func("/probe-cpu/digest", test_the_digest_is_the_same_until_something_changes);
	return g_test_run();
}
