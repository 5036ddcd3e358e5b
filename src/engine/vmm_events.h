/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The events of one QEMU, for a thread that waits for them.
 *
 * From vmm_events_open() on every event is kept until it is read, up to
 * VMM_EVENTS_MAX of them; beyond that the oldest go, as QEMU itself thins out
 * what it repeats. Worker threads.
 */
#pragma once

#include "engine/vmm.h"

#define VMM_EVENTS_MAX 1024

typedef struct VmmEvents VmmEvents;

typedef struct VmmEvent {
	char *name;
	Json *args;  /* an object */
	uint64_t at; /* monotonic time at which it happened, as QEMU says */
} VmmEvent;

/* From any thread. */
VmmEvents *vmm_events_open(Vmm *v);
VmmEvents *vmm_events_close(VmmEvents *e);
/*
 * The next one, waited for `timeout` us at most. True with ret->name NULL when
 * the time is over. ERR_GONE when QEMU has ended, ERR_UNAVAILABLE when its
 * monitor was lost, and events with it; what came before is read first.
 */
bool vmm_events_next(VmmEvents *e, uint64_t timeout, VmmEvent *ret, GError **err);
void vmm_event_clear(VmmEvent *ev);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmmEvents, vmm_events_close)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VmmEvent, vmm_event_clear)
