/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qmp_wire.h"

/* An event with a time beyond the year 9999 has none. */
#define SECONDS_MAX INT64_C(253402300799)
/* Exact in a double. */
#define ID_MAX 9007199254740992.0

void qmp_message_clear(QmpMessage *m)
{
	json_unref(m->value);
	g_free(m->name);
	g_free(m->text);
	*m = (QmpMessage){ 0 };
}

/* A reply to what was no request has no id; ours are never negative. */
static bool read_id(const Json *j, QmpMessage *ret, GError **err)
{
	const Json *id = json_object_get(j, "id");

	if (id == NULL)
		return true;
	/* Counted from 1; a real when some other number of the line was too big for an integer. */
	if (!json_is_number(id) || json_number_value(id) < 0 || json_number_value(id) > ID_MAX)
		return fail(err, ERR_QEMU, "QEMU answered a request that was never made");
	ret->has_id = true;
	ret->id = (uint64_t)json_number_value(id);
	return true;
}

static bool read_error(const Json *e, QmpMessage *ret, GError **err)
{
	const char *class = json_str(e, "class"), *desc = json_str(e, "desc");

	if (class == NULL || desc == NULL)
		return fail(err, ERR_QEMU, "QEMU sent an error without a class or a text");
	ret->kind = QMP_ERROR;
	ret->name = g_strdup(class);
	ret->text = g_strdup(desc);
	return true;
}

static void read_event(const Json *j, const char *name, QmpMessage *ret)
{
	Json *data = json_obj(j, "data");
	const Json *at = json_object_get(j, "timestamp");
	int64_t s = json_int(at, "seconds", -1), us = json_int(at, "microseconds", -1);

	ret->kind = QMP_EVENT;
	ret->name = g_strdup(name);
	ret->value = data != NULL ? json_ref(data) : json_object();
	if (s >= 0 && s <= SECONDS_MAX && us >= 0 && us < 1000000)
		ret->real_us = (uint64_t)s * 1000000 + (uint64_t)us;
}

static bool read_message(const Json *j, QmpMessage *ret, GError **err)
{
	Json *greeting = json_obj(j, "QMP"), *value = json_object_get(j, "return");
	const Json *error = json_obj(j, "error");
	const char *event = json_str(j, "event");

	if (event != NULL) {
		read_event(j, event, ret);
		return true;
	}
	if (greeting != NULL) {
		ret->kind = QMP_GREETING;
		ret->value = json_ref(greeting);
		return true;
	}
	if (error != NULL)
		return read_error(error, ret, err) && read_id(j, ret, err);
	if (value == NULL)
		return fail(err, ERR_QEMU, "QEMU sent a message of no known kind");
	ret->kind = QMP_RETURN;
	ret->value = json_ref(value);
	return read_id(j, ret, err);
}

bool qmp_message_parse(const char *line, size_t len, QmpMessage *ret, GError **err)
{
	g_auto(QmpMessage) m = { 0 };
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *j = json_parse_wide(line, len, &e);

	if (j == NULL)
		return fail(err, ERR_QEMU, "QEMU sent a line that is no JSON: %s", e->message);
	if (!read_message(j, &m, err))
		return false;
	*ret = m;
	m = (QmpMessage){ 0 };
	return true;
}

char *qmp_request_print(const char *command, const Json *args, uint64_t id)
{
	_cleanup_json_ Json *j = json_object();
	g_autofree char *text = NULL;

	json_put_str(j, "execute", command);
	if (args != NULL)
		json_put(j, "arguments", json_ref((Json *)args));
	json_put_uint(j, "id", id);
	text = json_print(j);
	return g_strconcat(text, "\n", NULL);
}

static const struct {
	const char *class;
	ErrCode code;
} classes[] = {
	/* include/qapi/error.h: the classes that QEMU still uses */
	{ "GenericError", ERR_QEMU },         { "CommandNotFound", ERR_UNSUPPORTED },
	{ "DeviceNotActive", ERR_BAD_STATE }, { "DeviceNotFound", ERR_NOT_FOUND },
	{ "KVMMissingCap", ERR_UNSUPPORTED },
};

GError *qmp_refusal(const char *command, const char *class, const char *text)
{
	ErrCode code = ERR_QEMU;
	GError *e = NULL;

	for (size_t i = 0; i < G_N_ELEMENTS(classes); i++)
		if (g_str_equal(classes[i].class, class))
			code = classes[i].code;
	fail(&e, code, "QEMU refused '%s': %s", command, text);
	err_detail(&e, "command", json_text_or_escaped(command));
	err_detail(&e, "class", json_text_or_escaped(class));
	if (g_str_equal(class, "CommandNotFound"))
		err_advise(&e, "This QEMU has no such command, or was built or started without what it "
			       "belongs to. Plimsoll supports QEMU 7.2 and newer.");
	return e;
}
