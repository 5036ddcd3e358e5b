/* SPDX-License-Identifier: Apache-2.0 */
#include "core/backup/follow.h"
#include "base/str.h"

#include <string.h>

/* What query-block has of the disk: the node that the guest writes to. */
static const Json *inserted_of(const Json *blocks, const char *disk)
{
	g_autofree char *node = g_strconcat("disk-", disk, NULL);
	const Json *b;
	size_t i;

	json_array_foreach((Json *)blocks, i, b)
	{
		const Json *inserted = json_obj(b, "inserted");

		if (g_strcmp0(json_str(inserted, "node-name"), node) == 0)
			return inserted;
	}
	return NULL;
}

uint64_t backup_disk_size(const Json *blocks, const char *disk)
{
	return json_uint(json_obj(inserted_of(blocks, disk), "image"), "virtual-size", 0);
}

static const Json *bitmap_of(const Json *blocks, const char *disk, const char *name)
{
	const Json *list = json_arr(inserted_of(blocks, disk), "dirty-bitmaps"), *b;
	size_t i;

	json_array_foreach((Json *)list, i, b) if (g_strcmp0(json_str(b, "name"), name) == 0) return b;
	return NULL;
}

/* A sentence when what was written to the disk since then is not known. Caller frees. */
static char *why_no_bitmap(const Backup *b, const Json *blocks, const char *disk)
{
	g_autofree char *name = backup_bitmap(b->id);
	const Json *bitmap = bitmap_of(blocks, disk, name);

	if (bitmap == NULL)
		return g_strdup_printf("the bitmap of disk '%s' since backup %s is lost", disk, b->id);
	if (json_bool(bitmap, "inconsistent", false))
		return g_strdup_printf(
		    "the bitmap of disk '%s' since backup %s is not whole: QEMU ended without writing it",
		    disk, b->id);
	if (json_bool(bitmap, "busy", false) || !json_bool(bitmap, "recording", false))
		return g_strdup_printf("the bitmap of disk '%s' since backup %s is in use", disk, b->id);
	return NULL;
}

static char *why_other_disk(const Backup *b, const Json *blocks, const char *name)
{
	const BackupDisk *d = backup_disk_find(b, name);
	uint64_t size = backup_disk_size(blocks, name);
	g_autofree char *was = NULL, *is = NULL;

	if (d == NULL)
		return g_strdup_printf("backup %s has no disk '%s'", b->id, name);
	if (d->size == size)
		return NULL;
	was = print_size(d->size);
	is = print_size(size);
	return g_strdup_printf("disk '%s' has another size than in backup %s: %s, and had %s", name, b->id,
			       is, was);
}

static char *why_other_disks(const Backup *b, const Json *blocks, const char *const *names)
{
	for (size_t i = 0; names[i] != NULL; i++) {
		char *why = why_other_disk(b, blocks, names[i]);

		if (why == NULL)
			why = why_no_bitmap(b, blocks, names[i]);
		if (why != NULL)
			return why;
	}
	for (guint i = 0; i < b->disk->len; i++) {
		const BackupDisk *d = b->disk->pdata[i];

		if (!g_strv_contains(names, d->name))
			return g_strdup_printf("disk '%s' of backup %s is gone", d->name, b->id);
	}
	return NULL;
}

static char *why_other_key(const GPtrArray *chain, const BackupKey *key)
{
	for (guint i = chain->len; i > 0; i--) {
		const Backup *b = chain->pdata[i - 1];
		g_autoptr(GError) why = NULL;

		if (backup_key_fits(key, b, &why))
			continue;
		if ((key != NULL) != (b->key_check != NULL))
			return g_strconcat(why->message,
					   key != NULL ? ", and this one is" : ", and this one is not", NULL);
		return g_strdup(why->message);
	}
	return NULL;
}

static char *why_full(const GPtrArray *backups, const Json *blocks, const char *const *names,
		      const BackupKey *key)
{
	g_autoptr(GPtrArray) chain = NULL;
	g_autoptr(GError) e = NULL;
	const Backup *last;
	char *why;

	if (backups->len == 0)
		return g_strdup("the repository has no backup of it yet");
	last = backups->pdata[0];
	chain = backup_chain(backups, last, &e);
	if (chain == NULL)
		return g_strdup(e->message);
	if (chain->len >= BACKUP_CHAIN_MAX)
		return g_strdup_printf("%u backups rest on each other already", chain->len);
	why = why_other_key(chain, key);
	return why != NULL ? why : why_other_disks(last, blocks, names);
}

const Backup *backup_follow(const GPtrArray *backups, const Json *blocks, const char *const *names,
			    const BackupKey *key, char **ret_why)
{
	*ret_why = why_full(backups, blocks, names, key);
	return *ret_why == NULL ? backups->pdata[0] : NULL;
}

bool backup_check_plain(const GPtrArray *backups, GError **err)
{
	const Backup *last = backups->len > 0 ? backups->pdata[0] : NULL;

	return last == NULL || last->key_check == NULL ||
	       fail_advice(
		   err, ERR_CONFLICT,
		   "Name the file with the key (plim: --key-file), or set it for this host: `plim host set "
		   "HOST backup.key_file=/path`. With --no-encryption the backup is one that everybody can "
		   "read.",
		   "the last backup of vm '%s' there, %s, is encrypted, and there is no key for this one",
		   last->vm->name, last->id);
}

/* ---- bitmaps that go ---- */

static void add_spare(Json *list, const char *disk, const char *bitmap)
{
	json_array_append_new(list, json_pack("{s:s,s:s}", "disk", disk, "bitmap", bitmap));
}

static gint by_name(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names begin with their time: the first are the oldest. The new one counts. */
static void add_oldest(Json *list, const char *disk, GPtrArray *kept)
{
	g_ptr_array_sort(kept, by_name);
	for (guint i = 0; i + BACKUP_BITMAPS_MAX - 1 < kept->len; i++)
		add_spare(list, disk, kept->pdata[i]);
}

static void add_spares_of(Json *list, const Json *inserted, const char *disk, const char *last)
{
	g_autoptr(GPtrArray) kept = g_ptr_array_new();
	const Json *bitmap;
	size_t i;

	json_array_foreach(json_arr(inserted, "dirty-bitmaps"), i, bitmap)
	{
		const char *name = json_str(bitmap, "name");

		if (!backup_is_bitmap(name))
			continue;
		if (g_strcmp0(name, last) == 0 || json_bool(bitmap, "inconsistent", false))
			add_spare(list, disk, name);
		else
			g_ptr_array_add(kept, (gpointer)name);
	}
	add_oldest(list, disk, kept);
}

Json *backup_spare_bitmaps(const GPtrArray *backups, const Json *blocks, const char *const *names)
{
	const Backup *newest = backups->len > 0 ? backups->pdata[0] : NULL;
	g_autofree char *last = newest != NULL ? backup_bitmap(newest->id) : NULL;
	Json *list = json_array();

	for (size_t i = 0; names[i] != NULL; i++)
		add_spares_of(list, inserted_of(blocks, names[i]), names[i], last);
	return list;
}
