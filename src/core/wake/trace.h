/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a QEMU tells about its own work, counted: the lines of its trace log
 * and the table of `info sync-profile`. Pure.
 *
 * Trace lines (QEMU's log backend; one event a line, a name and its text):
 *     memory_region_ops_read cpu 0 mr 0x55.. addr 0x608 value 0x1 size 4 name 'acpi-tmr'
 *     15427@1795250704.306561:usb_uhci_frame_start nr 12
 * Text comes from a process that a guest may have taken over: names are
 * bounded, kinds of them too, and what makes no sense is passed over.
 *
 * QEMU has no trace event for its timers. Its lock profiler counts them: the
 * list of timers is locked again once behind each callback, at a place that is
 * known for some versions (TIMER_SITES in trace.c).
 */
#pragma once

#include "base/err.h"

/* Regions of memory and ports that are told apart; more are counted together. */
#define TALLY_REGIONS_MAX 96
#define TALLY_LINES 24

typedef struct Tally Tally;

struct tally_region {
	char *name; /* "acpi-tmr" */
	uint64_t read, write;
};

struct Tally {
	GPtrArray *region;         /* struct tally_region */
	uint64_t read, write;      /* of all regions, the nameless too */
	uint64_t uhci_frame;       /* timer of the UHCI controller */
	uint64_t apic_timer;       /* timer of the emulated local APIC */
	uint64_t irq[TALLY_LINES]; /* how often an emulated device raised this line */
	uint64_t queue;            /* virtio queues that the guest rang */
	uint64_t cd;               /* commands to a CD drive on a SCSI bus, each of which rang a queue */
	uint64_t lines;            /* all that were understood */
};

/* The trace events that make a tally, for trace-event-set-state. Ends with NULL. */
extern const char *const tally_events[];

Tally *tally_new(void);
Tally *tally_free(Tally *t);
/*
 * Count whole lines. What is behind the last newline is not looked at: returns
 * how many bytes were, so that the caller can bring the rest again with more.
 * A NUL ends the text.
 */
size_t tally_add(Tally *t, const char *text, size_t len);

/* What `info sync-profile` counts of interest. */
struct lock_counts {
	uint64_t timers;   /* callbacks of timers */
	uint64_t accesses; /* reads and writes of emulated devices */
	bool has_timers;   /* false: the place is not known for this version of QEMU */
};

/* `version`: "7.2.22". What is not in the table counts as 0. */
void lock_counts_parse(struct lock_counts *c, const char *table, const char *version);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Tally, tally_free)
