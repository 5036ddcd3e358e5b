/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QMP connection: calls with deadlines, events, many callers at once.
 *
 * The loop owns the socket and reads it; any thread may call. qmp_call()
 * blocks a worker thread, qmp_send() calls back on the loop. Every call ends
 * exactly once: with QEMU's answer, QEMU's refusal, its deadline, the loss of
 * the connection, or qmp_close().
 *
 * The other side is a process that a guest may have taken over: lines are
 * bounded (QMP_LINE_MAX), answers are checked against the forms of qmp_cmd.h
 * before anyone sees them, a message that makes no sense ends the connection.
 *
 * States, and who moves it on:
 *     DETACHED    no socket            -> GREETING     qmp_attach(), qmp_connect()
 *     GREETING    waits for QEMU's     -> NEGOTIATING  the greeting came
 *     NEGOTIATING qmp_capabilities     -> READY        QEMU answered
 *     READY       calls go out
 *     CLOSED      for good                             qmp_close()
 * From the middle three a lost connection leads back to DETACHED; `lost` tells,
 * and the owner may attach again. Calls made while GREETING or NEGOTIATING wait.
 */
#pragma once

#include "base/loop.h"
#include "engine/qmp_cmd.h"

/* The longest line accepted from QEMU. Its longest answer (query-qmp-schema) has 200 KB. */
#define QMP_LINE_MAX (UINT64_C(16) << 20)
/* Calls under way on one connection; one more fails with ERR_LIMIT. */
#define QMP_CALLS_MAX 256

typedef struct Qmp Qmp;

/* All on the loop's thread; none after qmp_close(). Each may be NULL. May call qmp_close(). */
typedef struct QmpHandler {
	void (*ready)(Qmp *q, void *data);
	/* `args` is an object, borrowed; `real_us` is when QEMU says it happened, or 0. */
	void (*event)(Qmp *q, const char *name, Json *args, uint64_t real_us, void *data);
	/* The connection is gone, all calls on it have ended. */
	void (*lost)(Qmp *q, const GError *e, void *data);
} QmpHandler;

/* `reply` is the value returned, NULL when `e` is set; both are borrowed. */
typedef void (*QmpReplyFunc)(Json *reply, const GError *e, void *data);

/* Detached. From any thread; `h` must outlive it. The caller owns a reference. */
Qmp *qmp_new(Loop *l, const QmpHandler *h, void *data);
Qmp *qmp_ref(Qmp *q);
/* From any thread. Does not close: the owner does. NULL is fine. */
void qmp_unref(Qmp *q);
/*
 * End the connection and drop the owner's reference. Its calls, and later ones,
 * fail with `why` (NULL: ERR_CANCELLED). Loop thread. NULL is fine; returns NULL.
 */
Qmp *qmp_close(Qmp *q, const GError *why);

/* Takes `fd`, a connected socket. Only when detached. From any thread. */
void qmp_attach(Qmp *q, int fd);
/* The same with the socket of this path. ERR_UNAVAILABLE when nobody listens there. */
bool qmp_connect(Qmp *q, const char *path, GError **err);
/* Blocks until READY; fails as soon as the connection is lost. Never on the loop's thread. */
bool qmp_wait_ready(Qmp *q, uint64_t timeout, GError **err);
/* How many commands were sent so far. From any thread. */
uint64_t qmp_calls(Qmp *q);
/* Read what QEMU has sent already, now. Loop thread; for a QEMU that has ended. */
void qmp_drain(Qmp *q);

/*
 * One command, and its answer. `command` is one of qmp_cmd.h; takes `args`
 * (NULL: none), whose form is checked. `timeout` 0 means the table's.
 *
 * Fails with what QEMU said: ERR_UNSUPPORTED (no such command), ERR_NOT_FOUND
 * or ERR_BAD_STATE (a device), else ERR_QEMU with QEMU's text; with ERR_TIMEOUT,
 * after which QEMU may still carry the command out; with ERR_UNAVAILABLE when
 * there is no connection or it was lost; as qmp_close() says when it was closed.
 *
 * Blocks; never on the loop's thread. New reference.
 */
Json *qmp_call(Qmp *q, const char *command, Json *args, uint64_t timeout, GError **err);
/* The same with a descriptor for add-fd or getfd, which stays the caller's. */
Json *qmp_call_fd(Qmp *q, const char *command, Json *args, int fd, uint64_t timeout, GError **err);
/* One of several calls that are made together. */
struct qmp_ask {
	const char *command;
	Json *args; /* taken by qmp_call_all(); NULL: none */
	Json *reply;
	GError *error;
};

/*
 * Several commands in one go: all are sent before the first answer is waited
 * for, so that they cost one turn. QEMU carries them out in their order, also
 * those behind one that it refuses: each has its own reply or error. `timeout`
 * is for all of them; 0: the longest of the table's. Blocks; never on the
 * loop's thread. Clear each ask with qmp_ask_clear().
 */
void qmp_call_all(Qmp *q, struct qmp_ask *ask, size_t n, uint64_t timeout);
void qmp_ask_clear(struct qmp_ask *a);

/* The same as qmp_call() for the loop's thread. Calls `func` exactly once, never before it returns. `func`
 * may be NULL. */
void qmp_send(Qmp *q, const char *command, Json *args, uint64_t timeout, QmpReplyFunc func, void *data);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qmp, qmp_unref)
