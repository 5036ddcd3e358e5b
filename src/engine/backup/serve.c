/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/backup/serve.h"
#include "base/fd.h"
#include "base/time.h"
#include "engine/backup/key_file.h"
#include "engine/image/header_file.h"
#include "engine/lasting.h"
#include "engine/vmm_log.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SECOND UINT64_C(1000000)
/* It opens some hundred files; on a host that is emulated and busy that takes a while. */
#define READY_TIMEOUT (120 * SECOND)
#define END_TIMEOUT (5 * SECOND)
/* Commands for each of the backup's files, and for each disk; bytes. */
#define COMMANDS_EACH 2048u
/* Of each of the backup's: what it inherits, what it keeps in its sets, and what it opens. */
#define FILES_EACH 3
/* Beside them: sockets, timers, those who read. */
#define FILES_MORE 256
/* Beside one for each disk, as the QEMU of a copy on trial has. */
#define CLIENTS_MORE 16
#define ANSWER_MAX (1u << 20)
#define SECRET "key"
#define HELLO "{\"execute\": \"qmp_capabilities\"}\n"

static char *in_dir(const char *dir, const char *name)
{
	return g_build_filename(dir, name, NULL);
}

/* Its name, which no other process has. Commas are QEMU's own. */
static char *mark_of(const char *dir)
{
	g_auto(GStrv) part = g_strsplit(dir, ",", -1);
	g_autofree char *quoted = g_strjoinv(",,", part);

	return g_strconcat("guest=", quoted, NULL);
}

pid_t backup_server_running(const char *dir)
{
	g_autofree char *pid_path = in_dir(dir, "server.pid"), *mark = mark_of(dir);
	const struct lasting l = { .program = "qemu-system-x86", .pid_path = pid_path, .mark = mark };

	return lasting_running(&l);
}

bool backup_unserve(const char *dir, GError **err)
{
	g_autofree char *pid_path = in_dir(dir, "server.pid"), *mark = mark_of(dir);
	const struct lasting l = { .program = "qemu-system-x86", .pid_path = pid_path, .mark = mark };

	return lasting_end(&l, END_TIMEOUT, err) && dir_remove(dir, err);
}

char *backup_server_uri(const char *dir, const char *disk)
{
	return g_strdup_printf("nbd+unix:///%s?socket=%s/nbd/sock", disk, dir);
}

/* ---- its command line ---- */

/* What opens files and shows them is told by its monitor: nobody reads passphrases there. */
typedef struct Building {
	GPtrArray *argv;   /* strings of its own */
	GArray *fd;        /* int, to be inherited */
	GString *commands; /* of its monitor, one a line; borrowed */
} Building;

