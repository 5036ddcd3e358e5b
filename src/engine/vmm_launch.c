/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a QEMU, and finding one again: a part of engine/vmm.h. Worker threads. */
#include "base/fd.h"
#include "base/socket.h"
#include "base/time.h"
#include "engine/vmm-impl.h"
#include "engine/vmm_argv.h"

#include <signal.h>

/* A guest with many disks and queues needs some hundreds. */
#define FILES_MAX 65536
#define DESCRIPTORS_MAX 128
/* For the kernel to end a process that was killed. */
#define KILL_TIMEOUT UINT64_C(10000000)

/* The descriptors of one command line; the ones made here are closed when QEMU has its copies. */
typedef struct Handover {
	const struct vmm_spec *spec;
	GPtrArray *name;
	int fd[DESCRIPTORS_MAX];
	bool own[DESCRIPTORS_MAX];
} Handover;

static void handover_clear(Handover *h)
{
	for (guint i = 0; h->name != NULL && i < h->name->len; i++)
		if (h->own[i])
			close(h->fd[i]);
	g_clear_pointer(&h->name, g_ptr_array_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Handover, handover_clear)

static int given_fd(const struct vmm_spec *spec, const char *name)
{
	for (size_t i = 0; i < spec->n_fds; i++)
		if (g_str_equal(spec->fds[i].name, name))
			return spec->fds[i].fd;
	return -EBADF;
}

static bool handover_fill(Handover *h, GError **err)
{
	for (guint i = 0; i < h->name->len; i++) {
		const char *name = h->name->pdata[i];
		g_autofree char *path = g_strdup_printf("%s/%s.sock", h->spec->dir, name);

		h->fd[i] = given_fd(h->spec, name);
		if (h->fd[i] >= 0)
			continue;
		h->fd[i] = socket_listen(path, err);
		if (h->fd[i] < 0)
			return false;
		h->own[i] = true;
	}
	return true;
}

/* Of an earlier start with other devices. */
static void remove_others(const Handover *h)
{
	static const char *const peripherals[] = { "agent", "console", "serial" };

	for (size_t i = 0; i < G_N_ELEMENTS(peripherals); i++) {
		g_autofree char *path = g_strdup_printf("%s/%s.sock", h->spec->dir, peripherals[i]);

		if (!g_ptr_array_find_with_equal_func(h->name, peripherals[i], g_str_equal, NULL))
			unlink(path);
	}
}

static bool handover_make(Handover *h, const struct vmm_spec *spec, GError **err)
{
	h->spec = spec;
	h->name = vmm_argv_names(spec->argv, err);
	if (h->name == NULL)
		return false;
	if (h->name->len > DESCRIPTORS_MAX)
		return fail(err, ERR_LIMIT, "QEMU of '%s' would need %u descriptors", spec->name,
			    h->name->len);
	if (!g_ptr_array_find_with_equal_func(h->name, "qmp", g_str_equal, NULL))
		return fail(err, ERR_INVALID, "the command line of '%s' has no monitor on @fd:qmp@",
			    spec->name);
	remove_others(h);
	return handover_fill(h, err);
}

static int handover_fd(const char *name, void *data)
{
	const Handover *h = data;

	for (guint i = 0; i < h->name->len; i++)
		if (g_str_equal(h->name->pdata[i], name))
			return h->fd[i];
	g_assert_not_reached();
}

/* "qemu-system-x86_64" is looked for, once, here and not in the child. */
static bool find_program(char **argv, GError **err)
{
	char *path;

	path = g_find_program_in_path(argv[0]); /* a path is only looked at */
	if (path == NULL)
		return fail_advice(err, ERR_NOT_FOUND, "Install the package qemu-system-x86.",
				   "there is no program '%s'", argv[0]);
	g_free(argv[0]);
	argv[0] = path;
	return true;
}

/*
 * One heap for all threads, given back soon when it is free: a heap of its own
 * for each of QEMU's threads keeps some 0.3 MB more (bench/density/overhead.py).
 */
static const char *const environment[] = {
	"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",          "MALLOC_ARENA_MAX=1",
	"MALLOC_TRIM_THRESHOLD_=131072",      "MALLOC_TOP_PAD_=0", NULL,
};

static Vmm *spawn_qemu(VmmHost *host, const Handover *h, const VmmHandler *handler, void *data, GError **err)
{
	const struct vmm_spec *spec = h->spec;
	g_auto(GStrv) argv = vmm_argv_expand(spec->argv, handover_fd, (void *)h);
	g_autofree char *pid_path = g_strdup_printf("%s/qemu.pid", spec->dir);
	_cleanup_close_ int log = vmm_log_open(spec->log_path, err);
	struct spawn s = {
		.argv = (const char *const *)argv,
		.envp = environment,
		.keep = h->fd,
		.n_keep = h->name->len,
		.output = log,
		.pid_path = pid_path,
		.user = host->change_user ? &host->user : NULL,
		.max_files = FILES_MAX,
	};
	pid_t pid;
	int pidfd;
	Vmm *v;

	if (log < 0 || !find_program(argv, err) || !vmm_log_begin(log, spec->name, s.argv, err) ||
	    !spawn_process(&s, &pid, &pidfd, err))
		return NULL;
	v = vmm_new(host, spec->name, spec->uuid, spec->dir, spec->log_path, pid, pidfd, handler, data);
	v->fresh = true;
	/* It is not reaped before the loop watches it, so it is there to be asked, dead or alive. */
	process_start_time(pid, &v->pid_start, NULL);
	return v;
}

static bool fail_ended(Vmm *v, GError **err)
{
	g_auto(VmmExit) e = { 0 };
	g_autofree char *how = NULL;
	const char *said;

	vmm_exit(v, &e);
	how = vmm_exit_print(&e);
	said = *e.last_words != '\0' ? e.last_words : "it said nothing";
	fail_advice(
	    err, ERR_QEMU,
	    "QEMU's own words say what it did not like; `plim vm explain` shows where each of its arguments comes from.",
	    "QEMU of '%s' ended before it was ready (%s): %s", v->name, how, said);
	return err_detail(err, "exit", vmm_exit_to_json(&e));
}

/* The process has not come to greet us. */
static bool fail_late(Vmm *v, GError **err)
{
	g_autoptr(GError) held = NULL;
	g_autofree char *words = NULL;

	if (!vmm_kill(v, KILL_TIMEOUT, &held)) {
		vmm_abandon(vmm_ref(v));
		g_propagate_error(err, g_steal_pointer(&held));
		return false;
	}
	words = vmm_log_last_words(v->log_path);
	return fail_advice(err, ERR_TIMEOUT,
			   "The host may be overloaded, or storage that QEMU opens may not answer.",
			   "QEMU of '%s' was not ready in time and was killed%s%s", v->name,
			   *words != '\0' ? "; it had said: " : "", words);
}

Vmm *vmm_launch(VmmHost *host, const struct vmm_spec *spec, const VmmHandler *handler, void *data,
		uint64_t timeout, GError **err)
{
	g_auto(Handover) h = { 0 };
	g_autoptr(Vmm) v = NULL;

	g_assert(!loop_on_thread(host->loop));
	if (!vmm_check_free(spec->name, spec->uuid, spec->dir, err) || !handover_make(&h, spec, err))
		return NULL;
	v = spawn_qemu(host, &h, handler, data, err);
	if (v == NULL)
		return NULL;
	/* While we hold the listening ends too, a QEMU that died would leave our monitor without an end. */
	handover_clear(&h);
	vmm_watch(v);
	if (!vmm_wait_started(v, timeout)) {
		fail_late(v, err);
		return NULL;
	}
	if (!vmm_go_live(v, false)) {
		fail_ended(v, err);
		return NULL;
	}
	return g_steal_pointer(&v);
}
