/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/level.h"

#include <string.h>

struct member {
	char *host;
	struct featureset set;
	size_t place; /* in the array */
};

/* How many members that have a component's feature keep it at one place. */
struct layout_count {
	struct xsave_layout layout;
	size_t n;
};

/* One of the numbers beside the features (a vendor is one too), and how many members have it. */
struct tally {
	uint64_t key[2]; /* in the order of the numbers */
	size_t n;
};

typedef enum Number { NUMBER_VENDOR, NUMBER_SIGNATURE, NUMBER_LEVEL, NUMBER_XLEVEL, NUMBER_PHYS_BITS } Number;
#define NUMBERS 5

struct Level {
	GuestType type;
	GPtrArray *members; /* struct member, owned */
	GHashTable *by_host;
	uint32_t lack[CPU_BITS];               /* members without the feature */
	struct cpu_bits common;                /* lack is 0 */
	GArray *layouts[CPU_XSAVE_COMPONENTS]; /* struct layout_count */
	GArray *numbers[NUMBERS];              /* struct tally; there are few different ones */
	struct featureset now;                 /* when there is a member */
};

static void member_free(gpointer p)
{
	struct member *m = p;

	g_free(m->host);
	g_free(m);
}

Level *level_new(GuestType type)
{
	Level *l = g_new0(Level, 1);

	l->type = type;
	l->members = g_ptr_array_new_with_free_func(member_free);
	l->by_host = g_hash_table_new(g_str_hash, g_str_equal);
	l->common = feature_known;
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		l->layouts[i] = g_array_new(FALSE, TRUE, sizeof(struct layout_count));
	for (size_t i = 0; i < NUMBERS; i++)
		l->numbers[i] = g_array_new(FALSE, TRUE, sizeof(struct tally));
	return l;
}

void level_free(Level *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		g_array_unref(l->layouts[i]);
	for (size_t i = 0; i < NUMBERS; i++)
		g_array_unref(l->numbers[i]);
	g_hash_table_unref(l->by_host);
	g_ptr_array_unref(l->members);
	g_free(l);
}

/* ---- counters ---- */

static void count_features(Level *l, const struct featureset *set, bool add)
{
	for (unsigned w = 0; w < CPU_WORDS; w++) {
		uint32_t lacks = feature_known.word[w] & ~set->has.word[w];

		for (; lacks != 0; lacks &= lacks - 1) {
			unsigned bit = 32 * w + (unsigned)__builtin_ctz(lacks);

			if (add && l->lack[bit]++ == 0)
				cpu_bits_clear(&l->common, bit);
			else if (!add && --l->lack[bit] == 0)
				cpu_bits_set(&l->common, bit);
		}
	}
}

static bool same_layout(const struct xsave_layout *a, const struct xsave_layout *b)
{
	return a->size == b->size && a->offset == b->offset;
}

static void count_layout(GArray *counts, const struct xsave_layout *layout, bool add)
{
	struct layout_count one = { *layout, 1 };

	for (guint i = 0; i < counts->len; i++) {
		struct layout_count *c = &g_array_index(counts, struct layout_count, i);

		if (!same_layout(&c->layout, layout))
			continue;
		c->n += add ? 1 : (size_t)-1;
		if (c->n == 0)
			g_array_remove_index_fast(counts, i);
		return;
	}
	if (add)
		g_array_append_val(counts, one);
}

static bool has_layout(const struct featureset *s, size_t component)
{
	return s->xsave[component].size != 0 && cpu_bits_has(&s->has, xsave_components[component].feature);
}

/* Of several members' vendors (only with TCG, where they say nothing) the first in order stands for all. */
static void number_key(const struct featureset *s, Number number, uint64_t key[2])
{
	key[0] = key[1] = 0;
	switch (number) {
	case NUMBER_VENDOR:
		for (size_t i = 0; i < CPU_VENDOR_LENGTH; i++)
			key[i / 8] |= (uint64_t)(unsigned char)s->vendor[i] << (56 - 8 * (i % 8));
		return;
	case NUMBER_SIGNATURE:
		key[0] = (uint64_t)s->family << 32 | (uint64_t)s->model << 16 | s->stepping;
		return;
	case NUMBER_LEVEL:
		key[0] = s->level;
		return;
	case NUMBER_XLEVEL:
		key[0] = s->xlevel;
		return;
	case NUMBER_PHYS_BITS:
		key[0] = s->phys_bits;
		return;
	}
}

