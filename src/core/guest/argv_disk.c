/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/address.h"
#include "core/guest/argv-impl.h"

#include <string.h>

/* Two nodes: NAME-file opens the file, NAME reads the format. */
struct nodes {
	const char *name, *path, *format;
	bool readonly, direct;
	const Cause *source, *cache;
};

static void add_node_options(ArgvBuilder *b, const struct nodes *n)
{
	arg_part(b, n->cache, "cache.direct=%s", n->direct ? "on" : "off");
	if (n->readonly)
		arg_part(b, n->source, "read-only=on");
	else
		arg_default(b, "discard", "What the guest trims is given back.", "discard=unmap");
}

static void add_nodes(ArgvBuilder *b, const struct nodes *n)
{
	g_autofree char *file = arg_quoted(n->path);

	arg_begin(b, "-blockdev");
	arg_part(b, n->source, "driver=%s,node-name=%s-file,filename=%s",
		 path_is_block_device(n->path) ? "host_device" : "file", n->name, file);
	arg_part(b, n->cache, "aio=%s", n->direct ? "native" : "threads");
	add_node_options(b, n);
	arg_begin(b, "-blockdev");
	arg_part(b, n->source, "driver=%s,node-name=%s,file=%s-file", n->format, n->name, n->name);
	add_node_options(b, n);
}

/* By many: the page cache is what they want. */
void argv_add_medium(ArgvBuilder *b, const char *name, const char *path, const char *format,
		     const Cause *because)
{
	g_autoptr(Cause) cache =
	    cause_new(CAUSE_DEFAULT, "media", "always", "Read-only media are read through the page cache.");

	add_nodes(b, &(struct nodes){ .name = name,
				      .path = path,
				      .format = format,
				      .readonly = true,
				      .source = because,
				      .cache = cache });
}

static void add_disk_nodes(ArgvBuilder *b, const VmDisk *d, const char *node, const char *path)
{
	const char *member = d->volume != NULL ? "volume" : "path",
		   *value = d->volume != NULL ? d->volume : d->path;
	g_autoptr(Cause) source = cause_of_vm("disks", d->name, member, value);
	g_autoptr(Cause) unsure = cause_of_vm("disks", d->name, member, value);
	bool direct = profile_disk_direct(b->p, d), wanted = profile_is(b->p, PROFILE_DISK_CACHE, "none");

	unsure->note = g_strdup("Not known whether direct I/O works there; disk.cache=none demands it.");
	add_nodes(b, &(struct nodes){ .name = node,
				      .path = path,
				      .format = d->format,
				      .readonly = d->readonly,
				      .direct = direct,
				      .source = source,
				      .cache = wanted && !direct ? unsure
								 : profile_cause(b->p, PROFILE_DISK_CACHE) });
}

static Cause *disk_bus_cause(const ArgvBuilder *b, const VmDisk *d)
{
	if (g_str_equal(d->bus, "auto"))
		return cause_copy(profile_cause(b->p, PROFILE_DISK_BUS));
	return cause_of_vm("disks", d->name, "bus", d->bus);
}

static void add_virtio_blk(ArgvBuilder *b, const VmDisk *d, const Cause *bus)
{
	struct pci_address at = address_of_disk(d->slot);

	arg_part(b, bus, "virtio-blk-pci,id=disk-%s,drive=disk-%s,serial=%s,bus=%s,addr=0x%x", d->name,
		 d->name, d->name, at.bus == 0 ? argv_root_bus(b) : "pci.1", at.slot);
	arg_part(b, profile_cause(b->p, PROFILE_DISK_QUEUES), "num-queues=%s",
		 profile_text(b->p, PROFILE_DISK_QUEUES));
}

/* QEMU's words for the policy: what a failed write does, and a failed read. */
static void add_error_policy(ArgvBuilder *b)
{
	bool stop = profile_is(b->p, PROFILE_DISK_ERRORS, "stop");
	const char *write = profile_is(b->p, PROFILE_DISK_ERRORS, "enospace") ? "enospc" : "report";

	arg_part(b, profile_cause(b->p, PROFILE_DISK_ERRORS), "werror=%s,rerror=%s", stop ? "stop" : write,
		 stop ? "stop" : "report");
}

static void add_disk(ArgvBuilder *b, guint index)
{
	const VmDisk *d = b->vm->disk->pdata[index];
	const char *bus = profile_disk_bus(b->p, d);
	/* 0 is the option ROM's that boots a kernel directly. */
	g_autofree char *node = g_strdup_printf("disk-%s", d->name),
			*place = g_strdup_printf("%u", index + 1);
	g_autoptr(Cause) why = disk_bus_cause(b, d), order = cause_of_vm("disks", d->name, "order", place);

	add_disk_nodes(b, d, node, b->disk_path[index]);
	arg_begin(b, "-device");
	if (g_str_equal(bus, "virtio-blk"))
		add_virtio_blk(b, d, why);
	else if (g_str_equal(bus, "virtio-scsi"))
		arg_part(
		    b, why,
		    "scsi-hd,id=%s,drive=%s,serial=%s,bus=scsi.0,channel=0,scsi-id=%u,lun=0,rotation_rate=1",
		    node, node, d->name, d->slot);
	else
		arg_part(b, why, "ide-hd,id=%s,drive=%s,serial=%s,bus=sata.%u,unit=0,rotation_rate=1", node,
			 node, d->name, d->slot);
	arg_part(b, order, "bootindex=%s", place);
	add_error_policy(b);
}

