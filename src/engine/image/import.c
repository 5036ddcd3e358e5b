/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/import.h"
#include "base/fd.h"
#include "engine/image/fetch.h"
#include "engine/image/header_file.h"
#include "engine/image/import-impl.h"
#include "engine/image/qemu_img.h"
#include "engine/image/scratch.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define SECOND UINT64_C(1000000)
#define FACTS_MAX 65536

char *import_path(const struct image_import *im, const char *name)
{
	return g_build_filename(im->work, name, NULL);
}

bool image_import_of_args(const Json *args, struct image_import *ret, GError **err)
{
	*ret = (struct image_import){
		.source = json_str(args, "source"),
		.format = json_str(args, "format"),
		.checksum = json_str(args, "checksum"),
		.work = json_str(args, "work"),
		.target = json_str(args, "target"),
		.max_virtual_size = json_uint(args, "max_virtual_size", 0),
		.uid = LIMITED_KEEP_USER,
	};
	if (ret->source == NULL || ret->work == NULL || ret->target == NULL)
		return fail(err, ERR_INVALID, "an import needs a source, a working folder and a target");
	return true;
}

/* "sha512:HEX"; the parts are borrowed. */
static bool checksum_parse(const char *text, bool *ret_sha256, const char **ret_hex, GError **err)
{
	bool is512 = g_ascii_strncasecmp(text, "sha512:", 7) == 0,
	     is256 = g_ascii_strncasecmp(text, "sha256:", 7) == 0;
	const char *hex = text + 7;

	if ((!is512 && !is256) || strlen(hex) != (is512 ? 128 : 64) ||
	    strspn(hex, "0123456789abcdefABCDEF") != strlen(hex))
		return fail_advice(err, ERR_INVALID,
				   "Write sha512:HEX or sha256:HEX, as the publisher's list has it.",
				   "that is no checksum of an image");
	*ret_sha256 = is256;
	*ret_hex = hex;
	return true;
}

bool image_import_check(const struct image_import *im, GError **err)
{
	ImageFormat f;
	const char *hex;
	bool sha256;

	return fetch_check(im->source, err) &&
	       (im->format == NULL || image_format_parse(im->format, &f, err)) &&
	       (im->checksum == NULL || checksum_parse(im->checksum, &sha256, &hex, err));
}

/* What was found so far */

Json *import_facts_read(const struct image_import *im)
{
	g_autofree char *path = import_path(im, "facts.json"), *text = NULL;
	size_t n;
	Json *j;

	text = file_read(path, FACTS_MAX, &n, NULL);
	j = text != NULL ? json_parse(text, n, NULL) : NULL;
	if (json_is_object(j))
		return j;
	json_unref(j);
	return json_object();
}

bool import_facts_write(const struct image_import *im, const Json *facts, GError **err)
{
	g_autofree char *path = import_path(im, "facts.json"), *text = json_print_pretty(facts);

	return file_write_atomic(path, text, strlen(text), 0600, err);
}

/* The members of `facts` named in the vector. New reference. */
Json *import_facts_pick(const Json *facts, const char *const *names)
{
	Json *j = json_object();

	for (; *names != NULL; names++)
		json_object_set(j, *names, json_object_get(facts, *names));
	return j;
}

static const char *const fetch_names[] = { "source_size", "os_hash_algo", "os_hash_value", "checksum", NULL };
static const char *const inspect_names[] = { "source_format", "virtual_size", "disk_format",
					     "container_format", NULL };

bool import_file_size(const char *path, uint64_t *ret)
{
	struct stat st;

	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	*ret = (uint64_t)st.st_size;
	return true;
}

/* Fetching */

bool import_is_fetched(const struct image_import *im, const Json *facts)
{
	g_autofree char *path = import_path(im, "source");
	uint64_t size;

	return json_bool(facts, "fetched", false) && g_strcmp0(json_str(facts, "source"), im->source) == 0 &&
	       import_file_size(path, &size) && size == json_uint(facts, "source_size", UINT64_MAX);
}

static bool make_work(const struct image_import *im, GError **err)
{
	g_autofree char *scratch = import_path(im, "scratch");

	return dir_make(im->work, 0711, err) && scratch_make(scratch, im->uid, im->gid, err);
}

