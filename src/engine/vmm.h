/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QEMU process: launched, or adopted after a restart of the daemon, watched, ended.
 *
 * A QEMU lives on its own: it leads its own session, prints into its own log,
 * listens on sockets in the vm's run folder, and does not notice that the
 * daemon is gone. The daemon finds it again with what vmm_record() gave it.
 *
 * Nothing here polls or sleeps. A QEMU is ready when its monitor has greeted
 * and negotiated; its end is seen on its pidfd; a lost monitor is connected to
 * again, with pauses from 0.1 s to 10 s, while the process lives.
 *
 * Chardevs and devices by name: the command line gives the monitor's chardev
 * `fd=@fd:qmp@` (see vmm_argv.h), a second monitor for tools `@fd:qmp2@`, the
 * guest agent's `@fd:agent@`, the virtio console's `@fd:console@`, a serial
 * port's `@fd:serial@`. The id of each of these chardevs is the same name, and
 * the virtserialport of the agent has the id VMM_AGENT_PORT. An agent and a
 * console that are there are connected to at once and stay so; the console's
 * last bytes are in DIR/console.ring.
 *
 * States, and who moves it on:
 *     STARTING  the process exists               -> READY  the monitor is ready
 *     READY     what was found is checked        -> LIVE   vmm_launch(), vmm_adopt() succeed
 *     LIVE      handlers are called              -> ENDED  the process ended
 *     ENDED     vmm_exit() says how
 *     FORGOTTEN the process lives, nobody looks            vmm_forget()
 * The first two may end as well: vmm_launch() and vmm_adopt() tell it then, no handler does.
 */
#pragma once

#include "engine/agent.h"
#include "engine/console.h"
#include "engine/qmp.h"
#include "engine/spawn.h"
#include "engine/vmm_log.h"

#define VMM_AGENT_PORT "agent0"

typedef struct Vmm Vmm;
typedef struct VmmHost VmmHost;

/* How a QEMU ended. What core/model/vm_exit.h judges. */
typedef struct VmmExit {
	struct process_end end; /* not known for an adopted one: its parent was another daemon */
	char *shutdown;         /* the reason of QEMU's SHUTDOWN event, or NULL */
	bool panicked;          /* the guest's kernel reported a panic since it began or was resumed */
	char *last_words;       /* never NULL */
} VmmExit;

/* {code, signal, shutdown, panicked, last_words}; code and signal are null when nobody could see them. */
Json *vmm_exit_to_json(const VmmExit *e);
/* "QEMU was killed by signal 9": a sentence without a full stop. Caller frees. */
char *vmm_exit_print(const VmmExit *e);

/* All on the loop's thread, only while LIVE. Each may be NULL. */
typedef struct VmmHandler {
	/* Every event of QEMU. `args` is an object, borrowed. */
	void (*event)(Vmm *v, const char *name, Json *args, uint64_t real_us, void *data);
	/* The monitor was lost while the process lives, or is back; events in between are lost. */
	void (*monitor)(Vmm *v, bool connected, void *data);
	/* The guest opened or closed its agent's port. */
	void (*agent)(Vmm *v, bool open, void *data);
	/* Once; the last call. */
	void (*exited)(Vmm *v, const VmmExit *e, void *data);
} VmmHandler;

/* What all QEMUs of a daemon share. Made and freed on the loop's thread; freed after the last Vmm. */
VmmHost *vmm_host_new(Loop *l, const SpawnUser *user, GError **err);
VmmHost *vmm_host_free(VmmHost *h);

struct vmm_fd {
	const char *name;
	int fd;
};

struct vmm_spec {
	const char *name; /* for messages */
	const char *uuid; /* what -uuid says */
	const char *dir;  /* run folder of the vm; exists */
	const char *log_path;
	const char *const *argv;  /* argv[0] is the program's path; placeholders as in vmm_argv.h */
	const struct vmm_fd *fds; /* descriptors for placeholders, the caller's */
	size_t n_fds;
};

