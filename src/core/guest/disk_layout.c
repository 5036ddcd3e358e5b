/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/disk_layout.h"
#include "base/str.h"

#include <string.h>

/* File systems that grow while they are mounted: by their device or by their place. */
static const struct {
	const char *fs, *words[FS_COMMAND_WORDS];
	bool by_mount;
} growers[] = {
	{ "ext2", { "resize2fs" }, false },
	{ "ext3", { "resize2fs" }, false },
	{ "ext4", { "resize2fs" }, false },
	{ "xfs", { "xfs_growfs" }, true },
	{ "btrfs", { "btrfs", "filesystem", "resize", "max" }, true },
};

void guest_disk_clear(struct guest_disk *d)
{
	g_free(d->device);
	g_free(d->part);
	g_free(d->fs);
	g_free(d->mount);
	*d = (struct guest_disk){ 0 };
}

/* A number; older lsblk print them as text. */
static uint64_t number_of(const Json *node, const char *key)
{
	const char *text = json_str(node, key);
	uint64_t n = json_uint(node, key, 0);

	if (text != NULL && !parse_uint(text, 0, INT64_MAX, &n, NULL))
		return 0;
	return n;
}

static const Json *find(const Json *nodes, const char *key, const char *value)
{
	const Json *node;
	size_t i;

	json_array_foreach(nodes, i, node) if (g_strcmp0(json_str(node, key), value) == 0) return node;
	return NULL;
}

static bool has_parts(const Json *disk)
{
	return find(json_arr(disk, "children"), "type", "part") != NULL;
}

bool guest_disk_of(const Json *lsblk, const char *serial, const char *part, struct guest_disk *ret,
		   GError **err)
{
	const Json *disk = find(json_arr(lsblk, "blockdevices"), "serial", serial), *on = disk;

	if (disk == NULL || json_str(disk, "name") == NULL)
		return fail(err, ERR_NOT_FOUND, "the guest shows no disk with the serial number '%s'",
			    serial);
	if (part != NULL && !g_str_equal(part, json_str(disk, "name")))
		on = find(json_arr(disk, "children"), "name", part);
	if (on == NULL)
		return fail(err, ERR_NOT_FOUND, "the guest shows no partition '%s'", part);
	*ret = (struct guest_disk){
		.device = g_strdup(json_str(disk, "name")),
		.size = number_of(disk, "size"),
		.parted = has_parts(disk),
		.part = g_strdup(json_str(on, "name")),
		.fs = g_strdup(json_str(on, "fstype")),
		.mount = g_strdup(json_str(on, "mountpoint")),
		.fs_size = number_of(on, "fssize"),
		.layered = json_array_size(json_arr(on, "children")) > 0 && !(on == disk && has_parts(disk)),
	};
	return true;
}

/* "/dev/vda1" of "/dev/vda", "/dev/nvme0n1p2" of "/dev/nvme0n1"; 0: neither. */
static unsigned part_number(const char *node, const char *device)
{
	uint64_t n;

	if (!g_str_has_prefix(node, device))
		return 0;
	node += strlen(device);
	if (node[0] == 'p')
		node++;
	return parse_uint(node, 1, 9999, &n, NULL) ? (unsigned)n : 0;
}

bool guest_last_partition(const Json *sfdisk, const char *device, char **ret_part, unsigned *ret_number,
			  GError **err)
{
	const Json *parts = json_arr(json_obj(sfdisk, "partitiontable"), "partitions"), *p;
	const char *last = NULL;
	uint64_t end = 0;
	size_t i;

	json_array_foreach(parts, i, p)
	{
		uint64_t start = number_of(p, "start");

		if (json_str(p, "node") != NULL && (last == NULL || start > end)) {
			last = json_str(p, "node");
			end = start;
		}
	}
	*ret_number = last != NULL ? part_number(last, device) : 0;
	if (*ret_number == 0)
		return fail(err, ERR_AGENT, "the guest's table of partitions on %s can't be read", device);
	*ret_part = g_strdup(last);
	return true;
}

static bool refuse_layer(const struct guest_disk *d, GError **err)
{
	if (g_strcmp0(d->fs, "LVM2_member") == 0)
		return fail_advice(err, ERR_UNSUPPORTED,
				   "In the guest: pvresize that device, then lvextend -r a logical volume.",
				   "%s belongs to LVM", d->part);
	return fail_advice(err, ERR_UNSUPPORTED, "Grow what lies on it in the guest, from the bottom up.",
			   "%s holds '%s' and not a file system itself", d->part,
			   d->fs != NULL ? d->fs : "something else");
}

bool guest_fs_command(const struct guest_disk *d, const char *ret_words[FS_COMMAND_WORDS], GError **err)
{
	size_t n = 0;

	if (d->layered || g_strcmp0(d->fs, "LVM2_member") == 0)
		return refuse_layer(d, err);
	if (d->fs == NULL)
		return fail_advice(err, ERR_UNSUPPORTED, "Make one in the guest, or use the room as it is.",
				   "there is no file system on %s", d->part);
	if (d->mount == NULL)
		return fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Mount it in the guest and ask again: file systems grow while they are mounted.",
		    "the file system on %s is not mounted", d->part);
	for (size_t i = 0; i < G_N_ELEMENTS(growers); i++) {
		if (!g_str_equal(growers[i].fs, d->fs))
			continue;
		for (; growers[i].words[n] != NULL; n++)
			ret_words[n] = growers[i].words[n];
		ret_words[n++] = growers[i].by_mount ? d->mount : d->part;
		ret_words[n] = NULL;
		return true;
	}
	return fail_advice(err, ERR_UNSUPPORTED, "Grow it in the guest by the tools of that file system.",
			   "nobody knows how to grow the file system '%s' on %s", d->fs, d->part);
}
