/* SPDX-License-Identifier: Apache-2.0 */
/* One guest: what its report is worth, what it needs, and whether it follows. */
#include "core/memory/balance-impl.h"
#include "core/memory/range.h"

#include <glib.h>

#define SECOND UINT64_C(1000000)
#define BAND_LEAST (16 * MIB)
#define BAND_SHARE 16
/* A guest may double, and a small one get more than that. */
#define GROW_LEAST (256 * MIB)
/* Nobody knows how much one that ran out of memory, or swaps, would like: it gets a quarter more at once. */
#define PRESSED_SHARE 4
/* One that swaps with so much of its memory available swaps for another reason: more would not help it. */
#define ROOMY_SHARE 4
/* One that has used up most of its buffer shows what it has, not what it needs: it gets a half more at once.
 */
#define CRAMPED_SHARE 2
#define CRAMPED_MOST (UINT64_C(4) << 30)
/* What one whose need rises gets on top of its buffer: until it has what it is given now, and was seen with
 * it. */
#define RISE_ROUNDS 2
/* A round's rise of less than this share of the buffer is what the buffer is for. */
#define RISE_SHARE 8
/* The balloon takes pages one by one, virtio-mem blocks: what is nearer is there. */
#define NEAR (2 * RANGE_BLOCK)
/* Linux brings memory into use in pieces of this size. */
#define ONLINE_PIECE (128 * MIB)

