/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/address.h"
#include "core/guest/argv-impl.h"
#include "core/memory/range.h"

#include <inttypes.h>

/* A chardev on an inherited listening socket, called as its descriptor. */
static void add_socket(ArgvBuilder *b, const char *id, ProfileKey because)
{
	arg_whole(b, "-chardev", because, "socket,id=%s,fd=@fd:%s@,server=on,wait=off", id, id);
}

/* Port numbers are fixed: port 0 is a console's by QEMU's rule. */
static void add_virtio_serial(ArgvBuilder *b)
{
	bool console = profile_on(b->p, PROFILE_CONSOLE), agent = profile_on(b->p, PROFILE_AGENT);

	if (!console && !agent)
		return;
	arg_whole(b, "-device", console ? PROFILE_CONSOLE : PROFILE_AGENT,
		  "virtio-serial-pci,id=ports,max_ports=8,bus=%s,addr=0x%x", argv_root_bus(b),
		  ADDRESS_VIRTIO_SERIAL);
	if (console) {
		add_socket(b, "console", PROFILE_CONSOLE);
		arg_whole(b, "-device", PROFILE_CONSOLE,
			  "virtconsole,id=hvc0,chardev=console,bus=ports.0,nr=0");
	}
	if (agent) {
		add_socket(b, "agent", PROFILE_AGENT);
		arg_whole(
		    b, "-device", PROFILE_AGENT,
		    "virtserialport,id=agent0,chardev=agent,name=org.qemu.guest_agent.0,bus=ports.0,nr=1");
	}
}

static void add_video(ArgvBuilder *b)
{
	if (!profile_is(b->p, PROFILE_POINTER, "none"))
		arg_whole(b, "-device", PROFILE_POINTER, "virtio-tablet-pci,id=pointer,bus=%s,addr=0x%x",
			  argv_root_bus(b), ADDRESS_POINTER);
	if (profile_is(b->p, PROFILE_VIDEO, "none"))
		return;
	/* It listens nowhere: a viewer is handed to it by the daemon. */
	if (profile_on(b->p, PROFILE_VNC))
		arg_whole(b, "-vnc", PROFILE_VNC, "none");
	arg_whole(b, "-device", PROFILE_VIDEO, "%s,id=video,bus=%s,addr=0x%x,edid=on,xres=%d,yres=%d",
		  profile_is(b->p, PROFILE_VIDEO, "virtio") ? "virtio-vga" : "VGA", argv_root_bus(b),
		  ADDRESS_VIDEO, SCREEN_WIDTH, SCREEN_HEIGHT);
}

static void add_virtio_helpers(ArgvBuilder *b)
{
	if (profile_on(b->p, PROFILE_BALLOON))
		arg_whole(
		    b, "-device", PROFILE_BALLOON,
		    "virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on,bus=%s,addr=0x%x",
		    argv_root_bus(b), ADDRESS_BALLOON);
	if (profile_plug_region(b->p) > 0 && !profile_has_dimms(b->p)) {
		arg_whole(b, "-object", PROFILE_MAX,
			  "memory-backend-ram,id=plugged,size=%" PRIu64 "M,reserve=off",
			  profile_plug_region(b->p) >> 20);
		/* The same size of blocks on every host: left open it would follow the host's huge pages. */
		arg_whole(b, "-device", PROFILE_METHOD,
			  "virtio-mem-pci,id=plug,memdev=plugged,block-size=%" PRIu64
			  "M,requested-size=0,bus=%s,addr=0x%x",
			  RANGE_BLOCK >> 20, argv_root_bus(b), ADDRESS_VIRTIO_MEM);
	}
	if (profile_on(b->p, PROFILE_RNG)) {
		arg_whole(b, "-object", PROFILE_RNG, "rng-builtin,id=random");
		arg_whole(b, "-device", PROFILE_RNG, "virtio-rng-pci,id=rng,rng=random,bus=%s,addr=0x%x",
			  argv_root_bus(b), ADDRESS_RNG);
	}
}

static void add_usb(ArgvBuilder *b)
{
	if (!profile_on(b->p, PROFILE_USB))
		return;
	arg_whole(b, "-device", PROFILE_USB, "qemu-xhci,id=usb,bus=%s,addr=0x%x", argv_root_bus(b),
		  ADDRESS_USB);
	if (profile_on(b->p, PROFILE_TABLET))
		arg_whole(b, "-device", PROFILE_TABLET, "usb-tablet,id=tablet,bus=usb.0,port=1");
}

static void add_ports(ArgvBuilder *b)
{
	if (!profile_is(b->p, PROFILE_SERIAL, "none")) {
		add_socket(b, "serial", PROFILE_SERIAL);
		arg_whole(b, "-device", PROFILE_SERIAL, "isa-serial,id=serial0,chardev=serial,index=0");
	}
	if (!profile_is(b->p, PROFILE_PARALLEL, "none")) {
		add_socket(b, "parallel", PROFILE_PARALLEL);
		arg_whole(b, "-device", PROFILE_PARALLEL,
			  "isa-parallel,id=parallel0,chardev=parallel,index=0");
	}
	if (profile_on(b->p, PROFILE_FLOPPY)) {
		arg_whole(b, "-device", PROFILE_FLOPPY, "isa-fdc,id=fdc");
		arg_whole(b, "-device", PROFILE_FLOPPY, "floppy,id=floppy0,bus=fdc.0,unit=0,drive-type=144");
	}
}

