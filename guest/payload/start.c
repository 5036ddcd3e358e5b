/* SPDX-License-Identifier: Apache-2.0 */
#include "start.h"

/* Xen's public ABI, docs/misc/pvh.pandoc and arch-x86/hvm/start_info.h: layouts are fixed. */
#define START_MAGIC 0x336ec578u
#define MEMORY_RAM 1u

struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr;
	/* version 1 and above */
	uint64_t memmap_paddr;
	uint32_t memmap_entries, reserved;
};

struct pvh_memory {
	uint64_t addr, size;
	uint32_t type, reserved;
};

#define MEMORY_ENTRIES_MAX 128 /* what a BIOS can report is below that; more is nonsense */
#define PAGE_SIZE 4096u

extern char bss_end[];

static void cmdline_copy(const char *from, struct start *s)
{
	while (s->cmdline_len < START_CMDLINE_MAX && from[s->cmdline_len] != '\0') {
		s->cmdline[s->cmdline_len] = from[s->cmdline_len];
		s->cmdline_len++;
	}
}

static void memory_add(const struct pvh_memory *m, struct start *s)
{
	uint64_t start = (m->addr + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
	uint64_t end = (m->addr + m->size) & ~(uint64_t)(PAGE_SIZE - 1);

	if (m->type != MEMORY_RAM || m->addr + m->size < m->addr)
		return;
	s->memory += m->size;
	if (end > (uint64_t)bss_end && start < (uint64_t)bss_end)
		start = (uint64_t)bss_end;
	if (start < (uint64_t)bss_end || start >= end || s->n_range == START_RANGES_MAX)
		return;
	s->range[s->n_range++] = (struct start_range){ .start = start, .end = end };
}

bool start_read(uint32_t paddr, struct start *ret)
{
	const struct pvh_start_info *info = (const void *)(uint64_t)paddr;
	const struct pvh_memory *m;

	if (info->magic != START_MAGIC)
		return false;
	ret->rsdp = info->rsdp_paddr;
	if (info->cmdline_paddr != 0)
		cmdline_copy((const void *)info->cmdline_paddr, ret);
	if (info->version == 0 || info->memmap_paddr == 0)
		return true;
	m = (const void *)info->memmap_paddr;
	for (uint32_t i = 0; i < info->memmap_entries && i < MEMORY_ENTRIES_MAX; i++)
		memory_add(&m[i], ret);
	return true;
}