/*
 * Start a QEMU and wait until its monitor is ready. Blocks; never on the loop's
 * thread. Handlers may be called before it returns. The caller owns a reference.
 *
 * ERR_QEMU when it ended before that: the message and the detail `exit` have
 * its last words. ERR_TIMEOUT when it was not ready in time; it is killed then.
 * ERR_CONFLICT when a QEMU of this vm runs already. On failure no process is left.
 */
Vmm *vmm_launch(VmmHost *h, const struct vmm_spec *spec, const VmmHandler *handler, void *data,
		uint64_t timeout, GError **err);

/*
 * {pid, pid_start}: what finds this QEMU again; store it. A daemon that dies
 * between vmm_launch() and storing it finds the pid in DIR/qemu.pid.
 */
Json *vmm_record(const Vmm *v);

struct vmm_known {
	const char *name, *uuid, *dir, *log_path; /* as in vmm_spec */
	const Json *record;                       /* vmm_record(), or NULL: from DIR/qemu.pid */
};

/*
 * Take up a QEMU that another daemon launched. Blocks, `timeout` at most;
 * never on the loop's thread. What it did in the meantime is not told: ask
 * vm_status() (vm_ops.h) after it.
 *
 * ERR_GONE when it is not there any more: no such process, or another one has
 * its number, or another guest answers on its socket.
 * A process that is the right one (same number, same start time) but whose
 * monitor does not answer in time is taken up all the same, not connected:
 * `monitor` tells when it is. Without a record such a process can't be known:
 * ERR_UNAVAILABLE, and nothing was changed.
 */
Vmm *vmm_adopt(VmmHost *h, const struct vmm_known *known, const VmmHandler *handler, void *data,
	       uint64_t timeout, GError **err);

Vmm *vmm_ref(Vmm *v);
/* From any thread; NULL is fine. The process lives on. */
void vmm_unref(Vmm *v);
/* Look no more: no handler is called, those who wait fail with ERR_CANCELLED, QEMU lives on. Loop thread. */
void vmm_forget(Vmm *v);

/* What does not change while it exists; any thread. Borrowed. */
const char *vmm_name(const Vmm *v);
pid_t vmm_pid(const Vmm *v);
Qmp *vmm_qmp(const Vmm *v);
Loop *vmm_loop(const Vmm *v);
/* NULL when the vm has no agent's port. It may be open before vmm_launch() or vmm_adopt() returns: ask it. */
Agent *vmm_agent(const Vmm *v);
/* NULL when the vm has no console, and from the end of QEMU on. Loop thread. */
Console *vmm_console(const Vmm *v);
/* DIR/NAME.sock. Caller frees. */
char *vmm_socket(const Vmm *v, const char *name);
/* Any thread. */
bool vmm_alive(Vmm *v);
/* Of one that has ended: a copy for vmm_exit_clear(). False while it lives. Any thread. */
bool vmm_exit(Vmm *v, VmmExit *ret);
void vmm_exit_clear(VmmExit *e);

/* Wait for its end. ERR_TIMEOUT when it still lives. Blocks; never on the loop's thread. */
bool vmm_wait(Vmm *v, uint64_t timeout, GError **err);
/*
 * End it: `quit`; half the time later SIGTERM; then, in the last quarter and
 * for ten seconds at least, SIGKILL. Returns as soon as the process is gone; one that is gone already is
 * fine. The disks' caches are written out unless SIGKILL had to be used.
 * ERR_TIMEOUT only when the kernel can't end it (it waits for storage).
 */
bool vmm_quit(Vmm *v, uint64_t timeout, GError **err);
/* SIGKILL, and wait. */
bool vmm_kill(Vmm *v, uint64_t timeout, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vmm, vmm_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmmHost, vmm_host_free)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VmmExit, vmm_exit_clear)
