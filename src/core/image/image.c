/* SPDX-License-Identifier: Apache-2.0 */
#include "core/image/image.h"
#include "base/str.h"

#include <inttypes.h>
#include <string.h>

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

struct Image {
	GTree *value; /* name -> canonical text; absent is null */
};

/* Base attributes that are never null, and what they are when nobody says. */
static const struct {
	const char *name, *text;
} defaults[] = {
	{ "status", "queued" },
	{ "visibility", "private" },
	{ "protected", "false" },
	{ "os_hidden", "false" },
	{ "min_disk", "0" },
	{ "min_ram", "0" },
	{ "container_format", "bare" },
	{ "tags", "" },
};

static int compare_names(gconstpointer a, gconstpointer b, gpointer data)
{
	(void)data;
	return strcmp(a, b);
}

static Image *image_alloc(void)
{
	Image *img = g_new0(Image, 1);

	img->value = g_tree_new_full(compare_names, NULL, g_free, g_free);
	return img;
}

Image *image_free(Image *img)
{
	if (img != NULL) {
		g_tree_unref(img->value);
		g_free(img);
	}
	return NULL;
}

static void put(Image *img, const char *name, char *take_text)
{
	g_tree_replace(img->value, g_strdup(name), take_text);
}

bool image_name_check(const char *name, GError **err)
{
	size_t n = strlen(name);
	bool ok =
	    n > 0 && n <= 1020 && g_utf8_validate(name, (gssize)n, NULL) && g_utf8_strlen(name, -1) <= 255;

	ok = ok && strchr(name, '/') == NULL && name[0] != ' ' && name[n - 1] != ' ' && !uuid_valid(name);
	for (const char *p = name; ok && *p != '\0'; p = g_utf8_next_char(p))
		ok = g_unichar_isprint(g_utf8_get_char(p));
	if (!ok) {
		g_autofree char *shown = g_utf8_make_valid(name, (gssize)strnlen(name, 80));

		return fail_advice(
		    err, ERR_INVALID,
		    "Use 1 to 255 printable characters without slashes, with no space at the ends, "
		    "and nothing that looks like a uuid.",
		    "'%s' can't be the name of an image", shown);
	}
	return true;
}

Image *image_new(const char *id, const char *name, const char *now, GError **err)
{
	Image *img;

	g_assert(uuid_valid(id));
	if (!image_name_check(name, err))
		return NULL;
	img = image_alloc();
	for (size_t i = 0; i < G_N_ELEMENTS(defaults); i++)
		image_record(img, defaults[i].name, defaults[i].text);
	image_record(img, "id", id);
	image_record(img, "name", name);
	image_record(img, "created_at", now);
	image_record(img, "updated_at", now);
	return img;
}

static gboolean copy_one(gpointer key, gpointer value, gpointer data)
{
	put(data, key, g_strdup(value));
	return FALSE;
}

Image *image_copy(const Image *img)
{
	Image *c = image_alloc();

	g_tree_foreach(img->value, copy_one, c);
	return c;
}

const char *image_get(const Image *img, const char *name)
{
	return g_tree_lookup(img->value, name);
}

uint64_t image_uint(const Image *img, const char *name)
{
	const char *text = image_get(img, name);

	return text == NULL ? 0 : g_ascii_strtoull(text, NULL, 10);
}

bool image_bool(const Image *img, const char *name)
{
	return g_strcmp0(image_get(img, name), "true") == 0;
}

bool image_is_active(const Image *img)
{
	return g_strcmp0(image_get(img, "status"), "active") == 0;
}

void image_record(Image *img, const char *name, const char *text)
{
	char *canonical = NULL;
	bool ok;

	if (text == NULL) {
		g_tree_remove(img->value, name);
		return;
	}
	ok = prop_parse(name, text, &canonical, NULL);
	g_assert(ok); /* the service wrote it, nobody outside */
	put(img, name, canonical);
}

void image_record_uint(Image *img, const char *name, uint64_t value)
{
	g_autofree char *text = g_strdup_printf("%" PRIu64, value);

	image_record(img, name, text);
}

static bool is_custom(const char *name)
{
	const struct prop_def *def = prop_find(name);

	return def == NULL || !(def->flags & PROP_BASE);
}

static gboolean count_custom(gpointer key, gpointer value, gpointer data)
{
	(void)value;
	*(unsigned *)data += is_custom(key);
	return FALSE;
}

static bool check_room(const Image *img, const char *name, GError **err)
{
	unsigned n = 0;

	if (!is_custom(name) || image_get(img, name) != NULL)
		return true;
	g_tree_foreach(img->value, count_custom, &n);
	if (n >= PROP_COUNT_MAX)
		return fail_advice(err, ERR_LIMIT, "Remove properties that nobody needs.",
				   "the image has %u properties already", n);
	return true;
}

static bool check_writable(const char *name, GError **err)
{
	const struct prop_def *def = prop_find(name);

	if (def != NULL && def->flags & PROP_READONLY)
		return fail_advice(err, ERR_DENIED, "Leave it out.", "'%s' is written by the service only",
				   name);
	return true;
}

/* Takes `canonical`, also when it fails. */
static bool set_canonical(Image *img, const char *name, char *canonical, GError **err)
{
	g_autofree char *text = canonical;

	if (!check_writable(name, err) || !check_room(img, name, err))
		return false;
	if (g_str_equal(name, "name") && !image_name_check(text, err))
		return false;
	put(img, name, g_steal_pointer(&text));
	return true;
}

