/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU that a guest is started with: what lowers it, what refuses it, what QEMU must have made of it. */
#include "guest_cases.h"

#include "core/guest/pin.h"

#include <string.h>

#define LEVEL                                                                                                \
	"fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,ssse3,cx16,sse4.1,sse4.2,popcnt,aes,xsave,avx," \
	"hypervisor,syscall,nx,lm,lahf-lm,avx2,bmi1,xsaveopt,f16c,fma,movbe,abm,bmi2"

static struct featureset set_of(const char *names)
{
	struct featureset s = { .vendor = "AuthenticAMD",
				.family = 15,
				.model = 107,
				.stepping = 1,
				.level = 0xd,
				.xlevel = 0x8000000a,
				.phys_bits = 40 };
	g_autoptr(GError) e = NULL;

	cpu_bits_parse_names(names, &s.has, &e);
	g_assert_no_error(e);
	cpu_bits_close(&s.has, CLOSE_HARD, NULL);
	return s;
}

static struct cpu_offer offer_of(const char *level)
{
	return (struct cpu_offer){ .there = true, .level = set_of(level), .max = set_of(LEVEL) };
}

static Vm *vm_with(const char *key, const char *value)
{
	g_autofree char *json =
	    g_strdup_printf("{\"name\": \"web1\", \"settings\": {\"%s\": \"%s\"}}", key, value);

	return vm_of_text(json);
}

static bool has(const struct featureset *s, const char *name)
{
	return cpu_bits_has(&s->has, feature_find(name)->id);
}

static bool pin(const char *key, const char *value, GuestType type, const struct cpu_offer *offer,
		struct featureset *ret, GError **err)
{
	g_autoptr(Vm) vm = vm_with(key, value);
	g_autoptr(HostFacts) host = host_facts_new();

	host->name = g_strdup("host1");
	return pin_of(vm, host, type, offer, ret, err);
}

static void test_a_vm_gets_the_level_by_itself(void)
{
	const struct cpu_offer o = offer_of(LEVEL);
	g_autoptr(GError) e = NULL;
	struct featureset p;

	g_assert_true(pin("clock", "utc", GUEST_TCG, &o, &p, &e));
	g_assert_no_error(e);
	g_assert_true(cpu_bits_equal(&p.has, &o.level.has));
	g_assert_cmpuint(p.phys_bits, ==, 40);
}

static void test_settings_only_lower_it(void)
{
	static const struct {
		const char *key, *value, *gone, *kept;
	} row[] = {
		{ "cpu.features", "-avx2", "avx2", "avx" },
		{ "cpu.features", "-avx", "fma", "sse4.2" },
		{ "cpu.features", "-SSE4_2, -lahf_lm", "lahf-lm", "sse4.1" },
		{ "cpu.features", "+avx2,-bmi1", "bmi1", "avx2" },
		{ "cpu.level", "x86-64-v2", "bmi1", "sse4.2" },
		{ "cpu.level", "x86-64", "sse4.2", "sse2" },
		{ "cpu.level", "x86-64-v3", NULL, "avx2" },
		{ "cpu.level", "v1-00000011", "sse2", "fpu" },
	};
	const struct cpu_offer o = offer_of(LEVEL);

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autoptr(GError) e = NULL;
		struct featureset p;
		struct cpu_bits closed;

		g_assert_true(pin(row[i].key, row[i].value, GUEST_KVM, &o, &p, &e));
		g_assert_no_error(e);
		g_assert_true(row[i].gone == NULL || !has(&p, row[i].gone));
		g_assert_true(has(&p, row[i].kept));
		g_assert_true(cpu_bits_subset(&p.has, &o.level.has));
		closed = p.has;
		g_assert_false(cpu_bits_close(&closed, CLOSE_HARD, NULL));
	}
}

