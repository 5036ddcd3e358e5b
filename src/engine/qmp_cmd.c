/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qmp_cmd.h"

static const QmpCmd cmds[] = {
#define X(n, a, r, t) { .name = n, .args = a, .reply = r, .timeout = t },
	QMP_CMD_TABLE(X)
#undef X
};

static const QmpEvent events[] = {
#define X(n, d) { .name = n, .data = d },
	QMP_EVENT_TABLE(X)
#undef X
};

const QmpCmd *qmp_cmd_find(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(cmds); i++)
		if (g_str_equal(cmds[i].name, name))
			return &cmds[i];
	return NULL;
}

const QmpEvent *qmp_event_find(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(events); i++)
		if (g_str_equal(events[i].name, name))
			return &events[i];
	return NULL;
}

const QmpCmd *qmp_cmd_table(size_t *ret_n)
{
	*ret_n = G_N_ELEMENTS(cmds);
	return cmds;
}

const QmpEvent *qmp_event_table(size_t *ret_n)
{
	*ret_n = G_N_ELEMENTS(events);
	return events;
}
