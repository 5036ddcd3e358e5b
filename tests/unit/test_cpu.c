/* SPDX-License-Identifier: Apache-2.0 */
/* CPU features: the table, sets and their text, closing, featuresets, the check. */
#include "core/cpu/check.h"
#include "core/cpu/record.h"

#include "cpu_sets.h"

/* ---- table ---- */

static void test_every_feature_is_found_by_its_name_and_place(void)
{
	g_assert_cmpuint(n_features, >=, 319 + 63);
	for (size_t i = 0; i < n_features; i++) {
		const struct feature *f = &features[i];
		g_autofree char *place = feature_place_print(f->id);

		g_assert_true(feature_find(f->name) == f);
		g_assert_true(feature_at(f->id) == f);
		g_assert_true(cpu_bits_has(&feature_known, f->id));
		g_assert_true(cpu_bits_has(&feature_of_kind[f->kind], f->id));
		g_assert_true(f->kind == FEATURE_AND || f->why != NULL);
		g_assert_cmpuint(strlen(place), >, 0);
		if (i > 0)
			g_assert_cmpuint(features[i - 1].id, <, f->id);
		if (f->twin != FEATURE_NONE)
			g_assert_null(feature_at(f->twin));
	}
	g_assert_cmpuint(cpu_bits_count(&feature_known), ==, n_features);
}

/* Numbers are in stored sets, so they are for ever. */
static void test_places_never_change(void)
{
	g_assert_cmpuint(id_of("fpu"), ==, 0);
	g_assert_cmpuint(id_of("pni"), ==, 32);
	g_assert_cmpuint(id_of("avx"), ==, 32 + 28);
	g_assert_cmpuint(id_of("syscall"), ==, 64 + 11);
	g_assert_cmpuint(id_of("lahf-lm"), ==, 96);
	g_assert_cmpuint(id_of("avx2"), ==, 8 * 32 + 5);
	g_assert_cmpuint(id_of("spec-ctrl"), ==, 10 * 32 + 26);
	g_assert_cmpuint(id_of("xsaves"), ==, 14 * 32 + 3);
	g_assert_cmpuint(id_of("rdctl-no"), ==, 20 * 32);
	g_assert_cmpuint(id_of("hv-relaxed"), ==, (n_feature_words - 1) * 32);
	g_assert_cmpuint(n_feature_words, ==, 46);
}

