/* SPDX-License-Identifier: Apache-2.0 */
#include "schema.h"
#include "base/fd.h"

Schema *schema_new(Json *all)
{
	Schema *s = g_new(Schema, 1);
	size_t i;
	Json *e;

	*s = (Schema){ .all = all, .by_name = g_hash_table_new(g_str_hash, g_str_equal) };
	json_array_foreach(all, i, e) g_hash_table_insert(s->by_name, (char *)json_str(e, "name"), e);
	return s;
}

Schema *schema_load(const char *path)
{
	g_autoptr(GError) e = NULL;
	size_t len = 0;
	g_autofree char *text = file_read(path, 16 << 20, &len, &e);
	Json *all;

	g_assert_no_error(e);
	all = json_parse(text, len, &e);
	g_assert_no_error(e);
	return schema_new(all);
}

Schema *schema_free(Schema *s)
{
	if (s != NULL) {
		g_hash_table_unref(s->by_name);
		json_unref(s->all);
		g_free(s);
	}
	return NULL;
}

static const Json *entity(const Schema *s, const char *name)
{
	return g_hash_table_lookup(s->by_name, name);
}

static bool is_meta(const Json *e, const char *meta)
{
	return g_strcmp0(json_str(e, "meta-type"), meta) == 0;
}

const char *schema_type_of(const Schema *s, const char *kind, const char *name, const char *which)
{
	const Json *e = entity(s, name);

	return e != NULL && is_meta(e, kind) ? json_str(e, which) : NULL;
}

/* The member of that name in an array of {name, type}; NULL when there is none. */
static const Json *find_member(const Json *members, const char *name)
{
	size_t i;
	Json *m;

	json_array_foreach(members, i, m)
	{
		if (g_strcmp0(json_str(m, "name"), name) == 0)
			return m;
	}
	return NULL;
}

static bool is_optional(const Json *member)
{
	return json_object_get(member, "default") != NULL;
}

static bool enum_has(const Json *type, const char *value)
{
	size_t i;
	Json *v;

	json_array_foreach(json_arr(type, "values"), i, v)
	{
		if (g_strcmp0(json_string_value(v), value) == 0)
			return true;
	}
	return false;
}

/*
 * Values
 */

static bool check_builtin(const Json *type, const Json *v, GError **err)
{
	const char *want = json_str(type, "json-type");
	bool ok = (g_str_equal(want, "string") && json_is_string(v)) ||
		  (g_str_equal(want, "int") && json_is_integer(v)) ||
		  (g_str_equal(want, "number") && json_is_number(v)) ||
		  (g_str_equal(want, "boolean") && json_is_boolean(v)) ||
		  (g_str_equal(want, "null") && json_is_null(v)) || (g_str_equal(want, "value") && v != NULL);

	return ok || fail(err, ERR_INVALID, "a %s is wanted", want);
}

/* The object type of the branch that the tag chose, or NULL. */
static const Json *branch_of(const Schema *s, const Json *type, const Json *v)
{
	const char *tag = json_str(type, "tag"), *value = tag != NULL ? json_str(v, tag) : NULL;
	size_t i;
	Json *b;

	json_array_foreach(json_arr(type, "variants"), i, b)
	{
		if (g_strcmp0(json_str(b, "case"), value) == 0)
			return entity(s, json_str(b, "type"));
	}
	return NULL;
}

static bool check_members(const Schema *s, const Json *members, const Json *v, GError **err)
{
	size_t i;
	Json *m;

	json_array_foreach(members, i, m)
	{
		const char *name = json_str(m, "name");
		const Json *has = json_object_get(v, name);

		if (has == NULL && !is_optional(m))
			return fail(err, ERR_INVALID, "'%s' is missing", name);
		if (has != NULL && !schema_check_value(s, json_str(m, "type"), has, err)) {
			g_prefix_error(err, "%s: ", name);
			return false;
		}
	}
	return true;
}

static bool check_object(const Schema *s, const Json *type, const Json *v, GError **err)
{
	const Json *branch, *members = json_arr(type, "members"), *more;
	const char *key;
	Json *unused;

	if (!json_is_object(v))
		return fail(err, ERR_INVALID, "an object is wanted");
	branch = branch_of(s, type, v);
	more = branch != NULL ? json_arr(branch, "members") : NULL;
	if (!check_members(s, members, v, err) || (more != NULL && !check_members(s, more, v, err)))
		return false;
	json_object_foreach((Json *)v, key, unused)
	{
		if (find_member(members, key) == NULL && (more == NULL || find_member(more, key) == NULL))
			return fail(err, ERR_INVALID, "'%s' is unknown to QEMU", key);
	}
	return true;
}

static bool check_array(const Schema *s, const Json *type, const Json *v, GError **err)
{
	size_t i;
	Json *x;

	if (!json_is_array(v))
		return fail(err, ERR_INVALID, "an array is wanted");
	json_array_foreach((Json *)v, i, x)
	{
		if (!schema_check_value(s, json_str(type, "element-type"), x, err)) {
			g_prefix_error(err, "[%zu]: ", i);
			return false;
		}
	}
	return true;
}

