/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/agent_wire.h"

#include <string.h>

#define MARK '\xff'
/* Exact in a double and in every agent's int64. */
#define SYNC_ID_MAX ((UINT64_C(1) << 53) - 1)
/* An agent's words, which become part of a message. */
#define WORDS_MAX 1000

char *agent_sync_print(uint64_t id)
{
	g_assert(id <= SYNC_ID_MAX);
	return g_strdup_printf(
	    "%c{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%" G_GUINT64_FORMAT "}}\n", MARK,
	    id);
}

char *agent_request_print(const char *command, const Json *args)
{
	_cleanup_json_ Json *j = json_object();
	g_autofree char *text = NULL;

	json_put_str(j, "execute", command);
	if (args != NULL)
		json_put(j, "arguments", json_ref((Json *)args));
	text = json_print(j);
	return g_strconcat(text, "\n", NULL);
}

bool agent_line_marked(const char *line, size_t len)
{
	return memrchr(line, MARK, len) != NULL;
}

bool agent_sync_parse(const char *line, size_t len, uint64_t *ret_id)
{
	const char *mark = memrchr(line, MARK, len);
	_cleanup_json_ Json *j = NULL;
	const Json *id;

	if (mark == NULL || (size_t)(line + len - mark) > AGENT_SYNC_MAX)
		return false;
	j = json_parse(mark + 1, (size_t)(line + len - mark - 1), NULL);
	id = json_object_get(j, "return");
	if (!json_is_integer(id) || json_integer_value(id) < 0)
		return false;
	*ret_id = (uint64_t)json_integer_value(id);
	return true;
}

static bool fail_refused(const char *command, const Json *error, GError **err)
{
	const char *class = json_str(error, "class"), *desc = json_str(error, "desc");
	g_autofree char *words = desc != NULL
				     ? g_utf8_substring(desc, 0, MIN(g_utf8_strlen(desc, -1), WORDS_MAX))
				     : g_strdup("it does not say why");

	if (g_strcmp0(class, "CommandNotFound") == 0)
		return fail_advice(err, ERR_UNSUPPORTED,
				   "The guest's agent is too old, or its configuration forbids the command.",
				   "the guest agent does not do '%s': %s", command, words);
	return fail(err, ERR_AGENT, "the guest agent refused '%s': %s", command, words);
}

Json *agent_reply_parse(const char *command, const char *line, size_t len, bool *ret_sense, GError **err)
{
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *j = json_parse_wide(line, len, &e);
	Json *value = json_object_get(j, "return");
	const Json *error = json_obj(j, "error");

	*ret_sense = value != NULL || error != NULL;
	if (value != NULL)
		return json_ref(value);
	if (error != NULL)
		fail_refused(command, error, err);
	else
		fail(err, ERR_AGENT, "the guest agent's answer to '%s' makes no sense", command);
	return NULL;
}
