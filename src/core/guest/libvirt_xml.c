/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/libvirt_xml.h"
#include "core/guest/address.h"
#include "core/guest/cd.h"
#include "core/guest/dimm.h"
#include "core/guest/xml.h"
#include "core/memory/range.h"

#include <inttypes.h>
#include <string.h>

typedef struct Export {
	Xml *x;
	const Profile *p;
	const Vm *vm;
	const HostFacts *host;
} Export;

static const char *yes_no(bool b)
{
	return b ? "yes" : "no";
}

static const char *on_off(bool b)
{
	return b ? "on" : "off";
}

static void put_pci(Xml *x, unsigned bus, unsigned slot)
{
	xml_open(x, "address");
	xml_attr(x, "type", "pci");
	xml_attr(x, "domain", "0x0000");
	xml_attrf(x, "bus", "0x%02x", bus);
	xml_attrf(x, "slot", "0x%02x", slot);
	xml_attr(x, "function", "0x0");
	xml_close(x);
}

static uint64_t kib_of(uint64_t bytes)
{
	return (bytes + 1023) / 1024;
}

static void put_kib(const Export *e, const char *element, uint64_t bytes)
{
	g_autofree char *text = g_strdup_printf("%" PRIu64, kib_of(bytes));

	xml_open(e->x, element);
	xml_attr(e->x, "unit", "KiB");
	xml_inner(e->x, text);
}

static bool has_virtio_mem(const Export *e)
{
	return profile_plug_region(e->p) > 0 && !profile_has_dimms(e->p);
}

/* Libvirt wants slots for whatever is plugged, and counts the whole of virtio-mem's region as memory. */
static void put_memory(const Export *e)
{
	uint64_t base = profile_number(e->p, PROFILE_MEMORY), region = profile_plug_region(e->p);

	if (region > 0) {
		g_autofree char *text = g_strdup_printf("%" PRIu64, kib_of(base + region));

		xml_open(e->x, "maxMemory");
		xml_attrf(e->x, "slots", "%d", has_virtio_mem(e) ? 1 : DIMM_SLOTS);
		xml_attr(e->x, "unit", "KiB");
		xml_inner(e->x, text);
	}
	put_kib(e, "memory", base + (has_virtio_mem(e) ? region : 0));
	/* The balloon takes some at once. */
	put_kib(e, "currentMemory", profile_number(e->p, PROFILE_START));
	if (profile_on(e->p, PROFILE_MERGE))
		return;
	xml_open(e->x, "memoryBacking");
	xml_leaf(e->x, "nosharepages", NULL);
	xml_close(e->x);
}

static void put_sysinfo(const Export *e)
{
	static const char *const entries[][2] = { { "manufacturer", "Plimsoll" },
						  { "product", "Virtual Machine" } };

	xml_open(e->x, "sysinfo");
	xml_attr(e->x, "type", "smbios");
	xml_open(e->x, "system");
	for (size_t i = 0; i < G_N_ELEMENTS(entries); i++) {
		xml_open(e->x, "entry");
		xml_attr(e->x, "name", entries[i][0]);
		xml_inner(e->x, entries[i][1]);
	}
	if (!profile_is(e->p, PROFILE_SEED, "none")) {
		xml_open(e->x, "entry");
		xml_attr(e->x, "name", "serial");
		xml_inner(e->x, "ds=nocloud");
	}
	xml_close(e->x);
	xml_close(e->x);
}

static void put_firmware(const Export *e)
{
	bool secure = profile_is(e->p, PROFILE_SECURE_BOOT, "on");
	const HostFirmware *f = secure ? &e->host->uefi_secure : &e->host->uefi;
	g_autofree char *vars = path_vm_nvram(&e->host->folders, e->vm->id);

	if (!profile_is(e->p, PROFILE_FIRMWARE, "uefi"))
		return;
	xml_open(e->x, "loader");
	xml_attr(e->x, "readonly", "yes");
	xml_attr(e->x, "secure", yes_no(secure));
	xml_attr(e->x, "type", "pflash");
	xml_inner(e->x, f->code);
	xml_open(e->x, "nvram");
	xml_attr(e->x, "template", f->vars);
	xml_inner(e->x, vars);
}

