/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's merging of equal pages (KSM), which is a matter of the whole
 * host. It looks only at memory that was offered to it: of our guests that of
 * those with memory.merge=true. Files in `dir` (KSM_DIR, or a test's). Worker
 * threads.
 */
#pragma once

#include "base/json.h"

#define KSM_DIR "/sys/kernel/mm/ksm"

/* As the host's setting `ksm` is. */
typedef enum KsmMode {
	KSM_AUTO, /* left as the machine's administrator has it */
	KSM_ON,   /* scans */
	KSM_OFF,  /* scans no more, and what was merged is parted */
} KsmMode;

/* Of the settings of a host; "auto" when there is none. */
KsmMode ksm_mode_of(const Json *host_settings);

/*
 * Have the kernel do it. ERR_UNSUPPORTED when it has no KSM or we may not,
 * ERR_NO_SPACE when what was merged has no room apart. `available`: of the host, in bytes.
 */
bool ksm_apply(const char *dir, KsmMode mode, uint64_t available, GError **err);

/*
 * {running, shared, saved, scans}: whether it scans; bytes of pages that stand for several, and what that
 * saves; how often all was scanned. null where there is none. New reference.
 */
Json *ksm_status(const char *dir);
