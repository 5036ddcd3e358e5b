/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The properties of an image: OpenStack's vocabulary and types.
 *
 * Pure. A table says of every known property what it may hold; every other
 * name is a custom property and may hold any text. The same checks serve the
 * command line (text), the API (JSON) and records read back from the store.
 *
 * A value has one canonical text: "true"/"false" for a boolean, decimal digits
 * for an integer, lower case for a choice, RFC 3339 for a date, items with
 * commas between them for a list. Filters, sorting and records work on that.
 *
 * Two classes, as in Glance's image API v2:
 *   base attributes   are Glance's own; they have JSON types of their own
 *                     (`"protected": false`) and are always present
 *   other properties  are text in JSON whatever they mean (`"recommended":
 *                     "true"`, as glance prints them) and absent until set
 *
 * Platform keys of XenServer (`platform.usb` and the like) are settings of a
 * vm, never properties of an image; they are refused here.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef enum PropType {
	PROP_STRING,
	PROP_INT,
	PROP_BOOL,
	PROP_ENUM,
	PROP_DATE, /* "2017-01-27" or a time of RFC 3339; a date alone is its midnight, UTC */
	PROP_LIST, /* of short texts without commas */
} PropType;

enum {
	PROP_BASE = 1 << 0,     /* one of Glance's own attributes */
	PROP_READONLY = 1 << 1, /* written by the service only */
	PROP_NULL = 1 << 2,     /* a base attribute that may be null */
};

#define PROP_NAME_MAX 255       /* characters; Glance's bound */
#define PROP_VALUE_MAX 4096     /* bytes */
#define PROP_COUNT_MAX 128      /* not counting base attributes; Glance's default quota */
#define PROP_LIST_ITEMS_MAX 128 /* Glance's default quota of tags */
#define PROP_LIST_ITEM_MAX 255

struct prop_def {
	const char *name;
	PropType type;
	unsigned flags;
	const char *values; /* PROP_ENUM: "a|b|c" */
	uint64_t max;       /* PROP_INT: 0 is INT64_MAX */
	const char *help;
	const char *source; /* whose word it is */
};

/* All known properties, base attributes first. */
const struct prop_def *prop_table(size_t *ret_n);
/* NULL for a custom property. */
const struct prop_def *prop_find(const char *name);
/* "string", "int", "bool", "enum", "date", "list" */
const char *prop_type_name(PropType type);
/* PROP_STRING for a custom property. */
PropType prop_type(const char *name);

/*
 * Is it a name that an image may have a property of? Letters, digits and
 * `_ . : -`, beginning with a letter; not `os_glance*` (reserved by Glance),
 * not `platform.*`. ERR_INVALID with advice.
 */
bool prop_name_check(const char *name, GError **err);

/*
 * The canonical text of what a person typed. Does not look at PROP_READONLY:
 * that is for those who know who asks. ERR_INVALID with what would be allowed.
 * Caller frees.
 */
bool prop_parse(const char *name, const char *text, char **ret, GError **err);
/* The same for a JSON value: text of the above form, or the JSON type itself. */
bool prop_parse_json(const char *name, const Json *value, char **ret, GError **err);
/* The JSON of a canonical text: typed for base attributes, else a string. New reference. */
Json *prop_to_json(const char *name, const char *canonical);

/*
 * Order of two canonical texts by the property's type: integers and dates by
 * value, false before true, everything else by bytes, digits in texts by value
 * ("9" before "10", as versions want). <0, 0, >0; 0 only for equal meaning.
 */
int prop_compare(const char *name, const char *a, const char *b);
