/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a process that may outlive us, with as few rights as it needs.
 *
 * The child is made with vfork(): it costs the same however much memory the
 * daemon holds (fork() copies page tables, and the daemon then faults on every
 * page it touches). Until its execve() the child shares our memory, so it
 * makes plain system calls only and writes nothing but its own stack.
 *
 * While a child that has another user already shares our memory, nobody of
 * that user may trace it: the kernel ensures that by making the memory not
 * dumpable (prctl(2), PR_SET_DUMPABLE) when the user changes. It stays so: a
 * daemon that starts processes of another user leaves no core files, on purpose.
 *
 * May be called from any thread. SIGCHLD must not be ignored.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

#define SPAWN_GROUPS_MAX 4

typedef struct SpawnUser {
	uid_t uid;
	gid_t gid;
	gid_t group[SPAWN_GROUPS_MAX]; /* supplementary */
	size_t n_group;
} SpawnUser;

/*
 * The user of that name, in its own group and in those named that exist. False
 * when there is no such user. While there is one thread only: getpwnam(3).
 */
bool spawn_user_find(const char *name, const char *const *groups, SpawnUser *ret);

struct spawn {
	const char *const *argv; /* argv[0] is the program's path */
	const char *const *envp; /* NULL: PATH and LC_ALL=C only */
	const int *keep;         /* descriptors that the child inherits, by the same numbers, all above 2 */
	size_t n_keep;
	int output;            /* its stdout and stderr; stdin is /dev/null */
	const char *pid_path;  /* NULL, or a file for its process id, written before the program begins */
	const SpawnUser *user; /* NULL: ours */
	uint64_t max_files;    /* RLIMIT_NOFILE; at most our hard limit unless we may raise it */
	bool ends_with_us; /* killed when the calling thread ends, however that comes; else it outlives us */
};

/*
 * The child leads a session of its own in "/", has no capability and can't get
 * one (no_new_privs), leaves no core file, and inherits no other descriptor,
 * signal handler or signal mask. Fails with what went wrong in the child, the
 * execve() included (ERR_NOT_FOUND: no such program). *ret_pidfd is the
 * caller's, close-on-exec; the child is to be reaped with it (waitid(2), P_PIDFD).
 */
bool spawn_process(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, GError **err);

/* waitid() on a pidfd. False while it runs. ECHILD (not our child) counts as ended without a status. */
struct process_end {
	bool known; /* whether code and signal mean anything */
	int code;   /* exit status */
	int signal; /* that killed it, or 0 */
};
bool process_ended(int pidfd, struct process_end *ret);

/* When the process began, in the kernel's ticks (proc(5), stat field 22). ERR_GONE when there is none. */
bool process_start_time(pid_t pid, uint64_t *ret, GError **err);

/* 0 or -errno. */
int pidfd_signal(int pidfd, int signo);
/* The descriptor or -errno. */
int pidfd_of(pid_t pid);
