/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's console: a chardev of QEMU that the daemon stays connected to, so
 * that what the guest printed is there when somebody looks. All on the loop's thread.
 *
 * Output goes into a ring of the last 64 KiB (console_ring.h). Who looks is a
 * reader with a place in the ring of his own: he is told when there is
 * something behind it and fetches it when he likes. So there is no queue, a
 * slow reader holds nobody up, and one that is too slow is told how much he
 * missed. Input of all who write interleaves.
 *
 * A guest that floods is read at CONSOLE_RATE at most; then it waits.
 * What it prints while no daemon is connected QEMU drops.
 */
#pragma once

#include "base/loop.h"
#include "engine/console_ring.h"

/* Bytes read in each CONSOLE_WINDOW. */
#define CONSOLE_RATE (UINT64_C(1) << 20)
#define CONSOLE_WINDOW UINT64_C(100000)
/* Input that the guest has not read yet. */
#define CONSOLE_INPUT_MAX (UINT64_C(64) << 10)

typedef struct Console Console;
typedef struct ConsoleReader ConsoleReader;

/*
 * `socket_path`: the chardev's, connected to at once and again when it is
 * lost; `ring_path`: as of console_ring_open(), whose errors are the only ones.
 */
Console *console_open(Loop *l, const char *socket_path, const char *ring_path, GError **err);
/* All readers are told that it ended. NULL is fine; returns NULL. */
Console *console_close(Console *c);

/* Each may be NULL. Any of the functions here may be called from them. */
typedef struct ConsoleHandler {
	/* There is something to read; once, until console_read() has come to the end. */
	void (*readable)(void *data);
	/* There is room for input again after console_write() took less than it was given. */
	void (*writable)(void *data);
	/* The console was closed. What is in the ring can be read until this returns. */
	void (*ended)(void *data);
} ConsoleHandler;

/* Begins with the last `replay` bytes there are. `h` outlives the reader; nothing is called before it
 * returns. */
ConsoleReader *console_attach(Console *c, uint64_t replay, const ConsoleHandler *h, void *data);
/* No handler is called any more. Also to be called after `ended`. NULL is fine; returns NULL. */
ConsoleReader *console_detach(ConsoleReader *r);
/* Up to `size` bytes; 0: none now. *ret_lost counts what was overwritten before it was read; it may be NULL.
 */
size_t console_read(ConsoleReader *r, void *buf, size_t size, uint64_t *ret_lost);

/* Bytes taken; less than `len` when the guest does not read, or when it is not connected (none). */
size_t console_write(ConsoleReader *r, const void *bytes, size_t len);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Console, console_close)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ConsoleReader, console_detach)
