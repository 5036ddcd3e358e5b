/* SPDX-License-Identifier: Apache-2.0 */
/* Filters, orders and the latest image. */
#include "base/time.h"
#include "core/image/catalogue.h"

#include <string.h>

static void drop_image(gpointer p)
{
	image_free(p);
}

/* "name status key=value ..." */
static Image *make(unsigned id, const char *text)
{
	g_auto(GStrv) words = g_strsplit(text, " ", -1);
	g_autofree char *uuid = g_strdup_printf("00000000-0000-4000-8000-%012u", id);
	Image *img = image_new(uuid, words[0], "2026-01-01T00:00:00Z", NULL);

	image_record(img, "status", words[1]);
	for (size_t i = 2; words[i] != NULL; i++) {
		char *eq = strchr(words[i], '=');

		*eq = '\0';
		image_record(img, words[i], eq + 1);
	}
	return img;
}

static GPtrArray *make_all(const char *const *texts)
{
	GPtrArray *a = g_ptr_array_new_with_free_func(drop_image);

	for (unsigned i = 0; texts[i] != NULL; i++)
		g_ptr_array_add(a, make(i, texts[i]));
	return a;
}

static GPtrArray *filters(const char *text)
{
	g_auto(GStrv) words = g_strsplit(text, " ", -1);
	GPtrArray *f = image_filters_parse((const char *const *)(*text == '\0' ? NULL : words), NULL);

	g_assert_nonnull(f);
	return f;
}

static char *names(const GPtrArray *images)
{
	GString *s = g_string_new(NULL);

	for (guint i = 0; i < images->len; i++)
		g_string_append_printf(s, "%s%s", i == 0 ? "" : " ", image_name((Image *)images->pdata[i]));
	return g_string_free(s, FALSE);
}

static const char *const some[] = {
	"d11 active os_distro=debian os_version=11 release_date=2021-08-14 min_disk=9 recommended=true tags=old,lts",
	"d12 active os_distro=debian os_version=12 release_date=2023-06-10 min_disk=10 recommended=true",
	"win active os_distro=windows os_version=10 release_date=2017-01-27 min_disk=40 tags=lts",
	"raw active",
	NULL,
};

static void test_filters(void)
{
	static const struct {
		const char *filter, *want;
	} rows[] = {
		{ "", "d11 d12 win raw" },
		{ "os_distro=debian", "d11 d12" },
		{ "os_distro=debian os_version=12", "d12" },
		{ "os_distro!=debian", "win raw" },
		{ "os_distro=in:windows,debian", "d11 d12 win" },
		{ "recommended=yes", "d11 d12" },
		{ "min_disk=009", "d11" },
		{ "release_date=2023-06-10T00:00:00Z", "d12" },
		{ "tags=lts", "d11 win" },
		{ "tags!=lts", "d12 raw" },
		{ "no_such_property=x", "" },
		{ "no_such_property!=x", "d11 d12 win raw" },
		{ "name=raw", "raw" },
		{ "os_distro=Debian", "" },
	};
	g_autoptr(GPtrArray) all = make_all(some);

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GPtrArray) f = filters(rows[i].filter), hit = image_select(all, f);
		g_autofree char *got = names(hit);

		g_assert_cmpstr(got, ==, rows[i].want);
	}
}

static void test_bad_filters_are_refused(void)
{
	static const char *const bad[] = { "",      "os_distro",           "=x",
					   "!=x",   "recommended=perhaps", "min_disk=in:1,x",
					   "a b=c", "release_date=soon" };

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;

		g_assert_null(image_filter_parse(bad[i], &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
	}
}

static void test_filters_print_back(void)
{
	static const char *const texts[] = { "os_distro=debian", "os_distro!=debian", "os_version=in:11,12" };

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
		struct image_filter *f = image_filter_parse(texts[i], NULL);
		g_autofree char *got = image_filter_print(f);

		g_assert_cmpstr(got, ==, texts[i]);
		image_filter_free(f);
	}
}

