/* SPDX-License-Identifier: Apache-2.0 */
#include "base/answer.h"
#include "base/str.h"

#include <string.h>

bool answer_fail(GError **err, const char *what)
{
	return fail_advice(err, ERR_UNAVAILABLE, "See whether it is Plimsoll's daemon that listens there.",
			   "the answer of the server %s", what);
}

char *answer_header(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (g_ascii_strncasecmp(line, name, len) == 0 && line[len] == ':')
			return g_strstrip(g_strndup(line + len + 1, strcspn(line + len + 1, "\r\n")));
	}
	return NULL;
}

/* "HTTP/1.1 200 OK": the third byte of the version and the words are not looked at. */
static bool parse_status(const char *head, unsigned *ret)
{
	static const char version[] = "HTTP/1.";
	const char *at = head + strlen(version);

	if (!g_str_has_prefix(head, version) || !g_ascii_isdigit(at[0]) || at[1] != ' ')
		return false;
	at += 2;
	if (at[0] < '1' || at[0] > '5' || !g_ascii_isdigit(at[1]) || !g_ascii_isdigit(at[2]) ||
	    (at[3] != ' ' && at[3] != '\r'))
		return false;
	*ret = (unsigned)(at[0] - '0') * 100 + (unsigned)(at[1] - '0') * 10 + (unsigned)(at[2] - '0');
	return true;
}

bool answer_head_parse(const char *head, struct answer_head *ret, GError **err)
{
	g_autofree char *length = answer_header(head, "Content-Length");
	g_autofree char *coding = answer_header(head, "Transfer-Encoding");
	struct answer_head h = { .length = ANSWER_LENGTH_UNKNOWN };

	if (!parse_status(head, &h.status))
		return answer_fail(err, "is not HTTP");
	if (coding != NULL)
		return answer_fail(err, "is in a coding that was not asked for");
	if (length != NULL && !parse_uint(length, 0, INT64_MAX, &h.length, NULL))
		return answer_fail(err, "has a length that is no number");
	*ret = h;
	return true;
}