static uint64_t sub(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t ram_of(const struct balance_guest *g)
{
	return g->base + g->plugged;
}

uint64_t balance_size(const struct balance_guest *g)
{
	return sub(ram_of(g), g->ballooned);
}

uint64_t balance_claim(const struct balance_guest *g)
{
	return g->floor > 0 ? g->floor : MAX(balance_size(g), g->target);
}

/* Of its size, what its kernel can use. */
static uint64_t usable(const struct balance_guest *g)
{
	return sub(balance_size(g), g->state.idle);
}

uint64_t balance_keeps(const struct balance_guest *g)
{
	return MIN(ram_of(g), g->target + g->state.idle);
}

uint64_t balance_band(uint64_t size)
{
	return MAX(size / BAND_SHARE, BAND_LEAST);
}

static uint64_t within(const struct balance_guest *g, uint64_t size)
{
	uint64_t whole = (size + RANGE_BLOCK - 1) / RANGE_BLOCK * RANGE_BLOCK;

	return CLAMP(whole, g->min, g->max);
}

/* ---- DIMMs ---- */

static void see_ram(struct balance_guest *g)
{
	struct balance_state *s = &g->state;
	uint64_t ram = ram_of(g), more = s->ram != 0 && g->dimms ? sub(ram, s->ram) : 0;

	s->idle += more;
	if (more > 0)
		s->idle_most = s->idle;
	/* One that was ejected: what is left is counted anew. */
	if (ram < s->ram) {
		s->idle = sub(s->idle, s->ram - ram);
		s->counted = 0;
	}
	/* Memory that was taken away a moment ago may still be in its report. */
	s->ram_most = MAX(s->ram, ram);
	s->ram = ram;
}

/* Memory stays in use; a balloon may be taken off a later total. So the most of all reports tells what is
 * used. */
static void see_counted(struct balance_guest *g)
{
	struct balance_state *s = &g->state;
	uint64_t total = g->report.total, more;

	if (g->report.at == 0 || total == BALANCE_UNKNOWN || total > s->ram_most)
		return;
	more = s->counted != 0 ? sub(total, s->counted) : 0;
	s->counted = MAX(s->counted, total);
	if (s->idle == 0 || more == 0)
		return;
	s->idle = sub(s->idle, more);
	/* Some of a DIMM may hold the lists of its own pages, which are never counted. */
	if (s->idle <= MAX(ONLINE_PIECE / 2, s->idle_most / 16))
		s->idle = 0, s->deaf_up = false;
}

void balance_plugged(struct balance_guest *g, uint64_t size)
{
	g->plugged += size;
	see_ram(g);
}

/* ---- following ---- */

static bool is_near(uint64_t a, uint64_t b)
{
	return sub(a, b) <= NEAR && sub(b, a) <= NEAR;
}

void balance_ask(struct balance_guest *g, uint64_t target, BalanceVerdict why, uint64_t now)
{
	struct balance_state *s = &g->state;

	g->verdict = why;
	g->target = s->target = target;
	s->asked_from = usable(g);
	s->moved_at = now;
	s->boots = why == BALANCE_BEGUN && g->fresh && !g->again && g->report.at == 0;
	s->begun_at = now;
	s->arrived = is_near(s->asked_from, target);
	/* What is needed now says nothing of how it will be with more. */
	if (target <= g->from || g->from == 0)
		return;
	s->grown_on = g->report.at;
	s->peak_before = 0;
	s->peak = g->floor;
	s->window_at = now;
}

/* It takes more than it was given back by itself only when it has run out of memory. */
static bool took_back(const struct balance_guest *g)
{
	return g->state.arrived && g->ballooned < g->state.ballooned && usable(g) > g->state.target;
}

/* Between two looks its balloon let go of all that it was asked for. */
static bool grew_at_once(const struct balance_guest *g, uint64_t size)
{
	const struct balance_state *s = &g->state;

	return g->ballooned < s->ballooned && s->size == s->asked_from && s->target > s->asked_from &&
	       is_near(size, s->target);
}

/*
 * A balloon that takes pages does so for a while, and a report of meanwhile would have them twice. One that
 * lets go is done at once: what was told since the look at which it was asked is of after, and a guest that
 * grows is not left without a look each time that it got something.
 */
static void see_balloon(struct balance_guest *g, uint64_t size, uint64_t now)
{
	struct balance_state *s = &g->state;

	if (g->ballooned == s->ballooned)
		return;
	s->ballooned_at = grew_at_once(g, size) ? MAX(s->ballooned_at, s->grown_on) : now;
	s->ballooned = g->ballooned;
}

static void see_size(struct balance_guest *g, uint64_t now)
{
	struct balance_state *s = &g->state;
	uint64_t size = usable(g);

	s->past[s->pasts++ % BALANCE_PAST] = (struct balance_past){ .at = now, .ballooned = g->ballooned };

	if (size != s->size)
		s->moved_at = now;
	see_balloon(g, size, now);
	s->size = size;
	if (!s->arrived && is_near(size, s->target)) {
		s->arrived = true;
		s->told_deaf = false;
	}
	if (s->pardon_at != 0 && now >= s->pardon_at)
		s->pardon_at = 0, s->deaf_up = s->deaf_down = false;
}

static uint64_t apart(uint64_t a, uint64_t b)
{
	return sub(a, b) + sub(b, a);
}

/* It has not moved for long: it is taken as it is. */
static bool give_up(struct balance_guest *g, uint64_t now, uint64_t period)
{
	struct balance_state *s = &g->state;

	if (s->arrived || now - s->moved_at < BALANCE_ROUNDS_DEAF * period)
		return false;
	*(s->target > s->size ? &s->deaf_up : &s->deaf_down) = true;
	s->pardon_at = now + BALANCE_ROUNDS_PARDON * period;
	/* One that has given most of it keeps what it can't give: that is no news. */
	if (!s->told_deaf && apart(s->size, s->asked_from) < apart(s->target, s->asked_from) / 4)
		s->told_deaf = g->noticed = true;
	g->verdict = BALANCE_DEAF;
	g->target = s->target = CLAMP(s->size, g->min, g->max);
	s->arrived = true;
	return true;
}

/* ---- the report ---- */

static bool knows(uint64_t n)
{
	return n != BALANCE_UNKNOWN;
}

static bool is_lie(const struct balance_guest *g)
{
	const struct balance_report *r = &g->report;

	return r->total == 0 || r->total > g->state.ram_most ||
	       (knows(r->available) && r->available > r->total) || (knows(r->free) && r->free > r->total) ||
	       (knows(r->caches) && r->caches > r->total);
}

/* What could be had without swapping; drivers that don't estimate it tell what is free. */
static uint64_t spare_of(const struct balance_report *r)
{
	return knows(r->available) ? r->available : knows(r->free) ? r->free : 0;
}

static bool tells(const struct balance_guest *g)
{
	return g->report.at != 0 && knows(g->report.total) &&
	       (knows(g->report.available) || knows(g->report.free));
}

static void see_swap(struct balance_guest *g)
{
	const struct balance_report *r = &g->report;
	struct balance_state *s = &g->state;

	if (r->at == s->seen_at || !knows(r->swap_in))
		return;
	s->swap_rate = 0;
	if (s->seen_at != 0 && r->at > s->seen_at && r->swap_in >= s->swap_in)
		s->swap_rate =
		    (uint64_t)((double)(r->swap_in - s->swap_in) * SECOND / (double)(r->at - s->seen_at));
	s->swap_in = r->swap_in;
	s->seen_at = r->at;
}

/*
 * A driver that may take its pages back when memory runs out (we offer that to
 * all) goes on to count them as the guest's; others don't.
 */
static bool counts_ballooned(const struct balance_guest *g)
{
	const struct balance_state *s = &g->state;
	uint64_t total = g->report.total;

	return s->has_hidden ? total + s->hidden + g->ballooned / 2 > sub(ram_of(g), s->idle)
			     : total > usable(g);
}

/*
 * By how much its need rises from look to look. Many a program takes its memory in pieces, with reports
 * between them on which nothing rises: half of a burst is still expected with the report after it. While
 * guests grow the engine looks more often than each `period`.
 */
static void see_rise(struct balance_state *s, uint64_t need, uint64_t at, uint64_t period)
{
	uint64_t rise = 0, between = at > s->need_at ? at - s->need_at : 0;

	if (at == s->need_at)
		return;
	if (s->has_need && between > 0)
		rise =
		    (uint64_t)((double)sub(need, s->need) * (double)MIN(period, between) / (double)between);
	s->rise = MIN(rise, s->rise_of_report);
	s->rise_of_report = rise;
	s->burst = MAX(rise, s->burst / 2);
	s->need_at = at;
}

/*
 * The most that its balloon can have had when it reported; UNKNOWN: that was too long ago, or the report is
 * of before something was plugged in, and what of that its kernel keeps for itself is not known.
 */
static uint64_t most_ballooned(const struct balance_guest *g)
{
	const struct balance_state *s = &g->state;
	uint64_t most = g->ballooned;

	if (!s->has_hidden && g->plugged > 0)
		return BALANCE_UNKNOWN;
	for (unsigned back = 1; back <= MIN(s->pasts, BALANCE_PAST); back++) {
		const struct balance_past *p = &s->past[(s->pasts - back) % BALANCE_PAST];

		most = MAX(most, p->ballooned);
		if (p->at <= g->report.at)
			return most;
	}
	return BALANCE_UNKNOWN;
}

/* What it used when it reported, if its balloon had so much then. */
static uint64_t need_of(const struct balance_guest *g, uint64_t ballooned)
{
	const struct balance_state *s = &g->state;
	const struct balance_report *r = &g->report;
	/* Which of both drivers it is can't be seen while the balloon moves: it used no less than with the
	 * one. */
	uint64_t gone = !s->clean || counts_ballooned(g) ? ballooned : 0,
		 used = sub(r->total - spare_of(r), gone);

	return used + (s->has_hidden ? s->hidden : sub(sub(ram_of(g), s->idle + ballooned) + gone, r->total));
}

/*
 * A report from before the balloon moved, or of meanwhile, is of another size than the guest has now. But
 * with the most that its balloon can have had, it used no less than that: a guest that rises is not left
 * alone for as long as its balloon takes or lets go, which may be many looks when it is busy.
 */
static bool take_report(struct balance_guest *g, uint64_t period)
{
	const struct balance_report *r = &g->report;
	struct balance_state *s = &g->state;
	uint64_t ballooned = g->ballooned, need;

	s->clean = r->at > s->ballooned_at;
	if (s->clean && !s->has_hidden && g->plugged == 0 && g->ballooned == 0)
		s->has_hidden = true, s->hidden = sub(g->base, r->total);
	if (!s->clean)
		ballooned = r->at > s->need_at ? most_ballooned(g) : BALANCE_UNKNOWN;
	if (ballooned == BALANCE_UNKNOWN)
		return s->has_need;
	need = need_of(g, ballooned);
	if (!s->clean && s->has_need && need <= s->need)
		return true;
	see_rise(s, need, r->at, period);
	s->need = need;
	s->cramped = spare_of(r) + sub(ballooned, g->ballooned) < s->need / 400 * g->buffer;
	s->roomy = spare_of(r) >= s->size / ROOMY_SHARE;
	s->caches = knows(r->caches) ? r->caches : 0;
	s->has_need = true;
	return true;
}

/* Most of the new memory is known to the guest's kernel and not used by it; for how many rounds. */
static void see_offline(struct balance_guest *g)
{
	struct balance_state *s = &g->state;
	bool offline = g->dimms ? s->idle > s->idle_most / 2
				: s->has_hidden && g->plugged >= ONLINE_PIECE &&
				      g->report.total + s->hidden < g->base + g->plugged / 2;

	s->offline = offline ? s->offline + 1 : 0;
}

/* ---- the need ---- */

/* What it told before it was given more is no reason to give it more again. */
static bool is_of_now(const struct balance_guest *g)
{
	return g->report.at > g->state.grown_on;
}

static bool is_pressed(const struct balance_guest *g)
{
	return is_of_now(g) && g->state.swap_rate >= BALANCE_SWAP_RATE && !g->state.roomy;
}

static void set_floor(struct balance_guest *g)
{
	const struct balance_state *s = &g->state;
	uint64_t floor = s->need + s->need / 100 * g->buffer;

	if (s->cramped && is_of_now(g))
		floor = MAX(floor, s->size + MIN(s->size / CRAMPED_SHARE, CRAMPED_MOST));
	if (is_pressed(g) || s->took)
		floor = MAX(floor, s->size + s->size / PRESSED_SHARE);
	g->need = s->need;
	g->floor = within(g, floor);
}

/*
 * On top of the floor, of one that rises fast: no need of it yet. What came at once may be all that comes, so
 * that a single rise is met with no more than its buffer a second time. One without its buffer rises by what
 * it is given.
 */
static uint64_t ahead_of(const struct balance_guest *g)
{
	const struct balance_state *s = &g->state;
	uint64_t buffer = s->need / 100 * g->buffer, soon;

	if (s->cramped || s->burst <= buffer / RISE_SHARE)
		return 0;
	soon = MAX(MIN(RISE_ROUNDS * s->burst, buffer), RISE_ROUNDS * MIN(s->rise, s->need));
	return within(g, g->floor + soon) - g->floor;
}

static void see_peak(struct balance_guest *g, uint64_t now, uint64_t period)
{
	struct balance_state *s = &g->state;

	s->floors[s->looks++ % BALANCE_ROUNDS_TIGHT] = g->floor + ahead_of(g);
	if (s->peak == 0)
		s->window_at = now;
	s->peak = MAX(s->peak, g->floor);
	if (now - s->window_at < BALANCE_ROUNDS_CALM * period)
		return;
	s->peak_before = s->peak;
	s->peak = g->floor;
	s->window_at = now;
}

/* Others are in need now: they don't wait for as long as it takes to be sure that it is calm. */
static uint64_t floor_of_late(const struct balance_state *s)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < BALANCE_ROUNDS_TIGHT; i++)
		most = MAX(most, s->floors[i]);
	return most;
}

