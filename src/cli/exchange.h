/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One exchange with the daemon: a request and its answer, on a connection of
 * its own to the daemon's unix socket. Blocking, one thread.
 *
 * HTTP/1.0 on purpose: an answer is a head and then bytes, as many as
 * Content-Length says or all up to the end of the connection. By hand, because
 * the library that would do it, libcurl, loads thirty others, which was nine
 * tenths of the time of a `plim` command.
 */
#pragma once

#include "base/answer.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Exchange Exchange;

struct exchange_request {
	const char *socket, *method;
	const char *path;   /* with its query, encoded */
	const char *accept; /* NULL: anything */
	const char *body;   /* JSON, or NULL */
	uint64_t timeout;   /* of the whole exchange; 0: never */
};

/*
 * Sends the request and waits for the head of the answer, whatever its status.
 * ERR_UNAVAILABLE when nobody listens or the answer can't be understood,
 * ERR_DENIED when the socket is not for us, ERR_TIMEOUT.
 */
Exchange *exchange_open(const struct exchange_request *r, GError **err);
/* NULL is fine; returns NULL. */
Exchange *exchange_free(Exchange *x);
unsigned exchange_status(const Exchange *x);
/*
 * The next bytes of the body, as soon as there are some; `ret_n` is 0 at its
 * end. ERR_UNAVAILABLE when the connection breaks before that, ERR_TIMEOUT.
 */
bool exchange_read(Exchange *x, void *buf, size_t len, size_t *ret_n, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Exchange, exchange_free)
