/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine without QEMU: a table of steps that change a simulated world.
 *
 * The world is a JSON file, so that it outlives a killed process as taps,
 * files and QEMU processes do: an object whose members are the resources that
 * exist ("qemu:ID", "volume:ID"). What steps shall do is told in a second
 * file, read before each step, all members optional:
 *
 *   {"fail": {"QEMU_SPAWN": "no more memory"},   fail before any effect
 *    "fail_after": {"QEMU_SPAWN": "..."},        fail with the effect left behind
 *    "delay_ms": {"QEMU_SPAWN": 50},
 *    "kill_at": 3,                               _exit(9) at the n-th kill point (from 1)
 *    "no_accel": "the module is gone",           from the next probe on no accelerator works
 *    "cpu": {"tcg": {"without": ["avx2"]}}}      from the next probe on guests under it have other CPUs:
 *                                                also with, vendor, family, model, stepping, level,
 *                                                xlevel, phys_bits; "fail": "too busy": none
 *                                                is found; "kvm": KVM works too
 *
 * The step that was delayed last is named in the file ORDERS.delayed, from the
 * beginning of its delay. There is a kill point before and one after the effect of every step and of
 * every undoing. API, command line and crash tests run on it.
 */
#pragma once

#include "core/guest/host_facts.h"
#include "engine/exec.h"
#include "engine/probe_cpu.h"

typedef struct Sim Sim;

/* Both files may be absent. Neither path may be NULL. */
Sim *sim_open(const char *world_path, const char *orders_path);
Sim *sim_close(Sim *s);

/* Indexed by StepKind; `engine` of the executor must be the Sim. */
extern const struct step_impl sim_steps[_STEP_MAX];

/* What the simulated host is. Without id, name, accel_wanted and folders, as host_probe(). Never NULL. */
HostFacts *sim_facts(void);
/* The same as a probe finds it, with what was ordered. */
HostFacts *sim_probe(Sim *s);

/* The CPU of its guests, with what was ordered. */
void sim_cpu(Sim *s, Accel accel, CpuFound *ret);

/* The resources that exist, sorted, one a line. Caller frees. */
char *sim_print(Sim *s);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sim, sim_close)
