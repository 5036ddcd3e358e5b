/* SPDX-License-Identifier: Apache-2.0 */
#include "core/backup/manifest.h"
#include "base/str.h"
#include "base/time.h"

#include <string.h>

#define BITMAP_PREFIX "plim-"
#define SHA512_HEX 128
/* Where the parts of an id stand: 20261121T093000Z-1a2b3c4d. */
#define ID_TIME 16
#define ID_LENGTH 25
#define SIZE_MAX_GUEST (UINT64_C(16) << 40)
/* An hour: nobody waits longer for a freeze. */
#define FREEZE_MAX (UINT64_C(3600) * 1000000)
#define NOTE_MAX 4096

static void disk_free(gpointer p)
{
	BackupDisk *d = p;

	g_free(d->name);
	g_free(d->sha512);
	g_free(d);
}

Backup *backup_new(void)
{
	Backup *b = g_new0(Backup, 1);

	b->disk = g_ptr_array_new_with_free_func(disk_free);
	b->left_out = g_new0(char *, 1);
	return b;
}

Backup *backup_free(Backup *b)
{
	if (b == NULL)
		return NULL;
	g_free(b->id);
	g_free(b->parent);
	g_free(b->created_at);
	g_free(b->host);
	g_free(b->machine);
	vm_free(b->vm);
	g_free(b->note);
	g_ptr_array_unref(b->disk);
	g_strfreev(b->left_out);
	g_free(b->key_check);
	g_free(b->digest);
	g_free(b->mac);
	g_free(b->no_mac);
	g_free(b);
	return NULL;
}

BackupDisk *backup_disk_new(const char *name, uint64_t size)
{
	BackupDisk *d = g_new0(BackupDisk, 1);

	d->name = g_strdup(name);
	d->size = size;
	return d;
}

BackupDisk *backup_disk_find(const Backup *b, const char *name)
{
	for (guint i = 0; i < b->disk->len; i++) {
		BackupDisk *d = b->disk->pdata[i];

		if (g_str_equal(d->name, name))
			return d;
	}
	return NULL;
}

/* ---- names ---- */

char *backup_id_of(const char *now, const char *operation)
{
	GString *s = g_string_new(NULL);

	for (const char *p = now; *p != '\0' && *p != '.' && *p != 'Z'; p++)
		if (g_ascii_isdigit(*p) || *p == 'T')
			g_string_append_c(s, *p);
	g_string_append_printf(s, "Z-%.8s", operation);
	return g_string_free(s, FALSE);
}

/* The form of each place: 0 a digit, x a hex digit, else the character itself. */
static bool place_fits(char form, char c)
{
	if (form == '0')
		return g_ascii_isdigit(c);
	if (form == 'x')
		return g_ascii_isdigit(c) || (c >= 'a' && c <= 'f');
	return c == form;
}

bool backup_id_valid(const char *text)
{
	static const char form[] = "00000000T000000Z-xxxxxxxx";

	if (text == NULL || strlen(text) != ID_LENGTH)
		return false;
	for (size_t i = 0; i < ID_LENGTH; i++)
		if (!place_fits(form[i], text[i]))
			return false;
	return true;
}

char *backup_bitmap(const char *id)
{
	return g_strconcat(BITMAP_PREFIX, id, NULL);
}

bool backup_is_bitmap(const char *name)
{
	return name != NULL && g_str_has_prefix(name, BITMAP_PREFIX) &&
	       backup_id_valid(name + strlen(BITMAP_PREFIX));
}

char *backup_file(const char *disk)
{
	return g_strconcat(disk, ".qcow2", NULL);
}

char *backup_backing(const char *parent, const char *disk)
{
	return g_strdup_printf("../%s/%s.qcow2", parent, disk);
}

/* ---- the manifest ---- */

static const char *const known[] = { "format", "version", "id",       "parent",      "created_at",
				     "host",   "machine", "vm",       "consistency", "note",
				     "freeze", "disks",   "left_out", "encryption",  "key_check" };

static bool check_members(const Json *j, const char *const *names, size_t n, GError **err)
{
	const char *key;
	Json *v;

	json_object_foreach((Json *)j, key, v)
	{
		size_t i = 0;

		while (i < n && !g_str_equal(names[i], key))
			i++;
		if (i == n)
			return fail(err, ERR_INVALID, "the manifest has an unknown member '%.64s'", key);
	}
	return true;
}

