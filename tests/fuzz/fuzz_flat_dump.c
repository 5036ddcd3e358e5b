/* SPDX-License-Identifier: Apache-2.0 */
#include "core/evidence/flat.h"

#define SIZE (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool put(uint64_t offset, const uint8_t *bytes, size_t len, void *data, GError **err)
{
	uint64_t *sum = data;

	(void)bytes, (void)err;
	g_assert_cmpuint(len, >, 0);
	g_assert_true(offset <= SIZE && len <= SIZE - offset);
	*sum += len;
	return true;
}

/* Whatever the bytes: nothing is written behind the bound, and cut in two they mean the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat whole = { .max = SIZE }, parts = { .max = SIZE };
	uint64_t sum = 0, again = 0;
	bool ok = flat_feed(&whole, data, size, put, &sum, NULL);
	bool ok2 = flat_feed(&parts, data, size / 2, put, &again, NULL) &&
		   flat_feed(&parts, data + size / 2, size - size / 2, put, &again, NULL);

	g_assert_cmpint(ok, ==, ok2);
	g_assert_cmpuint(sum, ==, again);
	g_assert_true(!ok || whole.state == parts.state);
	return 0;
}
