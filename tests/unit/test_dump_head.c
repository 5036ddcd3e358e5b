/* SPDX-License-Identifier: Apache-2.0 */
/* The heads of dumps, and what is mended in them. */
#include "core/evidence/elf_head.h"
#include "core/evidence/kdump.h"

#include <elf.h>
#include <glib.h>
#include <string.h>

static void put64(uint8_t *head, size_t at, uint64_t n)
{
	n = GUINT64_TO_LE(n);
	memcpy(head + at, &n, sizeof n);
}

static void make_head(uint8_t *head, uint64_t at, uint64_t len)
{
	memset(head, 0, KDUMP_HEAD);
	memcpy(head, "KDUMP   ", 8);
	memcpy(head + 272, "x86_64", 6);
	head[429] = 4096 >> 8;
	put64(head, KDUMP_PHYS_BASE_AT + 32, at);
	put64(head, KDUMP_PHYS_BASE_AT + 40, len);
}

static void test_the_description_is_found_or_not(void)
{
	static const struct {
		uint64_t at, len;
		size_t spoilt; /* this byte of the head; 0: none */
		bool found;
	} row[] = {
		{ 5856, 3262, 0, true },
		{ 5856, KDUMP_INFO_MAX, 0, true },
		{ 5856, KDUMP_INFO_MAX + 1, 0, false },
		{ 0, 0, 0, false },
		{ 5856, 0, 0, false },
		{ UINT64_MAX, 10, 0, false },
		{ 5856, 3262, 3, false },
		{ 5856, 3262, 273, false },
		{ 5856, 3262, 430, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		uint8_t head[KDUMP_HEAD];
		uint64_t at = 0, len = 0;

		make_head(head, row[i].at, row[i].len);
		if (row[i].spoilt != 0)
			head[row[i].spoilt] ^= 1;
		g_assert_cmpint(kdump_info_at(head, &at, &len), ==, row[i].found);
		g_assert_cmpuint(at, ==, row[i].found ? row[i].at : 0);
		g_assert_cmpuint(len, ==, row[i].found ? row[i].len : 0);
	}
}

static void test_the_kernel_s_decimal_number_is_read(void)
{
	static const struct {
		const char *info;
		bool known;
		uint64_t base;
	} row[] = {
		{ "OSRELEASE=6.1.0\nNUMBER(phys_base)=-448790528\nSYMBOL(prb)=ffffffffa22622c0\n", true,
		  (uint64_t)-448790528 },
		{ "NUMBER(phys_base)=0\n", true, 0 },
		{ "NUMBER(phys_base)=16777216", true, 16777216 },
		{ "XNUMBER(phys_base)=1\n", false, 0 },
		{ "NUMBER(phys_base)=\n", false, 0 },
		{ "NUMBER(phys_base)=1000f\n", false, 0 },
		{ "NUMBER(phys_base)=99999999999999999999\n", false, 0 },
		{ "", false, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		uint64_t base = 0;

		g_assert_cmpint(kdump_phys_base(row[i].info, strlen(row[i].info), &base), ==, row[i].known);
		g_assert_cmpuint(base, ==, row[i].base);
	}
}

#define SEGMENTS 3
#define SECTIONS 2

/* As QEMU 7.2 writes it. */
struct elf_file {
	Elf64_Ehdr head;
	Elf64_Shdr section[SECTIONS];
	Elf64_Phdr segment[SEGMENTS];
	uint8_t rest[16];
};

/* The same as the kernel would. */
struct usual_file {
	Elf64_Ehdr head;
	Elf64_Phdr segment[SEGMENTS];
	Elf64_Shdr section[SECTIONS];
	uint8_t rest[16];
};

static struct elf_file elf_file(void)
{
	struct elf_file f = { .head = {
				  .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
				  .e_type = ET_CORE,
				  .e_ehsize = 8,
				  .e_shoff = sizeof f.head,
				  .e_shnum = SECTIONS,
				  .e_phoff = sizeof f.head + sizeof f.section,
				  .e_phnum = SEGMENTS } };

	memset(f.section, 0x55, sizeof f.section);
	for (int i = 0; i < SEGMENTS; i++)
		f.segment[i] =
		    (Elf64_Phdr){ .p_type = i == 0 ? PT_NOTE : PT_LOAD, .p_paddr = (uint64_t)i << 32 };
	memset(f.rest, 0x77, sizeof f.rest);
	return f;
}

static void test_segments_come_right_behind_the_header(void)
{
	struct elf_file f = elf_file(), before = f;
	struct usual_file u;

	g_assert_true(elf_head_mend((uint8_t *)&f, sizeof f));
	g_assert_cmpuint(sizeof u, ==, sizeof f);
	memcpy(&u, &f, sizeof u);
	g_assert_cmpuint(u.head.e_ehsize, ==, sizeof u.head);
	g_assert_cmpuint(u.head.e_phoff, ==, offsetof(struct usual_file, segment));
	g_assert_cmpuint(u.head.e_shoff, ==, offsetof(struct usual_file, section));
	g_assert_cmpint(memcmp(u.segment, before.segment, sizeof u.segment), ==, 0);
	g_assert_cmpint(memcmp(u.section, before.section, sizeof u.section), ==, 0);
	g_assert_cmpint(memcmp(u.rest, before.rest, sizeof u.rest), ==, 0);
	g_assert_false(elf_head_mend((uint8_t *)&f, sizeof f));
}

static void test_what_is_not_such_a_file_stays_as_it_is(void)
{
	for (int i = 0; i < 8; i++) {
		struct elf_file f = elf_file(), before;
		size_t len = i == 0 ? 10 : i == 1 ? sizeof f - sizeof f.rest - 1 : sizeof f;

		f.head.e_ident[EI_MAG0] = i == 2 ? 0 : ELFMAG0;
		f.head.e_ident[EI_CLASS] = i == 3 ? ELFCLASS32 : ELFCLASS64;
		f.head.e_type = i == 4 ? ET_EXEC : ET_CORE;
		f.head.e_shoff += i == 5;
		f.head.e_phnum = i == 6 ? UINT16_MAX : i == 7 ? 0 : SEGMENTS;
		before = f;
		g_assert_false(elf_head_mend((uint8_t *)&f, len));
		g_assert_cmpint(memcmp(&f, &before, sizeof f), ==, 0);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kdump/description", test_the_description_is_found_or_not);
	g_test_add_func("/kdump/phys-base", test_the_kernel_s_decimal_number_is_read);
	g_test_add_func("/elf/segments", test_segments_come_right_behind_the_header);
	g_test_add_func("/elf/other", test_what_is_not_such_a_file_stays_as_it_is);
	return g_test_run();
}
