/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-Sent Events: every change of every object, to all who listen.
 *
 * One event of the stream is one change in the store. Its id is the store's
 * revision; as one transaction may change several objects, a client that
 * resumes behind a revision gets whatever came after that whole transaction,
 * nothing twice and nothing less. Streams of clients that do not read are
 * dropped (http.h); they resume where they were. Loop thread only.
 */
#pragma once

#include "api/http.h"
#include "store/store.h"

typedef struct EventStreams EventStreams;

EventStreams *event_streams_new(Loop *l, Store *s, GError **err);
/* Ends all streams. NULL is fine; returns NULL. */
EventStreams *event_streams_free(EventStreams *e);

/*
 * Answer `req` with a stream that begins behind the revision of its query
 * parameter `since` or header Last-Event-ID, else now. With `follow=false` it
 * ends when all that there is has been sent. Refuses with 410 when the history
 * does not reach back so far.
 */
void event_streams_open(EventStreams *e, HttpRequest *req);
