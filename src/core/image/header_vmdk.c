/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMDK with data: little-endian header "KDMV" at 0, a text descriptor inside
 * the file. When its grain directory is "at the end", a footer of three
 * sectors at the end of the file holds the header that counts.
 *
 * QEMU believes a header of capacity 0 that its descriptor lists extents in
 * other files, and looks for a parent's name at 0x200 whatever the header
 * says; so both places are looked at here, and capacity 0 is refused.
 */
#include "core/image/header-impl.h"

enum {
	AT_VERSION = 4,
	AT_CAPACITY = 12,
	AT_DESC_OFFSET = 28,
	AT_DESC_SIZE = 36,
	AT_GD_OFFSET = 56,
	HEADER_LENGTH = 79,
};

#define SECTOR UINT64_C(512)
#define GD_AT_END UINT64_MAX
#define QEMU_DESC_AT UINT64_C(0x200)
#define QEMU_DESC_LEN (20 * SECTOR)
#define DESC_MAX (UINT64_C(1) << 20)
/* Sectors; beyond it the multiplication would overflow. Any real limit is far below. */
#define CAPACITY_MAX (UINT64_MAX / SECTOR)

/* The value of `key=value` in a line, without spaces and quotes; NULL when it is another line. */
static char *value_of(const char *line, const char *key)
{
	size_t n = strlen(key);
	char *v;

	if (g_ascii_strncasecmp(line, key, n) != 0)
		return NULL;
	line += n;
	line += strspn(line, " \t");
	if (*line != '=')
		return NULL;
	v = g_strstrip(g_strdup(line + 1));
	if (*v == '"') {
		memmove(v, v + 1, strlen(v));
		v[strcspn(v, "\"")] = '\0';
	}
	return v;
}

static bool is_extent(const char *line)
{
	static const char *const access[] = { "RW ", "RDONLY ", "NOACCESS " };

	for (size_t i = 0; i < G_N_ELEMENTS(access); i++)
		if (g_ascii_strncasecmp(line, access[i], strlen(access[i])) == 0)
			return true;
	return false;
}

/* `RW 204800 SPARSE "disk.vmdk"`: the one extent of a whole image is the file itself. */
static bool check_extent(const char *line, unsigned *n_extents, GError **err)
{
	g_auto(GStrv) word = g_strsplit_set(line, " \t", 4);
	bool sparse = g_strv_length(word) >= 4 && g_ascii_strcasecmp(word[2], "SPARSE") == 0;

	if (!sparse || strchr(line, '/') != NULL || ++*n_extents > 1)
		return header_fail_names(IMAGE_FORMAT_VMDK, "an extent", line, strlen(line), err);
	return true;
}

static bool check_create_type(const char *type, bool *seen, GError **err)
{
	if (*seen || (g_ascii_strcasecmp(type, "monolithicSparse") != 0 &&
		      g_ascii_strcasecmp(type, "streamOptimized") != 0))
		return header_fail_names(IMAGE_FORMAT_VMDK, "other files: it is of type", type, strlen(type),
					 err);
	*seen = true;
	return true;
}

static bool check_line(const char *line, bool *seen_type, unsigned *n_extents, GError **err)
{
	g_autofree char *type = value_of(line, "createType"), *parent = value_of(line, "parentCID");

	if (type != NULL)
		return check_create_type(type, seen_type, err);
	if (parent != NULL && g_ascii_strcasecmp(parent, "ffffffff") != 0)
		return header_fail_names(IMAGE_FORMAT_VMDK, "a parent, of CID", parent, strlen(parent), err);
	return !is_extent(line) || check_extent(line, n_extents, err);
}

static bool check_descriptor(const char *text, GError **err)
{
	g_auto(GStrv) line = g_strsplit_set(text, "\r\n", -1);
	bool seen_type = false;
	unsigned n_extents = 0;

	for (size_t i = 0; line[i] != NULL; i++)
		if (!check_line(g_strstrip(line[i]), &seen_type, &n_extents, err))
			return false;
	if (!seen_type)
		return header_fail(IMAGE_FORMAT_VMDK, ERR_INVALID, "has no descriptor that says what it is",
				   err);
	return true;
}

