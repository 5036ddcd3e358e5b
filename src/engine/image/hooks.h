/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long work tells where it is, and learns that it is to stop. Both
 * functions may be NULL, and are called on the thread that does the work.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct hooks {
	bool (*cancelled)(void *data);
	/* Of the step that runs; total 0 when nobody knows. */
	void (*progress)(uint64_t done, uint64_t total, void *data);
	void *data;
};

/* False with ERR_CANCELLED once somebody wants it. `h` may be NULL. */
static inline bool hooks_continue(const struct hooks *h, GError **err)
{
	if (h != NULL && h->cancelled != NULL && h->cancelled(h->data))
		return fail_advice(err, ERR_CANCELLED, "Ask for it again when it is wanted.",
				   "it was cancelled");
	return true;
}

static inline void hooks_progress(const struct hooks *h, uint64_t done, uint64_t total)
{
	if (h != NULL && h->progress != NULL)
		h->progress(done, total, h->data);
}
