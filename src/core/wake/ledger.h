/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wakeup ledger: who keeps a guest's QEMU busy. Pure.
 *
 * One interval holds what was counted between two moments; its sources are
 * named after the devices (WAKE_SOURCE_TABLE) and say with which setting they
 * go away. What could not be counted is said with its reason, never shown as 0.
 *
 * Three kinds of events, as Project Pulsar counted them:
 *     timer  a timer of QEMU's fired (polling, frames of USB, a clock chip)
 *     read   the guest read an emulated device: QEMU had to run
 *     write  the guest wrote to one
 */
#pragma once

#include "core/wake/trace.h"

#include "base/json.h"

/* name in the API, what people read, settings that remove it (NULL: none does) */
// clang-format off
#define WAKE_SOURCE_TABLE(X)                                                                                       \
	X(HPET,      "hpet",            "HPET timer",                     "platform.hpet=false")                   \
	X(RTC,       "rtc",             "real-time clock",                NULL)                                    \
	X(PIT,       "pit",             "PIT timer",                      NULL)                                    \
	X(APIC,      "apic-timer",      "local APIC, emulated",           "accel=kvm")                             \
	X(PM_TIMER,  "pm-timer",        "ACPI PM timer",                  NULL)                                    \
	X(TCO,       "tco",             "TCO watchdog (iTCO)",            NULL)                                    \
	X(IRQ,       "irq-chips",       "interrupt controllers",          NULL)                                    \
	X(ACPI,      "acpi",            "ACPI registers",                 NULL)                                    \
	X(PCI,       "pci",             "PCI configuration, MSI tables",  NULL)                                    \
	X(UHCI,      "usb-uhci",        "USB controller (UHCI)",          "platform.usb_tablet=false platform.usb=false") \
	X(USB,       "usb",             "USB controller",                 "platform.usb_tablet=false platform.usb=false") \
	X(SERIAL,    "serial",          "serial port",                    "platform.hvm_serial=none")              \
	X(PARALLEL,  "parallel",        "parallel port",                  "platform.parallel=none")                \
	X(FLOPPY,    "floppy",          "floppy controller",              "platform.floppy=false")                 \
	X(PS2,       "ps2",             "PS/2 keyboard and mouse",        NULL)                                    \
	X(IDE,       "ide",             "IDE drives (polled CD)",         NULL)                                    \
	X(SATA,      "sata",            "SATA drives (polled CD)",        NULL)                                    \
	X(E1000,     "e1000",           "e1000 network card",             NULL)                                    \
	X(RTL8139,   "rtl8139",         "RTL8139 network card",           NULL)                                    \
	X(VGA,       "vga",             "VGA display",                    "platform.video=none")                   \
	X(GPU,       "virtio-gpu",      "virtio display",                 "platform.video=none")                   \
	X(BLK,       "virtio-blk",      "virtio disk",                    NULL)                                    \
	X(SCSI,      "virtio-scsi",     "virtio SCSI controller",         NULL)                                    \
	X(CD,        "cdrom",           "inserted CD, polled",            NULL)                                    \
	X(NET,       "virtio-net",      "virtio network card",            NULL)                                    \
	X(PORTS,     "virtio-serial",   "virtio console and agent",       NULL)                                    \
	X(BALLOON,   "virtio-balloon",  "memory balloon",                 NULL)                                    \
	X(RNG,       "virtio-rng",      "virtio source of randomness",    NULL)                                    \
	X(VIRTIO,    "virtio",          "virtio queues",                  NULL)                                    \
	X(FW_CFG,    "fw-cfg",          "firmware configuration",         NULL)                                    \
	X(DISPLAY,   "display-refresh", "VNC or display client looking",  NULL)                                    \
	X(BALLOON_STATS, "balloon-statistics", "balloon statistics polled", NULL)                                  \
	X(AGENT,     "agent",           "calls to the guest agent",       NULL)                                    \
	X(DAEMON,    "plimsolld",       "QMP commands of the daemon",     NULL)                                    \
	X(OTHER,     "other",           "other devices and timers",       NULL)
// clang-format on

typedef enum WakeSource {
#define X(name, id, title, remedy) WAKE_##name,
	WAKE_SOURCE_TABLE(X)
#undef X
	    _WAKE_MAX,
} WakeSource;

const char *wake_source_name(WakeSource s);
/* The device that a region of memory or ports belongs to, by QEMU's name of it. */
WakeSource wake_source_of_region(const char *name);

struct wake_count {
	uint64_t timer, read, write;
	uint64_t call; /* of the daemon: a command, a request; of sources only, in no sum */
};

struct wake_thread {
	char *name; /* "CPU 0/KVM"; the main thread is called "main" */
	int tid;
	uint64_t wakeups; /* it slept and was woken */
	uint64_t cpu;     /* us */
};

/* What was counted, and as what it is to be read. */
typedef struct WakeInterval {
	uint64_t start, duration; /* us since the measurement began; us */
	uint64_t paused;          /* us of it in which the guest stood still, and so did nothing */
	/* threads of QEMU */
	bool has_threads;
	GArray *thread; /* struct wake_thread */
	/* emulated devices */
	bool has_timers;   /* all timers; false: only those that a source claims */
	bool has_accesses; /* the three columns are counts; false: they could not be had */
	bool sampled;      /* there were too many: a part was looked at, and scaled to the exact sum */
	struct wake_count sum, source[_WAKE_MAX];
	/* KVM */
	bool has_kvm;
	uint64_t exits, halts;
} WakeInterval;

WakeInterval *wake_interval_new(void);
WakeInterval *wake_interval_free(WakeInterval *w);

/* What else is known of an interval when its events are given to their sources. */
struct wake_facts {
	bool has_locks;
	struct lock_counts locks;  /* exact; of the whole interval */
	unsigned display_clients;  /* VNC clients that are connected */
	bool has_hpet, has_ehci;   /* the machine has one */
	uint64_t qmp_calls;        /* of the daemon, without the ledger's own */
	uint64_t agent_calls;      /* of the daemon */
	uint64_t balloon_interval; /* s between two statistics; 0: none are asked for */
	bool log_full;             /* more was traced than the log held */
};

/*
 * Fill in sum and source. When QEMU's log was too small for all, the interval
 * is marked as sampled, and reads and writes are scaled to the number of the
 * lock profiler, which is exact; without that they are a lower bound. Timers
 * that no source claims go to the display if a client looks, to the statistics
 * of the balloon as often as these are asked for, and else to "other".
 */
void wake_interval_settle(WakeInterval *w, const Tally *t, const struct wake_facts *f);

/* The thread's own name decides: "CPU 0/KVM", "ALL CPUs/TCG". */
bool wake_thread_is_vcpu(const char *name);

/*
 * {index, start, duration, paused, timer, read, write, sampled, exits, halts, wakeups, main_wakeups,
 * vcpu_wakeups, cpu, vcpu_cpu, threads: [{name, tid, wakeups, cpu}], sources: [{source, title, timer, read,
 * write, call}]} Times in us; a count that could not be had is null. Sources with no event are left out. New
 * reference.
 */
Json *wake_interval_to_json(const WakeInterval *w, unsigned index);

/*
 * What to change, the most expensive source first: [{source, setting, saves, text}], where `saves` is per
 * 30 s over these intervals: "platform.usb_tablet=false platform.usb=false saves 29000 wakeups per 30 s".
 * Advice without a setting has null there. `intervals`: GPtrArray of WakeInterval. New reference.
 */
Json *wake_advice(const GPtrArray *intervals);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(WakeInterval, wake_interval_free)
