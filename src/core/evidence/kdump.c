/* SPDX-License-Identifier: Apache-2.0 */
#include "core/evidence/kdump.h"

#include <glib.h>
#include <string.h>

#define SIGNATURE "KDUMP   "
#define MACHINE "x86_64"
#define MACHINE_AT 272
#define BLOCK 4096
#define BLOCK_AT 428
#define INFO_AT (KDUMP_PHYS_BASE_AT + 32)
#define NAME "NUMBER(phys_base)="

static uint32_t number32_at(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof n);
	return GUINT32_FROM_LE(n);
}

static uint64_t number64_at(const uint8_t *p)
{
	uint64_t n;

	memcpy(&n, p, sizeof n);
	return GUINT64_FROM_LE(n);
}

bool kdump_info_at(const uint8_t head[static KDUMP_HEAD], uint64_t *ret_at, uint64_t *ret_len)
{
	uint64_t at = number64_at(head + INFO_AT), len = number64_at(head + INFO_AT + 8);

	if (memcmp(head, SIGNATURE, strlen(SIGNATURE)) != 0 ||
	    memcmp(head + MACHINE_AT, MACHINE, sizeof MACHINE) != 0 || number32_at(head + BLOCK_AT) != BLOCK)
		return false;
	if (at == 0 || at > INT64_MAX || len == 0 || len > KDUMP_INFO_MAX)
		return false;
	*ret_at = at;
	*ret_len = len;
	return true;
}

bool kdump_phys_base(const char *info, size_t len, uint64_t *ret)
{
	g_autofree char *text = g_strndup(info, len), *with_begin = g_strconcat("\n", text, NULL);
	const char *at = strstr(with_begin, "\n" NAME);
	char *end;
	int64_t base;

	if (at == NULL)
		return false;
	at += strlen("\n" NAME);
	base = g_ascii_strtoll(at, &end, 10);
	if (end == at || (*end != '\n' && *end != '\0') || base == INT64_MIN || base == INT64_MAX)
		return false;
	*ret = (uint64_t)base;
	return true;
}
