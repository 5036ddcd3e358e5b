/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Profiles: the hardware that a guest's operating system wants. Pure.
 *
 * profile_of() looks at the image's properties, at what was set on the vm and
 * at the facts of the host, and decides each point of the table below once.
 * Every decision carries its cause. What goes first:
 *
 *   1. a setting of the vm, unless it is "auto"
 *   2. a property of the image
 *   3. the default of the operating system (os_type)
 *
 * and the host decides what is possible at all. A setting that the host can't
 * fulfil is refused; a wish of the image that can't be fulfilled, and that the
 * guest can live without, is listed in `could_not`.
 *
 * docs/profiles.md tells people what each os_type gets, and why.
 */
#pragma once

#include "core/guest/cause.h"
#include "core/guest/host_facts.h"
#include "core/guest/pin.h"
#include "core/model/vm.h"

/* What a screen says it can show best: guests take it from the first frame of their driver on. */
#define SCREEN_WIDTH 1920
#define SCREEN_HEIGHT 1080

/* name, as explain and the API call it; values */
// clang-format off
#define PROFILE_TABLE(X)                                                               \
	X(OS,          "os")             /* linux, windows, other */                   \
	X(ACCEL,       "accel")          /* kvm, tcg */                                \
	X(MACHINE,     "machine")        /* versioned: pc-q35-7.2 */                   \
	X(CPU,         "cpu")            /* level, host, max, or as set */             \
	X(PMU,         "pmu")            /* auto, true, false */                       \
	X(VCPUS,       "vcpus")          /* a number */                                \
	X(TOPOLOGY,    "topology")       /* sockets=1,cores=2,threads=1 */             \
	X(MEMORY,      "memory")         /* bytes that it boots with */                \
	X(METHOD,      "memory_method")  /* fixed, virtio-mem, dimm, balloon */        \
	X(START,       "memory_start")   /* bytes that it may use at first */          \
	X(MIN,         "memory_min")     /* bytes */                                   \
	X(MAX,         "memory_max")     /* bytes */                                   \
	X(MERGE,       "memory_merge")   /* the host may merge equal pages */          \
	X(LOW_GAP,     "low_mmio_gap")   /* auto, or bytes */                          \
	X(HIGH_GAP,    "high_mmio_gap")  /* auto, or bytes */                          \
	X(FIRMWARE,    "firmware")       /* bios, uefi */                              \
	X(SECURE_BOOT, "secure_boot")    /* on, off */                                 \
	X(TPM,         "tpm")            /* none, tpm-crb, tpm-tis */                  \
	X(CLOCK,       "clock")          /* utc, localtime */                          \
	X(RTC_TICKS,   "rtc_lost_ticks") /* discard, slew */                           \
	X(PIT_TICKS,   "pit_lost_ticks") /* auto (QEMU's choice), delay */             \
	X(HPET,        "hpet")           /* boolean, as all without a list of values */ \
	X(HYPERV,      "hyperv")         /* the guest sees Hyper-V's interface */      \
	X(KERNEL,      "kernel")         /* path, or "" */                             \
	X(INITRD,      "initrd")         /* path, or "" */                             \
	X(CMDLINE,     "cmdline")        /* text, may be "" */                         \
	X(VIDEO,       "video")          /* none, std, virtio */                       \
	X(VNC,         "vnc")            /* only where there is a display */           \
	X(USB,         "usb")                                                          \
	X(TABLET,      "usb_tablet")                                                   \
	X(POINTER,     "tablet")         /* none, virtio */                            \
	X(SERIAL,      "serial")         /* none, pty */                               \
	X(PARALLEL,    "parallel")       /* none, pty */                               \
	X(FLOPPY,      "floppy")                                                       \
	X(CDROM,       "cdrom")          /* path, or "" */                             \
	X(CD_DRIVE,    "cd_drive")       /* none, sata, scsi: what it is attached by */ \
	X(CD_PORT,     "cd_port")        /* a free port for its controller */          \
	X(SEED,        "seed")           /* none, disk, cdrom */                       \
	X(CONSOLE,     "console")                                                      \
	X(AGENT,       "agent")                                                        \
	X(BALLOON,     "balloon")                                                      \
	X(RNG,         "rng")                                                          \
	X(PVPANIC,     "pvpanic")                                                      \
	X(DISK_BUS,    "disk_bus")       /* of disks that leave it open */             \
	X(DISK_CACHE,  "disk_cache")     /* none, writeback */                         \
	X(DISK_ERRORS, "disk_errors")    /* enospace, stop, report */                  \
	X(DISK_QUEUES, "disk_queues")    /* a number */                                \
	X(NIC_MODEL,   "nic_model")      /* of nics that leave it open */              \
	X(NIC_QUEUES,  "nic_queues")     /* a number; of taps */                       \
	X(NIC_VHOST,   "nic_vhost")      /* packets of taps go through the kernel */
// clang-format on

