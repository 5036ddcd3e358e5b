/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe on the host that runs the test, with its real QEMU, and with
 * QEMUs that misbehave: scripts that hand over to the real one.
 */
#include "base/fd.h"
#include "base/time.h"
#include "engine/probe.h"
#include "engine/sim.h"
#include "own_mounts.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define SECOND UINT64_C(1000000)

typedef struct Rig {
	char *dir;
	Folders folders;
	Store *local;
} Rig;

static void rig_up(Rig *r)
{
	g_autoptr(GError) e = NULL;

	r->dir = g_dir_make_tmp("test-probe-XXXXXX", &e);
	g_assert_no_error(e);
	g_assert_cmpint(chmod(r->dir, 0711), ==, 0);
	r->folders =
	    (Folders){ g_build_filename(r->dir, "state", NULL), g_build_filename(r->dir, "run", NULL),
		       g_build_filename(r->dir, "log", NULL) };
	g_assert_cmpint(g_mkdir(r->folders.state, 0711), ==, 0);
	g_assert_cmpint(g_mkdir(r->folders.run, 0711), ==, 0);
	r->local = store_open("mem:", &e);
	g_assert_no_error(e);
	g_unsetenv("PLIMSOLL_QEMU");
	g_setenv("PLIMSOLL_PAYLOAD", PAYLOAD, TRUE);
}

static unsigned files_in(const char *path)
{
	g_autoptr(GDir) d = g_dir_open(path, 0, NULL);
	unsigned n = 0;

	while (g_dir_read_name(d) != NULL)
		n++;
	return n;
}

/* Each test also finds that nothing stayed. */
static void rig_down(Rig *r)
{
	g_assert_cmpuint(files_in(r->folders.run), ==, 0);
	g_assert_cmpuint(files_in(r->folders.state), ==, 0);
	store_close(r->local);
	g_assert_true(dir_remove(r->dir, NULL));
	g_free(r->folders.state);
	g_free(r->folders.run);
	g_free(r->folders.log);
	g_free(r->dir);
}

/* A QEMU of our own: a shell script that ends with, or without, the real one. */
static void use_script(const Rig *r, const char *body)
{
	g_autofree char *path = g_build_filename(r->dir, "fake-qemu", NULL);
	g_autofree char *text = g_strdup_printf("#!/bin/sh\n"
						"REAL=%s\n"
						"case \"$*\" in *'-M none'*) exec $REAL \"$@\";; esac\n"
						"%s\n",
						QEMU, body);

	g_assert_true(file_write_atomic(path, text, strlen(text), 0755, NULL));
	g_setenv("PLIMSOLL_QEMU", path, TRUE);
}

static HostFacts *probed(Rig *r, bool fresh)
{
	g_autoptr(GError) e = NULL;
	HostFacts *h = (fresh ? host_probe_fresh : host_probe)(r->local, &r->folders, &e);

	g_assert_no_error(e);
	g_assert_nonnull(h);
	for (Accel a = 0; a < _ACCEL_MAX; a++)
		g_assert_true(h->accel[a].works == (h->accel[a].reason == NULL));
	return h;
}

/*
 * In a mount namespace of our own, /dev/kvm gets other rights, which the host
 * does not see. NULL when that was done, else why it was not.
 */
static const char *set_kvm_rights(const Rig *r, mode_t mode)
{
	g_autofree char *dir = g_build_filename(r->dir, "dev", NULL),
			*node = g_build_filename(dir, "kvm", NULL);
	struct stat st;

	if (stat("/dev/kvm", &st) < 0)
		return "there is no /dev/kvm";
	if (geteuid() != 0 || !own_mounts(0))
		return "needs the right to make a mount namespace";
	g_assert_cmpint(g_mkdir(dir, 0711), ==, 0);
	if (mount("tmpfs", dir, "tmpfs", 0, "mode=711") < 0)
		return "needs the right to mount a file system";
	if (mknod(node, S_IFCHR | mode, st.st_rdev) == 0 && chmod(node, mode) == 0 &&
	    mount(node, "/dev/kvm", NULL, MS_BIND, NULL) == 0) {
		if (mode != 0666 || access("/dev/kvm", R_OK | W_OK) == 0)
			return NULL;
		umount2("/dev/kvm", MNT_DETACH);
	}
	umount2(dir, MNT_DETACH);
	return "no other /dev/kvm can be made here";
}