static void test_orders(void)
{
	static const struct {
		const char *order, *want;
	} rows[] = {
		{ "name", "d11 d12 raw win" },
		{ "name:desc", "win raw d12 d11" },
		{ "release_date", "win d11 d12 raw" },
		{ "release_date:desc", "d12 d11 win raw" },
		{ "os_version", "win d11 d12 raw" },
		{ "min_disk", "raw d11 d12 win" },
		{ "recommended:desc,name:desc", "d12 d11 win raw" },
		{ "os_distro,release_date:desc", "d12 d11 win raw" },
		{ "no_such_property,name:desc", "win raw d12 d11" },
		{ "no_such_property", "d11 d12 win raw" },
	};
	g_autoptr(GPtrArray) all = make_all(some);

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GPtrArray) copy = image_select(all, NULL);
		g_autofree char *got = NULL;

		g_assert_true(image_sort(copy, rows[i].order, NULL));
		got = names(copy);
		g_assert_cmpstr(got, ==, rows[i].want);
	}
	g_assert_false(image_sort(all, "name:down", NULL));
	g_assert_false(image_sort(all, "", NULL));
	g_assert_false(image_sort(all, "name,", NULL));
}

/* Digits count as numbers: 9 before 10, 22.04 before 22.10, 12.9 before 12.10. */
static void test_versions_have_their_order(void)
{
	static const char *const sorted[] = { "7.2",  "7.3",   "9",     "10",    "11.10",
					      "12.9", "12.10", "22.04", "22.10", "sid" };

	for (size_t i = 0; i < G_N_ELEMENTS(sorted); i++)
		for (size_t k = 0; k < G_N_ELEMENTS(sorted); k++) {
			int r = prop_compare("os_version", sorted[i], sorted[k]);

			g_assert_cmpint((r > 0) - (r < 0), ==, (i > k) - (i < k));
		}
}

static void check_latest(const char *const *images, const char *filter, const char *want,
			 const char *verdicts)
{
	g_autoptr(GPtrArray) all = make_all(images), f = filters(filter);
	g_autoptr(GArray) v = NULL;
	g_autoptr(GError) err = NULL;
	g_autoptr(GString) got = g_string_new(NULL);
	const Image *img = image_latest(all, f, &v, &err);

	if (want == NULL) {
		g_assert_null(img);
		g_assert_error(err, ERR, ERR_NOT_FOUND);
		g_assert_nonnull(err_advice(err));
		g_assert_cmpuint(json_array_size(json_arr(err_details(err), "verdicts")), ==, all->len);
	} else {
		g_assert_no_error(err);
		g_assert_cmpstr(image_name(img), ==, want);
	}
	for (guint i = 0; i < v->len; i++)
		g_string_append_printf(got, "%s%s", i == 0 ? "" : " ",
				       verdict_name(g_array_index(v, struct image_verdict, i).verdict));
	g_assert_cmpstr(got->str, ==, verdicts);
}

static void test_latest_is_the_newest_recommended(void)
{
	static const char *const images[] = {
		"old active os_distro=debian os_version=12 release_date=2025-01-01 recommended=true",
		"new active os_distro=debian os_version=12 release_date=2025-06-01 recommended=true",
		"beta active os_distro=debian os_version=12 release_date=2025-09-01 recommended=false",
		"dev active os_distro=debian os_version=12 release_date=2025-10-01",
		"ubuntu active os_distro=ubuntu os_version=24.04 release_date=2025-08-01 recommended=true",
		NULL,
	};

	check_latest(images, "os_distro=debian", "new",
		     "older chosen not_recommended not_recommended filter");
}

/* Those who hide old images must not be left with them: the newest is what is shown. */
static void test_hidden_and_unfinished_are_never_taken(void)
{
	static const char *const images[] = {
		"shown active os_distro=debian release_date=2025-01-01 recommended=true",
		"hidden active os_distro=debian release_date=2025-06-01 recommended=true os_hidden=true",
		"saving saving os_distro=debian release_date=2025-07-01 recommended=true",
		NULL,
	}, *const none[] = { "h active os_hidden=true", "s queued", "r active recommended=false", NULL };

	check_latest(images, "os_distro=debian", "shown", "chosen hidden not_active");
	check_latest(none, "", NULL, "hidden not_active not_recommended");
}