static bool check_sum(const struct image_import *im, Sink *s, GError **err)
{
	const char *want, *is;
	bool sha256;

	if (im->checksum == NULL)
		return true;
	if (!checksum_parse(im->checksum, &sha256, &want, err))
		return false;
	is = sink_hash(s, sha256 ? HASH_SHA256 : HASH_SHA512);
	if (g_ascii_strcasecmp(is, want) == 0)
		return true;
	fail_advice(err, ERR_INVALID,
		    "Compare it with the publisher's list; if it is right, fetch the image from elsewhere.",
		    "the checksum doesn't hold: it is %s:%s", sha256 ? "sha256" : "sha512", is);
	err_detail(err, "expected", json_text_or_escaped(want));
	return err_detail(err, "found", json_string(is));
}

static bool save_known(const Json *known, void *data, GError **err)
{
	const struct image_import *im = data;
	_cleanup_json_ Json *facts = json_deep_copy(known);

	json_put_str(facts, "source", im->source);
	return import_facts_write(im, facts, err);
}

static bool fetch_bytes(const struct image_import *im, Json *known, Sink *s, GError **err)
{
	g_autofree char *path = NULL;
	struct fetch_http f = {
		.url = im->source,
		.known = known,
		.trust_resume = im->checksum != NULL,
		.retry_delay = im->retry_delay != 0 ? im->retry_delay : SECOND,
		.hooks = im->hooks,
		.save = save_known,
		.data = (void *)(gpointer)im,
	};

	if (fetch_is_local(im->source, &path, err))
		return fetch_file(path, s, err);
	return fetch_http(&f, s, err);
}

static Json *facts_of_sink(const struct image_import *im, Sink *s)
{
	Json *j = json_object();

	json_put_str(j, "source", im->source);
	json_put_bool(j, "fetched", true);
	json_put_uint(j, "source_size", sink_size(s));
	json_put_str(j, "os_hash_algo", "sha512");
	json_put_str(j, "os_hash_value", sink_hash(s, HASH_SHA512));
	json_put_str(j, "checksum", sink_hash(s, HASH_MD5));
	return j;
}

static bool fetch_into(const struct image_import *im, Json *known, const char *path, Json **ret_facts,
		       GError **err)
{
	bool sha256 = im->checksum != NULL && g_ascii_strncasecmp(im->checksum, "sha256:", 7) == 0;
	struct sink_config c = { .dir = im->work, .path = path, .sha256 = sha256, .hooks = im->hooks };
	g_autoptr(Sink) s = NULL;

	c.resume = g_strcmp0(json_str(known, "source"), im->source) == 0;
	s = sink_open(&c, err);
	if (s == NULL || !fetch_bytes(im, known, s, err) ||
	    !sink_finish(s, im->uid != LIMITED_KEEP_USER ? im->gid : getegid(), err))
		return false;
	if (!check_sum(im, s, err)) {
		unlink(path);
		return false;
	}
	*ret_facts = facts_of_sink(im, s);
	return true;
}

bool image_fetch(const struct image_import *im, Json **ret_facts, GError **err)
{
	_cleanup_json_ Json *known = import_facts_read(im), *facts = NULL;
	g_autofree char *path = import_path(im, "source");

	if (import_is_fetched(im, known)) {
		*ret_facts = import_facts_pick(known, fetch_names);
		return true;
	}
	if (!image_import_check(im, err) || !make_work(im, err) ||
	    !fetch_into(im, known, path, &facts, err) || !import_facts_write(im, facts, err))
		return false;
	*ret_facts = import_facts_pick(facts, fetch_names);
	return true;
}

bool image_fetch_undo(const struct image_import *im, GError **err)
{
	return dir_remove(im->work, err);
}

/* Inspecting */

uint64_t import_max_virtual_size(const struct image_import *im)
{
	return im->max_virtual_size != 0 ? im->max_virtual_size : IMAGE_VIRTUAL_SIZE_MAX;
}

bool import_check_source(const struct image_import *im, struct image_header *ret, GError **err)
{
	g_autofree char *path = import_path(im, "source");
	ImageFormat want;

	if (im->format != NULL && !image_format_parse(im->format, &want, err))
		return false;
	return image_file_check(path, im->format != NULL ? &want : NULL, import_max_virtual_size(im), ret,
				err);
}

/* What our own check passed should never come here; if it does, it is refused all the same. */
static bool check_info(const struct qemu_img_info *info, uint64_t max, GError **err)
{
	const Json *data = json_obj(json_obj(info->raw, "format-specific"), "data");

	if (info->backing != NULL || json_object_get(data, "data-file") != NULL)
		return fail_advice(err, ERR_INVALID,
				   "Flatten it with `qemu-img convert`, then import the result.",
				   "the image is not whole: it names another file");
	if (json_bool(info->raw, "encrypted", false))
		return fail_advice(err, ERR_UNSUPPORTED, "Convert it into one that is not.",
				   "the image is encrypted");
	if (info->virtual_size == 0 || info->virtual_size > max)
		return fail_advice(err, ERR_INVALID, "Check that it is the right file.",
				   "the image is a disk of %" G_GUINT64_FORMAT
				   " bytes; the limit is %" G_GUINT64_FORMAT,
				   info->virtual_size, max);
	return true;
}

