/* SPDX-License-Identifier: Apache-2.0 */
/* Whom to ask whether it still lives, and who works though its agent is silent. */
#include "core/evidence/hang.h"
#include "core/evidence/looks.h"

#include <glib.h>

#define PERIOD UINT64_C(30000000)

static const struct hang_sample spins = { PERIOD, 40, PERIOD, 0 }, sleeps = { PERIOD, 0, 0, 0 },
				crowded = { PERIOD, 40, PERIOD / 10, PERIOD },
				starved = { PERIOD, 40, PERIOD / 50, PERIOD },
				idles = { PERIOD, 12, 3000, 10 },
				works = { PERIOD, 9000, PERIOD / 2, PERIOD / 4 }, unknown = { 0 };

static HangVerdict judge(struct hang_state *state, const struct hang_sample *s, unsigned times)
{
	HangVerdict v = HANG_NOTHING;

	while (times-- > 0)
		v = hang_judge(state, s);
	return v;
}

static void test_idle_and_working_guests_are_never_asked(void)
{
	struct hang_state state = { 0 };

	for (int i = 0; i < 1000; i++) {
		g_assert_cmpint(hang_judge(&state, i % 3 == 0 ? &works : &idles), ==, HANG_NOTHING);
		g_assert_cmpint(hang_judge(&state, &unknown), ==, HANG_NOTHING);
		g_assert_cmpint(hang_judge(&state, &starved), ==, HANG_NOTHING);
	}
}

static void test_one_that_spins_or_sleeps_for_good_is_asked(void)
{
	const struct hang_sample *const stuck[] = { &spins, &sleeps, &crowded };

	for (size_t i = 0; i < G_N_ELEMENTS(stuck); i++) {
		struct hang_state state = { 0 };

		g_assert_cmpint(judge(&state, stuck[i], HANG_SAMPLES - 1), ==, HANG_NOTHING);
		g_assert_cmpint(hang_judge(&state, stuck[i]), ==, HANG_ASK);
		g_assert_cmpint(hang_judge(&state, stuck[i]), ==, HANG_NOTHING);
	}
}

static void test_a_busy_moment_is_no_reason(void)
{
	struct hang_state state = { 0 };

	for (int i = 0; i < 100; i++) {
		g_assert_cmpint(hang_judge(&state, &spins), ==, HANG_NOTHING);
		g_assert_cmpint(hang_judge(&state, &works), ==, HANG_NOTHING);
	}
}

static void test_one_that_computes_is_asked_less_and_less(void)
{
	struct hang_state state = { 0 };
	unsigned n = 0, last = 0, longest = 0;

	for (unsigned i = 1; i <= 2000; i++) {
		if (hang_judge(&state, &spins) != HANG_ASK)
			continue;
		longest = MAX(longest, i - last);
		last = i;
		n++;
	}
	g_assert_cmpuint(longest, ==, HANG_REST_MAX + 1);
	g_assert_cmpuint(n, <, 2000 / HANG_REST_MAX + 10);
}

static void test_an_end_is_told_once_of_those_that_were_asked(void)
{
	struct hang_state state = { 0 };

	g_assert_cmpint(judge(&state, &sleeps, HANG_SAMPLES), ==, HANG_ASK);
	g_assert_cmpint(hang_judge(&state, &works), ==, HANG_OVER);
	g_assert_cmpint(hang_judge(&state, &works), ==, HANG_NOTHING);
	g_assert_cmpint(judge(&state, &spins, HANG_SAMPLES), ==, HANG_ASK);
}

static void test_only_one_that_spins_is_looked_at(void)
{
	g_assert_true(hang_spins(&spins) && hang_spins(&crowded));
	g_assert_false(hang_spins(&sleeps) || hang_spins(&idles) || hang_spins(&starved) ||
		       hang_spins(&unknown));
}

/* As QEMU prints them, in part. */
#define VCPU(n, rest)                                                                                        \
	"\nCPU#" #n "\nRAX=0000000000000000 RBX=ffffffff82a1b4c0\n" rest "\nES =0000 0 ffffffff 0c00000\n"
#define IN_KERNEL "RIP=ffffffff81b5d6eb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0"
#define IN_PROGRAM "RIP=00007f1a2b3c4d5e RFL=00000206 [-----P-] CPL=3 II=0 A20=1 SMM=0 HLT=0"
#define AT_REST "RIP=ffffffff81b5d6eb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1"
#define HALTED "RIP=ffffffff81b5d6eb RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1"
#define IN_32_BIT "EIP=b7f3a421 EFL=00000206 [-----P-] CPL=3 II=0 A20=1 SMM=0 HLT=0"

static void test_a_guest_works_when_each_vcpu_is_met_in_a_program_or_at_rest(void)
{
	static const struct {
		const char *look[3];
		bool works;
	} row[] = {
		{ { VCPU(0, IN_PROGRAM) }, true },
		{ { VCPU(0, IN_32_BIT) }, true },
		{ { VCPU(0, IN_KERNEL), VCPU(0, IN_KERNEL), VCPU(0, IN_PROGRAM) }, true },
		{ { VCPU(0, IN_KERNEL), VCPU(0, IN_KERNEL), VCPU(0, IN_KERNEL) }, false },
		{ { VCPU(0, IN_PROGRAM) VCPU(1, AT_REST) }, true },
		{ { VCPU(0, IN_PROGRAM) VCPU(1, HALTED) }, false },
		{ { VCPU(0, IN_PROGRAM) VCPU(1, IN_KERNEL), VCPU(0, IN_KERNEL) VCPU(1, IN_PROGRAM) }, true },
		{ { VCPU(0, IN_PROGRAM) VCPU(1, IN_KERNEL), VCPU(0, IN_PROGRAM) VCPU(1, IN_KERNEL) }, false },
		{ { "" }, false },
		{ { "no registers\nRIP= RFL= CPL=\n RFL=x CPL=3 HLT=0\n" }, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		struct hang_looks l = { 0 };

		for (size_t n = 0; n < 3 && row[i].look[n] != NULL; n++)
			hang_looks_add(&l, row[i].look[n]);
		g_assert_cmpint(hang_looks_work(&l), ==, row[i].works);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hang/healthy", test_idle_and_working_guests_are_never_asked);
	g_test_add_func("/hang/stuck", test_one_that_spins_or_sleeps_for_good_is_asked);
	g_test_add_func("/hang/moment", test_a_busy_moment_is_no_reason);
	g_test_add_func("/hang/computes", test_one_that_computes_is_asked_less_and_less);
	g_test_add_func("/hang/over", test_an_end_is_told_once_of_those_that_were_asked);
	g_test_add_func("/hang/spins", test_only_one_that_spins_is_looked_at);
	g_test_add_func("/hang/works", test_a_guest_works_when_each_vcpu_is_met_in_a_program_or_at_rest);
	return g_test_run();
}
