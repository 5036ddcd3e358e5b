/* SPDX-License-Identifier: Apache-2.0 */
/* What a step derives of the key file that its arguments name. tests/e2e/test_backup_key.py has the bad
 * files. */
#include "base/fd.h"
#include "engine/backup/key_file.h"
#include "engine/backup/repository.h"

#include <string.h>
#include <sys/stat.h>

#define ID "20260102T030405Z-0a1b2c3d"
#define OTHER_ID "20260103T030405Z-0a1b2c3d"
/* HMAC-SHA256 of the key 00 01 ... 1f, by Python's hmac. */
#define PASSPHRASE "9590f15a6fb14fbbeb93b608e551edca65be9acda96ecb397d4dc3d40187171f"

static char *key_file(const char *dir, uint8_t first)
{
	char *path = g_build_filename(dir, "key", NULL);
	uint8_t bytes[BACKUP_KEY_MIN];
	g_autoptr(GError) err = NULL;

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(first + i);
	file_write_atomic(path, bytes, sizeof bytes, 0600, &err);
	g_assert_no_error(err);
	return path;
}

static Json *args_of(const char *path, const char *id)
{
	g_autoptr(BackupKey) k = backup_key_read(path, NULL);
	g_autofree char *check = backup_key_check(k, id);

	return json_pack("{s:s,s:s,s:s}", "backup", id, "key_file", path, "key_check", check);
}

static void test_a_step_gets_what_its_key_file_leads_to(void)
{
	g_autofree char *dir = g_dir_make_tmp("key-XXXXXX", NULL), *path = key_file(dir, 0);
	_cleanup_json_ Json *args = args_of(path, ID), *plain = json_pack("{s:s}", "backup", ID),
			    *sources = json_pack("[O,o]", args, args_of(path, OTHER_ID)),
			    *mixed = json_pack("[O,O]", plain, args),
			    *none = json_pack("[O,O]", plain, plain);
	_cleanup_secrets_ char **one = NULL, **two = NULL, **nothing = NULL, **wrong = NULL;
	g_autoptr(GError) err = NULL;

	g_assert_true(backup_secrets_of_args(args, &one, &err));
	g_assert_cmpuint(g_strv_length(one), ==, 1);
	g_assert_cmpstr(one[0], ==, PASSPHRASE);
	g_assert_true(backup_secrets_of_sources(sources, &two, &err));
	g_assert_cmpuint(g_strv_length(two), ==, 2);
	g_assert_cmpstr(two[0], ==, PASSPHRASE);
	g_assert_cmpstr(two[1], !=, PASSPHRASE);
	g_assert_true(backup_secrets_of_sources(none, &nothing, &err));
	g_assert_null(nothing);
	g_assert_false(backup_secrets_of_sources(mixed, &wrong, &err));
	g_assert_nonnull(err);
	g_assert_null(wrong);
	g_assert_true(dir_remove(dir, NULL));
}

static void test_a_key_that_was_replaced_meanwhile_is_found(void)
{
	g_autofree char *dir = g_dir_make_tmp("key-XXXXXX", NULL), *path = key_file(dir, 0), *same = NULL;
	_cleanup_json_ Json *args = args_of(path, ID);
	g_autoptr(BackupKey) k = NULL;
	g_autoptr(GError) other = NULL, gone = NULL;

	same = key_file(dir, 1);
	g_assert_false(backup_key_of_args(args, &k, &other));
	g_assert_error(other, ERR, ERR_CONFLICT);
	g_assert_nonnull(strstr(other->message, ID));
	g_assert_cmpint(unlink(path), ==, 0);
	g_assert_false(backup_key_of_args(args, &k, &gone));
	g_assert_error(gone, ERR, ERR_NOT_FOUND);
	g_assert_null(k);
	g_assert_true(dir_remove(dir, NULL));
}

/* Hashing takes hours where disks are large. */
static void test_the_key_is_looked_at_before_any_file_of_the_backup(void)
{
	g_autofree char *dir = g_dir_make_tmp("key-XXXXXX", NULL), *path = key_file(dir, 0), *same = NULL;
	_cleanup_json_ Json *args = args_of(path, ID), *sources = json_pack("[O]", args);
	g_autoptr(GError) file = NULL, key = NULL;

	json_put_str(args, "path", "/nonexistent/root.qcow2");
	g_assert_false(backup_sources_verify(sources, false, NULL, &file));
	g_assert_error(file, ERR, ERR_NOT_FOUND);
	g_assert_nonnull(strstr(file->message, "/nonexistent/root.qcow2"));
	same = key_file(dir, 1);
	g_assert_false(backup_sources_verify(sources, false, NULL, &key));
	g_assert_error(key, ERR, ERR_CONFLICT);
	g_assert_nonnull(strstr(key->message, ID));
	g_assert_true(dir_remove(dir, NULL));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/key-file/derived", test_a_step_gets_what_its_key_file_leads_to);
	g_test_add_func("/key-file/replaced", test_a_key_that_was_replaced_meanwhile_is_found);
	g_test_add_func("/key-file/first", test_the_key_is_looked_at_before_any_file_of_the_backup);
	return g_test_run();
}
