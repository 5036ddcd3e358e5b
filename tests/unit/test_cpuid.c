/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what CPUID answered, and comparing guest code's answer with what it was given. */
#include "cpu_sets.h"

#define VENDOR "00000000 00000000 0000000d 756e6547 6c65746e 49656e69\n"
#define MODEL "00000001 00000000 00050654 00100800 7ffefbff bfebfbff\n"
#define EXTENDED "80000000 00000000 80000008 00000000 00000000 00000000\n"
#define HEAD "# cpuid-dump 1\n" VENDOR MODEL

static GPtrArray *parse(const char *text)
{
	g_autoptr(GError) err = NULL;
	GPtrArray *cpus = cpuid_parse(text, strlen(text), &err);

	g_assert_no_error(err);
	return cpus;
}

static struct featureset raw_of(const char *text)
{
	g_autoptr(GPtrArray) cpus = parse(text);
	struct cpu_bits differ;
	struct featureset s;

	g_assert_true(featureset_of_cpus(cpus, &s, &differ, NULL));
	return s;
}

static bool has(const struct featureset *s, const char *name)
{
	return cpu_bits_has(&s->has, id_of(name));
}

static void test_a_dump_is_read(void)
{
	struct featureset s = raw_of(HEAD "00000007 00000000 00000000 d39ffffb 00000008 9c002400\n" EXTENDED
					  "80000008 00000000 0000302e 00000000 00000000 00000000\n"
					  "msr 0000010a 00000001 00000000\n");

	g_assert_cmpstr(s.vendor, ==, "GenuineIntel");
	g_assert_cmpuint(s.family, ==, 6);
	g_assert_cmpuint(s.model, ==, 0x55);
	g_assert_cmpuint(s.stepping, ==, 4);
	g_assert_cmphex(s.level, ==, 0xd);
	g_assert_cmphex(s.xlevel, ==, 0x80000008);
	g_assert_cmpuint(s.phys_bits, ==, 46);
	g_assert_true(has(&s, "avx512f"));
	g_assert_true(has(&s, "pku"));
	g_assert_true(has(&s, "rdctl-no"));
	g_assert_false(has(&s, "arch-capabilities"));
}

static void test_output_of_cpuid_is_read(void)
{
	struct featureset s =
	    raw_of("CPU:\n"
		   "   0x00000000 0x00: eax=0x0000000d ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
		   "   0x00000001 0x00: eax=0x000506e3 ebx=0x00100800 ecx=0x7ffafbff edx=0xbfebfbff\r\n"
		   "   0x00000007 0x00: eax=0x00000000 ebx=0x00000020 ecx=0x00000000 edx=0x00000000\n");

	g_assert_cmpuint(s.model, ==, 0x5e);
	g_assert_true(has(&s, "avx2"));
}

#define RAW(n, ecx)                                                                                          \
	"CPU " n ":\n"                                                                                       \
	"   0x00000000 0x00: eax=0x0000000d ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"                  \
	"   0x00000001 0x00: eax=0x000506e3 ebx=0x00100800 ecx=0x" ecx " edx=0xbfebfbff\n"

static void test_what_only_some_cpus_have_is_left_out_and_told(void)
{
	g_autoptr(GPtrArray) cpus = parse(RAW("0", "00000201") RAW("1", "00000001") RAW("2", "00000201"));
	struct cpu_bits differ;
	struct featureset s;

	g_assert_cmpuint(cpus->len, ==, 3);
	g_assert_true(featureset_of_cpus(cpus, &s, &differ, NULL));
	g_assert_true(has(&s, "pni"));
	g_assert_false(has(&s, "ssse3"));
	assert_names(&differ, "ssse3");
}

static void test_stale_leaves_are_not_read(void)
{
	struct featureset low = raw_of("00000000 00000000 00000005 756e6547 6c65746e 49656e69\n" MODEL
				       "00000007 00000000 00000000 ffffffff ffffffff ffffffff\n"),
			  sub = raw_of(HEAD "00000007 00000000 00000000 00000020 00000000 00000000\n"
					    "00000007 00000001 ffffffff 00000000 00000000 00000000\n"),
			  ext =
			      raw_of(HEAD EXTENDED "80000021 00000000 ffffffff 00000000 00000000 00000000\n"
						   "c0000000 00000000 c0000004 00000000 00000000 00000000\n"
						   "c0000001 00000000 00000000 00000000 00000000 ffffffff\n"),
			  none = raw_of(HEAD "80000000 00000000 00000007 00000340 00000340 00000000\n"
					     "80000001 00000000 00000000 00000000 ffffffff ffffffff\n");

	g_assert_false(has(&low, "avx2"));
	g_assert_true(has(&sub, "avx2"));
	g_assert_false(has(&sub, "avx-vnni"));
	g_assert_false(has(&ext, "auto-ibrs"));
	g_assert_false(has(&ext, "xstore"));
	g_assert_cmphex(none.xlevel, ==, 0);
	g_assert_false(has(&none, "lm"));
}

