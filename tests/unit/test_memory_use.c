/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host/memory_use.h"

#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define RAM_FLAGS "VmFlags: rd wr mr mw me dc ac dd hg \n"

/* As Linux prints it; members that nobody reads are left out. */
#define HEAP                                                                                                 \
	"559d81add000-559d82a61000 rw-p 00000000 00:00 0                          [heap]\n"                  \
	"Size:              15888 kB\n"                                                                      \
	"Pss:                4000 kB\n"                                                                      \
	"SwapPss:              32 kB\n"                                                                      \
	"VmFlags: rd wr mr mw me ac \n"
#define PROGRAM                                                                                              \
	"559d5c1a2000-559d5c54b000 r-xp 00df9000 fe:00 1234    /usr/bin/qemu-system-x86_64\n"                \
	"Pss:                2000 kB\n"                                                                      \
	"VmFlags: rd ex mr mw me \n"
#define CODE                                                                                                 \
	"7fe444000000-7fe483fff000 rwxp 00000000 00:00 0 \n"                                                 \
	"Pss:                2048 kB\n"                                                                      \
	"VmFlags: rd wr ex mr mw me ac hg \n"
#define VIDEO                                                                                                \
	"7fe484000000-7fe485000000 rw-p 00000000 00:00 0 \n"                                                 \
	"Pss:                 100 kB\n" RAM_FLAGS
/* 64 MiB of the guest, behind a guard. */
#define RAM                                                                                                  \
	"7fe490000000-7fe494000000 rw-p 00000000 00:00 0 \n"                                                 \
	"Pss:                6144 kB\n"                                                                      \
	"KSM:                 512 kB\n" RAM_FLAGS
#define RAM_IN_TWO                                                                                           \
	"7fe490000000-7fe491000000 rw-p 00000000 00:00 0 \n"                                                 \
	"Pss:                6000 kB\n" RAM_FLAGS "7fe491000000-7fe494000000 rw-p 00000000 00:00 0 \n"       \
	"Pss:                 144 kB\n" RAM_FLAGS
/* Of the guest's size, but QEMU's own. */
#define DECOY                                                                                                \
	"7fe4a0000000-7fe4a4000000 rw-p 00000000 00:00 0 \n"                                                 \
	"Pss:                  64 kB\n"                                                                      \
	"VmFlags: rd wr mr mw me ac \n"

static struct memory_use use_of(const char *text)
{
	g_autoptr(GError) err = NULL;
	struct memory_use u;

	g_assert_true(memory_use_parse(text, strlen(text), 64 * MIB, NULL, &u, &err));
	g_assert_no_error(err);
	return u;
}

static void test_the_guests_memory_is_told_from_qemus_own(void)
{
	struct memory_use u = use_of(HEAP PROGRAM CODE VIDEO DECOY RAM);

	g_assert_cmpuint(u.guest, ==, 6144 * KIB);
	g_assert_cmpuint(u.merged, ==, 512 * KIB);
	g_assert_cmpuint(u.part[MEMORY_HEAP], ==, (4000 + 32 + 64) * KIB);
	g_assert_cmpuint(u.part[MEMORY_PROGRAM], ==, 2000 * KIB);
	g_assert_cmpuint(u.part[MEMORY_TRANSLATED], ==, 2048 * KIB);
	g_assert_cmpuint(u.part[MEMORY_DEVICES], ==, 100 * KIB);
	g_assert_cmpuint(memory_use_overhead(&u), ==, (4096 + 2000 + 2048 + 100) * KIB);
}

static void test_a_block_that_the_kernel_split_is_one(void)
{
	struct memory_use u = use_of(HEAP RAM_IN_TWO CODE);

	g_assert_cmpuint(u.guest, ==, 6144 * KIB);
	g_assert_cmpuint(memory_use_overhead(&u), ==, (4032 + 2048) * KIB);
}

static void test_sizes_are_rounded_as_qemu_does(void)
{
	struct memory_use u;

	g_assert_true(memory_use_parse(RAM, strlen(RAM), 64 * MIB - 5000, NULL, &u, NULL));
	g_assert_cmpuint(u.guest, ==, 6144 * KIB);
}

static void test_text_without_the_guests_memory_is_refused(void)
{
	static const struct {
		const char *text;
		ErrCode code;
	} bad[] = {
		{ "", ERR_NOT_FOUND },
		{ HEAP VIDEO DECOY, ERR_NOT_FOUND },
		{ "Pss: 4 kB\n", ERR_INVALID },
		{ "7fe4-7fe3 rw-p 0 00:00 0\n", ERR_INVALID },
		{ "7fe4-\n", ERR_INVALID },
		{ "7fe490000000-7fe494000000", ERR_INVALID },
		{ "7fe490000000-7fe494000000 rw", ERR_INVALID },
		{ "ffffffffffffffffffffff-1 rw-p 0 00:00 0\n", ERR_INVALID },
		{ "garbage", ERR_INVALID },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;
		struct memory_use u = { .guest = 7 };

		g_assert_false(memory_use_parse(bad[i].text, strlen(bad[i].text), 64 * MIB, NULL, &u, &err));
		g_assert_error(err, ERR, (gint)bad[i].code);
		g_assert_cmpuint(u.guest, ==, 7);
	}
}

static void test_any_cut_of_the_text_is_survived(void)
{
	static const char text[] = HEAP PROGRAM RAM VIDEO;

	for (size_t n = 0; n < sizeof text; n++) {
		g_autofree char *copy = g_memdup2(text, n);
		g_autoptr(GError) err = NULL;
		struct memory_use u;

		if (memory_use_parse(copy, n, 64 * MIB, NULL, &u, &err))
			g_assert_cmpuint(u.guest, <=, 6144 * KIB);
		else
			g_assert_nonnull(err);
	}
}

static void test_lines_are_found_by_their_whole_name(void)
{
	static const char status[] = "Name:\tvm-a\nVmPTEx:\t9 kB\nVmPTE:\t     240 kB\n";

	g_assert_cmpuint(memory_line_find(status, "VmPTE"), ==, 240 * KIB);
	g_assert_cmpuint(memory_line_find(status, "VmPT"), ==, 0);
	g_assert_cmpuint(memory_line_find(status, "Name"), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/memory-use/parts", test_the_guests_memory_is_told_from_qemus_own);
	g_test_add_func("/memory-use/split", test_a_block_that_the_kernel_split_is_one);
	g_test_add_func("/memory-use/rounded", test_sizes_are_rounded_as_qemu_does);
	g_test_add_func("/memory-use/refused", test_text_without_the_guests_memory_is_refused);
	g_test_add_func("/memory-use/cut", test_any_cut_of_the_text_is_survived);
	g_test_add_func("/memory-use/line", test_lines_are_found_by_their_whole_name);
	return g_test_run();
}
