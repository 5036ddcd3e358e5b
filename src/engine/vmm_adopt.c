/* SPDX-License-Identifier: Apache-2.0 */
/* Taking up a QEMU that another daemon launched: a part of engine/vmm.h. Worker threads. */
#include "base/fd.h"
#include "base/time.h"
#include "engine/qemu_pid.h"
#include "engine/vmm-impl.h"

#include <poll.h>

/* Who it must be. */
typedef struct Identity {
	pid_t pid;
	uint64_t start; /* 0: not known */
} Identity;

static bool fail_gone(const struct vmm_known *known, GError **err, const char *how, int pid)
{
	return fail(err, ERR_GONE, "QEMU of '%s' is gone: %s %d", known->name, how, pid);
}

static bool read_identity(const struct vmm_known *known, Identity *ret, GError **err)
{
	int64_t pid = json_int(known->record, "pid", 0);
	g_autoptr(GError) e = NULL;

	if (known->record == NULL && qemu_pid_read(known->dir, &ret->pid, &e))
		return true;
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (known->record == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' never began", known->name);
	if (pid < 1 || pid > G_MAXINT)
		return fail(err, ERR_INVALID, "the record of '%s' has no process id", known->name);
	*ret = (Identity){ .pid = (pid_t)pid, .start = json_uint(known->record, "pid_start", 0) };
	return true;
}

bool vmm_check_free(const char *name, const char *uuid, const char *dir, GError **err)
{
	g_autoptr(GError) e = NULL;
	pid_t pid;

	if (qemu_pid_read(dir, &pid, &e) && qemu_pid_is(pid, uuid))
		return fail_advice(err, ERR_CONFLICT, "Restart the daemon: it takes up what runs.",
				   "QEMU of '%s' runs already (process %d)", name, (int)pid);
	if (e == NULL)
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* The pidfd is opened first: what /proc says after that, while it has not ended, is of the same process. */
static int open_process(const struct vmm_known *known, Identity *id, GError **err)
{
	_cleanup_close_ int pidfd = pidfd_of(id->pid);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	bool same;
	uint64_t start;

	if (pidfd == -ESRCH || pidfd == -EINVAL) {
		fail_gone(known, err, "there is no process", (int)id->pid);
		return -EBADF;
	}
	if (pidfd < 0) {
		fail_errno(err, -pidfd, "can't watch process %d", (int)id->pid);
		return -EBADF;
	}
	if (!process_start_time(id->pid, &start, NULL))
		start = 0;
	same = id->start != 0 ? start == id->start : qemu_pid_is(id->pid, known->uuid);
	if (poll(&p, 1, 0) != 0) {
		fail_gone(known, err, "there is no process", (int)id->pid);
		return -EBADF;
	}
	if (!same) {
		fail_gone(known, err, "another process has its number", (int)id->pid);
		return -EBADF;
	}
	id->start = start;
	return fd_take(&pidfd);
}

/* Is the guest behind the monitor ours? True when it can't be asked: the process is. */
static bool check_guest(Vmm *v, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(v->qmp, "query-uuid", NULL, timeout, NULL);

	if (reply == NULL || g_ascii_strcasecmp(json_str(reply, "UUID"), v->uuid) == 0)
		return true;
	return fail(err, ERR_GONE, "QEMU of '%s' is gone: the guest %s answers on its monitor", v->name,
		    json_str(reply, "UUID"));
}

static bool connect_adopted(Vmm *v, const struct vmm_known *known, uint64_t timeout, GError **err)
{
	uint64_t deadline = time_monotonic() + timeout, now;
	bool ready;

	vmm_watch(v);
	ready = vmm_wait_started(v, timeout);
	now = time_monotonic();
	if (ready && !check_guest(v, deadline > now ? deadline - now : 1, err))
		return false;
	/* With a record, number and start time are proof enough that it lives and is ours. */
	if (!ready && known->record == NULL)
		return fail_advice(
		    err, ERR_UNAVAILABLE, "If it hangs, end it by hand and start the vm again.",
		    "process %d may be QEMU of '%s', but its monitor does not answer", (int)v->pid, v->name);
	return vmm_go_live(v, !ready) ||
	       fail_gone(known, err, "it ended while it was taken up, process", (int)v->pid);
}

Vmm *vmm_adopt(VmmHost *host, const struct vmm_known *known, const VmmHandler *handler, void *data,
	       uint64_t timeout, GError **err)
{
	g_autoptr(Vmm) v = NULL;
	Identity id = { 0 };
	int pidfd;

	g_assert(!loop_on_thread(host->loop));
	if (!read_identity(known, &id, err))
		return NULL;
	pidfd = open_process(known, &id, err);
	if (pidfd < 0)
		return NULL;
	v = vmm_new(host, known->name, known->uuid, known->dir, known->log_path, id.pid, pidfd, handler,
		    data);
	v->pid_start = id.start;
	if (!connect_adopted(v, known, timeout, err)) {
		vmm_abandon(vmm_ref(v));
		return NULL;
	}
	return g_steal_pointer(&v);
}
