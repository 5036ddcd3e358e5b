/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host/payload_report.h"

#include <string.h>

#define START                                                                                                \
	"payload 1\n"                                                                                        \
	"cpuid 00000000 00000000 0000000d 68747541 444d4163 69746e65\n"                                      \
	"cpuid 00000007 00000001 00000001 00000002 00000003 ffffffff\n"                                      \
	"xcr0 000000000000021f\n"                                                                            \
	"tsc_khz 1999693\n"                                                                                  \
	"tsc_source pit\n"                                                                                   \
	"memory 7863296\n"                                                                                   \
	"cmdline job=burn:100ms  virtio_mmio.device=512@0xfeb00000:12\n"                                     \
	"ready\n"

#define ZERO_LEAF "cpuid 00000000 00000000 00000001 00000000 00000000 00000000\n"

static bool parse(const char *text, struct payload_report *r, GError **err)
{
	return payload_report_parse(text, strlen(text), r, err);
}

static void test_start_is_read(void)
{
	struct payload_report r;
	const struct payload_cpuid *c;
	g_autoptr(GError) err = NULL;

	g_assert_true(parse(START, &r, &err));
	g_assert_no_error(err);
	g_assert_cmpuint(r.starts, ==, 1);
	g_assert_cmpuint(r.n_cpuid, ==, 2);
	c = payload_report_cpuid(&r, 7, 1);
	g_assert_nonnull(c);
	g_assert_cmpuint(c->eax, ==, 1);
	g_assert_cmpuint(c->ebx, ==, 2);
	g_assert_cmpuint(c->ecx, ==, 3);
	g_assert_cmpuint(c->edx, ==, UINT32_MAX);
	g_assert_null(payload_report_cpuid(&r, 7, 0));
	g_assert_true(r.has_xcr0);
	g_assert_cmpuint(r.xcr0, ==, 0x21f);
	g_assert_cmpuint(r.tsc_khz, ==, 1999693);
	g_assert_cmpint(r.tsc_source, ==, PAYLOAD_TSC_PIT);
	g_assert_cmpuint(r.memory, ==, 7863296);
	g_assert_cmpstr(r.cmdline, ==, "job=burn:100ms  virtio_mmio.device=512@0xfeb00000:12");
	g_assert_true(r.ready);
	g_assert_false(r.done);
	g_assert_cmpstr(r.error, ==, "");
}

static void test_a_later_report_tells_what_counts(void)
{
	static const char text[] = START "job report\n"
					 "nmi 1\n"
					 "cpuid 00000000 00000000 0000000e 756e6547 6c65746e 49656e69\n"
					 "reported 1\n";
	struct payload_report before, r;

	g_assert_true(parse(START, &before, NULL));
	g_assert_cmpuint(before.reports, ==, 0);
	g_assert_true(parse(text, &r, NULL));
	g_assert_cmpuint(r.reports, ==, 1);
	g_assert_cmpuint(r.n_cpuid, ==, before.n_cpuid);
	g_assert_cmpuint(payload_report_cpuid(&r, 0, 0)->eax, ==, 0xe);
}

