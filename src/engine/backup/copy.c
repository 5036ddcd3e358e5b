/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/backup/copy.h"
#include "base/fd.h"
#include "base/time.h"
#include "core/backup/follow.h"
#include "engine/image/qemu_img.h"
#include "engine/vm_ops.h"

#include <fcntl.h>
#include <string.h>

#define SECOND UINT64_C(1000000)
#define LOOK (SECOND / 10)
/* For jobs to end that were told to. */
#define END_TIMEOUT (60 * SECOND)
/* A write of the guest waits no longer for the scratch file; seconds. */
#define SCRATCH_TIMEOUT 45
/* Of descriptors that QEMU was given for this. */
#define OPAQUE "backup"
#define CHANGED "changed"
#define SECRET "backup-key"

typedef enum Node { NODE_DISK, NODE_TO, NODE_OLD, NODE_FILTER, NODE_VIEW, NODE_JOB } Node;

static char *name_of(Node n, const Json *disk)
{
	static const char *const prefix[] = { "disk-", "bt-", "bo-", "bf-", "bv-", "backup-" };

	return g_strconcat(prefix[n], json_str(disk, "name"), NULL);
}

/* A command of which nothing is read. Takes `args`. */
static bool tell(Vmm *v, const char *command, Json *args, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), command, args, 0, err);

	return reply != NULL;
}

typedef bool (*DiskFunc)(Vmm *v, const struct backup_copy *c, const Json *disk, GError **err);

static bool each(Vmm *v, const struct backup_copy *c, DiskFunc func, GError **err)
{
	const Json *d;
	size_t i;

	json_array_foreach((Json *)c->disks, i, d)
	{
		if (!func(v, c, d, err))
			return false;
	}
	return true;
}

/* ---- before the moment ---- */

/*
 * QEMU keeps a descriptor of its own when it has opened the node: ours is taken back at once. Zeros are
 * written as such: of an overlay QEMU does not see before it has read them that its image has nothing there.
 */
static bool add_file_node(Vmm *v, const char *node, const char *path, bool encrypted, GError **err)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_json_ Json *given = NULL;
	g_autofree char *name = NULL;
	json_int_t set;
	Json *args;
	bool ok;

	if (fd < 0)
		return fail_errno(err, errno, "can't open '%s'", path);
	given = qmp_call_fd(vmm_qmp(v), "add-fd", json_pack("{s:s}", "opaque", OPAQUE), fd, 0, err);
	if (given == NULL)
		return false;
	set = json_int(given, "fdset-id", -1);
	name = g_strdup_printf("/dev/fdset/%" JSON_INTEGER_FORMAT, set);
	args =
	    json_pack("{s:s,s:s,s:n,s:s,s:s,s:{s:s,s:s}}", "driver", "qcow2", "node-name", node, "backing",
		      "discard", "unmap", "detect-zeroes", "on", "file", "driver", "file", "filename", name);
	if (encrypted)
		json_put(args, "encrypt", json_pack("{s:s,s:s}", "format", "luks", "key-secret", SECRET));
	ok = tell(v, "blockdev-add", args, err);
	tell(v, "remove-fd", json_pack("{s:I}", "fdset-id", set), NULL);
	return ok;
}

/* Its name is gone before it is used: whatever ends QEMU, the room comes back. */
static bool add_scratch(Vmm *v, const struct backup_copy *c, const Json *disk, const char *node, GError **err)
{
	g_autofree char *file = backup_file(json_str(disk, "name")),
			*path = g_build_filename(c->work, file, NULL);
	struct qemu_img q = { .dir = c->work, .uid = LIMITED_KEEP_USER };
	bool ok;

	if (!qemu_img_create(&q, file, IMAGE_FORMAT_QCOW2, NULL, 0, json_uint(disk, "size", 0), err))
		return false;
	ok = add_file_node(v, node, path, false, err);
	unlink(path);
	return ok;
}

static bool open_disk(Vmm *v, const struct backup_copy *c, const Json *disk, GError **err)
{
	g_autofree char *to = name_of(NODE_TO, disk), *old = name_of(NODE_OLD, disk),
			*filter = name_of(NODE_FILTER, disk), *node = name_of(NODE_DISK, disk),
			*path = backup_path_begun(c->place, json_str(disk, "name"));

	if (!add_file_node(v, to, path, c->secret != NULL, err))
		return false;
	if (c->off)
		return true;
	return add_scratch(v, c, disk, old, err) &&
	       tell(v, "blockdev-add",
		    json_pack("{s:s,s:s,s:s,s:s,s:s,s:i}", "driver", "copy-before-write", "node-name", filter,
			      "file", node, "target", old, "on-cbw-error", "break-snapshot", "cbw-timeout",
			      SCRATCH_TIMEOUT),
		    err);
}

