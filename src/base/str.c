/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <inttypes.h>
#include <string.h>

static bool digits_to_uint(const char **p, uint64_t *ret)
{
	uint64_t v = 0;
	const char *s = *p;

	if (!g_ascii_isdigit(*s))
		return false;
	for (; g_ascii_isdigit(*s); s++)
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return false;
	*p = s;
	*ret = v;
	return true;
}

bool parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret, GError **err)
{
	const char *p = text;
	uint64_t v;

	if (!digits_to_uint(&p, &v) || *p != '\0')
		return fail(err, ERR_INVALID, "'%s' is not a whole number", text);
	if (v < min || v > max)
		return fail(err, ERR_INVALID, "%s is not between %" PRIu64 " and %" PRIu64, text, min, max);
	*ret = v;
	return true;
}

typedef struct Unit {
	const char *suffix;
	uint64_t factor;
} Unit;

#define KIB UINT64_C(1024)
#define KB UINT64_C(1000)

static const Unit size_units[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "K", KIB },
	{ "Ki", KIB },
	{ "KiB", KIB },
	{ "KB", KB },
	{ "M", KIB *KIB },
	{ "Mi", KIB *KIB },
	{ "MiB", KIB *KIB },
	{ "MB", KB *KB },
	{ "G", KIB *KIB *KIB },
	{ "Gi", KIB *KIB *KIB },
	{ "GiB", KIB *KIB *KIB },
	{ "GB", KB *KB *KB },
	{ "T", KIB *KIB *KIB *KIB },
	{ "Ti", KIB *KIB *KIB *KIB },
	{ "TiB", KIB *KIB *KIB *KIB },
	{ "TB", KB *KB *KB *KB },
};

static const Unit time_units[] = {
	{ "", UINT64_C(1000000) },
	{ "us", 1 },
	{ "ms", 1000 },
	{ "s", UINT64_C(1000000) },
	{ "min", UINT64_C(60000000) },
	{ "m", UINT64_C(60000000) },
	{ "h", UINT64_C(3600000000) },
	{ "d", UINT64_C(86400000000) },
};

static const Unit *find_unit(const Unit *units, size_t n, const char *suffix)
{
	for (size_t i = 0; i < n; i++)
		if (g_ascii_strcasecmp(units[i].suffix, suffix) == 0)
			return &units[i];
	return NULL;
}

/* Decimal digits behind the point, as numerator over a power of ten; nine of them at most. */
static bool parse_fraction(const char **p, uint64_t *ret_num, uint64_t *ret_den)
{
	const char *start = *p;

	*ret_num = 0;
	*ret_den = 1;
	if (!digits_to_uint(p, ret_num) || *p - start > 9)
		return false;
	for (const char *s = start; s < *p; s++)
		*ret_den *= 10;
	return true;
}

static bool parse_scaled(const char *text, const Unit *units, size_t n, const char *what, uint64_t *ret,
			 GError **err)
{
	const char *p = text;
	uint64_t whole, num = 0, den = 1, v;
	const Unit *u;

	if (!digits_to_uint(&p, &whole))
		return fail(err, ERR_INVALID, "'%s' is not a %s", text, what);
	if (*p == '.') {
		p++;
		if (!parse_fraction(&p, &num, &den))
			return fail(err, ERR_INVALID, "'%s' is not a %s", text, what);
	}
	while (*p == ' ')
		p++;
	u = find_unit(units, n, p);
	if (u == NULL)
		return fail(err, ERR_INVALID, "'%s' is not a %s: unknown unit '%s'", text, what, p);
	if ((unsigned __int128)num * u->factor % den != 0)
		return fail(err, ERR_INVALID, "'%s' is a fraction of the smallest unit", text);
	if (__builtin_mul_overflow(whole, u->factor, &v) ||
	    __builtin_add_overflow(v, (uint64_t)((unsigned __int128)num * u->factor / den), &v) ||
	    v > INT64_MAX)
		return fail(err, ERR_INVALID, "'%s' is too large", text);
	*ret = v;
	return true;
}

bool parse_size(const char *text, uint64_t *ret, GError **err)
{
	return parse_scaled(text, size_units, G_N_ELEMENTS(size_units), "size", ret, err) ||
	       err_advise(err, "Write a size as a number with K, M, G or T behind it, like 512M or 1.5GiB.");
}

