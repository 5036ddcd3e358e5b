/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/featureset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever the bytes: they are refused with a reason, or the CPU in them has features of the table, and a
 * closed set. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(GPtrArray) cpus = cpuid_parse((const char *)data, size, &err);
	struct cpu_bits differ;
	struct featureset s, again;

	if (cpus == NULL) {
		g_assert_true(err_code(err) == ERR_INVALID || err_code(err) == ERR_LIMIT);
		return 0;
	}
	g_assert_cmpuint(cpus->len, <=, CPUID_CPUS_MAX);
	if (!featureset_of_cpus(cpus, &s, &differ, &err)) {
		g_assert_error(err, ERR, ERR_INVALID);
		return 0;
	}
	g_assert_true(cpu_bits_subset(&s.has, &feature_known));
	g_assert_true(cpus->len > 1 || cpu_bits_empty(&differ));
	featureset_make_max(&s, NULL);
	again = s;
	featureset_make_max(&again, NULL);
	g_assert_true(featureset_equal(&s, &again));
	featureset_make_default(&s);
	cpu_bits_minus(&again.has, &s.has, &again.has);
	g_assert_true(cpu_bits_subset(&again.has, &feature_of_kind[FEATURE_ALWAYS]));
	return 0;
}
