/* SPDX-License-Identifier: Apache-2.0 */
/* What a QEMU that a guest took over may write into its trace log and answer for its lock profile. */
#include "core/wake/ledger.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(Tally) t = tally_new();
	g_autoptr(WakeInterval) w = wake_interval_new();
	g_autofree char *text = g_strndup((const char *)data, size);
	struct wake_facts f = { .has_locks = true, .has_hpet = true, .log_full = true };
	_cleanup_json_ Json *j = NULL;

	g_assert_cmpuint(tally_add(t, (const char *)data, size), <=, size);
	g_assert_cmpuint(t->region->len, <=, TALLY_REGIONS_MAX);
	lock_counts_parse(&f.locks, text, "7.2.22");
	wake_interval_settle(w, t, &f);
	j = wake_interval_to_json(w, 0);
	return j == NULL;
}
