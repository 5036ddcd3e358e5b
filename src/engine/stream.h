/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connected stream socket on the loop: what QMP, the guest agent and the
 * console have in common. Loop thread only.
 *
 * Nothing is kept of what arrives: bytes go to `input` as they come, at most
 * STREAM_CHUNK a turn of the loop, so that a peer that floods shares the loop
 * fairly. What is written and does not fit into the socket waits in a queue
 * with a bound. stream_pause() stops the reading, and so, in the end, the peer.
 */
#pragma once

#include "base/loop.h"

#define STREAM_CHUNK 65536

typedef struct Stream Stream;

typedef struct StreamHandler {
	/* May free the stream. */
	void (*input)(const char *bytes, size_t len, void *data);
	/* The peer went away (`e` says how). Once; nothing comes after it. May free the stream. */
	void (*closed)(const GError *e, void *data);
	/* The queue has become empty again after a stream_write() had to wait. May be NULL. */
	void (*drained)(void *data);
} StreamHandler;

/* Takes `fd`, which becomes non-blocking. `queue_max` bounds the bytes that wait to be written. */
Stream *stream_new(Loop *l, int fd, size_t queue_max, const StreamHandler *h, void *data);
/* No handler is called any more. NULL is fine; returns NULL. */
Stream *stream_free(Stream *s);

/*
 * Send or queue all of it; `pass_fd` (-EBADF: none) travels with its first
 * byte and stays the caller's. False, and nothing is sent, when the queue
 * has no room: ERR_LIMIT. A peer that is gone is told by `closed`, not here.
 */
bool stream_write(Stream *s, const void *bytes, size_t len, int pass_fd, GError **err);
/* Bytes that stream_write() would take now. */
size_t stream_room(const Stream *s);

/* Read no more until stream_resume(). That the peer went away is still noticed. */
void stream_pause(Stream *s);
void stream_resume(Stream *s);

/* Hand over what has arrived without waiting for the loop's next turn. For a peer that is known to be dead.
 */
void stream_drain(Stream *s);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stream, stream_free)
