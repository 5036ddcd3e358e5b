/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/console_ring.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAGIC "PLMRING1"

struct header {
	char magic[8];
	uint64_t size, written;
	uint64_t zero[5];
};

#define FILE_SIZE (sizeof(struct header) + CONSOLE_RING_SIZE)

struct ConsoleRing {
	struct header *head;
	char *data;
};

static bool is_ring(int fd)
{
	struct header h;
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == (off_t)FILE_SIZE &&
	       pread(fd, &h, sizeof h, 0) == sizeof h && memcmp(h.magic, MAGIC, sizeof h.magic) == 0 &&
	       h.size == CONSOLE_RING_SIZE;
}

/* All of it is allocated now: a page that can't be when it is touched would be a SIGBUS. */
static bool make_ring(int fd, const char *path, GError **err)
{
	struct header h = { .magic = MAGIC, .size = CONSOLE_RING_SIZE };
	int r;

	if (ftruncate(fd, 0) < 0)
		return fail_errno(err, errno, "can't empty '%s'", path);
	r = posix_fallocate(fd, 0, FILE_SIZE);
	if (r != 0)
		return fail_errno(err, r, "can't make '%s'", path);
	return pwrite(fd, &h, sizeof h, 0) == sizeof h || fail_errno(err, errno, "can't write '%s'", path);
}

ConsoleRing *console_ring_open(const char *path, GError **err)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	ConsoleRing *r;
	void *map;

	if (fd < 0) {
		fail_errno(err, errno, "can't open '%s'", path);
		return NULL;
	}
	if (!is_ring(fd) && !make_ring(fd, path, err))
		return NULL;
	map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		fail_errno(err, errno, "can't map '%s'", path);
		return NULL;
	}
	r = g_new(ConsoleRing, 1);
	*r = (ConsoleRing){ .head = map, .data = (char *)map + sizeof(struct header) };
	return r;
}

ConsoleRing *console_ring_close(ConsoleRing *r)
{
	if (r != NULL) {
		munmap(r->head, FILE_SIZE);
		g_free(r);
	}
	return NULL;
}

uint64_t console_ring_end(const ConsoleRing *r)
{
	return r->head->written;
}

uint64_t console_ring_begin(const ConsoleRing *r)
{
	return r->head->written > CONSOLE_RING_SIZE ? r->head->written - CONSOLE_RING_SIZE : 0;
}

void console_ring_write(ConsoleRing *r, const void *bytes, size_t len)
{
	const char *from = bytes;
	uint64_t end = r->head->written;

	for (size_t left = len; left > 0;) {
		uint64_t at = end % CONSOLE_RING_SIZE;
		size_t n = MIN(left, CONSOLE_RING_SIZE - at);

		memcpy(r->data + at, from, n);
		from += n;
		end += n;
		left -= n;
	}
	__atomic_store_n(&r->head->written, end, __ATOMIC_RELEASE);
}

size_t console_ring_read(const ConsoleRing *r, uint64_t *at, void *buf, size_t size, uint64_t *ret_lost)
{
	uint64_t begin = console_ring_begin(r), end = console_ring_end(r);
	char *to = buf;
	size_t n;

	*ret_lost = *at < begin ? begin - *at : 0;
	*at = CLAMP(*at, begin, end);
	n = (size_t)MIN(size, end - *at);
	for (size_t left = n; left > 0;) {
		uint64_t from = *at % CONSOLE_RING_SIZE;
		size_t part = MIN(left, CONSOLE_RING_SIZE - from);

		memcpy(to, r->data + from, part);
		to += part;
		*at += part;
		left -= part;
	}
	return n;
}
