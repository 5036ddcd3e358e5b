/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way to a file: what root walks before it gives the file to somebody.
 *
 * A path that a user may change is a promise of that user's: a link in it, or a
 * folder, can lead root to a file of somebody else. So the path is walked one
 * name at a time, each opened by the folder before it without following links,
 * and whoever owns a part of it is noted. The file that is found stays open:
 * what is decided is decided of it, and not of what its name means later.
 *
 * Who owns a part may replace it; root may anyway. So a way is trusted when
 * each part belongs to root, or to the one who owns the file: nobody can be
 * tricked then but by himself. In a folder that others write to as well, the
 * owner of what lies in it counts for it, as nobody makes a link, or a folder,
 * in another's name; only a second name of a file (a hard link) can be made by
 * others, so there the file may have but one.
 */
#pragma once

#include "base/err.h"

#include <sys/stat.h>

typedef struct Way {
	char *path; /* without links */
	int fd;     /* of the file: O_PATH */
	struct stat st;
	GArray *part; /* struct way_part: of the way to it */
} Way;

struct way_part {
	char *path;
	uid_t owner;
	bool is_link;
	bool is_open; /* a folder that more than its owner may write to */
};

/* ERR_NOT_FOUND, ERR_DENIED, ...: as the system says. `path` is absolute. */
bool way_walk(const char *path, Way *ret, GError **err);
void way_clear(Way *w);

/*
 * The first part, or of the links the first, that belongs neither to root nor to `owner`; NULL: there is
 * none. Borrowed.
 */
const struct way_part *way_stranger(const Way *w, uid_t owner, bool links_only);
/* The folder the file is in, when others may write there and the file has a second name; or NULL. Borrowed.
 */
const struct way_part *way_second_name(const Way *w);
bool way_has_links(const Way *w);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Way, way_clear)