static void test_other_spellings_are_found(void)
{
	static const char *const pairs[][2] = {
		{ "SSE4_1", "sse4.1" },
		{ "sse4-2", "sse4.2" },
		{ "pclmuldq", "pclmulqdq" },
		{ "lahf_lm", "lahf-lm" },
		{ "sse3", "pni" },
		{ "AESNI", "aes" },
		{ "sha_ni", "sha-ni" },
		{ "tsc_adjust", "tsc-adjust" },
		{ "IBRSB", "spec-ctrl" },
		{ "EIBRS", "ibrs-all" },
		{ "ffxsr", "fxsr-opt" },
		{ "i64", "lm" },
		{ "xd", "nx" },
		{ "avx512_vnni", "avx512vnni" },
		{ "tsc_deadline_timer", "tsc-deadline" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++)
		g_assert_cmpstr(feature_at(id_of(pairs[i][0]))->name, ==, pairs[i][1]);
	g_assert_null(feature_find("avx9"));
	g_assert_null(feature_find(""));
}

static void test_unknown_name_is_refused_with_near_ones(void)
{
	const struct feature *f;
	g_autoptr(GError) err = NULL;
	g_autofree char *longer = g_strnfill(200, 'a');

	g_assert_false(feature_parse("avx512foo", &f, &err));
	g_assert_error(err, ERR, ERR_NOT_FOUND);
	g_assert_nonnull(strstr(err_advice(err), "avx512f"));
	g_clear_error(&err);
	assert_fails(feature_parse(longer, &f, &err), &err, ERR_NOT_FOUND);
}

/* ---- text ---- */

static void test_text_comes_back(void)
{
	struct cpu_bits a = bits_of("fpu avx2 rfds-clear hv-time"), b;
	g_autofree char *text = cpu_bits_print(&a);
	size_t words;

	g_assert_true(cpu_bits_parse(text, &b, &words, NULL));
	g_assert_true(cpu_bits_equal(&a, &b));
	g_assert_cmpuint(words, ==, n_feature_words);
	assert_names(&b, "fpu, avx2, rfds-clear, hv-time");
}

static void test_short_text_is_extended_with_zeros(void)
{
	struct cpu_bits b;
	size_t words;

	g_assert_true(cpu_bits_parse("v1-00000003", &b, &words, NULL));
	g_assert_cmpuint(words, ==, 1);
	assert_names(&b, "fpu, vme");
}

static char *long_text(size_t words, const char *last)
{
	GString *s = g_string_new("v1-00000001");

	for (size_t i = 1; i < words; i++)
		g_string_append_printf(s, "-%s", i + 1 == words ? last : "00000000");
	return g_string_free(s, FALSE);
}

static void test_long_text_is_read_when_the_rest_is_zero(void)
{
	g_autofree char *zero = long_text(80, "00000000"), *more = long_text(80, "00000001"),
			*huge = long_text(CPU_TEXT_WORDS_MAX + 1, "00000000");
	g_autoptr(GError) err = NULL;
	struct cpu_bits b;

	g_assert_true(cpu_bits_parse(zero, &b, NULL, NULL));
	assert_fails(cpu_bits_parse(more, &b, NULL, &err), &err, ERR_UNSUPPORTED);
	assert_fails(cpu_bits_parse(huge, &b, NULL, &err), &err, ERR_INVALID);
}

static void test_malformed_text_is_refused(void)
{
	static const char *const bad[] = { "",
					   "v1",
					   "v1-",
					   "v2-00000001",
					   "00000001",
					   "v1-1234",
					   "v1-0000000g",
					   "v1-00000001-",
					   "v1--00000001",
					   "v1-000000012",
					   "v1-00000001 ",
					   " v1-00000001",
					   "v1-0x000001",
					   "v1-00000001_1",
					   "v1-+0000001",
					   "V1-00000001",
					   "foo bar baz",
					   "0123-foo",
					   "v1-00000001-foo" };

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;
		struct cpu_bits b = bits_of("mmx");

		g_assert_false(cpu_bits_parse(bad[i], &b, NULL, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
		assert_names(&b, "mmx");
	}
}

static void test_an_older_set_takes_the_rest_of_its_host(void)
{
	struct cpu_bits old = bits_of("fpu pni"), of_host = bits_of("vme sse4.1 avx2");

	cpu_bits_extend(&old, 2, &of_host);
	assert_names(&old, "fpu, pni, avx2");
}

static void test_a_bit_without_a_name_is_still_told(void)
{
	struct cpu_bits b = { 0 };
	g_autofree char *text = NULL;

	cpu_bits_set(&b, 10); /* a hole in the first word */
	cpu_bits_set(&b, 32 * 60 + 5);
	text = cpu_bits_names_print(&b, 0);
	g_assert_cmpstr(text, ==, "1.0.edx[10], word60[5]");
	g_assert_true(cpu_bits_close(&b, CLOSE_HARD, NULL));
	g_assert_true(cpu_bits_empty(&b));
}

/* ---- closing ---- */

static void test_what_needs_the_missing_falls_with_its_cause(void)
{
	struct cpu_bits b = bits_of("fpu mmx fxsr sse sse2 xsave avx2 fma f16c avx512f aes vaes");
	struct cpu_causes causes;

	g_assert_true(cpu_bits_close(&b, CLOSE_HARD, &causes));
	assert_names(&b, "fpu, mmx, fxsr, sse, sse2, aes, xsave");
	g_assert_cmpuint(causes.parent[id_of("avx2")], ==, id_of("avx"));
	g_assert_cmpuint(causes.parent[id_of("fma")], ==, id_of("avx"));
	g_assert_cmpuint(causes.parent[id_of("avx512f")], ==, id_of("avx"));
	g_assert_cmpuint(causes.parent[id_of("aes")], ==, FEATURE_NONE);
}

static void test_the_nearest_missing_parent_is_the_cause(void)
{
	struct cpu_bits b = bits_of("avx512f fpu");
	struct cpu_causes causes;

	g_assert_true(cpu_bits_close(&b, CLOSE_HARD, &causes)); /* xsave, avx and avx2 are missing */
	g_assert_cmpuint(causes.parent[id_of("avx512f")], ==, id_of("avx2"));
}

static void test_soft_rules_are_kept_only_when_asked(void)
{
	struct cpu_bits b = bits_of("amd-ssbd amd-stibp"), c = b;

	g_assert_false(cpu_bits_close(&b, CLOSE_HARD, NULL));
	g_assert_true(cpu_bits_close(&c, CLOSE_SOFT, NULL));
	g_assert_true(cpu_bits_empty(&c));
}

static struct cpu_bits random_bits(GRand *rand)
{
	struct cpu_bits b;

	for (size_t i = 0; i < CPU_WORDS; i++)
		b.word[i] = g_rand_int(rand) | g_rand_int(rand);
	return b;
}

/* Idempotent, monotone, and an AND of closed sets is closed. */
static void test_closing_keeps_its_laws(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(20261121);

	for (int round = 0; round < 2000; round++) {
		CloseKind kind = round % 2 == 0 ? CLOSE_HARD : CLOSE_SOFT;
		struct cpu_bits a = random_bits(rand), b = random_bits(rand), part, both, again;

		cpu_bits_and(&part, &a, &b);
		cpu_bits_close(&a, kind, NULL);
		cpu_bits_close(&b, kind, NULL);
		cpu_bits_close(&part, kind, NULL);
		again = a;
		g_assert_false(cpu_bits_close(&again, kind, NULL));
		g_assert_true(cpu_bits_equal(&a, &again));
		g_assert_true(cpu_bits_subset(&part, &a));
		cpu_bits_and(&both, &a, &b);
		g_assert_true(cpu_bits_equal(&both, &part));
		again = both;
		g_assert_false(cpu_bits_close(&again, kind, NULL));
	}
}

/* What the table says of one feature is what closing does. */
static void test_dependents_are_what_falls(void)
{
	for (size_t i = 0; i < n_features; i++) {
		struct cpu_bits all = feature_known, below, fell;

		feature_dependents(features[i].id, CLOSE_HARD, &below);
		cpu_bits_clear(&all, features[i].id);
		cpu_bits_close(&all, CLOSE_HARD, NULL);
		cpu_bits_minus(&fell, &feature_known, &all);
		cpu_bits_clear(&fell, features[i].id);
		g_assert_true(cpu_bits_equal(&fell, &below));
	}
}

/* ---- featuresets ---- */

static void test_default_is_max_without_what_is_not_for_all(void)
{
	struct featureset s =
	    host("fpu tsc vmx vmx-ept vmx-secondary-ctls hle rtm tsx-ldtrk invtsc monitor ht");

	featureset_make_max(&s, NULL);
	featureset_make_default(&s);
	assert_names(&s.has, "fpu, tsc, hypervisor");
}

static void test_leaves_are_capped_but_not_below_a_feature(void)
{
	struct featureset s = host("fpu"), amd = host("fpu"), high = host("fpu auto-ibrs avx10-128");

	s.level = high.level = 0x24;
	s.xlevel = amd.xlevel = high.xlevel = 0x80000028;
	memcpy(amd.vendor, "AuthenticAMD", 13);
	featureset_cap(&s);
	featureset_cap(&amd);
	featureset_cap(&high);
	g_assert_cmphex(s.level, ==, 0xd);
	g_assert_cmphex(s.xlevel, ==, 0x80000008);
	g_assert_cmphex(amd.xlevel, ==, 0x8000001e);
	g_assert_cmphex(high.level, ==, 0x24);
	g_assert_cmphex(high.xlevel, ==, 0x80000021);
}

static void test_qemu_gets_every_feature_by_its_own_name(void)
{
	struct featureset s = host("fpu sse4.1 pclmulqdq lahf-lm");
	g_autofree char *text = featureset_print_qemu(&s, NULL, NULL);

	g_assert_cmpstr(
	    text, ==,
	    "base,vendor=GenuineIntel,family=6,model=85,stepping=4,phys-bits=46,"
	    "host-phys-bits=off,level=0xd,xlevel=0x80000008,enforce,fpu=on,pclmulqdq=on,sse4.1=on,"
	    "lahf-lm=on");
}

static void test_a_feature_that_qemu_does_not_know_is_refused(void)
{
	struct featureset s = host("fpu auto-ibrs");
	g_autoptr(GError) err = NULL;
	g_autofree char *text = featureset_print_qemu(&s, NULL, &err), *newer = NULL;

	g_assert_null(text);
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(strstr(err->message, "auto-ibrs"));
	newer = featureset_print_qemu(&s, &feature_known, NULL);
	g_assert_nonnull(strstr(newer, ",auto-ibrs=on"));
}

static void test_a_garbage_vendor_never_reaches_qemu(void)
{
	struct featureset s = host("fpu");
	g_autoptr(GError) err = NULL;

	memcpy(s.vendor, "Evil,foo=bar", 13);
	g_assert_null(featureset_print_qemu(&s, NULL, &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
}

static void test_featureset_comes_back_from_json(void)
{
	struct featureset s = host("fpu xsave avx"), back;
	_cleanup_json_ Json *j = NULL;

	s.xsave[0] = (struct xsave_layout){ 256, 576 };
	s.tsc_khz = 2100000;
	s.tsc_scaling = true;
	j = featureset_to_json(&s);
	g_assert_true(featureset_of_json(j, &back, NULL));
	g_assert_true(featureset_equal(&s, &back));
}

static void test_malformed_featureset_is_refused(void)
{
	struct featureset s = host("fpu"), back;
	static const char *const keys[] = { "set",      "vendor", "family", "model",
					    "stepping", "level",  "xlevel", "phys_bits" };

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
		_cleanup_json_ Json *j = featureset_to_json(&s);
		g_autoptr(GError) err = NULL;

		json_put_int(j, keys[i], -1);
		g_assert_false(featureset_of_json(j, &back, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		json_object_del(j, keys[i]);
		g_assert_false(featureset_of_json(j, &back, NULL));
	}
}

/* ---- check ---- */

static const struct cpu_reason *reason_of(const struct cpu_verdict *v, CpuReasonKind kind)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->reason[i].kind == kind)
			return &v->reason[i];
	return NULL;
}

static void test_a_subset_can_move(void)
{
	struct featureset pin = host("fpu sse"), max = host("fpu sse avx");
	struct cpu_verdict v;

	cpu_check(&pin, GUEST_KVM, &max, &v);
	g_assert_true(v.can);
	g_assert_cmpuint(v.n, ==, 0);
}

static void test_all_reasons_are_found(void)
{
	struct featureset pin = host("fpu xsave avx pku"), max = host("fpu xsave pku");
	struct cpu_verdict v;

	memcpy(max.vendor, "AuthenticAMD", 13);
	max.level = 7;
	max.xlevel = 0x80000004;
	max.phys_bits = 40;
	pin.xsave[6] = (struct xsave_layout){ 8, 2688 };
	max.xsave[6] = (struct xsave_layout){ 64, 2432 };
	cpu_check(&pin, GUEST_KVM, &max, &v);
	g_assert_false(v.can);
	g_assert_cmpuint(v.n, ==, 6);
	assert_names(&v.missing, "avx");
	g_assert_nonnull(reason_of(&v, CPU_REASON_VENDOR));
	g_assert_cmpuint(reason_of(&v, CPU_REASON_PHYS_BITS)->need, ==, 46);
	g_assert_cmpuint(reason_of(&v, CPU_REASON_PHYS_BITS)->have, ==, 40);
	assert_names(&reason_of(&v, CPU_REASON_XSAVE)->features, "pku");
	g_assert_nonnull(reason_of(&v, CPU_REASON_LEVEL));
	g_assert_nonnull(reason_of(&v, CPU_REASON_XLEVEL));
}

static void test_vendor_says_nothing_of_emulation(void)
{
	struct featureset pin = host("fpu"), max = host("fpu");
	struct cpu_verdict v;

	memcpy(max.vendor, "AuthenticAMD", 13);
	cpu_check(&pin, GUEST_TCG, &max, &v);
	g_assert_true(v.can);
	cpu_check(&pin, GUEST_KVM, &max, &v);
	g_assert_false(v.can);
}

static void test_a_set_that_is_not_there_is_no_subset(void)
{
	struct featureset pin = host("fpu"), none = host("");
	struct cpu_verdict v;

	cpu_check(NULL, GUEST_KVM, &pin, &v);
	g_assert_false(v.can);
	cpu_check(&none, GUEST_KVM, &pin, &v);
	g_assert_false(v.can);
	g_assert_nonnull(reason_of(&v, CPU_REASON_NO_PIN));
	cpu_check(&pin, GUEST_KVM, NULL, &v);
	g_assert_false(v.can);
	cpu_check(NULL, GUEST_KVM, NULL, &v);
	g_assert_cmpuint(v.n, ==, 2);
}

static void test_a_drifting_clock_only_warns_unless_it_was_promised(void)
{
	struct featureset pin = host("tsc"), max = host("tsc invtsc");
	struct cpu_verdict v;

	pin.tsc_khz = 2000000;
	max.tsc_khz = 2000500; /* 250 ppm */
	cpu_check(&pin, GUEST_KVM, &max, &v);
	g_assert_cmpuint(v.n, ==, 0);
	max.tsc_khz = 2000501;
	cpu_check(&pin, GUEST_KVM, &max, &v);
	g_assert_true(v.can);
	g_assert_cmpuint(v.n, ==, 1);
	cpu_bits_set(&pin.has, id_of("invtsc"));
	cpu_check(&pin, GUEST_KVM, &max, &v);
	g_assert_false(v.can);
	max.tsc_scaling = true;
	cpu_check(&pin, GUEST_KVM, &max, &v);
	g_assert_true(v.can);
}

static void test_the_sentence_names_feature_host_and_way_out(void)
{
	struct featureset pin = host("fpu avx512f avx512bw"), max = host("fpu");
	static const char *const can[] = { "host1", "host2", NULL };
	const struct cpu_check_names names = { "web1", "host3", "not in CPU",
					       "pool level dropped avx512f when host3 joined 2026-09-01",
					       can };
	struct cpu_verdict v;
	g_autofree char *text = NULL;

	cpu_check(&pin, GUEST_KVM, &max, &v);
	text = cpu_verdict_print(&v, &names);
	g_assert_cmpstr(
	    text, ==,
	    "vm web1 cannot move to host3: it needs avx512f, avx512bw (host3: not in CPU); pool level "
	    "dropped avx512f when host3 joined 2026-09-01; hosts that can take it: host1, host2");
}

static void test_the_verdict_is_data_too(void)
{
	struct featureset pin = host("fpu avx512f"), max = host("fpu");
	const struct cpu_check_names names = { 0 };
	struct cpu_verdict v;
	_cleanup_json_ Json *j = NULL;
	const Json *reason;

	cpu_check(&pin, GUEST_KVM, &max, &v);
	j = cpu_verdict_to_json(&v, &names);
	g_assert_cmpstr(json_str(j, "verdict"), ==, "refuse");
	g_assert_cmpstr(json_string_value(json_array_get(json_arr(j, "missing"), 0)), ==, "avx512f");
	reason = json_array_get(json_arr(j, "reasons"), 0);
	g_assert_cmpstr(json_str(reason, "code"), ==, "features");
	g_assert_true(json_bool(reason, "blocks", false));
	g_assert_nonnull(json_str(reason, "message"));
}

/* ---- host record ---- */

static void fill_record(struct host_record *r)
{
	*r = (struct host_record){ .host = g_strdup("host1"),
				   .date = g_strdup("2026-11-21T09:30:00Z"),
				   .qemu_version = g_strdup("7.2.22"),
				   .machines = g_strsplit("pc-q35-7.2 pc-i440fx-7.2", " ", -1) };
	r->guest[GUEST_KVM] = (struct guest_sets){ true, host("fpu xsave avx svm hypervisor"),
						   host("fpu xsave avx hypervisor") };
	r->guest[GUEST_TCG] = (struct guest_sets){ true, host("fpu hypervisor"), host("fpu hypervisor") };
	r->masked = bits_of("avx2");
}

static void test_record_comes_back(void)
{
	_cleanup_host_record_ struct host_record r = { 0 }, back = { 0 };
	_cleanup_json_ Json *j = NULL;
	g_autofree char *text = NULL;
	struct featureset s;

	fill_record(&r);
	j = host_record_to_json(&r);
	text = json_print(j);
	g_assert_true(host_record_parse(text, strlen(text), &back, NULL));
	g_assert_cmpstr(back.host, ==, "host1");
	g_assert_true(host_record_knows_machine(&back, "pc-q35-7.2"));
	g_assert_false(host_record_knows_machine(&back, "pc-q35-9.0"));
	g_assert_true(host_record_set(&back, GUEST_KVM, SET_DEFAULT, &s, NULL));
	assert_names(&s.has, "fpu, xsave, avx, hypervisor");
	g_assert_true(host_record_set(&back, GUEST_KVM, SET_MAX, &s, NULL));
	g_assert_false(host_record_set(&back, GUEST_KVM, SET_RAW, &s, NULL));
	assert_names(&back.masked, "avx2");
}

static void test_newer_record_is_refused_with_advice(void)
{
	_cleanup_host_record_ struct host_record r = { 0 }, back = { 0 };
	_cleanup_json_ Json *j = NULL;
	g_autoptr(GError) err = NULL;

	fill_record(&r);
	j = host_record_to_json(&r);
	json_put_int(j, "version", HOST_RECORD_VERSION + 1);
	g_assert_false(host_record_of_json(j, &back, &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(err_advice(err));
	g_assert_null(back.host);
}

static void test_contradicting_record_is_refused(void)
{
	for (int what = 0; what < 4; what++) {
		_cleanup_host_record_ struct host_record r = { 0 }, back = { 0 };
		_cleanup_json_ Json *j = NULL;
		g_autoptr(GError) err = NULL;

		fill_record(&r);
		if (what == 0) /* more than it could take */
			r.guest[GUEST_KVM].dflt = host("fpu pni");
		else if (what == 1) /* not closed */
			r.guest[GUEST_TCG].max = host("fpu avx");
		j = host_record_to_json(&r);
		if (what == 2)
			json_put_str(j, "host", "no/name");
		else if (what == 3)
			json_put_str(j, "date", "yesterday");
		g_assert_false(host_record_of_json(j, &back, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/cpu/" #name, test_##name)
	T(every_feature_is_found_by_its_name_and_place);
	T(places_never_change);
	T(other_spellings_are_found);
	T(unknown_name_is_refused_with_near_ones);
	T(text_comes_back);
	T(short_text_is_extended_with_zeros);
	T(long_text_is_read_when_the_rest_is_zero);
	T(malformed_text_is_refused);
	T(an_older_set_takes_the_rest_of_its_host);
	T(a_bit_without_a_name_is_still_told);
	T(what_needs_the_missing_falls_with_its_cause);
	T(the_nearest_missing_parent_is_the_cause);
	T(soft_rules_are_kept_only_when_asked);
	T(closing_keeps_its_laws);
	T(dependents_are_what_falls);
	T(default_is_max_without_what_is_not_for_all);
	T(leaves_are_capped_but_not_below_a_feature);
	T(qemu_gets_every_feature_by_its_own_name);
	T(a_feature_that_qemu_does_not_know_is_refused);
	T(a_garbage_vendor_never_reaches_qemu);
	T(featureset_comes_back_from_json);
	T(malformed_featureset_is_refused);
	T(a_subset_can_move);
	T(all_reasons_are_found);
	T(vendor_says_nothing_of_emulation);
	T(a_set_that_is_not_there_is_no_subset);
	T(a_drifting_clock_only_warns_unless_it_was_promised);
	T(the_sentence_names_feature_host_and_way_out);
	T(the_verdict_is_data_too);
	T(record_comes_back);
	T(newer_record_is_refused_with_advice);
	T(contradicting_record_is_refused);
	return g_test_run();
}
