/* SPDX-License-Identifier: Apache-2.0 */
#include "core/place/evacuate.h"

#include <glib.h>
#include <string.h>

static gint larger_first(gconstpointer a, gconstpointer b, gpointer unused)
{
	const struct evacuate_guest *x = a, *y = b;

	(void)unused;
	if (x->memory != y->memory)
		return x->memory < y->memory ? 1 : -1;
	return strcmp(x->name, y->name);
}

/* Of what those before were promised on that host. */
static uint64_t promised(const struct evacuate_guest *guest, size_t n, const char *host)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (guest[i].to != NULL && strcmp(guest[i].to->id, host) == 0)
			sum += guest[i].memory;
	return sum;
}

static const struct evacuate_host *choose(const struct evacuate_guest *guest, size_t at)
{
	const struct evacuate_guest *g = &guest[at];
	const struct evacuate_host *best = NULL;
	uint64_t most = 0;

	for (size_t i = 0; i < g->n_hosts; i++) {
		const struct evacuate_host *h = &g->host[i];
		uint64_t gone = promised(guest, at, h->id);

		if (!h->possible || h->free_memory < gone || h->free_memory - gone < g->memory)
			continue;
		if (best == NULL || h->free_memory - gone > most) {
			best = h;
			most = h->free_memory - gone;
		}
	}
	return best;
}

size_t evacuate(struct evacuate_guest *guest, size_t n)
{
	size_t stuck = 0;

	g_qsort_with_data(guest, (gint)n, sizeof *guest, larger_first, NULL);
	for (size_t i = 0; i < n; i++) {
		guest[i].to = choose(guest, i);
		stuck += guest[i].to == NULL;
	}
	return stuck;
}
