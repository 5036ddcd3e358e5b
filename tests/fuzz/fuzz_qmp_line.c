/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lines.h"
#include "engine/qmp_cmd.h"
#include "engine/qmp_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINE_MAX_HERE 4096

static void check_event(const QmpMessage *m)
{
	const QmpEvent *known = qmp_event_find(m->name);

	g_assert_true(json_is_object(m->value));
	/* What passed the form can be read without further checks. */
	if (known != NULL && form_check_text(known->data, m->value, FORM_READ, NULL) &&
	    g_str_equal(m->name, "VSERPORT_CHANGE"))
		g_assert_nonnull(json_str(m->value, "id"));
}

static void check_reply(const QmpMessage *m)
{
	size_t n;
	const QmpCmd *cmds = qmp_cmd_table(&n);

	for (size_t i = 0; i < n; i++)
		form_check_text(cmds[i].reply, m->value, FORM_READ, NULL);
}

static bool on_line(const char *line, size_t len, void *unused)
{
	g_auto(QmpMessage) m = { 0 };
	g_autoptr(GError) err = NULL;

	(void)unused;
	g_assert_cmpuint(len, <=, LINE_MAX_HERE);
	if (!qmp_message_parse(line, len, &m, &err)) {
		g_assert_error(err, ERR, ERR_QEMU);
		return true;
	}
	g_assert_no_error(err);
	if (m.kind == QMP_EVENT)
		check_event(&m);
	if (m.kind == QMP_RETURN)
		check_reply(&m);
	if (m.kind == QMP_ERROR) {
		g_autoptr(GError) refusal = qmp_refusal("quit", m.name, m.text);
		_cleanup_json_ Json *j = err_to_json(refusal);

		g_assert_nonnull(j);
	}
	return true;
}

/* Whatever QEMU sends, however it is cut: lines within the bound, and each a message or refused with a
 * reason. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t cut = size > 0 ? data[0] % (size + 1) : 0;
	g_autoptr(GError) err = NULL;
	LineReader r;

	line_reader_init(&r, LINE_MAX_HERE);
	if (!line_reader_feed(&r, (const char *)data, cut, on_line, NULL, &err) ||
	    !line_reader_feed(&r, (const char *)data + cut, size - cut, on_line, NULL, &err))
		g_assert_error(err, ERR, ERR_LIMIT);
	g_assert_cmpuint(r.rest->len, <=, LINE_MAX_HERE);
	line_reader_done(&r);
	return 0;
}
