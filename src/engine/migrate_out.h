/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending end of a migration.
 *
 * States, and who moves it on:
 *     RUNNING   the guest runs here; disks, then memory, are copied    migrate_out_send()
 *     STOPPED   the guest stands still; the rest can go over
 *     WHOLE     both sides hold the complete guest, none runs it       migrate_out_switch()
 * Until its owner was changed in the store, migrate_out_revert() leads back
 * from everywhere: the guest runs here as before. After that it may not be
 * called, and the QEMU here is only good for being ended.
 *
 * With post-copy STOPPED is the last state from which there is a way back, and
 * migrate_out_switch() may be called only when the owner was changed; the guest
 * runs over there while its memory follows (migrate_out_follow()).
 *
 * QEMU's return path is on: that the sender has completed means that the
 * receiver said to have loaded all of it. Worker threads.
 */
#pragma once

#include "core/migrate/policy.h"
#include "engine/vmm.h"

typedef struct MigrateOut MigrateOut;

struct migrate_out_spec {
	const char *host;        /* numeric address of the other end */
	unsigned memory, disks;  /* its ports, as migrate_in_open() said */
	const char *key_dir;     /* migrate_key_write(); NULL: in clear */
	const char *const *node; /* block nodes to take along, NULL-terminated */
	struct migrate_settings settings;
	/* True: stop as soon as possible with ERR_CANCELLED, or with the error that it sets. */
	bool (*ended)(void *data, GError **err);
	/* How far it is: percent, and us until the guest is over there (0: can't be said), and numbers. */
	void (*progress)(unsigned percent, uint64_t left, const struct migrate_sample *x, void *data);
	void *data;
};

struct migrate_stats {
	uint64_t stopped_at; /* monotonic time at which the guest stopped; 0: it did not */
	uint64_t total;      /* us from the first step to the guest's end here */
	uint64_t disks;      /* us of these before memory began to go */
	uint64_t bytes, memory, rounds;
	uint64_t disk_bytes;
	unsigned throttled; /* percent at most */
	bool post_copy;
};

/* `spec` and what it points to must live as long. Keeps a reference to `v`. */
MigrateOut *migrate_out_new(Vmm *v, const struct migrate_out_spec *spec);
MigrateOut *migrate_out_free(MigrateOut *m);

/* Until the guest stands still: ready for migrate_out_switch(), or, without disks, WHOLE already. */
bool migrate_out_send(MigrateOut *m, GError **err);
/* True when memory is to follow the guest: its owner must change before migrate_out_switch(). */
bool migrate_out_is_post_copy(const MigrateOut *m);
bool migrate_out_switch(MigrateOut *m, GError **err);
/* With post-copy: until all memory is over there. An error means that the guest is damaged. */
bool migrate_out_follow(MigrateOut *m, GError **err);
/* Asks QEMU once more: not while a guest stands still for it. */
void migrate_out_stats(MigrateOut *m, struct migrate_stats *ret);

/*
 * Take the guest back, from any state and also when another daemon began it:
 * idempotent. `run`: it was running before. `node` as in the spec.
 */
bool migrate_out_revert(Vmm *v, const char *const *node, bool run, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MigrateOut, migrate_out_free)
