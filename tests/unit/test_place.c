/* SPDX-License-Identifier: Apache-2.0 */
/* Which host gets a vm, and who may be in a pool. */
#include "core/guest/host_facts.h"
#include "core/place/evacuate.h"
#include "core/place/place.h"

#include <string.h>

#define GIB (UINT64_C(1) << 30)

static const PlaceHost hosts[] = {
	{ "id-a", "a", true, { true, true }, 8 * GIB },
	{ "id-b", "b", true, { false, true }, 16 * GIB },
	{ "id-c", "c", true, { true, true }, 16 * GIB },
	{ "id-d", "d", false, { true, true }, 64 * GIB },
};

static void test_the_choice(void)
{
	static const struct {
		const char *wanted, *files;
		int accel;
		uint64_t memory;
		const char *host;
	} table[] = {
		{ NULL, NULL, -1, GIB, "b" },        /* most memory, first by name */
		{ NULL, NULL, ACCEL_KVM, GIB, "c" }, /* b has no KVM */
		{ NULL, "id-a", -1, GIB, "a" },      /* where the files are */
		{ "id-a", NULL, -1, GIB, "a" },      /* asked for */
		{ "id-a", "id-a", ACCEL_KVM, 8 * GIB, "a" },
		{ "id-b", "id-a", -1, GIB, NULL },  /* asked for, files elsewhere */
		{ NULL, "id-d", -1, GIB, NULL },    /* its host is away */
		{ NULL, NULL, -1, 17 * GIB, NULL }, /* too large */
		{ "id-x", NULL, -1, GIB, NULL },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		const PlaceVm vm = { "web1", table[i].wanted, table[i].files, table[i].accel,
				     table[i].memory };
		g_autoptr(GError) e = NULL;
		const PlaceHost *h = place_choose(&vm, hosts, G_N_ELEMENTS(hosts), &e);

		g_assert_cmpstr(h != NULL ? h->name : NULL, ==, table[i].host);
		if (h == NULL)
			g_assert_error(e, ERR, ERR_CONFLICT);
		else
			g_assert_no_error(e);
	}
}

static void test_a_refusal_names_each_host_and_why(void)
{
	const PlaceVm vm = { "web1", NULL, NULL, ACCEL_KVM, 12 * GIB };
	g_autoptr(GError) e = NULL;
	Json *told;

	g_assert_null(place_choose(&vm, hosts, 2, &e));
	g_assert_cmpstr(
	    e->message, ==,
	    "no host of the pool can start vm 'web1': a has 8 GiB of free memory, 12 GiB are needed; "
	    "b can't run guests under kvm");
	told = json_arr(err_details(e), "hosts");
	g_assert_cmpuint(json_array_size(told), ==, 2);
	g_assert_cmpstr(json_str(json_array_get(told, 1), "id"), ==, "id-b");
	g_assert_nonnull(err_advice(e));
}

static void test_vendors_must_agree_for_kvm_only(void)
{
	static const PlaceCpu members[] = { { "a", "GenuineIntel", true }, { "t", "AuthenticAMD", false } };
	static const struct {
		PlaceCpu joins;
		bool ok;
	} table[] = {
		{ { "b", "GenuineIntel", true }, true },  { { "b", "AuthenticAMD", true }, false },
		{ { "b", "AuthenticAMD", false }, true }, { { "b", NULL, true }, false },
		{ { "b", "GenuineIotel", true }, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		g_autoptr(GError) e = NULL;

		g_assert_true(place_check_vendor(&table[i].joins, members, 2, &e) == table[i].ok);
		if (table[i].ok)
			continue;
		g_assert_error(e, ERR, ERR_UNSUPPORTED);
		g_assert_nonnull(strstr(e->message, "host 'a' of the pool one of GenuineIntel"));
	}
}

/* ---- all guests of a host ---- */

static void test_the_largest_guest_is_placed_first_and_promises_count(void)
{
	const struct evacuate_host places[] = { { "a", 100, true }, { "b", 60, true }, { "c", 1000, false } };
	struct evacuate_guest guest[] = {
		{ .name = "small", .memory = 20, .host = places, .n_hosts = 3 },
		{ .name = "large", .memory = 90, .host = places, .n_hosts = 3 },
		{ .name = "middle", .memory = 50, .host = places, .n_hosts = 3 },
	};

	g_assert_cmpuint(evacuate(guest, 3), ==, 1);
	g_assert_cmpstr(guest[0].name, ==, "large");
	g_assert_cmpstr(guest[0].to->id, ==, "a");
	g_assert_cmpstr(guest[1].name, ==, "middle");
	g_assert_cmpstr(guest[1].to->id, ==, "b");
	g_assert_cmpstr(guest[2].name, ==, "small");
	g_assert_null(guest[2].to); /* 10 are left on each, and c can't take it */
}

static void test_guests_spread_over_equal_hosts(void)
{
	const struct evacuate_host places[] = { { "a", 100, true }, { "b", 100, true } };
	struct evacuate_guest guest[4];
	unsigned on_a = 0;

	for (unsigned i = 0; i < 4; i++)
		guest[i] = (struct evacuate_guest){ .name = "x", .memory = 10, .host = places, .n_hosts = 2 };
	g_assert_cmpuint(evacuate(guest, 4), ==, 0);
	for (unsigned i = 0; i < 4; i++)
		on_a += g_str_equal(guest[i].to->id, "a");
	g_assert_cmpuint(on_a, ==, 2);
	g_assert_cmpuint(evacuate(NULL, 0), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/place/choice", test_the_choice);
	g_test_add_func("/place/refusal", test_a_refusal_names_each_host_and_why);
	g_test_add_func("/place/vendors", test_vendors_must_agree_for_kvm_only);
	g_test_add_func("/place/evacuation/largest-first",
			test_the_largest_guest_is_placed_first_and_promises_count);
	g_test_add_func("/place/evacuation/spread", test_guests_spread_over_equal_hosts);
	return g_test_run();
}
