/* SPDX-License-Identifier: Apache-2.0 */
#include "core/backup/follow.h"
#include "core/backup/prune.h"

#include <string.h>

#define VM "11111111-1111-4111-8111-111111111111"
#define HASH                                                                                                 \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                                   \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MIB (UINT64_C(1) << 20)

static Json *manifest(const char *id, const char *parent, const char *at)
{
	Json *j =
	    json_pack("{s:s,s:i,s:s,s:s,s:s,s:s,s:i,s:{s:s,s:s,s:s,s:[{s:s,s:s}]},s:[{s:s,s:s,s:i,s:i,s:s}]}",
		      "format", "plimsoll-backup", "version", 1, "id", id, "created_at", at, "host", "h1",
		      "consistency", "file-system", "freeze", 1500, "vm", "id", VM, "name", "web1",
		      "created_at", at, "disks", "name", "root", "path", "/x/root.qcow2", "disks", "name",
		      "root", "file", "root.qcow2", "size", (int)MIB, "bytes", 4096, "sha512", HASH);

	json_put_str(j, "parent", parent);
	return j;
}

static Backup *backup(const char *id, const char *parent, const char *at)
{
	_cleanup_json_ Json *j = manifest(id, parent, at);
	g_autoptr(GError) err = NULL;
	Backup *b = backup_of_json(j, &err);

	g_assert_no_error(err);
	return b;
}

static void drop(gpointer p)
{
	backup_free(p);
}

/* "DAY HOUR [PARENT]" of January 2026 each; an id is made of its place in the list. */
static GPtrArray *backups(const char *const *row)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(drop);

	for (int i = 0; row[i] != NULL; i++) {
		g_auto(GStrv) word = g_strsplit(row[i], " ", 3);
		g_autofree char *id = g_strdup_printf("20260101T000000Z-%08x", i),
				*at = g_strdup_printf("2026-01-%sT%s:00:00Z", word[0], word[1]),
				*parent = NULL;

		if (word[2] != NULL)
			parent = g_strdup_printf("20260101T000000Z-%08x", atoi(word[2]));
		g_ptr_array_add(all, backup(id, parent, at));
	}
	return all;
}

static void test_a_manifest_comes_back_as_it_was_written(void)
{
	g_autoptr(Backup) b = backup("20260102T030405Z-0a1b2c3d", NULL, "2026-01-02T03:04:05.123456Z");
	_cleanup_json_ Json *once = backup_to_json(b), *twice = NULL;
	g_autofree char *text = json_print(once);
	g_autoptr(GError) err = NULL;
	g_autoptr(Backup) again = backup_parse(text, strlen(text), &err);

	g_assert_no_error(err);
	twice = backup_to_json(again);
	g_assert_true(json_equal(once, twice));
	g_assert_true(again->file_system);
	g_assert_cmpuint(again->freeze, ==, 1500);
	g_assert_cmpuint(backup_bytes(again), ==, 4096);
	g_assert_cmpstr(((BackupDisk *)again->disk->pdata[0])->sha512, ==, HASH);
}

