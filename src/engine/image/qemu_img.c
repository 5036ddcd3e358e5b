/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/qemu_img.h"
#include "base/json.h"
#include "engine/image/secret.h"
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
/*
 * ms that a guess at a passphrase shall cost. It is to make up for words that people think of: who brings
 * a passphrase here brings a random one, and his guest would wait while its QEMU opens the file.
 */
#define ITER_TIME "1"
/*
 * Bytes of a file's tables that are kept in memory. QEMU takes its default, 32 MiB where a disk has 256 GiB
 * or more, when it opens the file, so that a long chain would not fit into what a conversion may take. Read
 * from the beginning to the end, more is of no use: this is for 8 GiB of the disk.
 */
#define TABLES_MAX (UINT64_C(1) << 20)
/* The kernel takes no longer word in a command line. */
#define WORD_MAX (UINT64_C(32) * 4096)

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

/* ---- commands that may have to do with chains and encrypted files ---- */

typedef struct Command {
	GPtrArray *argv; /* strings of its own */
	SecretFiles secrets;
} Command;

static void command_clear(Command *c)
{
	g_clear_pointer(&c->argv, g_ptr_array_unref);
	secret_files_close(&c->secrets);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Command, command_clear)

/* NULL-terminated words. */
static void add_words(Command *c, const char *word, ...) G_GNUC_NULL_TERMINATED;

static void add_words(Command *c, const char *word, ...)
{
	va_list ap;

	va_start(ap, word);
	for (; word != NULL; word = va_arg(ap, const char *))
		g_ptr_array_add(c->argv, g_strdup(word));
	va_end(ap);
}

static bool command_begin(Command *c, const struct qemu_img *q, const char *name, GError **err)
{
	c->argv = g_ptr_array_new_with_free_func(g_free);
	add_words(c, "qemu-img", name, NULL);
	if (!secret_files_open(&c->secrets, q->secrets, err))
		return false;
	for (guint i = 0; i < c->secrets.words->len; i++)
		add_words(c, c->secrets.words->pdata[i], NULL);
	return true;
}

/* Ends the command line, too. */
static struct limited command_limits(Command *c, const struct qemu_img *q)
{
	struct limited l;

	g_ptr_array_add(c->argv, NULL);
	l = limits_of(q, (const char *const *)c->argv->pdata);
	l.keep = (const int *)(void *)c->secrets.fd->data;
	l.n_keep = c->secrets.fd->len;
	return l;
}

/*
 * A qcow2 file in QEMU's own words: which file it is, whose passphrase opens it ("k<n>"; NULL: it is plain),
 * and what it rests on; a JSON null: nothing, whatever its header names. Takes `below`.
 */
static Json *node_of(const char *path, const char *const *secrets, guint n, Json *below)
{
	g_autofree char *key = g_strdup_printf("k%u", n);
	Json *node =
	    json_pack("{s:s,s:{s:s,s:s}}", "driver", "qcow2", "file", "driver", "file", "filename", path);

	json_put_uint(node, "l2-cache-size", TABLES_MAX);
	if (secrets != NULL)
		json_put(node, "encrypt", json_pack("{s:s,s:s}", "format", "luks", "key-secret", key));
	json_put(node, "backing", below);
	return node;
}

/* Takes `node`. */
static bool add_node(Command *c, Json *node, GError **err)
{
	_cleanup_json_ Json *own = node;
	g_autofree char *text = json_print(own), *word = g_strconcat("json:", text, NULL);

	if (strlen(word) >= WORD_MAX)
		return fail_advice(err, ERR_LIMIT, "Move the files to a folder with a shorter path.",
				   "the disk is made of too many files with long names");
	add_words(c, word, NULL);
	return true;
}

static bool add_chain(Command *c, const struct qemu_img *q, GError **err)
{
	Json *node = json_null();

	for (guint i = 0; q->chain[i] != NULL; i++)
		node = node_of(q->chain[i], q->secrets, i, node);
	return add_node(c, node, err);
}

bool qemu_img_convert(const struct qemu_img *q, const char *from, ImageFormat from_format, const char *to,
		      ImageFormat to_format, uint64_t virtual_size, GError **err)
{
	struct progress p = { .hooks = q->hooks, .total = virtual_size };
	g_auto(Command) c = { 0 };
	struct limited l;

	if (!command_begin(&c, q, "convert", err))
		return false;
	add_words(&c, "-p", "-f", image_format_name(from_format), "-O", image_format_name(to_format), NULL);
	if (q->chain == NULL)
		add_words(&c, from, NULL);
	else if (!add_chain(&c, q, err))
		return false;
	add_words(&c, to, NULL);
	l = command_limits(&c, q);
	l.memory = MEMORY_MAX_CONVERT;
	l.on_output = on_progress;
	l.data = &p;
	return run(q, &l, NULL, err);
}

bool qemu_img_create(const struct qemu_img *q, const char *path, ImageFormat f, const char *backing,
		     ImageFormat backing_format, uint64_t size, GError **err)
{
	g_autofree char *bytes = g_strdup_printf("%" PRIu64, size);
	g_auto(Command) c = { 0 };
	struct limited l;

	if (!command_begin(&c, q, "create", err))
		return false;
	add_words(&c, "-q", "-f", image_format_name(f), NULL);
	if (q->secrets != NULL)
		add_words(&c, "-o", "encrypt.format=luks,encrypt.key-secret=k0,encrypt.iter-time=" ITER_TIME,
			  NULL);
	if (backing != NULL) {
		g_assert(g_path_is_absolute(backing) || size != 0);
		if (!g_path_is_absolute(backing))
			add_words(&c, "-u", NULL);
		add_words(&c, "-b", backing, "-F", image_format_name(backing_format), NULL);
	}
	add_words(&c, path, size != 0 ? bytes : NULL, NULL);
	l = command_limits(&c, q);
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

bool qemu_img_check(const struct qemu_img *q, const char *path, GError **err)
{
	g_auto(Command) c = { 0 };
	struct limited l;

	if (!command_begin(&c, q, "check", err))
		return false;
	add_words(&c, "-q", "-f", "qcow2", NULL);
	if (!add_node(&c, node_of(path, q->secrets, 0, json_null()), err))
		return false;
	l = command_limits(&c, q);
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