static void take_secret_back(Vmm *v)
{
	tell(v, "object-del", json_pack("{s:s}", "id", SECRET), NULL);
}

/* It is needed to open files, and by none that is open. */
static bool open_disks(Vmm *v, const struct backup_copy *c, GError **err)
{
	bool ok;

	if (c->secret == NULL)
		return each(v, c, open_disk, err);
	take_secret_back(v);
	ok = tell(v, "object-add",
		  json_pack("{s:s,s:s,s:s}", "qom-type", "secret", "id", SECRET, "data", c->secret), err) &&
	     each(v, c, open_disk, err);
	take_secret_back(v);
	return ok;
}

bool backup_copy_open(Vmm *v, const struct backup_copy *c, GError **err)
{
	return dir_remove(c->work, err) && dir_make(c->work, 0700, err) && open_disks(v, c, err) &&
	       dir_remove(c->work, err);
}

/* ---- the moment ---- */

static Json *bitmap_action(const struct backup_copy *c, const Json *disk)
{
	g_autofree char *node = name_of(NODE_DISK, disk);

	return json_pack("{s:s,s:{s:s,s:s,s:b}}", "type", "block-dirty-bitmap-add", "data", "node", node,
			 "name", c->bitmap, "persistent", json_bool(disk, "qcow2", false));
}

static bool begin_bitmaps(Vmm *v, const struct backup_copy *c, GError **err)
{
	Json *actions = json_array();
	const Json *d;
	size_t i;

	json_array_foreach((Json *)c->disks, i, d) json_array_append_new(actions, bitmap_action(c, d));
	return tell(v, "transaction", json_pack("{s:o}", "actions", actions), err);
}

static bool put_device_on(Vmm *v, const Json *disk, Node n, GError **err)
{
	g_autofree char *device = g_strconcat("/machine/peripheral/disk-", json_str(disk, "name"), NULL),
			*node = name_of(n, disk);

	return tell(v, "qom-set",
		    json_pack("{s:s,s:s,s:s}", "path", device, "property", "drive", "value", node), err);
}

static bool put_filter(Vmm *v, const struct backup_copy *c, const Json *disk, GError **err)
{
	return c->off || put_device_on(v, disk, NODE_FILTER, err);
}

bool backup_copy_hold(Vmm *v, const struct backup_copy *c, bool still, GError **err)
{
	g_autoptr(GError) stuck = NULL;
	bool ok = (!still || vm_pause(v, err)) && begin_bitmaps(v, c, err) && each(v, c, put_filter, err);

	if (!still || vm_resume(v, &stuck))
		return ok;
	if (ok)
		g_propagate_error(err, g_steal_pointer(&stuck));
	return false;
}

/* ---- copying ---- */

/* What was written since the last backup, as the view's own: a job takes none of another node. */
static bool take_changed(Vmm *v, const struct backup_copy *c, const Json *disk, const char *view,
			 GError **err)
{
	g_autofree char *node = name_of(NODE_DISK, disk);

	return tell(v, "block-dirty-bitmap-add",
		    json_pack("{s:s,s:s,s:b,s:b}", "node", view, "name", CHANGED, "persistent", 0, "disabled",
			      1),
		    err) &&
	       tell(v, "block-dirty-bitmap-merge",
		    json_pack("{s:s,s:s,s:[{s:s,s:s}]}", "node", view, "target", CHANGED, "bitmaps", "node",
			      node, "name", c->since),
		    err);
}

static uint64_t speed_of(const struct backup_copy *c, size_t jobs)
{
	return c->bandwidth == 0 ? 0 : MAX(c->bandwidth / MAX(jobs, 1), 1);
}

static bool add_view(Vmm *v, const struct backup_copy *c, const Json *disk, const char *view, GError **err)
{
	g_autofree char *filter = name_of(NODE_FILTER, disk);

	return tell(
		   v, "blockdev-add",
		   json_pack("{s:s,s:s,s:s}", "driver", "snapshot-access", "node-name", view, "file", filter),
		   err) &&
	       (c->since == NULL || take_changed(v, c, disk, view, err));
}

