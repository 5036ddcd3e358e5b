/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/seed.h"
#include "base/fd.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>

/* Content that differs from nothing but time would make every seed a new one. */
#define SEED_TIME 1600000000

static bool fail_archive(struct archive *a, GError **err)
{
	return fail(err, ERR_INTERNAL, "can't write the seed: %s", archive_error_string(a));
}

static bool add_file(struct archive *a, const char *name, const char *text, GError **err)
{
	struct archive_entry *e;
	size_t len;
	bool ok;

	if (text == NULL)
		return true;
	len = strlen(text);
	e = archive_entry_new();
	archive_entry_set_pathname(e, name);
	archive_entry_set_size(e, (la_int64_t)len);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0444);
	archive_entry_set_mtime(e, SEED_TIME, 0);
	ok = archive_write_header(a, e) == ARCHIVE_OK && archive_write_data(a, text, len) == (la_ssize_t)len;
	archive_entry_free(e);
	return ok || fail_archive(a, err);
}

static la_ssize_t collect(struct archive *a, void *data, const void *buf, size_t len)
{
	(void)a;
	g_byte_array_append(data, buf, (guint)len);
	return (la_ssize_t)len;
}

static bool write_all(struct archive *a, const CloudInit *c, GByteArray *iso, GError **err)
{
	if (archive_write_set_format_iso9660(a) != ARCHIVE_OK ||
	    archive_write_set_options(
		a, "iso9660:volume-id=cidata,iso9660:rockridge=useful,iso9660:joliet") != ARCHIVE_OK ||
	    archive_write_open(a, iso, NULL, collect, NULL) != ARCHIVE_OK)
		return fail_archive(a, err);
	return add_file(a, "meta-data", c->meta_data, err) && add_file(a, "user-data", c->user_data, err) &&
	       add_file(a, "network-config", c->network_config, err) &&
	       (archive_write_close(a) == ARCHIVE_OK || fail_archive(a, err));
}

/* The descriptors of an ISO carry the time of writing; what matters is the files. A digest of them stands
 * beside it. */
static char *digest_of(const CloudInit *c)
{
	g_autofree char *all = g_strjoin("\n--\n", c->meta_data, c->user_data,
					 c->network_config != NULL ? c->network_config : "", NULL);

	return g_compute_checksum_for_string(G_CHECKSUM_SHA256, all, -1);
}

static bool is_written(const char *path, const char *digest_path, const char *digest)
{
	g_autofree char *old = file_read(digest_path, 256, NULL, NULL);

	return old != NULL && g_str_equal(old, digest) && g_file_test(path, G_FILE_TEST_EXISTS);
}

bool seed_write(const char *path, const CloudInit *c, gid_t gid, GError **err)
{
	g_autofree char *digest = digest_of(c), *digest_path = g_strconcat(path, ".sha256", NULL);
	g_autoptr(GByteArray) iso = g_byte_array_new();
	struct archive *a;
	bool ok;

	if (is_written(path, digest_path, digest))
		return true;
	a = archive_write_new();
	ok = write_all(a, c, iso, err);
	archive_write_free(a);
	if (!ok || !file_write_atomic(path, iso->data, iso->len, 0440, err))
		return false;
	if (gid != (gid_t)-1 && chown(path, (uid_t)-1, gid) < 0)
		return fail_errno(err, errno, "can't give '%s' to QEMU's group", path);
	return file_write_atomic(digest_path, digest, strlen(digest), 0400, err);
}
