/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/migrate_link.h"
#include "base/fd.h"
#include "base/time.h"
#include "engine/pki.h"

#include <fcntl.h>
#include <string.h>

/* QEMU's names for the files, and the name that the key has in its file. */
#define KEY_FILE "keys.psk"
#define KEY_NAME "qemu"
#define GROUP_FILE "dh-params.pem"

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
static bool write_file(const char *dir, const char *name, const char *text, const SpawnUser *user,
		       GError **err)
{
	g_autofree char *path = g_build_filename(dir, name, NULL);
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (unlink(path) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail_errno(err, errno, "can't make '%s'", path);
	r = fd_write_all(fd, text, strlen(text));
	if (r == 0 && user != NULL && fchown(fd, user->uid, user->gid) < 0)
		r = -errno;
	return r == 0 || fail_errno(err, -r, "can't write '%s'", path);
}

/*
 * The called end of QEMU searches a prime of its own for a group that it finds
 * no file of (crypto/tlscreds.c), in its main loop: half a second to three on a
 * quick machine, without bound on a slow one. So it gets ffdhe2048 of RFC 7919.
 */
static bool write_group(const char *dir, const SpawnUser *user, GError **err)
{
	g_autofree char *pem = pki_group(err);

	return pem != NULL && write_file(dir, GROUP_FILE, pem, user, err);
}

bool migrate_key_write(const char *dir, const char *hex, const SpawnUser *user, GError **err)
{
	g_autofree char *line = NULL;

	if (!migrate_key_check(hex, err) || !dir_make(dir, 0711, err))
		return false;
	line = g_strdup_printf(KEY_NAME ":%s\n", hex);
	return write_file(dir, KEY_FILE, line, user, err) && write_group(dir, user, err);
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

bool migrate_end_plainly(Vmm *v, GError **err)
{
	return migrate_tell(
	    v, "qom-set",
	    json_pack("{s:s,s:s,s:b}", "path", "/machine", "property", "suppress-vmdesc", "value", 1), err);
}

char *migrate_uri(const char *host, unsigned port)
{
	bool v6 = strchr(host, ':') != NULL;

	return g_strdup_printf("tcp:%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
}
