/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending end of a migration.
 *
 * States, and who moves it on:
 *     RUNNING   the guest runs here; disks, then memory, are copied      migrate_out_send()
 *     STOPPED   the guest stands still; what is left can go over         migrate_out_release()
 *     LEAVING   what is left goes over                                   migrate_out_wait()
 *     GONE      all of it was sent; the other end has it, or can't have it any more
 * While the owner in the store is this host, and the guest is not promised
 * (promise.h), migrate_out_revert() leads back from everywhere: the guest runs here
 * as before. After that only the proof that it will not run over there allows it.
 *
 * There are two proofs. The other host says that it ended its QEMU; or QEMU here
 * says that sending failed (migrate_out_gave_up()). The second holds because the
 * last byte of the stream is the mark of its end (migrate_end_plainly()) and there
 * is no return path: a write that failed did not take all its bytes, so the other
 * end, which needs each of them, can't have all of the guest. And when the other
 * end has it, no write is left that could fail, and this QEMU does not let the
 * guest go on by itself. Nobody cancels the migration after the owner changed, or
 * after the guest was promised (promise.h): QEMU lets a guest go on whose migration
 * was cancelled, and the last byte may have gone a moment before. What is promised is
 * broken off instead: its connection is shut, and then the second proof holds or
 * all of it was sent.
 *
 * With post-copy there is a return path, and STOPPED is the last state from which
 * there is a way back; migrate_out_release() may be called only when the owner was
 * changed; the guest runs over there while its memory follows
 * (migrate_out_follow()). A migration that might have used it but came through
 * without is GONE before the owner changes. Worker threads.
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
	uint64_t total;      /* us from the first step to migrate_out_stats() */
	uint64_t disks;      /* us of these before memory began to go */
	uint64_t bytes, memory, rounds;
	uint64_t disk_bytes;
	unsigned throttled; /* percent at most */
	bool post_copy;
};

/* `spec` and what it points to must live as long. Keeps a reference to `v`. */
MigrateOut *migrate_out_new(Vmm *v, const struct migrate_out_spec *spec);
MigrateOut *migrate_out_free(MigrateOut *m);

/* Until the guest stands still. */
bool migrate_out_send(MigrateOut *m, GError **err);
/* True when memory is to follow the guest: its owner must change before migrate_out_release(). */
bool migrate_out_is_post_copy(const MigrateOut *m);
/* True when it could have been post-copy: its owner may change only after migrate_out_wait(). */
bool migrate_out_is_confirmed(const MigrateOut *m);
/* Have what is left go over; does not wait for it. */
bool migrate_out_release(MigrateOut *m, GError **err);
/* Until it is GONE; with post-copy until the guest can run over there. */
bool migrate_out_wait(MigrateOut *m, GError **err);
/* With post-copy: until all memory is over there. An error means that the guest is damaged. */
bool migrate_out_follow(MigrateOut *m, GError **err);
/* The proof of above, also when another daemon began it. False when it can't be said. */
bool migrate_out_gave_up(Vmm *v);
/* Asks QEMU once more: not while a guest stands still for it. */
void migrate_out_stats(MigrateOut *m, struct migrate_stats *ret);

/*
 * Take the guest back, from any state and also when another daemon began it:
 * idempotent. `run`: it was running before. `node` as in the spec. Not of one that is
 * promised, unless migrate_out_break() has said that not all of it was sent, or
 * the other host that it never ran there.
 */
bool migrate_out_revert(Vmm *v, const char *const *node, bool run, GError **err);
/*
 * Have the migration of a promised guest end. *ret_all_sent: all of it went over, or may have, if this
 * QEMU can't be asked; else the other end never has it. ERR_TIMEOUT: it does not end. Idempotent.
 */
bool migrate_out_break(Vmm *v, bool *ret_all_sent, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MigrateOut, migrate_out_free)
