/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms: what a JSON value must look like, written in one line.
 *
 * The tables of QMP and guest agent commands say with it what is sent and
 * what is read of the answer. QEMU's answers and, more so, the guest's are
 * foreign: they are checked against the form before anyone reads them, so that
 * the readers need no checks of their own. A test checks the forms of QMP
 * against the schema of QEMU itself. Pure.
 *
 *     form  := s | s(NAME|NAME...) | i | n | b | *  string, integer, number, boolean, anything
 *            | [form]                               array
 *            | {field field ...}                    object
 *     field := NAME:form | NAME?:form | ...         optional with `?`; `...` allows others
 *
 * Example: {id:s size?:i nodes:[{name:s mode:s(on|off)}]}
 */
#pragma once

#include "base/err.h"

typedef enum FormKind {
	FORM_STRING,
	FORM_INT,
	FORM_NUMBER,
	FORM_BOOL,
	FORM_ANY,
	FORM_ARRAY,
	FORM_OBJECT,
} FormKind;

typedef struct Form {
	FormKind kind;
	struct Form *element; /* FORM_ARRAY */
	GPtrArray *field;     /* FORM_OBJECT: FormField */
	bool open;            /* FORM_OBJECT: others are allowed */
	GPtrArray *value;     /* FORM_STRING: the names allowed; NULL: any */
} Form;

typedef struct FormField {
	char *name;
	bool optional;
	Form *form;
} FormField;

/* A form is written by us: one that cannot be read is a programming error. */
Form *form_parse(const char *text);
Form *form_free(Form *f);

/*
 * FORM_SENT: what we made; members and names that the form does not list are refused.
 * FORM_READ: what came from outside; it may have more members, and other names
 * (a newer QEMU), than the form lists.
 */
typedef enum FormUse {
	FORM_SENT,
	FORM_READ,
} FormUse;

/* ERR_INVALID with the place ("nodes[3].mode: a string is wanted"). */
bool form_check(const Form *f, const Json *value, FormUse use, GError **err);
/* The same from the text. */
bool form_check_text(const char *form, const Json *value, FormUse use, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Form, form_free)