static void add_tpm(ArgvBuilder *b)
{
	g_autofree char *path = NULL, *quoted = NULL;

	if (profile_is(b->p, PROFILE_TPM, "none"))
		return;
	path = path_vm_socket(&b->host->folders, b->vm->id, "swtpm");
	quoted = arg_quoted(path);
	arg_whole(b, "-chardev", PROFILE_TPM, "socket,id=swtpm,path=%s", quoted);
	arg_whole(b, "-tpmdev", PROFILE_TPM, "emulator,id=tpm,chardev=swtpm");
	arg_whole(b, "-device", PROFILE_TPM, "%s,id=tpm0,tpmdev=tpm", profile_text(b->p, PROFILE_TPM));
}

void argv_add_devices(ArgvBuilder *b)
{
	add_video(b);
	add_virtio_serial(b);
	add_virtio_helpers(b);
	add_usb(b);
	add_ports(b);
	add_tpm(b);
	if (profile_on(b->p, PROFILE_PVPANIC))
		arg_whole(b, "-device", PROFILE_PVPANIC, "pvpanic,id=pvpanic");
	/* A file of the firmware's interface: no interrupts, no registers of its own. */
	arg_begin(b, "-device");
	arg_default(b, "dump", "The guest's kernel tells where it is: a dump of its memory can be read.",
		    "vmcoreinfo,id=vmcoreinfo");
}

/* "@fd:tap-net0-0@:@fd:tap-net0-1@" */
static char *queue_fds(const char *what, const char *nic, unsigned queues)
{
	GString *s = g_string_new(NULL);

	for (unsigned i = 0; i < queues; i++)
		g_string_append_printf(s, "%s@fd:%s-%s-%u@", i > 0 ? ":" : "", what, nic, i);
	return g_string_free(s, FALSE);
}

static void add_tap(ArgvBuilder *b, const VmNic *n, const Cause *network)
{
	unsigned queues = profile_nic_queues(b->p, n);
	g_autofree char *taps = queue_fds("tap", n->name, queues),
			*vhosts = queue_fds("vhost", n->name, queues);
	const char *plural = queues > 1 ? "s" : "";

	arg_part(b, network, "tap,id=net-%s,fd%s=%s", n->name, plural, taps);
	if (profile_on(b->p, PROFILE_NIC_VHOST) && g_str_equal(profile_nic_model(b->p, n), "virtio-net"))
		arg_part(b, profile_cause(b->p, PROFILE_NIC_VHOST), "vhost=on,vhostfd%s=%s", plural, vhosts);
}

static void add_netdev(ArgvBuilder *b, const VmNic *n)
{
	g_autoptr(Cause) network = cause_of_vm("nics", n->name, "network", n->network);

	arg_begin(b, "-netdev");
	if (g_str_equal(n->network, "user"))
		arg_part(b, network, "user,id=net-%s", n->name);
	else
		add_tap(b, n, network);
}

static Cause *nic_model_cause(const ArgvBuilder *b, const VmNic *n)
{
	if (g_str_equal(n->model, "auto"))
		return cause_copy(profile_cause(b->p, PROFILE_NIC_MODEL));
	return cause_of_vm("nics", n->name, "model", n->model);
}

static void add_nic(ArgvBuilder *b, const VmNic *n)
{
	const char *model = profile_nic_model(b->p, n);
	struct pci_address at = address_of_nic(n->slot);
	unsigned queues = profile_nic_queues(b->p, n);
	g_autoptr(Cause) why = nic_model_cause(b, n), mac = cause_of_vm("nics", n->name, "mac", n->mac);

	g_assert(n->mac != NULL);
	add_netdev(b, n);
	arg_begin(b, "-device");
	arg_part(b, why, "%s,id=nic-%s,netdev=net-%s,bus=%s,addr=0x%x",
		 g_str_equal(model, "virtio-net") ? "virtio-net-pci" : model, n->name, n->name,
		 argv_root_bus(b), at.slot);
	arg_part(b, mac, "mac=%s", n->mac);
	/* QEMU's rule: one interrupt a queue and direction, one for changes and one for control. */
	if (queues > 1)
		arg_part(b, profile_cause(b->p, PROFILE_NIC_QUEUES), "mq=on,vectors=%u", 2 * queues + 2);
	arg_default(b, "lean", "No boot from the network.", "romfile=");
}

void argv_add_nics(ArgvBuilder *b)
{
	for (guint i = 0; i < b->vm->nic->len; i++)
		if (vm_nic_is_there(b->vm->nic->pdata[i]))
			add_nic(b, b->vm->nic->pdata[i]);
}