static void building_clear(Building *b)
{
	for (guint i = 0; b->fd != NULL && i < b->fd->len; i++)
		close(g_array_index(b->fd, int, i));
	g_clear_pointer(&b->fd, g_array_unref);
	g_clear_pointer(&b->argv, g_ptr_array_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Building, building_clear)

static void add_word(Building *b, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void add_word(Building *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	g_ptr_array_add(b->argv, g_strdup_vprintf(fmt, ap));
	va_end(ap);
}

static void add_command(Building *b, const char *name, Json *args)
{
	_cleanup_json_ Json *command = json_pack("{s:s,s:o}", "execute", name, "arguments", args);
	char *line = json_print(command);

	g_string_append(b->commands, line);
	g_string_append_c(b->commands, '\n');
	backup_secret_free(line);
}

/* The secret goes when the file is open. `secret`: NULL for a plain one. */
static void add_node(Building *b, Json *node, const char *secret)
{
	if (secret == NULL) {
		add_command(b, "blockdev-add", node);
		return;
	}
	json_put(node, "encrypt", json_pack("{s:s,s:s}", "format", "luks", "key-secret", SECRET));
	add_command(b, "object-add",
		    json_pack("{s:s,s:s,s:s}", "qom-type", "secret", "id", SECRET, "data", secret));
	add_command(b, "blockdev-add", node);
	add_command(b, "object-del", json_pack("{s:s}", "id", SECRET));
}

/* A file of the chain as descriptor, descriptor set and node; NULL for `backing`: the full one. */
static bool add_file(Building *b, const Json *source, const char *secret, const char *node,
		     const char *backing, GError **err)
{
	const char *path = json_str(source, "path");
	g_autofree char *set = NULL;
	uint64_t size;
	Json *qcow2;
	int fd;

	if (path == NULL)
		return fail(err, ERR_INVALID, "the backup names no file");
	if (!volume_file_check(path, IMAGE_FORMAT_QCOW2, json_str(source, "backing"), secret != NULL, &size,
			       NULL, err)) {
		g_prefix_error(err, "the backup's file '%s' can't be used: ", path);
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return fail_errno(err, errno, "can't open '%s'", path);
	g_array_append_val(b->fd, fd);
	add_word(b, "-add-fd");
	add_word(b, "set=%d,fd=%d", fd, fd);
	set = g_strdup_printf("/dev/fdset/%d", fd);
	qcow2 = json_pack("{s:s,s:s,s:b,s:{s:s,s:s,s:b}}", "driver", "qcow2", "node-name", node, "read-only",
			  1, "file", "driver", "file", "filename", set, "read-only", 1);
	json_put_str(qcow2, "backing", backing);
	add_node(b, qcow2, secret);
	return true;
}

/* The last of its nodes, "N-LAST", has the content. */
static bool add_disk(Building *b, unsigned n, const Json *files, char **ret_node, GError **err)
{
	_cleanup_secrets_ char **secrets = NULL;
	g_autofree char *below = NULL;
	const Json *source;
	size_t i;

	if (!backup_secrets_of_sources(files, &secrets, err))
		return false;
	json_array_foreach((Json *)files, i, source)
	{
		g_autofree char *node = g_strdup_printf("d%u-%zu", n, i);

		if (!add_file(b, source, secrets != NULL ? secrets[i] : NULL, node, below, err))
			return false;
		g_free(below);
		below = g_steal_pointer(&node);
	}
	if (below == NULL)
		return fail(err, ERR_INVALID, "the backup has no such disk");
	*ret_node = g_steal_pointer(&below);
	return true;
}

static void add_beginning(Building *b, const struct backup_server *s, int monitor)
{
	static const char *const words[] = {
		"-machine",
		"none",
		"-nodefaults",
		"-no-user-config",
		"-display",
		"none",
		"-S",
		"-sandbox",
		"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	};
	g_autofree char *mark = mark_of(s->dir);

	add_word(b, "%s", s->qemu);
	add_word(b, "-name");
	add_word(b, "%s", mark);
	for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
		add_word(b, "%s", words[i]);
	g_array_append_val(b->fd, monitor);
	add_word(b, "-chardev");
	add_word(b, "socket,id=qmp,fd=%d", monitor);
	add_word(b, "-mon");
	add_word(b, "chardev=qmp,mode=control");
}

/* The disks, and what it is told to do with them. */
static bool add_disks(Building *b, const struct backup_server *s, const Json *sources, GError **err)
{
	g_autofree char *socket = in_dir(s->dir, "nbd/sock");
	const char *disk;
	unsigned n = 0;
	Json *files;

	add_command(b, "nbd-server-start",
		    json_pack("{s:{s:s,s:{s:s}},s:I}", "addr", "type", "unix", "data", "path", socket,
			      "max-connections", (json_int_t)(CLIENTS_MORE + json_object_size(sources))));
	json_object_foreach((Json *)sources, disk, files)
	{
		g_autofree char *node = NULL, *id = g_strdup_printf("e%u", n);

		if (!add_disk(b, n++, files, &node, err))
			return false;
		add_command(b, "block-export-add",
			    json_pack("{s:s,s:s,s:s,s:s,s:b}", "type", "nbd", "id", id, "node-name", node,
				      "name", disk, "writable", 0));
	}
	return true;
}

/* ---- its beginning ---- */

static unsigned lines_of(const char *text)
{
	unsigned n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

/* Of whole lines only: how many commands were done. False for one that was not. */
static bool count_answers(const char *text, unsigned *ret, GError **err)
{
	g_auto(GStrv) line = g_strsplit(text, "\n", -1);

	*ret = 0;
	for (size_t i = 0; line[i] != NULL && line[i + 1] != NULL; i++) {
		_cleanup_json_ Json *j = json_parse_wide(line[i], strlen(line[i]), NULL);
		const Json *error = json_obj(j, "error");

		if (error != NULL)
			return fail(err, ERR_QEMU, "the backup's files can't be shown: %s",
				    json_str(error, "desc"));
		*ret += json_object_get(j, "return") != NULL;
	}
	return true;
}

static bool wait_for_answers(int fd, unsigned want, GError **err)
{
	uint64_t end = time_monotonic() + READY_TIMEOUT, now;
	g_autoptr(GString) text = g_string_new(NULL);
	unsigned n = 0;

	while (n < want && (now = time_monotonic()) < end) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char buf[8192];
		ssize_t len;

		if (poll(&p, 1, (int)((end - now) / 1000) + 1) <= 0)
			continue;
		len = read(fd, buf, sizeof buf);
		if (len < 0 && errno == EINTR)
			continue;
		if (len <= 0 || text->len + (size_t)len > ANSWER_MAX)
			return fail(err, ERR_QEMU, "QEMU ended before it showed the backup");
		g_string_append_len(text, buf, len);
		if (!count_answers(text->str, &n, err))
			return false;
	}
	return n >= want || fail(err, ERR_TIMEOUT, "QEMU did not show the backup in time");
}

/* One that does not read what it is told may hold nobody up. Each write has that time. */
static bool tell_all(int fd, const GString *commands, GError **err)
{
	const struct timeval limit = { .tv_sec = READY_TIMEOUT / SECOND };
	int r = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0
		    ? fd_write_all(fd, commands->str, commands->len)
		    : -errno;

	if (r == -EAGAIN)
		return fail(err, ERR_TIMEOUT, "QEMU did not read in time what it is told");
	return r == 0 || fail_errno(err, -r, "QEMU does not hear us");
}

static bool make_folders(const struct backup_server *s, GError **err)
{
	g_autofree char *nbd = in_dir(s->dir, "nbd"), *socket = in_dir(s->dir, "nbd/sock"),
			*above = g_path_get_dirname(s->dir);
	struct sockaddr_un a;

	if (strlen(socket) >= sizeof a.sun_path)
		return fail_advice(err, ERR_LIMIT, "Use a shorter run folder.",
				   "the path of the socket '%s' is too long", socket);
	if (!dir_make(above, 0711, err) || !dir_make(s->dir, 0711, err) || !dir_make(nbd, 0711, err))
		return false;
	/* The umask had its say. */
	if (chmod(above, 0711) < 0 || chmod(s->dir, 0711) < 0 ||
	    (s->user != NULL && lchown(nbd, s->user->uid, s->user->gid) < 0))
		return fail_errno(err, errno, "can't open '%s'", s->dir);
	return true;
}

/* Takes `theirs`. */
static bool spawn_server(const struct backup_server *s, const Json *sources, int theirs, GString *commands,
			 GError **err)
{
	g_autofree char *pid_path = in_dir(s->dir, "server.pid"), *log_path = in_dir(s->dir, "server.log");
	g_auto(Building)
	    b = { g_ptr_array_new_with_free_func(g_free), g_array_new(FALSE, FALSE, sizeof(int)), commands };
	_cleanup_close_ int log = -EBADF, pidfd = -EBADF;
	struct spawn run = { .pid_path = pid_path, .user = s->user };
	pid_t pid;

	add_beginning(&b, s, theirs);
	if (!add_disks(&b, s, sources, err))
		return false;
	g_ptr_array_add(b.argv, NULL);
	log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log < 0)
		return fail_errno(err, errno, "can't open '%s'", log_path);
	run.argv = (const char *const *)b.argv->pdata;
	run.keep = (const int *)(void *)b.fd->data;
	run.n_keep = b.fd->len;
	run.output = log;
	run.max_files = FILES_EACH * b.fd->len + FILES_MORE;
	return spawn_process(&run, &pid, &pidfd, err);
}

static bool start(const struct backup_server *s, const Json *sources, GString *commands, GError **err)
{
	g_autofree char *log_path = in_dir(s->dir, "server.log"), *words = NULL;
	_cleanup_close_ int ours = -EBADF;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return fail_errno(err, errno, "can't make a pair of sockets");
	ours = pair[0];
	if (!spawn_server(s, sources, pair[1], commands, err))
		return false;
	if (tell_all(ours, commands, err) && wait_for_answers(ours, lines_of(commands->str), err))
		return true;
	words = vmm_log_last_words(log_path);
	return err_advise(err, "`plim backup verify` tells whether the backup is whole. QEMU said: %s",
			  *words != '\0' ? words : "nothing");
}

/* With room for all of them: it can be wiped as it is where it never had to grow. */
static GString *commands_new(const Json *sources)
{
	size_t n = 1;
	const char *disk;
	Json *files;

	json_object_foreach((Json *)sources, disk, files) n += 1 + json_array_size(files);
	return g_string_append(g_string_sized_new(n * COMMANDS_EACH), HELLO);
}

bool backup_serve(const struct backup_server *s, const Json *sources, GError **err)
{
	g_autoptr(GString) commands = commands_new(sources);
	bool ok;

	if (backup_server_running(s->dir) > 0)
		return true;
	if (!backup_unserve(s->dir, err))
		return false;
	ok = make_folders(s, err) && start(s, sources, commands, err);
	/* There are passphrases in it. What the commands were made of is freed and not wiped: key_file.h. */
	explicit_bzero(commands->str, commands->len);
	if (ok)
		return true;
	backup_unserve(s->dir, NULL);
	return false;
}
