/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-Sent Events: every change of every object, to all who listen.
 *
 * One event of the stream is one change in the store. One transaction may
 * change several objects; only its last event has an id, the store's revision,
 * and `last` in its data. So a client's cursor (Last-Event-ID, as browsers keep
 * it) advances at the end of a transaction: who is cut off inside of one gets
 * it again as a whole, and who acts at `last` sees nothing twice and misses
 * nothing. Streams of clients that do not read are dropped (http.h); they
 * resume where they were. Loop thread only.
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
