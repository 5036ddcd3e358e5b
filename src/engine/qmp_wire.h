/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP on the wire: one JSON object a line, each way. Pure.
 * The protocol is QEMU's docs/interop/qmp-spec.rst:
 *
 *     greeting  {"QMP": {"version": ..., "capabilities": [...]}}
 *     request   {"execute": NAME, "arguments": {...}, "id": N}
 *     reply     {"return": VALUE, "id": N} or {"error": {"class": C, "desc": TEXT}, "id": N}
 *     event     {"event": NAME, "data": {...}, "timestamp": {"seconds": S, "microseconds": U}}
 */
#pragma once

#include "base/err.h"

typedef enum QmpMessageKind {
	QMP_GREETING,
	QMP_RETURN,
	QMP_ERROR,
	QMP_EVENT,
} QmpMessageKind;

typedef struct QmpMessage {
	QmpMessageKind kind;
	bool has_id;
	uint64_t id;      /* QMP_RETURN, QMP_ERROR */
	Json *value;      /* the greeting's object, the value returned, the event's data (an object) */
	char *name;       /* the class of an error, the name of an event */
	char *text;       /* QMP_ERROR */
	uint64_t real_us; /* QMP_EVENT: when, or 0 when it does not say */
} QmpMessage;

/* ERR_QEMU when it is no message of the protocol. The strings and the value are the caller's to clear. */
bool qmp_message_parse(const char *line, size_t len, QmpMessage *ret, GError **err);
void qmp_message_clear(QmpMessage *m);

/* One line with its end. `args` NULL: none. Caller frees. */
char *qmp_request_print(const char *command, const Json *args, uint64_t id);

/* QEMU's refusal of `command` as one of our errors. */
GError *qmp_refusal(const char *command, const char *class, const char *text);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmpMessage, qmp_message_clear)
