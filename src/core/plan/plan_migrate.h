/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plans of a guest's move from one host to another. Pure. See plan_vm.h
 * for the rules of planners.
 *
 * There are two operations, one on each host. The source's, `vm.migrate`, has
 * the vm's lock:
 *
 *     MIGRATE_PREPARE  asks the other host to get ready, and promises it the guest or not; undone by
 *                      telling it to forget about it
 *     MIGRATE_SEND     copies disks and memory, stops the guest, changes its owner in the store if it
 *                      is not promised, and asks the other host what became of it
 *     QEMU_QUIT, ...   what a stop takes down
 *     MIGRATE_LEAVE    removes what the guest took along
 *
 * The destination's, `vm.receive`, has no lock until the records say that the guest is its own:
 *
 *     RUN_DIR_MAKE, ...  as for a start, with empty volumes for the disks that are copied
 *     QEMU_SPAWN         a QEMU that waits for its guest
 *     RECEIVE_OPEN       opens the ways in
 *     RECEIVE_GUEST      waits until the guest is there and the store says that it is ours, or makes
 *                        it ours when it was promised and runs
 *
 * The owner is the member `host` of the runtime record. A guest that takes no disk
 * along and does not use post-copy is promised before it is sent (engine/promise.h):
 * the destination lets it run when it has all of it, and changes the owner then.
 * Of others the owner is changed in one transaction while the guest stands still,
 * and what is left of it goes over; the destination lets it run when it owns it and
 * has all of it. What fails before all was sent, or before the change, is undone on
 * both hosts. After it the destination goes on, or ends its QEMU for good, and
 * then the source takes the guest back; a daemon that comes back reads in the store
 * how far it was.
 */
#pragma once

#include "core/migrate/policy.h"
#include "core/plan/plan_vm.h"

struct plan_migrate {
	const char *host_id, *host_name; /* where to */
	const char *address;             /* of that host, numeric */
	const struct migrate_settings *settings;
};

/* ERR_BAD_STATE, ERR_BUSY; ERR_INVALID for a move to where it is. */
Operation *plan_vm_migrate(const PlanRequest *req, const VmSeen *seen, const struct plan_migrate *to,
			   GError **err);

/* A disk of the guest that comes. */
struct plan_receive_disk {
	const char *name;
	const char *path;    /* on this host; a volume's that is made, or one that both hosts see */
	const char *backing; /* what it is an overlay of, as its header must say; NULL: nothing */
	bool copied;         /* it is made empty, and filled by the other host */
	const char *volume;  /* NULL: a file of the user's own */
	const char *format;
	uint64_t size;
};

struct plan_receive {
	const char *operation; /* the source's */
	const char *source_id; /* host */
	const char *address;   /* of this host, for QEMU to listen on */
	const char *key_dir;   /* migrate_key_write() */
	const char *machine;   /* versioned, of the guest */
	const Json *applied;   /* what it was started with */
	uint64_t memory;       /* what it has now, when that may change; 0: what it was started with */
	bool run;              /* it runs; else it stands still over there as well */
	bool post_copy;
	bool shared_dir;                      /* both hosts see the vm's folder */
	const struct plan_receive_disk *disk; /* in the order of vm->disk */
	size_t n_disks;
};

/*
 * `vm` is the configuration that the guest was started with. *ret_applied is
 * the record that becomes the vm's when the guest is here. ERR_UNSUPPORTED
 * when this host can't give it the hardware that it has, ERR_INVALID when the
 * disks are not vm->disk.
 */
Operation *plan_vm_receive(const PlanRequest *req, const Vm *vm, const struct plan_receive *from,
			   Json **ret_applied, GError **err);

/* The block node of a disk. Caller frees. */
char *migrate_node(const char *disk);
