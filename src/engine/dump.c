/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump.h"
#include "base/fd.h"
#include "base/time.h"
#include "core/evidence/dump.h"
#include "core/evidence/elf_head.h"
#include "core/evidence/flat.h"
#include "core/evidence/kdump.h"
#include "core/model/settings.h"
#include "engine/engine-impl.h"
#include "engine/vm_ops.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define LOOK UINT64_C(100000)
#define LOOK_MS 100
/* Another dump on this host. */
#define TURN UINT64_C(200000)
/* When the dump is there, or given up, QEMU still has to let the guest run. */
#define RESUME_TIME UINT64_C(30000000)
/* What a pipe holds at most without privilege. */
#define PIPE_SIZE (1 << 20)

/* Where the stream goes. */
struct sink {
	int fd;
	const char *path;
	bool flattened; /* the stream tells where its parts belong; else they follow each other */
	struct flat flat;
	uint64_t size; /* of the file, so far */
};

static uint64_t quota_of(Engine *e)
{
	_cleanup_json_ Json *quota = host_setting_effective(engine_facts(e)->settings, "evidence.quota");

	return (uint64_t)json_integer_value(quota);
}

static bool look_at_room(const char *folder, struct dump_room *room, GError **err)
{
	struct statvfs fs;

	if (statvfs(folder, &fs) < 0)
		return fail_errno(err, errno, "can't look at '%s'", folder);
	room->free = (uint64_t)fs.f_bavail * fs.f_frsize;
	room->total = (uint64_t)fs.f_blocks * fs.f_frsize;
	return true;
}

/* *ret_max: the dump is not longer. */
static bool check_room(Engine *e, Vmm *v, const char *folder, bool unasked, uint64_t *ret_max, GError **err)
{
	_cleanup_json_ Json *size = qmp_call(vmm_qmp(v), "query-memory-size-summary", NULL, 0, err);
	struct dump_room room = { .quota = quota_of(e) };

	room.need = dump_bound(json_uint(size, "base-memory", 0) + json_uint(size, "plugged-memory", 0));
	*ret_max = room.need;
	return size != NULL && look_at_room(folder, &room, err) && dump_fits(&room, folder, unasked, err);
}

/* ---- one at a time ---- */

static bool is_cancelled(StepContext *ctx)
{
	return ctx != NULL && step_cancelled(ctx);
}

static bool fail_cancelled(GError **err)
{
	return fail(err, ERR_CANCELLED, "the dump was cancelled");
}

static bool wait_for_turn(Engine *e, StepContext *ctx, GError **err)
{
	while (!g_mutex_trylock(&e->dumping)) {
		if (is_cancelled(ctx))
			return fail_cancelled(err);
		g_usleep(TURN);
	}
	return true;
}