static bool look(const struct image_import *im, struct image_header *ret, GError **err)
{
	g_autofree char *scratch = import_path(im, "scratch"), *source = import_path(im, "source");
	const char *const readable[] = { source, NULL };
	struct qemu_img q = {
		.dir = scratch, .readable = readable, .uid = im->uid, .gid = im->gid, .hooks = im->hooks
	};
	_cleanup_info_ struct qemu_img_info info = { 0 };

	if (!import_check_source(im, ret, err) || !qemu_img_info(&q, "../source", ret->format, &info, err) ||
	    !check_info(&info, import_max_virtual_size(im), err))
		return false;
	ret->virtual_size = info.virtual_size;
	return true;
}

bool image_inspect(const struct image_import *im, Json **ret_facts, GError **err)
{
	_cleanup_json_ Json *facts = import_facts_read(im);
	struct image_header h;

	if (!import_is_fetched(im, facts))
		return fail(err, ERR_BAD_STATE, "the image's source was not fetched");
	if (!look(im, &h, err))
		return false;
	json_put_str(facts, "source_format", image_format_name(h.format));
	json_put_uint(facts, "virtual_size", h.virtual_size);
	json_put_str(facts, "disk_format", "qcow2");
	json_put_str(facts, "container_format", "bare");
	if (!import_facts_write(im, facts, err))
		return false;
	*ret_facts = import_facts_pick(facts, inspect_names);
	return true;
}

/* Publishing */

bool import_is_converted(const struct image_import *im, const Json *facts)
{
	g_autofree char *path = import_path(im, "disk.qcow2");
	uint64_t size;

	return json_str(facts, "stored_hash_value") != NULL && import_file_size(path, &size) &&
	       size == json_uint(facts, "size", UINT64_MAX);
}

bool import_remove_file(const char *path, GError **err)
{
	return unlink(path) == 0 || errno == ENOENT || fail_errno(err, errno, "can't remove '%s'", path);
}

bool image_publish(const struct image_import *im, GError **err)
{
	_cleanup_json_ Json *facts = import_facts_read(im);
	g_autofree char *from = import_path(im, "disk.qcow2");
	uint64_t size;

	if (import_is_converted(im, facts)) {
		if (rename(from, im->target) < 0)
			return fail_errno(err, errno, "can't publish the image");
	} else if (!import_file_size(im->target, &size)) {
		return fail(err, ERR_BAD_STATE, "the image was not converted");
	}
	return sync_dir_of(im->target, err) && dir_remove(im->work, err);
}

bool image_publish_undo(const struct image_import *im, GError **err)
{
	return import_remove_file(im->target, err);
}

bool image_remove(const char *target, const char *work, GError **err)
{
	return import_remove_file(target, err) && dir_remove(work, err);
}

static void add_facts(Json *all, Json **facts)
{
	json_object_update(all, *facts);
	g_clear_pointer(facts, json_unref);
}

static bool import_all(const struct image_import *im, Json *all, GError **err)
{
	bool (*const step[])(const struct image_import *, Json **, GError **) = { image_fetch, image_inspect,
										  image_convert };
	Json *facts = NULL;

	for (size_t i = 0; i < G_N_ELEMENTS(step); i++) {
		if (!step[i](im, &facts, err))
			return false;
		add_facts(all, &facts);
	}
	return image_publish(im, err);
}

bool image_import(const struct image_import *im, Json **ret_facts, GError **err)
{
	_cleanup_json_ Json *all = json_object();

	if (!image_import_check(im, err))
		return false;
	if (!import_all(im, all, err)) {
		image_remove(im->target, im->work, NULL);
		return false;
	}
	if (ret_facts != NULL)
		*ret_facts = json_ref(all);
	return true;
}

bool image_verify(const char *target, const char *sha512, const struct hooks *hooks, GError **err)
{
	g_autofree char *is = file_sha512(target, hooks, err);

	if (is == NULL)
		return false;
	if (g_ascii_strcasecmp(is, sha512) == 0)
		return true;
	fail_advice(err, ERR_INVALID,
		    "Import it again; vms on it may have read wrong data. Check the disk of the host.",
		    "the image's content is not what was imported");
	err_detail(err, "expected", json_text_or_escaped(sha512));
	return err_detail(err, "found", json_string(is));
}
