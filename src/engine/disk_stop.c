/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/disk_stop.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/disk_stop.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "engine/engine-impl.h"
#include "engine/records.h"
#include "engine/vm_ops.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define UNIT_OF_BLOCKS 512 /* of st_blocks, whatever the file system's own are */

/* Where the disk's file is; NULL when the vm has no such disk. Borrowed. */
static const char *path_of_disk(const VmRecords *r, const char *name)
{
	for (guint i = 0; name != NULL && i < r->vm->disk->len; i++) {
		const VmDisk *d = r->vm->disk->pdata[i];
		const Volume *v = r->seen.volume->pdata[i];

		if (g_str_equal(d->name, name))
			return v != NULL ? v->path : d->path;
	}
	return NULL;
}

/* *ret_folder owns what `room` borrows. */
static struct disk_room look_at_room(const VmRecords *r, const struct disk_stop *s, char **ret_folder)
{
	const char *path = path_of_disk(r, s->disk);
	struct disk_room room = { 0 };
	struct statvfs fs;
	struct stat st;

	*ret_folder = NULL;
	if (path == NULL || stat(path, &st) < 0 || !S_ISREG(st.st_mode) || statvfs(path, &fs) < 0)
		return room;
	*ret_folder = g_path_get_dirname(path);
	room.folder = *ret_folder;
	room.holds = (uint64_t)st.st_blocks * UNIT_OF_BLOCKS;
	room.free = (uint64_t)fs.f_bavail * fs.f_frsize;
	room.total = (uint64_t)fs.f_blocks * fs.f_frsize;
	return room;
}

/* At once with the event: who sees the pause sees what it is for. */
static bool put_paused(Engine *e, const VmRecords *r, const struct disk_stop *s, GError **err)
{
	g_autofree char *key = key_vm_runtime(r->vm->id), *now = time_stamp(), *reason = disk_stop_reason(s),
			*folder = NULL, *value = NULL, *text = NULL;
	_cleanup_json_ Json *paused = vm_runtime_moved(r->runtime, VM_PAUSED, reason, now);
	struct disk_room room = look_at_room(r, s, &folder);

	value = json_print(paused);
	text = disk_stop_tell(r->vm->name, s, &room);
	return events_emit_with(e->events, key, r->seen.runtime_rev, value, EVENT_VM_DISK_STOPPED, "vm",
				r->vm->id, r->vm->name, disk_stop_details(s, &room), text, err);
}

static bool record(Engine *e, Vmm *v, const VmRecords *r, GError **err)
{
	_cleanup_json_ Json *blocks = vm_blocks(v, err);
	struct disk_stop s = disk_stop_of(blocks);

	return blocks != NULL && put_paused(e, r, &s, err);
}

/* Is it ours, and recorded as running? */
static bool may_have_stopped(Engine *e, const VmRecords *r)
{
	return g_strcmp0(json_str(r->runtime, "host"), e->host_id) == 0 &&
	       vm_runtime_state(r->runtime) == VM_RUNNING;
}

bool disk_stop_record(Engine *e, const char *vm_id)
{
	bool again = true;

	while (again) {
		g_autoptr(GError) err = NULL;
		g_autoptr(VmRecords) r = vm_records_load(e->store, vm_id, NULL);
		g_autoptr(Vmm) v = r != NULL ? fleet_vmm(e->fleet, vm_id) : NULL;
		g_autofree char *status = NULL;

		if (v == NULL)
			return true;
		if (json_str(r->runtime, "operation") != NULL)
			return false;
		status = may_have_stopped(e, r) ? vm_status(v, NULL) : NULL;
		if (g_strcmp0(status, "io-error") != 0)
			return true;
		again = !record(e, v, r, &err) && g_error_matches(err, ERR, ERR_CONFLICT);
		if (err != NULL && !again)
			log_error("vm %s stopped for a disk's error, which was not recorded: %s", r->vm->name,
				  err->message);
	}
	return true;
}

void disk_error_tell(Engine *e, const char *vm_id, const Json *args)
{
	g_autoptr(VmRecords) r = vm_records_load(e->store, vm_id, NULL);
	const char *node = json_str(args, "node-name"), *operation = json_str(args, "operation"),
		   *reason = json_str(args, "reason");

	if (r == NULL)
		return;
	if (node != NULL && g_str_has_prefix(node, "disk-"))
		node += strlen("disk-");
	events_emit(
	    e->events, EVENT_VM_DISK_ERROR, "vm", r->vm->id, r->vm->name, json_deep_copy(args),
	    "%s: a %s of disk '%s' failed (%s); the guest was told so. See the host's log, and mend the "
	    "storage.",
	    r->vm->name, operation != NULL ? operation : "request", node != NULL ? node : "?",
	    reason != NULL ? reason : "no reason given");
}