static void test_jobs_are_read(void)
{
	static const char text[] = START "job burn:100ms\n"
					 "burn 22527000 100474055 200917266\n"
					 "burn 1000 0 0\n"
					 "dirty 12803 1000267606 0\n"
					 "dirty 25605 2000449931 3\n"
					 "verify 4096 26b937b8446d865c 1\n"
					 "tick 1 5\n"
					 "nmi 2\n"
					 "tick 2 18446744073709551615\n"
					 "soak 7 350000000 61000000 1 2048 2 d607106e9cdce886\n"
					 "button\n"
					 "error no way to power off\n"
					 "error second\n"
					 "done\n";
	struct payload_report r;

	g_assert_true(parse(text, &r, NULL));
	g_assert_cmpuint(r.n_burn, ==, 2);
	g_assert_cmpuint(payload_burn_rate(&r.burn[0]), ==, 448414269);
	g_assert_cmpuint(payload_burn_rate(&r.burn[1]), ==, 0);
	g_assert_cmpuint(r.dirty_pages, ==, 25605);
	g_assert_cmpuint(r.dirty_ns, ==, 2000449931);
	g_assert_cmpuint(r.dirty_bad, ==, 3);
	g_assert_true(r.verified);
	g_assert_cmpuint(r.verify_pages, ==, 4096);
	g_assert_cmpuint(r.verify_sum, ==, UINT64_C(0x26b937b8446d865c));
	g_assert_cmpuint(r.verify_bad, ==, 1);
	g_assert_cmpuint(r.tick, ==, 2);
	g_assert_cmpuint(r.tick_tsc, ==, UINT64_MAX);
	g_assert_cmpuint(r.nmis, ==, 2);
	g_assert_cmpuint(r.soak_beat, ==, 7);
	g_assert_cmpuint(r.soak_ns, ==, 350000000);
	g_assert_cmpuint(r.soak_gap, ==, 61000000);
	g_assert_cmpuint(r.soak_back, ==, 1);
	g_assert_cmpuint(r.soak_pages, ==, 2048);
	g_assert_cmpuint(r.soak_bad, ==, 2);
	g_assert_cmphex(r.soak_cpu, ==, UINT64_C(0xd607106e9cdce886));
	g_assert_true(r.button);
	g_assert_cmpstr(r.error, ==, "no way to power off");
	g_assert_true(r.done);
}

/* A guest may be read at any moment: every beginning of a good text is good. */
static void test_every_beginning_is_accepted(void)
{
	static const char text[] = START "job idle\n";
	struct payload_report r;

	for (size_t n = 0; n <= strlen(text); n++) {
		g_assert_true(payload_report_parse(text, n, &r, NULL));
		g_assert_cmpint(r.ready, ==, n >= strlen(START));
	}
}

static void test_a_restart_begins_anew(void)
{
	struct payload_report r;

	g_assert_true(
	    parse(START "burn 1 1 1\ndone\n" START "nmi 1\npayload 1\nxcr0 0000000000000001\n", &r, NULL));
	g_assert_cmpuint(r.starts, ==, 3);
	g_assert_cmpuint(r.n_cpuid, ==, 0);
	g_assert_cmpuint(r.n_burn, ==, 0);
	g_assert_cmpuint(r.nmis, ==, 0);
	g_assert_cmpuint(r.xcr0, ==, 1);
	g_assert_false(r.ready);
	g_assert_false(r.done);
}

static void test_garbage_is_refused(void)
{
	static const char *const bad[] = {
		"\n",
		"ready\n",
		"payload\n",
		"payload 2\n",
		"payload one\n",
		"payload  1\n",
		"payload 1 \n",
		"payload 1 1\n",
		"SeaBIOS (version 1.16)\n",
		"payload 1\n\n",
		"payload 1\nready\n",
		"payload 1\ncpuid 00000000 00000000 0000000d 68747541 444d4163\n",
		"payload 1\ncpuid 00000000 00000000 0000000d 68747541 444d4163 69746e65 00000000\n",
		"payload 1\ncpuid 00000000 00000000 0000000d 68747541 444d4163 69746e6g\n",
		"payload 1\ncpuid 00000000 00000000 0000000d 68747541 444d4163 69746e6\n",
		"payload 1\nxcr0 21f\n",
		"payload 1\ntsc_khz -1\n",
		"payload 1\ntsc_khz 18446744073709551616\n",
		"payload 1\ntsc_khz 99999999999999999999999\n",
		"payload 1\ntsc_source sundial\n",
		"payload 1\nmemory \n",
		"payload 1\nmemory 1\r\n",
		"payload 1\nmemory 1\nmemory 1\n",
		"payload 1\ncmdline \x01\n",
		"payload 1\ncmdline \xc3\xa4\n",
		"payload 1\nburn 1 2\n",
		"payload 1\nburn 1 2 3 4 5 6 7 8 9\n",
		"payload 1\nburn 0x1 2 3\n",
		"payload 1\nerror\n",
		"payload 1\nbutton now\n",
		"payload 1\nREADY\n",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		struct payload_report r = { .starts = 77 };
		g_autoptr(GError) err = NULL;

		if (parse(bad[i], &r, &err))
			g_error("accepted: %s", bad[i]);
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
		g_assert_cmpuint(r.starts, ==, 77);
	}
}