static void put_os(const Export *e)
{
	static const struct {
		ProfileKey key;
		const char *element;
	} direct[] = { { PROFILE_KERNEL, "kernel" },
		       { PROFILE_INITRD, "initrd" },
		       { PROFILE_CMDLINE, "cmdline" } };

	xml_open(e->x, "os");
	xml_open(e->x, "type");
	xml_attr(e->x, "arch", "x86_64");
	xml_attr(e->x, "machine", profile_text(e->p, PROFILE_MACHINE));
	xml_inner(e->x, "hvm");
	put_firmware(e);
	for (size_t i = 0; i < G_N_ELEMENTS(direct) && !profile_is(e->p, PROFILE_KERNEL, ""); i++)
		if (!profile_is(e->p, direct[i].key, ""))
			xml_text(e->x, direct[i].element, profile_text(e->p, direct[i].key));
	xml_leaf(e->x, "smbios", "mode", "sysinfo", NULL);
	xml_close(e->x);
}

static void put_hyperv(const Export *e)
{
	xml_open(e->x, "hyperv");
#define X(name, value, element)                                                                              \
	if ((const char *)element != NULL && (const char *)value == NULL)                                    \
		xml_leaf(e->x, element, "state", "on", NULL);                                                \
	else if ((const char *)element != NULL) {                                                            \
		xml_open(e->x, element);                                                                     \
		xml_attr(e->x, "state", "on");                                                               \
		xml_attrf(e->x, "retries", "%d", HYPERV_SPINLOCK_RETRIES);                                   \
		xml_close(e->x);                                                                             \
	}
	HYPERV_TABLE(X)
#undef X
	xml_close(e->x);
}

static void put_features(const Export *e)
{
	xml_open(e->x, "features");
	xml_leaf(e->x, "acpi", NULL);
	xml_leaf(e->x, "apic", NULL);
	if (profile_has_hyperv(e->p))
		put_hyperv(e);
	if (!profile_is(e->p, PROFILE_PMU, "auto"))
		xml_leaf(e->x, "pmu", "state", on_off(profile_on(e->p, PROFILE_PMU)), NULL);
	xml_leaf(e->x, "vmport", "state", "off", NULL);
	xml_leaf(e->x, "smm", "state", on_off(profile_is(e->p, PROFILE_SECURE_BOOT, "on")), NULL);
	xml_close(e->x);
}

static void put_topology(const Export *e)
{
	g_auto(GStrv) part = g_strsplit(profile_text(e->p, PROFILE_TOPOLOGY), ",", -1);

	xml_open(e->x, "topology");
	for (char **p = part; *p != NULL; p++) {
		g_auto(GStrv) pair = g_strsplit(*p, "=", 2);

		xml_attr(e->x, pair[0], pair[1]);
	}
	xml_attr(e->x, "dies", "1");
	xml_close(e->x);
}

/* "+x" and "-x" are libvirt's features; "x=on" and numbers it has no word for. */
static void put_cpu_features(const Export *e, char **part)
{
	for (; *part != NULL; part++)
		if ((*part)[0] == '+' || (*part)[0] == '-')
			xml_leaf(e->x, "feature", "policy", (*part)[0] == '+' ? "require" : "disable", "name",
				 *part + 1, NULL);
}

/* Where memory is plugged libvirt wants a node for it. */
static void put_node(const Export *e)
{
	if (profile_plug_region(e->p) == 0)
		return;
	xml_open(e->x, "numa");
	xml_open(e->x, "cell");
	xml_attr(e->x, "id", "0");
	xml_attrf(e->x, "cpus", "0-%" PRIu64, profile_number(e->p, PROFILE_VCPUS) - 1);
	xml_attrf(e->x, "memory", "%" PRIu64, kib_of(profile_number(e->p, PROFILE_MEMORY)));
	xml_attr(e->x, "unit", "KiB");
	xml_close(e->x);
	xml_close(e->x);
}

