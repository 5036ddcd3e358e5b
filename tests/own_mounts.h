/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that mount something of their own over a folder of the host. */
#pragma once

#include <glib.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <unistd.h>

/*
 * From now on the process has its own mounts, of which the host sees nothing.
 * False when it may not. In a chroot "/" is no mount most of the time and can't
 * be made private: then its tree is mounted once more, on /proc which can, and
 * becomes the root. `flags`: further namespaces, for unshare().
 */
static inline bool own_mounts(int flags)
{
	g_autofree char *cwd = g_get_current_dir();

	if (unshare(CLONE_NEWNS | flags) < 0)
		return false;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		return true;
	return mount(NULL, "/proc", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("/", "/proc", NULL, MS_BIND | MS_REC, NULL) == 0 &&
	       mount(NULL, "/proc", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && chroot("/proc") == 0 &&
	       chdir(cwd) == 0;
}
