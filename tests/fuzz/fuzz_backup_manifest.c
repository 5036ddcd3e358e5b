/* SPDX-License-Identifier: Apache-2.0 */
#include "core/backup/manifest.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever the bytes: it is refused with a reason, or comes back as it is and leads nowhere else. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(Backup) b = backup_parse((const char *)data, size, &err);
	_cleanup_json_ Json *j = NULL, *shown = NULL;
	g_autoptr(Backup) again = NULL;

	if (b == NULL) {
		g_assert_nonnull(err);
		return 0;
	}
	g_assert_no_error(err);
	g_assert_true(backup_id_valid(b->id) && (b->parent == NULL || backup_id_valid(b->parent)));
	for (guint i = 0; i < b->disk->len; i++)
		g_assert_null(strchr(((const BackupDisk *)b->disk->pdata[i])->name, '/'));
	j = backup_to_json(b);
	shown = backup_to_api(b);
	again = backup_of_json(j, &err);
	g_assert_no_error(err);
	g_assert_cmpstr(again->id, ==, b->id);
	g_assert_cmpstr(again->key_check, ==, b->key_check);
	g_assert_true((b->digest != NULL) == (b->key_check != NULL));
	return 0;
}
