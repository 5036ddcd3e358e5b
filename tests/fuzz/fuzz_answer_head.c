/* SPDX-License-Identifier: Apache-2.0 */
#include "base/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head of an answer: refused with advice, or a status that there is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *head = g_strndup((const char *)data, MIN(size, ANSWER_HEAD_MAX));
	g_autoptr(GError) err = NULL;
	struct answer_head h;

	if (answer_head_parse(head, &h, &err))
		g_assert_true(h.status >= 100 && h.status < 600);
	else
		g_assert_nonnull(err_advice(err));
	return 0;
}
