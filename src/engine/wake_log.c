/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/wake_log.h"
#include "base/fd.h"
#include "base/log.h"

#include <sys/mman.h>
#include <sys/stat.h>

/* A page's beginning, so that setting the end back frees all pages. */
#define LOG_BEGIN ((off_t)((INT64_MAX - (int64_t)WAKE_LOG_SIZE) & ~INT64_C(0xffff)))
#define LOG_ROOM ((uint64_t)(INT64_MAX - LOG_BEGIN))
/* The longest line is far shorter; so near to the end some did not fit. */
#define LINE_ROOM 512
/* Setting the end back may lose a line that is written at that moment: only when it is worth it. */
#define REWIND_AT (LOG_ROOM / 4)

struct WakeLog {
	int fd;
	off_t at; /* what is before it was taken */
	char *buf;
};

static bool log_to(Qmp *q, const char *path, GError **err)
{
	g_autofree char *line = g_strdup_printf("logfile %s", path);
	_cleanup_json_ Json *args = json_pack("{s:s}", "command-line", line), *reply = NULL;
	g_autofree char *said = NULL;

	reply = qmp_call(q, "human-monitor-command", json_ref(args), 0, err);
	if (reply == NULL)
		return false;
	said = g_strdup(json_string_value(reply));
	if (*g_strstrip(said) != '\0')
		return fail(err, ERR_QEMU, "QEMU can't log to where the ledger reads: %s", said);
	return true;
}

bool wake_log_off(Qmp *q, GError **err)
{
	return log_to(q, "/dev/null", err);
}

/* QEMU opens it anew by the number that it got: a path that leads to it whatever QEMU may see of the host. */
static bool hand_over(Qmp *q, int fd, GError **err)
{
	_cleanup_json_ Json *got = qmp_call_fd(q, "add-fd", NULL, fd, 0, err), *gone = NULL;
	g_autofree char *path = NULL;
	bool ok;

	if (got == NULL)
		return false;
	path = g_strdup_printf("/proc/self/fd/%" G_GINT64_FORMAT, json_int(got, "fd", -1));
	ok = log_to(q, path, err);
	gone =
	    qmp_call(q, "remove-fd", json_pack("{s:I}", "fdset-id", json_int(got, "fdset-id", -1)), 0, NULL);
	return ok;
}

/* One that opens its log for writing empties it. */
static bool check_appends(const WakeLog *l, GError **err)
{
	struct stat st;

	if (fstat(l->fd, &st) < 0)
		return fail_errno(err, errno, "can't look at the trace log");
	return st.st_size >= LOG_BEGIN ||
	       fail(err, ERR_UNSUPPORTED, "this QEMU does not append to its log, so it can't be bounded");
}

WakeLog *wake_log_open(Qmp *q, GError **err)
{
	g_autoptr(WakeLog) l = g_new0(WakeLog, 1);

	l->at = LOG_BEGIN;
	l->fd = memfd_create("plimsoll-trace", MFD_CLOEXEC);
	if (l->fd < 0 || ftruncate(l->fd, LOG_BEGIN) < 0) {
		fail_errno(err, errno, "can't make room for a trace log");
		return NULL;
	}
	l->buf = g_malloc(LOG_ROOM);
	if (!hand_over(q, l->fd, err))
		return NULL;
	if (!check_appends(l, err)) {
		wake_log_off(q, NULL);
		return NULL;
	}
	return g_steal_pointer(&l);
}

bool wake_log_take(WakeLog *l, Tally *t)
{
	uint64_t room = (uint64_t)(INT64_MAX - l->at);
	ssize_t n = pread(l->fd, l->buf, room, l->at);
	bool full;

	if (n <= 0)
		return false;
	l->at += (off_t)tally_add(t, l->buf, (size_t)n);
	full = room - (uint64_t)n < LINE_ROOM;
	if ((uint64_t)(l->at - LOG_BEGIN) > REWIND_AT || full)
		if (ftruncate(l->fd, LOG_BEGIN) == 0)
			l->at = LOG_BEGIN;
	return full;
}

WakeLog *wake_log_close(WakeLog *l)
{
	if (l != NULL) {
		if (l->fd >= 0) {
			/* A QEMU that could not be told off keeps the file, but not its pages. */
			if (ftruncate(l->fd, LOG_BEGIN) < 0)
				log_warning("a trace log keeps its memory: %s", g_strerror(errno));
			close(l->fd);
		}
		g_free(l->buf);
		g_free(l);
	}
	return NULL;
}
