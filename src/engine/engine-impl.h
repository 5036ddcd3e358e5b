/* SPDX-License-Identifier: Apache-2.0 */
/* For the parts of the engine that know it whole: engine.c, supervise.c, steps_qemu.c. */
#pragma once

#include "engine/admission.h"
#include "engine/backup/freeze.h"
#include "engine/engine.h"
#include "engine/fence.h"
#include "engine/hang.h"
#include "engine/lease.h"
#include "engine/ledger.h"
#include "engine/membership.h"
#include "engine/memory_keeper.h"
#include "engine/move.h"
#include "engine/pool_keeper.h"
#include "engine/reception.h"
#include "engine/sim.h"
#include "engine/supervise.h"
#include "engine/wake_watch.h"

struct Engine {
	Loop *loop;
	Folders folders;
	char *host_name, *host_id;
	int lock_fd;
	bool booted;        /* the host started anew since a daemon was up here last */
	Membership *member; /* NULL: a pool of one */
	Lease *lease;       /* of a member, from the start to the stop */
	Fence *fence;       /* the same; NULL when it is simulated */
	PoolKeeper *keeper; /* the same */
	uint64_t lease_ttl;
	void (*restart)(void *data);
	void *restart_data;
	char *join_undone;    /* name of the pool whose join the start took back, or NULL */
	char *dismissed_from; /* name of the pool that this host was found to be no member of any more, or
				 NULL */
	Store *store, *local;
	Events *events;
	WorkerPool *pool, *launch_pool;
	unsigned launches; /* threads of the latter */
	LevelKeeper *level;
	HostCpu *cpu;
	Exec *exec;
	Admission *admission;
	Sim *sim; /* or: */
	Fleet *fleet;
	Supervisor *supervisor;
	Ledger *ledger;
	HangWatch *hang;
	uint64_t sample;        /* us between two looks at guests' threads; 0: the usual */
	WakeWatch *watch;       /* from the start to the stop; NULL when it is simulated */
	uint64_t memory_sample; /* us between two looks at guests' memory; 0: the usual */
	MemoryKeeper *memory;   /* as `watch` */
	Receptions *receptions; /* guests that come */
	Moves *moves;           /* guests that go */
	GMutex dumping;         /* held while QEMU writes a dump: one at a time */
	GMutex forgetting;      /* held while bundles of evidence are deleted: each goes once */
	FreezeKeeper *freezes;  /* guests whose file systems stand still; NULL when it is simulated */
	GMutex lock;            /* of the two below */
	GHashTable *known_cpu;  /* set: what QEMUs of this daemon made whole, as cpu_identity() names it */
	GPtrArray *facts;       /* HostFacts, the newest last; older ones may still be in use */
};

/* What a start is judged by. */
struct host_view engine_view(Engine *e);

/*
 * In a pool, a QEMU must be held when the host's lease ends (fence.h). ERR_LIMIT when there is no place for
 * it: its guest must not run then. Any thread.
 */
bool engine_fence_in(Engine *e, pid_t qemu, GError **err);
/* Has a QEMU made this CPU for us before, checked in full? Any thread. */
bool engine_knows_cpu(Engine *e, const char *identity);
void engine_learn_cpu(Engine *e, const char *identity);
