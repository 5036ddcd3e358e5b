/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http_head.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *s)
{
	g_assert_nonnull(s);
	g_assert_true(g_utf8_validate(s, -1, NULL));
	for (; *s != '\0'; s++)
		g_assert_true((unsigned char)*s >= 0x20 && *s != 0x7f);
}

static void check_head(const struct http_head *h)
{
	check_text(h->method);
	check_text(h->path);
	g_assert_true(h->path[0] == '/');
	for (size_t i = 0; h->segment[i] != NULL; i++) {
		g_assert_cmpuint(i, <, HTTP_SEGMENTS_MAX);
		check_text(h->segment[i]);
	}
	for (size_t i = 0; i < h->n_query; i++) {
		check_text(h->query[i].name);
		check_text(h->query[i].value);
	}
	for (size_t i = 0; i < h->n_headers; i++)
		g_assert_true(strpbrk(h->header[i].value, "\r\n") == NULL);
	g_assert_true(!h->chunked || h->length == 0);
}

/* The pieces of a chunked body lie within the input, and there is an end to it. */
static void check_chunks(const uint8_t *data, size_t size)
{
	struct http_chunks c = { 0 };
	HttpChunkEvent event;

	do {
		const uint8_t *piece = NULL;
		size_t used = 0, len = 0;

		event = http_chunks_step(&c, data, size, &used, &piece, &len);
		g_assert_cmpuint(used, <=, size);
		if (event == HTTP_CHUNK_DATA)
			g_assert_true(len > 0 && piece >= data && piece + len <= data + used);
		data += used;
		size -= used;
	} while (event == HTTP_CHUNK_DATA);
}

/* A request head and what follows it as a chunked body: refused with a reason, or clean text everywhere. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ssize_t end = http_head_end(data, size, 0);
	g_autoptr(GError) err = NULL;
	struct http_head h;

	g_assert_cmpint(end, <=, (ssize_t)size);
	if (end <= 0) {
		check_chunks(data, size);
		return 0;
	}
	if (http_head_parse(data, (size_t)end, &h, &err) == 0) {
		g_assert_no_error(err);
		check_head(&h);
		http_head_clear(&h);
	} else {
		g_assert_true(err != NULL && err_advice(err) != NULL);
	}
	check_chunks(data + end, size - (size_t)end);
	return 0;
}
