/* SPDX-License-Identifier: Apache-2.0 */
/* What a change of the hosts would do. */
#include "core/cpu/feature.h"
#include "core/place/whatif.h"

#include <string.h>

#define OLD "fpu,tsc,msr,cx8,cmov,mmx,fxsr,sse,sse2"
#define NEW OLD ",sse3,rdrand,adx"

static void set_init(struct featureset *s, const char *names, const char *vendor)
{
	g_autoptr(GError) e = NULL;

	memset(s, 0, sizeof *s);
	g_assert_true(cpu_bits_parse_names(names, &s->has, &e));
	g_strlcpy(s->vendor, vendor, sizeof s->vendor);
	s->family = 6;
	s->level = 0xd;
	s->xlevel = 0x80000008;
	s->phys_bits = 46;
	featureset_make_max(s, NULL);
}

static struct host_record make_host(const char *name, const char *names, const char *vendor)
{
	struct host_record r = { .host = (char *)name };

	r.guest[GUEST_KVM].there = true;
	set_init(&r.guest[GUEST_KVM].max, names, vendor);
	r.guest[GUEST_KVM].dflt = r.guest[GUEST_KVM].max;
	return r;
}

typedef struct Rig {
	struct host_record host[2];
	const struct host_record *all[2];
	struct whatif_vm vm[2];
} Rig;

/* Two good hosts; on the first a guest that uses all they have, and one that uses little. */
static void rig_init(Rig *r)
{
	memset(r, 0, sizeof *r);
	r->host[0] = make_host("a", NEW, "GenuineIntel");
	r->host[1] = make_host("b", NEW, "GenuineIntel");
	for (int i = 0; i < 2; i++)
		r->all[i] = &r->host[i];
	r->vm[0] =
	    (struct whatif_vm){ .id = "1", .name = "big", .host = "a", .pinned = true, .type = GUEST_KVM };
	r->vm[1] =
	    (struct whatif_vm){ .id = "2", .name = "small", .host = "a", .pinned = true, .type = GUEST_KVM };
	r->vm[0].pin = r->host[0].guest[GUEST_KVM].max;
	set_init(&r->vm[1].pin, OLD, "GenuineIntel");
}

static Json *ask(Rig *r, const struct whatif_change *c)
{
	g_autoptr(GError) e = NULL;
	Json *j = whatif(r->all, 2, c, r->vm, 2, &e);

	g_assert_no_error(e);
	return j;
}

static void assert_list(const Json *list, const char *want)
{
	g_auto(GStrv) names = json_strv(list);
	g_autofree char *got = g_strjoinv(",", names);

	g_assert_cmpstr(got, ==, want);
}

static void test_a_weaker_host_lowers_the_level_and_takes_what_fits(void)
{
	struct host_record c = make_host("c", OLD, "GenuineIntel");
	_cleanup_json_ Json *j = NULL;
	const Json *vms;
	Rig r;

	rig_init(&r);
	j = ask(&r, &(struct whatif_change){ .kind = WHATIF_JOIN, .record = &c });
	assert_list(json_arr(json_obj(j, "kvm"), "lost"), "adx,pni,rdrand");
	assert_list(json_arr(json_obj(j, "kvm"), "gained"), "");
	vms = json_arr(j, "vms");
	g_assert_cmpuint(json_array_size(vms), ==, 1);
	g_assert_cmpstr(json_str(json_array_get(vms, 0), "name"), ==, "small");
	assert_list(json_arr(json_array_get(vms, 0), "gained"), "c");
}

static void test_who_leaves_takes_the_guests_places_along(void)
{
	_cleanup_json_ Json *j = NULL, *k = NULL;
	Rig r;

	rig_init(&r);
	j = ask(&r, &(struct whatif_change){ .kind = WHATIF_LEAVE, .host = "b" });
	g_assert_cmpuint(json_array_size(json_arr(j, "vms")), ==, 2);
	assert_list(json_arr(json_array_get(json_arr(j, "vms"), 0), "lost"), "b");
	k = ask(&r, &(struct whatif_change){ .kind = WHATIF_LEAVE, .host = "a" });
	g_assert_true(json_bool(json_array_get(json_arr(k, "vms"), 0), "must_move", false));
}

static void test_a_disabled_feature_goes_with_what_needs_it(void)
{
	_cleanup_json_ Json *j = NULL;
	Rig r;

	rig_init(&r);
	j = ask(&r, &(struct whatif_change){ .kind = WHATIF_DISABLE, .feature = "sse2" });
	assert_list(json_arr(json_obj(j, "kvm"), "lost"), "pni,sse2");
	assert_list(json_arr(json_array_get(json_arr(j, "vms"), 1), "lost"), "b");
}

static void test_an_upgrade_gives_back_what_the_host_cost(void)
{
	struct host_record b = make_host("b", NEW, "GenuineIntel");
	_cleanup_json_ Json *j = NULL;
	Rig r;

	rig_init(&r);
	r.host[1] = make_host("b", OLD, "GenuineIntel");
	j = ask(&r, &(struct whatif_change){ .kind = WHATIF_UPGRADE, .record = &b });
	assert_list(json_arr(json_obj(j, "kvm"), "gained"), "adx,pni,rdrand");
	g_assert_cmpuint(json_array_size(json_arr(j, "vms")), ==, 1);
	assert_list(json_arr(json_array_get(json_arr(j, "vms"), 0), "gained"), "b");
}

static void test_bad_questions_are_refused(void)
{
	struct host_record a = make_host("a", NEW, "GenuineIntel"), amd = make_host("x", OLD, "AuthenticAMD"),
			   none = make_host("y", NEW, "GenuineIntel");
	const struct {
		struct whatif_change c;
		ErrCode code;
	} table[] = {
		{ { .kind = WHATIF_JOIN, .record = &a }, ERR_CONFLICT },
		{ { .kind = WHATIF_JOIN, .record = &amd }, ERR_UNSUPPORTED },
		{ { .kind = WHATIF_UPGRADE, .record = &none }, ERR_NOT_FOUND },
		{ { .kind = WHATIF_LEAVE, .host = "z" }, ERR_NOT_FOUND },
		{ { .kind = WHATIF_LEAVE }, ERR_NOT_FOUND },
		{ { .kind = WHATIF_DISABLE, .feature = "ssee2" }, ERR_NOT_FOUND },
	};
	Rig r;

	rig_init(&r);
	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		g_autoptr(GError) e = NULL;

		g_assert_null(whatif(r.all, 2, &table[i].c, r.vm, 2, &e));
		g_assert_error(e, ERR, (int)table[i].code);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/whatif/join", test_a_weaker_host_lowers_the_level_and_takes_what_fits);
	g_test_add_func("/whatif/leave", test_who_leaves_takes_the_guests_places_along);
	g_test_add_func("/whatif/disable", test_a_disabled_feature_goes_with_what_needs_it);
	g_test_add_func("/whatif/upgrade", test_an_upgrade_gives_back_what_the_host_cost);
	g_test_add_func("/whatif/bad", test_bad_questions_are_refused);
	return g_test_run();
}
