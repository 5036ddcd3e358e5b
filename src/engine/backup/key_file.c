/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/backup/key_file.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define ADVICE_MAKE                                                                                          \
	"Name the file that has the key. For new backups make one: `(umask 077; set -C; "                    \
	"head -c 32 /dev/urandom > FILE)`, and keep a copy elsewhere."

/* O_NONBLOCK, so that a FIFO in its place holds nobody up. What is looked at is what is read. */
static int open_file(const char *path, GError **err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && errno == ELOOP)
		fail_advice(err, ERR_INVALID, "Name the file itself.", "the key file '%s' is a link", path);
	else if (fd < 0 && errno == ENOENT)
		fail_advice(err, ERR_NOT_FOUND, ADVICE_MAKE, "there is no key file '%s' on this host", path);
	else if (fd < 0)
		fail_errno(err, errno, "can't open the key file '%s'", path);
	return fd_take(&fd);
}

static bool check_file(int fd, const char *path, GError **err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail_errno(err, errno, "can't look at the key file '%s'", path);
	if (!S_ISREG(st.st_mode))
		return fail_advice(err, ERR_INVALID, ADVICE_MAKE, "the key file '%s' is no regular file",
				   path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return fail_advice(err, ERR_DENIED, "Give it to root (`chown root FILE`), or make a new one.",
				   "the key file '%s' is not root's", path);
	return (st.st_mode & 077) == 0 ||
	       fail_advice(err, ERR_DENIED,
			   "`chmod 600 FILE`; who could read it has the key: make a new one if that matters.",
			   "the key file '%s' is open to others than its owner", path);
}

/* As much as is there, at most `max`; -1 with errno. */
static ssize_t read_all(int fd, uint8_t *buf, size_t max)
{
	size_t done = 0;

	while (done < max) {
		ssize_t n = read(fd, buf + done, max - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

BackupKey *backup_key_read(const char *path, GError **err)
{
	uint8_t buf[BACKUP_KEY_MAX + 1];
	_cleanup_close_ int fd = -EBADF;
	BackupKey *k = NULL;
	ssize_t n;

	if (!g_path_is_absolute(path)) {
		fail_advice(err, ERR_INVALID, "Write the absolute path of a file on the host.",
			    "a key file is named by an absolute path");
		return NULL;
	}
	fd = open_file(path, err);
	if (fd < 0 || !check_file(fd, path, err))
		return NULL;
	n = read_all(fd, buf, sizeof buf);
	if (n < 0)
		fail_errno(err, errno, "can't read the key file '%s'", path);
	else
		k = backup_key_of_bytes(buf, (size_t)n, err);
	explicit_bzero(buf, sizeof buf);
	if (k == NULL && n >= 0) {
		g_prefix_error(err, "the key file '%s' can't be used: ", path);
		err_advise(err, ADVICE_MAKE);
	}
	return k;
}

/* ---- of steps ---- */

static bool fail_other_key(const char *path, const char *backup, GError **err)
{
	return fail_advice(err, ERR_CONFLICT,
			   "Put the file back that was there when this began, and try again.",
			   "the key file '%s' has not the key of backup %s", path, backup);
}

bool backup_key_of_args(const Json *args, BackupKey **ret, GError **err)
{
	const char *path = json_str(args, "key_file"), *id = json_str(args, "backup");
	g_autoptr(BackupKey) k = NULL;
	g_autofree char *check = NULL;

	*ret = NULL;
	if (path == NULL)
		return true;
	if (id == NULL)
		return fail(err, ERR_INTERNAL, "the step has a key, and no backup");
	k = backup_key_read(path, err);
	if (k == NULL)
		return false;
	check = backup_key_check(k, id);
	if (g_strcmp0(check, json_str(args, "key_check")) != 0)
		return fail_other_key(path, id, err);
	*ret = g_steal_pointer(&k);
	return true;
}

static char **secrets_of(const Json *const *args, size_t n, GError **err)
{
	char **secrets = g_new0(char *, n + 1);

	for (size_t i = 0; i < n; i++) {
		g_autoptr(BackupKey) k = NULL;

		if (backup_key_of_args(args[i], &k, err) && k != NULL) {
			secrets[i] = backup_key_passphrase(k, json_str(args[i], "backup"));
			continue;
		}
		/* The plan mixes none that are plain with these. */
		if (err != NULL && *err == NULL)
			fail(err, ERR_INTERNAL, "the step has a file without a key among those with one");
		backup_secrets_free(secrets);
		return NULL;
	}
	return secrets;
}

bool backup_secrets_of_args(const Json *args, char ***ret, GError **err)
{
	*ret = NULL;
	if (json_str(args, "key_file") == NULL)
		return true;
	*ret = secrets_of(&args, 1, err);
	return *ret != NULL;
}

bool backup_secrets_of_sources(const Json *sources, char ***ret, GError **err)
{
	size_t n = json_array_size(sources);
	g_autofree const Json **args = g_new0(const Json *, n + 1);
	bool encrypted = false;

	*ret = NULL;
	for (size_t i = 0; i < n; i++) {
		args[i] = json_array_get(sources, i);
		encrypted |= json_str(args[i], "key_file") != NULL;
	}
	if (!encrypted)
		return true;
	*ret = secrets_of(args, n, err);
	return *ret != NULL;
}

void backup_secrets_free(char **secrets)
{
	for (size_t i = 0; secrets != NULL && secrets[i] != NULL; i++)
		backup_secret_free(secrets[i]);
	g_free(secrets);
}
