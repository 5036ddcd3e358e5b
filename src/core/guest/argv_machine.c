/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/argv-impl.h"
#include "core/guest/dimm.h"

#include <inttypes.h>
#include <string.h>

#define LEAN "lean"
#define IDENTITY "identity"
#define ISOLATION "isolation"
#define MONITORING "monitoring"
#define LIFE "life-cycle"
/* Of a part of -cpu that lists features; each is a row of `vm explain`. */
#define FEATURES_LENGTH 80
#define PLUG_UNIT (UINT64_C(1) << 20)

/* What the machine type brings along and this guest has no use for. */
static void add_machine_type(ArgvBuilder *b)
{
	const Profile *p = b->p;
	bool secure = profile_is(p, PROFILE_SECURE_BOOT, "on");

	arg_begin(b, "-machine");
	arg_part(b, profile_cause(p, PROFILE_MACHINE), "%s", profile_text(p, PROFILE_MACHINE));
	arg_default(b, LEAN, "The built-in USB controller polls; xHCI is added when USB is wanted.",
		    "usb=off");
	arg_default(b, LEAN, "VMware's port is no use here.", "vmport=off");
	arg_part(b, profile_cause(p, PROFILE_HPET), "hpet=%s", profile_on(p, PROFILE_HPET) ? "on" : "off");
	arg_part(b, profile_cause(p, PROFILE_SECURE_BOOT), "smm=%s", secure ? "on" : "off");
	if (profile_is_q35(p))
		arg_default(b, LEAN, "SATA is added, at its own address, when there is a drive on it.",
			    "sata=off");
	arg_default(b, LEAN, "Nothing is on the SMBus.", "smbus=off");
	arg_default(b, ISOLATION, "A core file of QEMU holds no memory of the guest.", "dump-guest-core=off");
	arg_part(b, profile_cause(p, PROFILE_MERGE), "mem-merge=%s",
		 profile_on(p, PROFILE_MERGE) ? "on" : "off");
	if (profile_ram_below_4g(p) > 0)
		arg_part(b, profile_cause(p, PROFILE_LOW_GAP), "max-ram-below-4g=%" PRIu64,
			 profile_ram_below_4g(p));
	if (profile_is(p, PROFILE_FIRMWARE, "uefi"))
		arg_part(b, profile_cause(p, PROFILE_FIRMWARE),
			 "pflash0=firmware-code,pflash1=firmware-vars");
}

static void add_hyperv(ArgvBuilder *b)
{
	const Cause *cause = profile_cause(b->p, PROFILE_HYPERV);

#define X(name, value, element)                                                                              \
	arg_part(b, cause, "%s%s%s", name, (const char *)value != NULL ? "=" : "",                           \
		 (const char *)value != NULL ? (const char *)value : "");
	HYPERV_TABLE(X)
#undef X
}

static void add_model(ArgvBuilder *b)
{
	const Profile *p = b->p;
	bool chosen = !profile_is(p, PROFILE_CPU, "host") && !profile_is(p, PROFILE_CPU, "max");

	arg_part(b, profile_cause(p, PROFILE_CPU), "%s", profile_text(p, PROFILE_CPU));
	if (profile_is(p, PROFILE_ACCEL, "kvm") && chosen)
		arg_default(b, "cpu.model", "A CPU that the host can't give in full is refused, not trimmed.",
			    "enforce");
}

/* In pieces that people can read. */
static void add_features(ArgvBuilder *b, const Cause *cause, const char *list)
{
	g_auto(GStrv) word = g_strsplit(list, ",", -1);
	g_autoptr(GString) line = g_string_new(NULL);

	for (size_t i = 0; word[i] != NULL; i++) {
		g_string_append_printf(line, "%s%s", line->len > 0 ? "," : "", word[i]);
		if (line->len < FEATURES_LENGTH && word[i + 1] != NULL)
			continue;
		arg_part(b, cause, "%s", line->str);
		g_string_truncate(line, 0);
	}
}

/*
 * What the CPU is, that the host must be able to give all of it, and the
 * features: parts of "base,vendor=...,enforce,fpu=on,...".
 */
static bool add_pin(ArgvBuilder *b, GError **err)
{
	const Profile *p = b->p;
	const Cause *cause = profile_cause(p, PROFILE_CPU);
	g_autofree char *text = featureset_print_qemu(&p->pin, &p->qemu, err);
	char *enforce = text != NULL ? strstr(text, ",enforce,") : NULL;

	if (text == NULL)
		return false;
	g_assert(enforce != NULL);
	*enforce = '\0';
	arg_part(b, cause, "%s", text);
	arg_default(b, "cpu.level", "A CPU that the host can't give in full is refused, not trimmed.",
		    "enforce");
	add_features(b, cause, enforce + strlen(",enforce,"));
	return true;
}