/* To have `size`. Small steps up are not worth it while half of the buffer is there. */
static uint64_t more_of(const struct balance_guest *g, uint64_t size)
{
	const struct balance_state *s = &g->state;
	uint64_t more = sub(size, s->target);
	bool small = more < balance_band(s->target) && s->target >= g->min && !is_pressed(g) && !s->took;

	if (s->deaf_up || s->offline > 0 || (small && s->need + s->need / 200 * g->buffer <= s->target))
		return 0;
	return MIN(more, MAX(s->target, GROW_LEAST));
}

static struct appetite hungry(struct balance_guest *g)
{
	struct balance_state *s = &g->state;
	uint64_t peak = MAX(s->peak, s->peak_before), kept;
	struct appetite a = { .more = more_of(g, g->floor + ahead_of(g)) };

	a.ahead = a.more - more_of(g, g->floor);
	g->wanted = s->target + a.more;
	/* Before a step down it has told how it was after the one before. */
	if (a.more > 0 || !s->arrived || s->deaf_down || !s->clean)
		return a;
	a.spare = sub(s->target, floor_of_late(s));
	kept = MAX(peak, s->need + s->caches);
	if (sub(s->target, kept) >= balance_band(s->target))
		a.unused = s->target - kept;
	return a;
}

/* Nobody asked it for anything in this round: why not? */
static BalanceVerdict verdict_at_rest(const struct balance_guest *g, const struct appetite *a)
{
	const struct balance_state *s = &g->state;

	if (s->took)
		return BALANCE_TOOK;
	if (s->deaf_up || s->deaf_down)
		return s->verdict == BALANCE_OFFLINE ? BALANCE_OFFLINE : BALANCE_DEAF;
	if (!s->arrived)
		return BALANCE_FOLLOWS;
	if (a->unused > 0)
		return BALANCE_CALM;
	return s->target >= g->max && s->need + s->need / 200 * g->buffer > g->max ? BALANCE_FULL
										   : BALANCE_REST;
}