static void test_silence_counts_when_nothing_is_recommended(void)
{
	static const char *const images[] = {
		"a active os_distro=debian release_date=2025-01-01",
		"b active os_distro=debian release_date=2025-02-01",
		"c active os_distro=debian",
		NULL,
	};

	check_latest(images, "", "b", "older chosen older");
}

static void test_a_late_fix_of_an_old_version_hides_nothing(void)
{
	static const char *const images[] = {
		"d12 active os_distro=debian os_version=12.1 release_date=2023-07-22 recommended=true",
		"d11 active os_distro=debian os_version=11.11 release_date=2024-08-31 recommended=true",
		"d9 active os_distro=debian os_version=9 release_date=2025-08-31 recommended=true",
		"sid active os_distro=debian os_version=sid release_date=2025-09-30 recommended=true",
		NULL,
	};

	check_latest(images, "os_distro=debian", "d12", "chosen lower_version lower_version lower_version");
	check_latest(images, "os_distro=debian os_version=11.11", "d11", "filter chosen filter filter");
	check_latest(images, "os_distro=debian os_version=10", NULL, "filter filter filter filter");
}

static void test_a_named_major_version_is_never_left(void)
{
	static const char *const images[] = {
		"c7 active os_distro=centos os_distro_major=7 release_date=2019-01-01 recommended=true",
		"c8 active os_distro=centos os_distro_major=8 release_date=2021-01-01 recommended=true",
		"c7b active os_distro=centos os_distro_major=7 release_date=2020-01-01 recommended=false",
		NULL,
	};

	check_latest(images, "os_distro_major=7", "c7", "chosen filter not_recommended");
	check_latest(images, "os_distro_major!=8", "c7", "chosen filter not_recommended");
}

static void test_ties_have_rules(void)
{
	static const char *const version[] = {
		"a active os_distro=x os_version=7.9 release_date=2025-01-01",
		"b active os_distro=x os_version=7.10 release_date=2025-01-01",
		NULL,
	}, *const created[] = {
		"a active release_date=2025-01-01 created_at=2025-02-02T00:00:00Z",
		"b active release_date=2025-01-01 created_at=2025-02-01T00:00:00Z",
		NULL,
	}, *const id[] = { "a active", "b active", NULL };

	check_latest(version, "", "b", "tie chosen");
	check_latest(created, "", "a", "chosen tie");
	check_latest(id, "", "a", "chosen tie");
}

/* The winners of their distributions are compared by date alone; versions of unlike systems say nothing. */
static void test_distributions_meet_by_date(void)
{
	static const char *const images[] = {
		"d12 active os_distro=debian os_version=12 release_date=2023-01-01",
		"d11 active os_distro=debian os_version=11 release_date=2025-01-01",
		"u active os_distro=ubuntu os_version=24.04 release_date=2024-04-25",
		"a active os_distro=alma os_version=9 release_date=2022-05-26",
		NULL,
	};

	check_latest(images, "", "u", "older lower_version chosen older");
}

static const char *pick(const char *const *v, size_t n)
{
	return v[g_test_rand_int_range(0, (gint32)n)];
}

static GPtrArray *random_images(guint n)
{
	static const char *const distro[] = { "os_distro=debian", "os_distro=ubuntu", "os=x" };
	static const char *const version[] = { "os_version=9", "os_version=10.1", "os_version=10.2",
					       "os_version=rolling", "x=y" };
	static const char *const date[] = { "release_date=2025-01-01", "release_date=2025-01-01T00:00:00Z",
					    "release_date=2024-12-31", "z=y" };
	static const char *const mark[] = { "recommended=true", "recommended=false", "y=y",
					    "os_hidden=true" };
	static const char *const status[] = { "active", "active", "saving" };
	GPtrArray *a = g_ptr_array_new_with_free_func(drop_image);

	for (guint i = 0; i < n; i++) {
		g_autofree char *t =
		    g_strdup_printf("n%u %s %s %s %s %s", i, pick(status, 3), pick(distro, 3),
				    pick(version, 5), pick(date, 4), pick(mark, 4));

		g_ptr_array_add(a, make(i, t));
	}
	return a;
}