typedef enum ProfileKey {
#define X(key, name) PROFILE_##key,
	PROFILE_TABLE(X)
#undef X
	    _PROFILE_MAX,
} ProfileKey;

typedef struct Decision {
	char *value;
	Cause *cause;
} Decision;

/* Something that was wished for and can't be had here. */
typedef struct CouldNot {
	char *what;   /* "hv-relaxed", "hw_sound_model=ich6" */
	char *reason; /* a sentence */
	Cause *cause; /* who wished for it */
} CouldNot;

typedef struct Profile {
	Decision decision[_PROFILE_MAX];
	GPtrArray *could_not; /* CouldNot */
	bool has_pin;         /* the CPU is the level: the vm is started with just these features */
	GuestType guest;
	struct featureset pin;
	struct cpu_bits qemu; /* features that the host's QEMU has names for */
	Json *dimms;          /* that the guest has grown by (core/guest/dimm.h); NULL: none */
} Profile;

/*
 * What makes a guest believe that it runs on Hyper-V: name of QEMU's CPU
 * property, value or NULL, element in libvirt's <hyperv> or NULL for the clock.
 * All of them keep their state in MSRs that QEMU migrates. Left out on purpose:
 * hv-passthrough and hv-reenlightenment (they forbid migration), hv-evmcs
 * (Intel only), hv-stimer-direct (only nested Hyper-V needs it).
 */
// clang-format off
#define HYPERV_TABLE(X)                            \
	X("hv-relaxed",     NULL,     "relaxed")     \
	X("hv-vapic",       NULL,     "vapic")       \
	X("hv-spinlocks",   "0x1fff", "spinlocks")   \
	X("hv-time",        NULL,     NULL)          \
	X("hv-vpindex",     NULL,     "vpindex")     \
	X("hv-runtime",     NULL,     "runtime")     \
	X("hv-synic",       NULL,     "synic")       \
	X("hv-stimer",      NULL,     "stimer")      \
	X("hv-reset",       NULL,     "reset")       \
	X("hv-frequencies", NULL,     "frequencies") \
	X("hv-tlbflush",    NULL,     "tlbflush")    \
	X("hv-ipi",         NULL,     "ipi")
// clang-format on
#define HYPERV_SPINLOCK_RETRIES 8191 /* 0x1fff */

/*
 * `machine_kept`: the versioned machine type of the vm's last start (its
 * runtime record has it), or NULL; it stays while the family that is asked for
 * (q35, pc) stays, so that an upgrade of QEMU changes no guest's hardware.
 * `cpu`: what CPUs are on offer; NULL: nothing is known, and the guest gets
 * all that the host has.
 * ERR_UNSUPPORTED when the host can't run the vm as it is set, with advice.
 */
Profile *profile_of(const Vm *vm, const HostFacts *host, const CpuOffer *cpu, const char *machine_kept,
		    GError **err);
Profile *profile_free(Profile *p);

const char *profile_key_name(ProfileKey key);
/* Borrowed; never NULL. */
const char *profile_text(const Profile *p, ProfileKey key);
bool profile_is(const Profile *p, ProfileKey key, const char *value);
/* profile_is(p, key, "true") */
bool profile_on(const Profile *p, ProfileKey key);
uint64_t profile_number(const Profile *p, ProfileKey key);
const Cause *profile_cause(const Profile *p, ProfileKey key);
/* The machine is of the q35 family; else it is of pc's. */
bool profile_is_q35(const Profile *p);
/* Its memory grows by DIMMs. */
bool profile_has_dimms(const Profile *p);
/*
 * Bytes that virtio-mem or DIMMs may plug in, and the size of the region for
 * them: in whole pieces as Linux takes them; or 0.
 */
uint64_t profile_pluggable(const Profile *p);
uint64_t profile_plug_region(const Profile *p);
/* What the machine's max-ram-below-4g must be for the low gap that was asked for; 0: nothing. */
uint64_t profile_ram_below_4g(const Profile *p);
/* Hyper-V's interface is wished for and the accelerator has it. */
bool profile_has_hyperv(const Profile *p);

/* What a disk or nic is attached by: its own word, or the profile's where that is "auto". Borrowed. */
const char *profile_disk_bus(const Profile *p, const VmDisk *d);
const char *profile_nic_model(const Profile *p, const VmNic *n);
/* It is a block device, as its folder tells: a pure planner can't look. */
bool path_is_block_device(const char *path);
/*
 * Past the host's page cache. Without a word of the vm's not for a file that
 * somebody put somewhere: nobody knows whether that file system can.
 */
bool profile_disk_direct(const Profile *p, const VmDisk *d);
/* How many queues of a tap a nic has; 1 for everything that is no tap. */
unsigned profile_nic_queues(const Profile *p, const VmNic *n);

/* [{key, value, cause: {source, key, value, note}}] */
Json *profile_to_json(const Profile *p);
/* [{what, reason, cause}] */
Json *profile_could_not_to_json(const Profile *p);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Profile, profile_free)