static struct appetite settle(struct balance_guest *g, BalanceVerdict v)
{
	g->verdict = v;
	if (v == BALANCE_OFFLINE)
		g->noticed = g->state.verdict != v;
	return (struct appetite){ .settled = true };
}

static struct appetite judge(struct balance_guest *g, uint64_t now, uint64_t period)
{
	struct balance_state *s = &g->state;
	struct appetite a;

	if (s->took)
		balance_ask(g, CLAMP(s->size, g->min, g->max), BALANCE_TOOK, now);
	if (give_up(g, now, period))
		return (struct appetite){ .settled = true };
	if (!tells(g))
		return settle(g, BALANCE_SILENT);
	if (now > g->report.at + BALANCE_ROUNDS_STALE * period)
		return settle(g, BALANCE_STALE);
	if (is_lie(g)) {
		s->lies++;
		g->noticed = s->lies == BALANCE_ROUNDS_LYING;
		return settle(g, BALANCE_LYING);
	}
	see_swap(g);
	if (!take_report(g, period))
		return settle(g, BALANCE_FOLLOWS);
	set_floor(g);
	see_peak(g, now, period);
	see_offline(g);
	if (s->offline >= BALANCE_ROUNDS_OFFLINE && !s->deaf_up) {
		s->deaf_up = true;
		s->pardon_at = now + BALANCE_ROUNDS_PARDON * period;
		/* A DIMM that lies idle is no way to the target: it has arrived where it is. */
		if (s->idle > 0) {
			g->target = s->target = CLAMP(s->size, g->min, g->max);
			s->arrived = true;
		}
		return settle(g, BALANCE_OFFLINE);
	}
	a = hungry(g);
	g->verdict = verdict_at_rest(g, &a);
	return a;
}

struct appetite balance_look(struct balance_guest *g, uint64_t now, uint64_t period)
{
	struct balance_state *s = &g->state;
	g->from = g->target = s->target;
	g->need = g->floor = g->wanted = 0;
	g->noticed = false;
	s->took = took_back(g);
	see_ram(g);
	see_counted(g);
	see_size(g, now);
	if (s->target == 0) {
		balance_ask(g, CLAMP(g->fresh && g->report.at == 0 ? g->start : s->size, g->min, g->max),
			    BALANCE_BEGUN, now);
		return (struct appetite){ .settled = true };
	}
	/* However slowly its balloon takes, and whatever else moves. */
	if (now - s->begun_at >= BALANCE_ROUNDS_DEAF * period)
		s->boots = false;
	if (g->held) {
		s->moved_at = now;
		return settle(g, BALANCE_HELD);
	}
	return judge(g, now, period);
}
