/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that say what a CPU can do: a dump of CPUID, the output of `cpuid -r`, a host record of
 * `plim host cpu --export`, the JSON that `plim cpu decode`, level and remove print.
 */
#pragma once

#include "core/cpu/record.h"

typedef enum CpuFileKind {
	CPU_FILE_DUMP,
	CPU_FILE_RECORD,
	CPU_FILE_NAMES, /* only the features of a guest; no host */
} CpuFileKind;

typedef struct CpuFile {
	char *path;
	char *name; /* of the host: a record's own, otherwise the file's without its folder and ending */
	CpuFileKind kind;
	struct host_record record; /* of CPU_FILE_RECORD */
	struct featureset set;     /* of a dump the raw set; of CPU_FILE_NAMES what is known */
	struct cpu_bits differ;    /* of a dump: what only some of its logical CPUs have */
	unsigned cpus;
} CpuFile;

/* Errors name the path. */
CpuFile *cpu_file_read(const char *path, GError **err);
void cpu_file_free(CpuFile *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CpuFile, cpu_file_free)

/* A set of the host: of a dump, max is the raw one closed. ERR_INVALID for CPU_FILE_NAMES. */
bool cpu_file_set(const CpuFile *f, GuestType guest, SetKind kind, struct featureset *ret, GError **err);
/* What CPUID showed; of a record without its raw set, the max set. Not closed. */
bool cpu_file_raw(const CpuFile *f, GuestType guest, struct featureset *ret, GError **err);

/* Names that stand for one file each: where two would be the same, their paths. */
void cpu_files_make_unique(GPtrArray *files);