bool parse_duration(const char *text, uint64_t *ret, GError **err)
{
	return parse_scaled(text, time_units, G_N_ELEMENTS(time_units), "duration", ret, err) ||
	       err_advise(err, "Write a duration as a number with ms, s, min, h or d behind it, like 90s.");
}

bool parse_bool(const char *text, bool *ret, GError **err)
{
	static const char *const yes[] = { "true", "yes", "on", "1", NULL };
	static const char *const no[] = { "false", "no", "off", "0", NULL };

	if (!g_strv_contains(yes, text) && !g_strv_contains(no, text))
		return fail_advice(err, ERR_INVALID, "Write true or false.", "'%s' is neither true nor false",
				   text);
	*ret = g_strv_contains(yes, text);
	return true;
}

char *print_size(uint64_t bytes)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	size_t i = 0;

	for (; v >= 1024 && i + 1 < G_N_ELEMENTS(unit); i++)
		v /= 1024;
	if (v == (double)(uint64_t)v)
		return g_strdup_printf("%" PRIu64 " %s", (uint64_t)v, unit[i]);
	return g_strdup_printf("%.1f %s", v, unit[i]);
}

char *print_duration(uint64_t us)
{
	uint64_t s = us / 1000000;

	if (us < 1000)
		return g_strdup_printf("%" PRIu64 " us", us);
	if (us < 1000000)
		return g_strdup_printf("%" PRIu64 " ms", us / 1000);
	if (s < 60)
		return g_strdup_printf("%" PRIu64 " s", s);
	if (s < 3600)
		return g_strdup_printf("%" PRIu64 "min %" PRIu64 "s", s / 60, s % 60);
	if (s < 86400)
		return g_strdup_printf("%" PRIu64 "h %" PRIu64 "min", s / 3600, s / 60 % 60);
	return g_strdup_printf("%" PRIu64 "d %" PRIu64 "h", s / 86400, s / 3600 % 24);
}

bool name_check(const char *kind, const char *name, GError **err)
{
	static const char advice[] =
	    "Use 1 to 63 letters, digits, dots, dashes or underscores, beginning with a letter or digit.";
	size_t n = strlen(name);
	bool ok = n >= 1 && n <= 63 && g_ascii_isalnum(name[0]);

	for (size_t i = 0; ok && i < n; i++)
		ok = g_ascii_isalnum(name[i]) || strchr("._-", name[i]) != NULL;
	if (!ok) {
		g_autofree char *shown = g_utf8_make_valid(name, n > 80 ? 80 : (gssize)n);

		return fail_advice(err, ERR_INVALID, advice, "'%s' can't be the name of %s", shown, kind);
	}
	return true;
}

bool text_is_plain(const char *text)
{
	if (!g_utf8_validate(text, -1, NULL))
		return false;
	for (const char *at = text; *at != '\0'; at = g_utf8_next_char(at))
		if (g_unichar_iscntrl(g_utf8_get_char(at)))
			return false;
	return true;
}

/* U+0080 to U+009F: a terminal takes the two bytes of U+009B for what ESC [ is. */
static bool is_c1(const char *at)
{
	return (unsigned char)at[0] == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] < 0xa0;
}

char *text_harmless(char *text, bool lines)
{
	for (char *p = text; p != NULL && *p != '\0'; p++) {
		if (is_c1(p))
			p[0] = p[1] = ' ';
		else if (g_ascii_iscntrl(*p) && !(lines && *p == '\n'))
			*p = ' ';
	}
	return text;
}

bool uuid_valid(const char *text)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	if (strlen(text) != sizeof form - 1)
		return false;
	for (size_t i = 0; i < sizeof form - 1; i++) {
		bool hex = g_ascii_isdigit(text[i]) || (text[i] >= 'a' && text[i] <= 'f');

		if (form[i] == '-' ? text[i] != '-' : !hex)
			return false;
	}
	return true;
}

char *uuid_of_bytes(const uint8_t bytes[16])
{
	uint8_t b[16];
	GString *s = g_string_sized_new(36);

	memcpy(b, bytes, sizeof b);
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 4122, 4.4: version 4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* and variant 1 */
	for (size_t i = 0; i < sizeof b; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			g_string_append_c(s, '-');
		g_string_append_printf(s, "%02x", b[i]);
	}
	return g_string_free(s, FALSE);
}