static void test_more_than_the_level_is_refused_by_name(void)
{
	static const struct {
		const char *key, *value, *named;
	} row[] = {
		{ "cpu.features", "+avx512f", "avx512f" },
		{ "cpu.features", "+svm,-avx", "svm" },
		{ "cpu.level", "x86-64-v4", "avx512bw" },
		{ "cpu.level", "v1-00000011-00000020", "vmx" },
	};
	const struct cpu_offer o = offer_of(LEVEL);

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autoptr(GError) e = NULL;
		struct featureset p;

		g_assert_false(pin(row[i].key, row[i].value, GUEST_KVM, &o, &p, &e));
		g_assert_error(e, ERR, ERR_UNSUPPORTED);
		g_assert_nonnull(strstr(e->message, row[i].named));
		g_assert_nonnull(strstr(e->message, "web1"));
		g_assert_nonnull(err_advice(e));
		g_assert_cmpuint(json_array_size(json_arr(err_details(e), "missing")), >, 0);
	}
}

static void test_what_can_t_be_read_is_refused(void)
{
	static const struct {
		const char *key, *value;
	} row[] = {
		{ "cpu.features", "avx2" },   { "cpu.features", "-" },        { "cpu.features", "-avx2,," },
		{ "cpu.features", "-avx99" }, { "cpu.level", "x86-64-v5" },   { "cpu.level", "v1-" },
		{ "cpu.level", "v1-123" },    { "cpu.level", "v2-00000001" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autoptr(Vm) vm = vm_with(row[i].key, row[i].value);
		g_autoptr(GError) e = NULL;

		g_assert_false(pin_settings_ok(vm, &e));
		g_assert_nonnull(e);
		g_assert_true(g_str_has_prefix(e->message, row[i].key));
		g_assert_nonnull(err_advice(e));
	}
}

static void test_a_host_below_the_level_starts_nothing(void)
{
	struct cpu_offer o = offer_of(LEVEL);
	g_autoptr(GError) e = NULL;
	struct featureset p;

	o.max = set_of("fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,hypervisor,lm,nx,syscall");
	g_assert_false(pin("cpu.features", "-avx2", GUEST_KVM, &o, &p, &e));
	g_assert_error(e, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(strstr(e->message, "sse4.2"));
	g_assert_nonnull(strstr(e->message, "host1"));
}

static void test_emulation_is_spared_an_xsave_that_hangs_it(void)
{
	const struct cpu_offer o = offer_of(LEVEL);
	struct featureset p;

	g_assert_true(pin("cpu.features", "-xsaveopt", GUEST_TCG, &o, &p, NULL));
	g_assert_false(has(&p, "xsave") || has(&p, "avx"));
	g_assert_true(pin("cpu.features", "-xsaveopt", GUEST_KVM, &o, &p, NULL));
	g_assert_true(has(&p, "xsave") && has(&p, "avx"));
}

static void test_the_pin_of_a_running_guest_is_taken_whole(void)
{
	struct cpu_offer o = offer_of("fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,hypervisor,lm");
	g_autoptr(GError) e = NULL;
	struct featureset p;

	o.fixed = true;
	g_assert_true(pin("cpu.features", "-pni,+avx", GUEST_KVM, &o, &p, &e));
	g_assert_no_error(e);
	g_assert_true(cpu_bits_equal(&p.has, &o.level.has));
}

/* ---- what QEMU made ---- */

static Json *word(uint32_t leaf, uint32_t subleaf, const char *reg, uint32_t value)
{
	Json *j = json_object();

	json_put_uint(j, "cpuid-input-eax", leaf);
	json_put_uint(j, "cpuid-input-ecx", subleaf);
	json_put_str(j, "cpuid-register", reg);
	json_put_uint(j, "features", value);
	return j;
}

/* What a QEMU that did as it was told answers. */
static Json *answers_of(const struct featureset *p)
{
	static const char *const reg[] = { "EAX", "EBX", "ECX", "EDX" };
	Json *j = json_object(), *words = json_array();

	for (size_t w = 0; w < n_feature_words; w++)
		if (feature_words[w].kind == WORD_CPUID)
			json_array_append_new(words, word(feature_words[w].index, feature_words[w].subleaf,
							  reg[feature_words[w].reg], p->has.word[w]));
	/* The state components that it has of them: no features. */
	json_array_append_new(words, word(0xd, 0, "EAX", 7));
	json_put(j, "feature-words", words);
	json_put_str(j, "vendor", p->vendor);
	json_put_uint(j, "family", p->family);
	json_put_uint(j, "model", p->model);
	json_put_uint(j, "stepping", p->stepping);
	json_put_uint(j, "level", p->level);
	json_put_uint(j, "xlevel", p->xlevel);
	json_put_uint(j, "phys-bits", p->phys_bits);
	return j;
}

static void test_the_vcpu_must_be_the_pin(void)
{
	const struct featureset p = set_of(LEVEL), less = set_of("fpu,tsc"), more = set_of(LEVEL ",sha-ni");
	_cleanup_json_ Json *good = answers_of(&p), *lacks = answers_of(&less), *adds = answers_of(&more);
	g_autoptr(GError) e = NULL;

	g_assert_true(pin_check_answers(&p, good, false, &e));
	g_assert_no_error(e);
	g_assert_false(pin_check_answers(&p, lacks, false, &e));
	g_assert_error(e, ERR, ERR_QEMU);
	g_assert_nonnull(strstr(e->message, "without"));
	g_clear_error(&e);
	g_assert_false(pin_check_answers(&p, adds, false, &e));
	g_assert_nonnull(strstr(e->message, "with sha-ni"));
	g_clear_error(&e);
	json_put_uint(good, "phys-bits", 36);
	g_assert_false(pin_check_answers(&p, good, false, &e));
	g_assert_nonnull(strstr(e->message, "phys-bits"));
}

static void test_a_cpu_made_again_is_still_looked_at(void)
{
	const struct featureset p = set_of(LEVEL ",arch-capabilities,rdctl-no"), less = set_of("fpu,tsc");
	_cleanup_json_ Json *good = answers_of(&p), *lacks = answers_of(&less);
	g_auto(GStrv) asked = pin_questions(&p, true);
	g_autoptr(GError) e = NULL;

	g_assert_cmpuint(g_strv_length(asked), ==, 1);
	/* Only what was asked for is there. */
	json_object_del(good, "vendor");
	json_object_del(good, "level");
	g_assert_true(pin_check_answers(&p, good, true, &e));
	g_assert_no_error(e);
	g_assert_false(pin_check_answers(&p, lacks, true, &e));
	g_assert_error(e, ERR, ERR_QEMU);
	g_assert_nonnull(strstr(e->message, "without"));
}

static void test_answers_that_make_no_sense_are_no_pin(void)
{
	static const char *const bad[] = { "{}", "{\"feature-words\": []}", "{\"feature-words\": 7}",
					   "{\"feature-words\": [7, {\"features\": \"x\"}]}" };
	const struct featureset p = set_of(LEVEL);

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		_cleanup_json_ Json *j = json_parse(bad[i], strlen(bad[i]), NULL);
		g_autoptr(GError) e = NULL;

		g_assert_false(pin_check_answers(&p, j, false, &e));
		g_assert_error(e, ERR, ERR_QEMU);
	}
}

static void test_bits_of_msrs_are_asked_for_by_name(void)
{
	struct featureset p = set_of(LEVEL ",arch-capabilities,rdctl-no");
	g_auto(GStrv) asked = pin_questions(&p, false);
	_cleanup_json_ Json *answers = answers_of(&p);
	g_autoptr(GError) e = NULL;

	g_assert_true(g_strv_contains((const char *const *)asked, "rdctl-no"));
	g_assert_false(g_strv_contains((const char *const *)asked, "avx2"));
	g_assert_false(pin_check_answers(&p, answers, false, &e));
	g_assert_nonnull(strstr(e->message, "rdctl-no"));
	g_clear_error(&e);
	json_put_bool(answers, "rdctl-no", true);
	g_assert_true(pin_check_answers(&p, answers, false, &e));
	g_assert_no_error(e);
}

/* ---- records, and what a power cycle would change ---- */

static void test_a_pin_comes_back_from_its_record(void)
{
	const struct featureset p = set_of(LEVEL);
	_cleanup_json_ Json *j = pin_to_json(&p, GUEST_TCG, "pc-q35-7.2");
	g_autoptr(GError) e = NULL;
	struct featureset back;
	GuestType type;

	g_assert_true(pin_of_json(j, &back, &type, &e));
	g_assert_no_error(e);
	g_assert_cmpint(type, ==, GUEST_TCG);
	g_assert_true(cpu_bits_equal(&back.has, &p.has));
	g_assert_cmpuint(back.xlevel, ==, p.xlevel);
	g_assert_cmpstr(json_str(j, "machine"), ==, "pc-q35-7.2");
	json_object_del(j, "guest");
	g_assert_false(pin_of_json(j, &back, &type, &e));
	g_assert_error(e, ERR, ERR_INVALID);
	g_assert_false(pin_of_json(NULL, &back, &type, NULL));
}

static void test_what_a_power_cycle_would_change_is_named(void)
{
	const struct featureset p =
	    set_of("fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,sse4a,hypervisor,lm");
	_cleanup_json_ Json *record = pin_to_json(&p, GUEST_TCG, "pc"), *view = NULL, *none = NULL;
	g_autoptr(Vm) vm = vm_with("cpu.features", "-avx");
	g_autoptr(HostFacts) host = host_facts_new();
	CpuOffer o = { 0 };
	g_autofree char *text = NULL;

	host->name = g_strdup("host1");
	o.guest[GUEST_TCG] = offer_of(LEVEL);
	view = pin_view(record, vm, host, &o);
	text = json_print(view);
	g_assert_nonnull(strstr(text, "\"loses\":[\"sse4a\"]"));
	g_assert_nonnull(strstr(text, "\"sse4.2\""));
	g_assert_null(strstr(text, "\"avx\""));
	g_assert_null(json_str(view, "blocked"));
	/* Nothing is on offer: that is said, and nothing is promised. */
	o.guest[GUEST_TCG].there = false;
	o.guest[GUEST_TCG].why = (char *)"it was not probed";
	none = pin_view(record, vm, host, &o);
	g_assert_cmpstr(json_str(none, "blocked"), ==, "it was not probed");
	g_assert_cmpuint(json_array_size(json_arr(none, "gains")), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/pin/level", test_a_vm_gets_the_level_by_itself);
	g_test_add_func("/pin/lower", test_settings_only_lower_it);
	g_test_add_func("/pin/more", test_more_than_the_level_is_refused_by_name);
	g_test_add_func("/pin/unreadable", test_what_can_t_be_read_is_refused);
	g_test_add_func("/pin/weak-host", test_a_host_below_the_level_starts_nothing);
	g_test_add_func("/pin/tcg-hang", test_emulation_is_spared_an_xsave_that_hangs_it);
	g_test_add_func("/pin/kept", test_the_pin_of_a_running_guest_is_taken_whole);
	g_test_add_func("/pin/vcpu", test_the_vcpu_must_be_the_pin);
	g_test_add_func("/pin/again", test_a_cpu_made_again_is_still_looked_at);
	g_test_add_func("/pin/nonsense", test_answers_that_make_no_sense_are_no_pin);
	g_test_add_func("/pin/msr", test_bits_of_msrs_are_asked_for_by_name);
	g_test_add_func("/pin/record", test_a_pin_comes_back_from_its_record);
	g_test_add_func("/pin/change", test_what_a_power_cycle_would_change_is_named);
	return g_test_run();
}
