/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/evidence.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/model/paths.h"
#include "engine/vm_ops.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define CMDLINE_MAX (UINT64_C(1) << 20)
/* Headers of the ELF file, and what the firmware and devices have beside RAM. */
#define DUMP_EXTRA (UINT64_C(64) << 20)

static bool has_word(const char *words, size_t len, const char *word)
{
	for (const char *p = words; p < words + len; p += strlen(p) + 1)
		if (g_str_equal(p, word))
			return true;
	return false;
}

/*
 * A QEMU of that vm, and of this daemon: it was given the vm's log as its
 * standard error. (Two daemons on one machine are two hosts.) `log` has no
 * links in it.
 */
static bool is_qemu_of(const char *pid, const char *vm_id, const char *log)
{
	g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", pid),
			*fd = g_strdup_printf("/proc/%s/fd/2", pid), *words = NULL, *to = NULL;
	size_t len;

	words = file_read_virtual(path, CMDLINE_MAX, &len, NULL);
	if (words == NULL || !has_word(words, len, "-uuid") || !has_word(words, len, vm_id))
		return false;
	to = g_file_read_link(fd, NULL);
	return to != NULL && g_str_has_prefix(to, log);
}

/* As the kernel names the file. */
static char *log_of(Engine *e, const char *vm_id)
{
	g_autofree char *log = path_vm_log(&engine_facts(e)->folders, vm_id),
			*folder = g_path_get_dirname(log), *file = g_path_get_basename(log);
	char *real = realpath(folder, NULL),
	     *path = g_build_filename(real != NULL ? real : folder, file, NULL);

	free(real);
	return path;
}

static Json *process_to_json(uint64_t pid, Vmm *v)
{
	g_autofree char *status = v != NULL && (uint64_t)vmm_pid(v) == pid ? vm_status(v, NULL) : NULL;
	Json *j = json_object();

	json_put_uint(j, "pid", pid);
	json_put_str(j, "status", status);
	return j;
}

Json *evidence_processes(Engine *e, const char *vm_id, GError **err)
{
	g_autofree char *log = log_of(e, vm_id);
	g_autoptr(Vmm) v = engine_is_sim(e) ? NULL : fleet_vmm(engine_fleet(e), vm_id);
	g_autoptr(GError) why = NULL;
	g_autoptr(GDir) dir = g_dir_open("/proc", 0, &why);
	Json *list;
	const char *name;
	uint64_t pid;

	if (dir == NULL) {
		fail(err, ERR_INTERNAL, "can't list processes: %s", why->message);
		return NULL;
	}
	list = json_array();
	while ((name = g_dir_read_name(dir)) != NULL)
		if (parse_uint(name, 1, INT32_MAX, &pid, NULL) && is_qemu_of(name, vm_id, log))
			json_array_append_new(list, process_to_json(pid, v));
	return list;
}

static Vmm *running_vmm(Engine *e, const char *vm_id, GError **err)
{
	Vmm *v = engine_is_sim(e) ? NULL : fleet_vmm(engine_fleet(e), vm_id);

	if (v == NULL)
		fail_advice(err, ERR_BAD_STATE, "`plim vm show` says where it runs.",
			    "no QEMU of this vm runs on host '%s'", engine_facts(e)->name);
	return v;
}

char *evidence_registers(Engine *e, const char *vm_id, GError **err)
{
	g_autoptr(Vmm) v = running_vmm(e, vm_id, err);

	return v != NULL ? vm_registers(v, err) : NULL;
}

static bool has_room(Vmm *v, const char *folder, GError **err)
{
	_cleanup_json_ Json *size = qmp_call(vmm_qmp(v), "query-memory-size-summary", NULL, 0, err);
	uint64_t need = json_uint(size, "base-memory", 0) + json_uint(size, "plugged-memory", 0) + DUMP_EXTRA;
	g_autofree char *text = print_size(need);
	struct statvfs fs;

	if (size == NULL)
		return false;
	if (statvfs(folder, &fs) < 0)
		return fail_errno(err, errno, "can't look at '%s'", folder);
	if ((uint64_t)fs.f_bavail * fs.f_frsize < need)
		return fail_advice(err, ERR_NO_SPACE, "Make room there and ask again.",
				   "a dump needs up to %s in '%s'", text, folder);
	return true;
}

static Json *dump_to(Vmm *v, const char *path, GError **err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;
	Json *j;

	if (fd < 0) {
		fail_errno(err, errno, "can't make '%s'", path);
		return NULL;
	}
	if (!vm_dump(v, fd, err)) {
		unlink(path);
		return NULL;
	}
	if (fstat(fd, &st) < 0)
		st.st_size = 0;
	j = json_object();
	json_put_str(j, "path", path);
	json_put_uint(j, "size", (uint64_t)st.st_size);
	return j;
}

Json *evidence_dump(Engine *e, const char *vm_id, GError **err)
{
	g_autoptr(Vmm) v = running_vmm(e, vm_id, err);
	g_autofree char *log = path_vm_log(&engine_facts(e)->folders, vm_id),
			*folder = g_path_get_dirname(log), *stamp = time_stamp(), *path = NULL;

	if (v == NULL || !has_room(v, folder, err))
		return NULL;
	path = g_strdup_printf("%s/%s.%s.elf", folder, vm_id, stamp);
	return dump_to(v, path, err);
}
