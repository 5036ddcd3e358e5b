/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/record.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever the bytes: they are refused with a reason, or writing the record and reading it again changes
 * nothing. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_host_record_ struct host_record r = { 0 }, back = { 0 };
	_cleanup_json_ Json *j = NULL;
	g_autofree char *text = NULL;
	g_autoptr(GError) err = NULL;

	if (!host_record_parse((const char *)data, size, &r, &err)) {
		g_assert_nonnull(err);
		g_assert_null(r.host);
		return 0;
	}
	j = host_record_to_json(&r);
	text = json_print(j);
	g_assert_true(host_record_parse(text, strlen(text), &back, &err));
	g_assert_cmpstr(r.host, ==, back.host);
	for (int t = 0; t < GUEST_TYPES; t++) {
		g_assert_true(r.guest[t].there == back.guest[t].there);
		g_assert_true(featureset_equal(&r.guest[t].max, &back.guest[t].max));
		g_assert_true(cpu_bits_subset(&r.guest[t].dflt.has, &r.guest[t].max.has));
	}
	return 0;
}
