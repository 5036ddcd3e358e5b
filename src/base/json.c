/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "base/err.h"

#include <string.h>

static Json *parse(const char *text, size_t len, size_t flags, bool *ret_overflow, GError **err)
{
	json_error_t e;
	Json *j;

	if (len > JSON_TEXT_MAX) {
		fail(err, ERR_INVALID, "JSON text of %zu bytes is too long", len);
		return NULL;
	}
	/* jansson skips one that follows a number. */
	if (len > 0 && memchr(text, '\0', len) != NULL) {
		fail(err, ERR_INVALID, "not valid JSON: it holds a NUL byte");
		return NULL;
	}
	j = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | flags, &e);
	if (j == NULL) {
		*ret_overflow = json_error_code(&e) == json_error_numeric_overflow;
		fail(err, ERR_INVALID, "not valid JSON at line %d, column %d: %s", e.line, e.column, e.text);
	}
	return j;
}

Json *json_parse(const char *text, size_t len, GError **err)
{
	bool overflow;

	return parse(text, len, 0, &overflow, err);
}

Json *json_parse_wide(const char *text, size_t len, GError **err)
{
	g_autoptr(GError) e = NULL;
	bool overflow = false;
	Json *j = parse(text, len, JSON_ALLOW_NUL, &overflow, &e);

	if (j == NULL && overflow)
		return parse(text, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &overflow, err);
	if (j == NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return j;
}

/* U+007F to U+009F stand in strings only, where jansson leaves them; a terminal takes U+009B for ESC [. */
static char *escape_controls(const char *text)
{
	GString *s = g_string_sized_new(strlen(text) + 1);

	for (const char *rest = text;;) {
		size_t n = strcspn(rest, "\x7f\xc2");
		unsigned char next = rest[n] != '\0' ? (unsigned char)rest[n + 1] : 0;

		g_string_append_len(s, rest, (gssize)n);
		rest += n;
		if (*rest == '\0')
			return g_string_free(s, FALSE);
		if (*rest == '\x7f') {
			g_string_append(s, "\\u007f");
		} else if (next >= 0x80 && next < 0xa0) {
			g_string_append_printf(s, "\\u%04x", next);
			rest++;
		} else {
			g_string_append_c(s, *rest);
		}
		rest++;
	}
}

static char *print(const Json *j, size_t flags)
{
	char *raw = json_dumps(j, flags | JSON_ENCODE_ANY), *s;

	g_assert(raw != NULL);
	s = escape_controls(raw);
	free(raw);
	return s;
}

char *json_print(const Json *j)
{
	return print(j, JSON_COMPACT);
}

char *json_print_pretty(const Json *j)
{
	g_autofree char *s = print(j, JSON_INDENT(2));

	return g_strconcat(s, "\n", NULL);
}

Json *json_ref(Json *j)
{
	return json_incref(j);
}

void json_unref(Json *j)
{
	json_decref(j);
}

Json *json_text_or_escaped(const char *text)
{
	g_autofree char *valid = g_utf8_make_valid(text, -1);

	return json_string(valid);
}

Json *json_string_or_null(const char *text)
{
	return text != NULL ? json_string(text) : json_null();
}

const char *json_str(const Json *obj, const char *key)
{
	return json_string_value(json_object_get(obj, key));
}

int64_t json_int(const Json *obj, const char *key, int64_t dflt)
{
	const Json *v = json_object_get(obj, key);

	return json_is_integer(v) ? json_integer_value(v) : dflt;
}

uint64_t json_uint(const Json *obj, const char *key, uint64_t dflt)
{
	int64_t v = json_int(obj, key, -1);

	return v >= 0 ? (uint64_t)v : dflt;
}

bool json_bool(const Json *obj, const char *key, bool dflt)
{
	const Json *v = json_object_get(obj, key);

	return json_is_boolean(v) ? json_is_true(v) : dflt;
}

Json *json_obj(const Json *obj, const char *key)
{
	Json *v = json_object_get(obj, key);

	return json_is_object(v) ? v : NULL;
}

Json *json_arr(const Json *obj, const char *key)
{
	Json *v = json_object_get(obj, key);

	return json_is_array(v) ? v : NULL;
}

void json_put(Json *obj, const char *key, Json *value)
{
	int r = json_object_set_new(obj, key, value);

	g_assert(r == 0);
}

void json_put_str(Json *obj, const char *key, const char *value)
{
	json_put(obj, key, value != NULL ? json_text_or_escaped(value) : json_null());
}

void json_put_int(Json *obj, const char *key, int64_t value)
{
	json_put(obj, key, json_integer(value));
}

void json_put_uint(Json *obj, const char *key, uint64_t value)
{
	g_assert(value <= INT64_MAX);
	json_put(obj, key, json_integer((json_int_t)value));
}

void json_put_bool(Json *obj, const char *key, bool value)
{
	json_put(obj, key, json_boolean(value));
}

void json_merge(Json *into, const Json *from)
{
	const char *key;
	Json *v;

	json_object_foreach((Json *)from, key, v)
	{
		if (json_is_null(v))
			json_object_del(into, key);
		else
			json_object_set(into, key, v);
	}
}

char **json_strv(const Json *arr)
{
	GStrvBuilder *b = g_strv_builder_new();
	char **v;
	size_t i;
	Json *s;

	json_array_foreach(arr, i, s) if (json_is_string(s)) g_strv_builder_add(b, json_string_value(s));
	v = g_strv_builder_end(b);
	g_strv_builder_unref(b);
	return v;
}

Json *json_of_strv(const char *const *v)
{
	Json *a = json_array();

	for (; v != NULL && *v != NULL; v++)
		json_array_append_new(a, json_text_or_escaped(*v));
	return a;
}