static void shuffle(GPtrArray *a)
{
	for (guint i = a->len; i > 1; i--) {
		guint k = (guint)g_test_rand_int_range(0, (gint32)i);
		gpointer t = a->pdata[i - 1];

		a->pdata[i - 1] = a->pdata[k];
		a->pdata[k] = t;
	}
}

static const char *date_of(const Image *img)
{
	const char *d = image_get(img, "release_date");

	return d != NULL ? d : "1970-01-01";
}

/* Nothing that could have been taken is newer, of the same system and version. */
static void check_is_maximum(const GPtrArray *all, const Image *best)
{
	for (guint i = 0; i < all->len; i++) {
		const Image *o = all->pdata[i];

		if (!image_is_active(o) || image_bool(o, "os_hidden") ||
		    image_bool(o, "recommended") < image_bool(best, "recommended") ||
		    g_strcmp0(image_get(o, "recommended"), "false") == 0 ||
		    g_strcmp0(image_get(o, "os_distro"), image_get(best, "os_distro")) != 0 ||
		    g_strcmp0(image_get(o, "os_version"), image_get(best, "os_version")) != 0)
			continue;
		g_assert_cmpint(prop_compare("release_date", date_of(o), date_of(best)), <=, 0);
	}
}

static void test_random_order_changes_nothing(void)
{
	for (int round = 0; round < 1000; round++) {
		g_autoptr(GPtrArray) all = random_images((guint)g_test_rand_int_range(1, 12));
		g_autoptr(GArray) v = NULL;
		const Image *best = image_latest(all, NULL, &v, NULL);
		unsigned n_chosen = 0;

		for (guint i = 0; i < v->len; i++)
			n_chosen += g_array_index(v, struct image_verdict, i).verdict == VERDICT_CHOSEN;
		g_assert_cmpuint(n_chosen, ==, best != NULL);
		if (best != NULL) {
			g_assert_true(image_is_active(best) && !image_bool(best, "os_hidden"));
			check_is_maximum(all, best);
		}
		for (int k = 0; k < 4; k++) {
			shuffle(all);
			g_assert_true(image_latest(all, NULL, NULL, NULL) == best);
		}
	}
}

static void test_random_sort_is_an_order(void)
{
	for (int round = 0; round < 300; round++) {
		g_autoptr(GPtrArray) all = random_images(10), copy = image_select(all, NULL);
		g_autofree char *first = NULL;

		g_assert_true(image_sort(copy, "release_date:desc,os_version,recommended:desc", NULL));
		first = names(copy);
		for (int k = 0; k < 4; k++) {
			g_autofree char *again = NULL;

			shuffle(copy);
			g_assert_true(
			    image_sort(copy, "release_date:desc,os_version,recommended:desc", NULL));
			again = names(copy);
			g_assert_cmpstr(again, ==, first);
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/catalogue/filters", test_filters);
	g_test_add_func("/catalogue/bad-filters", test_bad_filters_are_refused);
	g_test_add_func("/catalogue/filters-print", test_filters_print_back);
	g_test_add_func("/catalogue/orders", test_orders);
	g_test_add_func("/catalogue/versions", test_versions_have_their_order);
	g_test_add_func("/catalogue/latest", test_latest_is_the_newest_recommended);
	g_test_add_func("/catalogue/hidden", test_hidden_and_unfinished_are_never_taken);
	g_test_add_func("/catalogue/silence", test_silence_counts_when_nothing_is_recommended);
	g_test_add_func("/catalogue/late-fix", test_a_late_fix_of_an_old_version_hides_nothing);
	g_test_add_func("/catalogue/major", test_a_named_major_version_is_never_left);
	g_test_add_func("/catalogue/ties", test_ties_have_rules);
	g_test_add_func("/catalogue/distributions", test_distributions_meet_by_date);
	g_test_add_func("/catalogue/random-latest", test_random_order_changes_nothing);
	g_test_add_func("/catalogue/random-sort", test_random_sort_is_an_order);
	return g_test_run();
}
