/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a live migration stops the guest, slows it down, or gives up. Pure.
 *
 * Memory is copied in rounds while the guest writes on. Whether it ever gets
 * through depends on how fast the guest writes; this decides, sample by sample
 * of QEMU's statistics, what is tried next:
 *
 *   1. The guest may stand still for an eighth of the downtime that is allowed:
 *      most guests get through at once, and are not stopped longer than needed.
 *   2. From the third round on another eighth is allowed with each round, until
 *      all of it is.
 *   3. If rounds still do not get shorter, QEMU may slow the guest's vcpus, by
 *      20 points more each time (auto-converge). QEMU does so once in some seconds,
 *      however short the rounds are: what was allowed is waited for.
 *   4. With all of that used up, memory follows after the guest (post-copy),
 *      if that is allowed: the way that always ends, and that loses the guest
 *      when the link breaks meanwhile.
 *   5. What is not allowed is left out. When nothing is left and
 *      MIGRATE_PATIENCE rounds brought nothing, it is given up and the guest
 *      stays where it is. So it is when no byte moves for `stall`, and after
 *      `timeout`.
 *
 * Rounds and not seconds make the schedule: a round takes as long as the
 * guest's memory needs on this link.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

/* Rounds that are no shorter than those before that are waited for when every means is used. */
#define MIGRATE_PATIENCE 20
#define MIGRATE_THROTTLE_STEP 20u
#define MIGRATE_THROTTLE_MAX 80u
/* QEMU takes no longer one. */
#define MIGRATE_DOWNTIME_MAX (UINT64_C(2000) * 1000000)

struct migrate_settings {
	uint64_t bandwidth; /* bytes a second; 0: as fast as it goes */
	uint64_t downtime;  /* us that the guest may stand still while the last memory is copied */
	bool auto_converge, post_copy;
	bool disks;       /* files of the user's own, that only the source sees, move along */
	uint64_t timeout; /* us for all of it; 0: none */
	uint64_t stall;   /* us without a byte until the link counts as dead */
};

/* Members bandwidth, downtime (us), auto_converge, post_copy, disks, timeout; what is absent keeps its
 * default. */
void migrate_settings_init(struct migrate_settings *s);
/* ERR_INVALID for values out of range or of the wrong type. */
bool migrate_settings_of_json(const Json *j, struct migrate_settings *ret, GError **err);
Json *migrate_settings_to_json(const struct migrate_settings *s);

/* What QEMU's statistics say at one moment. Bytes and us. */
struct migrate_sample {
	uint64_t at; /* since the migration began */
	uint64_t transferred, remaining, total;
	uint64_t rounds;     /* beginning with 1 */
	uint64_t rate;       /* bytes a second now; 0: not known */
	uint64_t dirty_rate; /* bytes a second that the guest writes anew; 0: not known */
	unsigned throttle;   /* percent by which the vcpus are slowed */
};

/* What is remembered between samples. Zeroed before the first. */
struct migrate_memory {
	uint64_t limit;   /* downtime allowed now */
	unsigned percent; /* of throttling allowed now */
	uint64_t allowed_at;
	bool post_copy; /* was begun */
	uint64_t transferred, moved_at;
	uint64_t round, round_began; /* the round that goes on, and what was transferred before it */
	uint64_t least;              /* the bytes of the shortest round */
	unsigned vain;               /* rounds since then, or since the last means, that were no shorter */
	unsigned done;               /* percent, never less than before */
};

typedef enum MigrateAction {
	MIGRATE_WAIT,
	MIGRATE_LIMIT,     /* allow `value` us of downtime */
	MIGRATE_THROTTLE,  /* allow `value` percent of throttling */
	MIGRATE_POST_COPY, /* move the guest now, memory after it */
	MIGRATE_GIVE_UP,
} MigrateAction;

struct migrate_decision {
	MigrateAction action;
	uint64_t value;
	unsigned percent; /* of the work */
	uint64_t left;    /* us until the guest is over there, estimated; 0: can't be said */
};

/* The downtime limit and the throttling to begin with. */
uint64_t migrate_first_limit(const struct migrate_settings *s);

/*
 * What to do now. `ret` is always filled in. False with MIGRATE_GIVE_UP, and
 * then *err says why: ERR_TIMEOUT, ERR_UNAVAILABLE for a dead link,
 * ERR_BUSY for a guest that writes too fast.
 */
bool migrate_decide(const struct migrate_settings *s, struct migrate_memory *m,
		    const struct migrate_sample *x, struct migrate_decision *ret, GError **err);