static bool add_cpu(ArgvBuilder *b, GError **err)
{
	const Profile *p = b->p;

	arg_begin(b, "-cpu");
	if (p->has_pin && !add_pin(b, err))
		return false;
	if (!p->has_pin)
		add_model(b);
	if (!profile_is(p, PROFILE_PMU, "auto"))
		arg_part(b, profile_cause(p, PROFILE_PMU), "pmu=%s",
			 profile_on(p, PROFILE_PMU) ? "on" : "off");
	if (profile_has_hyperv(p))
		add_hyperv(b);
	return true;
}

/* In MiB where it is whole ones, for people. */
static void add_memory(ArgvBuilder *b)
{
	uint64_t kib = (profile_number(b->p, PROFILE_MEMORY) + 1023) / 1024,
		 region = profile_plug_region(b->p);

	if (kib % 1024 == 0)
		arg_whole(b, "-m", PROFILE_MEMORY, "size=%" PRIu64 "M", kib / 1024);
	else /* QEMU rounds to 8 KiB by itself */
		arg_whole(b, "-m", PROFILE_MEMORY, "size=%" PRIu64 "k", kib);
	/* QEMU itself rounds what the guest boots with up; the region is what is between the two. */
	if (profile_has_dimms(b->p))
		arg_part(b, profile_cause(b->p, PROFILE_METHOD), "slots=%d", DIMM_SLOTS);
	if (region > 0)
		arg_part(b, profile_cause(b->p, PROFILE_MAX), "maxmem=%" PRIu64 "M",
			 (kib + 1023) / 1024 + region / PLUG_UNIT);
}

static void add_high_gap(ArgvBuilder *b)
{
	if (!profile_is(b->p, PROFILE_HIGH_GAP, "auto"))
		arg_whole(b, "-global", PROFILE_HIGH_GAP, "%s.pci-hole64-size=%s",
			  profile_is_q35(b->p) ? "q35-pcihost" : "i440FX-pcihost",
			  profile_text(b->p, PROFILE_HIGH_GAP));
}

static void add_name(ArgvBuilder *b)
{
	g_autoptr(Cause) name = cause_new(CAUSE_VM, "name", b->vm->name, NULL);
	g_autoptr(Cause) id = cause_new(CAUSE_VM, "id", b->vm->id, NULL);

	arg_begin(b, "-name");
	arg_part(b, name, "guest=%s,process=vm-%s", b->vm->name, b->vm->name);
	arg_default(b, MONITORING, "Threads have names in top.", "debug-threads=on");
	arg_begin(b, "-uuid");
	arg_part(b, id, "%s", b->vm->id);
}