static void put_cpu(const Export *e)
{
	g_auto(GStrv) part = g_strsplit(profile_text(e->p, PROFILE_CPU), ",", -1);
	/* libvirt builds on named models only: a pin becomes what its host has. */
	bool host = g_str_equal(part[0], "host") || (e->p->has_pin && e->p->guest == GUEST_KVM),
	     max = g_str_equal(part[0], "max") || (e->p->has_pin && e->p->guest == GUEST_TCG);

	xml_open(e->x, "cpu");
	xml_attr(e->x, "mode", host ? "host-passthrough" : max ? "maximum" : "custom");
	if (!host && !max) {
		xml_attr(e->x, "match", "exact");
		xml_attr(e->x, "check", profile_is(e->p, PROFILE_ACCEL, "kvm") ? "full" : "none");
		xml_open(e->x, "model");
		xml_attr(e->x, "fallback", "forbid");
		xml_inner(e->x, part[0]);
	}
	put_topology(e);
	put_cpu_features(e, part + 1);
	put_node(e);
	xml_close(e->x);
}

static void put_clock(const Export *e)
{
	xml_open(e->x, "clock");
	xml_attr(e->x, "offset", profile_text(e->p, PROFILE_CLOCK));
	if (profile_is(e->p, PROFILE_PIT_TICKS, "delay"))
		xml_leaf(e->x, "timer", "name", "pit", "tickpolicy", "delay", NULL);
	if (profile_is(e->p, PROFILE_RTC_TICKS, "slew"))
		xml_leaf(e->x, "timer", "name", "rtc", "tickpolicy", "catchup", NULL);
	xml_leaf(e->x, "timer", "name", "hpet", "present", yes_no(profile_on(e->p, PROFILE_HPET)), NULL);
	if (profile_has_hyperv(e->p))
		xml_leaf(e->x, "timer", "name", "hypervclock", "present", "yes", NULL);
	xml_close(e->x);
}

static void put_life_cycle(const Export *e)
{
	xml_text(e->x, "on_poweroff", "destroy");
	xml_text(e->x, "on_reboot", "restart");
	xml_text(e->x, "on_crash", "preserve");
	xml_open(e->x, "pm");
	xml_leaf(e->x, "suspend-to-mem", "enabled", "no", NULL);
	xml_leaf(e->x, "suspend-to-disk", "enabled", "no", NULL);
	xml_close(e->x);
}

static const char *libvirt_bus(const char *bus)
{
	if (g_str_equal(bus, "virtio-blk"))
		return "virtio";
	return g_str_equal(bus, "virtio-scsi") ? "scsi" : "sata";
}

/* Letters follow the slot: no two disks share one. The seed and the CD are y and z. */
static void put_target(const Export *e, const char *bus, unsigned letter)
{
	xml_open(e->x, "target");
	xml_attrf(e->x, "dev", "%s%c", g_str_equal(bus, "virtio") ? "vd" : "sd", (char)('a' + letter));
	xml_attr(e->x, "bus", bus);
	if (!g_str_equal(bus, "virtio") && letter < VM_DISKS_MAX)
		xml_attr(e->x, "rotation_rate", "1");
	xml_close(e->x);
}

/* Libvirt's q35 always has a first SATA controller of its own, at 1f.2. */
static const char *sata_index(const Export *e)
{
	return profile_is_q35(e->p) ? "1" : "0";
}

static void put_drive(const Export *e, const char *controller, unsigned target, unsigned unit)
{
	xml_open(e->x, "address");
	xml_attr(e->x, "type", "drive");
	xml_attr(e->x, "controller", controller);
	xml_attr(e->x, "bus", "0");
	xml_attrf(e->x, "target", "%u", target);
	xml_attrf(e->x, "unit", "%u", unit);
	xml_close(e->x);
}

static void put_disk_address(const Export *e, const VmDisk *d, const char *bus)
{
	struct pci_address at = address_of_disk(d->slot);

	if (g_str_equal(bus, "virtio"))
		put_pci(e->x, at.bus, at.slot);
	else if (g_str_equal(bus, "scsi"))
		put_drive(e, "0", d->slot, 0);
	else
		put_drive(e, sata_index(e), 0, d->slot);
}

