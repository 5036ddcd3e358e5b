/* SPDX-License-Identifier: Apache-2.0 */
/* The wakeup ledger. */
#include "api/forward.h"
#include "api/handlers.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "engine/peer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000)
#define WAIT_MAX 60
#define FATE_LOOKS 50
#define FATE_PAUSE (SECOND / 10)
#define ASK_TIMEOUT (10 * SECOND)

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

/* What became of a guest whose QEMU ended here. Caller frees. */
static char *fate_of(const ApiCall *c, const VmRecords *r)
{
	VmState s = vm_runtime_state(r->runtime);
	const char *host = json_str(r->runtime, "host");

	if (g_strcmp0(host, engine_facts(c->engine)->id) != 0)
		return g_strdup("the guest moved to another host; count it there with `plim vm wakeups`");
	if (s == VM_SUSPENDED)
		return g_strdup("the guest was suspended to disk");
	if (s == VM_STOPPED || s == VM_CRASHED)
		return g_strdup_printf("the guest %s: %s", s == VM_STOPPED ? "was stopped" : "crashed",
				       json_str(r->runtime, "reason"));
	return g_strdup("the guest was stopped or moved away, and is here again");
}

/* The report of this host; NULL: there is none. */
static Json *own_report(const ApiCall *c, const VmRecords *r)
{
	Json *report = ledger_report(engine_ledger(c->engine), r->vm->id);
	g_autofree char *fate = NULL, *reason = NULL;

	if (g_strcmp0(json_str(report, "state"), "ended") != 0)
		return report;
	fate = fate_of(c, r);
	reason = g_strdup_printf("%s. %s", fate, json_str(report, "reason"));
	json_put_str(report, "reason", reason);
	return report;
}

/* What another host has; NULL where it has none, or does not answer. */
static Json *report_of_host(const ApiCall *c, const VmRecords *r, const char *host, uint64_t wait)
{
	g_autofree char *path = g_strdup_printf("/v1/vms/%s/wakeups?wait=%" PRIu64, r->vm->id, wait);
	struct peer_request request = { .method = "GET",
					.path = path,
					.user = c->user,
					.role = role_name(c->role),
					.timeout = ASK_TIMEOUT + wait * SECOND,
					.ended = call_is_ending,
					.data = (ApiCall *)c };
	g_autoptr(PeerAnswer) a = peer_exchange_host(c->engine, host, &request, NULL);
	_cleanup_json_ Json *j = NULL;
	gsize len;
	const char *text;

	if (a == NULL || a->status != 200)
		return NULL;
	text = g_bytes_get_data(a->body, &len);
	j = text != NULL ? json_parse(text, len, NULL) : NULL;
	return json_str(j, "started_at") != NULL ? json_ref(j) : NULL;
}

/* The one that was begun later. Takes both; either may be NULL. */
static Json *later_of(Json *a, Json *b)
{
	bool second =
	    a == NULL || (b != NULL && strcmp(json_str(b, "started_at"), json_str(a, "started_at")) > 0);

	json_unref(second ? a : b);
	return second ? b : a;
}

static bool is_running(const Json *report)
{
	return g_strcmp0(json_str(report, "state"), "running") == 0;
}

/* A guest that moved while it was counted left its counts on a host that it was on. Takes `best`. */
static Json *ask_all(const ApiCall *c, const VmRecords *r, Json *best)
{
	Store *s = engine_store(c->engine);
	g_autoptr(GPtrArray) items = store_list(s, KEYS_HOSTS, NULL, NULL);
	const char *here = engine_facts(c->engine)->id;

	for (guint i = 0; items != NULL && i < items->len && !is_running(best); i++) {
		const char *host = ((const StoreItem *)items->pdata[i])->key + strlen(KEYS_HOSTS);

		if (!g_str_equal(host, here) && host_is_alive(s, host))
			best = later_of(best, report_of_host(c, r, host, 0));
	}
	return best;
}

/* The host that has the guest is asked first; when nobody counts there, whoever counted last. */
static Json *best_report(const ApiCall *c, const VmRecords *r, uint64_t wait)
{
	const char *host = json_str(r->runtime, "host");
	bool member = engine_membership(c->engine) != NULL && c->peer == NULL,
	     away = member && host != NULL && !g_str_equal(host, engine_facts(c->engine)->id);
	Json *best = away ? report_of_host(c, r, host, wait) : NULL;

	if (!away && wait > 0)
		ledger_wait(engine_ledger(c->engine), r->vm->id, wait * SECOND);
	best = later_of(best, own_report(c, r));
	return member && !is_running(best) ? ask_all(c, r, best) : best;
}

static bool has_ended(const Json *report)
{
	return g_strcmp0(json_str(report, "state"), "ended") == 0;
}

/* As all hosts of the pool know it. */
static VmRecords *look_again(ApiCall *c, GError **err)
{
	store_catch_up(engine_store(c->engine), NULL);
	return call_vm(c, err);
}

bool api_vm_wakeups_show(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	uint64_t wait;
	Json *report;
	bool rested;

	if (r == NULL || !call_number(c, "wait", 0, WAIT_MAX, 0, &wait, err))
		return false;
	rested = (wait > 0 || engine_membership(c->engine) != NULL) && call_rest(c);
	report = best_report(c, r, wait);
	/* The record is from before the wait, and what ended QEMU may not have recorded its end yet. */
	for (int i = 0; i < FATE_LOOKS && r != NULL && has_ended(report) &&
			(i == 0 || json_str(r->runtime, "operation") != NULL);
	     i++) {
		if (i > 0)
			g_usleep(FATE_PAUSE);
		json_unref(report);
		vm_records_free(r);
		r = look_again(c, err);
		report = r != NULL ? best_report(c, r, 0) : NULL;
	}
	call_wake(c, rested);
	if (r == NULL)
		return false;
	return answer_report(c, r, 200, report);
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
