/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/nmi.h"
#include "base/time.h"
#include "core/guest/nmi_count.h"
#include "engine/agent_ops.h"
#include "engine/vm_ops.h"

#define SECOND UINT64_C(1000000)
/* A guest that does not answer within this may hang, which is what an NMI is for. */
#define ASK_TIMEOUT (5 * SECOND)
/* Vcpus take it at once; under emulation on a busy host a moment later. */
#define ARRIVE_TIMEOUT (10 * SECOND)
#define PAUSE (SECOND / 5)
#define FILE_MAX (UINT64_C(1) << 20)

static bool ask_count(Agent *a, uint64_t timeout, uint64_t *ret, GError **err)
{
	bool whole;
	g_autoptr(GBytes) text = NULL;
	const char *data;
	gsize len;

	if (a == NULL || !agent_is_open(a))
		return fail(err, ERR_AGENT, "the guest has no agent that answers");
	text = agent_file_read(a, NMI_COUNT_FILE, FILE_MAX, timeout, &whole, err);
	if (text == NULL)
		return false;
	data = g_bytes_get_data(text, &len);
	return nmi_count_of(data != NULL ? data : "", data != NULL ? len : 0, ret) ||
	       fail(err, ERR_AGENT, "its %s has no line for them", NMI_COUNT_FILE);
}

/* The count when it has grown; after some time as it is. */
static bool await_count(Agent *a, uint64_t before, uint64_t *ret, GError **err)
{
	uint64_t deadline = time_monotonic() + ARRIVE_TIMEOUT;

	while (ask_count(a, ASK_TIMEOUT, ret, err)) {
		if (*ret > before || time_monotonic() > deadline)
			return true;
		g_usleep(PAUSE);
	}
	return false;
}

Json *nmi_inject(Vmm *v, Agent *a, GError **err)
{
	g_autoptr(GError) why = NULL;
	uint64_t before = 0, after = 0;
	bool known = ask_count(a, ASK_TIMEOUT, &before, &why), told;
	g_autofree char *note = NULL;
	Json *j;

	if (!vm_nmi(v, err))
		return NULL;
	told = known && await_count(a, before, &after, &why);
	if (!known)
		note = g_strdup_printf("The guest's count is not known: %s.", why->message);
	else if (!told)
		note = g_strdup_printf("The guest did not tell its count afterwards: %s.", why->message);
	else if (after == before)
		note = g_strdup("The guest has not counted it: its vcpus don't take NMIs now.");
	j = json_object();
	json_put(j, "before", known ? json_integer((json_int_t)before) : json_null());
	json_put(j, "after", told ? json_integer((json_int_t)after) : json_null());
	json_put_str(j, "note", note);
	return j;
}
