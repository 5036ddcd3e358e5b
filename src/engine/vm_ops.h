/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be done to a running vm, one function each. All block worker
 * threads and fail as qmp_call() does. Ending it is vmm_quit(); what goes
 * through the guest agent is in agent_ops.h.
 */
#pragma once

#include "core/cpu/featureset.h"
#include "engine/vmm.h"

/* A screenshot is not larger than this. */
#define VM_SCREENSHOT_MAX (UINT64_C(64) << 20)

bool vm_pause(Vmm *v, GError **err);
/* Also the first start of one that was launched with -S. */
bool vm_resume(Vmm *v, GError **err);
/* As the reset button. */
bool vm_reset(Vmm *v, GError **err);
/* As the power button: the guest decides what to make of it. */
bool vm_powerdown(Vmm *v, GError **err);
bool vm_nmi(Vmm *v, GError **err);

/* Read back the vcpu that QEMU made: ERR_QEMU, with names, when it is not the pin. One turn of the monitor;
 * `again` as in pin_questions().
 */
bool vm_cpu_check(Vmm *v, const struct featureset *pin, bool again, GError **err);

/* QEMU's name of the state ("running", "paused", "prelaunch", "guest-panicked", ...). Caller frees. */
char *vm_status(Vmm *v, GError **err);

/* Its drives, as query-block tells. New reference. */
Json *vm_blocks(Vmm *v, GError **err);

/* How many requests (reads, writes, flushes, discards) its disks have ended, all together. */
bool vm_disk_requests(Vmm *v, uint64_t *ret, GError **err);

/* Make the disk of that name as large as `size`; one that is as large already stays so. */
bool vm_disk_grow(Vmm *v, const char *disk, uint64_t size, GError **err);

/* What its first display shows, as PNG. ERR_UNSUPPORTED with advice when it has no display. */
GBytes *vm_screenshot(Vmm *v, GError **err);

/*
 * A new viewer of its display: a connected socket that speaks VNC's protocol
 * (RFC 6143), without a password, since nobody but the daemon can hand one
 * over. The caller's. -EBADF with ERR_UNSUPPORTED when the vm has no display
 * or no platform.vnc.
 */
int vm_display_open(Vmm *v, GError **err);

/* The registers of all vcpus, as QEMU prints them. Caller frees. */
char *vm_registers(Vmm *v, GError **err);
/* Begin to write the guest's memory and registers into `fd`; see engine/dump.h for all of it. */
bool vm_dump_begin(Vmm *v, int fd, const char *format, GError **err);
