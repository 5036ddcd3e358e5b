/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/form.h"

#include <string.h>

static Form *parse_form(const char **at);

static void field_free(gpointer p)
{
	FormField *f = p;

	g_free(f->name);
	form_free(f->form);
	g_free(f);
}

Form *form_free(Form *f)
{
	if (f != NULL) {
		form_free(f->element);
		g_clear_pointer(&f->field, g_ptr_array_unref);
		g_clear_pointer(&f->value, g_ptr_array_unref);
		g_free(f);
	}
	return NULL;
}

static char *parse_name(const char **at)
{
	size_t n = strcspn(*at, "?:|() {}[]");
	char *name = g_strndup(*at, n);

	g_assert(n > 0);
	*at += n;
	return name;
}

static bool skip(const char **at, char c)
{
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

static GPtrArray *parse_values(const char **at)
{
	GPtrArray *v = g_ptr_array_new_with_free_func(g_free);

	do
		g_ptr_array_add(v, parse_name(at));
	while (skip(at, '|'));
	g_assert(**at == ')');
	(*at)++;
	return v;
}

static FormField *parse_field(const char **at)
{
	FormField *f = g_new0(FormField, 1);

	f->name = parse_name(at);
	f->optional = skip(at, '?');
	g_assert(**at == ':');
	(*at)++;
	f->form = parse_form(at);
	return f;
}

static void parse_fields(Form *f, const char **at)
{
	f->field = g_ptr_array_new_with_free_func(field_free);
	while (!skip(at, '}')) {
		if (skip(at, ' '))
			continue;
		if (g_str_has_prefix(*at, "...")) {
			f->open = true;
			*at += 3;
			continue;
		}
		g_ptr_array_add(f->field, parse_field(at));
	}
}

static Form *parse_form(const char **at)
{
	static const char letters[] = "sinb*[{";
	Form *f = g_new0(Form, 1);
	const char *which = **at != '\0' ? strchr(letters, **at) : NULL;

	g_assert(which != NULL);
	(*at)++;
	f->kind = (FormKind)(which - letters); /* the letters are in the order of the enum */
	if (f->kind == FORM_STRING && skip(at, '('))
		f->value = parse_values(at);
	if (f->kind == FORM_ARRAY) {
		f->element = parse_form(at);
		g_assert(**at == ']');
		(*at)++;
	}
	if (f->kind == FORM_OBJECT)
		parse_fields(f, at);
	return f;
}

Form *form_parse(const char *text)
{
	Form *f = parse_form(&text);

	g_assert(*text == '\0');
	return f;
}

static bool wrong(const char *place, const char *wanted, GError **err)
{
	return fail(err, ERR_INVALID, "%s: %s is wanted", *place != '\0' ? place : "the value", wanted);
}

static bool check(const Form *f, const Json *v, FormUse use, const char *place, GError **err);

static bool check_string(const Form *f, const Json *v, FormUse use, const char *place, GError **err)
{
	const char *text = json_string_value(v);

	if (text == NULL)
		return wrong(place, "a string", err);
	if (f->value == NULL || use == FORM_READ)
		return true;
	if (!g_ptr_array_find_with_equal_func(f->value, text, g_str_equal, NULL))
		return fail(err, ERR_INVALID, "%s: '%s' is not one of the values", place, text);
	return true;
}

static bool check_array(const Form *f, const Json *v, FormUse use, const char *place, GError **err)
{
	if (!json_is_array(v))
		return wrong(place, "an array", err);
	for (size_t i = 0; i < json_array_size(v); i++) {
		g_autofree char *here = g_strdup_printf("%s[%zu]", place, i);

		if (!check(f->element, json_array_get(v, i), use, here, err))
			return false;
	}
	return true;
}

static bool check_member(const FormField *m, const Json *obj, FormUse use, const char *place, GError **err)
{
	const Json *v = json_object_get(obj, m->name);
	g_autofree char *here = g_strdup_printf("%s%s%s", place, *place != '\0' ? "." : "", m->name);

	if (v == NULL && m->optional)
		return true;
	if (v == NULL)
		return fail(err, ERR_INVALID, "%s is missing", here);
	return check(m->form, v, use, here, err);
}

static bool has_field(const Form *f, const char *name)
{
	for (guint i = 0; i < f->field->len; i++) {
		const FormField *m = f->field->pdata[i];

		if (g_str_equal(m->name, name))
			return true;
	}
	return false;
}

static bool check_object(const Form *f, const Json *v, FormUse use, const char *place, GError **err)
{
	const char *key;
	Json *unused;

	if (!json_is_object(v))
		return wrong(place, "an object", err);
	for (guint i = 0; i < f->field->len; i++)
		if (!check_member(f->field->pdata[i], v, use, place, err))
			return false;
	if (use == FORM_READ || f->open)
		return true;
	json_object_foreach((Json *)v, key, unused)
	{
		if (!has_field(f, key))
			return fail(err, ERR_INVALID, "%s%s%s is unknown", place, *place != '\0' ? "." : "",
				    key);
	}
	return true;
}

static bool check(const Form *f, const Json *v, FormUse use, const char *place, GError **err)
{
	switch (f->kind) {
	case FORM_STRING:
		return check_string(f, v, use, place, err);
	case FORM_INT:
		return json_is_integer(v) || wrong(place, "an integer", err);
	case FORM_NUMBER:
		return json_is_number(v) || wrong(place, "a number", err);
	case FORM_BOOL:
		return json_is_boolean(v) || wrong(place, "true or false", err);
	case FORM_ANY:
		return v != NULL || wrong(place, "a value", err);
	case FORM_ARRAY:
		return check_array(f, v, use, place, err);
	case FORM_OBJECT:
		return check_object(f, v, use, place, err);
	}
	g_assert_not_reached();
}

bool form_check(const Form *f, const Json *value, FormUse use, GError **err)
{
	return check(f, value, use, "", err);
}

bool form_check_text(const char *form, const Json *value, FormUse use, GError **err)
{
	g_autoptr(Form) f = form_parse(form);

	return form_check(f, value, use, err);
}
