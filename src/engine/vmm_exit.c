/* SPDX-License-Identifier: Apache-2.0 */
/* How a QEMU ended, as data: a part of engine/vmm.h. */
#include "engine/vmm.h"

Json *vmm_exit_to_json(const VmmExit *e)
{
	Json *j = json_object();

	json_put(j, "code", e->end.known ? json_integer(e->end.code) : json_null());
	json_put(j, "signal", e->end.known ? json_integer(e->end.signal) : json_null());
	json_put_str(j, "shutdown", e->shutdown);
	json_put_bool(j, "panicked", e->panicked);
	json_put_str(j, "last_words", e->last_words);
	return j;
}

char *vmm_exit_print(const VmmExit *e)
{
	if (e->end.known && e->end.signal != 0)
		return g_strdup_printf("QEMU was killed by signal %d (%s)", e->end.signal,
				       g_strsignal(e->end.signal));
	if (e->shutdown != NULL)
		return g_strdup_printf("QEMU ended: %s", e->shutdown);
	if (e->end.known)
		return g_strdup_printf("QEMU ended with status %d", e->end.code);
	return g_strdup("QEMU ended; its status is not known");
}

void vmm_exit_clear(VmmExit *e)
{
	g_free(e->shutdown);
	g_free(e->last_words);
	*e = (VmmExit){ 0 };
}
