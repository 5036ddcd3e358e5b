/* SPDX-License-Identifier: Apache-2.0 */
/* Levels: what members have in common, who costs what, what if. */
#include "core/cpu/check.h"
#include "core/cpu/level.h"

#include "cpu_sets.h"

static void add(Level *l, const char *name, const char *features_of)
{
	struct featureset s = host(features_of);
	g_autoptr(GError) err = NULL;

	level_add(l, name, &s, &err);
	g_assert_no_error(err);
}

static void assert_strings(const char **got, const char *expected)
{
	g_autofree char *text = g_strjoinv(",", (char **)got);

	g_assert_cmpstr(text, ==, expected);
	g_free(got);
}

static void test_there_is_no_level_without_a_host(void)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);
	struct featureset s;

	g_assert_null(level_get(l));
	g_assert_false(level_rescan(l, &s));
	add(l, "a", "fpu");
	g_assert_nonnull(level_get(l));
	g_assert_true(level_remove(l, "a"));
	g_assert_null(level_get(l));
	g_assert_false(level_remove(l, "a"));
}

static void test_the_level_is_what_all_have(void)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);

	add(l, "a", "fpu mmx fxsr sse xsave avx avx2");
	add(l, "b", "fpu mmx fxsr sse xsave avx");
	add(l, "c", "fpu mmx xsave avx avx2");
	assert_names(&level_get(l)->has, "fpu, mmx, xsave, avx");
}

static void test_who_costs_what_is_known(void)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);
	struct cpu_bits b;

	add(l, "a", "fpu mmx xsave avx avx2");
	add(l, "b", "fpu mmx xsave avx");
	add(l, "c", "fpu xsave avx");
	level_lost(l, &b);
	assert_names(&b, "mmx, avx2");
	assert_strings(level_lost_hosts(l, feature_find("avx2")->id), "b,c");
	assert_strings(level_lost_hosts(l, feature_find("mmx")->id), "c");
	g_assert_cmpuint(level_lack(l, feature_find("avx2")->id), ==, 2);
	level_sole(l, "c", &b);
	assert_names(&b, "mmx");
	level_sole(l, "b", &b);
	g_assert_true(cpu_bits_empty(&b));
	level_sole(l, "nobody", &b);
	g_assert_true(cpu_bits_empty(&b));
}

static void test_numbers_are_the_lowest(void)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);
	struct featureset a = host("fpu"), b = host("fpu");

	a.model = 143;
	a.stepping = 1;
	a.phys_bits = 52;
	b.level = 0xb;
	b.tsc_khz = 2000000;
	g_assert_true(level_add(l, "a", &a, NULL));
	g_assert_true(level_add(l, "b", &b, NULL));
	g_assert_cmpuint(level_get(l)->model, ==, 85);
	g_assert_cmpuint(level_get(l)->stepping, ==, 4);
	g_assert_cmpuint(level_get(l)->phys_bits, ==, 46);
	g_assert_cmpuint(level_get(l)->level, ==, 0xb);
	g_assert_cmpuint(level_get(l)->tsc_khz, ==, 0);
	level_remove(l, "b");
	g_assert_cmpuint(level_get(l)->model, ==, 143);
	g_assert_cmpuint(level_get(l)->level, ==, 0xd);
	g_assert_cmpuint(level_get(l)->phys_bits, ==, 52);
}

