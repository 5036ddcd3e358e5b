/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/event.h"

#include <inttypes.h>

static const struct {
	const char *type, *severity;
} table[_EVENT_MAX] = {
#define X(name, t, s) [EVENT_##name] = { .type = t, .severity = s },
	EVENT_TABLE(X)
#undef X
};

const char *event_type_name(EventType type)
{
	g_assert(type < _EVENT_MAX);
	return table[type].type;
}

const char *event_severity(EventType type)
{
	g_assert(type < _EVENT_MAX);
	return table[type].severity;
}

static Json *object_ref(const char *type, const char *id, const char *name)
{
	Json *o;

	if (type == NULL)
		return json_null();
	o = json_object();
	json_put_str(o, "type", type);
	json_put_str(o, "id", id);
	json_put_str(o, "name", name);
	return o;
}

Json *event_new(uint64_t seq, const char *now, EventType type, const char *object_type, const char *object_id,
		const char *object_name, const char *message, Json *details)
{
	g_autofree char *id = g_strdup_printf("%016" PRIx64, seq);
	Json *j = json_object();

	json_put_str(j, "id", id);
	json_put_str(j, "time", now);
	json_put_str(j, "type", event_type_name(type));
	json_put_str(j, "severity", event_severity(type));
	json_put(j, "object", object_ref(object_type, object_id, object_name));
	json_put_str(j, "message", message);
	json_put(j, "details", details != NULL ? details : json_object());
	return j;
}
