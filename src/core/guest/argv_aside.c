/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/argv-impl.h"

#define ASIDE "aside"

static void add_disk(ArgvBuilder *b, const VmDisk *d, const char *path)
{
	g_autofree char *file = arg_quoted(path);
	g_autoptr(Cause) why = cause_of_vm("disks", d->name, "path", path);

	arg_begin(b, "-blockdev");
	arg_part(b, why, "driver=%s,node-name=disk-%s-file,filename=%s",
		 path_is_block_device(path) ? "host_device" : "file", d->name, file);
	arg_default(b, "discard", NULL, "discard=unmap");
	arg_begin(b, "-blockdev");
	arg_part(b, why, "driver=%s,node-name=disk-%s,file=disk-%s-file", d->format, d->name, d->name);
	arg_default(b, "discard", NULL, "discard=unmap");
}

Argv *argv_aside(const Vm *vm, const HostFacts *host, const char *const *disk_path, GError **err)
{
	g_autoptr(Argv) argv = argv_new();
	ArgvBuilder b = { .vm = vm, .host = host, .disk_path = disk_path, .argv = argv };

	g_assert(vm->id != NULL);
	if (!argv_paths_ok(&b, err))
		return NULL;
	arg_begin(&b, host->qemu);
	argv_add_identity(&b);
	arg_begin(&b, "-machine");
	arg_default(&b, ASIDE, "Disks, and nobody who uses them.", "none");
	arg_flag(&b, "-S", ASIDE, NULL);
	argv_add_monitors(&b);
	for (guint i = 0; i < vm->disk->len; i++) {
		const VmDisk *d = vm->disk->pdata[i];

		if (!d->readonly)
			add_disk(&b, d, disk_path[i]);
	}
	return g_steal_pointer(&argv);
}
