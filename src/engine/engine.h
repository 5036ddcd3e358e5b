/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of one host: what a request needs to be carried out. The API and
 * the daemon use this header; nobody below does.
 *
 * It owns the stores, the executor, the events and, unless it is simulated,
 * the fleet of QEMU processes with their supervisor.
 */
#pragma once

#include "base/loop.h"
#include "core/guest/host_facts.h"
#include "core/host/limits.h"
#include "core/host/memory.h"
#include "core/plan/plan_vm.h"
#include "engine/events.h"
#include "engine/exec.h"
#include "engine/fleet.h"
#include "engine/host_cpu.h"
#include "engine/ledger.h"
#include "engine/level.h"
#include "engine/membership.h"
#include "engine/memory_keeper.h"
#include "engine/reception.h"

typedef struct Engine Engine;

struct engine_config {
	Loop *loop;
	const Folders *folders; /* made when they are missing */
	const char *host_name;  /* NULL: the machine's */
	bool sim;               /* engine/sim instead of QEMU; for tests */
	unsigned workers;       /* threads that run plans */
	unsigned launches;      /* guests that are started at a time; 0: as the CPUs of the host say */
	uint64_t lease;         /* us, of a member of a pool; 0: LEASE_TTL */
	uint64_t sample;        /* us between two looks at the threads of guests; 0: WAKE_WATCH_PERIOD */
	uint64_t memory_sample; /* us between two looks at the memory of guests; 0: MEMORY_KEEPER_PERIOD */
	/* The daemon shall end and begin anew, with the same arguments. Called on the loop's thread. */
	void (*restart)(void *data);
	void *data;
};

/*
 * Opens stores and takes the lock of the state folder: ERR_CONFLICT when
 * another daemon has it, ERR_INVALID or ERR_UNSUPPORTED when the folder is not
 * ours or a newer daemon's. Nothing runs yet.
 */
Engine *engine_open(const struct engine_config *config, GError **err);

/*
 * Probe the host, adopt what runs, finish or undo what was interrupted, start
 * what starts by itself; then requests may come. Blocks; not on the loop's
 * thread, and the loop must run.
 */
bool engine_start(Engine *e, GError **err);
/* No new operations; waits for those that run. Guests run on. Not on the loop's thread; the loop must run. */
void engine_stop(Engine *e);
/* On the loop's thread, after engine_stop(). NULL is fine; returns NULL. */
Engine *engine_close(Engine *e);

/* Have the daemon begin anew; guests run on. Returns at once; from any thread. */
void engine_restart(Engine *e);
/* NULL: this host is a pool of one. Does not change while the daemon runs. */
const Membership *engine_membership(const Engine *e);
Store *engine_store(Engine *e);
Events *engine_events(Engine *e);
Exec *engine_exec(Engine *e);
/* NULL when it is simulated. */
Fleet *engine_fleet(Engine *e);
/* Guests on their way to this host. */
Receptions *engine_receptions(Engine *e);
/* Who keeps guests busy; nobody in a simulated engine. */
Ledger *engine_ledger(Engine *e);
/* wake_watch_report(). New reference. */
Json *engine_wakeups(Engine *e);
/* Dynamic memory; NULL when it is simulated. */
MemoryKeeper *engine_memory_keeper(Engine *e);
bool engine_is_sim(const Engine *e);
/* What was probed last. Any thread; valid until engine_close(), also after a later probe. */
const HostFacts *engine_facts(Engine *e);
/* Probe again and store the result. Blocks. */
bool engine_probe(Engine *e, GError **err);
/*
 * What an admin chooses for the host: its accelerator ("auto", "kvm", "tcg"; NULL: as it is), and changes of
 * its settings as host_settings_merge() takes them (NULL: none). Stored.
 */
bool engine_set_host(Engine *e, const char *accel, const Json *changes, GError **err);
/* The host's memory now, and what guests were promised of it. Any thread. */
struct memory_host engine_memory(Engine *e);
struct memory_claims engine_memory_claims(Engine *e);
/* What many guests run into; a simulated host has none. */
struct limits_seen engine_limits(Engine *e);
/* Would this host take the operation now? ERR_LIMIT as a submission of it; nothing is set aside. */
bool engine_has_room(Engine *e, const Operation *op, GError **err);
/* Guests that are started at a time. */
unsigned engine_launches(const Engine *e);

/* The CPU features that guests here can have, and the level of the pool that they make. */
HostCpu *engine_cpu(Engine *e);
LevelKeeper *engine_level(Engine *e);
/*
 * Before a request that starts a guest, or plans to: waits until the first
 * probe of this daemon told what CPU it is offered, but not for ever. `vm` may
 * be NULL: one that leaves its accelerator open.
 */
void engine_await_cpu(Engine *e, const Vm *vm);

/* A request of this moment, with a new operation id and this host's facts. */
typedef struct EngineRequest {
	char *op_id, *now, *user;
	CpuOffer *cpu;
	PlanRequest plan; /* borrows the four */
} EngineRequest;

EngineRequest *engine_request_new(Engine *e, const char *user);
EngineRequest *engine_request_free(EngineRequest *r);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Engine, engine_close)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EngineRequest, engine_request_free)
