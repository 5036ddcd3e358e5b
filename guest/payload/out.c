/* SPDX-License-Identifier: Apache-2.0 */
#include "out.h"

#include "x86.h"

#define DEBUGCON 0xe9
#define COM1 0x3f8
#define COM1_LINE_STATUS (COM1 + 5)
#define LINE_STATUS_KEY 0x01
#define LINE_STATUS_EMPTY 0x20

static struct {
	OutTo to;
	size_t n;
	char buf[256];
} out = { .to = OUT_DEBUGCON };

void out_to(OutTo to)
{
	out.to = to;
}

static void serial_send(const char *s, size_t n)
{
	for (; n > 0; n--, s++) {
		while ((inb(COM1_LINE_STATUS) & LINE_STATUS_EMPTY) == 0)
			;
		outb(COM1, (uint8_t)*s);
	}
}

static void out_flush(void)
{
	if (out.to & OUT_DEBUGCON)
		outsb(DEBUGCON, out.buf, out.n);
	if (out.to & OUT_SERIAL)
		serial_send(out.buf, out.n);
	out.n = 0;
}

static void out_char(char c)
{
	if (out.n == sizeof(out.buf))
		out_flush();
	out.buf[out.n++] = c;
}

void out_str(const char *s)
{
	for (; *s != '\0'; s++)
		out_char(*s);
}

void out_span(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		out_char(s.at[i] >= ' ' && s.at[i] <= '~' ? s.at[i] : '?');
}

void out_dec(uint64_t v)
{
	char digit[20];
	size_t n = 0;

	do {
		digit[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	while (n > 0)
		out_char(digit[--n]);
}

void out_hex(uint64_t v, unsigned digits)
{
	while (digits > 0)
		out_char("0123456789abcdef"[(v >> (4 * --digits)) & 15]);
}

void out_end(void)
{
	out_char('\n');
	out_flush();
}

void out_drop(void)
{
	out.n = 0;
}

void out_dec_line(const char *word, uint64_t v)
{
	out_str(word);
	out_char(' ');
	out_dec(v);
	out_end();
}

int out_key(void)
{
	return (inb(COM1_LINE_STATUS) & LINE_STATUS_KEY) != 0 ? inb(COM1) : -1;
}
