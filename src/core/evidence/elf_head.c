/* SPDX-License-Identifier: Apache-2.0 */
#include "core/evidence/elf_head.h"

#include <elf.h>
#include <glib.h>
#include <string.h>

static bool is_elf(const Elf64_Ehdr *h)
{
	return memcmp(h->e_ident, ELFMAG, SELFMAG) == 0 && h->e_ident[EI_CLASS] == ELFCLASS64 &&
	       h->e_ident[EI_DATA] == ELFDATA2LSB && GUINT16_FROM_LE(h->e_type) == ET_CORE;
}

bool elf_head_mend(uint8_t *head, size_t len)
{
	g_autofree uint8_t *sections = NULL;
	size_t n_sections, n_segments;
	Elf64_Ehdr h;

	if (len < sizeof h)
		return false;
	memcpy(&h, head, sizeof h);
	n_sections = GUINT16_FROM_LE(h.e_shnum) * sizeof(Elf64_Shdr);
	n_segments = GUINT16_FROM_LE(h.e_phnum) * sizeof(Elf64_Phdr);
	if (!is_elf(&h) || GUINT64_FROM_LE(h.e_shoff) != sizeof h || n_sections == 0 ||
	    GUINT64_FROM_LE(h.e_phoff) != sizeof h + n_sections || n_segments == 0 ||
	    len < sizeof h + n_sections + n_segments)
		return false;
	sections = g_memdup2(head + sizeof h, n_sections);
	memmove(head + sizeof h, head + sizeof h + n_sections, n_segments);
	memcpy(head + sizeof h + n_segments, sections, n_sections);
	h.e_ehsize = GUINT16_TO_LE(sizeof h);
	h.e_phoff = GUINT64_TO_LE(sizeof h);
	h.e_shoff = GUINT64_TO_LE(sizeof h + n_segments);
	memcpy(head, &h, sizeof h);
	return true;
}
