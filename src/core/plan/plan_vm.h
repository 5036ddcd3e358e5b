/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plans of a vm's life: from a request and records to an operation. Pure.
 *
 * Each function checks what the records allow (ERR_BAD_STATE, ERR_BUSY,
 * ERR_CONFLICT, with advice), and returns an operation that is ready for
 * exec_submit(). A vm is locked by its runtime record: the beginning of every
 * operation names itself there, its end takes the name out.
 */
#pragma once

#include "core/guest/host_facts.h"
#include "core/guest/pin.h"
#include "core/model/operation.h"
#include "core/model/vm.h"
#include "core/model/vm_exit.h"
#include "core/model/volume.h"

typedef struct PlanRequest {
	const char *op_id, *now, *user;
	const HostFacts *host;
	const CpuOffer *cpu; /* of the host, for plans that start a guest; NULL: its CPU is not levelled */
} PlanRequest;

/* A vm's records as they were read, with their revisions. */
typedef struct VmSeen {
	const Vm *vm;
	int64_t config_rev;
	const Json *runtime;
	int64_t runtime_rev;
	const Json
	    *applied; /* what the last start left: {config, arguments, cleanup}; NULL when there was none */
	/* Its volumes, in the order of vm->disk; NULL for disks with a path. Empty where a plan does not need
	 * them. */
	GPtrArray *volume;
} VmSeen;

/* A volume that a plan makes, or gives to a vm. */
typedef struct VolumeWish {
	Volume *volume;            /* complete; status is set by the plan */
	int64_t attach_rev;        /* 0: it is new; else it exists with this revision and becomes the vm's */
	const char *image_path;    /* NULL unless it is an overlay */
	const char *clone_of;      /* path to copy from, or NULL */
	const char *clone_backing; /* the image that clone_of is an overlay of, or NULL */
	Json *backup;              /* backup_sources() of what it is restored from, or NULL */
	const char
	    *image_key; /* the image's key and revision, so that it can't be deleted meanwhile; or NULL */
	int64_t image_rev;
} VolumeWish;

/*
 * `vm` is complete (id, MACs, volumes' ids in its disks); `wish` are VolumeWish.
 * The vm's name must be free: the beginning conflicts when it is taken.
 */
Operation *plan_vm_create(const PlanRequest *req, const Vm *vm, GPtrArray *wish);
/* The same as create, with the kind and the state check of a clone of `src`. */
Operation *plan_vm_clone(const PlanRequest *req, const VmSeen *src, const Vm *vm, GPtrArray *wish,
			 GError **err);
/* Removes volumes too unless keep_disks; those become free volumes. */
Operation *plan_vm_delete(const PlanRequest *req, const VmSeen *seen, bool keep_disks, GError **err);

/* Applies the profile; the arguments of QEMU are in the plan. */
Operation *plan_vm_start(const PlanRequest *req, const VmSeen *seen, GError **err);
/* The same, but what a suspended guest was doing is thrown away. */
Operation *plan_vm_start_cold(const PlanRequest *req, const VmSeen *seen, GError **err);
/*
 * To disk: the guest's state goes into a file, and its QEMU ends. plan_vm_start() takes it up again, with the
 * hardware and the CPU that it had: ERR_UNSUPPORTED, with names, where this host can't give it these.
 */
Operation *plan_vm_suspend(const PlanRequest *req, const VmSeen *seen, GError **err);
/*
 * End QEMU and start another in its place, as a start would now: for a guest
 * that reboots and shall get the pool's CPU level of today.
 */
Operation *plan_vm_relevel(const PlanRequest *req, const VmSeen *seen, GError **err);
/*
 * Ask the guest to shut down, wait `timeout` us; then ERR_TIMEOUT, or with
 * `force` end QEMU.
 */
Operation *plan_vm_stop(const PlanRequest *req, const VmSeen *seen, uint64_t timeout, bool force,
			GError **err);
Operation *plan_vm_kill(const PlanRequest *req, const VmSeen *seen, GError **err);
/* After QEMU ended by itself: take down what stood around it, and record how it ended. */
Operation *plan_vm_cleanup(const PlanRequest *req, const VmSeen *seen, const VmVerdict *verdict,
			   const Json *exit, GError **err);
Operation *plan_vm_pause(const PlanRequest *req, const VmSeen *seen, GError **err);
Operation *plan_vm_resume(const PlanRequest *req, const VmSeen *seen, GError **err);
Operation *plan_vm_reset(const PlanRequest *req, const VmSeen *seen, GError **err);
/* Through the agent, else the power button is no way: ERR_AGENT, or a reset with `force`. */
Operation *plan_vm_reboot(const PlanRequest *req, const VmSeen *seen, uint64_t timeout, bool force,
			  GError **err);

Operation *plan_volume_create(const PlanRequest *req, const VolumeWish *wish);
/* ERR_CONFLICT while a vm has it. */
Operation *plan_volume_delete(const PlanRequest *req, const Volume *v, int64_t rev, GError **err);

/* A volume as it was read, and how large it shall be. */
typedef struct VolumeGrowth {
	const Volume *volume;
	int64_t rev;
	const char *backing; /* path of the image that it is an overlay of, or NULL */
	const VmSeen *seen;  /* whose disk it is, or NULL */
	uint64_t size;       /* bytes; rounded up to 512 */
} VolumeGrowth;

/* ERR_INVALID for a smaller size, ERR_BAD_STATE while its vm runs. The same size is fine. */
Operation *plan_volume_grow(const PlanRequest *req, const VolumeGrowth *g, GError **err);

/*
 * The same for a disk of g->seen, which may run: then QEMU grows it, and with
 * `guest` the guest is asked to fill it. The result is {disk, before, after,
 * guest: see engine/guest_grow.h}.
 */
Operation *plan_vm_disk_grow(const PlanRequest *req, const VolumeGrowth *g, const VmDisk *d, bool guest,
			     GError **err);

/*
 * `is` is the vm with one disk more, its last; `wish` the volume of that disk,
 * NULL when it has a path. A running guest gets it at its next start.
 */
Operation *plan_vm_disk_add(const PlanRequest *req, const VmSeen *seen, const Vm *is, const VolumeWish *wish,
			    GError **err);
/* `d` of seen->vm; `v` its volume or NULL. ERR_BAD_STATE for a volume that the running guest uses. */
Operation *plan_vm_disk_remove(const PlanRequest *req, const VmSeen *seen, const VmDisk *d, const Volume *v,
			       bool delete_volume, GError **err);
/* What is to be put into the CD drive. */
typedef struct CdWish {
	const VmCd *cd;
	const char *image_key; /* of cd->image_id, with its revision, so that it can't be deleted meanwhile;
				  or NULL */
	int64_t image_rev;
	bool force; /* take out what is in it also when the guest has locked it */
} CdWish;

/*
 * A running guest has it at once, and keeps it over its starts until it is
 * ejected; what was in the drive is taken out first. ERR_UNSUPPORTED for a
 * running guest that has no drive and takes none while it runs.
 */
Operation *plan_vm_cd_insert(const PlanRequest *req, const VmSeen *seen, const CdWish *wish, GError **err);
/*
 * The medium goes, and the drive with it unless the guest has had it since its
 * start. A guest that uses it is asked, and after a while it is ERR_BUSY; with
 * `force` it is not asked. ERR_BAD_STATE when none is inserted.
 */
Operation *plan_vm_cd_eject(const PlanRequest *req, const VmSeen *seen, bool force, GError **err);

/* The running QEMU was started with this disk's volume. */
bool vm_disk_in_use(const VmSeen *seen, const VmDisk *d);
