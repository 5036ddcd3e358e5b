/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real members of etcd that a test kills, stops, cuts off and brings back.
 *
 * One member listens on the loopback. Several have a network namespace each, on a
 * bridge in the test's own namespace (rig_main_begin()), so that a network can be
 * cut between them and stay whole towards the test; that needs root.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { RIG_MAX = 3 };

typedef struct Rig {
	int n;
	char *dir, *url;         /* of all members, for store_open() behind "etcd:" */
	const char *const *more; /* arguments for etcd */
	struct {
		pid_t pid; /* 0: does not run */
		char *ip;
		int client, peer; /* ports */
	} m[RIG_MAX];
} Rig;

/* First in main(): a network namespace for all that follows. False where that is not allowed. */
bool rig_main_begin(void);

/* False, with the test skipped, where it can't be; else all members run and answer. */
bool rig_up(Rig *r, int n, const char *const *more);
void rig_down(Rig *r);

void rig_start(Rig *r, int i);
/* SIGKILL, and gone when it returns. */
void rig_kill(Rig *r, int i);
void rig_signal(Rig *r, int i, int signo);
/* The other members are out of its reach, and it out of theirs; the test is not. */
void rig_cut(Rig *r, int i);
void rig_join(Rig *r, int i);
/* Which one leads; waits for one. Only those that run are asked. */
int rig_leader(Rig *r);
/* Waits until that member answers a read that needs the others. */
void rig_wait(Rig *r, int i);
/* The folder of its data. Caller frees. */
char *rig_data(const Rig *r, int i);

/*
 * A TCP proxy before member 0 that loses answers: `lose` of 100 requests are
 * carried out and not answered, another `lose` are not even carried out. Listens on
 * the port that is returned, until the process ends.
 */
int rig_lossy_proxy(const Rig *r, int lose);
