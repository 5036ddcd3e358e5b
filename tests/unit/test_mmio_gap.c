/* SPDX-License-Identifier: Apache-2.0 */
/* The gaps for PCI devices: what is accepted is what QEMU makes, what QEMU can't make is refused with the
 * range. */
#include "core/guest/mmio_gap.h"

#include <inttypes.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* Memory below 4 GiB as QEMU 7.2 reckons it: pc_q35_init(), pc_init1(). `limit` 0: not given. */
static uint64_t low_memory(const struct mmio_machine *m, uint64_t limit)
{
	uint64_t low;

	if (m->q35) {
		low = m->memory >= 0xb0000000 ? 0x80000000 : 0xb0000000;
		low = MIN(low, limit > 0 ? limit : 4 * GIB);
	} else {
		low = limit > 0 ? limit : 0xe0000000;
		if (m->memory >= low)
			low = MIN(low, 0xc0000000);
	}
	return MIN(m->memory, low);
}

static void test_what_is_accepted_is_what_qemu_makes(void)
{
	unsigned accepted = 0;

	for (unsigned i = 0; i < 20000; i++) {
		struct mmio_machine m = { .q35 = g_test_rand_bit(),
					  .memory = (uint64_t)g_test_rand_int_range(16, 8192) * MIB };
		uint64_t gap = (uint64_t)g_test_rand_int_range(128, 4096) * MIB;

		if (i % 4 == 0 && m.memory < 4 * GIB)
			gap = 4 * GIB - m.memory;
		if (!mmio_low_gap_check(&m, gap, NULL))
			continue;
		accepted++;
		g_assert_cmpuint(4 * GIB - low_memory(&m, mmio_low_gap_limit(&m, gap)), ==, gap);
	}
	g_assert_cmpuint(accepted, >, 1000);
}

/* Of what firmware can live with, nothing is refused that some limit would bring about. */
static void test_what_is_refused_no_limit_brings_about(void)
{
	for (unsigned i = 0; i < 2000; i++) {
		struct mmio_machine m = { .q35 = g_test_rand_bit(),
					  .memory = (uint64_t)g_test_rand_int_range(512, 8192) * MIB };
		uint64_t gap = (uint64_t)g_test_rand_int_range(513, 3585) * MIB;

		if (mmio_low_gap_check(&m, gap, NULL))
			continue;
		for (uint64_t limit = 512 * MIB; limit <= 3584 * MIB; limit += MIB)
			g_assert_cmpuint(4 * GIB - low_memory(&m, limit), !=, gap);
	}
}

static const struct {
	bool q35;
	uint64_t memory, gap, min, max;
	const char *says, *advice;
} refused[] = {
	{ true, 4 * GIB, GIB, 2 * GIB, 3584 * MIB, "can't be 1GiB on q35 with 4GiB of memory",
	  "Choose 2GiB to 3584MiB in whole MiB, or set machine=pc, which can do it." },
	{ true, 4 * GIB, 128 * MIB, 2 * GIB, 3584 * MIB, "can't be 128MiB",
	  "Choose 2GiB to 3584MiB in whole MiB." },
	{ true, 4 * GIB, 3585 * MIB, 2 * GIB, 3584 * MIB, "3585MiB", "Choose 2GiB to 3584MiB in whole MiB." },
	{ true, 4 * GIB, 2 * GIB + 4096, 2 * GIB, 3584 * MIB, "2147487744",
	  "Choose 2GiB to 3584MiB in whole MiB." },
	{ true, GIB, 2 * GIB, 3 * GIB, 3584 * MIB, "with 1GiB of memory",
	  "Choose 3GiB to 3584MiB in whole MiB." },
	{ true, 256 * MIB, 2 * GIB, 3840 * MIB, 3840 * MIB, "with 256MiB of memory",
	  "The gap begins where memory ends and is 3840MiB: unset it, or give the vm more memory." },
	{ false, 4 * GIB, 512 * MIB, GIB, 3584 * MIB, "on pc", "Choose 1GiB to 3584MiB in whole MiB." },
	{ false, 3328 * MIB, 800 * MIB, 768 * MIB, 3584 * MIB, "800MiB",
	  "Choose 768MiB, or 1GiB to 3584MiB in whole MiB." },
};

static void test_a_low_gap_that_can_not_be_is_refused_with_the_range(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
		struct mmio_machine m = { .q35 = refused[i].q35, .memory = refused[i].memory };
		g_autoptr(GError) err = NULL;
		uint64_t gap = refused[i].gap;

		g_test_message("%" PRIu64 " of %" PRIu64, gap, m.memory);
		g_assert_false(mmio_low_gap_check(&m, gap, &err));
		g_assert_error(err, ERR, ERR_UNSUPPORTED);
		g_assert_nonnull(strstr(err->message, refused[i].says));
		g_assert_cmpuint(json_uint(err_details(err), "min", 0), ==, refused[i].min);
		g_assert_cmpuint(json_uint(err_details(err), "max", 0), ==, refused[i].max);
		g_assert_cmpstr(err_advice(err), ==, refused[i].advice);
	}
}

static void test_a_high_gap_ends_where_the_addresses_do(void)
{
	static const struct {
		unsigned bits;
		bool amd;
		uint64_t memory, max;
	} rows[] = {
		{ 36, false, GIB, 59 * GIB },   { 39, false, 4 * GIB, 504 * GIB },
		{ 40, false, GIB, 1019 * GIB }, { 40, true, GIB, 1007 * GIB },
		{ 46, true, GIB, 1007 * GIB },  { 46, false, GIB, 65531 * GIB },
		{ 36, false, 128 * GIB, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		struct mmio_machine m = {
			.q35 = true, .memory = rows[i].memory, .phys_bits = rows[i].bits, .amd = rows[i].amd
		};
		g_autoptr(GError) err = NULL;

		g_assert_true(rows[i].max == 0 || mmio_high_gap_check(&m, rows[i].max, NULL));
		g_assert_false(mmio_high_gap_check(&m, rows[i].max + GIB, &err));
		g_assert_cmpuint(json_uint(err_details(err), "max", 1), ==, rows[i].max);
		g_assert_nonnull(err_advice(err));
		g_assert_false(mmio_high_gap_check(&m, GIB + MIB, NULL));
		g_assert_false(mmio_high_gap_check(&m, 0, NULL));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/mmio-gap/accepted", test_what_is_accepted_is_what_qemu_makes);
	g_test_add_func("/mmio-gap/none-left-out", test_what_is_refused_no_limit_brings_about);
	g_test_add_func("/mmio-gap/refused", test_a_low_gap_that_can_not_be_is_refused_with_the_range);
	g_test_add_func("/mmio-gap/high", test_a_high_gap_ends_where_the_addresses_do);
	return g_test_run();
}
