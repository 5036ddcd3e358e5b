/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/fetch.h"
#include "base/fd.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK (256 * 1024)

static bool has_scheme(const char *source)
{
	return strstr(source, "://") != NULL;
}

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
	char *text = NULL, *copy;

	if (curl_url_get(u, part, &text, flags) != CURLUE_OK)
		return NULL;
	copy = g_strdup(text);
	curl_free(text);
	return copy;
}

static CURLU *url_parse(const char *source)
{
	CURLU *u = curl_url();

	if (u != NULL && curl_url_set(u, CURLUPART_URL, source, 0) == CURLUE_OK)
		return u;
	curl_url_cleanup(u);
	return NULL;
}

char *fetch_shown(const char *source)
{
	CURLU *u = has_scheme(source) ? url_parse(source) : NULL;
	char *shown = NULL;

	if (u != NULL) {
		curl_url_set(u, CURLUPART_USER, NULL, 0);
		curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
		shown = url_part(u, CURLUPART_URL, 0);
		curl_url_cleanup(u);
	}
	return shown != NULL ? shown : g_utf8_make_valid(source, -1);
}

static bool fail_scheme(const char *source, GError **err)
{
	g_autofree char *shown = fetch_shown(source);

	return fail_advice(err, ERR_INVALID,
			   "Give an absolute path, or a URL that begins with http://, https:// or file://.",
			   "an image can't be imported from '%s'", shown);
}

static bool path_of_url(const char *source, char **ret_path, GError **err)
{
	CURLU *u = url_parse(source);
	g_autofree char *host = NULL, *path = NULL;

	if (u != NULL) {
		host = url_part(u, CURLUPART_HOST, 0);
		path = url_part(u, CURLUPART_PATH, CURLU_URLDECODE);
		curl_url_cleanup(u);
	}
	if (path == NULL || !g_path_is_absolute(path) ||
	    (host != NULL && *host != '\0' && !g_str_equal(host, "localhost")))
		return fail_scheme(source, err);
	*ret_path = g_steal_pointer(&path);
	return true;
}

bool fetch_check(const char *source, GError **err)
{
	g_autofree char *path = NULL;
	CURLU *u;

	if (!has_scheme(source))
		return g_path_is_absolute(source) || fail_scheme(source, err);
	if (g_ascii_strncasecmp(source, "file://", 7) == 0)
		return path_of_url(source, &path, err);
	if (g_ascii_strncasecmp(source, "http://", 7) != 0 && g_ascii_strncasecmp(source, "https://", 8) != 0)
		return fail_scheme(source, err);
	u = url_parse(source);
	if (u == NULL)
		return fail_scheme(source, err);
	curl_url_cleanup(u);
	return true;
}

bool fetch_is_local(const char *source, char **ret_path, GError **err)
{
	if (!has_scheme(source)) {
		*ret_path = g_strdup(source);
		return true;
	}
	return g_ascii_strncasecmp(source, "file://", 7) == 0 && path_of_url(source, ret_path, err);
}

/* Local files */

static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	case S_IFBLK:
	case S_IFCHR:
		return "a device";
	default:
		return "no file";
	}
}

/* Looked at before it is opened, for to open a device or a pipe is to do something. */
static int open_regular(const char *path, struct stat *ret_st, GError **err)
{
	_cleanup_close_ int peek = open(path, O_PATH | O_CLOEXEC);
	g_autofree char *again = NULL;
	int fd;

	if (peek < 0 || fstat(peek, ret_st) < 0) {
		fail_errno(err, errno, "can't open '%s'", path);
		err_advise(err, "Give the path of a disk image that exists on the host that imports it.");
		return -1;
	}
	if (!S_ISREG(ret_st->st_mode)) {
		fail_advice(
		    err, ERR_INVALID,
		    "Give the path of a disk image; copy a device into a file with `qemu-img convert` first.",
		    "'%s' is %s, not a disk image", path, kind_of(ret_st->st_mode));
		return -1;
	}
	again = g_strdup_printf("/proc/self/fd/%d", peek);
	fd = open(again, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		fail_errno(err, errno, "can't read '%s'", path);
		err_advise(err, "Let the daemon's user read it.");
	}
	return fd;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool fetch_file(const char *path, Sink *s, GError **err)
{
	struct stat before, after;
	_cleanup_close_ int fd = open_regular(path, &before, err);
	g_autofree char *buf = g_malloc(CHUNK);
	ssize_t n;

	if (fd < 0)
		return false;
	if (before.st_size == 0)
		return fail_advice(err, ERR_INVALID, "Fetch it again.", "'%s' is empty", path);
	/* Holes need no room here either. */
	if (!sink_restart(s, err) ||
	    !sink_expect(s, (uint64_t)before.st_size,
			 MIN((uint64_t)before.st_size, (uint64_t)before.st_blocks * 512), err))
		return false;
	while ((n = read(fd, buf, CHUNK)) > 0)
		if (!sink_write(s, buf, (size_t)n, err))
			return false;
	if (n < 0 || fstat(fd, &after) < 0)
		return fail_errno(err, errno, "can't read '%s'", path);
	if (!same_file(&before, &after))
		return fail_advice(err, ERR_CONFLICT, "Import it when nobody writes to it any more.",
				   "'%s' changed while it was read", path);
	return true;
}
