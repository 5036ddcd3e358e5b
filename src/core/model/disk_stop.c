/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/disk_stop.h"
#include "base/str.h"

#include <string.h>

#define NODE_PREFIX "disk-"

struct disk_stop disk_stop_of(const Json *blocks)
{
	const Json *b;
	size_t i;

	json_array_foreach(blocks, i, b)
	{
		const Json *inserted = json_obj(b, "inserted");
		const char *status = json_str(b, "io-status"), *node = json_str(inserted, "node-name");

		if (status == NULL || g_str_equal(status, "ok") || node == NULL ||
		    !g_str_has_prefix(node, NODE_PREFIX))
			continue;
		return (struct disk_stop){ .disk = node + strlen(NODE_PREFIX),
					   .no_space = g_str_equal(status, "nospace"),
					   .size =
					       json_uint(json_obj(inserted, "image"), "virtual-size", 0) };
	}
	return (struct disk_stop){ 0 };
}

char *disk_stop_reason(const struct disk_stop *s)
{
	if (s->disk == NULL)
		return g_strdup("a disk reported an error");
	return g_strdup_printf("disk '%s' %s", s->disk,
			       s->no_space ? "found no room on the host" : "reported an error");
}

static void tell_room(GString *text, const struct disk_stop *s, const struct disk_room *room)
{
	g_autofree char *holds = print_size(room->holds), *size = print_size(s->size),
			*free = print_size(room->free), *total = print_size(room->total);

	if (room->folder == NULL)
		return;
	if (s->size > 0)
		g_string_append_printf(text, ": its file takes %s of at most %s", holds, size);
	else
		g_string_append_printf(text, ": its file takes %s", holds);
	g_string_append_printf(text, ", and %s of %s are free in %s", free, total, room->folder);
}

char *disk_stop_tell(const char *vm_name, const struct disk_stop *s, const struct disk_room *room)
{
	g_autofree char *reason = disk_stop_reason(s);
	GString *text = g_string_new(NULL);

	g_string_append_printf(text, "%s is paused: %s", vm_name, reason);
	if (s->no_space)
		tell_room(text, s, room);
	g_string_append_printf(text, ". Nothing is lost. %s, then run `plim vm resume %s`.",
			       s->no_space ? "Make room there" : "See the host's log and mend the storage",
			       vm_name);
	return g_string_free(text, FALSE);
}

Json *disk_stop_details(const struct disk_stop *s, const struct disk_room *room)
{
	Json *j = json_object();

	json_put_str(j, "disk", s->disk);
	json_put_bool(j, "no_space", s->no_space);
	json_put_uint(j, "size", s->size);
	json_put_str(j, "folder", room->folder);
	json_put_uint(j, "holds", room->holds);
	json_put_uint(j, "free", room->free);
	json_put_uint(j, "total", room->total);
	return j;
}
