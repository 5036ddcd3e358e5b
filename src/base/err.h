/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors.
 *
 * One error domain for the whole program. The code is what callers test, the
 * message is what people read, the advice is the next thing to do, the details
 * are for programs. The table fixes, once, what a code becomes at the edges:
 * the HTTP status of the API and the exit status of the CLI.
 *
 * A function that can fail takes `GError **err` last and returns bool, or a
 * pointer that is NULL on failure. It sets *err exactly when it fails.
 * Whoever returns an error does not log it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/json.h"

/* name, HTTP status, exit status of the CLI */
// clang-format off
#define ERR_TABLE(X)                          \
	X(INTERNAL,     500,  1)              \
	X(INVALID,      400,  2)              \
	X(DENIED,       403,  3)              \
	X(NOT_FOUND,    404,  4)              \
	X(CONFLICT,     409,  5)              \
	X(BAD_STATE,    409,  6)              \
	X(UNSUPPORTED,  422,  7)              \
	X(TIMEOUT,      504,  8)              \
	X(QEMU,         502,  9)              \
	X(STORE,        503, 10)              \
	X(NO_SPACE,     507, 11)              \
	X(CANCELLED,    409, 12)              \
	X(PRECONDITION, 412, 13)              \
	X(GONE,         410, 14)              \
	X(BUSY,         409, 15)              \
	X(LIMIT,        429, 16)              \
	X(AGENT,        502, 17)              \
	X(UNAVAILABLE,  503, 18)
// clang-format on

typedef enum ErrCode {
#define X(name, http, exit) ERR_##name,
	ERR_TABLE(X)
#undef X
	    _ERR_MAX,
} ErrCode;

#define ERR (err_quark())
GQuark err_quark(void);

/* "not-found" and the like: the `code` of an API error. */
const char *err_name(ErrCode code);
/* False when no code has that name. */
bool err_code_of_name(const char *name, ErrCode *ret);
unsigned err_http_status(ErrCode code);
int err_exit_status(ErrCode code);
/* The code of any GError; errors of other domains are ERR_INTERNAL. */
ErrCode err_code(const GError *e);

/* Set *err and return false, so that `return fail(...)` reads as one thought. */
bool fail(GError **err, ErrCode code, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* The same for a failed system call: appends what errnum means and picks the code. */
bool fail_errno(GError **err, int errnum, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* The same with the next thing to do, a plain sentence ("Run `plim vm stop web1` first."). */
bool fail_advice(GError **err, ErrCode code, const char *advice, const char *fmt, ...) G_GNUC_PRINTF(4, 5);

/*
 * Add to an error that is set; a NULL err or an unset *err is left alone, so
 * that `return err_advise(err, ...)` can follow a call that failed.
 * Both return false.
 */
bool err_advise(GError **err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Takes `value`. */
bool err_detail(GError **err, const char *key, Json *value);

/* NULL when there is none; owned by the error. */
const char *err_advice(const GError *e);
/* NULL when there are none; borrowed. */
Json *err_details(const GError *e);

/* {code, message, details, advice}: how an error crosses the API and is stored. New reference. */
Json *err_to_json(const GError *e);
/* The way back; anything malformed becomes ERR_INTERNAL with the text. Never NULL. */
GError *err_of_json(const Json *j);