static void test_only_kvm_has_features_of_kvm(void)
{
	struct featureset other = raw_of(
			      HEAD
			      "40000000 00000000 40000006 7263694d 666f736f 76482074\n" /* Microsoft Hv */
			      "40000001 00000000 31237648 00000000 00000000 00000000\n"),
			  kvm = raw_of(HEAD "40000000 00000000 40000001 4b4d564b 564b4d56 0000004d\n"
					    "40000001 00000000 01000009 00000000 00000000 00000000\n"),
			  half = raw_of(HEAD "40000000 00000000 40000001 4b4d564b 564b4d56 0000004d\n"
					     "40000001 00000000 00000001 00000000 00000000 00000000\n"),
			  behind = raw_of(HEAD "40000000 00000000 40000006 7263694d 666f736f 76482074\n"
					       "40000100 00000000 40000101 4b4d564b 564b4d56 0000004d\n"
					       "40000101 00000000 00000020 00000000 00000000 00000000\n");

	g_assert_false(has(&other, "kvm-asyncpf"));
	g_assert_true(has(&kvm, "kvmclock"));
	g_assert_true(has(&kvm, "kvmclock-stable-bit"));
	g_assert_false(has(&half, "kvmclock")); /* it has two bits */
	g_assert_true(has(&behind, "kvm-steal-time"));
}

static void test_controls_of_vmx_are_those_that_can_be_chosen(void)
{
	struct featureset s = raw_of(HEAD "msr 0000048b 00000004 0000000e\nmsr 0000048c 00000001 00000100\n");

	g_assert_true(has(&s, "vmx-ept"));
	g_assert_false(has(&s, "vmx-desc-exit")); /* forced to be 1 */
	g_assert_true(has(&s, "vmx-rdtscp-exit"));
	g_assert_true(has(&s, "vmx-ept-execonly"));
	g_assert_true(has(&s, "vmx-invvpid-single-addr"));
}

static void test_components_that_are_not_there_are_not_read(void)
{
	struct featureset s = raw_of(HEAD "0000000d 00000000 00000007 00000340 00000340 00000000\n"
					  "0000000d 00000002 00000100 00000240 00000000 00000000\n"
					  "0000000d 00000009 00000040 00000980 00000000 00000000\n"),
			  zero = raw_of(HEAD "0000000d 00000000 00000007 00000340 00000340 00000000\n"
					     "0000000d 00000002 00000000 00000240 00000000 00000000\n");

	g_assert_cmpuint(s.xsave[0].size, ==, 256);
	g_assert_cmpuint(s.xsave[0].offset, ==, 576);
	for (size_t i = 1; i < CPU_XSAVE_COMPONENTS; i++)
		g_assert_cmpuint(s.xsave[i].size, ==, 0);
	g_assert_cmpuint(zero.xsave[0].offset, ==, 0);
}

static void test_a_garbage_vendor_is_read_as_it_is(void)
{
	struct featureset s = raw_of("00000000 00000000 0000000d 756e6547 6c65746f 49656e69\n" MODEL),
			  control = raw_of("00000000 00000000 0000000d 0a756e65 ff65746f 49656e69\n" MODEL);
	g_autofree char *shown = cpu_vendor_print(control.vendor);

	g_assert_cmpstr(s.vendor, ==, "GenuineIotel");
	g_assert_false(cpu_vendor_known(s.vendor));
	g_assert_cmpstr(shown, ==, "enu\\x0aineIote\\xff");
}

