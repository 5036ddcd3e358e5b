/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images made of a few bytes in a sea of zeros, for tests: what a header
 * says matters, where the rest is does not. Also the form of the fuzzer's
 * input: size (8 bytes), then {offset (4), length (2), bytes} until the end,
 * all little-endian.
 */
#pragma once

#include "core/image/header.h"

#include <string.h>

struct patch {
	uint64_t offset;
	GBytes *bytes;
};

typedef struct ImageBytes {
	uint64_t size;
	GArray *patch; /* later ones over earlier ones */
} ImageBytes;

static inline void patch_clear(gpointer p)
{
	g_bytes_unref(((struct patch *)p)->bytes);
}

static inline ImageBytes *image_bytes_new(uint64_t size)
{
	ImageBytes *b = g_new0(ImageBytes, 1);

	b->size = size;
	b->patch = g_array_new(FALSE, FALSE, sizeof(struct patch));
	g_array_set_clear_func(b->patch, patch_clear);
	return b;
}

static inline void image_bytes_free(ImageBytes *b)
{
	g_array_unref(b->patch);
	g_free(b);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageBytes, image_bytes_free)

static inline void put_bytes(ImageBytes *b, uint64_t offset, const void *bytes, size_t n)
{
	struct patch p = { .offset = offset, .bytes = g_bytes_new(bytes, n) };

	g_array_append_val(b->patch, p);
}

static inline void put_text(ImageBytes *b, uint64_t offset, const char *text)
{
	put_bytes(b, offset, text, strlen(text));
}

static inline void put_le(ImageBytes *b, uint64_t offset, unsigned width, uint64_t v)
{
	uint8_t raw[8];

	for (unsigned i = 0; i < width; i++)
		raw[i] = (uint8_t)(v >> (8 * i));
	put_bytes(b, offset, raw, width);
}

static inline void put_be(ImageBytes *b, uint64_t offset, unsigned width, uint64_t v)
{
	put_le(b, offset, width, __builtin_bswap64(v) >> (64 - 8 * width));
}

static inline bool image_bytes_read(void *data, uint64_t offset, void *buf, size_t len, GError **err)
{
	const ImageBytes *b = data;

	(void)err;
	g_assert_cmpuint(offset, <=, b->size);
	g_assert_cmpuint(len, <=, b->size - offset);
	memset(buf, 0, len);
	for (guint i = 0; i < b->patch->len; i++) {
		const struct patch *p = &g_array_index(b->patch, struct patch, i);
		gsize n;
		const uint8_t *from = g_bytes_get_data(p->bytes, &n);

		for (gsize k = 0; k < n; k++)
			if (p->offset + k >= offset && p->offset + k - offset < len)
				((uint8_t *)buf)[p->offset + k - offset] = from[k];
	}
	return true;
}

static inline struct header_source image_bytes_source(ImageBytes *b)
{
	return (struct header_source){ .read = image_bytes_read, .data = b, .size = b->size };
}