static void give_kvm_back(const Rig *r)
{
	g_autofree char *dir = g_build_filename(r->dir, "dev", NULL);

	g_assert_cmpint(umount2("/dev/kvm", MNT_DETACH), ==, 0);
	g_assert_cmpint(umount2(dir, MNT_DETACH), ==, 0);
}

/* A /dev/kvm that whoever QEMU runs as may open; false, and the rig down, when there can be none. */
static bool rig_up_with_kvm(Rig *r)
{
	const char *why;

	rig_up(r);
	why = set_kvm_rights(r, 0666);
	if (why == NULL)
		return true;
	g_test_skip(why);
	rig_down(r);
	return false;
}

static void rig_down_with_kvm(Rig *r)
{
	give_kvm_back(r);
	rig_down(r);
}

static void test_the_host_is_known(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;

	rig_up(&r);
	h = probed(&r, false);
	g_assert_cmpstr(h->qemu, ==, QEMU);
	g_assert_true(g_ascii_isdigit(h->qemu_version[0]) && strchr(h->qemu_version, '.') != NULL);
	g_assert_nonnull(host_machine_find(h, "q35"));
	g_assert_true(g_str_has_prefix(host_machine_find(h, "q35")->name, "pc-q35-"));
	g_assert_cmpint((long)h->cpus, ==, sysconf(_SC_NPROCESSORS_ONLN));
	g_assert_cmpuint(h->memory, >, UINT64_C(256) << 20);
	g_assert_nonnull(h->cpu_vendor);
	g_assert_true((h->uefi.code == NULL) == (h->uefi.vars == NULL));
	g_assert_true(h->uefi.code == NULL || access(h->uefi.code, R_OK) == 0);
	rig_down(&r);
}

static void test_tcg_is_seen_to_work(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;

	rig_up(&r);
	h = probed(&r, false);
	g_assert_cmpstr(h->accel[ACCEL_TCG].reason, ==, NULL);
	rig_down(&r);
}

/* Whatever this host has: it works, or the reason names what was seen. */
static void test_kvm_works_or_says_why(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;

	rig_up(&r);
	h = probed(&r, false);
	g_test_message("kvm: %s", h->accel[ACCEL_KVM].works ? "works" : h->accel[ACCEL_KVM].reason);
	if (!h->accel[ACCEL_KVM].works)
		g_assert_nonnull(strstr(h->accel[ACCEL_KVM].reason, "/dev/kvm"));
	if (access("/dev/kvm", F_OK) != 0)
		g_assert_true(g_str_has_prefix(h->accel[ACCEL_KVM].reason, "there is no /dev/kvm"));
	rig_down(&r);
}

static void test_a_kvm_that_qemus_user_may_not_open_says_so(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;
	const char *why;

	rig_up(&r);
	why = set_kvm_rights(&r, 0600);
	if (why != NULL) {
		g_test_skip(why);
		rig_down(&r);
		return;
	}
	h = probed(&r, false);
	if (h->run_as == NULL)
		g_test_skip("there is no user " PROBE_USER);
	else
		g_assert_true(
		    g_str_has_prefix(h->accel[ACCEL_KVM].reason, "permission denied: the user " PROBE_USER));
	rig_down_with_kvm(&r);
}

/* What opens, opens as seen by QEMU's user too: the reason is what guest code was seen to do. */
static void test_a_kvm_that_opens_is_measured(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;

	if (!rig_up_with_kvm(&r))
		return;
	h = probed(&r, false);
	g_test_message("kvm: %s", h->accel[ACCEL_KVM].works ? "works" : h->accel[ACCEL_KVM].reason);
	if (!h->accel[ACCEL_KVM].works)
		g_assert_true(g_str_has_prefix(h->accel[ACCEL_KVM].reason, "/dev/kvm opens, but "));
	rig_down_with_kvm(&r);
}