static void count_number(GArray *tallies, const uint64_t key[2], bool add)
{
	struct tally one = { { key[0], key[1] }, 1 };

	for (guint i = 0; i < tallies->len; i++) {
		struct tally *t = &g_array_index(tallies, struct tally, i);

		if (memcmp(t->key, key, sizeof(t->key)) != 0)
			continue;
		t->n += add ? 1 : (size_t)-1;
		if (t->n == 0)
			g_array_remove_index_fast(tallies, i);
		return;
	}
	if (add)
		g_array_append_val(tallies, one);
}

static const uint64_t *lowest(const GArray *tallies)
{
	const uint64_t *low = g_array_index(tallies, struct tally, 0).key;

	for (guint i = 1; i < tallies->len; i++) {
		const uint64_t *key = g_array_index(tallies, struct tally, i).key;

		if (key[0] < low[0] || (key[0] == low[0] && key[1] < low[1]))
			low = key;
	}
	return low;
}

static void read_numbers(const Level *l, struct featureset *ret)
{
	const uint64_t *vendor = lowest(l->numbers[NUMBER_VENDOR]);
	uint64_t signature = lowest(l->numbers[NUMBER_SIGNATURE])[0];

	memset(ret->vendor, 0, sizeof(ret->vendor));
	for (size_t i = 0; i < CPU_VENDOR_LENGTH; i++)
		ret->vendor[i] = (char)(vendor[i / 8] >> (56 - 8 * (i % 8)));
	ret->family = (uint32_t)(signature >> 32);
	ret->model = signature >> 16 & 0xffff;
	ret->stepping = signature & 0xffff;
	ret->level = (uint32_t)lowest(l->numbers[NUMBER_LEVEL])[0];
	ret->xlevel = (uint32_t)lowest(l->numbers[NUMBER_XLEVEL])[0];
	ret->phys_bits = (uint32_t)lowest(l->numbers[NUMBER_PHYS_BITS])[0];
}

static void count_member(Level *l, const struct featureset *set, bool add)
{
	uint64_t key[2];

	count_features(l, set, add);
	for (int i = 0; i < NUMBERS; i++) {
		number_key(set, (Number)i, key);
		count_number(l->numbers[i], key, add);
	}
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		if (has_layout(set, i))
			count_layout(l->layouts[i], &set->xsave[i], add);
}

/* ---- the level itself ---- */

static void drop_conflicts(struct featureset *s, const struct cpu_bits *conflicts)
{
	cpu_bits_minus(&s->has, &s->has, conflicts);
	if (!cpu_bits_empty(conflicts))
		cpu_bits_close(&s->has, CLOSE_HARD, NULL);
	featureset_cap(s);
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		if (!cpu_bits_has(&s->has, xsave_components[i].feature))
			s->xsave[i] = (struct xsave_layout){ 0 };
}

static void refresh(Level *l)
{
	struct cpu_bits conflicts = { 0 };

	if (l->members->len == 0)
		return;
	l->now = (struct featureset){ .has = l->common };
	read_numbers(l, &l->now);
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++) {
		const GArray *counts = l->layouts[i];

		if (counts->len > 1)
			cpu_bits_set(&conflicts, xsave_components[i].feature);
		l->now.xsave[i] = counts->len == 1 ? g_array_index(counts, struct layout_count, 0).layout
						   : (struct xsave_layout){ 0 };
	}
	drop_conflicts(&l->now, &conflicts);
}

