/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON: jansson, strict, behind one header so that it can be replaced.
 *
 * Values are reference counted. jansson's own rules hold: `json_object_get()`
 * borrows, `..._new()` setters take, `json_object()`, `json_string()` and the
 * like return a new reference. What is added here: parsing with a depth and
 * size bound and one error style, typed getters which never crash on a value
 * of another type, and printing.
 *
 * A reference count is not atomic across documents that share values: a value
 * that goes to another thread is copied with json_deep_copy().
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef json_t Json;

/* The largest text that json_parse() accepts. */
#define JSON_TEXT_MAX (UINT64_C(64) << 20)

/*
 * Parse the whole of `text`. Refuses duplicate keys, trailing bytes, bad
 * UTF-8, NaN, nesting deeper than jansson's bound (2048) and "\u0000", behind
 * which C would not see a string that was checked. ERR_INVALID with the
 * position. New reference.
 */
Json *json_parse(const char *text, size_t len, GError **err);
/*
 * The same for a peer that may send integers beyond int64 (QEMU prints uint64,
 * and a guest chooses some of them): a text with such an integer is read with
 * all its integers as reals instead of being refused. Strings may hold
 * "\u0000": a guest must not be able to cut off its monitor with one.
 */
Json *json_parse_wide(const char *text, size_t len, GError **err);
/*
 * Compact, keys in insertion order, without a raw control character (those of C1 and DEL are \u009b too), so
 * that a guest's words do nothing to a terminal. Never fails on a value that jansson made. Caller frees.
 */
char *json_print(const Json *j);
/* The same, indented by two spaces and with a newline at the end. */
char *json_print_pretty(const Json *j);

Json *json_ref(Json *j);  /* NULL stays NULL */
void json_unref(Json *j); /* NULL is fine */

/* A JSON string of text that may hold bytes that are no UTF-8; those are replaced. */
Json *json_text_or_escaped(const char *text);
/* A JSON string, or null when text is NULL. The text must be UTF-8. */
Json *json_string_or_null(const char *text);

/* Member of an object, or the given default when it is absent or of another type. Borrowed. */
const char *json_str(const Json *obj, const char *key);
int64_t json_int(const Json *obj, const char *key, int64_t dflt);
/* Negative integers count as absent. */
uint64_t json_uint(const Json *obj, const char *key, uint64_t dflt);
bool json_bool(const Json *obj, const char *key, bool dflt);
/* NULL when absent or of another type; borrowed. */
Json *json_obj(const Json *obj, const char *key);
Json *json_arr(const Json *obj, const char *key);

/* Setters that read well in codecs; `value` is copied. json_put_str() with NULL sets null. */
void json_put_str(Json *obj, const char *key, const char *value);
void json_put_int(Json *obj, const char *key, int64_t value);
void json_put_bool(Json *obj, const char *key, bool value);
/* Takes value. */
void json_put(Json *obj, const char *key, Json *value);

/* uint64 that does not fit JSON's int64 is a programming error here: sizes are bounded before. */
void json_put_uint(Json *obj, const char *key, uint64_t value);

/* Copies every member of `from` over `into`; a null member removes the key (RFC 7396, one level). */
void json_merge(Json *into, const Json *from);

/* A string array as a NULL-terminated vector; non-strings are skipped. g_strfreev(). Never NULL. */
char **json_strv(const Json *arr);
Json *json_of_strv(const char *const *v);

/* autofree that copes with NULL */
#define _cleanup_json_ __attribute__((cleanup(json_unrefp)))
static inline void json_unrefp(Json **j)
{
	json_unref(*j);
}