static bool fail_member(const char *name, GError **err)
{
	return fail(err, ERR_INVALID, "the manifest's '%s' is missing, or is not what it should be", name);
}

/* A plain text of at most `max` bytes; absent and null are NULL, which is fine unless it must be there. */
static bool take_text(const Json *j, const char *key, size_t max, bool must, char **ret, GError **err)
{
	const Json *v = json_object_get(j, key);
	const char *text = json_string_value(v);

	if (v == NULL || json_is_null(v))
		return !must || fail_member(key, err);
	if (text == NULL || strlen(text) > max || !text_is_plain(text))
		return fail_member(key, err);
	*ret = g_strdup(text);
	return true;
}

static bool take_number(const Json *j, const char *key, uint64_t max, uint64_t *ret, GError **err)
{
	const Json *v = json_object_get(j, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max)
		return fail_member(key, err);
	*ret = (uint64_t)json_integer_value(v);
	return true;
}

static bool hex_valid(const char *text, size_t length)
{
	return text != NULL && strlen(text) == length && strspn(text, "0123456789abcdef") == length;
}

/* The vm has such a disk: what is restored must have a place. */
static bool take_disk(Backup *b, const Json *j, GError **err)
{
	static const char *const members[] = { "name", "file", "size", "bytes", "sha512" };
	const char *name = json_str(j, "name"), *hash = json_str(j, "sha512");
	g_autofree char *file = name != NULL ? backup_file(name) : NULL;
	uint64_t size, bytes;
	BackupDisk *d;

	if (!json_is_object(j) || !check_members(j, members, G_N_ELEMENTS(members), err))
		return json_is_object(j) ? false : fail_member("disks", err);
	if (name == NULL || vm_disk_find(b->vm, name) == NULL || backup_disk_find(b, name) != NULL)
		return fail(err, ERR_INVALID, "the manifest has a disk that its vm has not, or twice");
	if (g_strcmp0(json_str(j, "file"), file) != 0)
		return fail_member("file", err);
	if (!hex_valid(hash, SHA512_HEX))
		return fail_member("sha512", err);
	if (!take_number(j, "size", SIZE_MAX_GUEST, &size, err) ||
	    !take_number(j, "bytes", INT64_MAX, &bytes, err))
		return false;
	d = backup_disk_new(name, size);
	d->bytes = bytes;
	d->sha512 = g_strdup(hash);
	g_ptr_array_add(b->disk, d);
	return true;
}

static bool take_disks(Backup *b, const Json *j, GError **err)
{
	const Json *list = json_arr(j, "disks"), *item;
	size_t i;

	if (json_array_size(list) == 0)
		return fail_member("disks", err);
	json_array_foreach((Json *)list, i, item)
	{
		if (!take_disk(b, item, err))
			return false;
	}
	return true;
}

static bool take_left_out(Backup *b, const Json *j, GError **err)
{
	const Json *v = json_object_get(j, "left_out"), *item;
	size_t i;

	if (v == NULL)
		return true;
	if (!json_is_array(v))
		return fail_member("left_out", err);
	json_array_foreach((Json *)v, i, item)
	{
		const char *name = json_string_value(item);

		if (name == NULL || vm_disk_find(b->vm, name) == NULL)
			return fail_member("left_out", err);
	}
	g_strfreev(b->left_out);
	b->left_out = json_strv(v);
	return true;
}

static bool take_consistency(Backup *b, const Json *j, GError **err)
{
	const char *text = json_str(j, "consistency");

	b->file_system = g_strcmp0(text, "file-system") == 0;
	return b->file_system || g_strcmp0(text, "crash") == 0 || fail_member("consistency", err);
}

static bool take_names(Backup *b, const Json *j, GError **err)
{
	uint64_t when;

	if (!take_text(j, "id", ID_LENGTH, true, &b->id, err) ||
	    !take_text(j, "parent", ID_LENGTH, false, &b->parent, err) ||
	    !take_text(j, "created_at", 64, true, &b->created_at, err) ||
	    !take_text(j, "host", 256, false, &b->host, err) ||
	    !take_text(j, "machine", 256, false, &b->machine, err) ||
	    !take_text(j, "note", NOTE_MAX, false, &b->note, err))
		return false;
	if (!backup_id_valid(b->id))
		return fail_member("id", err);
	if (b->parent != NULL && (!backup_id_valid(b->parent) || g_str_equal(b->parent, b->id)))
		return fail_member("parent", err);
	return time_parse(b->created_at, &when) || fail_member("created_at", err);
}