/* Components that sets keep at different places: the features of those go to `conflicts`. */
static void meet_layouts(struct featureset *s, const struct featureset *other, struct cpu_bits *conflicts)
{
	if (memcmp(s->xsave, other->xsave, sizeof(s->xsave)) == 0)
		return;
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++) {
		if (!has_layout(other, i))
			continue;
		if (s->xsave[i].size == 0)
			s->xsave[i] = other->xsave[i];
		else if (!same_layout(&s->xsave[i], &other->xsave[i]))
			cpu_bits_set(conflicts, xsave_components[i].feature);
	}
}

void level_of_sets(const struct featureset *const *set, size_t n, struct featureset *ret)
{
	struct cpu_bits conflicts = { 0 };
	struct featureset s;

	g_assert(n > 0);
	s = *set[0];
	s.tsc_khz = 0;
	s.tsc_scaling = false;
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		if (!has_layout(&s, i))
			s.xsave[i] = (struct xsave_layout){ 0 };
	for (size_t i = 1; i < n; i++) {
		cpu_bits_and(&s.has, &s.has, &set[i]->has);
		featureset_meet_numbers(&s, set[i]);
		meet_layouts(&s, set[i], &conflicts);
	}
	drop_conflicts(&s, &conflicts);
	*ret = s;
}

/* The sets of all members but one, and one more. */
static bool level_with(const Level *l, const char *skip, const struct featureset *more,
		       struct featureset *ret)
{
	const struct featureset **set = g_new(const struct featureset *, l->members->len + 1);
	size_t n = 0;

	for (guint i = 0; i < l->members->len; i++) {
		const struct member *m = l->members->pdata[i];

		if (skip == NULL || !g_str_equal(m->host, skip))
			set[n++] = &m->set;
	}
	if (more != NULL)
		set[n++] = more;
	if (n > 0)
		level_of_sets(set, n, ret);
	g_free(set);
	return n > 0;
}

bool level_rescan(const Level *l, struct featureset *ret)
{
	return level_with(l, NULL, NULL, ret);
}

/* ---- members ---- */

static bool check_vendor(const Level *l, const char *host, const struct featureset *set, GError **err)
{
	const struct member *own = g_hash_table_lookup(l->by_host, host);
	g_autofree char *vendor = cpu_vendor_print(set->vendor);

	if (l->type != GUEST_KVM)
		return true;
	if (!cpu_vendor_known(set->vendor))
		return fail_advice(err, ERR_UNSUPPORTED,
				   "Look at the processor and its firmware: this is no vendor's name.",
				   "the CPU of %s says that its vendor is '%s'", host, vendor);
	if (l->members->len > (own != NULL ? 1 : 0) && !g_str_equal(l->now.vendor, set->vendor)) {
		g_autofree char *pool = cpu_vendor_print(l->now.vendor);

		fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Make a pool of its own of the hosts of each vendor: a guest can't move between them.",
		    "the CPU of %s is of %s, those of the pool are of %s", host, vendor, pool);
		return false;
	}
	return true;
}

static bool check_set(const Level *l, const char *host, const struct featureset *set, GError **err)
{
	struct cpu_bits closed = set->has;

	if (cpu_bits_empty(&set->has))
		return fail(err, ERR_INVALID, "the featureset of %s is empty", host);
	if (cpu_bits_close(&closed, CLOSE_HARD, NULL))
		return fail(err, ERR_INVALID,
			    "the featureset of %s holds features that need others, which it lacks", host);
	return check_vendor(l, host, set, err);
}

static void insert(Level *l, const char *host, const struct featureset *set)
{
	struct member *m = g_new0(struct member, 1);

	m->host = g_strdup(host);
	m->set = *set;
	m->place = l->members->len;
	g_ptr_array_add(l->members, m);
	g_hash_table_insert(l->by_host, m->host, m);
	count_member(l, set, true);
	refresh(l);
}

static void take_out(Level *l, struct member *m)
{
	size_t place = m->place;

	count_member(l, &m->set, false);
	g_hash_table_remove(l->by_host, m->host);
	g_ptr_array_remove_index_fast(l->members,
				      (guint)place); /* frees m, and the last one takes its place */
	if (place < l->members->len)
		((struct member *)l->members->pdata[place])->place = place;
	refresh(l);
}

