/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the probe:
 *   probe.c        what can be seen: files, devices, the processor
 *   probe_qemu.c   what QEMU says of itself
 *   probe_accel.c  which accelerators work
 *   probe_cpu.c    which CPU features guests can have under each of them
 */
#pragma once

#include "engine/probe.h"
#include "engine/spawn.h"

typedef struct Probe {
	HostFacts *facts; /* filled as we go */
	const Folders *folders;
	Store *local;
	const SpawnUser *user; /* whom QEMU runs as; NULL: ourselves */
	bool fresh;
	bool unsure; /* an accelerator was given up before anything was seen: not worth keeping */
} Probe;

/* Version and machine types of facts->qemu. ERR_QEMU with what went wrong. */
bool probe_qemu(Probe *p, GError **err);
/*
 * One conversation with a QEMU whose -M is `machine` ("none,accel=kvm"):
 * `question` is lines of QMP commands, between the greeting and `quit`. What it
 * said, a JSON text a line. ERR_QEMU when it does not answer.
 */
bool probe_ask(const Probe *p, const char *machine, const char *question, GString *ret_text, GError **err);
/* Path, size and time of QEMU's file: it is another QEMU when they change. Caller frees. */
char *probe_qemu_file(const Probe *p);
/* Fills facts->accel. Fails on nothing: what goes wrong is the reason why an accelerator does not work. */
void probe_accel(Probe *p);