static void add_isolation(ArgvBuilder *b)
{
	arg_flag(b, "-nodefaults", LEAN, "No device that nobody asked for.");
	arg_flag(b, "-no-user-config", ISOLATION, "The command line says all; no file adds to it.");
	arg_begin(b, "-display");
	arg_default(b, LEAN, NULL, "none");
	arg_begin(b, "-sandbox");
	arg_default(b, ISOLATION, "System calls that QEMU does not need end it.",
		    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	arg_begin(b, "-msg");
	arg_default(b, MONITORING, NULL, "timestamp=on");
}

/* A guest that sleeps can't be woken; the TCO watchdog is petted for ever and guards nobody. */
static void add_power_management(ArgvBuilder *b)
{
	const char *pm = profile_is_q35(b->p) ? "ICH9-LPC" : "PIIX4_PM";

	for (int s = 3; s <= 4; s++) {
		arg_begin(b, "-global");
		arg_default(b, LIFE, "A guest that went to sleep could not be woken.", "%s.disable_s%d=1", pm,
			    s);
	}
	if (!profile_is_q35(b->p))
		return;
	arg_begin(b, "-global");
	arg_default(b, LEAN, "Guests pet the chipset's watchdog, each time waking the host.",
		    "ICH9-LPC.enable_tco=off");
}

static void add_clock(ArgvBuilder *b)
{
	const Profile *p = b->p;

	arg_begin(b, "-rtc");
	arg_part(b, profile_cause(p, PROFILE_CLOCK), "base=%s", profile_text(p, PROFILE_CLOCK));
	if (profile_is(p, PROFILE_RTC_TICKS, "slew"))
		arg_part(b, profile_cause(p, PROFILE_RTC_TICKS), "driftfix=slew");
	if (profile_is(p, PROFILE_PIT_TICKS, "delay"))
		arg_whole(b, "-global", PROFILE_PIT_TICKS, "kvm-pit.lost_tick_policy=delay");
}

static void add_boot(ArgvBuilder *b)
{
	const Profile *p = b->p;

	arg_begin(b, "-boot");
	arg_default(b, LIFE, "Only what has a place in the order is tried.", "strict=on");
	arg_flag(b, "-S", LIFE, "The guest runs when its QEMU was seen to be well.");
	arg_begin(b, "-action");
	arg_default(b, LIFE, "A guest that panicked waits for what on_panic says.", "panic=pause");
	if (profile_is(p, PROFILE_KERNEL, ""))
		return;
	arg_whole(b, "-kernel", PROFILE_KERNEL, "%s", profile_text(p, PROFILE_KERNEL));
	if (!profile_is(p, PROFILE_INITRD, ""))
		arg_whole(b, "-initrd", PROFILE_INITRD, "%s", profile_text(p, PROFILE_INITRD));
	if (!profile_is(p, PROFILE_CMDLINE, ""))
		arg_whole(b, "-append", PROFILE_CMDLINE, "%s", profile_text(p, PROFILE_CMDLINE));
}

/* cloud-init reads its data source from the serial number, and finds the seed by its label. */
static void add_smbios(ArgvBuilder *b)
{
	bool seed = !profile_is(b->p, PROFILE_SEED, "none");

	arg_begin(b, "-smbios");
	arg_default(b, IDENTITY, NULL, "type=1,manufacturer=Plimsoll,product=Virtual Machine");
	if (seed)
		arg_part(b, profile_cause(b->p, PROFILE_SEED), "serial=ds=nocloud");
}

void argv_add_identity(ArgvBuilder *b)
{
	add_name(b);
	add_isolation(b);
}

bool argv_add_machine(ArgvBuilder *b, GError **err)
{
	const Profile *p = b->p;

	argv_add_identity(b);
	add_machine_type(b);
	arg_whole(b, "-accel", PROFILE_ACCEL, "%s", profile_text(p, PROFILE_ACCEL));
	if (!add_cpu(b, err))
		return false;
	arg_begin(b, "-smp");
	arg_part(b, profile_cause(p, PROFILE_VCPUS), "cpus=%s", profile_text(p, PROFILE_VCPUS));
	arg_part(b, profile_cause(p, PROFILE_TOPOLOGY), "%s", profile_text(p, PROFILE_TOPOLOGY));
	add_memory(b);
	add_high_gap(b);
	add_clock(b);
	add_power_management(b);
	add_boot(b);
	add_smbios(b);
	return true;
}

void argv_add_firmware(ArgvBuilder *b)
{
	const Profile *p = b->p;
	bool secure = profile_is(p, PROFILE_SECURE_BOOT, "on");
	const HostFirmware *f = secure ? &b->host->uefi_secure : &b->host->uefi;
	g_autofree char *vars = NULL, *code_q = NULL, *vars_q = NULL;

	if (!profile_is(p, PROFILE_FIRMWARE, "uefi"))
		return;
	vars = path_vm_nvram(&b->host->folders, b->vm->id);
	code_q = arg_quoted(f->code);
	vars_q = arg_quoted(vars);
	arg_whole(b, "-blockdev", PROFILE_FIRMWARE,
		  "driver=file,node-name=firmware-code-file,filename=%s,read-only=on", code_q);
	arg_whole(b, "-blockdev", PROFILE_FIRMWARE,
		  "driver=raw,node-name=firmware-code,file=firmware-code-file,read-only=on");
	arg_whole(b, "-blockdev", PROFILE_FIRMWARE, "driver=file,node-name=firmware-vars-file,filename=%s",
		  vars_q);
	arg_whole(b, "-blockdev", PROFILE_FIRMWARE,
		  "driver=raw,node-name=firmware-vars,file=firmware-vars-file");
	if (secure)
		arg_whole(b, "-global", PROFILE_SECURE_BOOT, "driver=cfi.pflash01,property=secure,value=on");
}

void argv_add_monitors(ArgvBuilder *b)
{
	static const struct {
		const char *id, *note;
	} monitor[] = {
		{ "qmp", "The daemon's." },
		{ "qmp2", "For tools: a client that is stuck can't lock the daemon out." },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(monitor); i++) {
		const char *id = monitor[i].id;

		arg_begin(b, "-chardev");
		arg_default(b, MONITORING, monitor[i].note, "socket,id=%s,fd=@fd:%s@,server=on,wait=off", id,
			    id);
		arg_begin(b, "-mon");
		arg_default(b, MONITORING, monitor[i].note, "chardev=%s,mode=control", id);
	}
}