static char *remembered(const Rig *r)
{
	g_autoptr(StoreItem) item = store_get(r->local, PROBE_KEY, NULL);

	g_assert_nonnull(item);
	return g_strdup(item->value);
}

/* The record is changed behind its back: who reads it tells the change, who tries again does not. */
static void test_what_was_found_is_kept_until_asked_afresh(void)
{
	Rig r;
	g_autoptr(HostFacts) first = NULL, second = NULL, third = NULL;
	g_autofree char *text = NULL, *changed = NULL;
	_cleanup_json_ Json *j = NULL;
	StoreTx *tx = store_tx_new();

	rig_up(&r);
	use_script(&r, "case \"$*\" in *accel=kvm*) echo 'not today' >&2; exit 1;; esac\nexec $REAL \"$@\"");
	first = probed(&r, false);
	text = remembered(&r);
	j = json_parse(text, strlen(text), NULL);
	json_put_bool(json_obj(j, "kvm"), "works", false);
	json_put_str(json_obj(j, "kvm"), "reason", "remembered");
	changed = json_print(j);
	store_tx_set(tx, PROBE_KEY, STORE_ANY, changed);
	g_assert_true(store_commit(r.local, tx, STORE_DURABLE, NULL, NULL));
	second = probed(&r, false);
	g_assert_cmpstr(second->accel[ACCEL_KVM].reason, ==, "remembered");
	third = probed(&r, true);
	g_assert_cmpstr(third->accel[ACCEL_KVM].reason, !=, "remembered");
	rig_down(&r);
}

static void test_another_qemu_is_tried_again(void)
{
	Rig r;
	g_autoptr(HostFacts) first = NULL, second = NULL;

	rig_up(&r);
	first = probed(&r, false);
	use_script(&r, "echo 'no guests today' >&2; exit 1");
	second = probed(&r, false);
	g_assert_true(first->accel[ACCEL_TCG].works);
	g_assert_false(second->accel[ACCEL_TCG].works);
	g_assert_nonnull(strstr(second->accel[ACCEL_TCG].reason, "no guests today"));
	rig_down(&r);
}

static bool process_named(const char *part)
{
	g_autoptr(GDir) d = g_dir_open("/proc", 0, NULL);
	const char *name;

	while ((name = g_dir_read_name(d)) != NULL) {
		g_autofree char *path = g_build_filename("/proc", name, "cmdline", NULL);
		gsize len = 0;
		g_autofree char *text =
		    g_ascii_isdigit(name[0]) ? file_read_virtual(path, 1 << 20, &len, NULL) : NULL;

		if (text != NULL && memmem(text, len, part, strlen(part)) != NULL)
			return true;
	}
	return false;
}

static void test_a_kvm_that_hangs_is_ended_in_time(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;
	uint64_t from;

	if (!rig_up_with_kvm(&r))
		return;
	use_script(&r, "case \"$*\" in *accel=kvm*) sleep 1000; sleep 1000;; esac\nexec $REAL \"$@\"");
	from = time_monotonic();
	h = probed(&r, false);
	g_assert_cmpuint(time_monotonic() - from, <, 500 * SECOND); /* the script sleeps for longer */
	g_assert_true(h->accel[ACCEL_TCG].works);
	g_assert_nonnull(
	    strstr(h->accel[ACCEL_KVM].reason, "no guest code came through: it was ended after"));
	g_assert_false(process_named(r.dir));
	/* The host may only have been busy: it is tried again. */
	g_assert_null(store_get(r.local, PROBE_KEY, NULL));
	rig_down_with_kvm(&r);
}