static bool take_vm(Backup *b, const Json *j, GError **err)
{
	const Json *config = json_obj(j, "vm");

	b->vm = config != NULL ? vm_of_json(config, err) : NULL;
	if (config == NULL)
		return fail_member("vm", err);
	if (b->vm == NULL) {
		g_prefix_error(err, "the manifest's vm can't be used: ");
		return false;
	}
	return b->vm->id != NULL || fail_member("vm", err);
}

/* What the version says, and nothing else: none is taken for one without it because a member was lost. */
static bool take_encryption(Backup *b, const Json *j, GError **err)
{
	bool encrypted = json_int(j, "version", 0) == BACKUP_FORMAT_ENCRYPTED;
	const char *check = json_str(j, "key_check");

	if (!encrypted && json_object_get(j, "encryption") == NULL && json_object_get(j, "key_check") == NULL)
		return true;
	if (!encrypted || g_strcmp0(json_str(j, "encryption"), "luks") != 0)
		return fail_member("encryption", err);
	if (!hex_valid(check, BACKUP_CHECK_LENGTH))
		return fail_member("key_check", err);
	b->key_check = g_strdup(check);
	return true;
}

static bool version_known(const Json *j)
{
	json_int_t version = json_int(j, "version", 0);

	return version == BACKUP_FORMAT || version == BACKUP_FORMAT_ENCRYPTED;
}

Backup *backup_of_json(const Json *j, GError **err)
{
	g_autoptr(Backup) b = backup_new();

	if (g_strcmp0(json_str(j, "format"), "plimsoll-backup") != 0) {
		fail(err, ERR_INVALID, "that is no manifest of a backup");
		return NULL;
	}
	if (!version_known(j)) {
		fail_advice(err, ERR_UNSUPPORTED, "Use the plimsolld that made it, or a newer one.",
			    "the backup is of a version that is not known here");
		return NULL;
	}
	if (!check_members(j, known, G_N_ELEMENTS(known), err) || !take_names(b, j, err) ||
	    !take_vm(b, j, err) || !take_consistency(b, j, err) ||
	    !take_number(j, "freeze", FREEZE_MAX, &b->freeze, err) || !take_disks(b, j, err) ||
	    !take_left_out(b, j, err) || !take_encryption(b, j, err))
		return NULL;
	return g_steal_pointer(&b);
}

Backup *backup_parse(const char *text, size_t len, GError **err)
{
	_cleanup_json_ Json *j = NULL;
	Backup *b;

	if (len > BACKUP_MANIFEST_MAX) {
		fail(err, ERR_INVALID, "the manifest is too large");
		return NULL;
	}
	j = json_parse(text, len, err);
	b = j != NULL ? backup_of_json(j, err) : NULL;
	if (b != NULL && b->key_check != NULL)
		b->digest = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)text, len);
	return b;
}

static Json *disks_to_json(const Backup *b, bool with_files)
{
	Json *list = json_array();

	for (guint i = 0; i < b->disk->len; i++) {
		const BackupDisk *d = b->disk->pdata[i];
		g_autofree char *file = backup_file(d->name);
		Json *j = json_object();

		json_put_str(j, "name", d->name);
		if (with_files)
			json_put_str(j, "file", file);
		json_put_uint(j, "size", d->size);
		json_put_uint(j, "bytes", d->bytes);
		if (with_files)
			json_put_str(j, "sha512", d->sha512);
		json_array_append_new(list, j);
	}
	return list;
}

static void put_common(Json *j, const Backup *b)
{
	json_put_str(j, "parent", b->parent);
	json_put_str(j, "created_at", b->created_at);
	json_put_str(j, "host", b->host);
	json_put_str(j, "consistency", b->file_system ? "file-system" : "crash");
	json_put_str(j, "note", b->note);
	json_put_uint(j, "freeze", b->freeze);
	json_put(j, "left_out", json_of_strv((const char *const *)b->left_out));
}

