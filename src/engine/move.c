/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/move.h"
#include "base/fd.h"
#include "base/time.h"
#include "core/guest/cd.h"
#include "core/model/keys.h"
#include "engine/engine-impl.h"
#include "engine/image/header_file.h"
#include "engine/records.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MARKER_PREFIX ".plimsoll-shared-"
#define TOKEN_MAX 64

struct Moves {
	GMutex lock;
	GHashTable *move; /* id of the operation -> Move */
};

static void drop(gpointer p)
{
	Move *m = p;

	peer_link_free(m->link);
	g_free(m->reception);
	g_strfreev(m->node);
	json_unref(m->copied);
	json_unref(m->applied);
	g_free(m);
}

Moves *moves_new(void)
{
	Moves *m = g_new0(Moves, 1);

	g_mutex_init(&m->lock);
	m->move = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, drop);
	return m;
}

Moves *moves_free(Moves *m)
{
	if (m != NULL) {
		g_hash_table_unref(m->move);
		g_mutex_clear(&m->lock);
		g_free(m);
	}
	return NULL;
}

Move *move_begin(Moves *m, const char *operation)
{
	Move *x = g_new0(Move, 1);

	g_mutex_lock(&m->lock);
	g_hash_table_replace(m->move, g_strdup(operation), x);
	g_mutex_unlock(&m->lock);
	return x;
}

Move *move_find(Moves *m, const char *operation)
{
	Move *x;

	g_mutex_lock(&m->lock);
	x = g_hash_table_lookup(m->move, operation);
	g_mutex_unlock(&m->lock);
	return x;
}

void move_end(Moves *m, const char *operation)
{
	g_mutex_lock(&m->lock);
	g_hash_table_remove(m->move, operation);
	g_mutex_unlock(&m->lock);
}

/* ---- markers ---- */

Json *marker_make(const char *folder)
{
	g_autofree char *name = uuid_new(), *token = uuid_new();
	g_autofree char *path = g_strconcat(folder, "/" MARKER_PREFIX, name, NULL);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	Json *j;

	if (fd < 0)
		return json_null();
	if (fd_write_all(fd, token, strlen(token)) < 0 || fsync(fd) < 0) {
		unlink(path);
		return json_null();
	}
	j = json_object();
	json_put_str(j, "path", path);
	json_put_str(j, "token", token);
	return j;
}

void marker_remove(const Json *marker)
{
	const char *path = json_str(marker, "path");

	if (path != NULL)
		unlink(path);
}

bool marker_seen(const Json *marker)
{
	const char *path = json_str(marker, "path"), *token = json_str(marker, "token");
	g_autofree char *base = path != NULL ? g_path_get_basename(path) : NULL, *text = NULL;

	if (path == NULL || token == NULL || path[0] != '/' || !g_str_has_prefix(base, MARKER_PREFIX))
		return false;
	text = file_read(path, TOKEN_MAX, NULL, NULL);
	return text != NULL && g_str_equal(text, token);
}

/* ---- the request ---- */

static Json *applied_of(Engine *e, const Json *args, GError **err)
{
	g_autofree char *key = key_vm_applied(json_str(args, "vm"));
	g_autoptr(GError) e2 = NULL;
	Json *j = record_get(e->store, key, NULL, &e2);

	if (j == NULL && e2 == NULL)
		fail(&e2, ERR_BAD_STATE, "it is not recorded what '%s' was started with",
		     json_str(args, "name"));
	if (j == NULL)
		g_propagate_error(err, g_steal_pointer(&e2));
	return j;
}

/* How large the guest sees a file of the user's own; nothing for what is none, which can't be copied. */
static void describe_file(Json *disk)
{
	struct image_header h = { 0 };
	ImageFormat format;

	if (json_str(disk, "volume") == NULL && json_str(disk, "format") != NULL &&
	    image_format_parse(json_str(disk, "format"), &format, NULL) &&
	    image_file_check(json_str(disk, "path"), &format, IMAGE_VIRTUAL_SIZE_MAX, &h, NULL))
		json_put_uint(disk, "size", h.virtual_size);
}

static Json *disks_with_markers(const Json *args)
{
	const Json *disks = json_arr(args, "disks"), *d;
	Json *list = json_array();
	size_t i;

	json_array_foreach(disks, i, d)
	{
		const char *path = json_str(d, "path");
		g_autofree char *folder = path != NULL ? g_path_get_dirname(path) : NULL;
		Json *j = json_deep_copy(d);
		struct stat st;

		if (path != NULL && stat(path, &st) == 0)
			json_put_uint(j, "allocated", (uint64_t)st.st_blocks * 512);
		if (path != NULL)
			describe_file(j);
		json_put(j, "marker", folder != NULL ? marker_make(folder) : json_null());
		json_array_append_new(list, j);
	}
	return list;
}

/* {path, size}: the medium in the guest's CD drive, which is never copied; null: there is none. */
static Json *cd_of(Engine *e, const Json *applied)
{
	g_autoptr(Vm) vm = vm_of_json(json_obj(applied, "config"), NULL);
	g_autofree char *path = vm != NULL ? cd_path(vm, &e->folders) : NULL;
	struct stat st;
	Json *j;

	if (path == NULL)
		return json_null();
	j = json_object();
	json_put_str(j, "path", path);
	json_put_uint(j, "size", stat(path, &st) == 0 ? (uint64_t)st.st_size : 0);
	return j;
}

Json *move_request(Engine *e, const Json *args, GError **err)
{
	Json *applied = applied_of(e, args, err), *body;

	if (applied == NULL)
		return NULL;
	body = json_object();
	json_put_str(body, "vm", json_str(args, "vm"));
	json_put_str(body, "machine", json_str(args, "machine"));
	json_put_bool(body, "run", json_bool(args, "run", true));
	json_put_uint(body, "memory", memory_keeper_size(e->memory, json_str(args, "vm")));
	json_put_bool(body, "post_copy", json_bool(json_obj(args, "settings"), "post_copy", false));
	json_put_bool(body, "files", json_bool(json_obj(args, "settings"), "disks", false));
	json_put(body, "cdrom", cd_of(e, applied));
	json_put(body, "applied", applied);
	json_put(body, "disks", disks_with_markers(args));
	json_put(body, "dir", marker_make(json_str(args, "dir")));
	return body;
}

void move_request_done(const Json *body)
{
	const Json *disks = json_arr(body, "disks"), *d;
	size_t i;

	json_array_foreach(disks, i, d) marker_remove(json_obj(d, "marker"));
	marker_remove(json_obj(body, "dir"));
}