static void put_disk(const Export *e, const VmDisk *d, const char *path, unsigned order)
{
	const char *bus = libvirt_bus(profile_disk_bus(e->p, d));
	bool block = path_is_block_device(path);
	bool direct = profile_disk_direct(e->p, d), stop = profile_is(e->p, PROFILE_DISK_ERRORS, "stop");

	xml_open(e->x, "disk");
	xml_attr(e->x, "type", block ? "block" : "file");
	xml_attr(e->x, "device", "disk");
	xml_leaf(e->x, "driver", "name", "qemu", "type", d->format, "cache", direct ? "none" : "writeback",
		 "error_policy", profile_text(e->p, PROFILE_DISK_ERRORS), "rerror_policy",
		 stop ? "stop" : "report", "io", direct ? "native" : "threads", "discard",
		 d->readonly ? NULL : "unmap", "queues",
		 g_str_equal(bus, "virtio") ? profile_text(e->p, PROFILE_DISK_QUEUES) : NULL, NULL);
	xml_leaf(e->x, "source", block ? "dev" : "file", path, NULL);
	put_target(e, bus, d->slot);
	if (d->readonly)
		xml_leaf(e->x, "readonly", NULL);
	xml_text(e->x, "serial", d->name);
	xml_open(e->x, "boot");
	xml_attrf(e->x, "order", "%u", order);
	xml_close(e->x);
	put_disk_address(e, d, bus);
	xml_close(e->x);
}

/* `path` NULL: a CD drive without a medium. */
static void put_medium(const Export *e, const char *device, const char *path, const char *format,
		       unsigned letter, int sata_port)
{
	bool cd = g_str_equal(device, "cdrom");

	xml_open(e->x, "disk");
	xml_attr(e->x, "type", "file");
	xml_attr(e->x, "device", device);
	xml_leaf(e->x, "driver", "name", "qemu", "type", format, NULL);
	if (path != NULL)
		xml_leaf(e->x, "source", "file", path, NULL);
	put_target(e, cd ? "sata" : "virtio", letter);
	xml_leaf(e->x, "readonly", NULL);
	if (cd)
		put_drive(e, sata_index(e), 0, (unsigned)sata_port);
	else
		put_pci(e->x, 0, ADDRESS_SEED);
	xml_close(e->x);
}

/* One that is plugged in by us is on SATA there: libvirt changes media, and plugs no drives. */
static void put_cd(const Export *e)
{
	g_autofree char *path = cd_path(e->vm, &e->host->folders);

	put_medium(e, "cdrom", path, cd_format(e->vm), 'z' - 'a', SATA_PORT_CDROM);
}

static void put_disks(const Export *e, const char *const *disk_path)
{
	g_autofree char *seed = path_vm_seed(&e->host->folders, e->vm->id);

	for (guint i = 0; i < e->vm->disk->len; i++)
		put_disk(e, e->vm->disk->pdata[i], disk_path[i], i + 1);
	if (!profile_is(e->p, PROFILE_SEED, "none"))
		put_medium(e, profile_text(e->p, PROFILE_SEED), seed, "raw", 'y' - 'a', SATA_PORT_SEED);
	if (!profile_is(e->p, PROFILE_CD_DRIVE, "none"))
		put_cd(e);
}

static bool disk_on(const Export *e, const char *bus, bool behind_bridge)
{
	for (guint i = 0; i < e->vm->disk->len; i++) {
		const VmDisk *d = e->vm->disk->pdata[i];

		if (g_str_equal(profile_disk_bus(e->p, d), bus) &&
		    (!behind_bridge || address_of_disk(d->slot).bus > 0))
			return true;
	}
	return false;
}

static void open_controller(const Export *e, const char *type, const char *index, const char *model)
{
	xml_open(e->x, "controller");
	xml_attr(e->x, "type", type);
	xml_attr(e->x, "index", index);
	if (model != NULL)
		xml_attr(e->x, "model", model);
}

static void put_controller(const Export *e, const char *type, const char *index, const char *model,
			   unsigned slot)
{
	open_controller(e, type, index, model);
	if (slot > 0)
		put_pci(e->x, 0, slot);
	xml_close(e->x);
}

static void put_high_gap(const Export *e)
{
	g_autofree char *kib = g_strdup_printf("%" PRIu64, profile_number(e->p, PROFILE_HIGH_GAP) / 1024);

	xml_open(e->x, "pcihole64");
	xml_attr(e->x, "unit", "KiB");
	xml_inner(e->x, kib);
}

