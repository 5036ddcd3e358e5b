/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/as_user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *const qemu_user_groups[] = { "kvm", NULL };

/* The identity of the thread before. */
struct identity {
	bool changed;
	gid_t *group;
	int n_group;
};

/* Raw: glibc's setgroups() changes all threads. */
static int thread_groups(size_t n, const gid_t *group)
{
	return syscall(SYS_setgroups, n, group) < 0 ? -errno : 0;
}

/*
 * A user id for files other than 0 also takes the capabilities that pass file
 * permissions, and 0 gives them back (capabilities(7)); that is why groups go first.
 */
static int identity_take(const SpawnUser *u, struct identity *before)
{
	int r;

	*before = (struct identity){ 0 };
	if (geteuid() == u->uid)
		return 0;
	before->n_group = getgroups(0, NULL);
	before->group = g_new(gid_t, (gsize)MAX(before->n_group, 1));
	if (before->n_group < 0 || getgroups(before->n_group, before->group) != before->n_group)
		return -errno;
	r = thread_groups(u->n_group, u->group);
	if (r < 0)
		return r;
	before->changed = true;
	setfsgid(u->gid);
	setfsuid(u->uid);
	return 0;
}

/* It was ours before: neither the kernel nor a rule of the host can refuse it. */
static void identity_give_back(struct identity *before)
{
	if (before->changed) {
		setfsuid(geteuid());
		setfsgid(getegid());
		g_assert(thread_groups((size_t)before->n_group, before->group) == 0);
		g_assert((uid_t)setfsuid((uid_t)-1) == geteuid());
	}
	g_free(before->group);
}

/* AT_EACCESS: by the identity for files rather than by the real user, who is root. */
static int access_now(const char *path, int mode)
{
	return faccessat(AT_FDCWD, path, mode, AT_EACCESS) < 0 ? -errno : 0;
}

int as_user_access(const SpawnUser *u, const char *path, int mode)
{
	struct identity before;
	int r = identity_take(u, &before);

	if (r == 0)
		r = access_now(path, mode);
	identity_give_back(&before);
	return r;
}

char *as_user_barrier(const SpawnUser *u, const char *path)
{
	const char *slash = strchr(path, '/');

	for (; slash != NULL; slash = strchr(slash + 1, '/')) {
		g_autofree char *dir =
		    slash == path ? g_strdup("/") : g_strndup(path, (size_t)(slash - path));

		if (as_user_access(u, dir, X_OK) == -EACCES)
			return g_steal_pointer(&dir);
	}
	return NULL;
}
