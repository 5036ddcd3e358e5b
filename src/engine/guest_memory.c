/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/guest_memory.h"

#include "base/fd.h"
#include "core/guest/dimm.h"
#include "core/host/memory_use.h"
#include "core/model/keys.h"
#include "core/model/paths.h"
#include "engine/records.h"
#include "engine/tpm.h"

/* A QEMU has some 500 mappings, each in 700 bytes; one with many disks has more. */
#define SMAPS_MAX (UINT64_C(64) << 20)
#define STATUS_MAX (UINT64_C(64) << 10)

static char *proc_read(pid_t pid, const char *file, size_t max, size_t *ret_len, GError **err)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, file);

	return file_read_virtual(path, max, ret_len, err);
}

static bool fail_gone(const char *name, GError **err)
{
	return fail_advice(err, ERR_BAD_STATE, "`plim vm show` says how it is and where it runs.",
			   "no QEMU of vm '%s' runs here", name);
}

static uint64_t page_tables(pid_t pid)
{
	g_autofree char *text = proc_read(pid, "status", STATUS_MAX, NULL, NULL);

	return text != NULL ? memory_line_find(text, "VmPTE") : 0;
}

/* Of the swtpm beside it; 0 when there is none. */
static uint64_t tpm_memory(Engine *e, const char *vm_id)
{
	const Folders *f = &engine_facts(e)->folders;
	g_autofree char *dir = path_vm_tpm_dir(f, vm_id), *socket = path_vm_socket(f, vm_id, "swtpm"),
			*text = NULL;
	struct tpm t = { .program = "swtpm", .dir = dir, .socket = socket };
	pid_t pid = tpm_running(&t);

	text = pid > 0 ? proc_read(pid, "smaps_rollup", STATUS_MAX, NULL, NULL) : NULL;
	return text != NULL ? memory_line_find(text, "Pss") + memory_line_find(text, "SwapPss") : 0;
}

static Json *to_json(const struct memory_use *u, uint64_t size, uint64_t tables, uint64_t tpm)
{
	uint64_t overhead = memory_use_overhead(u) + tables + tpm;
	Json *j = json_object(), *guest = json_object(), *parts = json_object();

	json_put_uint(guest, "size", size);
	json_put_uint(guest, "resident", u->guest);
	json_put_uint(guest, "merged", u->merged);
	for (MemoryPart p = 0; p < _MEMORY_PART_MAX; p++)
		json_put_uint(parts, memory_part_name(p), u->part[p]);
	json_put_uint(parts, "page_tables", tables);
	json_put_uint(parts, "tpm", tpm);
	json_put(j, "guest", guest);
	json_put_uint(j, "overhead", overhead);
	json_put(j, "parts", parts);
	json_put_uint(j, "total", u->guest + overhead);
	return j;
}

/* What it has now: dynamic memory moves, and the keeper knows. */
static uint64_t size_of(Engine *e, const char *vm_id, const Json *runtime)
{
	uint64_t moving = memory_keeper_size(engine_memory_keeper(e), vm_id);

	return moving > 0 ? moving : json_uint(runtime, "memory", 0);
}

/* Sizes of what it may have beside the memory that it booted with. New reference. */
static Json *blocks_of(Engine *e, const char *vm_id, const Json *dynamic)
{
	g_autofree char *key = key_vm_applied(vm_id);
	_cleanup_json_ Json *applied = record_get(engine_store(e), key, NULL, NULL);
	Json *list;

	if (json_arr(applied, DIMMS) != NULL)
		return json_deep_copy(json_arr(applied, DIMMS));
	list = json_array();
	json_array_append_new(list, json_integer((json_int_t)json_uint(dynamic, "region", 0)));
	return list;
}

Json *guest_memory(Engine *e, const char *vm_id, const char *name, const Json *runtime, GError **err)
{
	const Json *dynamic = json_obj(runtime, "dynamic");
	uint64_t base = json_uint(dynamic, "base", json_uint(runtime, "memory", 0));
	g_autoptr(Vmm) v = engine_is_sim(e) ? NULL : fleet_vmm(engine_fleet(e), vm_id);
	_cleanup_json_ Json *more = NULL;
	g_autofree char *text = NULL;
	struct memory_use use;
	size_t len = 0;

	if (v == NULL) {
		fail_gone(name, err);
		return NULL;
	}
	text = proc_read(vmm_pid(v), "smaps", SMAPS_MAX, &len, err);
	if (text == NULL)
		return NULL;
	/* Of a process that has just ended. */
	if (len == 0) {
		fail_gone(name, err);
		return NULL;
	}
	more = blocks_of(e, vm_id, dynamic);
	if (!memory_use_parse(text, len, base, more, &use, err))
		return NULL;
	return to_json(&use, size_of(e, vm_id, runtime), page_tables(vmm_pid(v)), tpm_memory(e, vm_id));
}
