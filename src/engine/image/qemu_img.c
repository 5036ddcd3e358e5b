/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/qemu_img.h"
#include "engine/image/space.h"

#include <inttypes.h>
#include <string.h>

#define SECOND UINT64_C(1000000)
/*
 * Images made to harm have made qemu-img take gigabytes and hours to say what
 * they are. Address space: 64 threads of a conversion have 8 MiB of stack each.
 */
#define MEMORY_MAX (UINT64_C(1) << 30)
#define MEMORY_MAX_CONVERT (UINT64_C(3) << 30)
#define INFO_MAX 65536u
#define DEADLINE (60 * SECOND)

static struct limited limits_of(const struct qemu_img *q, const char *const *argv)
{
	return (struct limited){
		.argv = argv,
		.cwd = q->dir,
		.readable = q->readable,
		.writable = q->writable,
		.uid = q->uid,
		.gid = q->gid,
		.memory = MEMORY_MAX,
		.file_size = q->file_size_max,
		.deadline = q->deadline != 0 ? q->deadline : DEADLINE,
		.output_max = INFO_MAX,
		.hooks = q->hooks,
	};
}

/* "qemu-img: Could not open 'x': y\n" -> "Could not open 'x': y" */
static char *words_of(const char *text)
{
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	const char *p = valid;

	if (g_str_has_prefix(p, "qemu-img: "))
		p += strlen("qemu-img: ");
	return g_strdelimit(g_strchomp(g_strdup(p)), "\r\n", ' ');
}

static bool fail_words(const struct qemu_img *q, const char *text, GError **err)
{
	g_autofree char *words = words_of(text);

	if (strstr(text, "No space left") != NULL || strstr(text, "File too large") != NULL ||
	    strstr(text, "Disk quota exceeded") != NULL)
		return space_fail(q->dir != NULL ? q->dir : q->writable[0], "the disk", 0, err);
	if (strstr(text, "Failed to get") != NULL && strstr(text, "lock") != NULL)
		return fail_advice(err, ERR_BUSY, "Stop the vm that uses it first.",
				   "a running vm uses the disk: %s", words);
	return fail_advice(err, ERR_QEMU, "If it is an image from outside, it is broken: fetch it again.",
			   "qemu-img could not do it: %s", *words != '\0' ? words : "it said nothing");
}

static bool run(const struct qemu_img *q, const struct limited *l, char **ret_out, GError **err)
{
	_cleanup_limited_ struct limited_result r = { 0 };

	if (!limited_run(l, &r, err))
		return false;
	if (r.status != 0)
		return fail_words(q, r.err, err);
	if (ret_out != NULL)
		*ret_out = g_steal_pointer(&r.out);
	return true;
}

void qemu_img_info_clear(struct qemu_img_info *info)
{
	g_clear_pointer(&info->backing, g_free);
	g_clear_pointer(&info->raw, json_unref);
}

static bool parse_info(const char *text, ImageFormat f, struct qemu_img_info *ret, GError **err)
{
	_cleanup_json_ Json *j = json_parse(text, strlen(text), err);
	int64_t size = json_int(j, "virtual-size", -1);

	if (j == NULL)
		return false;
	if (size < 0 || g_strcmp0(json_str(j, "format"), image_format_name(f)) != 0)
		return fail(err, ERR_QEMU, "qemu-img says nothing sensible about the image");
	*ret = (struct qemu_img_info){ .virtual_size = (uint64_t)size,
				       .actual_size = json_uint(j, "actual-size", 0),
				       .backing = g_strdup(json_str(j, "backing-filename")),
				       .raw = json_ref(j) };
	return true;
}

bool qemu_img_info(const struct qemu_img *q, const char *path, ImageFormat f, struct qemu_img_info *ret,
		   GError **err)
{
	const char *const argv[] = { "qemu-img", "info", "--output=json", "-f", image_format_name(f),
				     path,       NULL };
	struct limited l = limits_of(q, argv);
	g_autofree char *text = NULL;

	l.cpu = 10 * SECOND;
	return run(q, &l, &text, err) && parse_info(text, f, ret, err);
}

/* "    (12.34/100%)\r", in pieces as they come. */
struct progress {
	const struct hooks *hooks;
	uint64_t total;
	char number[16];
	size_t n;
	bool inside;
};

