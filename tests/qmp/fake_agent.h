/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scripted guest agent behind a unix socket, on a thread of its own. The
 * test brings one function for each connection, in order; each says and
 * expects what it likes with the helpers below and ends by returning.
 */
#pragma once

#include "base/err.h"

typedef struct FakeAgent FakeAgent;
typedef void (*FakeAgentFunc)(FakeAgent *f);

/* Listens on `path` at once. `script` ends with NULL; connections beyond it find silence. */
FakeAgent *fake_agent_new(const char *path, const FakeAgentFunc *script);
/* Ends the thread, wherever it is. Frees. */
void fake_agent_free(FakeAgent *f);
/* Connections accepted so far. Any thread. */
unsigned fake_agent_connections(FakeAgent *f);

/* For scripts. The next line, without what is before a 0xff; NULL when the client hung up. Caller frees. */
char *fake_read(FakeAgent *f);
/* False when the client hung up. */
bool fake_say(FakeAgent *f, const char *bytes, size_t len);
/* As many bytes as the connection takes without anybody reading. */
size_t fake_say_until_full(FakeAgent *f, const char *bytes, size_t len);
/* Expect a sync and answer it, with those that are there behind it. */
void fake_sync(FakeAgent *f);
/* Expect this command and answer with the line. Returns the request's arguments as JSON text; caller frees.
 */
char *fake_serve(FakeAgent *f, const char *command, const char *line);
/* Until the client hangs up. */
void fake_wait_hang_up(FakeAgent *f);
/* The number of a sync request. */
long long fake_sync_id(const char *line);
