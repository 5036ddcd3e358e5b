/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/feature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever the text: it is refused with a reason, or printing the set and reading that gives the same set. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = g_strndup((const char *)data, size), *printed = NULL, *names = NULL;
	g_autoptr(GError) err = NULL;
	struct cpu_bits b, back;

	if (!cpu_bits_parse_names(text, &b, &err)) {
		g_assert_true(err_code(err) == ERR_INVALID || err_code(err) == ERR_NOT_FOUND ||
			      err_code(err) == ERR_UNSUPPORTED);
		return 0;
	}
	printed = cpu_bits_print(&b);
	g_assert_true(cpu_bits_parse(printed, &back, NULL, NULL));
	g_assert_true(cpu_bits_equal(&b, &back));
	names = cpu_bits_names_print(&b, 0);
	cpu_bits_close(&b, CLOSE_HARD, NULL);
	g_assert_true(cpu_bits_subset(&b, &back));
	return 0;
}
