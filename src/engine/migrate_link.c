/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/migrate_link.h"
#include "base/fd.h"
#include "base/time.h"

#include <fcntl.h>
#include <string.h>

/* QEMU's name for the file, and the name that the key has in it. */
#define KEY_FILE "keys.psk"
#define KEY_NAME "qemu"

char *migrate_key_new(void)
{
	unsigned char bytes[MIGRATE_KEY_SIZE];
	char *hex = g_malloc(2 * sizeof bytes + 1);

	random_bytes(bytes, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		g_snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	return hex;
}

bool migrate_key_check(const char *hex, GError **err)
{
	return (hex != NULL && strlen(hex) == 2UL * MIGRATE_KEY_SIZE &&
		strspn(hex, "0123456789abcdef") == 2UL * MIGRATE_KEY_SIZE) ||
	       fail(err, ERR_INVALID, "the key of a migration is %d hex digits", 2 * MIGRATE_KEY_SIZE);
}

/* Nobody else may ever read it: it is made with its mode, and given away by descriptor. */
static bool write_key(const char *path, const char *hex, const SpawnUser *user, GError **err)
{
	g_autofree char *line = g_strdup_printf(KEY_NAME ":%s\n", hex);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return fail_errno(err, errno, "can't make '%s'", path);
	r = fd_write_all(fd, line, strlen(line));
	if (r == 0 && user != NULL && fchown(fd, user->uid, user->gid) < 0)
		r = -errno;
	return r == 0 || fail_errno(err, -r, "can't write '%s'", path);
}

bool migrate_key_write(const char *dir, const char *hex, const SpawnUser *user, GError **err)
{
	g_autofree char *path = g_build_filename(dir, KEY_FILE, NULL);

	if (!migrate_key_check(hex, err) || !dir_make(dir, 0711, err))
		return false;
	if (unlink(path) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", path);
	return write_key(path, hex, user, err);
}

bool migrate_tell(Vmm *v, const char *command, Json *args, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), command, args, 0, err);

	return reply != NULL;
}

void migrate_key_unload(Vmm *v)
{
	migrate_tell(v, "object-del", json_pack("{s:s}", "id", MIGRATE_KEY_ID), NULL);
}

bool migrate_key_load(Vmm *v, const char *dir, bool server, GError **err)
{
	migrate_key_unload(v);
	return migrate_tell(v, "object-add",
			    json_pack("{s:s,s:s,s:s,s:s,s:b}", "qom-type", "tls-creds-psk", "id",
				      MIGRATE_KEY_ID, "dir", dir, "endpoint", server ? "server" : "client",
				      "verify-peer", 1),
			    err);
}

static void add_capabilities(Json *list, const char *const *name, bool state)
{
	for (; name != NULL && *name != NULL; name++)
		json_array_append_new(list, json_pack("{s:s,s:b}", "capability", *name, "state", state));
}

bool migrate_capabilities(Vmm *v, const char *const *on, const char *const *off, GError **err)
{
	Json *list = json_array();

	add_capabilities(list, on, true);
	add_capabilities(list, off, false);
	return migrate_tell(v, "migrate-set-capabilities", json_pack("{s:o}", "capabilities", list), err);
}

char *migrate_uri(const char *host, unsigned port)
{
	bool v6 = strchr(host, ':') != NULL;

	return g_strdup_printf("tcp:%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
}
