/* SPDX-License-Identifier: Apache-2.0 */
#include "core/backup/prune.h"
#include "base/time.h"

#define DAY (UINT64_C(86400) * 1000000)
#define WEEK 7
/* 1970-01-01 was a Thursday: three days into its week. */
#define FIRST_WEEKDAY 3

static uint64_t day_of(const Backup *b)
{
	uint64_t when = 0;

	time_parse(b->created_at, &when);
	return when / DAY;
}

static uint64_t week_of(const Backup *b)
{
	return (day_of(b) + FIRST_WEEKDAY) / WEEK;
}

static void keep(GHashTable *kept, const GPtrArray *all, const Backup *b)
{
	g_autoptr(GPtrArray) chain = backup_chain(all, b, NULL);

	g_hash_table_add(kept, (gpointer)b);
	for (guint i = 0; chain != NULL && i < chain->len; i++)
		g_hash_table_add(kept, chain->pdata[i]);
}

/* The newest of each of the first `n` periods; `mine` is sorted newest first. */
static void keep_periods(GHashTable *kept, const GPtrArray *all, const GPtrArray *mine, uint64_t n,
			 uint64_t (*period)(const Backup *b))
{
	uint64_t last = UINT64_MAX;

	for (guint i = 0; i < mine->len && n > 0; i++) {
		const Backup *b = mine->pdata[i];

		if (period(b) == last)
			continue;
		last = period(b);
		keep(kept, all, b);
		n--;
	}
}

static void keep_of_vm(GHashTable *kept, const GPtrArray *all, const char *vm, const struct backup_policy *p)
{
	g_autoptr(GPtrArray) mine = g_ptr_array_new();

	for (guint i = 0; i < all->len; i++)
		if (g_str_equal(((const Backup *)all->pdata[i])->vm->id, vm))
			g_ptr_array_add(mine, all->pdata[i]);
	for (guint i = 0; i < mine->len && i < p->last; i++)
		keep(kept, all, mine->pdata[i]);
	keep_periods(kept, all, mine, p->daily, day_of);
	keep_periods(kept, all, mine, p->weekly, week_of);
}

static GPtrArray *sorted(const GPtrArray *backups)
{
	GPtrArray *all = g_ptr_array_new();

	for (guint i = 0; i < backups->len; i++)
		g_ptr_array_add(all, backups->pdata[i]);
	g_ptr_array_sort(all, backup_compare);
	return all;
}

static bool rests_on(const GPtrArray *all, const Backup *b, const Backup *on)
{
	return b->parent != NULL && backup_find(all, b->parent) == on;
}

/* Nothing that is still to be deleted rests on it. */
static bool is_free(const GPtrArray *all, const GPtrArray *left, const Backup *b)
{
	for (guint i = 0; i < left->len; i++)
		if (rests_on(all, left->pdata[i], b))
			return false;
	return true;
}

/* Clocks may have been set back, so that the newest is not always the last of its chain. */
static GPtrArray *children_first(const GPtrArray *all, GPtrArray *left)
{
	GPtrArray *out = g_ptr_array_new();
	bool found = true;

	while (found) {
		found = false;
		for (guint i = 0; i < left->len && !found; i++) {
			found = is_free(all, left, left->pdata[i]);
			if (found)
				g_ptr_array_add(out, g_ptr_array_remove_index(left, i));
		}
	}
	return out;
}

GPtrArray *backup_prune(const GPtrArray *backups, const struct backup_policy *p, GError **err)
{
	g_autoptr(GPtrArray) all = sorted(backups), left = g_ptr_array_new();
	g_autoptr(GHashTable) kept = g_hash_table_new(NULL, NULL);

	if (p->last == 0 && p->daily == 0 && p->weekly == 0) {
		fail_advice(err, ERR_INVALID, "Say what to keep: --keep-last, --keep-daily, --keep-weekly.",
			    "that would delete every backup");
		return NULL;
	}
	for (guint i = 0; i < all->len; i++)
		keep_of_vm(kept, all, ((const Backup *)all->pdata[i])->vm->id, p);
	for (guint i = 0; i < all->len; i++)
		if (!g_hash_table_contains(kept, all->pdata[i]))
			g_ptr_array_add(left, all->pdata[i]);
	return children_first(all, left);
}
