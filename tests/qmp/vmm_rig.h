/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder, a loop and command lines for tests of real QEMU processes. The
 * guest is the project's payload; without QEMU the tests are skipped.
 */
#pragma once

#include "engine/vmm.h"

typedef struct VmmRig {
	Loop *loop;
	VmmHost *host;
	char *dir; /* removed at the end */
	/* what the handler was told */
	unsigned n_exited, n_monitor, n_agent;
	bool connected; /* the last */
	VmmExit exit;
	GString *events; /* names, each followed by a blank */
	unsigned n_events;
} VmmRig;

/* Skips the test and returns false when there is no QEMU. */
bool vmm_rig_init(VmmRig *r);
void vmm_rig_done(VmmRig *r);

extern const VmmHandler vmm_rig_handler;

/* A vm of the rig: its names, folder and command line. */
typedef struct RigVm {
	VmmRig *rig;
	char *name, *uuid, *dir, *log_path;
	GPtrArray *argv;
	uint64_t timeout;
	/* results of rig_vm_launch() and rig_vm_adopt() */
	Vmm *vmm;
	GError *error;
} RigVm;

/* A payload guest with this kernel command line. */
void rig_vm_init(RigVm *v, VmmRig *r, const char *name, const char *append);
/* tests/qmp/fake_qemu.c in this mode, in place of QEMU. */
void rig_vm_init_fake(RigVm *v, VmmRig *r, const char *name, const char *mode);
void rig_vm_add(RigVm *v, const char *arg);
void rig_vm_add_pair(RigVm *v, const char *option, const char *value);
/* Kills what still runs and waits for it. */
void rig_vm_done(RigVm *v);

/* In a worker, while the loop turns; vmm or error is set. */
void rig_vm_launch(RigVm *v);
/* Fails the test when it does not start. */
void rig_vm_must_launch(RigVm *v);
/* `record` NULL: by the pid file. */
void rig_vm_adopt(RigVm *v, const Json *record);
void rig_vm_quit(RigVm *v, uint64_t timeout, GError **err);
/* One QMP command that must work. */
void rig_vm_command(RigVm *v, const char *command);
/* Turns the loop until the handler heard of the end. */
void rig_vm_wait_exited(RigVm *v);
