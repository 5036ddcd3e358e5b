/* SPDX-License-Identifier: Apache-2.0 */
#include "str.h"

/* String instructions, because a plain loop would be turned by the compiler into a call of itself. */
void *memset(void *to, int c, size_t n)
{
	void *d = to;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	void *d = to;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = a, *y = b;

	for (; n > 0; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

bool span_is(struct span s, const char *word)
{
	size_t i = 0;

	while (i < s.n && word[i] == s.at[i])
		i++;
	return i == s.n && word[i] == '\0';
}

struct span span_cut(struct span *s, char mark)
{
	struct span head = { .at = s->at, .n = 0 };

	while (head.n < s->n && s->at[head.n] != mark)
		head.n++;
	s->at += head.n;
	s->n -= head.n;
	if (s->n > 0) {
		s->at++;
		s->n--;
	}
	return head;
}

bool span_number(struct span s, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.n == 0 || s.n > 19)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.at[i] < '0' || s.at[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s.at[i] - '0');
	}
	*ret = v;
	return true;
}
