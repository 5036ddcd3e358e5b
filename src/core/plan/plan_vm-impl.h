/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the planners of vms; nobody else includes it. */
#pragma once

#include "core/model/vm_state.h"
#include "core/plan/plan_vm.h"

/* plan_vm_create() as an operation of another kind. */
Operation *plan_vm_make(const PlanRequest *req, const char *kind, const Vm *vm, GPtrArray *wish);
/* An operation on `vm` without lock or steps. */
Operation *vm_operation_new(const PlanRequest *req, const char *kind, const Vm *vm);
/* The same, checked against the vm's state and holding its lock. NULL when it is not allowed. */
Operation *vm_operation_begin(const PlanRequest *req, const char *kind, const VmSeen *seen, VmAction action,
			      GError **err);
/* The end unlocks the vm; when the operation is done, `members` (taken; may be NULL) go into its runtime
 * record. */
void vm_operation_end(Operation *op, const Vm *vm, Json *members);
/* Only the second half of it: the lock goes when the operation failed. */
void vm_unlock_on_failure(Operation *op, const Vm *vm);
/* The steps that the start left, which take down what it built around QEMU. */
bool vm_add_cleanup(Operation *op, const VmSeen *seen, GError **err);
/* What the runtime record of a vm says that has ended. New reference. */
Json *vm_stopped_members(const PlanRequest *req, const char *state, const char *reason, const Json *exit);
/* {vm, name}: what every step of a vm carries. */
Json *vm_args(const Vm *vm);
/* vm_args() and where its saved state is. New reference. */
Json *vm_state_args(const PlanRequest *req, const Vm *vm);

/* The lock of a vm: its runtime record names the operation from the beginning to the end. */
void operation_lock_vm(Operation *op, const VmSeen *seen);

/* A new volume; its record stands from the beginning, so that an image it needs can't go away. */
void operation_make_volume(Operation *op, const VolumeWish *wish);
/* A volume that exists becomes the vm's; if the operation fails it is free again. */
void operation_attach_volume(Operation *op, const Vm *vm, const VolumeWish *wish);
/* In the end the volume is nobody's, or no more. */
void operation_free_volume(Operation *op, const Volume *v);
void operation_delete_volume(Operation *op, const Volume *v);
