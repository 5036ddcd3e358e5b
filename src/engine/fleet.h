/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fleet: the QEMU processes of this host by the id of their vm.
 *
 * Remembers in the host's own store how to find each process again after a
 * restart of the daemon. Tells its handler what guests and processes do;
 * decides nothing about it.
 */
#pragma once

#include "core/model/paths.h"
#include "engine/agent.h"
#include "engine/console.h"
#include "engine/vmm.h"
#include "store/store.h"

typedef struct Fleet Fleet;

/* All on the loop's thread; must not block. */
typedef struct FleetHandler {
	/* An event of QEMU (qmp_cmd.h). */
	void (*event)(const char *vm_id, const char *name, Json *args, void *data);
	/* The guest agent opened or closed its side. */
	void (*agent)(const char *vm_id, bool connected, void *data);
	/* The process ended; `exit` as core/model/vm_exit.h has it, borrowed. */
	void (*exited)(const char *vm_id, Json *exit, void *data);
} FleetHandler;

/* `local` is the host's own store. `run_as`: the user of QEMU, or NULL. Loop thread. */
Fleet *fleet_new(Loop *l, Store *local, const char *run_as, const FleetHandler *handler, void *data,
		 GError **err);
/* Loop thread. The processes live on. */
Fleet *fleet_free(Fleet *f);

struct fleet_spec {
	const char *vm_id, *name, *dir, *log_path;
	const char *operation; /* id of the one that starts it */
	const char *const *argv;
	const struct vmm_fd *fds;
	size_t n_fds;
};

/*
 * Start QEMU for a vm, paused as its command line says. When this operation's
 * QEMU runs already (a step done again after a crash) nothing is started.
 * ERR_BUSY while one of another operation runs; errors of vmm_launch(). Worker threads.
 */
bool fleet_launch(Fleet *f, const struct fleet_spec *spec, uint64_t timeout, GError **err);
/* The QEMU that this operation started, or one of which nobody noted which did; a reference, or NULL. */
Vmm *fleet_started_by(Fleet *f, const char *vm_id, const char *operation);

/* How the adoption of one vm went: `gone` set means that its QEMU is no more. */
typedef void (*FleetAdoptFunc)(const char *vm_id, const char *name, const GError *gone, void *data);
/*
 * Take up what another daemon left running, some at a time. Calls `each` for
 * every QEMU that is remembered, on threads of its own and side by side; all
 * calls have returned when this does. Those that run and are not remembered,
 * as their daemon died before that, are taken up too; their id stands for their
 * name. Worker threads; once, before anything else.
 */
bool fleet_adopt_all(Fleet *f, const Folders *folders, FleetAdoptFunc each, void *data, GError **err);

/* A reference, or NULL when no QEMU of that vm runs. Any thread. */
Vmm *fleet_vmm(Fleet *f, const char *vm_id);
/* The same for its agent's channel. */
Agent *fleet_agent(Fleet *f, const char *vm_id);
/* A console of a vm, "console" or "serial"; NULL when it has none. Loop thread; borrowed until the next turn.
 */
Console *fleet_console(Fleet *f, const char *vm_id, const char *port);
/* What the console keeps, or NULL when there is none. Worker threads. */
GBytes *fleet_scrollback(Fleet *f, const char *vm_id, const char *port);
/* All of this moment, struct fleet_guest. Any thread. New array. */
struct fleet_guest {
	char *vm_id;
	Vmm *vmm;
};
GPtrArray *fleet_guests(Fleet *f);
/* QEMU processes now. */
unsigned fleet_size(Fleet *f);
/* Forget a vm whose QEMU ended and was dealt with. Worker threads. */
void fleet_forget(Fleet *f, const char *vm_id);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fleet, fleet_free)