/* ---- the file ---- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Zeros behind the end are holes: much of a guest's memory was never touched. */
static bool put_part(uint64_t offset, const uint8_t *bytes, size_t len, void *data, GError **err)
{
	struct sink *s = data;
	bool hole = offset >= s->size && is_zero(bytes, len);

	s->size = MAX(s->size, offset + len);
	if (hole)
		return true;
	while (len > 0) {
		ssize_t n = pwrite(s->fd, bytes, len, (off_t)offset);

		if (n < 0)
			return fail_errno(err, errno, "can't write '%s'", s->path);
		bytes += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

static bool put(struct sink *s, const uint8_t *bytes, size_t len, GError **err)
{
	if (s->flattened)
		return flat_feed(&s->flat, bytes, len, put_part, s, err);
	if (s->size + len > s->flat.max)
		return fail(err, ERR_QEMU, "QEMU writes more than the guest has memory");
	return put_part(s->size, bytes, len, s, err);
}

/* What is there goes to the disk, and out of the page cache, while the rest comes. */
static void pass_on(const struct sink *s)
{
	sync_file_range(s->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* What the kernel says, where QEMU has misread it; a dump that says nothing stays as it is. */
static bool mend_kdump(const struct sink *s, GError **err)
{
	uint8_t head[KDUMP_HEAD];
	g_autofree char *info = NULL;
	uint64_t at, len, base;

	if (pread(s->fd, head, sizeof head, 0) != sizeof head || !kdump_info_at(head, &at, &len))
		return true;
	info = g_malloc(len);
	if (pread(s->fd, info, len, (off_t)at) != (ssize_t)len || !kdump_phys_base(info, len, &base))
		return true;
	base = GUINT64_TO_LE(base);
	if (pwrite(s->fd, &base, sizeof base, KDUMP_PHYS_BASE_AT) != sizeof base)
		return fail_errno(err, errno, "can't write '%s'", s->path);
	return true;
}

/* Where readers look for it. */
static bool mend_elf(const struct sink *s, GError **err)
{
	g_autofree uint8_t *head = g_malloc(ELF_HEAD_MAX);
	ssize_t n = pread(s->fd, head, ELF_HEAD_MAX, 0);

	if (n <= 0 || !elf_head_mend(head, (size_t)n))
		return true;
	return pwrite(s->fd, head, (size_t)n, 0) == n || fail_errno(err, errno, "can't write '%s'", s->path);
}

static bool finish(const struct sink *s, GError **err)
{
	if (s->flattened && s->flat.state != FLAT_ENDED)
		return fail(err, ERR_QEMU, "the dump that QEMU wrote has no end");
	if (!(s->flattened ? mend_kdump(s, err) : mend_elf(s, err)))
		return false;
	if (ftruncate(s->fd, (off_t)s->size) < 0 || fdatasync(s->fd) < 0)
		return fail_errno(err, errno, "can't write '%s'", s->path);
	pass_on(s);
	return true;
}

/* ---- the stream ---- */

static bool look(Vmm *v, const struct sink *s, StepContext *ctx, GError **err)
{
	_cleanup_json_ Json *reply = NULL;
	uint64_t total;

	if (is_cancelled(ctx))
		return fail_cancelled(err);
	reply = qmp_call(vmm_qmp(v), "query-dump", NULL, 0, err);
	if (reply == NULL)
		return false;
	total = json_uint(reply, "total", 0);
	if (ctx != NULL && total > 0)
		step_progress(ctx, (unsigned)(MIN(json_uint(reply, "completed", 0), total) * 100 / total));
	pass_on(s);
	return true;
}

/* Until QEMU closes its end. */
static bool pump(Vmm *v, int from, struct sink *s, StepContext *ctx, GError **err)
{
	g_autofree uint8_t *buf = g_malloc(PIPE_SIZE);
	uint64_t due = time_monotonic() + LOOK;
	struct pollfd p = { .fd = from, .events = POLLIN };
	ssize_t n;

	for (;;) {
		if (time_monotonic() >= due) {
			if (!look(v, s, ctx, err))
				return false;
			due = time_monotonic() + LOOK;
		}
		if (poll(&p, 1, LOOK_MS) <= 0)
			continue;
		n = read(from, buf, PIPE_SIZE);
		if (n < 0 && errno != EINTR)
			return fail_errno(err, errno, "can't read what QEMU writes");
		if (n == 0)
			return true;
		if (n > 0 && !put(s, buf, (size_t)n, err))
			return false;
	}
}

/* What only the guest's own drivers could have told QEMU. */
static bool fail_windows(GError **err)
{
	return fail_advice(
	    err, ERR_UNSUPPORTED,
	    "Install the driver fwcfg of virtio-win in the guest, which tells where Windows' kernel is, "
	    "and reboot it; or take --format elf.",
	    "the guest has not told QEMU what a Windows dump needs");
}

static bool check_end(Vmm *v, const char *format, const struct sink *s, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), "query-dump", NULL, 0, err);

	if (reply == NULL)
		return false;
	if (g_strcmp0(json_str(reply, "status"), "completed") == 0)
		return true;
	if (g_str_equal(format, "win-dmp") && s->size == 0)
		return fail_windows(err);
	return fail_advice(err, ERR_QEMU, "`plim vm log` shows what QEMU said.",
			   "QEMU could not make the dump");
}

/* Nobody reads after this: QEMU gives up what it has not written, and lets the guest run. */
static bool stream(Vmm *v, const char *format, struct sink *s, StepContext *ctx, GError **err)
{
	_cleanup_close_ int from = -EBADF, to = -EBADF;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail_errno(err, errno, "can't make a pipe");
	from = ends[0];
	to = ends[1];
	fcntl(from, F_SETPIPE_SZ, PIPE_SIZE);
	if (!vm_dump_begin(v, to, format, err))
		return false;
	close(fd_take(&to));
	return pump(v, from, s, ctx, err) && check_end(v, format, s, err);
}

static bool is_running(Vmm *v)
{
	g_autofree char *status = vm_status(v, NULL);

	return g_strcmp0(status, "running") == 0;
}

static void await_running(Vmm *v)
{
	uint64_t deadline = time_monotonic() + RESUME_TIME;

	while (vmm_alive(v) && !is_running(v) && time_monotonic() < deadline)
		g_usleep(LOOK / 10);
}

static bool write_all(Vmm *v, const char *format, struct sink *s, StepContext *ctx, struct dump_told *ret,
		      GError **err)
{
	bool ran = is_running(v), ok;
	uint64_t begin = time_monotonic();

	ok = stream(v, format, s, ctx, err);
	ret->took = time_monotonic() - begin;
	if (ran)
		await_running(v);
	ret->still = ran ? time_monotonic() - begin : 0;
	ok = ok && finish(s, err);
	ret->bytes = s->size;
	return ok;
}

static bool write_file(Engine *e, Vmm *v, const char *folder, const char *path, const char *format,
		       bool unasked, StepContext *ctx, struct dump_told *ret, GError **err)
{
	struct sink s = { .path = path, .flattened = g_str_equal(format, "kdump-zlib") };
	_cleanup_close_ int fd = -EBADF;

	if (!check_room(e, v, folder, unasked, &s.flat.max, err))
		return false;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail_errno(err, errno, "can't make '%s'", path);
	s.fd = fd;
	if (write_all(v, format, &s, ctx, ret, err))
		return true;
	unlink(path);
	return false;
}

bool dump_write(Engine *e, Vmm *v, const char *folder, const char *path, const char *format, bool unasked,
		StepContext *ctx, struct dump_told *ret, GError **err)
{
	bool rests = ctx != NULL && step_rest(ctx), ok = wait_for_turn(e, ctx, err);

	*ret = (struct dump_told){ 0 };
	if (ok) {
		ok = write_file(e, v, folder, path, format, unasked, ctx, ret, err);
		g_mutex_unlock(&e->dumping);
	}
	if (rests)
		step_wake(ctx);
	return ok;
}