bool level_add(Level *l, const char *host, const struct featureset *set, GError **err)
{
	struct member *old = g_hash_table_lookup(l->by_host, host);

	if (!check_set(l, host, set, err))
		return false;
	if (old != NULL)
		take_out(l, old);
	insert(l, host, set);
	return true;
}

bool level_remove(Level *l, const char *host)
{
	struct member *m = g_hash_table_lookup(l->by_host, host);

	if (m != NULL)
		take_out(l, m);
	return m != NULL;
}

size_t level_count(const Level *l)
{
	return l->members->len;
}

const char *level_host(const Level *l, size_t i)
{
	g_assert(i < l->members->len);
	return ((const struct member *)l->members->pdata[i])->host;
}

const struct featureset *level_member(const Level *l, const char *host)
{
	const struct member *m = g_hash_table_lookup(l->by_host, host);

	return m != NULL ? &m->set : NULL;
}

const struct featureset *level_get(const Level *l)
{
	return l->members->len > 0 ? &l->now : NULL;
}

size_t level_lack(const Level *l, FeatureId f)
{
	g_assert(f < CPU_BITS);
	return l->lack[f];
}

void level_lost(const Level *l, struct cpu_bits *ret)
{
	struct cpu_bits any = { 0 };

	for (guint i = 0; i < l->members->len; i++)
		cpu_bits_or(&any, &any, &((const struct member *)l->members->pdata[i])->set.has);
	cpu_bits_minus(ret, &any, l->members->len > 0 ? &l->now.has : &any);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **level_lost_hosts(const Level *l, FeatureId f)
{
	const char **hosts = g_new0(const char *, l->members->len + 1);
	size_t n = 0;
	/* Where nobody lacks it, it went because the members keep its state at different places. */
	bool conflict = l->lack[f] == 0;

	for (guint i = 0; i < l->members->len; i++) {
		const struct member *m = l->members->pdata[i];

		if (conflict || !cpu_bits_has(&m->set.has, f))
			hosts[n++] = m->host;
	}
	qsort(hosts, n, sizeof(*hosts), compare_names);
	return hosts;
}

void level_sole(const Level *l, const char *host, struct cpu_bits *ret)
{
	struct featureset without;

	*ret = (struct cpu_bits){ 0 };
	if (level_member(l, host) == NULL || !level_with(l, host, NULL, &without))
		return;
	cpu_bits_minus(ret, &without.has, &l->now.has);
}

void level_warnings(const Level *l, struct cpu_bits *ret)
{
	level_lost(l, ret);
	cpu_bits_and(ret, ret, &feature_of_kind[FEATURE_OR]);
}

/* ---- what if ---- */

bool level_if_changed(const Level *l, const char *host, const struct featureset *set,
		      struct cpu_bits *ret_lost, struct cpu_bits *ret_gained, GError **err)
{
	struct featureset then;

	if (!check_set(l, host, set, err))
		return false;
	(void)level_with(l, host, set, &then);
	*ret_lost = *ret_gained = (struct cpu_bits){ 0 };
	if (l->members->len == 0)
		return true;
	cpu_bits_minus(ret_lost, &l->now.has, &then.has);
	cpu_bits_minus(ret_gained, &then.has, &l->now.has);
	return true;
}

bool level_if_joined(const Level *l, const char *host, const struct featureset *set,
		     struct cpu_bits *ret_lost, GError **err)
{
	struct cpu_bits gained;

	if (level_member(l, host) != NULL)
		return fail(err, ERR_CONFLICT, "%s is a member already", host);
	return level_if_changed(l, host, set, ret_lost, &gained, err);
}

void level_if_disabled(const Level *l, FeatureId f, struct cpu_bits *ret_lost)
{
	struct cpu_bits then;

	*ret_lost = (struct cpu_bits){ 0 };
	if (l->members->len == 0)
		return;
	then = l->now.has;
	cpu_bits_clear(&then, f);
	cpu_bits_close(&then, CLOSE_HARD, NULL);
	cpu_bits_minus(ret_lost, &l->now.has, &then);
}