/* Anywhere in these bytes, in any spelling, also behind a NUL. */
static bool check_no_parent(const char *text, size_t len, GError **err)
{
	static const char key[] = "parentFileNameHint";

	for (size_t i = 0; i + strlen(key) <= len; i++) {
		const char *name = text + i + strlen(key);

		if (g_ascii_strncasecmp(text + i, key, strlen(key)) != 0)
			continue;
		name += strspn(name, " \t=\"");
		return header_fail_names(IMAGE_FORMAT_VMDK, "a parent", name, strcspn(name, "\"\r\n"), err);
	}
	return true;
}

static char *read_text(const struct header_source *src, uint64_t at, uint64_t len, GError **err)
{
	g_autofree char *text = g_malloc0((gsize)len + 1);

	return header_read(src, at, text, (size_t)len, err) ? g_steal_pointer(&text) : NULL;
}

static bool check_descriptors(const struct header_source *src, const uint8_t *h, GError **err)
{
	uint64_t at = le64(h + AT_DESC_OFFSET), n = le64(h + AT_DESC_SIZE);
	uint64_t qemu_len = MIN(QEMU_DESC_LEN, src->size - MIN(src->size, QEMU_DESC_AT));
	g_autofree char *own = NULL, *qemus = NULL;

	if (at == 0 || n == 0 || n > DESC_MAX / SECTOR || at > CAPACITY_MAX)
		return header_fail(IMAGE_FORMAT_VMDK, ERR_INVALID, "has no descriptor that says what it is",
				   err);
	own = read_text(src, at * SECTOR, MIN(n * SECTOR, src->size - MIN(src->size, at * SECTOR)), err);
	if (own == NULL)
		return false;
	qemus = read_text(src, QEMU_DESC_AT, qemu_len, err);
	if (qemus == NULL)
		return false;
	return check_no_parent(own, (size_t)MIN(n * SECTOR, src->size - at * SECTOR), err) &&
	       check_no_parent(qemus, (size_t)qemu_len, err) && check_descriptor(own, err);
}

static bool check_capacity(const uint8_t *h, uint64_t *ret_virtual, GError **err)
{
	uint64_t sectors = le64(h + AT_CAPACITY);

	if (sectors == 0)
		return header_fail_names(IMAGE_FORMAT_VMDK, "the files that hold its data", NULL, 0, err);
	*ret_virtual = sectors > CAPACITY_MAX ? UINT64_MAX : sectors * SECTOR;
	return true;
}

/* The footer: a marker, a header, the end-of-stream marker. */
static bool check_footer(const struct header_source *src, uint64_t *ret_virtual, GError **err)
{
	uint8_t footer[3 * SECTOR];

	if (src->size < sizeof footer ||
	    !header_read(src, src->size - sizeof footer, footer, sizeof footer, err) ||
	    memcmp(footer + SECTOR, "KDMV", 4) != 0)
		return header_fail(IMAGE_FORMAT_VMDK, ERR_INVALID, "is cut off: its footer is missing", err);
	return check_capacity(footer + SECTOR, ret_virtual, err);
}

bool header_check_vmdk(const struct header_source *src, uint64_t *ret_virtual, GError **err)
{
	uint8_t h[HEADER_LENGTH];
	uint64_t first = 0, last = 0;

	if (!header_read(src, 0, h, sizeof h, err) || !check_capacity(h, &first, err))
		return false;
	if (le32(h + AT_VERSION) < 1 || le32(h + AT_VERSION) > 3)
		return header_fail(IMAGE_FORMAT_VMDK, ERR_UNSUPPORTED, "has an unknown version", err);
	if (!check_descriptors(src, h, err))
		return false;
	if (le64(h + AT_GD_OFFSET) == GD_AT_END && !check_footer(src, &last, err))
		return false;
	*ret_virtual = MAX(first, last);
	return true;
}
