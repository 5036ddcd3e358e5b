/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/evidence.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/evidence/dump.h"
#include "core/evidence/keep.h"
#include "core/model/paths.h"
#include "core/model/settings.h"
#include "core/plan/plan_evidence.h"
#include "engine/bundle.h"
#include "engine/dump.h"
#include "engine/engine-impl.h"
#include "engine/records.h"
#include "engine/vm_ops.h"

#include <stdlib.h>
#include <string.h>

#define CMDLINE_MAX (UINT64_C(1) << 20)
/* Who asks for what is kept by itself. */
#define USER "plimsolld"
/* For another operation of the vm to end; each that waits holds a thread. */
#define OPERATION_TIMEOUT UINT64_C(10000000)
#define WAITING_MAX 64

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

Json *evidence_dump(Engine *e, const char *vm_id, GError **err)
{
	g_autoptr(Vmm) v = running_vmm(e, vm_id, err);
	g_autofree char *log = path_vm_log(&engine_facts(e)->folders, vm_id),
			*folder = g_path_get_dirname(log), *stamp = time_stamp(), *path = NULL;
	struct dump_told told;
	Json *j;

	path = g_strdup_printf("%s/%s.%s.elf", folder, vm_id, stamp);
	if (v == NULL || !dump_write(e, v, folder, path, "elf", false, NULL, &told, err))
		return NULL;
	j = json_object();
	json_put_str(j, "path", path);
	json_put_uint(j, "size", told.bytes);
	return j;
}

const char *const *evidence_formats(Engine *e, const Vm *vm)
{
	_cleanup_json_ Json *own = setting_effective(vm->settings, "evidence.dump"),
			    *host = host_setting_effective(engine_facts(e)->settings, "evidence.dump");
	const char *policy = json_string_value(own);

	if (policy == NULL || g_str_equal(policy, "auto"))
		policy = json_string_value(host);
	return dump_forms_of_policy(policy, vm_property(vm, "os_type"));
}

Json *evidence_take(Engine *e, const Vm *vm, const char *cause, const char *reason, const char *user,
		    const Json *details, GError **err)
{
	g_autofree char *stamp = time_stamp(), *id = evidence_id(vm->name, stamp);
	const struct bundle_wish wish = {
		.id = id, .vm_id = vm->id, .cause = cause, .reason = reason, .user = user, .details = details
	};

	return bundle_take(e, &wish, err);
}

static bool submit(Engine *e, const VmRecords *r, const struct evidence_wish *wish, GError **err)
{
	g_autoptr(EngineRequest) req = engine_request_new(e, USER);
	Operation *op = plan_vm_evidence(&req->plan, &r->seen, wish, err);

	return op != NULL && exec_submit(engine_exec(e), op, err);
}

bool evidence_wait(Engine *e, const char *vm_id)
{
	bool rests = worker_pool_rest(e->pool, WAITING_MAX);
	bool ended = exec_wait_target(e->exec, vm_id, OPERATION_TIMEOUT);

	if (rests)
		worker_pool_wake(e->pool);
	return ended;
}

void evidence_begin(Engine *e, const char *vm_id, const char *cause, const char *reason, const Json *details)
{
	bool again = true, waited = false;

	while (again) {
		g_autoptr(GError) err = NULL, why = NULL;
		g_autoptr(VmRecords) r = vm_records_load(engine_store(e), vm_id, &err);
		struct evidence_wish wish = { .cause = cause, .reason = reason, .details = details };
		_cleanup_json_ Json *kept = NULL;

		if (r == NULL)
			return;
		wish.formats = evidence_formats(e, r->vm);
		if (submit(e, r, &wish, &err))
			return;
		again = g_error_matches(err, ERR, ERR_CONFLICT);
		if (g_error_matches(err, ERR, ERR_BUSY) && !waited)
			again = waited = evidence_wait(e, vm_id);
		kept = again ? NULL : evidence_take(e, r->vm, cause, reason, USER, details, &why);
		if (kept == NULL && !again)
			log_warning("no evidence of vm %s was kept: %s", r->vm->name, why->message);
	}
}
