/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/space.h"
#include "base/str.h"

#include <errno.h>
#include <sys/statvfs.h>

#define RESERVE_MAX (UINT64_C(1) << 30)

bool space_free(const char *dir, uint64_t *ret, GError **err)
{
	struct statvfs fs;
	uint64_t avail, reserve;

	if (statvfs(dir, &fs) < 0)
		return fail_errno(err, errno, "can't see how full '%s' is", dir);
	avail = (uint64_t)fs.f_bavail * fs.f_frsize;
	reserve = MIN(RESERVE_MAX, (uint64_t)fs.f_blocks * fs.f_frsize / 20);
	*ret = avail > reserve ? avail - reserve : 0;
	return true;
}

bool space_fail(const char *dir, const char *what, uint64_t need, GError **err)
{
	g_autofree char *needs = print_size(need), *has = NULL;
	uint64_t room = 0;

	space_free(dir, &room, NULL);
	has = print_size(room);
	fail_advice(err, ERR_NO_SPACE,
		    "Delete images or volumes that nobody needs, or give the host more disk.",
		    "there is no room for %s in '%s': %s%s%s can be used", what, dir, need != 0 ? needs : "",
		    need != 0 ? " are needed, " : "", has);
	err_detail(err, "needed", need != 0 ? json_integer((json_int_t)MIN(need, INT64_MAX)) : json_null());
	return err_detail(err, "available", json_integer((json_int_t)room));
}
