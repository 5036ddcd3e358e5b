/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/cd.h"
#include "core/guest/address.h"
#include "core/guest/argv-impl.h"

#include <string.h>

/* Behind the disks: an empty disk falls through to the installer, an installed one boots. */
#define BOOT_INDEX (VM_DISKS_MAX + 1)

char *cd_path(const Vm *vm, const Folders *f)
{
	if (vm->cd == NULL)
		return g_strdup(json_string_value(vm_setting(vm, "platform.cdrom")));
	return vm->cd->image_id != NULL ? path_image(f, vm->cd->image_id) : g_strdup(vm->cd->path);
}

const char *cd_format(const Vm *vm)
{
	return vm->cd != NULL && vm->cd->image_id != NULL ? "qcow2" : "raw";
}

/* The controller of its disks can hold the CD, too. */
static bool has_scsi_disk(const Profile *p, const Vm *vm)
{
	for (guint i = 0; i < vm->disk->len; i++)
		if (g_str_equal(profile_disk_bus(p, vm->disk->pdata[i]), "virtio-scsi"))
			return true;
	return false;
}

Json *cd_controller(const Profile *p, const Vm *vm)
{
	bool port = profile_on(p, PROFILE_CD_PORT);
	g_autofree char *addr = g_strdup_printf("0x%x", port ? 0 : ADDRESS_SCSI);

	if (!profile_is(p, PROFILE_CD_DRIVE, "scsi") || has_scsi_disk(p, vm))
		return NULL;
	return json_pack("{s:s, s:s, s:s, s:s, s:i}", "driver", "virtio-scsi-pci", "id", CD_CONTROLLER, "bus",
			 port                ? CD_PORT
			 : profile_is_q35(p) ? "pcie.0"
					     : "pci.0",
			 "addr", addr, "num_queues", 1);
}

Json *cd_device(const Profile *p, const Vm *vm)
{
	g_autofree char *sata = g_strdup_printf("sata.%d", SATA_PORT_CDROM);

	if (profile_is(p, PROFILE_CD_DRIVE, "sata"))
		return json_pack("{s:s, s:s, s:s, s:i, s:i}", "driver", "ide-cd", "id", CD_SATA, "bus", sata,
				 "unit", 0, "bootindex", BOOT_INDEX);
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "driver", "scsi-cd", "id", CD_SCSI, "bus",
			 has_scsi_disk(p, vm) ? "scsi.0" : CD_CONTROLLER ".0", "channel", 0, "scsi-id",
			 SCSI_TARGET_CDROM, "lun", 0, "bootindex", BOOT_INDEX);
}

/* {driver, id, ...} as -device takes it. Takes `device`; caller frees. */
static char *device_text(Json *device)
{
	_cleanup_json_ Json *taken = device;
	GString *text = g_string_new(json_str(device, "driver"));
	const char *key;
	Json *v;

	json_object_foreach(device, key, v)
	{
		if (json_is_integer(v))
			g_string_append_printf(text, ",%s=%d", key, (int)json_integer_value(v));
		else if (!g_str_equal(key, "driver"))
			g_string_append_printf(text, ",%s=%s", key, json_string_value(v));
	}
	return g_string_free(text, FALSE);
}

static Cause *medium_cause(const ArgvBuilder *b, const char *path)
{
	const VmCd *cd = b->vm->cd;

	if (cd == NULL)
		return cause_copy(profile_cause(b->p, PROFILE_CDROM));
	if (cd->image_id == NULL)
		return cause_new(CAUSE_VM, "cdrom.path", path, NULL);
	return cause_new(CAUSE_VM, "cdrom.image", cd->image_name != NULL ? cd->image_name : cd->image_id,
			 NULL);
}

static void add_device(ArgvBuilder *b, Json *device)
{
	g_autofree char *text = device_text(device);

	arg_whole(b, "-device", PROFILE_CD_DRIVE, "%s", text);
}

void argv_add_cd_port(ArgvBuilder *b)
{
	if (profile_on(b->p, PROFILE_CD_PORT))
		arg_whole(b, "-device", PROFILE_CD_PORT,
			  "pcie-root-port,id=" CD_PORT ",bus=pcie.0,addr=0x%x,chassis=1", ADDRESS_CD_PORT);
}

void argv_add_cd(ArgvBuilder *b)
{
	g_autofree char *path = cd_path(b->vm, &b->host->folders);
	Json *controller = cd_controller(b->p, b->vm), *device;

	if (profile_is(b->p, PROFILE_CD_DRIVE, "none"))
		return;
	if (controller != NULL)
		add_device(b, controller);
	if (path != NULL) {
		g_autoptr(Cause) because = medium_cause(b, path);

		argv_add_medium(b, CD_NAME, path, cd_format(b->vm), because);
	} else if (profile_is(b->p, PROFILE_CD_DRIVE, "scsi")) {
		return;
	}
	device = cd_device(b->p, b->vm);
	if (path != NULL)
		json_put_str(device, "drive", CD_NAME);
	add_device(b, device);
}

/* Has the argument's value the member `key` with this text? */
static bool has_member(const Json *arg, const char *key, const char *text)
{
	const char *value = json_str(arg, "value");
	g_autofree char *member = g_strdup_printf("%s=%s", key, text);
	g_auto(GStrv) part = value != NULL ? g_strsplit(value, ",", -1) : NULL;

	return part != NULL && g_strv_contains((const char *const *)part, member);
}

bool cd_arguments_have(const Json *arguments, const char *id)
{
	const Json *arg;
	size_t i;

	json_array_foreach((Json *)arguments, i,
			   arg) if (g_strcmp0(json_str(arg, "option"), "-device") == 0 &&
				    has_member(arg, "id", id)) return true;
	return false;
}

static bool is_of_cd(const Json *arg)
{
	const char *option = json_str(arg, "option");

	if (g_strcmp0(option, "-device") == 0)
		return has_member(arg, "id", CD_SATA) || has_member(arg, "id", CD_SCSI) ||
		       has_member(arg, "id", CD_CONTROLLER);
	return g_strcmp0(option, "-blockdev") == 0 &&
	       (has_member(arg, "node-name", CD_NAME) || has_member(arg, "node-name", CD_FILE));
}

size_t cd_arguments_begin(const Json *arguments)
{
	const Json *arg;
	size_t i;

	json_array_foreach((Json *)arguments, i, arg) if (is_of_cd(arg)) return i;
	return json_array_size(arguments);
}

Json *cd_arguments(const Json *arguments, const Profile *p, const Vm *vm, const HostFacts *host)
{
	g_autoptr(Argv) argv = argv_cd(p, vm, host);
	_cleanup_json_ Json *end = argv_to_json(argv);
	Json *list = json_array(), *arg;
	size_t i;

	json_array_foreach((Json *)arguments, i, arg) if (!is_of_cd(arg)) json_array_append(list, arg);
	json_array_extend(list, end);
	return list;
}
