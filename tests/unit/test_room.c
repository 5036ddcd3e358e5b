/* SPDX-License-Identifier: Apache-2.0 */
/* Has a host room for one guest more: memory that is promised, limits of the operating system. */
#include "core/host/limits.h"
#include "core/host/memory.h"
#include "core/model/settings.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static HostFacts *host_made(uint64_t memory, const char *chosen)
{
	HostFacts *h = host_facts_new();
	_cleanup_json_ Json *j = json_parse(chosen, strlen(chosen), NULL);

	h->memory = memory;
	g_assert_true(host_settings_merge(h->settings, j, NULL));
	return h;
}

static uint64_t limit_of(uint64_t memory, const char *chosen)
{
	g_autoptr(HostFacts) f = host_made(memory, chosen);
	struct memory_host h = memory_host_of(f);

	return memory_limit(&h);
}

static void near_to(uint64_t is, uint64_t shall)
{
	g_assert_cmpuint(is, <=, shall);
	g_assert_cmpuint(is + 1000, >=, shall); /* rounded down to whole percents of the rest */
}

static void test_the_host_keeps_a_reserve_of_its_own(void)
{
	near_to(limit_of(24 * GIB, "{}"), 24 * GIB - 24 * GIB / 16);
	near_to(limit_of(GIB, "{}"), GIB - 256 * MIB);
	near_to(limit_of(512 * MIB, "{}"), 384 * MIB); /* a small host is not all reserve */
	near_to(limit_of(1024 * GIB, "{}"), 1020 * GIB);
	near_to(limit_of(24 * GIB, "{\"memory.reserve\":0}"), 24 * GIB);
	g_assert_cmpuint(limit_of(GIB, "{\"memory.reserve\":2147483648}"), ==, 0);
}

static void test_overcommit_is_of_what_the_reserve_leaves(void)
{
	const char *both = "{\"memory.reserve\":4294967296,\"memory.overcommit\":150}";

	near_to(limit_of(24 * GIB, both), 30 * GIB);
	near_to(limit_of(24 * GIB, "{\"memory.reserve\":4294967296,\"memory.overcommit\":50}"), 10 * GIB);
}

