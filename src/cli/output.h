/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How results are shown: a table for people, or json, yaml, csv, name for
 * programs. JSON and YAML are the API's own objects; table and csv show the
 * columns of a command.
 */
#pragma once

#include "cli/command.h"

typedef struct Column {
	const char *title;
	const char *key;                                       /* dotted path into the object */
	char *(*print)(const Json *value, const Json *object); /* NULL: the value as text. Result is freed. */
	bool right;
} Column;

/* As -o says; an unknown format is an error with advice. `columns` ends with a NULL title. */
bool output_list(const Cli *c, const Json *list, const Column *columns, GError **err);
/* One object: the table is of properties and values, as glance prints them. */
bool output_object(const Cli *c, const Json *object, GError **err);

/* A member by dotted path, or NULL. Borrowed. */
const Json *json_at(const Json *obj, const char *path);
/* Text of any value: strings as they are, null "-". Caller frees. */
char *value_text(const Json *v);

/* Printers for columns. */
char *print_bytes(const Json *value, const Json *object);
char *print_age(const Json *value, const Json *object);
char *print_strings(const Json *value, const Json *object);
