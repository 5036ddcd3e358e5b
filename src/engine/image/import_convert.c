/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/header_file.h"
#include "engine/image/import-impl.h"
#include "engine/image/qemu_img.h"
#include "engine/image/scratch.h"
#include "engine/image/sink.h"
#include "engine/image/space.h"

#include <unistd.h>

#define SECOND UINT64_C(1000000)
/* The slowest disk that an import is waited for: bytes a second. */
#define SLOWEST (UINT64_C(2) << 20)

static const char *const convert_names[] = { "size", "stored_hash_value", "virtual_size", NULL };

/* A part of a step's progress, in thousandths. */
struct phase {
	const struct hooks *outer;
	uint64_t from, to;
};

static bool phase_cancelled(void *data)
{
	const struct phase *p = data;

	return !hooks_continue(p->outer, NULL);
}

static void phase_progress(uint64_t done, uint64_t total, void *data)
{
	const struct phase *p = data;

	if (total > 0)
		hooks_progress(p->outer,
			       p->from + (uint64_t)((double)done / (double)total * (double)(p->to - p->from)),
			       1000);
}

static struct hooks phase_hooks(struct phase *p)
{
	return (struct hooks){ .cancelled = phase_cancelled, .progress = phase_progress, .data = p };
}

#define CONVERTED 850 /* of the step's thousandths; the rest is the hash */

static bool convert(const struct image_import *im, const struct image_header *h, GError **err)
{
	g_autofree char *scratch = import_path(im, "scratch"), *source = import_path(im, "source"),
			*out = import_path(im, "scratch/disk.qcow2");
	const char *const readable[] = { source, NULL };
	struct phase phase = { .outer = im->hooks, .from = 0, .to = CONVERTED };
	struct hooks hooks = phase_hooks(&phase);
	struct qemu_img q = {
		.dir = scratch, .readable = readable, .uid = im->uid, .gid = im->gid, .hooks = &hooks
	};
	uint64_t room;

	if (!space_free(im->work, &room, err))
		return false;
	if (room == 0)
		return space_fail(im->work, "the converted image", 0, err);
	q.file_size_max = room;
	q.deadline = 600 * SECOND + h->virtual_size / SLOWEST * SECOND;
	if (qemu_img_convert(&q, "../source", h->format, "disk.qcow2", IMAGE_FORMAT_QCOW2, h->virtual_size,
			     err))
		return true;
	unlink(out);
	return false;
}

/* Out of the reach of whoever ran qemu-img, and read-only from now on. */
static bool take_over(const struct image_import *im, GError **err)
{
	g_autofree char *from = import_path(im, "scratch/disk.qcow2"), *to = import_path(im, "disk.qcow2");

	return scratch_take(from, to, geteuid(), getegid(), 0444, err);
}

static bool describe(const struct image_import *im, Json *facts, GError **err)
{
	static const ImageFormat qcow2 = IMAGE_FORMAT_QCOW2;
	g_autofree char *path = import_path(im, "disk.qcow2"), *sum = NULL;
	struct phase phase = { .outer = im->hooks, .from = CONVERTED, .to = 1000 };
	struct hooks hooks = phase_hooks(&phase);
	struct image_header h;
	uint64_t size = 0;

	if (!image_file_check(path, &qcow2, import_max_virtual_size(im) + (1 << 20), &h, err))
		return false;
	sum = file_sha512(path, &hooks, err);
	if (sum == NULL)
		return false;
	import_file_size(path, &size);
	json_put_uint(facts, "size", size);
	json_put_uint(facts, "virtual_size", h.virtual_size);
	json_put_str(facts, "stored_hash_value", sum);
	return import_facts_write(im, facts, err);
}

bool image_convert(const struct image_import *im, Json **ret_facts, GError **err)
{
	_cleanup_json_ Json *facts = import_facts_read(im);
	struct image_header h;

	if (!import_is_converted(im, facts)) {
		if (!import_is_fetched(im, facts))
			return fail(err, ERR_BAD_STATE, "the image's source was not fetched");
		if (!image_convert_undo(im, err) || !import_check_source(im, &h, err) ||
		    !convert(im, &h, err))
			return false;
		if (!take_over(im, err) || !describe(im, facts, err)) {
			image_convert_undo(im, NULL);
			return false;
		}
	}
	*ret_facts = import_facts_pick(facts, convert_names);
	return true;
}

bool image_convert_undo(const struct image_import *im, GError **err)
{
	g_autofree char *partial = import_path(im, "scratch/disk.qcow2"),
			*whole = import_path(im, "disk.qcow2");

	return import_remove_file(partial, err) && import_remove_file(whole, err);
}