static void test_settings_of_a_host_are_checked(void)
{
	static const char *const bad[] = { "{\"memory.overcommit\":49}", "{\"memory.overcommit\":1001}",
					   "{\"memory.overcommit\":\"150\"}", "{\"memory.reserve\":-1}",
					   "{\"vcpus\":1}" };

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		_cleanup_json_ Json *into = json_object(), *from = json_parse(bad[i], strlen(bad[i]), NULL);
		g_autoptr(GError) err = NULL;

		g_assert_false(host_settings_merge(into, from, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
		g_assert_cmpuint(json_object_size(into), ==, 0);
	}
}

static void test_three_hundred_of_five_hundred_fit_and_the_rest_is_refused_with_numbers(void)
{
	const struct memory_host h = { .total = 20 * GIB, .reserve = 5 * GIB, .overcommit = 100 };
	struct memory_claims c = { 0 };
	unsigned in = 0, out = 0;

	for (int i = 0; i < 500; i++) {
		g_autoptr(GError) err = NULL;

		if (memory_admit(&h, &c, "web", 51 * MIB, &err)) {
			c.bytes += 51 * MIB;
			c.guests++;
			in++;
			continue;
		}
		out++;
		g_assert_error(err, ERR, ERR_LIMIT);
		g_assert_nonnull(strstr(err->message, "51 MiB"));
		g_assert_nonnull(strstr(err->message, "20 GiB"));
		g_assert_nonnull(strstr(err->message, "5 GiB"));
		g_assert_nonnull(strstr(err->message, "301 guests"));
		g_assert_nonnull(strstr(err_advice(err), "memory.overcommit=101"));
		g_assert_cmpuint(json_uint(err_details(err), "needed", 0), ==, 51 * MIB);
		g_assert_cmpuint(json_uint(err_details(err), "guests", 0), ==, 301);
		g_assert_cmpuint(json_uint(err_details(err), "missing", 0), ==,
				 51 * MIB - json_uint(err_details(err), "free", 1));
	}
	g_assert_cmpuint(in, ==, 301); /* 15 GiB of 51 MiB each */
	g_assert_cmpuint(out, ==, 199);
}

/* Whatever the host and the order, promises never pass the limit, and what would fit is never refused. */
static void test_promises_never_pass_the_limit(void)
{
	for (int round = 0; round < 2000; round++) {
		struct memory_host h = { .total = (uint64_t)g_random_int() << 12,
					 .reserve = (uint64_t)g_random_int_range(0, G_MAXINT) << 10,
					 .overcommit = (uint64_t)g_random_int_range(50, 1001) };
		struct memory_claims c = { 0 };

		for (int i = 0; i < 50; i++) {
			uint64_t need = (uint64_t)g_random_int_range(1, G_MAXINT) << 4;
			bool fits = c.bytes + need <= memory_limit(&h);

			g_assert_cmpint(memory_admit(&h, &c, "x", need, NULL), ==, fits);
			c.bytes += fits ? need : 0;
			c.guests += fits;
		}
		g_assert_cmpuint(c.bytes, <=, memory_limit(&h));
	}
}

static void test_a_host_that_is_short_now_starts_nothing(void)
{
	struct memory_host h = { .total = 24 * GIB, .reserve = 2 * GIB, .overcommit = 100, .available = GIB };
	const struct memory_claims none = { 0 };
	g_autoptr(GError) err = NULL;

	g_assert_false(memory_admit(&h, &none, "web", GIB, &err));
	g_assert_error(err, ERR, ERR_LIMIT);
	g_assert_nonnull(strstr(err->message, "only 1 GiB available now"));
	h.available = 3 * GIB;
	g_assert_true(memory_admit(&h, &none, "web", GIB, NULL));
	h.available = 0; /* not known */
	g_assert_true(memory_admit(&h, &none, "web", GIB, NULL));
}

/* ---- limits ---- */

static void test_the_nearest_limit_is_named_with_the_way_out(void)
{
	struct limits_seen s = { 0 };
	g_autoptr(GError) err = NULL;

	s.limit[LIMIT_FILES] = (struct limit_seen){ 900, 1024 };
	s.limit[LIMIT_TASKS] = (struct limit_seen){ 1000, 32768 };
	g_assert_cmpuint(limit_room(&s, LIMIT_FILES), ==, (1024 - 900 - 40) / 6);
	g_assert_true(limits_admit(&s, 14, "web", false, &err));
	g_assert_false(limits_admit(&s, 15, "web", false, &err));
	g_assert_error(err, ERR, ERR_LIMIT);
	g_assert_nonnull(strstr(err->message, "open files of the daemon"));
	g_assert_nonnull(strstr(err->message, "900 of 1024"));
	g_assert_nonnull(strstr(err_advice(err), "LimitNOFILE"));
	g_assert_cmpstr(json_str(err_details(err), "limit"), ==, "open-files");
}

static void test_only_guests_with_native_disks_need_aio(void)
{
	struct limits_seen s = { 0 };
	g_autoptr(GError) err = NULL;

	s.limit[LIMIT_AIO] = (struct limit_seen){ 65536, 65536 };
	g_assert_true(limits_admit(&s, 1, "web", false, &err));
	g_assert_false(limits_admit(&s, 1, "web", true, &err));
	g_assert_nonnull(strstr(err_advice(err), "fs.aio-max-nr"));
}

static void test_what_has_no_limit_is_in_nobodys_way(void)
{
	struct limits_seen s = { 0 };
	_cleanup_json_ Json *list = limits_to_json(&s);

	g_assert_true(limits_admit(&s, 1000000, "web", true, NULL));
	g_assert_cmpuint(json_array_size(list), ==, _LIMIT_MAX);
	for (size_t i = 0; i < _LIMIT_MAX; i++)
		g_assert_true(json_is_null(json_object_get(json_array_get(list, i), "room")));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/room/reserve", test_the_host_keeps_a_reserve_of_its_own);
	g_test_add_func("/room/overcommit", test_overcommit_is_of_what_the_reserve_leaves);
	g_test_add_func("/room/settings", test_settings_of_a_host_are_checked);
	g_test_add_func("/room/refused",
			test_three_hundred_of_five_hundred_fit_and_the_rest_is_refused_with_numbers);
	g_test_add_func("/room/limit", test_promises_never_pass_the_limit);
	g_test_add_func("/room/now", test_a_host_that_is_short_now_starts_nothing);
	g_test_add_func("/room/nearest", test_the_nearest_limit_is_named_with_the_way_out);
	g_test_add_func("/room/aio", test_only_guests_with_native_disks_need_aio);
	g_test_add_func("/room/none", test_what_has_no_limit_is_in_nobodys_way);
	return g_test_run();
}
