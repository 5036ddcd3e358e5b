/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/dimm.h"
#include "guest_cases.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static void test_a_dimm_is_whole_pieces_and_ends_with_the_region(void)
{
	static const struct {
		uint64_t region, plugged, wanted, size;
	} rows[] = {
		{ GIB, 0, 1, 128 * MIB },
		{ GIB, 0, 128 * MIB, 128 * MIB },
		{ GIB, 0, 129 * MIB, 256 * MIB },
		{ GIB, 128 * MIB, 129 * MIB, 128 * MIB },
		{ GIB, 128 * MIB, 128 * MIB, 0 },
		{ GIB, 256 * MIB, 100 * MIB, 0 },
		{ GIB, 896 * MIB, 4 * GIB, 128 * MIB },
		{ GIB, GIB, 4 * GIB, 0 },
		{ 64 * GIB, 0, 1, 2 * GIB }, /* else the slots would not last */
		{ 0, 0, GIB, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		g_assert_cmpuint(dimm_next(rows[i].region, rows[i].plugged, rows[i].wanted), ==,
				 rows[i].size);
}

/* However it grows, and in however small steps. */
static void test_the_slots_last_until_the_region_is_full(void)
{
	for (uint64_t region = DIMM_PIECE; region < 4096 * GIB; region = region * 2 + DIMM_PIECE) {
		uint64_t plugged = 0, size;
		unsigned slots = 0;

		while ((size = dimm_next(region, plugged, plugged + 1)) > 0) {
			g_assert_cmpuint(size % DIMM_PIECE, ==, 0);
			plugged += size;
			slots++;
		}
		g_assert_cmpuint(plugged, ==, region);
		g_assert_cmpuint(slots, <=, DIMM_SLOTS);
	}
}

static Json *parse(const char *text)
{
	Json *j = json_parse(text, strlen(text), NULL);

	g_assert_nonnull(j);
	return j;
}

static void test_a_list_of_another_host_is_checked(void)
{
	static const char *const good[] = { "null", "[]", "[134217728]", "[134217728,268435456]" },
				 *const bad[] = { "{}",           "[1]",
						  "[-134217728]", "[0]",
						  "[\"128\"]",    "[536870912,536870912,134217728]",
						  "[134217729]",  "[2147483648]" };

	g_assert_true(dimm_list_check(NULL, 0, NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
		_cleanup_json_ Json *j = parse(good[i]);

		g_assert_true(dimm_list_check(j, GIB, NULL));
	}
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		_cleanup_json_ Json *j = parse(bad[i]);
		g_autoptr(GError) err = NULL;

		g_assert_false(dimm_list_check(j, GIB, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
}

/* A guest may eject any of them. */
static void test_a_list_has_all_that_are_there_and_the_first_number_that_is_free(void)
{
	static const struct {
		const char *devices, *sizes;
		size_t free;
	} rows[] = {
		{ "", "[]", 0 },
		{ "dimm0=128", "[134217728]", 1 },
		{ "dimm1=256 dimm0=128", "[134217728,268435456]", 2 },
		{ "dimm0=128 dimm2=256", "[134217728,268435456]", 1 },
		{ "dimm1=256 other=128", "[268435456]", 0 },
		{ "dimm31=128", "[134217728]", 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_auto(GStrv) words = g_strsplit(rows[i].devices, " ", -1);
		_cleanup_json_ Json *devices = json_array(), *wanted = parse(rows[i].sizes), *sizes = NULL;
		size_t number;

		for (size_t n = 0; words[n] != NULL; n++) {
			g_auto(GStrv) pair = g_strsplit(words[n], "=", 2);
			json_int_t size = (json_int_t)(g_ascii_strtoull(pair[1], NULL, 10) * MIB);

			json_array_append_new(devices, json_pack("{s:s, s:{s:s, s:I}}", "type", "dimm",
								 "data", "id", pair[0], "size", size));
		}
		sizes = dimm_list_of(devices, &number);
		g_assert_true(json_equal(sizes, wanted));
		g_assert_cmpuint(number, ==, rows[i].free);
	}
}

static Argv *argv_with(const HostFacts *host, const Vm *vm, const Json *dimms)
{
	static const char *const disks[] = { NULL };
	g_autoptr(Profile) p = profile_of(vm, host, NULL, NULL, NULL);
	Argv *a;

	g_assert_nonnull(p);
	p->dimms = json_deep_copy(dimms);
	a = argv_of(p, vm, host, disks, NULL);
	g_assert_nonnull(a);
	return a;
}

/* What is recorded of a guest that grew is what the host that gets it makes, whatever is in its CD drive. */
static void test_the_record_is_what_a_start_with_these_dimms_would_say(void)
{
	static const char *const cd[] = { "", ",\"cdrom\":{\"path\":\"/x.iso\"}" };
	g_autoptr(HostFacts) host = host_of_name("kvm");
	_cleanup_json_ Json *one = parse("[134217728]"), *two = parse("[134217728,268435456]");

	for (size_t i = 0; i < G_N_ELEMENTS(cd); i++) {
		g_autofree char *text = g_strdup_printf(
		    "{\"id\":\"11111111-2222-4333-8444-555555555555\",\"name\":\"a\","
		    "\"properties\":{\"os_type\":\"linux\"},\"settings\":{\"memory.max\":2147483648,"
		    "\"memory.method\":\"dimm\"}%s}",
		    cd[i]);
		g_autoptr(Vm) vm = vm_of_text(text);
		g_autoptr(Argv) none = argv_with(host, vm, NULL), all = NULL;
		_cleanup_json_ Json *began = argv_to_json(none), *a = dimm_arguments(began, one),
				    *b = dimm_arguments(a, two), *wanted = NULL;

		all = argv_with(host, vm, two);
		wanted = argv_to_json(all);
		g_assert_true(json_equal(b, wanted));
		g_assert_false(json_equal(began, wanted));
	}
}

static void test_an_old_linux_gets_dimms_by_itself(void)
{
	static const struct {
		const char *distro, *version, *method;
	} rows[] = { { "debian", "10", "dimm" },          { "debian", "11", "virtio-mem" },
		     { "debian", "12", "virtio-mem" },    { "ubuntu", "20.04", "dimm" },
		     { "ubuntu", "22.04", "virtio-mem" }, { "rhel", "7.9", "dimm" },
		     { "arch", "rolling", "virtio-mem" } };
	g_autoptr(HostFacts) host = host_of_name("kvm");

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *text = g_strdup_printf(
		    "{\"name\":\"a\",\"properties\":{\"os_type\":\"linux\",\"os_distro\":\"%s\","
		    "\"os_version\":\"%s\"},\"settings\":{\"memory.max\":2147483648}}",
		    rows[i].distro, rows[i].version);
		g_autoptr(Vm) vm = vm_of_text(text);
		g_autoptr(Profile) p = profile_of(vm, host, NULL, NULL, NULL);

		g_assert_cmpstr(profile_text(p, PROFILE_METHOD), ==, rows[i].method);
		g_assert_cmpuint(profile_plug_region(p), ==, 1536 * MIB);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/dimm/next", test_a_dimm_is_whole_pieces_and_ends_with_the_region);
	g_test_add_func("/dimm/slots", test_the_slots_last_until_the_region_is_full);
	g_test_add_func("/dimm/list", test_a_list_of_another_host_is_checked);
	g_test_add_func("/dimm/list_of",
			test_a_list_has_all_that_are_there_and_the_first_number_that_is_free);
	g_test_add_func("/dimm/record", test_the_record_is_what_a_start_with_these_dimms_would_say);
	g_test_add_func("/dimm/auto", test_an_old_linux_gets_dimms_by_itself);
	return g_test_run();
}
