/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/paths.h"

char *path_image(const Folders *f, const char *image_id)
{
	return g_strdup_printf("%s/images/%s.qcow2", f->state, image_id);
}

char *path_image_fetched(const Folders *f, const char *image_id)
{
	return g_strdup_printf("%s/images/.%s.fetched", f->state, image_id);
}

char *path_volume(const Folders *f, const char *volume_id, const char *format)
{
	return g_strdup_printf("%s/volumes/%s.%s", f->state, volume_id, format);
}

char *path_vm_dir(const Folders *f, const char *vm_id)
{
	return g_strdup_printf("%s/vms/%s", f->state, vm_id);
}

static char *in_vm_dir(const Folders *f, const char *vm_id, const char *name)
{
	return g_strdup_printf("%s/vms/%s/%s", f->state, vm_id, name);
}

char *path_vm_seed(const Folders *f, const char *vm_id)
{
	return in_vm_dir(f, vm_id, "seed.iso");
}

char *path_vm_nvram(const Folders *f, const char *vm_id)
{
	return in_vm_dir(f, vm_id, "nvram.fd");
}

char *path_vm_state(const Folders *f, const char *vm_id)
{
	return in_vm_dir(f, vm_id, "state");
}

char *path_vm_backup_dir(const Folders *f, const char *vm_id)
{
	return in_vm_dir(f, vm_id, "backup");
}

char *path_backup_server(const Folders *f, const char *name)
{
	return g_strdup_printf("%s/backups/%s", f->run, name);
}

char *path_vm_tpm_dir(const Folders *f, const char *vm_id)
{
	return in_vm_dir(f, vm_id, "tpm");
}

char *path_vm_run_dir(const Folders *f, const char *vm_id)
{
	return g_strdup_printf("%s/vms/%s", f->run, vm_id);
}

char *path_vm_socket(const Folders *f, const char *vm_id, const char *name)
{
	return g_strdup_printf("%s/vms/%s/%s.sock", f->run, vm_id, name);
}

char *path_evidence(const Folders *f)
{
	return g_strdup_printf("%s/evidence", f->state);
}

char *path_evidence_bundle(const Folders *f, const char *evidence_id)
{
	return g_strdup_printf("%s/evidence/%s", f->state, evidence_id);
}

char *path_evidence_part(const Folders *f, const char *evidence_id)
{
	return g_strdup_printf("%s/evidence/.%s", f->state, evidence_id);
}

char *path_vm_log(const Folders *f, const char *vm_id)
{
	return g_strdup_printf("%s/vms/%s.log", f->log, vm_id);
}