static void test_a_leaf_twice_is_refused(void)
{
	g_autoptr(GError) err = NULL;
	struct payload_report r;

	g_assert_false(parse("payload 1\n" ZERO_LEAF ZERO_LEAF, &r, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_nonnull(strstr(err->message, "line 3"));
}

/* One more than each bound is refused, the bound itself is not. */
static void test_sizes_are_bounded(void)
{
	g_autoptr(GString) s = g_string_new("payload 1\n");
	struct payload_report r;

	for (unsigned i = 0; i < PAYLOAD_CPUID_MAX; i++)
		g_string_append_printf(s, "cpuid %08x 00000000 00000000 00000000 00000000 00000000\n", i);
	g_assert_true(parse(s->str, &r, NULL));
	g_assert_cmpuint(r.n_cpuid, ==, PAYLOAD_CPUID_MAX);
	g_string_append(s, "cpuid ffffffff 00000000 00000000 00000000 00000000 00000000\n");
	g_assert_false(parse(s->str, &r, NULL));

	g_string_assign(s, "payload 1\n");
	for (unsigned i = 0; i < PAYLOAD_BURN_MAX; i++)
		g_string_append(s, "burn 1 1 1\n");
	g_assert_true(parse(s->str, &r, NULL));
	g_string_append(s, "burn 1 1 1\n");
	g_assert_false(parse(s->str, &r, NULL));

	g_string_assign(s, "payload 1\ncmdline ");
	for (unsigned i = 0; i < PAYLOAD_LINE_MAX - strlen("cmdline "); i++)
		g_string_append_c(s, 'x');
	g_string_append_c(s, '\n');
	g_assert_true(parse(s->str, &r, NULL));
	g_string_insert_c(s, (gssize)s->len - 1, 'x');
	g_assert_false(parse(s->str, &r, NULL));
	g_string_truncate(s, s->len - 1);
	g_assert_false(parse(s->str, &r, NULL)); /* even without its end */

	g_string_assign(s, "payload 1\n");
	while (s->len + strlen("nmi 1\n") <= PAYLOAD_TEXT_MAX)
		g_string_append(s, "nmi 1\n");
	g_assert_true(parse(s->str, &r, NULL));
	g_string_append(s, "nmi 1\n");
	g_assert_false(parse(s->str, &r, NULL));
}

static void test_rate_does_not_overflow(void)
{
	const struct payload_burn b = { .iterations = UINT64_MAX, .ns = 1, .cycles = 1 };

	g_assert_cmpuint(payload_burn_rate(&b), ==, UINT64_MAX);
}

static void test_sources_have_names(void)
{
	g_assert_cmpstr(payload_tsc_name(PAYLOAD_TSC_NONE), ==, "none");
	g_assert_cmpstr(payload_tsc_name(PAYLOAD_TSC_LAPIC), ==, "lapic");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/payload_report/start", test_start_is_read);
	g_test_add_func("/payload_report/jobs", test_jobs_are_read);
	g_test_add_func("/payload_report/later_report", test_a_later_report_tells_what_counts);
	g_test_add_func("/payload_report/beginnings", test_every_beginning_is_accepted);
	g_test_add_func("/payload_report/restart", test_a_restart_begins_anew);
	g_test_add_func("/payload_report/garbage", test_garbage_is_refused);
	g_test_add_func("/payload_report/leaf_twice", test_a_leaf_twice_is_refused);
	g_test_add_func("/payload_report/bounds", test_sizes_are_bounded);
	g_test_add_func("/payload_report/rate", test_rate_does_not_overflow);
	g_test_add_func("/payload_report/sources", test_sources_have_names);
	return g_test_run();
}
