/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/cause.h"

static const char *const source_names[_CAUSE_MAX] = {
#define X(name, text) [CAUSE_##name] = text,
	CAUSE_TABLE(X)
#undef X
};

const char *cause_source_name(CauseSource s)
{
	g_assert(s < _CAUSE_MAX);
	return source_names[s];
}

Cause *cause_new(CauseSource source, const char *key, const char *value, const char *note)
{
	Cause *c = g_new(Cause, 1);

	*c = (Cause){
		.source = source, .key = g_strdup(key), .value = g_strdup(value), .note = g_strdup(note)
	};
	return c;
}

Cause *cause_copy(const Cause *c)
{
	return cause_new(c->source, c->key, c->value, c->note);
}

Cause *cause_free(Cause *c)
{
	if (c != NULL) {
		g_free(c->key);
		g_free(c->value);
		g_free(c->note);
		g_free(c);
	}
	return NULL;
}

void cause_put(Json *into, const Cause *c)
{
	json_put_str(into, "source", cause_source_name(c->source));
	json_put_str(into, "key", c->key);
	json_put_str(into, "value", c->value);
	json_put_str(into, "note", c->note);
}

Json *cause_to_json(const Cause *c)
{
	Json *j = json_object();

	cause_put(j, c);
	return j;
}

Cause *cause_of_json(const Json *j, GError **err)
{
	const char *source = json_str(j, "source"), *key = json_str(j, "key"), *value = json_str(j, "value");

	for (CauseSource s = 0; source != NULL && key != NULL && value != NULL && s < _CAUSE_MAX; s++)
		if (g_str_equal(source_names[s], source))
			return cause_new(s, key, value, json_str(j, "note"));
	fail(err, ERR_INVALID, "a stored cause lacks its source, key or value");
	return NULL;
}