static void put_controllers(const Export *e)
{
	bool q35 = profile_is_q35(e->p), usb = profile_on(e->p, PROFILE_USB);

	open_controller(e, "pci", "0", q35 ? "pcie-root" : "pci-root");
	if (!profile_is(e->p, PROFILE_HIGH_GAP, "auto"))
		put_high_gap(e);
	xml_close(e->x);
	if (disk_on(e, "virtio-blk", true))
		put_controller(e, "pci", "1", q35 ? "dmi-to-pci-bridge" : "pci-bridge", ADDRESS_BRIDGE);
	put_controller(e, "usb", "0", usb ? "qemu-xhci" : "none", usb ? ADDRESS_USB : 0);
	if (disk_on(e, "virtio-scsi", false)) {
		open_controller(e, "scsi", "0", "virtio-scsi");
		xml_leaf(e->x, "driver", "queues", profile_text(e->p, PROFILE_DISK_QUEUES), NULL);
		put_pci(e->x, 0, ADDRESS_SCSI);
		xml_close(e->x);
	}
	if (disk_on(e, "sata", false) || !profile_is(e->p, PROFILE_CD_DRIVE, "none") ||
	    profile_is(e->p, PROFILE_SEED, "cdrom"))
		put_controller(e, "sata", sata_index(e), NULL, ADDRESS_SATA);
	if (profile_on(e->p, PROFILE_FLOPPY))
		put_controller(e, "fdc", "0", NULL, 0);
	if (!profile_on(e->p, PROFILE_CONSOLE) && !profile_on(e->p, PROFILE_AGENT))
		return;
	open_controller(e, "virtio-serial", "0", NULL);
	xml_attr(e->x, "ports", "8");
	put_pci(e->x, 0, ADDRESS_VIRTIO_SERIAL);
	xml_close(e->x);
}

static void put_nic(const Export *e, const VmNic *n)
{
	bool bridge = g_str_has_prefix(n->network, "bridge:");
	bool virtio = g_str_equal(profile_nic_model(e->p, n), "virtio-net");
	unsigned queues = profile_nic_queues(e->p, n);

	xml_open(e->x, "interface");
	xml_attr(e->x, "type", bridge ? "bridge" : "user");
	xml_leaf(e->x, "mac", "address", n->mac, NULL);
	if (bridge)
		xml_leaf(e->x, "source", "bridge", n->network + strlen("bridge:"), NULL);
	xml_leaf(e->x, "model", "type", virtio ? "virtio" : profile_nic_model(e->p, n), NULL);
	if (bridge && virtio) {
		xml_open(e->x, "driver");
		xml_attr(e->x, "name", profile_on(e->p, PROFILE_NIC_VHOST) ? "vhost" : "qemu");
		if (queues > 1)
			xml_attrf(e->x, "queues", "%u", queues);
		xml_close(e->x);
	}
	xml_leaf(e->x, "rom", "enabled", "no", NULL);
	put_pci(e->x, 0, address_of_nic(n->slot).slot);
	xml_close(e->x);
}

static void put_port(const Export *e, const char *element, ProfileKey key, const char *target_type)
{
	if (profile_is(e->p, key, "none"))
		return;
	xml_open(e->x, element);
	xml_attr(e->x, "type", "pty");
	xml_leaf(e->x, "target", "type", target_type, "port", "0", NULL);
	xml_close(e->x);
}

static void put_virtio_port(const Export *e, const char *element, const char *source, const char *name,
			    const char *port)
{
	xml_open(e->x, element);
	xml_attr(e->x, "type", source);
	xml_leaf(e->x, "target", "type", "virtio", "name", name, NULL);
	xml_leaf(e->x, "address", "type", "virtio-serial", "controller", "0", "bus", "0", "port", port, NULL);
	xml_close(e->x);
}

static void put_ports(const Export *e)
{
	put_port(e, "serial", PROFILE_SERIAL, "isa-serial");
	put_port(e, "parallel", PROFILE_PARALLEL, NULL);
	if (profile_on(e->p, PROFILE_CONSOLE))
		put_virtio_port(e, "console", "pty", NULL, "0");
	if (profile_on(e->p, PROFILE_AGENT))
		put_virtio_port(e, "channel", "unix", "org.qemu.guest_agent.0", "1");
}