static bool check_alternate(const Schema *s, const Json *type, const Json *v, GError **err)
{
	size_t i;
	Json *m;

	json_array_foreach(json_arr(type, "members"), i, m)
	{
		if (schema_check_value(s, json_str(m, "type"), v, NULL))
			return true;
	}
	return fail(err, ERR_INVALID, "none of the alternatives fits");
}

bool schema_check_value(const Schema *s, const char *type_name, const Json *v, GError **err)
{
	const Json *type = entity(s, type_name);

	g_assert_nonnull(type);
	if (is_meta(type, "builtin"))
		return check_builtin(type, v, err);
	if (is_meta(type, "enum"))
		return (json_is_string(v) && enum_has(type, json_string_value(v))) ||
		       fail(err, ERR_INVALID, "no value of the enum");
	if (is_meta(type, "array"))
		return check_array(s, type, v, err);
	if (is_meta(type, "alternate"))
		return check_alternate(s, type, v, err);
	g_assert_true(is_meta(type, "object"));
	return check_object(s, type, v, err);
}

/*
 * Forms
 */

static bool form_string_fits(const Json *type, const Form *f, GError **err)
{
	if (!is_meta(type, "enum"))
		return f->value == NULL ? g_strcmp0(json_str(type, "json-type"), "string") == 0 ||
					      fail(err, ERR_INVALID, "it is no string")
					: fail(err, ERR_INVALID, "it is no enum");
	for (guint i = 0; f->value != NULL && i < f->value->len; i++)
		if (!enum_has(type, f->value->pdata[i]))
			return fail(err, ERR_INVALID, "QEMU knows no value '%s'",
				    (const char *)f->value->pdata[i]);
	return true;
}

static bool form_scalar_fits(const Json *type, FormKind kind, GError **err)
{
	const char *is = json_str(type, "json-type");
	const char *want = kind == FORM_INT ? "int" : kind == FORM_BOOL ? "boolean" : "number";

	if (g_strcmp0(is, want) == 0 || (kind == FORM_NUMBER && g_strcmp0(is, "int") == 0))
		return true;
	return fail(err, ERR_INVALID, "it is no %s", want);
}

static const FormField *find_field(const Form *f, const char *name)
{
	for (guint i = 0; i < f->field->len; i++) {
		const FormField *m = f->field->pdata[i];

		if (g_str_equal(m->name, name))
			return m;
	}
	return NULL;
}

/* What QEMU must be sent is in the form, and not as an option. */
static bool form_is_complete(const Json *members, const Form *f, GError **err)
{
	size_t i;
	Json *m;

	json_array_foreach(members, i, m)
	{
		const FormField *has = find_field(f, json_str(m, "name"));

		if (!is_optional(m) && (has == NULL || has->optional))
			return fail(err, ERR_INVALID, "QEMU wants '%s'", json_str(m, "name"));
	}
	return true;
}

static bool form_object_fits(const Schema *s, const Json *type, const Form *f, FormUse use, GError **err)
{
	const Json *members = json_arr(type, "members");

	if (!is_meta(type, "object"))
		return fail(err, ERR_INVALID, "it is no object");
	if (use == FORM_SENT && !form_is_complete(members, f, err))
		return false;
	for (guint i = 0; i < f->field->len; i++) {
		const FormField *want = f->field->pdata[i];
		const Json *m = find_member(members, want->name);

		if (m == NULL)
			return fail(err, ERR_INVALID, "QEMU knows no member '%s'", want->name);
		if (use == FORM_READ && is_optional(m) && !want->optional)
			return fail(err, ERR_INVALID, "QEMU may leave '%s' out", want->name);
		if (!schema_check_form(s, json_str(m, "type"), want->form, use, err)) {
			g_prefix_error(err, "%s: ", want->name);
			return false;
		}
	}
	return true;
}

static bool form_alternate_fits(const Schema *s, const Json *type, const Form *f, FormUse use, GError **err)
{
	size_t i;
	Json *m;

	json_array_foreach(json_arr(type, "members"), i, m)
	{
		if (schema_check_form(s, json_str(m, "type"), f, use, NULL))
			return true;
	}
	return fail(err, ERR_INVALID, "none of the alternatives fits");
}

bool schema_check_form(const Schema *s, const char *type_name, const Form *f, FormUse use, GError **err)
{
	const Json *type = entity(s, type_name);

	g_assert_nonnull(type);
	if (is_meta(type, "alternate") && f->kind != FORM_ANY)
		return form_alternate_fits(s, type, f, use, err);
	switch (f->kind) {
	case FORM_ANY:
		return true;
	case FORM_STRING:
		return form_string_fits(type, f, err);
	case FORM_INT:
	case FORM_NUMBER:
	case FORM_BOOL:
		return form_scalar_fits(type, f->kind, err);
	case FORM_ARRAY:
		return is_meta(type, "array")
			   ? schema_check_form(s, json_str(type, "element-type"), f->element, use, err)
			   : fail(err, ERR_INVALID, "it is no array");
	case FORM_OBJECT:
		return form_object_fits(s, type, f, use, err);
	}
	g_assert_not_reached();
}
