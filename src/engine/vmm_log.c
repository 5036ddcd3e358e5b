/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/vmm_log.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define BEGIN_MARK "-- plimsoll: "
#define LAST_WORDS_MAX 2048
/* How far back the beginning of the last words is looked for. */
#define TAIL_MAX 65536

struct LogKeeper {
	int fd;
	LoopSource *source;
	GHashTable *paths; /* watch -> path */
};

static char *older(const char *path)
{
	return g_strconcat(path, ".1", NULL);
}

int vmm_log_open(const char *path, GError **err)
{
	g_autofree char *old = older(path);
	struct stat st;
	int fd;

	if (lstat(path, &st) == 0 && (uint64_t)st.st_size > VMM_LOG_MAX && rename(path, old) < 0) {
		fail_errno(err, errno, "can't move '%s' away", path);
		return -EBADF;
	}
	fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
	if (fd < 0) {
		fail_errno(err, errno, "can't open the log '%s'", path);
		return -EBADF;
	}
	return fd;
}

bool vmm_log_begin(int fd, const char *name, const char *const *argv, GError **err)
{
	g_autofree char *stamp = time_stamp(), *command = g_strjoinv(" ", (char **)argv);
	g_autofree char *line =
	    g_strdup_printf(BEGIN_MARK "%s starts '%s': %s\n", stamp, name, g_strdelimit(command, "\n", ' '));
	int r = fd_write_all(fd, line, strlen(line));

	return r == 0 || fail_errno(err, -r, "can't write the log of '%s'", name);
}

/* The end of the file, with a NUL behind it. NULL when it can't be read. */
static char *read_tail(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	g_autofree char *text = g_malloc(TAIL_MAX + 1);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	n = pread(fd, text, TAIL_MAX, MAX(st.st_size - TAIL_MAX, 0));
	if (n < 0)
		return NULL;
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == '\0')
			text[i] = ' ';
	text[n] = '\0';
	return g_steal_pointer(&text);
}

/* Behind the last line of ours; the whole when there is none. */
static const char *after_begin(const char *text)
{
	const char *mark = g_strrstr(text, "\n" BEGIN_MARK), *end;

	if (mark != NULL)
		mark++;
	else if (g_str_has_prefix(text, BEGIN_MARK))
		mark = text;
	else
		return text;
	end = strchr(mark, '\n');
	return end != NULL ? end + 1 : "";
}

char *vmm_log_last_words(const char *path)
{
	g_autofree char *tail = read_tail(path), *valid = NULL;
	const char *words;
	size_t len;

	if (tail == NULL)
		return g_strdup("");
	words = after_begin(tail);
	len = strlen(words);
	if (len > LAST_WORDS_MAX) {
		words += len - LAST_WORDS_MAX;
		/* From the beginning of a line, if there is one. */
		if (strchr(words, '\n') != NULL)
			words = strchr(words, '\n') + 1;
	}
	valid = g_utf8_make_valid(words, -1);
	for (char *p = valid; *p != '\0'; p++)
		if (g_ascii_iscntrl(*p) && *p != '\n')
			*p = ' ';
	return g_strdup(g_strchomp(valid));
}

/* "qemu-system-x86_64: warning: ..." and its continuation "qemu-system-x86_64: info: ..." */
static bool is_mere_note(const char *line)
{
	const char *colon = strstr(line, ": ");

	return colon != NULL &&
	       (g_str_has_prefix(colon + 2, "warning: ") || g_str_has_prefix(colon + 2, "info: "));
}

char *vmm_log_last_words_of_clean_end(const char *path)
{
	g_autofree char *words = vmm_log_last_words(path);
	g_auto(GStrv) lines = g_strsplit(words, "\n", -1);
	g_autoptr(GString) kept = g_string_new(NULL);

	for (char **l = lines; *l != NULL; l++)
		if (!is_mere_note(*l))
			g_string_append_printf(kept, "%s%s", kept->len > 0 ? "\n" : "", *l);
	return g_strdup(kept->str);
}

/*
 * The keeper
 */

/* Copies what is there, then empties it: the writer appends, so it goes on at the new beginning. */
static bool copy_away(int from, const char *path, GError **err)
{
	g_autofree char *old = older(path), *chunk = g_malloc(VMM_LOG_MAX);
	_cleanup_close_ int to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	ssize_t n;
	int r;

	if (to < 0)
		return fail_errno(err, errno, "can't open '%s'", old);
	n = pread(from, chunk, VMM_LOG_MAX, 0);
	r = n < 0 ? -errno : fd_write_all(to, chunk, (size_t)n);
	return r == 0 || fail_errno(err, -r, "can't copy '%s'", path);
}

static void bound(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	g_autoptr(GError) e = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size <= VMM_LOG_MAX)
		return;
	if (!copy_away(fd, path, &e))
		log_warning("%s", e->message);
	/* Emptied in any case: a full disk is no reason to fill it. */
	if (ftruncate(fd, 0) < 0)
		log_warning("can't empty '%s': %s", path, g_strerror(errno));
}

static void on_inotify(int fd, uint32_t events, void *data)
{
	union {
		struct inotify_event align;
		char bytes[4096];
	} buf;
	LogKeeper *k = data;
	ssize_t n;

	(void)events;
	n = read(fd, buf.bytes, sizeof buf.bytes);
	for (char *at = buf.bytes; at < buf.bytes + n;) {
		const struct inotify_event *ev = (const void *)at;
		const char *path = g_hash_table_lookup(k->paths, GINT_TO_POINTER(ev->wd));

		if (path != NULL && (ev->mask & IN_MODIFY) != 0)
			bound(path);
		at += sizeof *ev + ev->len;
	}
}

LogKeeper *log_keeper_new(Loop *l, GError **err)
{
	LogKeeper *k = g_new0(LogKeeper, 1);

	k->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (k->fd < 0) {
		fail_errno(err, errno, "can't watch logs");
		g_free(k);
		return NULL;
	}
	k->paths = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	k->source = loop_add_fd(l, k->fd, EPOLLIN, on_inotify, k);
	return k;
}

LogKeeper *log_keeper_free(LogKeeper *k)
{
	if (k != NULL) {
		loop_source_free(k->source);
		close(k->fd);
		g_hash_table_unref(k->paths);
		g_free(k);
	}
	return NULL;
}

int log_keeper_watch(LogKeeper *k, const char *path)
{
	int wd = inotify_add_watch(k->fd, path, IN_MODIFY);

	if (wd >= 0)
		g_hash_table_insert(k->paths, GINT_TO_POINTER(wd), g_strdup(path));
	bound(path); /* what was written before */
	return wd;
}

void log_keeper_unwatch(LogKeeper *k, int watch)
{
	if (g_hash_table_remove(k->paths, GINT_TO_POINTER(watch)))
		inotify_rm_watch(k->fd, watch);
}
