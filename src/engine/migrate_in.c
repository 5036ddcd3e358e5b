/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/migrate_in.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "engine/migrate_link.h"
#include "engine/vm_ops.h"
#include "engine/vmm_events.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#define LISTEN_NAME "migrate-disks"
#define DISK_CLIENTS_MAX 16
#define KILL_TIMEOUT UINT64_C(20000000)
/* Between two looks at a QEMU that says nothing, and at one whose guest is still being sent. */
#define TURN 10000
#define TURN_LONG 250000
/* One whose guest is being sent is busy with that; what happens it tells by itself. */
#define TURNS_UNASKED 8

/* ---- a socket for the disks: QEMU does not say which port it chose, so it gets one ---- */

static bool address_of(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len, GError **err)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof *ret);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		*ret_len = sizeof *v4;
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		*ret_len = sizeof *v6;
	} else {
		return fail(err, ERR_INVALID, "'%s' is no numeric address", text);
	}
	return true;
}

static unsigned port_of(const struct sockaddr_storage *a)
{
	return ntohs(a->ss_family == AF_INET ? ((const struct sockaddr_in *)a)->sin_port
					     : ((const struct sockaddr_in6 *)a)->sin6_port);
}

static int listen_on(const char *address, unsigned *ret_port, GError **err)
{
	struct sockaddr_storage a;
	socklen_t len;
	_cleanup_close_ int fd = -EBADF;

	if (!address_of(address, &a, &len, err))
		return -EBADF;
	fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, DISK_CLIENTS_MAX) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0) {
		fail_errno(err, errno, "can't listen on %s", address);
		return -EBADF;
	}
	*ret_port = port_of(&a);
	return fd_take(&fd);
}

static bool export_nodes(Vmm *v, const struct migrate_in_spec *spec, GError **err)
{
	for (const char *const *node = spec->node; *node != NULL; node++)
		if (!migrate_tell(v, "block-export-add",
				  json_pack("{s:s,s:s,s:s,s:b,s:s}", "type", "nbd", "id", *node, "node-name",
					    *node, "writable", 1, "name", *node),
				  err))
			return false;
	return true;
}

static bool open_disks(Vmm *v, const struct migrate_in_spec *spec, unsigned *ret_port, GError **err)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_json_ Json *reply = NULL;
	Json *args;

	*ret_port = 0;
	if (spec->node == NULL || spec->node[0] == NULL)
		return true;
	fd = listen_on(spec->address, ret_port, err);
	if (fd < 0)
		return false;
	reply = qmp_call_fd(vmm_qmp(v), "getfd", json_pack("{s:s}", "fdname", LISTEN_NAME), fd, 0, err);
	if (reply == NULL)
		return false;
	args = json_pack("{s:{s:s,s:{s:s}},s:i}", "addr", "type", "fd", "data", "str", LISTEN_NAME,
			 "max-connections", DISK_CLIENTS_MAX);
	if (spec->key_dir != NULL)
		json_put_str(args, "tls-creds", MIGRATE_KEY_ID);
	return migrate_tell(v, "nbd-server-start", args, err) && export_nodes(v, spec, err);
}

/* ---- the guest's memory ---- */

static bool memory_port(Vmm *v, unsigned *ret, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), "query-migrate", NULL, 0, err);
	const char *port = json_str(json_array_get(json_arr(reply, "socket-address"), 0), "port");
	uint64_t n;

	if (reply == NULL)
		return false;
	if (port == NULL || !parse_uint(port, 1, 65535, &n, NULL))
		return fail(err, ERR_QEMU, "QEMU does not say where it waits for the guest");
	*ret = (unsigned)n;
	return true;
}

static bool set_capabilities(Vmm *v, bool post_copy, GError **err)
{
	static const char *const always[] = { "events", "late-block-activate", NULL };
	static const char *const with_post_copy[] = { "events", "late-block-activate", "return-path",
						      "postcopy-ram", NULL };

	if (migrate_capabilities(v, post_copy ? with_post_copy : always, NULL, err))
		return true;
	/* QEMU takes the page faults of the guest itself, for which its user needs userfaultfd(2). */
	if (post_copy)
		err_advise(err,
			   "Set the sysctl vm.unprivileged_userfaultfd to 1 on that host, or move the guest "
			   "without --post-copy.");
	return false;
}

bool migrate_in_open(Vmm *v, const struct migrate_in_spec *spec, struct migrate_in_ports *ret, GError **err)
{
	g_autofree char *uri = migrate_uri(spec->address, 0), *status = vm_status(v, err);
	struct migrate_in_ports ports = { 0 };

	if (status == NULL)
		return false;
	if (!g_str_equal(status, "inmigrate"))
		return fail(err, ERR_BAD_STATE, "QEMU of '%s' does not wait for a guest: it is %s",
			    vmm_name(v), status);
	if (!set_capabilities(v, spec->post_copy, err) || !migrate_end_plainly(v, err))
		return false;
	if (spec->key_dir != NULL && (!migrate_key_load(v, spec->key_dir, true, err) ||
				      !migrate_tell(v, "migrate-set-parameters",
						    json_pack("{s:s}", "tls-creds", MIGRATE_KEY_ID), err)))
		return false;
	if (!open_disks(v, spec, &ports.disks, err) ||
	    !migrate_tell(v, "migrate-incoming", json_pack("{s:s}", "uri", uri), err) ||
	    !memory_port(v, &ports.memory, err))
		return false;
	*ret = ports;
	return true;
}

