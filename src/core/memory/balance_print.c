/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts as sentences and as JSON. */
#include "base/str.h"
#include "core/memory/balance-impl.h"

#include <inttypes.h>

static const char *const verdict_names[_BALANCE_VERDICT_MAX] = {
#define X(key, name) [BALANCE_##key] = name,
	BALANCE_VERDICT_TABLE(X)
#undef X
};

const char *balance_verdict_name(BalanceVerdict v)
{
	g_assert(v < _BALANCE_VERDICT_MAX);
	return verdict_names[v];
}

/* What the words of a sentence may stand for. */
struct words {
	const char *need, *floor, *from, *to, *size, *max, *swap;
};

static char *why_smaller(const struct balance_guest *g, const struct words *w)
{
	if (g->verdict == BALANCE_GAVE)
		return g_strdup_printf(
		    "other guests need memory, or soon may, and it has more than the %s that it needs "
		    "with its buffer",
		    w->floor);
	return g_strdup_printf("it has needed no more than %s for a while, its disk caches included", w->to);
}

static char *why_larger(const struct balance_guest *g, const struct words *w)
{
	if (g->verdict == BALANCE_PRESSED)
		return g_strdup_printf("it reads %s a second from its swap space", w->swap);
	if (g->verdict == BALANCE_TOOK)
		return g_strdup("it ran out of memory and took some back by itself");
	if (g->verdict == BALANCE_GREW && g->target > g->floor)
		return g_strdup_printf(
		    "it uses %s and rises fast; with %u %% of buffer, and what it will use soon, "
		    "it gets %s",
		    w->need, g->buffer, w->to);
	if (g->verdict == BALANCE_GREW)
		return g_strdup_printf("it uses %s; with %u %% of buffer it gets %s", w->need, g->buffer,
				       w->to);
	return g_strdup_printf("it uses %s and needs %s with %u %% of buffer; the host has not that much",
			       w->need, w->floor, g->buffer);
}

/* What a guest did, or left undone, that leaves it as it is. */
static char *why_distrusted(const struct balance_guest *g, const struct words *w)
{
	const struct balance_report *r = &g->report;

	if (g->verdict == BALANCE_SILENT)
		return g_strdup(
		    "it has not told what it uses: it has no balloon driver, or is about to boot");
	if (g->verdict == BALANCE_STALE)
		return g_strdup("it has stopped to tell what it uses");
	if (g->verdict == BALANCE_LYING)
		return g_strdup_printf("what it tells can't be: of %" PRIu64 " MiB, %" PRIu64
				       " MiB in all, %" PRIu64 " MiB available, %" PRIu64 " MiB free",
				       g->state.ram / MIB, r->total / MIB, r->available / MIB, r->free / MIB);
	if (g->verdict == BALANCE_OFFLINE)
		return g_strdup("it has not taken its new memory into use; boot its kernel with "
				"memhp_default_state=online");
	return g_strdup_printf("it did not follow: it has %s", w->size);
}

static char *why_same(const struct balance_guest *g, const struct words *w)
{
	if (g->verdict == BALANCE_BEGUN)
		return g_strdup("its first size since the daemon looks after it");
	if (g->verdict == BALANCE_HELD)
		return g_strdup("it is paused, or an operation has it");
	if (g->verdict == BALANCE_FOLLOWS)
		return g_strdup_printf("it is on its way from %s", w->size);
	if (g->verdict == BALANCE_CALM)
		return g_strdup_printf("it uses %s; it shrinks if it stays so", w->need);
	if (g->verdict == BALANCE_FULL)
		return g_strdup_printf("it uses %s and may not have more than memory.max, %s", w->need,
				       w->max);
	return g_strdup_printf("it uses %s; that and its buffer are in it", w->need);
}

char *balance_reason(const struct balance_guest *g)
{
	g_autofree char *need = print_size(g->need), *floor = print_size(g->floor),
			*from = print_size(g->from), *to = print_size(g->target),
			*size = print_size(balance_size(g)), *max = print_size(g->max),
			*swap = print_size(g->state.swap_rate);
	struct words w = { need, floor, from, to, size, max, swap };

	switch (g->verdict) {
	case BALANCE_SHRANK:
	case BALANCE_GAVE:
		return why_smaller(g, &w);
	case BALANCE_GREW:
	case BALANCE_PRESSED:
	case BALANCE_TOOK:
	case BALANCE_SHARED:
	case BALANCE_WAITS:
		return why_larger(g, &w);
	case BALANCE_SILENT:
	case BALANCE_STALE:
	case BALANCE_LYING:
	case BALANCE_DEAF:
	case BALANCE_OFFLINE:
		return why_distrusted(g, &w);
	case BALANCE_REST:
	case BALANCE_BEGUN:
	case BALANCE_HELD:
	case BALANCE_FOLLOWS:
	case BALANCE_CALM:
	case BALANCE_FULL:
		return why_same(g, &w);
	case _BALANCE_VERDICT_MAX:
		break;
	}
	g_assert_not_reached();
}

static void put_known(Json *j, const char *key, uint64_t n, uint64_t unknown)
{
	json_put(j, key, n == unknown || n > INT64_MAX ? json_null() : json_integer((json_int_t)n));
}

static Json *report_to_json(const struct balance_report *r)
{
	const struct {
		const char *key;
		uint64_t n;
	} member[] = {
		{ "total", r->total },
		{ "free", r->free },
		{ "available", r->available },
		{ "caches", r->caches },
		{ "swap_in", r->swap_in },
		{ "swap_out", r->swap_out },
		{ "major_faults", r->major_faults },
	};
	Json *j;

	if (r->at == 0)
		return json_null();
	j = json_object();
	for (size_t i = 0; i < G_N_ELEMENTS(member); i++)
		put_known(j, member[i].key, member[i].n, BALANCE_UNKNOWN);
	return j;
}

Json *balance_decision_to_json(const struct balance_guest *g)
{
	g_autofree char *reason = balance_reason(g);
	Json *j = json_object();

	json_put_str(j, "verdict", balance_verdict_name(g->verdict));
	json_put_str(j, "reason", reason);
	put_known(j, "from", g->from, 0);
	json_put_uint(j, "to", g->target);
	json_put_uint(j, "size", balance_size(g));
	put_known(j, "need", g->need, 0);
	put_known(j, "floor", g->floor, 0);
	put_known(j, "wanted", g->wanted, 0);
	json_put(j, "report", report_to_json(&g->report));
	return j;
}