static void test_malformed_dumps_are_refused(void)
{
	static const char *const bad[] = {
		"",
		"\n\n# nothing\n",
		VENDOR,
		MODEL,
		HEAD "00000007 00000000 00000000 d39ffffb 00000008\n",
		HEAD "00000007 00000000 00000000 d39ffffb 00000008 9c002400 0\n",
		HEAD "00000007 00000000 0000000g d39ffffb 00000008 9c002400\n",
		HEAD "000000007 00000000 00000000 d39ffffb 00000008 9c002400\n",
		HEAD "-0000007 00000000 00000000 d39ffffb 00000008 9c002400\n",
		HEAD "00000001 00000000 00050655 00100800 7ffefbff bfebfbff\n",
		HEAD "msr 0000010a 1\n",
		HEAD "msr 0000010a 1 0\nmsr 0000010a 2 0\n",
		HEAD "hello\n",
		"CPU 0:\n" VENDOR,
		"CPU x:\n",
		"CPU 0:\nCPU 1:\n",
		RAW("0", "1") "   0x00000007 0x00: eax=0x00000000 ebx=0x00000020 ecx=0x00000000\n",
		RAW("0", "1") "   0x00000007 0x00 eax=0x00000000 ebx=0x00000020 ecx=0x00000000 edx=0x0\n",
		RAW("0", "1") "msr 0000010a 1 0\n",
		"\x7f"
		"ELF\x02\x01\x01",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;

		g_assert_null(cpuid_parse(bad[i], strlen(bad[i]), &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
	}
	{
		static const char zero[] = HEAD "\0" EXTENDED;
		g_autoptr(GError) err = NULL;

		g_assert_null(cpuid_parse(zero, sizeof(zero) - 1, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
}

static void test_floods_are_refused(void)
{
	g_autoptr(GString) leaves = g_string_new(HEAD), cpus = g_string_new(NULL);
	g_autoptr(GError) err = NULL;

	for (unsigned i = 2; i < 2 + CPUID_LEAVES_MAX; i++)
		g_string_append_printf(leaves, "%08x 0 0 0 0 0\n", i);
	g_assert_null(cpuid_parse(leaves->str, leaves->len, &err));
	g_assert_error(err, ERR, ERR_LIMIT);
	g_clear_error(&err);
	for (unsigned i = 0; i <= CPUID_CPUS_MAX; i++)
		g_string_append_printf(cpus, "CPU %u:\n", i);
	g_assert_null(cpuid_parse(cpus->str, cpus->len, &err));
	g_assert_error(err, ERR, ERR_LIMIT);
}

static void test_a_host_of_two_vendors_is_refused(void)
{
	static const char text[] = RAW(
	    "0",
	    "00000001") "CPU 1:\n"
			"   0x00000000 0x00: eax=0x0000000d ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n"
			"   0x00000001 0x00: eax=0x000506e3 ebx=0x0 ecx=0x1 edx=0xbfebfbff\n";
	g_autoptr(GPtrArray) cpus = parse(text);
	g_autoptr(GError) err = NULL;
	struct cpu_bits differ;
	struct featureset s;

	assert_fails(featureset_of_cpus(cpus, &s, &differ, &err), &err, ERR_INVALID);
}

/* ---- what guest code saw ---- */

static void test_a_guest_that_sees_what_it_was_given_passes(void)
{
	g_autoptr(GPtrArray) cpus = parse(HEAD EXTENDED);
	struct featureset given;
	struct cpu_bits differ;
	g_autoptr(GError) err = NULL;

	g_assert_true(featureset_of_cpus(cpus, &given, &differ, NULL));
	/* What no register of CPUID shows can't be compared. */
	cpu_bits_set(&given.has, id_of("hv-time"));
	cpu_bits_set(&given.has, id_of("rdctl-no"));
	cpu_bits_set(&given.has, id_of("kvm-pv-eoi"));
	cpu_bits_clear(&given.has, id_of("ht"));
	featureset_check_guest(&given, cpus->pdata[0], &err);
	g_assert_no_error(err);
}

static void test_every_difference_of_a_guest_is_named(void)
{
	g_autoptr(GPtrArray) cpus = parse(HEAD EXTENDED);
	struct featureset given;
	struct cpu_bits differ;
	g_autoptr(GError) err = NULL;

	g_assert_true(featureset_of_cpus(cpus, &given, &differ, NULL));
	cpu_bits_set(&given.has, id_of("avx2"));
	cpu_bits_clear(&given.has, id_of("fma"));
	given.phys_bits = 46;
	given.stepping = 3;
	g_assert_false(featureset_check_guest(&given, cpus->pdata[0], &err));
	g_assert_error(err, ERR, ERR_QEMU);
	g_assert_nonnull(strstr(err->message, "it lacks avx2"));
	g_assert_nonnull(strstr(err->message, "it has fma"));
	g_assert_nonnull(strstr(err->message, "stepping is 0x4 instead of 0x3"));
	g_assert_cmpint((gint)json_array_size(json_arr(err_details(err), "missing")), ==, 1);
	g_assert_cmpint((gint)json_object_size(json_obj(err_details(err), "differ")), ==, 2);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/cpuid/" #name, test_##name)
	T(a_dump_is_read);
	T(output_of_cpuid_is_read);
	T(what_only_some_cpus_have_is_left_out_and_told);
	T(stale_leaves_are_not_read);
	T(only_kvm_has_features_of_kvm);
	T(controls_of_vmx_are_those_that_can_be_chosen);
	T(components_that_are_not_there_are_not_read);
	T(a_garbage_vendor_is_read_as_it_is);
	T(malformed_dumps_are_refused);
	T(floods_are_refused);
	T(a_host_of_two_vendors_is_refused);
	T(a_guest_that_sees_what_it_was_given_passes);
	T(every_difference_of_a_guest_is_named);
	return g_test_run();
}
