/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/guest_balloon.h"

#define SECOND UINT64_C(1000000)
/* A QEMU whose main loop waits for storage is left for a later round. */
#define TIMEOUT (5 * SECOND)
#define BALLOON "/machine/peripheral/balloon"
#define PLUG "/machine/peripheral/plug"

static Json *property(const char *path, const char *name)
{
	Json *args = json_object();

	json_put_str(args, "path", path);
	json_put_str(args, "property", name);
	return args;
}

static Json *property_set(const char *path, const char *name, uint64_t value)
{
	Json *args = property(path, name);

	json_put_uint(args, "value", value);
	return args;
}

/* All or none: the first refusal. */
static bool call_all(Vmm *v, struct qmp_ask *ask, size_t n, GError **err)
{
	qmp_call_all(vmm_qmp(v), ask, n, TIMEOUT);
	for (size_t i = 0; i < n; i++)
		if (ask[i].reply == NULL) {
			g_propagate_error(err, g_steal_pointer(&ask[i].error));
			return false;
		}
	return true;
}

static void clear_all(struct qmp_ask *ask, size_t n)
{
	for (size_t i = 0; i < n; i++)
		qmp_ask_clear(&ask[i]);
}

bool guest_balloon_poll(Vmm *v, unsigned seconds, GError **err)
{
	struct qmp_ask ask = { .command = "qom-set",
			       .args = property_set(BALLOON, "guest-stats-polling-interval", seconds) };
	bool ok = call_all(v, &ask, 1, err);

	qmp_ask_clear(&ask);
	return ok;
}

/* QEMU has all bits set for what was not told, which is more than a JSON reader takes as an integer. */
static uint64_t number(const Json *n)
{
	double d = json_number_value(n);

	if (json_is_integer(n))
		return json_integer_value(n) >= 0 ? (uint64_t)json_integer_value(n) : BALANCE_UNKNOWN;
	return json_is_real(n) && d >= 0 && d < 0x1p63 ? (uint64_t)d : BALANCE_UNKNOWN;
}

static uint64_t number_of(const Json *stats, const char *name)
{
	return number(json_object_get(stats, name));
}

static struct balance_report report_of(const Json *j)
{
	const Json *s = json_obj(j, "stats");
	uint64_t at = number_of(j, "last-update");

	if (at == 0 || at == BALANCE_UNKNOWN)
		return (struct balance_report){ 0 };
	return (struct balance_report){
		.at = at * SECOND,
		.total = number_of(s, "stat-total-memory"),
		.free = number_of(s, "stat-free-memory"),
		.available = number_of(s, "stat-available-memory"),
		.caches = number_of(s, "stat-disk-caches"),
		.swap_in = number_of(s, "stat-swap-in"),
		.swap_out = number_of(s, "stat-swap-out"),
		.major_faults = number_of(s, "stat-major-faults"),
	};
}

bool guest_balloon_look(Vmm *v, bool plug, struct balance_guest *g, GError **err)
{
	struct qmp_ask ask[] = {
		{ .command = "qom-get", .args = property(BALLOON, "guest-stats") },
		{ .command = "query-balloon" },
		{ .command = "qom-get", .args = property(PLUG, "size") },
	};
	size_t n = plug ? 3 : 2;
	bool ok = call_all(v, ask, n, err);

	if (ok) {
		uint64_t actual = json_uint(ask[1].reply, "actual", 0), ram;

		g->report = report_of(ask[0].reply);
		if (plug)
			g->plugged = number(ask[2].reply);
		ram = g->base + (plug ? 0 : g->plugged);
		g->ballooned = ram > actual ? ram - actual : 0;
	}
	if (!plug)
		json_unref(ask[2].args);
	clear_all(ask, n);
	return ok;
}

bool guest_balloon_ask(Vmm *v, bool plug, uint64_t plugged, uint64_t keeps, GError **err)
{
	Json *value = json_object();
	struct qmp_ask ask[] = {
		{ .command = "balloon", .args = value },
		{ .command = "qom-set", .args = NULL },
	};
	size_t n = plug ? 2 : 1;
	bool ok;

	json_put_uint(value, "value", keeps);
	if (plug)
		ask[1].args = property_set(PLUG, "requested-size", plugged);
	ok = call_all(v, ask, n, err);
	clear_all(ask, n);
	return ok;
}
