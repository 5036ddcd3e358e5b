/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing XML: elements, attributes and text, indented, everything escaped.
 * Pure. The result is well-formed whatever the texts hold: bytes that are no
 * UTF-8 and characters that XML 1.0 has no place for become U+FFFD.
 */
#pragma once

#include <glib.h>

typedef struct Xml Xml;

Xml *xml_new(void);
Xml *xml_free(Xml *x);
/* The text, with an end for every element that has none yet. Frees the writer. */
char *xml_finish(Xml *x);

/* Begin an element below the current one; attributes follow before anything else. */
void xml_open(Xml *x, const char *name);
void xml_attr(Xml *x, const char *name, const char *value);
void xml_attrf(Xml *x, const char *name, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
void xml_close(Xml *x);
/* The text inside of the element just begun, and its end. */
void xml_inner(Xml *x, const char *text);
/* <name>text</name> */
void xml_text(Xml *x, const char *name, const char *text);
/* An element of attributes alone: name and value by turns, NULL at the end; a NULL value leaves the attribute
 * out. */
void xml_leaf(Xml *x, const char *name, ...) G_GNUC_NULL_TERMINATED;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Xml, xml_free)