/* Every member is what it should be, or the manifest is refused with its name. */
static void test_a_manifest_that_is_wrong_is_refused(void)
{
	static const struct {
		const char *change, *word;
	} wrong[] = {
		{ "{\"format\":\"x\"}", "no manifest" },
		{ "{\"version\":3}", "version" },
		{ "{\"id\":\"../../etc\"}", "id" },
		{ "{\"id\":\"20260102T030405Z-0A1B2C3D\"}", "id" },
		{ "{\"parent\":\"..\"}", "parent" },
		{ "{\"parent\":\"20260102T030405Z-0a1b2c3d\"}", "parent" },
		{ "{\"created_at\":\"yesterday\"}", "created_at" },
		{ "{\"consistency\":\"good\"}", "consistency" },
		{ "{\"freeze\":-1}", "freeze" },
		{ "{\"note\":\"two\\nlines\"}", "note" },
		{ "{\"more\":1}", "more" },
		{ "{\"vm\":{\"name\":\"x\"}}", "vm" },
		{ "{\"vm\":{\"name\":\"/x\",\"id\":\"" VM "\"}}", "vm" },
		{ "{\"disks\":[]}", "disks" },
		{ "{\"disks\":[1]}", "disks" },
		{ "{\"disks\":[{\"name\":\"data\"}]}", "disk" },
		{ "{\"disks\":[{\"name\":\"root\",\"file\":\"../root.qcow2\"}]}", "file" },
		{ "{\"disks\":[{\"name\":\"root\",\"file\":\"root.qcow2\",\"sha512\":\"ff\"}]}", "sha512" },
		{ "{\"left_out\":[\"data\"]}", "left_out" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		_cleanup_json_ Json *j = manifest("20260102T030405Z-0a1b2c3d", NULL, "2026-01-02T03:04:05Z"),
				    *change = json_parse(wrong[i].change, strlen(wrong[i].change), NULL);
		g_autoptr(GError) err = NULL;

		json_object_update(j, change);
		g_assert_null(backup_of_json(j, &err));
		g_assert_true(g_error_matches(err, ERR, ERR_INVALID) ||
			      g_error_matches(err, ERR, ERR_UNSUPPORTED));
		g_assert_nonnull(strstr(err->message, wrong[i].word));
	}
	g_assert_null(backup_parse("[", 1, NULL));
}

static void test_names_say_what_they_are_of(void)
{
	g_autofree char *id = backup_id_of("2026-11-21T09:30:00.123456Z",
					   "1a2b3c4d-1111-4111-8111-111111111111"),
			*bitmap = backup_bitmap(id), *backing = backup_backing(id, "root");

	g_assert_cmpstr(id, ==, "20261121T093000Z-1a2b3c4d");
	g_assert_true(backup_id_valid(id));
	g_assert_false(backup_id_valid("20261121T093000Z-1a2b3c4"));
	g_assert_false(backup_id_valid(NULL));
	g_assert_cmpstr(bitmap, ==, "plim-20261121T093000Z-1a2b3c4d");
	g_assert_true(backup_is_bitmap(bitmap));
	g_assert_false(backup_is_bitmap("plim-x"));
	g_assert_false(backup_is_bitmap(NULL));
	g_assert_cmpstr(backing, ==, "../20261121T093000Z-1a2b3c4d/root.qcow2");
}

/* ---- what the next one can rest on ---- */

static Json *blocks(uint64_t size, const char *bitmap, bool inconsistent)
{
	return json_pack("[{s:s,s:{s:s,s:{s:I},s:[{s:s,s:b,s:b,s:b,s:b},{s:s,s:b,s:b,s:b}]}}]", "device", "",
			 "inserted", "node-name", "disk-root", "image", "virtual-size", (json_int_t)size,
			 "dirty-bitmaps", "name", bitmap, "recording", !inconsistent, "busy", 0, "persistent",
			 1, "inconsistent", inconsistent, "name", "other", "recording", 1, "busy", 0,
			 "persistent", 1);
}

static void check_follow_with(const GPtrArray *all, Json *b, const char *const *names, const BackupKey *k,
			      const char *word)
{
	g_autofree char *why = NULL;
	_cleanup_json_ Json *own = b;
	const Backup *on = backup_follow(all, own, names, k, &why);

	g_assert_true((on == NULL) == (why != NULL));
	if (word == NULL)
		g_assert_true(on == all->pdata[0]);
	else
		g_assert_nonnull(strstr(why, word));
}

static void check_follow(const GPtrArray *all, Json *b, const char *const *names, const char *word)
{
	check_follow_with(all, b, names, NULL, word);
}

static void test_an_incremental_backup_needs_all_that_it_rests_on(void)
{
	static const char *const root[] = { "root", NULL }, *const two[] = { "root", "data", NULL },
				 *const none[] = { NULL };
	static const char id[] = "20260101T000000Z-00000000", bitmap[] = "plim-20260101T000000Z-00000000";
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(drop);

	check_follow(all, blocks(MIB, bitmap, false), root, "no backup of it yet");
	g_ptr_array_add(all, backup(id, NULL, "2026-01-02T03:04:05Z"));
	check_follow(all, blocks(MIB, bitmap, false), root, NULL);
	check_follow(all, blocks(2 * MIB, bitmap, false), root, "another size");
	check_follow(all, blocks(MIB, "plim-20260101T000000Z-00000009", false), root, "is lost");
	check_follow(all, blocks(MIB, bitmap, true), root, "not whole");
	check_follow(all, NULL, root, "another size");
	check_follow(all, blocks(MIB, bitmap, false), two, "no disk 'data'");
	check_follow(all, blocks(MIB, bitmap, false), none, "is gone");
	g_ptr_array_set_size(all, 0);
	g_ptr_array_add(all, backup(id, "20260101T000000Z-00000005", "2026-01-02T03:04:05Z"));
	check_follow(all, blocks(MIB, bitmap, false), root, "is not there");
}

/* ---- keys ---- */

#define KEYED_ID "20260102T030405Z-0a1b2c3d"
/* HMAC-SHA256 of the key 00 01 ... 1f, by Python's hmac. */
#define KEYED_PASSPHRASE "9590f15a6fb14fbbeb93b608e551edca65be9acda96ecb397d4dc3d40187171f"
#define KEYED_CHECK "132b0a9a174aba35ad39898752bcf8a8"
/* The same of "plimsoll backup manifest ID " and the SHA-256 of "{}". */
#define EMPTY_DIGEST "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define EMPTY_MAC "d414ba39f7d45cedd3825c04dbc00c8d72c68260f3f0ebfdb27e110e04020c14"

static BackupKey *key(uint8_t first)
{
	uint8_t bytes[BACKUP_KEY_MIN];
	g_autoptr(GError) err = NULL;
	BackupKey *k;

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(first + i);
	k = backup_key_of_bytes(bytes, sizeof bytes, &err);
	g_assert_no_error(err);
	return k;
}

static Json *encrypted_manifest(const char *id)
{
	Json *j = manifest(id, NULL, "2026-01-02T03:04:05Z");

	json_put_int(j, "version", 2);
	json_put_str(j, "encryption", "luks");
	json_put_str(j, "key_check", KEYED_CHECK);
	return j;
}

/* As it is read in a repository, from the hand of who has the key 00 01 ... 1f. */
static Backup *encrypted_backup(void)
{
	_cleanup_json_ Json *j = encrypted_manifest(KEYED_ID);
	g_autofree char *text = json_print(j);
	g_autoptr(GError) err = NULL;
	g_autoptr(BackupKey) k = key(0);
	Backup *b = backup_parse(text, strlen(text), &err);

	g_assert_no_error(err);
	b->mac = backup_key_mac(k, b->id, b->digest);
	return b;
}

/* Nobody could read a backup again if one of these came out otherwise. */
static void test_what_is_derived_from_a_key_never_changes(void)
{
	g_autoptr(BackupKey) k = key(0);
	g_autofree char *passphrase = backup_key_passphrase(k, KEYED_ID),
			*check = backup_key_check(k, KEYED_ID),
			*mac = backup_key_mac(k, KEYED_ID, EMPTY_DIGEST),
			*next = backup_key_passphrase(k, "20260102T030405Z-0a1b2c3e");

	g_assert_cmpstr(passphrase, ==, KEYED_PASSPHRASE);
	g_assert_cmpstr(check, ==, KEYED_CHECK);
	g_assert_cmpstr(mac, ==, EMPTY_MAC);
	g_assert_cmpstr(next, !=, passphrase);
}

static void test_bytes_that_are_no_key_are_refused(void)
{
	static const size_t wrong[] = { 0, BACKUP_KEY_MIN - 1, BACKUP_KEY_MAX + 1 };
	uint8_t bytes[BACKUP_KEY_MAX + 1];
	g_autoptr(BackupKey) largest = NULL;

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(GError) err = NULL;

		g_assert_null(backup_key_of_bytes(bytes, wrong[i], &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
	largest = backup_key_of_bytes(bytes, BACKUP_KEY_MAX, NULL);
	g_assert_nonnull(largest);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i % 7);
	g_assert_null(backup_key_of_bytes(bytes, BACKUP_KEY_MIN, NULL));
}

static void check_fits(const BackupKey *k, const Backup *b, int code, const char *word)
{
	g_autoptr(GError) err = NULL;

	g_assert_true(backup_key_fits(k, b, &err) == (word == NULL));
	if (word == NULL)
		return;
	g_assert_error(err, ERR, code);
	g_assert_nonnull(strstr(err->message, word));
	/* Of a key, who knows where it came from says what to do. */
	g_assert_true((err_advice(err) != NULL) == (code == ERR_CONFLICT));
}

static void test_a_backup_takes_its_own_key_and_no_other(void)
{
	g_autoptr(Backup) plain = backup(KEYED_ID, NULL, "2026-01-02T03:04:05Z"), b = encrypted_backup();
	g_autoptr(BackupKey) right = key(0), wrong = key(1);

	check_fits(NULL, plain, 0, NULL);
	check_fits(right, plain, ERR_INVALID, "is not encrypted");
	check_fits(right, b, 0, NULL);
	check_fits(wrong, b, ERR_INVALID, "with another key");
	check_fits(NULL, b, ERR_INVALID, "is encrypted");
}

/* Nobody is to look for another key then. */
static void test_a_manifest_that_was_changed_is_not_taken_for_a_wrong_key(void)
{
	static const char changed[] = "the manifest of backup " KEYED_ID " was changed since it was written";
	g_autoptr(Backup) b = encrypted_backup();
	g_autoptr(BackupKey) right = key(0), wrong = key(1);
	g_autofree char *mac = g_strdup(b->mac);

	b->digest[0] ^= 1;
	check_fits(right, b, ERR_CONFLICT, changed);
	check_fits(wrong, b, ERR_INVALID, "with another key");
	b->digest[0] ^= 1;
	/* Each of its digits counts, and that there are no more. */
	for (size_t i = 0; i < BACKUP_MAC_LENGTH; i++) {
		b->mac[i] ^= 1;
		check_fits(right, b, ERR_CONFLICT, changed);
		b->mac[i] ^= 1;
	}
	check_fits(right, b, 0, NULL);
	g_free(b->mac);
	b->mac = g_strconcat(mac, "0", NULL);
	check_fits(right, b, ERR_CONFLICT, changed);
	g_clear_pointer(&b->mac, g_free);
	b->no_mac = g_strdup("it is gone");
	check_fits(right, b, ERR_CONFLICT, "manifest.hmac of backup " KEYED_ID " can't be read: it is gone");
	check_fits(wrong, b, ERR_INVALID, "with another key");
}

static void test_a_chain_is_encrypted_as_a_whole_or_not_at_all(void)
{
	static const char full[] = "20260101T030405Z-0a1b2c3d";
	g_autoptr(Backup) below = backup(full, NULL, "2026-01-01T03:04:05Z"), b = encrypted_backup(),
			  plain = backup("20260103T030405Z-0a1b2c3d", full, "2026-01-03T03:04:05Z");
	g_autoptr(GPtrArray) chain = g_ptr_array_new();
	g_autoptr(GError) err = NULL;

	g_ptr_array_add(chain, below);
	g_ptr_array_add(chain, plain);
	g_assert_true(backup_chain_check(chain, NULL));
	g_ptr_array_insert(chain, 1, b);
	g_assert_false(backup_chain_check(chain, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_nonnull(strstr(err->message, "backups 20260101T030405Z-0a1b2c3d and " KEYED_ID
					      " rest on each other and only one of them is encrypted"));
	g_ptr_array_remove_index(chain, 0);
	g_assert_false(backup_chain_check(chain, NULL));
	g_ptr_array_remove_index(chain, 1);
	g_assert_true(backup_chain_check(chain, NULL));
}

static void test_a_vm_that_was_encrypted_does_not_become_plain_unasked(void)
{
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(drop);
	g_autoptr(GError) err = NULL;

	g_assert_true(backup_check_plain(all, NULL));
	g_ptr_array_add(all, encrypted_backup());
	g_assert_false(backup_check_plain(all, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_nonnull(strstr(err->message, KEYED_ID));
	g_assert_nonnull(strstr(err_advice(err), "backup.key_file"));
	g_assert_nonnull(strstr(err_advice(err), "--no-encryption"));
	/* Somebody asked for the newer one. */
	g_ptr_array_insert(all, 0, backup("20260103T030405Z-0a1b2c3d", NULL, "2026-01-03T03:04:05Z"));
	g_assert_true(backup_check_plain(all, NULL));
}

static void test_an_encrypted_manifest_is_of_the_version_that_says_so(void)
{
	static const char *const wrong[] = { "{\"version\":1}",
					     "{\"encryption\":null}",
					     "{\"encryption\":\"aes\"}",
					     "{\"key_check\":null}",
					     "{\"key_check\":\"132b0a9a174aba35ad39898752bcf8a\"}",
					     "{\"key_check\":\"132b0a9a174aba35ad39898752bcf8aX\"}" };
	_cleanup_json_ Json *j = encrypted_manifest(KEYED_ID), *again = NULL;
	g_autoptr(GError) err = NULL;
	g_autoptr(Backup) b = backup_of_json(j, &err);

	g_assert_no_error(err);
	g_assert_cmpstr(b->key_check, ==, KEYED_CHECK);
	again = backup_to_json(b);
	g_assert_cmpint(json_int(again, "version", 0), ==, BACKUP_FORMAT_ENCRYPTED);
	g_assert_cmpstr(json_str(again, "encryption"), ==, "luks");
	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		_cleanup_json_ Json *bad = encrypted_manifest(KEYED_ID),
				    *change = json_parse(wrong[i], strlen(wrong[i]), NULL);

		json_object_update(bad, change);
		g_assert_null(backup_of_json(bad, NULL));
	}
}

static void test_an_incremental_backup_has_the_key_of_what_it_rests_on(void)
{
	static const char *const root[] = { "root", NULL };
	static const char bitmap[] = "plim-" KEYED_ID;
	g_autoptr(BackupKey) right = key(0), wrong = key(1);
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(drop);

	g_ptr_array_add(all, encrypted_backup());
	check_follow_with(all, blocks(MIB, bitmap, false), root, right, NULL);
	check_follow_with(all, blocks(MIB, bitmap, false), root, wrong, "with another key");
	check_follow_with(all, blocks(MIB, bitmap, false), root, NULL, "is encrypted, and this one is not");
	g_ptr_array_set_size(all, 0);
	g_ptr_array_add(all, backup(KEYED_ID, NULL, "2026-01-02T03:04:05Z"));
	check_follow_with(all, blocks(MIB, bitmap, false), root, right, "is not encrypted, and this one is");
}

static void test_bitmaps_without_a_use_go(void)
{
	static const char *const root[] = { "root", NULL };
	static const char id[] = "20260101T000000Z-00000000", bitmap[] = "plim-20260101T000000Z-00000000";
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(drop);
	_cleanup_json_ Json *b = blocks(MIB, bitmap, false), *broken = blocks(MIB, bitmap, true),
			    *none = NULL, *one = NULL, *two = NULL, *many = NULL;
	Json *list;

	none = backup_spare_bitmaps(all, b, root);
	g_assert_cmpuint(json_array_size(none), ==, 0);
	one = backup_spare_bitmaps(all, broken, root);
	g_assert_cmpuint(json_array_size(one), ==, 1);
	g_ptr_array_add(all, backup(id, NULL, "2026-01-02T03:04:05Z"));
	two = backup_spare_bitmaps(all, b, root);
	g_assert_cmpuint(json_array_size(two), ==, 1);
	g_assert_cmpstr(json_str(json_array_get(two, 0), "bitmap"), ==, bitmap);
	g_assert_cmpstr(json_str(json_array_get(two, 0), "disk"), ==, "root");
	/* Of other repositories: the oldest go. */
	list = json_arr(json_obj(json_array_get(b, 0), "inserted"), "dirty-bitmaps");
	for (int i = 9; i > 4; i--) {
		g_autofree char *name = g_strdup_printf("plim-20260101T000000Z-0000000%d", i);

		json_array_append_new(list, json_pack("{s:s,s:b}", "name", name, "recording", 1));
	}
	many = backup_spare_bitmaps(all, b, root);
	g_assert_cmpuint(json_array_size(many), ==, 3);
	g_assert_cmpstr(json_str(json_array_get(many, 1), "bitmap"), ==, "plim-20260101T000000Z-00000005");
}

/* ---- which are kept ---- */

static char *pruned(const GPtrArray *all, uint64_t last, uint64_t daily, uint64_t weekly)
{
	const struct backup_policy p = { last, daily, weekly };
	g_autoptr(GError) err = NULL;
	g_autoptr(GPtrArray) out = backup_prune(all, &p, &err);
	GString *s = g_string_new(NULL);

	g_assert_no_error(err);
	for (guint i = 0; i < out->len; i++)
		g_string_append_printf(
		    s, "%s%ld", i > 0 ? " " : "",
		    strtol(((Backup *)out->pdata[i])->id + strlen("20260101T000000Z-"), NULL, 16));
	return g_string_free(s, FALSE);
}

static void test_a_policy_keeps_what_it_says_and_what_that_rests_on(void)
{
	/* 2026-01-05 is a Monday. */
	static const char *const full[] = { "03 10", "04 10", "05 10", "05 20", "06 10", "12 10", NULL };
	static const char *const chain[] = { "03 10", "03 11 0", "03 12 1", "04 10 2",
					     "05 10", "05 11 4", NULL };
	static const struct {
		const char *const *all;
		uint64_t last, daily, weekly;
		const char *gone;
	} cases[] = {
		{ full, 1, 0, 0, "4 3 2 1 0" }, { full, 6, 0, 0, "" },         { full, 100, 0, 0, "" },
		{ full, 0, 3, 0, "2 1 0" },     { full, 0, 0, 2, "3 2 1 0" },  { full, 0, 0, 3, "3 2 0" },
		{ full, 2, 0, 3, "3 2 0" },     { chain, 1, 0, 0, "3 2 1 0" }, { chain, 0, 2, 0, "" },
		{ chain, 2, 0, 0, "3 2 1 0" },  { chain, 3, 0, 0, "" },        { chain, 0, 0, 1, "3 2 1 0" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GPtrArray) all = backups(cases[i].all);
		g_autofree char *gone = pruned(all, cases[i].last, cases[i].daily, cases[i].weekly);

		g_assert_cmpstr(gone, ==, cases[i].gone);
	}
}

static void test_a_policy_that_keeps_nothing_is_refused(void)
{
	static const char *const one[] = { "03 10", NULL };
	const struct backup_policy p = { 0 };
	g_autoptr(GPtrArray) all = backups(one);
	g_autoptr(GError) err = NULL;

	g_assert_null(backup_prune(all, &p, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_nonnull(err_advice(err));
}

/* Whatever rests on whatever: none is deleted before what rests on it, nor when something kept does. */
static void test_no_chain_is_ever_broken(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);

	for (int round = 0; round < 300; round++) {
		int n = g_rand_int_range(rand, 1, 20);
		g_autofree const char **row = g_new0(const char *, (gsize)n + 1);
		const struct backup_policy p = { (uint64_t)g_rand_int_range(rand, 1, 4),
						 (uint64_t)g_rand_int_range(rand, 0, 4), 0 };
		g_autoptr(GPtrArray) all = NULL, out = NULL;

		for (int i = 0; i < n; i++)
			row[i] = i > 0 && g_rand_boolean(rand)
				     ? g_strdup_printf("%02d 10 %d", g_rand_int_range(rand, 1, 28),
						       g_rand_int_range(rand, 0, i))
				     : g_strdup_printf("%02d 10", g_rand_int_range(rand, 1, 28));
		all = backups(row);
		out = backup_prune(all, &p, NULL);
		g_assert_cmpuint(out->len, <, all->len);
		for (guint i = 0; i < all->len; i++) {
			const Backup *b = all->pdata[i];
			guint at, parent_at;

			if (b->parent == NULL ||
			    !g_ptr_array_find(out, backup_find(all, b->parent), &parent_at))
				continue;
			g_assert_true(g_ptr_array_find(out, b, &at));
			g_assert_cmpuint(at, <, parent_at);
		}
		for (int i = 0; i < n; i++)
			g_free((char *)row[i]);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/backup/manifest", test_a_manifest_comes_back_as_it_was_written);
	g_test_add_func("/backup/manifest-wrong", test_a_manifest_that_is_wrong_is_refused);
	g_test_add_func("/backup/names", test_names_say_what_they_are_of);
	g_test_add_func("/backup/follow", test_an_incremental_backup_needs_all_that_it_rests_on);
	g_test_add_func("/backup/spare-bitmaps", test_bitmaps_without_a_use_go);
	g_test_add_func("/backup/key-derived", test_what_is_derived_from_a_key_never_changes);
	g_test_add_func("/backup/key-bytes", test_bytes_that_are_no_key_are_refused);
	g_test_add_func("/backup/key-fits", test_a_backup_takes_its_own_key_and_no_other);
	g_test_add_func("/backup/key-changed", test_a_manifest_that_was_changed_is_not_taken_for_a_wrong_key);
	g_test_add_func("/backup/key-chain", test_a_chain_is_encrypted_as_a_whole_or_not_at_all);
	g_test_add_func("/backup/key-plain", test_a_vm_that_was_encrypted_does_not_become_plain_unasked);
	g_test_add_func("/backup/key-manifest", test_an_encrypted_manifest_is_of_the_version_that_says_so);
	g_test_add_func("/backup/key-follow", test_an_incremental_backup_has_the_key_of_what_it_rests_on);
	g_test_add_func("/backup/prune", test_a_policy_keeps_what_it_says_and_what_that_rests_on);
	g_test_add_func("/backup/prune-nothing", test_a_policy_that_keeps_nothing_is_refused);
	g_test_add_func("/backup/prune-chains", test_no_chain_is_ever_broken);
	return g_test_run();
}
