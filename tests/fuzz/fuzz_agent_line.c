/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/agent.h"
#include "engine/agent_wire.h"
#include "engine/form.h"
#include "engine/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINE_MAX_HERE 4096

static const char *const replies[] = {
#define X(name, args, reply) reply,
	AGENT_CMD_TABLE(X)
#undef X
};

static void check_reply(const char *line, size_t len)
{
	g_autoptr(GError) err = NULL;
	bool sense = false;
	_cleanup_json_ Json *reply = agent_reply_parse("guest-info", line, len, &sense, &err);

	g_assert_true((reply == NULL) == (err != NULL));
	if (reply == NULL) {
		g_assert_true(g_error_matches(err, ERR, ERR_AGENT) ||
			      g_error_matches(err, ERR, ERR_UNSUPPORTED));
		g_assert_true(g_utf8_validate(err->message, -1, NULL));
		return;
	}
	g_assert_true(sense);
	for (size_t i = 0; i < G_N_ELEMENTS(replies); i++)
		form_check_text(replies[i], reply, FORM_READ, NULL);
}

static bool on_line(const char *line, size_t len, void *unused)
{
	uint64_t id;

	(void)unused;
	if (agent_sync_parse(line, len, &id)) {
		g_assert_true(agent_line_marked(line, len));
		g_assert_cmpuint(id, <=, INT64_MAX);
	}
	check_reply(line, len);
	return true;
}

/* Whatever a guest sends: the answer to a sync, an answer, a refusal, or refused with a reason. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GError) err = NULL;
	LineReader r;

	line_reader_init(&r, LINE_MAX_HERE);
	if (!line_reader_feed(&r, (const char *)data, size, on_line, NULL, &err))
		g_assert_error(err, ERR, ERR_LIMIT);
	line_reader_done(&r);
	return 0;
}