static bool start_disk(Vmm *v, const struct backup_copy *c, const Json *disk, GError **err)
{
	g_autofree char *from = name_of(c->off ? NODE_DISK : NODE_VIEW, disk), *to = name_of(NODE_TO, disk),
			*job = name_of(NODE_JOB, disk);
	Json *args;

	if (!c->off && !add_view(v, c, disk, from, err))
		return false;
	args = json_pack("{s:s,s:s,s:s,s:s,s:I,s:b}", "job-id", job, "device", from, "target", to, "sync",
			 c->since != NULL ? "bitmap" : "full", "speed",
			 (json_int_t)speed_of(c, json_array_size(c->disks)), "auto-dismiss", 0);
	if (c->since != NULL) {
		json_put_str(args, "bitmap", c->off ? c->since : CHANGED);
		json_put_str(args, "bitmap-mode", "never");
	}
	return tell(v, "blockdev-backup", args, err);
}

static bool is_ours(const Json *job)
{
	return g_str_has_prefix(json_str(job, "id"), "backup-");
}

static bool has_ended(const Json *job)
{
	return g_strcmp0(json_str(job, "status"), "concluded") == 0;
}

struct looked {
	size_t running;
	uint64_t done, total;
	const char *error; /* of the first that failed; borrowed */
};

static struct looked look_at(const Json *jobs)
{
	struct looked l = { 0 };
	const Json *j;
	size_t i;

	json_array_foreach((Json *)jobs, i, j)
	{
		if (!is_ours(j))
			continue;
		l.running += !has_ended(j);
		l.done += json_uint(j, "current-progress", 0);
		l.total += json_uint(j, "total-progress", 0);
		if (has_ended(j) && l.error == NULL)
			l.error = json_str(j, "error");
	}
	return l;
}

static bool fail_job(const struct backup_copy *c, const char *words, GError **err)
{
	bool full = strstr(words, "No space left") != NULL || strstr(words, "quota") != NULL ||
		    strstr(words, "too large") != NULL;

	if (full)
		return fail_advice(err, ERR_NO_SPACE,
				   "Make room there, with `plim backup prune` say, and try again.",
				   "the repository '%s' is full", c->place->repository);
	return fail_advice(
	    err, ERR_QEMU,
	    "Look at the repository, and at the room on the host's own disk, and try again. The guest "
	    "noticed nothing.",
	    "copying to '%s' failed: %s", c->place->repository, words);
}

/* Fewer jobs share what the bandwidth allows. */
static void share_bandwidth(Vmm *v, const struct backup_copy *c, const Json *jobs, size_t running)
{
	const Json *j;
	size_t i;

	json_array_foreach((Json *)jobs, i, j)
	{
		if (is_ours(j) && !has_ended(j))
			tell(v, "block-job-set-speed",
			     json_pack("{s:s,s:I}", "device", json_str(j, "id"), "speed",
				       (json_int_t)speed_of(c, running)),
			     NULL);
	}
}

static bool wait_for_jobs(Vmm *v, const struct backup_copy *c, GError **err)
{
	size_t running = json_array_size(c->disks);

	while (running > 0) {
		_cleanup_json_ Json *jobs = qmp_call(vmm_qmp(v), "query-jobs", NULL, 0, err);
		struct looked l = look_at(jobs);

		if (jobs == NULL || !hooks_continue(c->hooks, err))
			return false;
		if (l.error != NULL)
			return fail_job(c, l.error, err);
		hooks_progress(c->hooks, l.done, l.total);
		if (l.running > 0 && l.running < running && c->bandwidth != 0)
			share_bandwidth(v, c, jobs, l.running);
		running = l.running;
		if (running > 0)
			g_usleep(LOOK);
	}
	return true;
}

bool backup_copy_run(Vmm *v, const struct backup_copy *c, GError **err)
{
	return each(v, c, start_disk, err) && wait_for_jobs(v, c, err);
}

/* ---- afterwards ---- */

/* Tell those that run to end, and dismiss the others. */
static void end_jobs_once(Vmm *v, const Json *jobs)
{
	const Json *j;
	size_t i;

	json_array_foreach((Json *)jobs, i, j)
	{
		if (is_ours(j))
			tell(v, has_ended(j) ? "job-dismiss" : "job-cancel",
			     json_pack("{s:s}", "id", json_str(j, "id")), NULL);
	}
}