Json *backup_to_json(const Backup *b)
{
	Json *j = json_object();

	json_put_str(j, "format", "plimsoll-backup");
	json_put_int(j, "version", b->key_check != NULL ? BACKUP_FORMAT_ENCRYPTED : BACKUP_FORMAT);
	json_put_str(j, "id", b->id);
	put_common(j, b);
	json_put_str(j, "machine", b->machine);
	if (b->key_check != NULL) {
		json_put_str(j, "encryption", "luks");
		json_put_str(j, "key_check", b->key_check);
	}
	json_put(j, "vm", vm_to_json(b->vm));
	json_put(j, "disks", disks_to_json(b, true));
	return j;
}

uint64_t backup_bytes(const Backup *b)
{
	uint64_t sum = 0;

	for (guint i = 0; i < b->disk->len; i++) {
		const BackupDisk *d = b->disk->pdata[i];

		sum = d->bytes > INT64_MAX - sum ? INT64_MAX : sum + d->bytes;
	}
	return sum;
}

Json *backup_to_api(const Backup *b)
{
	Json *j = json_object(), *vm = json_object();

	json_put_str(vm, "id", b->vm->id);
	json_put_str(vm, "name", b->vm->name);
	json_put_str(j, "id", b->id);
	json_put(j, "vm", vm);
	json_put_str(j, "kind", b->parent != NULL ? "incremental" : "full");
	put_common(j, b);
	json_put_str(j, "encryption", b->key_check != NULL ? "luks" : NULL);
	json_put_uint(j, "bytes", backup_bytes(b));
	json_put(j, "disks", disks_to_json(b, false));
	return j;
}

/* ---- lists ---- */

static uint64_t time_of(const Backup *b)
{
	uint64_t when = 0;

	time_parse(b->created_at, &when);
	return when;
}

int backup_compare(gconstpointer a, gconstpointer b)
{
	const Backup *x = *(Backup *const *)a, *y = *(Backup *const *)b;
	uint64_t tx = time_of(x), ty = time_of(y);

	return tx != ty ? (tx < ty ? 1 : -1) : strcmp(y->id, x->id);
}

const Backup *backup_find(const GPtrArray *backups, const char *id)
{
	for (guint i = 0; i < backups->len; i++) {
		const Backup *b = backups->pdata[i];

		if (g_str_equal(b->id, id))
			return b;
	}
	return NULL;
}

bool backup_check_free(const GPtrArray *backups, const char *id, GError **err)
{
	for (guint i = 0; i < backups->len; i++) {
		const Backup *b = backups->pdata[i];

		if (g_strcmp0(b->parent, id) == 0)
			return fail_advice(err, ERR_CONFLICT,
					   "Delete that one first; `plim backup prune` finds the order.",
					   "backup %s can't be deleted: %s rests on it", id, b->id);
	}
	return true;
}

static bool fail_chain(const Backup *b, const char *missing, GError **err)
{
	return fail_advice(err, ERR_CONFLICT, "Take an older backup; `plim backup list` shows them.",
			   "backup %s can't be used: %s, on which it rests, is not there", b->id, missing);
}

GPtrArray *backup_chain(const GPtrArray *backups, const Backup *b, GError **err)
{
	g_autoptr(GPtrArray) chain = g_ptr_array_new();
	const Backup *x = b;

	g_ptr_array_add(chain, (gpointer)b);
	while (x->parent != NULL) {
		const Backup *parent = backup_find(backups, x->parent);

		if (parent == NULL || !g_str_equal(parent->vm->id, b->vm->id) ||
		    g_ptr_array_find(chain, parent, NULL)) {
			fail_chain(b, x->parent, err);
			return NULL;
		}
		g_ptr_array_insert(chain, 0, (gpointer)parent);
		x = parent;
	}
	return g_steal_pointer(&chain);
}

bool backup_chain_check(const GPtrArray *chain, GError **err)
{
	for (guint i = 1; i < chain->len; i++) {
		const Backup *below = chain->pdata[i - 1], *b = chain->pdata[i];

		if ((below->key_check != NULL) != (b->key_check != NULL))
			return fail_advice(
			    err, ERR_CONFLICT,
			    "Bring both back from a copy of the repository, or take another backup.",
			    "backups %s and %s rest on each other and only one of them is encrypted: the "
			    "repository was changed",
			    below->id, b->id);
	}
	return true;
}
