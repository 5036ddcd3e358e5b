/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest agent's protocol on the wire. Pure. QEMU's docs/interop/qemu-ga-ref:
 * QMP's requests and replies, one a line, without greeting, events or ids.
 *
 * Whoever connects may find answers to requests of somebody before him, cut at
 * any byte. So a session begins with a sync: the byte 0xff, which ends whatever
 * the agent was reading, and guest-sync-delimited with a new number; the agent
 * puts 0xff in front of its answer, which ends whatever we were reading.
 */
#pragma once

#include "base/err.h"

/* The longest sync answer worth looking at. */
#define AGENT_SYNC_MAX 128

/* A sync request. Caller frees. */
char *agent_sync_print(uint64_t id);
/* A request, one line. Caller frees. */
char *agent_request_print(const char *command, const Json *args);

/* Does the line hold the mark? What is behind the last one counts then. */
bool agent_line_marked(const char *line, size_t len);
/* The number in the answer to a sync; false for every other line. */
bool agent_sync_parse(const char *line, size_t len, uint64_t *ret_id);

/*
 * What the agent answered to `command`: the value, or its refusal as an error:
 * ERR_UNSUPPORTED when it has no such command or it is forbidden in the guest,
 * else ERR_AGENT with the agent's words. What is no answer is ERR_AGENT with
 * *ret_sense false. New reference.
 */
Json *agent_reply_parse(const char *command, const char *line, size_t len, bool *ret_sense, GError **err);
