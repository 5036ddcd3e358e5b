/* SPDX-License-Identifier: Apache-2.0 */
/* The form of the input is in image_bytes.h. */
#include "../unit/image_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t take(const uint8_t **p, size_t *left, unsigned width)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < width; i++)
		v |= (uint64_t)(*p)[i] << (8 * i);
	*p += width;
	*left -= width;
	return v;
}

static ImageBytes *image_of_input(const uint8_t *p, size_t left)
{
	ImageBytes *b;

	if (left < 8)
		return NULL;
	b = image_bytes_new(take(&p, &left, 8));
	while (left > 6) {
		uint64_t offset = take(&p, &left, 4);
		size_t n = take(&p, &left, 2);

		n = MIN(n, left);
		put_bytes(b, offset, p, n);
		p += n;
		left -= n;
	}
	return b;
}

static bool holds(ImageBytes *b, uint64_t at, size_t len, const char *text)
{
	g_autofree char *buf = g_malloc0(len);

	if (at >= b->size)
		return false;
	len = (size_t)MIN(len, b->size - at);
	image_bytes_read(b, at, buf, len, NULL);
	return memmem(buf, len, text, strlen(text)) != NULL;
}

/* What may never be believed, asked again in another way than the code does. */
static void check_taken(ImageBytes *b, const struct image_header *h)
{
	static const uint8_t zero[8];
	uint8_t backing[8];

	g_assert_cmpuint(h->virtual_size, >, 0);
	g_assert_cmpuint(h->virtual_size, <=, IMAGE_VIRTUAL_SIZE_MAX);
	g_assert_cmpint(h->format, <, _IMAGE_FORMAT_MAX);
	g_assert_true(h->format != IMAGE_FORMAT_RAW || !holds(b, 0, 4, "QFI\xfb"));
	if (h->format == IMAGE_FORMAT_QCOW2) {
		image_bytes_read(b, 8, backing, sizeof backing, NULL);
		g_assert_true(memcmp(backing, zero, sizeof zero) == 0);
	}
	if (h->format == IMAGE_FORMAT_VMDK) {
		g_assert_false(holds(b, 0x200, 20 * 512, "parentFileNameHint"));
		g_assert_false(holds(b, 0x200, 20 * 512, "PARENTFILENAMEHINT"));
	}
}

/* Whatever the bytes: nothing is read outside, and what is taken is whole; what is refused says why. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(ImageBytes) b = image_of_input(data, size);
	g_autoptr(GError) err = NULL;
	struct header_source src;
	struct image_header h;

	if (b == NULL)
		return 0;
	src = image_bytes_source(b);
	if (image_header_check(&src, NULL, IMAGE_VIRTUAL_SIZE_MAX, &h, &err)) {
		g_assert_no_error(err);
		check_taken(b, &h);
	} else {
		g_assert_true(err->code == ERR_INVALID || err->code == ERR_UNSUPPORTED);
		g_assert_nonnull(err_advice(err));
	}
	return 0;
}
