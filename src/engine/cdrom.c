/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cdrom.h"
#include "base/time.h"
#include "core/guest/cd.h"
#include "engine/vm_ops.h"
#include "engine/vmm_events.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
/* QEMU takes a drive off a SCSI bus without asking the guest. */
#define GONE_TIMEOUT (30 * SECOND)
#define PERIPHERAL "/machine/peripheral"

bool cd_drive_of_json(const Json *args, struct cd_drive *ret, GError **err)
{
	const char *drive = json_str(args, "drive");

	*ret = (struct cd_drive){ .fixed = g_strcmp0(drive, "sata") == 0,
				  .controller = json_obj(args, "controller"),
				  .device = json_obj(args, "device"),
				  .id = json_str(json_obj(args, "device"), "id"),
				  .path = json_str(args, "path"),
				  .format = json_str(args, "format"),
				  .vm_name = json_str(args, "name") };
	if (drive == NULL || ret->id == NULL || ret->path == NULL || ret->format == NULL)
		return fail(err, ERR_INTERNAL, "the step lacks what a CD drive is");
	return true;
}

static bool order(Vmm *v, const char *command, Json *args, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), command, args, 0, err);

	return reply != NULL;
}

static Json *drive_id(const struct cd_drive *d)
{
	return json_pack("{s:s}", "id", d->id);
}

/* What query-block says of the drive; NULL without an error: there is none. New reference. */
static Json *look(Vmm *v, const struct cd_drive *d, GError **err)
{
	_cleanup_json_ Json *blocks = vm_blocks(v, err);
	g_autofree char *path = g_strconcat(PERIPHERAL "/", d->id, NULL);
	Json *b;
	size_t i;

	json_array_foreach(blocks, i, b)
	{
		const char *qdev = json_str(b, "qdev");

		/* A SCSI drive has its id there, an IDE drive its path. */
		if (g_strcmp0(qdev, d->id) == 0 || g_strcmp0(qdev, path) == 0)
			return json_ref(b);
	}
	return NULL;
}

static bool has_device(Vmm *v, const char *id, bool *ret, GError **err)
{
	_cleanup_json_ Json *list =
	    qmp_call(vmm_qmp(v), "qom-list", json_pack("{s:s}", "path", PERIPHERAL), 0, err);
	const Json *item;
	size_t i;

	*ret = false;
	json_array_foreach(list, i, item) if (g_strcmp0(json_str(item, "name"), id) == 0) *ret = true;
	return list != NULL;
}

/*
 * The nodes of the medium
 */

