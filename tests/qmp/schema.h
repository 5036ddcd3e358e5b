/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's own description of QMP, as query-qmp-schema answers it, and checks
 * against it: of JSON values (so that a fake monitor says nothing that QEMU
 * would not) and of the forms in engine/qmp_cmd.h.
 *
 * Names of types are masked numbers that change from one QEMU to the next; a
 * type is found from the command or event that uses it.
 */
#pragma once

#include "base/json.h"
#include "engine/form.h"

typedef struct Schema {
	Json *all;
	GHashTable *by_name; /* name -> borrowed entity */
} Schema;

/* From the array that query-qmp-schema returns. Takes it. */
Schema *schema_new(Json *all);
/* From a recorded file; fails the test when it cannot be read. */
Schema *schema_load(const char *path);
Schema *schema_free(Schema *s);

/* The type's name, or NULL: `kind` is "command" or "event", `which` "arg-type" or "ret-type". */
const char *schema_type_of(const Schema *s, const char *kind, const char *name, const char *which);
/* Would QEMU send, or accept, this value for the type? ERR_INVALID with the place. */
bool schema_check_value(const Schema *s, const char *type, const Json *v, GError **err);
/*
 * Does the form fit the type? FORM_SENT: what is sent is complete and known to
 * QEMU. FORM_READ: what is read is there, and always there unless optional.
 */
bool schema_check_form(const Schema *s, const char *type, const Form *f, FormUse use, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Schema, schema_free)
