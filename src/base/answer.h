/* SPDX-License-Identifier: Apache-2.0 */
/* The head of an HTTP answer, for clients without a library: plim, and WebSockets (ws.h). */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* A head ends with an empty line and is no longer than this. */
#define ANSWER_HEAD_MAX (16 * 1024)
#define ANSWER_LENGTH_UNKNOWN UINT64_MAX

struct answer_head {
	unsigned status; /* 100 to 599 */
	uint64_t length; /* of the body, or ANSWER_LENGTH_UNKNOWN */
};

/* `head` is a string with its empty line. ERR_UNAVAILABLE for what is no answer of the daemon. */
bool answer_head_parse(const char *head, struct answer_head *ret, GError **err);
/* The value of a header in a head, or NULL. Caller frees. */
char *answer_header(const char *head, const char *name);
/* ERR_UNAVAILABLE: `what` is wrong with an answer ("is not text"). Always false. */
bool answer_fail(GError **err, const char *what);
