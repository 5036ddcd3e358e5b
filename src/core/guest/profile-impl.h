/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the parts of core/guest/profile; nobody else includes this.
 *
 * profile.c         the object, and the decisions that look at several things
 * profile_rules.c   the decisions that are rows of a table
 * profile_cpu.c     the CPU
 * profile_firmware.c  firmware, Secure Boot, TPM
 * profile_memory.c  memory, and the gaps between it and devices
 * profile_cd.c      the CD drive
 */
#pragma once

#include "core/guest/profile.h"

typedef struct ProfileMaker {
	const Vm *vm;
	const HostFacts *host;
	const CpuOffer *cpu;
	Profile *p;
} ProfileMaker;

/* Decide a point, once. */
void profile_decide(Profile *p, ProfileKey key, const char *value, CauseSource source, const char *cause_key,
		    const char *cause_value, const char *note);
/* The same for the same reason as another point that is decided already. */
void profile_decide_as(Profile *p, ProfileKey key, const char *value, ProfileKey because, const char *note);
/* Takes `cause`. */
void profile_could_not(Profile *p, const char *what, Cause *cause, const char *reason_fmt, ...)
    G_GNUC_PRINTF(4, 5);

/*
 * A setting as text when somebody set it to anything but "auto", or a property;
 * NULL otherwise. Caller frees.
 */
char *profile_setting_text(const ProfileMaker *m, const char *key);
char *profile_property_text(const ProfileMaker *m, const char *key);

/* The CPU: the pool's level, or a model of the vm's own; needs PROFILE_ACCEL. */
bool profile_decide_cpu(ProfileMaker *m, GError **err);
/* Firmware, Secure Boot, TPM; needs PROFILE_MACHINE. ERR_UNSUPPORTED when the host lacks what it takes. */
bool profile_decide_firmware(ProfileMaker *m, GError **err);
/* Memory, and how it moves; needs PROFILE_OS. ERR_INVALID as memory_range_of(). */
bool profile_decide_memory(ProfileMaker *m, GError **err);
/* The MMIO gaps; needs PROFILE_MACHINE, CPU and MEMORY. ERR_UNSUPPORTED with the range for what can't be had.
 */
bool profile_decide_gaps(ProfileMaker *m, GError **err);
/* The CD drive; needs PROFILE_OS, MACHINE and CDROM. */
void profile_decide_cd(ProfileMaker *m);
/* The table of plain decisions; needs PROFILE_OS. */
void profile_apply_rules(ProfileMaker *m);
/* Lists the properties of the image that ask for what this version does not offer. */
void profile_list_unserved(ProfileMaker *m);