bool image_set(Image *img, const char *name, const char *text, GError **err)
{
	char *canonical;

	return prop_parse(name, text, &canonical, err) && set_canonical(img, name, canonical, err);
}

bool image_unset(Image *img, const char *name, GError **err)
{
	if (!prop_name_check(name, err) || !check_writable(name, err))
		return false;
	if (g_str_equal(name, "name"))
		return fail_advice(err, ERR_INVALID, "Give it another name instead.",
				   "an image must have a name");
	g_tree_remove(img->value, name);
	for (size_t i = 0; i < G_N_ELEMENTS(defaults); i++)
		if (g_str_equal(defaults[i].name, name))
			image_record(img, name, defaults[i].text);
	return true;
}

bool image_patch(Image *img, const Json *changes, GError **err)
{
	g_autoptr(Image) trial = image_copy(img);
	const char *name;
	Json *v;

	if (!json_is_object(changes))
		return fail(err, ERR_INVALID, "the changes of an image must be a JSON object");
	json_object_foreach((Json *)changes, name, v)
	{
		char *canonical;

		if (json_is_null(v) ? !image_unset(trial, name, err)
				    : (!prop_parse_json(name, v, &canonical, err) ||
				       !set_canonical(trial, name, canonical, err)))
			return false;
	}
	g_tree_unref(img->value);
	img->value = g_tree_ref(trial->value);
	return true;
}

static gboolean put_custom(gpointer key, gpointer value, gpointer data)
{
	if (is_custom(key))
		json_put(data, key, prop_to_json(key, value));
	return FALSE;
}

Json *image_properties(const Image *img)
{
	Json *j = json_object();

	g_tree_foreach(img->value, put_custom, j);
	return j;
}

Json *image_to_json(const Image *img)
{
	Json *j = json_object();
	const struct prop_def *def;
	size_t n;

	def = prop_table(&n);
	for (size_t i = 0; i < n; i++) {
		const char *text = image_get(img, def[i].name);

		if (def[i].flags & PROP_BASE)
			json_put(j, def[i].name,
				 text != NULL ? prop_to_json(def[i].name, text) : json_null());
	}
	g_tree_foreach(img->value, put_custom, j);
	return j;
}

/* Every base attribute that may not be null must have come. */
static bool check_complete(const Image *img, GError **err)
{
	const struct prop_def *def;
	size_t n;

	def = prop_table(&n);
	for (size_t i = 0; i < n; i++)
		if (def[i].flags & PROP_BASE && !(def[i].flags & PROP_NULL) &&
		    image_get(img, def[i].name) == NULL)
			return fail(err, ERR_INVALID, "an image without '%s'", def[i].name);
	if (!uuid_valid(image_id(img)))
		return fail(err, ERR_INVALID, "'%s' is no id of an image", image_id(img));
	return image_name_check(image_name(img), err);
}

Image *image_of_json(const Json *j, GError **err)
{
	g_autoptr(Image) img = image_alloc();
	const char *name;
	Json *v;

	if (!json_is_object(j)) {
		fail(err, ERR_INVALID, "an image must be a JSON object");
		return NULL;
	}
	json_object_foreach((Json *)j, name, v)
	{
		char *canonical;

		if (json_is_null(v))
			continue;
		if (!prop_parse_json(name, v, &canonical, err))
			return NULL;
		put(img, name, canonical);
	}
	return check_complete(img, err) ? g_steal_pointer(&img) : NULL;
}

bool image_check_usable(const Image *img, GError **err)
{
	if (!image_is_active(img))
		return fail_advice(err, ERR_BAD_STATE, "Wait for its import, or choose another image.",
				   "image '%s' is %s", image_name(img), image_get(img, "status"));
	return true;
}

bool image_check_fit(const Image *img, uint64_t disk, uint64_t memory, GError **err)
{
	uint64_t need = MAX(image_uint(img, "min_disk") * GIB, image_uint(img, "virtual_size"));
	uint64_t ram = image_uint(img, "min_ram") * MIB;

	if (disk < need) {
		g_autofree char *have = print_size(disk), *want = print_size(need);

		fail(err, ERR_INVALID, "image '%s' needs a disk of at least %s, not %s", image_name(img),
		     want, have);
		return err_advise(err, "Give the vm a disk of %s or more.", want);
	}
	if (memory < ram) {
		g_autofree char *have = print_size(memory), *want = print_size(ram);

		fail(err, ERR_INVALID, "image '%s' needs at least %s of memory, not %s", image_name(img),
		     want, have);
		return err_advise(err, "Give the vm %s of memory or more.", want);
	}
	return true;
}

bool image_check_delete(const Image *img, const char *const *users, GError **err)
{
	guint n = g_strv_length((gchar **)users);

	if (image_bool(img, "protected"))
		return fail_advice(err, ERR_DENIED, "Set protected=false on it first.",
				   "image '%s' is protected", image_name(img));
	if (n == 0)
		return true;
	fail_advice(err, ERR_CONFLICT, "Delete those first, or hide the image with os_hidden=true.",
		    "image '%s' holds what %u volume%s built on, '%s' first", image_name(img), n,
		    n == 1 ? " is" : "s are", users[0]);
	return err_detail(err, "volumes", json_of_strv(users));
}
