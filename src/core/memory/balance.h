/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dynamic memory: how much memory each guest of a host should have. Pure.
 *
 * The engine measures guests and host each `period`, calls balance_round(),
 * and asks the guests to take the sizes that it answers. What is remembered
 * from round to round is in the guests' `state`, which begins as zero.
 *
 * What a guest needs is what it told itself: the memory that it uses and could
 * not give back without swapping. Its floor is that and memory.buffer percent
 * on top, never less than memory.min nor more than memory.max.
 *
 *  - Below its floor a guest grows at once, at most to twice its size a round.
 *    One whose need rises fast gets what it will be in two rounds.
 *    One that has used up its buffer shows what it has and not what it needs,
 *    and gets a half more. One that reads its swap space with less than a
 *    quarter of its size available, or takes back memory by itself because it
 *    ran out, needs more than it has, whatever the rest of its report says.
 *  - Above the highest floor of the last BALANCE_ROUNDS_CALM rounds it shrinks in
 *    steps of an eighth, one after the other was carried out. What its disk
 *    caches hold stays with it while the host has room.
 *  - When the guests need more than the host can give, or would leave less than
 *    a 32nd of it for who rises next, those who have more than their highest
 *    floor of the last BALANCE_ROUNDS_TIGHT rounds give it back, first who has
 *    the most for its weight, and what there is is shared
 *    by weight among those who need it. Nobody is asked to go below the floor:
 *    what is missing then is missing, and is told with the guest that is
 *    cheapest to move away.
 *  - Who reports nothing, nothing new, or what can't be true keeps what it has.
 *    Who does not follow is left alone for a while and counted by what it holds.
 */
#pragma once

#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rounds. */
#define BALANCE_ROUNDS_CALM 10   /* of the highest floor that a guest is not shrunk below */
#define BALANCE_ROUNDS_TIGHT 3   /* the same, while others are in need */
#define BALANCE_ROUNDS_STALE 8   /* a report that is older says nothing */
#define BALANCE_ROUNDS_DEAF 20   /* without a movement towards the target: it does not follow */
#define BALANCE_ROUNDS_OFFLINE 5 /* that new memory may lie idle: its kernel does not take it into use */
#define BALANCE_ROUNDS_LYING 3   /* of reports that can't be before it is told: one may be late */
#define BALANCE_ROUNDS_PARDON 60 /* until one who did not follow is asked again */
#define BALANCE_ROUNDS_SHORT 2   /* of a shortage before it is told */
#define BALANCE_PAST 8           /* that are remembered of its balloon, for reports that are late */

/* Bytes per second that a guest reads from its swap space when it is in need. */
#define BALANCE_SWAP_RATE (UINT64_C(256) << 10)
/* Share of time that tasks of the host waited for memory, in hundredths of a percent: it is in need. */
#define BALANCE_PSI 1000

#define BALANCE_UNKNOWN UINT64_MAX

/* What the guest's driver told last; counts since the guest booted. UNKNOWN: it does not tell this. */
struct balance_report {
	uint64_t at;    /* when; 0: never */
	uint64_t total; /* what its kernel manages: without what it keeps for itself from the start */
	uint64_t free, available, caches;
	uint64_t swap_in, swap_out; /* bytes */
	uint64_t major_faults;
};

/* name in the API; the sentence of the trail is balance_reason()'s */
// clang-format off
#define BALANCE_VERDICT_TABLE(X)                                                             \
	X(REST,     "rest")     /* it has what it needs */                                   \
	X(BEGUN,    "begun")    /* first target */                                           \
	X(HELD,     "held")     /* paused, or an operation has it */                         \
	X(SILENT,   "silent")   /* has never reported */                                     \
	X(STALE,    "stale")    /* has stopped to report */                                  \
	X(LYING,    "lying")    /* reports what can't be */                                  \
	X(FOLLOWS,  "follows")  /* on its way to the target */                               \
	X(CALM,     "calm")     /* will shrink if it stays so */                             \
	X(GREW,     "grew")     /* to its floor */                                           \
	X(PRESSED,  "pressed")  /* grew, as it reads its swap space */                       \
	X(TOOK,     "took")     /* took memory back by itself, and got more */                        \
	X(SHARED,   "shared")   /* grew by less than it needs: the host has no more */       \
	X(WAITS,    "waits")    /* needs more, and the host has none */                      \
	X(FULL,     "full")     /* needs more than memory.max */                             \
	X(SHRANK,   "shrank")   /* gave back what it had not used for a while */             \
	X(GAVE,     "gave")     /* gave back for others */                                   \
	X(DEAF,     "deaf")     /* does not follow */                                        \
	X(OFFLINE,  "offline")  /* has not taken new memory into use */
// clang-format on

typedef enum BalanceVerdict {
#define X(key, name) BALANCE_##key,
	BALANCE_VERDICT_TABLE(X)
#undef X
	    _BALANCE_VERDICT_MAX,
} BalanceVerdict;

struct balance_past {
	uint64_t at, ballooned;
};