/* Its exports would keep the guest's devices from their disks. That there is no server is fine. */
static bool close_disks(Vmm *v, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (migrate_tell(v, "nbd-server-stop", NULL, &e) || g_error_matches(e, ERR, ERR_QEMU))
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

typedef struct Landing {
	Vmm *vmm;
	VmmEvents *events;
	uint64_t ran_at; /* when the guest went on, or 0 */
} Landing;

/* An event, waited for `timeout`. False and no error: there was none. */
static bool take_event(Landing *a, uint64_t timeout, GError **err)
{
	g_auto(VmmEvent) ev = { 0 };

	if (!vmm_events_next(a->events, timeout, &ev, err) || ev.name == NULL)
		return false;
	if (g_str_equal(ev.name, "RESUME"))
		a->ran_at = ev.at;
	return true;
}

static bool is_over(const struct migrate_in_end *how, GError **err)
{
	return how->ended != NULL && how->ended(how->data, err);
}

/* An event, or a while without one. */
static void await_sign(Landing *a, const struct migrate_in_end *how, GError **err)
{
	GError *e = NULL;

	if (how->ended == NULL)
		take_event(a, TURN, &e);
	for (int n = 0; how->ended != NULL && n < TURNS_UNASKED; n++)
		if (take_event(a, TURN_LONG, &e) || e != NULL || is_over(how, &e))
			break;
	if (e != NULL)
		g_propagate_error(err, e);
}

/* Until all of the guest is there. Its status then; NULL and an error when that does not come. */
static char *await_whole(Landing *a, const struct migrate_in_end *how, GError **err)
{
	uint64_t until = time_monotonic() + how->timeout;

	for (;;) {
		g_autoptr(GError) e = NULL;
		g_autofree char *status = vm_status(a->vmm, &e);

		if (status != NULL && !g_str_equal(status, "inmigrate"))
			return g_steal_pointer(&status);
		/* While it loads memory it may answer late. */
		if (how->ended != NULL && vmm_alive(a->vmm))
			g_clear_error(&e);
		if (e == NULL)
			await_sign(a, how, &e);
		if (e == NULL && time_monotonic() > until)
			fail(&e, ERR_TIMEOUT, "the rest of '%s' did not come", vmm_name(a->vmm));
		if (e != NULL) {
			g_propagate_error(err, g_steal_pointer(&e));
			return NULL;
		}
	}
}

static bool let_run(Landing *a, const struct migrate_in_end *how, GError **err)
{
	g_autofree char *status = NULL;

	/* To a QEMU that waits for its guest "cont" says not to stop when it is there. */
	if (how->run && how->alone && !vm_resume(a->vmm, err))
		return false;
	status = await_whole(a, how, err);
	if (status == NULL)
		return false;
	return !how->run || g_str_equal(status, "running") || vm_resume(a->vmm, err);
}

/* A state that only a guest comes to that has run. */
static bool tells_of_run(const char *status)
{
	static const char *const before[] = { "inmigrate", "paused", "prelaunch", NULL };

	return status != NULL && !g_strv_contains(before, status);
}

/*
 * After an error: has the guest run? QEMU lets no guest go on that was told to stop before all of it was
 * there, so that from here on it can't begin to. One that does not answer is ended: then its last events,
 * which it wrote before its guest ran, are here.
 */
static bool did_run(Landing *a, bool *ret_asked)
{
	g_autofree char *status = vm_status(a->vmm, NULL);
	bool ran = tells_of_run(status), stopped = !ran && status != NULL && vm_pause(a->vmm, NULL);

	*ret_asked = ran || stopped;
	if (!*ret_asked)
		vmm_kill(a->vmm, KILL_TIMEOUT, NULL);
	while (take_event(a, 0, NULL))
		;
	ran = ran || a->ran_at != 0;
	if (ran && stopped && !vm_resume(a->vmm, NULL))
		log_warning("vm %s: it stands still: QEMU does not let it go on", vmm_name(a->vmm));
	return ran;
}

bool migrate_in_finish(Vmm *v, const struct migrate_in_end *how, struct migrate_in_result *ret, GError **err)
{
	Landing a = { .vmm = v };
	g_autoptr(GError) e = NULL;
	bool ok;

	*ret = (struct migrate_in_result){ .asked = true };
	if (how->disks && !close_disks(v, err))
		return false;
	a.events = vmm_events_open(v);
	ok = let_run(&a, how, &e);
	if (!ok && did_run(&a, &ret->asked)) {
		log_warning("vm %s: %s", vmm_name(v), e->message);
		g_clear_error(&e);
		ok = true;
	}
	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	while (ok && take_event(&a, 0, NULL))
		;
	vmm_events_close(a.events);
	if (ok)
		ret->ran_at = a.ran_at != 0 || !how->run ? a.ran_at : time_monotonic();
	return ok;
}