static void on_progress(const char *text, size_t len, void *data)
{
	struct progress *p = data;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '(') {
			p->inside = true;
			p->n = 0;
		} else if (p->inside && text[i] == '/') {
			p->number[p->n] = '\0';
			p->inside = false;
			hooks_progress(p->hooks,
				       (uint64_t)(g_ascii_strtod(p->number, NULL) / 100 * (double)p->total),
				       p->total);
		} else if (p->inside && p->n + 1 < sizeof p->number) {
			p->number[p->n++] = text[i];
		}
	}
}

bool qemu_img_convert(const struct qemu_img *q, const char *from, ImageFormat from_format, const char *to,
		      ImageFormat to_format, uint64_t virtual_size, GError **err)
{
	const char *const argv[] = { "qemu-img",
				     "convert",
				     "-p",
				     "-f",
				     image_format_name(from_format),
				     "-O",
				     image_format_name(to_format),
				     from,
				     to,
				     NULL };
	struct progress p = { .hooks = q->hooks, .total = virtual_size };
	struct limited l = limits_of(q, argv);

	l.memory = MEMORY_MAX_CONVERT;
	l.on_output = on_progress;
	l.data = &p;
	return run(q, &l, NULL, err);
}

bool qemu_img_create(const struct qemu_img *q, const char *path, ImageFormat f, const char *backing,
		     ImageFormat backing_format, uint64_t size, GError **err)
{
	g_autofree char *bytes = g_strdup_printf("%" PRIu64, size);
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	struct limited l;

	g_ptr_array_add(argv, (gpointer) "qemu-img");
	g_ptr_array_add(argv, (gpointer) "create");
	g_ptr_array_add(argv, (gpointer) "-q");
	g_ptr_array_add(argv, (gpointer) "-f");
	g_ptr_array_add(argv, (gpointer)image_format_name(f));
	if (backing != NULL) {
		g_assert(g_path_is_absolute(backing) || size != 0);
		if (!g_path_is_absolute(backing))
			g_ptr_array_add(argv, (gpointer) "-u");
		g_ptr_array_add(argv, (gpointer) "-b");
		g_ptr_array_add(argv, (gpointer)backing);
		g_ptr_array_add(argv, (gpointer) "-F");
		g_ptr_array_add(argv, (gpointer)image_format_name(backing_format));
	}
	g_ptr_array_add(argv, (gpointer)path);
	if (size != 0)
		g_ptr_array_add(argv, bytes);
	g_ptr_array_add(argv, NULL);
	l = limits_of(q, (const char *const *)argv->pdata);
	return run(q, &l, NULL, err);
}

bool qemu_img_grow(const struct qemu_img *q, const char *path, ImageFormat f, uint64_t size, GError **err)
{
	g_autofree char *bytes = g_strdup_printf("%" PRIu64, size);
	const char *const argv[] = {
		"qemu-img", "resize", "-q", "-f", image_format_name(f), path, bytes, NULL
	};
	struct limited l = limits_of(q, argv);

	return run(q, &l, NULL, err);
}

bool qemu_img_check(const struct qemu_img *q, const char *path, ImageFormat f, GError **err)
{
	const char *const argv[] = { "qemu-img", "check", "-q", "-f", image_format_name(f), path, NULL };
	struct limited l = limits_of(q, argv);

	return run(q, &l, NULL, err);
}

static bool is_broken(const Json *bitmap)
{
	const Json *flag;
	size_t i;

	json_array_foreach(json_arr(bitmap, "flags"), i, flag)
	{
		if (g_strcmp0(json_string_value(flag), "in-use") == 0)
			return true;
	}
	return false;
}

static bool drop_bitmap(const struct qemu_img *q, const char *path, const char *name, GError **err)
{
	const char *const argv[] = { "qemu-img", "bitmap", "--remove", "-f", "qcow2", path, name, NULL };
	struct limited l = limits_of(q, argv);

	return run(q, &l, NULL, err);
}

bool qemu_img_drop_broken_bitmaps(const struct qemu_img *q, const char *path, GError **err)
{
	_cleanup_info_ struct qemu_img_info info = { 0 };
	const Json *data, *b;
	size_t i;

	if (!qemu_img_info(q, path, IMAGE_FORMAT_QCOW2, &info, err))
		return false;
	data = json_obj(json_obj(info.raw, "format-specific"), "data");
	json_array_foreach(json_arr(data, "bitmaps"), i, b)
	{
		const char *name = json_str(b, "name");

		if (name != NULL && name[0] != '-' && is_broken(b) && !drop_bitmap(q, path, name, err))
			return false;
	}
	return true;
}