/* Why the first disk on `bus` is there; NULL when there is none. Caller frees. */
static Cause *bus_cause(const ArgvBuilder *b, const char *bus)
{
	for (guint i = 0; i < b->vm->disk->len; i++) {
		const VmDisk *d = b->vm->disk->pdata[i];

		if (g_str_equal(profile_disk_bus(b->p, d), bus))
			return disk_bus_cause(b, d);
	}
	return NULL;
}

/* Why there are CDs on SATA; NULL when there are none. Caller frees. */
static Cause *cds_cause(const ArgvBuilder *b)
{
	if (profile_is(b->p, PROFILE_CD_DRIVE, "sata"))
		return cause_copy(profile_cause(b->p, PROFILE_CD_DRIVE));
	return profile_is(b->p, PROFILE_SEED, "cdrom") ? cause_copy(profile_cause(b->p, PROFILE_SEED)) : NULL;
}

/* The disks behind the bridge: see address.h. */
static void add_bridge(ArgvBuilder *b)
{
	for (guint i = 0; i < b->vm->disk->len; i++) {
		const VmDisk *d = b->vm->disk->pdata[i];
		g_autofree char *slot = g_strdup_printf("%u", d->slot);
		g_autoptr(Cause) why = cause_of_vm("disks", d->name, "slot", slot);

		if (address_of_disk(d->slot).bus == 0 ||
		    !g_str_equal(profile_disk_bus(b->p, d), "virtio-blk"))
			continue;
		arg_begin(b, "-device");
		if (profile_is_q35(b->p))
			arg_part(b, why, "i82801b11-bridge,id=pci.1,bus=pcie.0,addr=0x%x", ADDRESS_BRIDGE);
		else
			arg_part(b, why, "pci-bridge,id=pci.1,chassis_nr=1,shpc=off,bus=pci.0,addr=0x%x",
				 ADDRESS_BRIDGE);
		return;
	}
}

static void add_controllers(ArgvBuilder *b)
{
	g_autoptr(Cause) scsi = bus_cause(b, "virtio-scsi"), sata = bus_cause(b, "sata");

	if (scsi != NULL) {
		arg_begin(b, "-device");
		arg_part(b, scsi, "virtio-scsi-pci,id=scsi,bus=%s,addr=0x%x", argv_root_bus(b), ADDRESS_SCSI);
		arg_part(b, profile_cause(b->p, PROFILE_DISK_QUEUES), "num_queues=%s",
			 profile_text(b->p, PROFILE_DISK_QUEUES));
	}
	if (sata == NULL)
		sata = cds_cause(b);
	if (sata != NULL) {
		arg_begin(b, "-device");
		arg_part(b, sata, "ich9-ahci,id=sata,bus=%s,addr=0x%x", argv_root_bus(b), ADDRESS_SATA);
	}
}

static void add_seed(ArgvBuilder *b)
{
	g_autofree char *path = path_vm_seed(&b->host->folders, b->vm->id);

	if (profile_is(b->p, PROFILE_SEED, "none"))
		return;
	argv_add_medium(b, "seed", path, "raw", profile_cause(b->p, PROFILE_SEED));
	if (profile_is(b->p, PROFILE_SEED, "disk"))
		arg_whole(b, "-device", PROFILE_SEED,
			  "virtio-blk-pci,id=seed,drive=seed,serial=seed,bus=%s,addr=0x%x,num-queues=1",
			  argv_root_bus(b), ADDRESS_SEED);
	else
		arg_whole(b, "-device", PROFILE_SEED, "ide-cd,id=seed,drive=seed,bus=sata.%d,unit=0",
			  SATA_PORT_SEED);
}

static bool sata_ok(const VmDisk *d, GError **err)
{
	if (d->slot >= SATA_DISKS_MAX)
		return fail_advice(err, ERR_UNSUPPORTED,
				   "Attach it by virtio-blk or virtio-scsi, or give it a lower slot.",
				   "disk '%s' has slot %u, and SATA has slots 0 to %d", d->name, d->slot,
				   SATA_DISKS_MAX - 1);
	if (d->readonly)
		return fail_advice(err, ERR_UNSUPPORTED, "Attach it by virtio-blk or virtio-scsi.",
				   "disk '%s' is read-only, and SATA knows no such disks", d->name);
	return true;
}

static bool disks_ok(const ArgvBuilder *b, GError **err)
{
	for (guint i = 0; i < b->vm->disk->len; i++) {
		const VmDisk *d = b->vm->disk->pdata[i];

		if (g_str_equal(profile_disk_bus(b->p, d), "sata") && !sata_ok(d, err))
			return false;
	}
	return true;
}

bool argv_add_disks(ArgvBuilder *b, GError **err)
{
	if (!disks_ok(b, err))
		return false;
	add_bridge(b);
	argv_add_cd_port(b);
	add_controllers(b);
	for (guint i = 0; i < b->vm->disk->len; i++)
		add_disk(b, i);
	add_seed(b);
	return true;
}
