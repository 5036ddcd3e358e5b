/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lines.h"

#include <string.h>

void line_reader_init(LineReader *r, size_t max)
{
	*r = (LineReader){ .rest = g_byte_array_new(), .max = max };
}

void line_reader_done(LineReader *r)
{
	if (r->rest != NULL)
		g_byte_array_unref(r->rest);
	r->rest = NULL;
}

void line_reader_clear(LineReader *r)
{
	/* A long line must not keep its memory for ever. */
	g_byte_array_unref(r->rest);
	r->rest = g_byte_array_new();
}

static bool too_long(const LineReader *r, GError **err)
{
	return fail(err, ERR_LIMIT, "a line of more than %zu bytes", r->max);
}

static bool give(const char *line, size_t len, LineFunc func, void *data)
{
	if (len > 0 && line[len - 1] == '\r')
		len--;
	return func(line, len, data);
}

/* The line that had begun is complete. `func` may end the reader, so it is taken out first. */
static bool give_rest(LineReader *r, const char *bytes, size_t len, LineFunc func, void *data)
{
	g_autoptr(GByteArray) line = g_steal_pointer(&r->rest);

	r->rest = g_byte_array_new();
	g_byte_array_append(line, (const guint8 *)bytes, (guint)len);
	return give((const char *)line->data, line->len, func, data);
}

bool line_reader_feed(LineReader *r, const char *bytes, size_t len, LineFunc func, void *data, GError **err)
{
	const char *end;

	while (len > 0 && (end = memchr(bytes, '\n', len)) != NULL) {
		size_t n = (size_t)(end - bytes);
		bool more;

		if (n + r->rest->len > r->max)
			return too_long(r, err);
		more = r->rest->len > 0 ? give_rest(r, bytes, n, func, data) : give(bytes, n, func, data);
		if (!more)
			return true;
		bytes = end + 1;
		len -= n + 1;
	}
	if (len + r->rest->len > r->max)
		return too_long(r, err);
	g_byte_array_append(r->rest, (const guint8 *)bytes, (guint)len);
	return true;
}