static bool end_jobs(Vmm *v, GError **err)
{
	uint64_t until = time_monotonic() + END_TIMEOUT;
	size_t n = 1;

	while (n > 0) {
		_cleanup_json_ Json *jobs = qmp_call(vmm_qmp(v), "query-jobs", NULL, 0, err);
		const Json *j;
		size_t i;

		if (jobs == NULL)
			return false;
		n = 0;
		json_array_foreach(jobs, i, j) n += is_ours(j);
		end_jobs_once(v, jobs);
		if (n > 0 && time_monotonic() > until)
			return fail(err, ERR_TIMEOUT, "the copy of the disks does not end");
		if (n > 0)
			g_usleep(LOOK / 5);
	}
	return true;
}

static void remove_node(Vmm *v, Node n, const Json *disk)
{
	g_autofree char *node = name_of(n, disk);

	tell(v, "blockdev-del", json_pack("{s:s}", "node-name", node), NULL);
}

static bool is_inserted(const Json *blocks, const char *node)
{
	const Json *b;
	size_t i;

	json_array_foreach((Json *)blocks, i, b)
	{
		if (g_strcmp0(json_str(json_obj(b, "inserted"), "node-name"), node) == 0)
			return true;
	}
	return false;
}

/* QEMU 7.2 aborts when a device is put on the node that it is on: so it is asked first. */
static bool put_back(Vmm *v, const Json *disk, GError **err)
{
	g_autofree char *filter = name_of(NODE_FILTER, disk);
	_cleanup_json_ Json *blocks = vm_blocks(v, err);

	return blocks != NULL && (!is_inserted(blocks, filter) || put_device_on(v, disk, NODE_DISK, err));
}

/* Whatever is not there is fine, but the guest's device must be where it was. */
static bool close_disk(Vmm *v, const struct backup_copy *c, const Json *disk, GError **err)
{
	(void)c;
	remove_node(v, NODE_VIEW, disk);
	if (!put_back(v, disk, err))
		return false;
	remove_node(v, NODE_FILTER, disk);
	remove_node(v, NODE_OLD, disk);
	remove_node(v, NODE_TO, disk);
	return true;
}

/* Of a daemon that died between giving and taking back. */
static void take_descriptors_back(Vmm *v)
{
	_cleanup_json_ Json *sets = qmp_call(vmm_qmp(v), "query-fdsets", NULL, 0, NULL);
	const Json *s;
	size_t i;

	json_array_foreach(sets, i, s)
	{
		const Json *fd = json_array_get(json_arr(s, "fds"), 0);

		if (g_strcmp0(json_str(fd, "opaque"), OPAQUE) == 0)
			tell(v, "remove-fd", json_pack("{s:I}", "fdset-id", json_int(s, "fdset-id", -1)),
			     NULL);
	}
}

bool backup_copy_close(Vmm *v, const struct backup_copy *c, GError **err)
{
	if (!end_jobs(v, err) || !each(v, c, close_disk, err))
		return false;
	take_descriptors_back(v);
	/* Also of a daemon that died between giving and taking back. */
	take_secret_back(v);
	return dir_remove(c->work, err);
}

static void remove_bitmap(Vmm *v, const char *disk, const char *bitmap)
{
	g_autofree char *node = g_strconcat("disk-", disk, NULL);

	tell(v, "block-dirty-bitmap-remove", json_pack("{s:s,s:s}", "node", node, "name", bitmap), NULL);
}

bool backup_copy_drop(Vmm *v, const struct backup_copy *c, GError **err)
{
	const Json *d;
	size_t i;

	if (!backup_copy_close(v, c, err))
		return false;
	json_array_foreach((Json *)c->disks, i, d) remove_bitmap(v, json_str(d, "name"), c->bitmap);
	return true;
}

void backup_bitmaps_remove(Vmm *v, const Json *list)
{
	const Json *b;
	size_t i;

	json_array_foreach((Json *)list, i, b) remove_bitmap(v, json_str(b, "disk"), json_str(b, "bitmap"));
}

void backup_bitmaps_remove_broken(Vmm *v, const Json *blocks, const char *disk)
{
	const char *const names[] = { disk, NULL };
	g_autoptr(GPtrArray) none = g_ptr_array_new();
	_cleanup_json_ Json *spare = backup_spare_bitmaps(none, blocks, names);

	backup_bitmaps_remove(v, spare);
}