static void put_video(const Export *e)
{
	const char *video = profile_text(e->p, PROFILE_VIDEO);

	xml_open(e->x, "video");
	if (g_str_equal(video, "none")) {
		xml_leaf(e->x, "model", "type", "none", NULL);
	} else {
		g_autofree char *x = g_strdup_printf("%d", SCREEN_WIDTH),
				*y = g_strdup_printf("%d", SCREEN_HEIGHT);

		xml_open(e->x, "model");
		xml_attr(e->x, "type", g_str_equal(video, "std") ? "vga" : "virtio");
		xml_attr(e->x, "heads", "1");
		xml_attr(e->x, "primary", "yes");
		xml_leaf(e->x, "resolution", "x", x, "y", y, NULL);
		xml_close(e->x);
		put_pci(e->x, 0, ADDRESS_VIDEO);
	}
	xml_close(e->x);
}

/* As at a start: nothing is plugged in. */
static void put_virtio_mem(const Export *e)
{
	xml_open(e->x, "memory");
	xml_attr(e->x, "model", "virtio-mem");
	xml_open(e->x, "target");
	put_kib(e, "size", profile_plug_region(e->p));
	xml_text(e->x, "node", "0");
	put_kib(e, "block", RANGE_BLOCK);
	put_kib(e, "requested", 0);
	xml_close(e->x);
	put_pci(e->x, 0, ADDRESS_VIRTIO_MEM);
	xml_close(e->x);
}

static void put_small_devices(const Export *e)
{
	bool balloon = profile_on(e->p, PROFILE_BALLOON);

	if (profile_on(e->p, PROFILE_TABLET))
		xml_leaf(e->x, "input", "type", "tablet", "bus", "usb", NULL);
	if (!profile_is(e->p, PROFILE_POINTER, "none")) {
		xml_open(e->x, "input");
		xml_attr(e->x, "type", "tablet");
		xml_attr(e->x, "bus", "virtio");
		put_pci(e->x, 0, ADDRESS_POINTER);
		xml_close(e->x);
	}
	if (!profile_is(e->p, PROFILE_TPM, "none")) {
		xml_open(e->x, "tpm");
		xml_attr(e->x, "model", profile_text(e->p, PROFILE_TPM));
		xml_leaf(e->x, "backend", "type", "emulator", "version", "2.0", NULL);
		xml_close(e->x);
	}
	xml_open(e->x, "memballoon");
	xml_attr(e->x, "model", balloon ? "virtio" : "none");
	if (balloon) {
		xml_attr(e->x, "autodeflate", "on");
		xml_attr(e->x, "freePageReporting", "on");
		put_pci(e->x, 0, ADDRESS_BALLOON);
	}
	xml_close(e->x);
	if (profile_on(e->p, PROFILE_RNG)) {
		xml_open(e->x, "rng");
		xml_attr(e->x, "model", "virtio");
		xml_leaf(e->x, "backend", "model", "builtin", NULL);
		put_pci(e->x, 0, ADDRESS_RNG);
		xml_close(e->x);
	}
	if (profile_on(e->p, PROFILE_PVPANIC))
		xml_leaf(e->x, "panic", "model", "isa", NULL);
	if (has_virtio_mem(e))
		put_virtio_mem(e);
}

static void put_devices(const Export *e, const char *const *disk_path)
{
	xml_open(e->x, "devices");
	xml_text(e->x, "emulator", e->host->qemu);
	put_disks(e, disk_path);
	put_controllers(e);
	for (guint i = 0; i < e->vm->nic->len; i++)
		if (vm_nic_is_there(e->vm->nic->pdata[i]))
			put_nic(e, e->vm->nic->pdata[i]);
	put_ports(e);
	put_video(e);
	put_small_devices(e);
	xml_close(e->x);
}

char *libvirt_xml_of(const Profile *p, const Vm *vm, const HostFacts *host, const char *const *disk_path)
{
	Export e = { .x = xml_new(), .p = p, .vm = vm, .host = host };

	xml_open(e.x, "domain");
	xml_attr(e.x, "type", profile_is(p, PROFILE_ACCEL, "kvm") ? "kvm" : "qemu");
	xml_text(e.x, "name", vm->name);
	xml_text(e.x, "uuid", vm->id);
	if (vm->description != NULL && vm->description[0] != '\0')
		xml_text(e.x, "description", vm->description);
	put_memory(&e);
	xml_text(e.x, "vcpu", profile_text(p, PROFILE_VCPUS));
	put_sysinfo(&e);
	put_os(&e);
	put_features(&e);
	put_cpu(&e);
	put_clock(&e);
	put_life_cycle(&e);
	put_devices(&e, disk_path);
	return xml_finish(e.x);
}