/* The second attempt gets a "KVM" as fast as TCG, which is enough. */
static void test_a_processor_that_kvm_refuses_is_asked_for_less(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;

	if (!rig_up_with_kvm(&r))
		return;
	use_script(
	    &r,
	    "case \"$*\" in *accel=kvm*'-cpu host -m'*) echo 'failed to set MSR 0x10a' >&2; exit 134;; esac\n"
	    "n=$#\n"
	    "while [ $n -gt 0 ]; do\n"
	    "  a=$1; shift; n=$((n - 1))\n"
	    "  case $a in *accel=kvm*) a=q35;; host*) a=max;; esac\n"
	    "  set -- \"$@\" \"$a\"\n"
	    "done\n"
	    "exec $REAL \"$@\"");
	h = probed(&r, false);
	g_assert_cmpstr(h->accel[ACCEL_KVM].reason, ==, NULL);
	rig_down_with_kvm(&r);
}

static void test_what_kvm_said_last_is_the_reason(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;

	if (!rig_up_with_kvm(&r))
		return;
	use_script(&r, "case \"$*\" in *accel=kvm*) echo first >&2; echo 'failed to set MSR 0x10a' >&2;\n"
		       "exit 134;; esac\nexec $REAL \"$@\"");
	h = probed(&r, false);
	g_assert_nonnull(strstr(h->accel[ACCEL_KVM].reason, "failed to set MSR 0x10a"));
	g_assert_null(strstr(h->accel[ACCEL_KVM].reason, "first"));
	rig_down_with_kvm(&r);
}

static void test_without_the_payload_nothing_is_claimed(void)
{
	Rig r;
	g_autoptr(HostFacts) h = NULL;

	rig_up(&r);
	g_setenv("PLIMSOLL_PAYLOAD", "/nonexistent/payload.elf", TRUE);
	h = probed(&r, false);
	for (Accel a = 0; a < _ACCEL_MAX; a++)
		g_assert_nonnull(strstr(h->accel[a].reason, "/nonexistent/payload.elf"));
	rig_down(&r);
}

static void test_without_qemu_there_is_no_host(void)
{
	Rig r;
	g_autoptr(GError) e = NULL;

	rig_up(&r);
	g_setenv("PLIMSOLL_QEMU", "/nonexistent/qemu", TRUE);
	g_assert_null(host_probe(r.local, &r.folders, &e));
	g_assert_cmpint(err_code(e), ==, ERR_NOT_FOUND);
	g_assert_nonnull(err_advice(e));
	rig_down(&r);
}

static void test_what_is_no_qemu_is_refused(void)
{
	Rig r;
	g_autoptr(GError) e = NULL;

	rig_up(&r);
	g_setenv("PLIMSOLL_QEMU", "/bin/true", TRUE);
	g_assert_null(host_probe(r.local, &r.folders, &e));
	g_assert_cmpint(err_code(e), ==, ERR_QEMU);
	rig_down(&r);
}

static void test_simulated_facts_are_a_whole_record(void)
{
	g_autoptr(HostFacts) h = sim_facts(), back = NULL;
	_cleanup_json_ Json *j = NULL;
	g_autoptr(GError) e = NULL;

	h->name = g_strdup("sim");
	h->folders = (Folders){ g_strdup("/s"), g_strdup("/r"), g_strdup("/l") };
	j = host_facts_to_json(h);
	back = host_facts_of_json(j, &e);
	g_assert_no_error(e);
	g_assert_true(back->accel[ACCEL_TCG].works);
	g_assert_cmpstr(back->accel[ACCEL_KVM].reason, ==, "simulated host");
	g_assert_cmpstr(host_machine_find(back, "pc")->name, ==, "pc-i440fx-7.2");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/probe/" #name, test_##name)
	T(the_host_is_known);
	T(tcg_is_seen_to_work);
	T(kvm_works_or_says_why);
	T(a_kvm_that_qemus_user_may_not_open_says_so);
	T(a_kvm_that_opens_is_measured);
	T(what_was_found_is_kept_until_asked_afresh);
	T(another_qemu_is_tried_again);
	T(a_kvm_that_hangs_is_ended_in_time);
	T(a_processor_that_kvm_refuses_is_asked_for_less);
	T(what_kvm_said_last_is_the_reason);
	T(without_the_payload_nothing_is_claimed);
	T(without_qemu_there_is_no_host);
	T(what_is_no_qemu_is_refused);
	T(simulated_facts_are_a_whole_record);
#undef T
	return g_test_run();
}
