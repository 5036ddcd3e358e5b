/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host/payload_report.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever the bytes: it is refused with a reason, or everything in the report is within its bounds. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct payload_report r;
	g_autoptr(GError) err = NULL;

	if (!payload_report_parse((const char *)data, size, &r, &err)) {
		g_assert_error(err, ERR, ERR_INVALID);
		return 0;
	}
	g_assert_no_error(err);
	g_assert_cmpuint(r.n_cpuid, <=, PAYLOAD_CPUID_MAX);
	for (size_t i = 0; i < r.n_cpuid; i++)
		g_assert_true(payload_report_cpuid(&r, r.cpuid[i].leaf, r.cpuid[i].subleaf) == &r.cpuid[i]);
	g_assert_cmpuint(r.n_burn, <=, PAYLOAD_BURN_MAX);
	for (size_t i = 0; i < r.n_burn; i++)
		(void)payload_burn_rate(&r.burn[i]);
	g_assert_cmpuint(strnlen(r.cmdline, sizeof(r.cmdline)), <, sizeof(r.cmdline));
	g_assert_cmpuint(strnlen(r.error, sizeof(r.error)), <, sizeof(r.error));
	g_assert_nonnull(payload_tsc_name(r.tsc_source));
	g_assert_true(!r.ready || r.n_cpuid > 0);
	return 0;
}
