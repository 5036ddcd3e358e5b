/* SPDX-License-Identifier: Apache-2.0 */
/* The flattened form of a dump, cut anywhere. */
#include "core/evidence/flat.h"

#include <string.h>

#define SIZE 256

/* What was written, laid out. */
struct image {
	uint8_t bytes[SIZE];
	size_t parts;
};

static bool put(uint64_t offset, const uint8_t *bytes, size_t len, void *data, GError **err)
{
	struct image *i = data;

	(void)err;
	g_assert_cmpuint(offset, <=, SIZE);
	g_assert_cmpuint(len, <=, SIZE - offset);
	memcpy(i->bytes + offset, bytes, len);
	i->parts++;
	return true;
}

static void add_number(GByteArray *a, uint64_t n)
{
	uint64_t big = GUINT64_TO_BE(n);

	g_byte_array_append(a, (const uint8_t *)&big, sizeof big);
}

static void add_record(GByteArray *a, uint64_t offset, uint64_t len, const char *bytes)
{
	add_number(a, offset);
	add_number(a, len);
	g_byte_array_append(a, (const uint8_t *)bytes, (guint)strlen(bytes));
}

static GByteArray *stream_new(uint64_t type)
{
	GByteArray *a = g_byte_array_new();

	g_byte_array_append(a, (const uint8_t *)"makedumpfile\0\0\0", 16);
	add_number(a, type);
	add_number(a, 1);
	g_byte_array_set_size(a, FLAT_HEAD);
	memset(a->data + 32, 0, FLAT_HEAD - 32);
	return a;
}

static void end(GByteArray *a)
{
	add_number(a, UINT64_MAX);
	add_number(a, UINT64_MAX);
}

/* In pieces of `step` bytes. */
static bool feed(struct flat *f, const GByteArray *a, size_t step, struct image *i, GError **err)
{
	for (size_t at = 0; at < a->len; at += step)
		if (!flat_feed(f, a->data + at, MIN(step, a->len - at), put, i, err))
			return false;
	return true;
}

static void test_the_parts_lie_where_they_belong_however_it_is_cut(void)
{
	g_autoptr(GByteArray) a = stream_new(1);

	add_record(a, 100, 5, "later");
	add_record(a, 0, 5, "first");
	add_record(a, 7, 0, "");
	add_record(a, 3, 2, "ty");
	end(a);
	for (size_t step = 1; step < a->len + 2; step += step < 40 ? 1 : 997) {
		struct flat f = { .max = SIZE };
		struct image i = { 0 };
		g_autoptr(GError) err = NULL;

		g_assert_true(feed(&f, a, step, &i, &err));
		g_assert_no_error(err);
		g_assert_cmpint(f.state, ==, FLAT_ENDED);
		g_assert_cmpint(memcmp(i.bytes, "firty\0", 6), ==, 0);
		g_assert_cmpint(memcmp(i.bytes + 100, "later", 5), ==, 0);
	}
}

static void test_one_that_is_cut_off_has_not_ended(void)
{
	g_autoptr(GByteArray) a = stream_new(1);
	struct flat f = { .max = SIZE };
	struct image i = { 0 };

	add_record(a, 0, 5, "fir");
	g_assert_true(feed(&f, a, a->len, &i, NULL));
	g_assert_cmpint(f.state, ==, FLAT_IN_DATA);
	g_assert_cmpuint(f.left, ==, 2);
}

static void refused(GByteArray *a)
{
	struct flat f = { .max = SIZE };
	struct image i = { 0 };
	g_autoptr(GError) err = NULL;

	g_assert_false(feed(&f, a, a->len, &i, &err));
	g_assert_error(err, ERR, ERR_QEMU);
	g_assert_cmpuint(i.parts, ==, 0);
	g_byte_array_unref(a);
}

static void test_what_is_no_dump_is_refused(void)
{
	static const struct {
		uint64_t offset, len;
	} bad[] = { { SIZE, 1 },       { 0, SIZE + 1 },   { SIZE + 1, 0 },
		    { UINT64_MAX, 1 }, { 1, UINT64_MAX }, { UINT64_MAX - 1, 2 } };
	GByteArray *a = stream_new(2);

	refused(a);
	a = stream_new(1);
	a->data[0] = 'M';
	refused(a);
	for (size_t n = 0; n < G_N_ELEMENTS(bad); n++) {
		a = stream_new(1);
		add_record(a, bad[n].offset, bad[n].len, "x");
		refused(a);
	}
	a = stream_new(1);
	end(a);
	g_byte_array_append(a, (const uint8_t *)"x", 1);
	refused(a);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/flat/cut", test_the_parts_lie_where_they_belong_however_it_is_cut);
	g_test_add_func("/flat/cut-off", test_one_that_is_cut_off_has_not_ended);
	g_test_add_func("/flat/refused", test_what_is_no_dump_is_refused);
	return g_test_run();
}
