/* SPDX-License-Identifier: Apache-2.0 */
/* For the parts of the supervisor: supervise.c, supervise_agent.c, supervise_events.c. */
#pragma once

#include "base/worker.h"
#include "engine/supervise.h"

/* Who asks for what the supervisor does. */
#define SUPERVISOR_USER "plimsolld"

struct Supervisor {
	Engine *engine;
	GMutex lock; /* of the members below */
	bool ended;
	GHashTable *exit;     /* vm id -> Json: ends that nobody has judged yet */
	int64_t exits;        /* how many there were */
	GHashTable *asked;    /* vm id -> how often its agent was asked for addresses */
	GHashTable *looks;    /* vm id -> how often its tools were looked at since its agent came */
	GHashTable *stopped;  /* set of vm ids: their QEMU stopped while an operation had them */
	GHashTable *relevel;  /* vm id -> until when its reboot may still get another CPU, as uint64_t * */
	GPtrArray *delay;     /* Delay; loop thread only */
	GHashTable *reset_at; /* vm id -> time of the last reset as uint64_t *; loop thread only */
	GHashTable *error_at; /* the same of the last error of a disk */
};

/* A piece of work about one vm, on a thread of the pool. */
typedef struct VmJob {
	Supervisor *s;
	char *vm_id;
	char *event; /* of QEMU, or what the record said; or NULL */
	Json *args;  /* of that event, or NULL */
	bool flag;
} VmJob;

/* Work about a vm, with a copy of `event` (NULL: none); nothing when the supervisor has ended. Any thread. */
void supervisor_push(Supervisor *s, WorkerFunc func, const char *vm_id, const char *event, bool flag);
/* The same with the event's arguments, which it takes (may be NULL). */
void supervisor_push_event(Supervisor *s, WorkerFunc func, const char *vm_id, const char *event, Json *args,
			   bool flag);
/* The same after `us`. */
void supervisor_push_later(Supervisor *s, WorkerFunc func, const char *vm_id, bool flag, uint64_t us);
void supervisor_job_free(VmJob *j);

/* What the runtime record of a vm becomes, as all is now; false: it stays. Asked again when it moved. */
typedef bool (*RuntimeChange)(Supervisor *s, const char *vm_id, Json *runtime, void *data);

/* Changes the runtime record of a vm that is this host's. True when that is written. Worker threads. */
bool supervisor_update_runtime(Supervisor *s, const char *vm_id, RuntimeChange change, void *data);

/* The agent of a vm came (flag) or went: a VmJob's work. */
void supervisor_greet_agent(void *data);

/* It has come to its end: `exit` (vm_exit.h), which is taken, is judged by and by. Any thread. */
void supervisor_ended(Supervisor *s, const char *vm_id, Json *exit);

/* A QEMU said something: a FleetHandler's. Loop thread. */
void supervisor_on_event(const char *vm_id, const char *name, Json *args, void *data);
/* One that was adopted may have panicked while no daemon looked, or while one kept evidence of it: a VmJob's
 * work. */
void supervisor_look_at_adopted(void *data);
/* While its reboot is young it may get the CPU of the pool's level now: a VmJob's work. */
void supervisor_look_at_relevel(void *data);
/* A stop that QEMU made by itself is recorded when no operation has the vm: a VmJob's work. */
void supervisor_look_at_stop(void *data);
/* An operation has ended that was in the way of recording a stop that QEMU made by itself. */
void supervisor_look_at_stop_again(Supervisor *s, const char *vm_id);
