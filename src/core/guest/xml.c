/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/xml.h"

struct Xml {
	GString *text;
	GPtrArray *open; /* names of elements that have no end yet */
	gboolean in_tag; /* the last one's tag takes attributes still */
};

Xml *xml_new(void)
{
	Xml *x = g_new(Xml, 1);

	*x = (Xml){ .text = g_string_new(NULL), .open = g_ptr_array_new_with_free_func(g_free) };
	return x;
}

Xml *xml_free(Xml *x)
{
	if (x != NULL) {
		g_string_free(x->text, TRUE);
		g_ptr_array_unref(x->open);
		g_free(x);
	}
	return NULL;
}

/* XML 1.0, 2.2: Char */
static gboolean allowed(gunichar c)
{
	return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c <= 0xd7ff) ||
	       (c >= 0xe000 && c <= 0xfffd) || (c >= 0x10000 && c <= 0x10ffff);
}

static void put_escaped(GString *s, const char *text)
{
	g_autofree char *valid = g_utf8_make_valid(text, -1);

	for (const char *p = valid; *p != '\0'; p = g_utf8_next_char(p)) {
		gunichar c = g_utf8_get_char(p);

		switch (c) {
		case '&':
			g_string_append(s, "&amp;");
			break;
		case '<':
			g_string_append(s, "&lt;");
			break;
		case '>':
			g_string_append(s, "&gt;");
			break;
		case '\'':
			g_string_append(s, "&apos;");
			break;
		case '"':
			g_string_append(s, "&quot;");
			break;
		case '\t':
		case '\n':
		case '\r': /* attributes would lose them */
			g_string_append_printf(s, "&#%u;", c);
			break;
		default:
			g_string_append_unichar(s, allowed(c) ? c : 0xfffd);
		}
	}
}

static void end_tag(Xml *x)
{
	if (x->in_tag)
		g_string_append(x->text, ">\n");
	x->in_tag = FALSE;
}

static void indent(Xml *x)
{
	for (guint i = 0; i < x->open->len; i++)
		g_string_append(x->text, "  ");
}

void xml_open(Xml *x, const char *name)
{
	end_tag(x);
	indent(x);
	g_string_append_printf(x->text, "<%s", name);
	g_ptr_array_add(x->open, g_strdup(name));
	x->in_tag = TRUE;
}

void xml_attr(Xml *x, const char *name, const char *value)
{
	g_assert(x->in_tag);
	g_string_append_printf(x->text, " %s='", name);
	put_escaped(x->text, value);
	g_string_append_c(x->text, '\'');
}

void xml_attrf(Xml *x, const char *name, const char *fmt, ...)
{
	g_autofree char *value = NULL;
	va_list ap;

	va_start(ap, fmt);
	value = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	xml_attr(x, name, value);
}

void xml_close(Xml *x)
{
	g_autofree char *name = g_ptr_array_steal_index(x->open, x->open->len - 1);

	if (x->in_tag) {
		g_string_append(x->text, "/>\n");
		x->in_tag = FALSE;
		return;
	}
	indent(x);
	g_string_append_printf(x->text, "</%s>\n", name);
}

void xml_inner(Xml *x, const char *text)
{
	g_autofree char *name = g_ptr_array_steal_index(x->open, x->open->len - 1);

	g_assert(x->in_tag);
	g_string_append_c(x->text, '>');
	put_escaped(x->text, text);
	g_string_append_printf(x->text, "</%s>\n", name);
	x->in_tag = FALSE;
}

void xml_text(Xml *x, const char *name, const char *text)
{
	xml_open(x, name);
	xml_inner(x, text);
}

void xml_leaf(Xml *x, const char *name, ...)
{
	const char *attr, *value;
	va_list ap;

	xml_open(x, name);
	va_start(ap, name);
	while ((attr = va_arg(ap, const char *)) != NULL) {
		value = va_arg(ap, const char *);
		if (value != NULL)
			xml_attr(x, attr, value);
	}
	va_end(ap);
	xml_close(x);
}

char *xml_finish(Xml *x)
{
	char *text;

	while (x->open->len > 0)
		xml_close(x);
	text = g_strdup(x->text->str);
	xml_free(x);
	return text;
}
