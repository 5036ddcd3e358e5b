/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of text for the host, on QEMU's debug console (isa-debugcon at its usual port 0xe9) or on the first
 * serial port. A line is collected and sent whole at its end; the two consoles need no interrupt.
 */
#pragma once

#include "str.h"

/* Where the lines go. */
typedef enum OutTo {
	OUT_DEBUGCON = 1,
	OUT_SERIAL = 2,
	OUT_BOTH = 3,
} OutTo;

void out_to(OutTo to);

void out_str(const char *s);
/* Bytes from outside: what is not printable becomes '?', so that a line stays a line. */
void out_span(struct span s);
void out_dec(uint64_t v);
/* Exactly `digits` hexadecimal digits. */
void out_hex(uint64_t v, unsigned digits);
void out_end(void);
/* Forget the line that has been begun. */
void out_drop(void);

/* What was typed on the serial port, whatever the lines go to; -1: nothing yet. */
int out_key(void);

/* "word number\n" */
void out_dec_line(const char *word, uint64_t v);
