/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/sink.h"
#include "base/fd.h"
#include "engine/image/space.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK (UINT64_C(1) << 18)
/* How often the room on the disk is looked at again. */
#define LOOK_EVERY (UINT64_C(64) << 20)

#define N_HASHES 3

struct Sink {
	char *dir;
	int fd;
	uint64_t size, total;
	uint64_t room_until;  /* the size up to which there is known to be room */
	Hash *hash[N_HASHES]; /* by HashKind; NULL: not wanted */
	char *hex[N_HASHES];  /* once all came */
	const struct hooks *hooks;
};

static void update(Sink *s, const void *buf, size_t len)
{
	for (int i = 0; i < N_HASHES; i++)
		hash_update(s->hash[i], buf, len);
}

/* What an earlier run left. */
static bool rehash(Sink *s, GError **err)
{
	g_autofree uint8_t *buf = g_malloc(CHUNK);
	ssize_t n;

	while ((n = pread(s->fd, buf, CHUNK, (off_t)s->size)) > 0) {
		update(s, buf, (size_t)n);
		s->size += (uint64_t)n;
		if (!hooks_continue(s->hooks, err))
			return false;
	}
	s->room_until = s->size;
	return n == 0 || fail_errno(err, errno, "can't read what was fetched before");
}

Sink *sink_open(const struct sink_config *c, GError **err)
{
	g_autoptr(Sink) s = g_new0(Sink, 1);

	s->fd = -EBADF;
	s->dir = g_strdup(c->dir);
	s->hooks = c->hooks;
	for (int i = 0; i < N_HASHES; i++)
		if (i != HASH_SHA256 || c->sha256)
			s->hash[i] = hash_new((HashKind)i);
	/* It is read-only when it was finished before, but not noted as such. */
	(void)chmod(c->path, 0600);
	s->fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (c->resume ? 0 : O_TRUNC), 0600);
	if (s->fd < 0) {
		fail_errno(err, errno, "can't make '%s'", c->path);
		return NULL;
	}
	return rehash(s, err) ? g_steal_pointer(&s) : NULL;
}

Sink *sink_close(Sink *s)
{
	if (s != NULL) {
		fd_closep(&s->fd);
		for (int i = 0; i < N_HASHES; i++) {
			hash_free(s->hash[i]);
			g_free(s->hex[i]);
		}
		g_free(s->dir);
		g_free(s);
	}
	return NULL;
}

uint64_t sink_size(const Sink *s)
{
	return s->size;
}

static bool check_room(Sink *s, uint64_t more, GError **err)
{
	uint64_t room;

	if (s->size + more <= s->room_until)
		return true;
	if (!space_free(s->dir, &room, err))
		return false;
	if (room < more)
		return space_fail(s->dir, "the image", MAX(s->total, s->size + more) - s->size, err);
	s->room_until = s->size + MAX(more, MIN(room, LOOK_EVERY));
	return true;
}

bool sink_expect(Sink *s, uint64_t total, uint64_t need, GError **err)
{
	uint64_t room;

	s->total = total;
	if (need == 0)
		return true;
	return space_free(s->dir, &room, err) && (need <= room || space_fail(s->dir, "the image", need, err));
}

static bool is_zero(const uint8_t *buf, size_t len)
{
	return len > 0 && buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0;
}

static bool put(Sink *s, const uint8_t *buf, size_t len, GError **err)
{
	int r;

	if (is_zero(buf, len))
		return true;
	if (lseek(s->fd, (off_t)s->size, SEEK_SET) < 0)
		return fail_errno(err, errno, "can't write the image");
	r = fd_write_all(s->fd, buf, len);
	if (r == -ENOSPC || r == -EDQUOT)
		return space_fail(s->dir, "the image", s->total > s->size ? s->total - s->size : 0, err);
	return r == 0 || fail_errno(err, -r, "can't write the image");
}

bool sink_write(Sink *s, const void *buf, size_t len, GError **err)
{
	if (!hooks_continue(s->hooks, err) || !check_room(s, len, err) || !put(s, buf, len, err))
		return false;
	update(s, buf, len);
	s->size += len;
	hooks_progress(s->hooks, s->size, s->total);
	return true;
}

bool sink_restart(Sink *s, GError **err)
{
	if (ftruncate(s->fd, 0) < 0)
		return fail_errno(err, errno, "can't begin the image anew");
	s->size = s->total = s->room_until = 0;
	for (int i = 0; i < N_HASHES; i++)
		hash_reset(s->hash[i]);
	return true;
}

bool sink_finish(Sink *s, gid_t gid, GError **err)
{
	bool as_root = geteuid() == 0;

	if (ftruncate(s->fd, (off_t)s->size) < 0 || fsync(s->fd) < 0)
		return fail_errno(err, errno, "can't finish the image");
	if ((as_root && fchown(s->fd, 0, gid) < 0) || fchmod(s->fd, 0440) < 0)
		return fail_errno(err, errno, "can't hand over the image");
	for (int i = 0; i < N_HASHES; i++)
		s->hex[i] = hash_take_hex(s->hash[i]);
	return true;
}

const char *sink_hash(const Sink *s, HashKind kind)
{
	return s->hex[kind];
}

char *file_sha512(const char *path, const struct hooks *hooks, GError **err)
{
	g_autoptr(Hash) sum = hash_new(HASH_SHA512);
	g_autofree uint8_t *buf = g_malloc(CHUNK);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint64_t done = 0;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		fail_errno(err, errno, "can't open '%s'", path);
		return NULL;
	}
	while ((n = read(fd, buf, CHUNK)) > 0) {
		hash_update(sum, buf, (size_t)n);
		done += (uint64_t)n;
		hooks_progress(hooks, done, (uint64_t)st.st_size);
		if (!hooks_continue(hooks, err))
			return NULL;
	}
	if (n < 0) {
		fail_errno(err, errno, "can't read '%s'", path);
		return NULL;
	}
	return hash_take_hex(sum);
}