/* One that is not there is fine: QEMU has no class of its own for that. */
static bool drop_node(Vmm *v, const char *node, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (order(v, "blockdev-del", json_pack("{s:s}", "node-name", node), &e) ||
	    g_error_matches(e, ERR, ERR_NOT_FOUND) || strstr(e->message, "Failed to find node") != NULL)
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

static bool drop_nodes(Vmm *v, GError **err)
{
	return drop_node(v, CD_NAME, err) && drop_node(v, CD_FILE, err);
}

/* As argv_add_medium() says it on a command line. */
static bool add_nodes(Vmm *v, const struct cd_drive *d, GError **err)
{
	Json *file = json_pack("{s:s, s:s, s:s, s:s, s:b, s:{s:b}}", "driver",
			       path_is_block_device(d->path) ? "host_device" : "file", "node-name", CD_FILE,
			       "filename", d->path, "aio", "threads", "read-only", true, "cache", "direct",
			       false),
	     *format = json_pack("{s:s, s:s, s:s, s:b, s:{s:b}}", "driver", d->format, "node-name", CD_NAME,
				 "file", CD_FILE, "read-only", true, "cache", "direct", false);

	if (!order(v, "blockdev-add", file, err)) {
		json_unref(format);
		return err_advise(err, "Check that the file is there and is a CD image.");
	}
	return order(v, "blockdev-add", format, err);
}

/*
 * The tray
 */

static bool is_locked(const Json *drive)
{
	return json_bool(drive, "locked", false) && !json_bool(drive, "tray_open", false);
}

static bool open_tray(Vmm *v, const struct cd_drive *d, bool force, GError **err)
{
	return order(v, "blockdev-open-tray", json_pack("{s:s, s:b}", "id", d->id, "force", force), err);
}

static bool fail_locked(const struct cd_drive *d, GError **err)
{
	fail(err, ERR_BUSY, "the guest of '%s' has locked the CD drive: it uses the CD", d->vm_name);
	return err_advise(err,
			  "Unmount the CD in the guest and repeat, or take it out under it: `plim vm cdrom "
			  "eject %s --force`.",
			  d->vm_name);
}

/* Ask the guest; true when the drive is not locked any more, or gone. */
static bool ask_guest(Vmm *v, const struct cd_drive *d, uint64_t patience, GError **err)
{
	g_autoptr(VmmEvents) events = vmm_events_open(v);
	uint64_t until = time_monotonic() + patience;

	if (!open_tray(v, d, false, err))
		return false;
	for (;;) {
		g_autoptr(GError) e = NULL;
		_cleanup_json_ Json *drive = look(v, d, &e);
		uint64_t now = time_monotonic();
		g_auto(VmmEvent) ev = { 0 };

		if (e != NULL) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
		if (drive == NULL || !is_locked(drive))
			return true;
		if (now >= until)
			return fail_locked(d, err);
		/* A guest that unlocks without opening the tray is told by no event. */
		if (!vmm_events_next(events, MIN(until - now, SECOND), &ev, err))
			return false;
	}
}

/*
 * Plugging
 */

static bool is_gone(const VmmEvent *ev, const struct cd_drive *d)
{
	return g_strcmp0(ev->name, "DEVICE_DELETED") == 0 &&
	       g_strcmp0(json_str(ev->args, "device"), d->id) == 0;
}

static bool unplug(Vmm *v, const struct cd_drive *d, GError **err)
{
	g_autoptr(VmmEvents) events = vmm_events_open(v);
	uint64_t until = time_monotonic() + GONE_TIMEOUT;
	bool there = true;

	if (!order(v, "device_del", drive_id(d), err))
		return false;
	while (there) {
		uint64_t now = time_monotonic();
		g_auto(VmmEvent) ev = { 0 };

		if (!vmm_events_next(events, now < until ? until - now : 0, &ev, err))
			return false;
		there = !is_gone(&ev, d);
		if (there && now >= until)
			return fail_advice(err, ERR_TIMEOUT,
					   "Try it once more; with the guest's next start it is gone.",
					   "the CD drive of '%s' did not go", d->vm_name);
	}
	return true;
}

static bool plug(Vmm *v, const struct cd_drive *d, GError **err)
{
	const char *controller = json_str(d->controller, "id");
	Json *device;
	bool there = true;

	if (controller != NULL && !has_device(v, controller, &there, err))
		return false;
	if (!there && !order(v, "device_add", json_deep_copy(d->controller), err))
		return false;
	device = json_deep_copy(d->device);
	json_put_str(device, "drive", CD_NAME);
	return order(v, "device_add", device, err);
}

/*
 * Both ways
 */

static bool take_medium(Vmm *v, const struct cd_drive *d, GError **err)
{
	return open_tray(v, d, true, err) && order(v, "blockdev-remove-medium", drive_id(d), err);
}

static bool put_medium(Vmm *v, const struct cd_drive *d, GError **err)
{
	return take_medium(v, d, err) &&
	       order(v, "blockdev-insert-medium", json_pack("{s:s, s:s}", "id", d->id, "node-name", CD_NAME),
		     err) &&
	       order(v, "blockdev-close-tray", drive_id(d), err);
}

/* A step that is done again, or a guest that kept its CD. */
static bool holds(const Json *drive, const struct cd_drive *d)
{
	const Json *inserted = json_obj(drive, "inserted");

	return g_strcmp0(json_str(inserted, "node-name"), CD_NAME) == 0 &&
	       g_strcmp0(json_str(inserted, "file"), d->path) == 0 && !json_bool(drive, "tray_open", false);
}

/* The medium is in no drive: its nodes may be of another one, or of a try before. */
static bool renew_nodes(Vmm *v, const struct cd_drive *d, GError **err)
{
	return drop_nodes(v, err) && add_nodes(v, d, err);
}

bool cd_insert(Vmm *v, const struct cd_drive *d, GError **err)
{
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *drive = look(v, d, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (holds(drive, d))
		return true;
	if (d->fixed)
		return take_medium(v, d, err) && renew_nodes(v, d, err) && put_medium(v, d, err);
	if (drive != NULL && !unplug(v, d, err))
		return false;
	return renew_nodes(v, d, err) && plug(v, d, err);
}

bool cd_eject(Vmm *v, const struct cd_drive *d, uint64_t patience, GError **err)
{
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *drive = look(v, d, &e);
	bool ok = true;

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (drive == NULL)
		return drop_nodes(v, err);
	if (is_locked(drive) && patience > 0 && !ask_guest(v, d, patience, err))
		return false;
	if (d->fixed)
		ok = take_medium(v, d, err) && order(v, "blockdev-close-tray", drive_id(d), err);
	else
		ok = unplug(v, d, err);
	return ok && drop_nodes(v, err);
}