static void test_another_vendor_is_refused_and_changes_nothing(void)
{
	g_autoptr(Level) l = level_new(GUEST_KVM), tcg = level_new(GUEST_TCG);
	struct featureset amd = host("fpu mmx"), odd = host("fpu mmx");
	g_autoptr(GError) err = NULL;

	memcpy(amd.vendor, "AuthenticAMD", 13);
	memcpy(odd.vendor, "GenuineIotel", 13);
	add(l, "a", "fpu mmx");
	g_assert_false(level_add(l, "b", &amd, &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(strstr(err->message, "AuthenticAMD"));
	g_assert_nonnull(err_advice(err));
	g_clear_error(&err);
	g_assert_false(level_add(l, "c", &odd, &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
	g_assert_cmpuint(level_count(l), ==, 1);
	assert_names(&level_get(l)->has, "fpu, mmx");

	/* The only member may be replaced by anything; emulation does not care. */
	g_assert_true(level_add(l, "a", &amd, NULL));
	g_assert_true(level_add(tcg, "a", &amd, NULL));
	g_assert_true(level_add(tcg, "b", &odd, NULL));
}

static void test_a_set_that_is_not_closed_is_refused(void)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);
	struct featureset s = host("avx2"), none = { .vendor = "GenuineIntel" };
	g_autoptr(GError) err = NULL;

	g_assert_false(level_add(l, "a", &s, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_clear_error(&err);
	g_assert_false(level_add(l, "a", &none, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_cmpuint(level_count(l), ==, 0);
}

static void test_state_at_different_places_takes_the_feature_away(void)
{
	g_autoptr(Level) l = level_new(GUEST_TCG);
	struct featureset a = host("fpu xsave avx avx2"), b = a, full;

	a.xsave[0] = (struct xsave_layout){ 256, 576 };
	b.xsave[0] = (struct xsave_layout){ 256, 640 };
	g_assert_true(level_add(l, "a", &a, NULL));
	g_assert_true(level_add(l, "b", &b, NULL));
	assert_names(&level_get(l)->has, "fpu, xsave");
	g_assert_true(level_rescan(l, &full));
	g_assert_true(featureset_equal(&full, level_get(l)));
	assert_strings(level_lost_hosts(l, feature_find("avx")->id), "a,b");
	level_remove(l, "b");
	assert_names(&level_get(l)->has, "fpu, xsave, avx, avx2");
}

static void test_what_if_changes_nothing(void)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);
	struct featureset weak = host("fpu xsave"), strong = host("fpu mmx xsave avx avx2"), before;
	struct cpu_bits lost, gained;

	g_assert_true(level_if_joined(l, "first", &weak, &lost, NULL));
	g_assert_true(cpu_bits_empty(&lost));
	add(l, "a", "fpu mmx xsave avx avx2");
	add(l, "b", "fpu xsave avx");
	before = *level_get(l);
	g_assert_true(level_if_joined(l, "c", &weak, &lost, NULL));
	assert_names(&lost, "avx");
	g_assert_true(level_if_changed(l, "b", &strong, &lost, &gained, NULL));
	g_assert_true(cpu_bits_empty(&lost));
	assert_names(&gained, "mmx, avx2");
	level_if_disabled(l, feature_find("xsave")->id, &lost);
	assert_names(&lost, "xsave, avx");
	g_assert_true(featureset_equal(&before, level_get(l)));
	g_assert_cmpuint(level_count(l), ==, 2);
}

static void test_a_mitigation_that_only_some_report_is_told(void)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);
	struct cpu_bits b;

	add(l, "a", "fpu md-clear");
	add(l, "b", "fpu");
	level_warnings(l, &b);
	assert_names(&b, "md-clear");
}

/* ---- properties ---- */

static struct featureset random_host(GRand *rand)
{
	struct featureset s = host("fpu");

	for (size_t w = 0; w < CPU_WORDS; w++)
		s.has.word[w] = g_rand_int(rand) | g_rand_int(rand) | g_rand_int(rand) | g_rand_int(rand);
	cpu_bits_set(&s.has, feature_find("fpu")->id);
	s.model = (uint32_t)g_rand_int_range(rand, 1, 200);
	s.phys_bits = (uint32_t)g_rand_int_range(rand, 36, 53);
	s.level = (uint32_t)g_rand_int_range(rand, 7, 0x25);
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		s.xsave[i] = (struct xsave_layout){ 64, g_rand_int(rand) % 64 == 0 ? 640 : 576 };
	featureset_make_max(&s, NULL);
	return s;
}

static void assert_consistent(const Level *l)
{
	struct featureset full;

	if (level_get(l) == NULL) {
		g_assert_false(level_rescan(l, &full));
		return;
	}
	g_assert_true(level_rescan(l, &full));
	g_assert_true(featureset_equal(&full, level_get(l)));
}

static void test_counters_are_what_a_rescan_finds(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	g_autoptr(Level) l = level_new(GUEST_KVM);

	for (int round = 0; round < 1500; round++) {
		g_autofree char *name = g_strdup_printf("h%d", g_rand_int_range(rand, 0, 24));

		if (g_rand_int_range(rand, 0, 3) == 0) {
			level_remove(l, name);
		} else {
			struct featureset s = random_host(rand);

			g_assert_true(level_add(l, name, &s, NULL));
		}
		assert_consistent(l);
	}
}

static void test_order_does_not_matter(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(2);

	for (int round = 0; round < 100; round++) {
		g_autoptr(Level) a = level_new(GUEST_KVM), b = level_new(GUEST_KVM);
		struct featureset set[8];

		for (int i = 0; i < 8; i++)
			set[i] = random_host(rand);
		for (int i = 0; i < 8; i++) {
			g_autofree char *up = g_strdup_printf("h%d", i),
					*down = g_strdup_printf("h%d", 7 - i);

			g_assert_true(level_add(a, up, &set[i], NULL));
			g_assert_true(level_add(b, down, &set[7 - i], NULL));
		}
		g_assert_true(featureset_equal(level_get(a), level_get(b)));
	}
}

static void test_what_if_is_what_then_happens(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(3);

	for (int round = 0; round < 200; round++) {
		g_autoptr(Level) l = level_new(GUEST_KVM);
		struct featureset before, s = random_host(rand);
		struct cpu_bits lost, sole, b;

		for (int i = 0; i < 4; i++) {
			g_autofree char *name = g_strdup_printf("h%d", i);
			struct featureset one = random_host(rand);

			g_assert_true(level_add(l, name, &one, NULL));
		}
		before = *level_get(l);
		g_assert_true(level_if_joined(l, "new", &s, &lost, NULL));
		g_assert_true(level_add(l, "new", &s, NULL));
		cpu_bits_minus(&b, &before.has, &level_get(l)->has);
		g_assert_true(cpu_bits_equal(&b, &lost));
		level_sole(l, "new", &sole);
		g_assert_true(cpu_bits_equal(&sole, &lost));
		level_remove(l, "new");
		g_assert_true(featureset_equal(&before, level_get(l)));
	}
}

/* A guest that was started at the level can go to every member. */
static void test_the_check_agrees_with_the_level(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(4);

	for (int round = 0; round < 200; round++) {
		g_autoptr(Level) l = level_new(GUEST_KVM);

		for (int i = 0; i < 6; i++) {
			g_autofree char *name = g_strdup_printf("h%d", i);
			struct featureset one = random_host(rand);

			g_assert_true(level_add(l, name, &one, NULL));
		}
		for (size_t i = 0; i < level_count(l); i++) {
			struct cpu_verdict v;

			cpu_check(level_get(l), GUEST_KVM, level_member(l, level_host(l, i)), &v);
			g_assert_true(v.can);
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/cpu_level/" #name, test_##name)
	T(there_is_no_level_without_a_host);
	T(the_level_is_what_all_have);
	T(who_costs_what_is_known);
	T(numbers_are_the_lowest);
	T(another_vendor_is_refused_and_changes_nothing);
	T(a_set_that_is_not_closed_is_refused);
	T(state_at_different_places_takes_the_feature_away);
	T(what_if_changes_nothing);
	T(a_mitigation_that_only_some_report_is_told);
	T(counters_are_what_a_rescan_finds);
	T(order_does_not_matter);
	T(what_if_is_what_then_happens);
	T(the_check_agrees_with_the_level);
	return g_test_run();
}