/* What is remembered of a guest. */
struct balance_state {
	uint64_t target;          /* that it was asked to take last; 0: none yet */
	uint64_t asked_from;      /* its size then */
	uint64_t size, ballooned; /* of the round before */
	uint64_t ram, ram_most;   /* given to it in that round; the most of that and this one */
	uint64_t moved_at;        /* when the size moved last, or was asked to */
	uint64_t ballooned_at;    /* when the balloon moved last: reports of before are of another size */
	uint64_t grown_on;        /* the time of the report on which it was given more */
	bool boots;               /* its target is the first one, of before it told anything */
	uint64_t begun_at;        /* when it was given that */
	bool arrived;             /* it has been at the target */
	bool took;                /* took memory back by itself since the round before */
	bool deaf_up, deaf_down;  /* which way it did not follow */
	uint64_t pardon_at;       /* when that is forgotten */
	bool told_deaf;           /* that it did not follow was told, and it has not since */
	unsigned lies;            /* since it booted */
	unsigned offline;         /* rounds in which most of its new memory lay idle */
	bool has_need, has_hidden;
	struct balance_past past[BALANCE_PAST]; /* its balloon in the last rounds, in a ring */
	unsigned pasts;                         /* how many were written into it */
	bool clean;                             /* the last report is of after the balloon moved */
	uint64_t need, need_at;                 /* of the last report that could be used, and its time */
	uint64_t rise_of_report;                /* by so much it had risen, in a round */
	uint64_t rise;                          /* the same in each of the last two reports, at least */
	uint64_t burst;                         /* the same in one of the last reports, the older the less */
	uint64_t hidden;          /* of the memory that it booted with: what its kernel never counted */
	uint64_t counted;         /* the most that its kernel ever managed */
	uint64_t idle, idle_most; /* of its DIMMs: what its kernel has not taken into use; when one came */
	uint64_t caches;
	bool cramped; /* it had less than a quarter of its buffer then */
	bool roomy;   /* a quarter of its size was available then */
	uint64_t peak, peak_before,
	    window_at; /* highest floors of two windows of BALANCE_ROUNDS_CALM rounds; 0: none */
	uint64_t floors[BALANCE_ROUNDS_TIGHT]; /* of the last rounds, in a ring */
	unsigned looks;                        /* how many were written into it */
	uint64_t seen_at, swap_in;             /* of the report before */
	uint64_t swap_rate;                    /* bytes per second */
	BalanceVerdict verdict;                /* of the round before */
};

struct balance_guest {
	const char *name; /* borrowed */
	uint64_t min, start, max;
	unsigned buffer, weight;
	uint64_t base;      /* memory that it booted with */
	uint64_t plugged;   /* and was given since */
	bool dimms;         /* as DIMMs: they count before its kernel uses them */
	uint64_t ballooned; /* and gave back */
	bool held;          /* nobody may change it now */
	bool fresh;         /* it boots: its first target is `start`; else it is what it has */
	bool again;         /* in a QEMU that holds what it used before, for all that is known */
	struct balance_report report;
	struct balance_state state;
	/* results */
	BalanceVerdict verdict;
	uint64_t from, target; /* the target before and now */
	uint64_t need, floor;  /* 0: not known */
	uint64_t wanted;       /* what it would have got of a host with room */
	bool noticed;          /* somebody should be told of the verdict: it is new, and bad */
};

struct balance_host {
	uint64_t capacity;  /* what these guests may have together */
	uint64_t available; /* what could be had now without swapping; 0: not known */
	uint64_t reserve;   /* of it, for the host itself */
	uint64_t psi;       /* see BALANCE_PSI; 0 also when it is not known */
	bool swaps;         /* it wrote pages to its swap space since the last round */
	/* remembered; zero at first */
	unsigned short_rounds;
	/* results */
	bool tight;       /* guests give back what they can spare */
	bool is_short;    /* and it was not enough, for BALANCE_ROUNDS_SHORT rounds */
	uint64_t missing; /* bytes */
	size_t cheapest;  /* the guest whose leaving would do, at the least cost; SIZE_MAX: none */
};

struct balance_round {
	uint64_t now, period; /* us; wall clock, as reports are */
	struct balance_host host;
	struct balance_guest *guest;
	size_t n;
};

void balance_round(struct balance_round *r);

uint64_t balance_size(const struct balance_guest *g);
/* What can't be taken back from the guest: its floor, while that is known; else what it has or was promised.
 */
uint64_t balance_claim(const struct balance_guest *g);
/* A DIMM was plugged in after the round: it lies idle until a report counts it. */
void balance_plugged(struct balance_guest *g, uint64_t size);
/*
 * Of base and DIMMs, what the balloon is to leave for the target to be met. What lies idle is no memory yet,
 * and is left on top: a balloon that made up for it would take what the guest uses.
 */
uint64_t balance_keeps(const struct balance_guest *g);
const char *balance_verdict_name(BalanceVerdict v);
/* Why the guest has the target that it has: a sentence for people. Caller frees. */
char *balance_reason(const struct balance_guest *g);
/* {verdict, reason, from, to, size, need, floor, wanted, report: {...} | null}; what is not known is null. */
Json *balance_decision_to_json(const struct balance_guest *g);
