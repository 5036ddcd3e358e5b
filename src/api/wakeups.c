/* SPDX-License-Identifier: Apache-2.0 */
/* The wakeup ledger. */
#include "api/handlers.h"

#include <stdlib.h>

#define SECOND UINT64_C(1000000)
#define WAIT_MAX 60

/* With the vm's name. Takes `report`; NULL: nobody counted. */
static bool answer_report(ApiCall *c, const VmRecords *r, unsigned status, Json *report)
{
	Json *j = json_object();

	json_put(j, "vm", json_pack("{s:s, s:s}", "id", r->vm->id, "name", r->vm->name));
	if (report == NULL)
		report = json_pack("{s:s, s:n, s:[], s:[], s:[]}", "state", "none", "reason", "intervals",
				   "could_not", "advice");
	json_object_update(j, report);
	json_unref(report);
	return call_answer(c, status, j);
}

bool api_vm_wakeups_show(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	Ledger *l = engine_ledger(c->engine);
	uint64_t wait;
	bool rested;

	if (r == NULL || !call_number(c, "wait", 0, WAIT_MAX, 0, &wait, err))
		return false;
	rested = wait > 0 && call_rest(c);
	if (wait > 0)
		ledger_wait(l, r->vm->id, wait * SECOND);
	call_wake(c, rested);
	return answer_report(c, r, 200, ledger_report(l, r->vm->id));
}

static bool number_of(const Json *body, const char *key, unsigned max, unsigned dflt, unsigned *ret,
		      GError **err)
{
	const Json *v = json_object_get(body, key);

	*ret = dflt;
	if (v == NULL)
		return true;
	if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max)
		return fail(err, ERR_INVALID, "'%s' is a number from 1 to %u", key, max);
	*ret = (unsigned)json_integer_value(v);
	return true;
}

bool api_vm_wakeups_start(ApiCall *c, GError **err)
{
	static const char *const known[] = { "seconds", "intervals", NULL };
	const Json *body = call_body(c, err);
	g_autoptr(VmRecords) r = NULL;
	struct ledger_order o;

	if (body == NULL || !call_known(body, known, err) ||
	    !number_of(body, "seconds", LEDGER_SECONDS_MAX, 30, &o.seconds, err) ||
	    !number_of(body, "intervals", LEDGER_INTERVALS_MAX, 1, &o.intervals, err))
		return false;
	r = call_vm(c, err);
	if (r == NULL || !ledger_start(engine_ledger(c->engine), r->vm->id, &o, err))
		return false;
	return answer_report(c, r, 202, ledger_report(engine_ledger(c->engine), r->vm->id));
}

bool api_vm_wakeups_stop(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);

	if (r == NULL || !ledger_stop(engine_ledger(c->engine), r->vm->id, err))
		return false;
	return answer_report(c, r, 200, ledger_report(engine_ledger(c->engine), r->vm->id));
}

/* Sums of threads per second. */
static double rate_of(const Json *guest)
{
	double s = (double)json_uint(guest, "duration", 0) / (double)SECOND;

	return s > 0 ? (double)(json_uint(guest, "main_wakeups", 0) + json_uint(guest, "vcpu_wakeups", 0)) / s
		     : 0;
}

static uint64_t cpu_of(const Json *guest)
{
	return json_uint(guest, "main_cpu", 0) + json_uint(guest, "vcpu_cpu", 0);
}

/* A guest that never sleeps is never woken: among those CPU time decides. */
static int busier_first(const void *a, const void *b)
{
	const Json *ga = *(Json *const *)a, *gb = *(Json *const *)b;
	double x = rate_of(ga), y = rate_of(gb);

	if (x < y || (x <= y && cpu_of(ga) < cpu_of(gb)))
		return 1;
	return x > y || cpu_of(ga) > cpu_of(gb) ? -1 : 0;
}

static Json *ranked(const Json *guests)
{
	size_t n = json_array_size(guests);
	g_autofree Json **all = g_new(Json *, n);
	Json *list = json_array();

	for (size_t i = 0; i < n; i++)
		all[i] = json_array_get(guests, i);
	qsort(all, n, sizeof(Json *), busier_first);
	for (size_t i = 0; i < n; i++)
		json_array_append(list, all[i]);
	return list;
}

bool api_host_wakeups(ApiCall *c, GError **err)
{
	_cleanup_json_ Json *host = call_host(c, NULL, err), *report = NULL;
	Json *j;

	if (host == NULL || !call_is_this_host(c, host, err))
		return false;
	report = engine_wakeups(c->engine);
	j = json_object();
	json_put_str(j, "host", json_str(host, "name"));
	json_object_update(j, report);
	json_put(j, "guests", ranked(json_arr(report, "guests")));
	return call_answer(c, 200, j);
}
