/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/backup/mounts.h"
#include "base/fd.h"
#include "base/log.h"

#include <string.h>

#define RECORD "mount.json"
#define RECORD_MAX 65536

bool backup_mount_note(const char *dir, const Json *record, GError **err)
{
	g_autofree char *path = g_build_filename(dir, RECORD, NULL), *text = json_print(record);

	return file_write_atomic(path, text, strlen(text), 0600, err);
}

Json *backup_mount_disks(const char *dir, const Json *record)
{
	Json *list = json_array();
	const Json *d;
	size_t i;

	json_array_foreach(json_arr(record, "disks"), i, d)
	{
		g_autofree char *uri = backup_server_uri(dir, json_str(d, "name"));
		Json *j = json_deep_copy(d);

		json_put_str(j, "uri", uri);
		json_array_append_new(list, j);
	}
	return list;
}

/* NULL: it is no mount, or is just being made or removed. */
static Json *mount_of(const char *dir)
{
	g_autofree char *path = g_build_filename(dir, RECORD, NULL);
	size_t len;
	g_autofree char *text = file_read(path, RECORD_MAX, &len, NULL);
	Json *j = text != NULL ? json_parse(text, len, NULL) : NULL;

	if (j == NULL || json_str(j, "backup") == NULL) {
		if (text != NULL)
			log_warning("'%s' can't be understood", path);
		json_unref(j);
		return NULL;
	}
	json_put_str(j, "dir", dir);
	json_put(j, "disks", backup_mount_disks(dir, j));
	json_put_str(j, "state", backup_server_running(dir) > 0 ? "shown" : "ended");
	return j;
}

static gint by_backup(gconstpointer a, gconstpointer b)
{
	return strcmp(json_str(*(Json *const *)a, "backup"), json_str(*(Json *const *)b, "backup"));
}

Json *backup_mounts(const Folders *folders)
{
	g_autofree char *above = path_backup_server(folders, "");
	g_autoptr(GPtrArray) found = g_ptr_array_new();
	g_autoptr(GDir) d = g_dir_open(above, 0, NULL);
	Json *list = json_array();
	const char *name;

	while (d != NULL && (name = g_dir_read_name(d)) != NULL) {
		g_autofree char *dir = path_backup_server(folders, name);
		Json *j = mount_of(dir);

		if (j != NULL)
			g_ptr_array_add(found, j);
	}
	g_ptr_array_sort(found, by_backup);
	for (guint i = 0; i < found->len; i++)
		json_array_append_new(list, found->pdata[i]);
	return list;
}
