/* SPDX-License-Identifier: Apache-2.0 */
/* The schedule of a soak, its verdicts, its histogram. */
#include "core/soak/check.h"
#include "core/soak/histogram.h"
#include "core/soak/schedule.h"

#include <string.h>

#define MS UINT64_C(1000)

/* ---- schedule ---- */

static const struct soak_settings settings = {
	.seed = 7, .n_hosts = 4, .pause_max = 200 * MS, .cancel = 10, .cancel_max = 50 * MS
};

static void test_a_trip_ends_at_home_and_visits_no_host_twice(void)
{
	for (uint64_t trip = 0; trip < 2000; trip++) {
		struct soak_move move[SOAK_HOSTS_MAX];
		size_t home = trip % 4, n = soak_trip(&settings, trip % 3, trip, home, move);
		unsigned seen = 0;

		g_assert_cmpuint(n, >=, 2);
		g_assert_cmpuint(n, <=, 4);
		g_assert_cmpuint(move[n - 1].host, ==, home);
		for (size_t i = 0; i < n; i++) {
			g_assert_cmpuint(move[i].host, <, 4);
			g_assert_false(seen >> move[i].host & 1);
			seen |= 1u << move[i].host;
			g_assert_cmpuint(move[i].pause, <=, 200 * MS);
			g_assert_cmpuint(move[i].cancel_after, <=, 50 * MS);
		}
	}
}

static void test_a_seed_is_one_hunt_whatever_came_between(void)
{
	struct soak_settings other = settings;
	unsigned same = 0;

	other.seed = 8;
	for (uint64_t trip = 0; trip < 100; trip++) {
		struct soak_move a[SOAK_HOSTS_MAX], b[SOAK_HOSTS_MAX], c[SOAK_HOSTS_MAX];
		size_t n = soak_trip(&settings, 1, trip, 0, a);

		soak_trip(&settings, 2, 99 - trip, 0, c);
		g_assert_cmpuint(soak_trip(&settings, 1, trip, 0, b), ==, n);
		for (size_t i = 0; i < n; i++) {
			g_assert_cmpuint(a[i].host, ==, b[i].host);
			g_assert_cmpuint(a[i].pause, ==, b[i].pause);
			g_assert_cmpint(a[i].cancel, ==, b[i].cancel);
			g_assert_cmpuint(a[i].cancel_after, ==, b[i].cancel_after);
		}
		soak_trip(&other, 1, trip, 0, c);
		same += a[0].pause == c[0].pause;
	}
	g_assert_cmpuint(same, <, 10);
}

static void test_all_ways_and_cancels_come_as_often_as_asked(void)
{
	unsigned to[4] = { 0 }, stops[5] = { 0 }, cancels = 0, moves = 0;

	for (uint64_t trip = 0; trip < 4000; trip++) {
		struct soak_move move[SOAK_HOSTS_MAX];
		size_t n = soak_trip(&settings, 0, trip, 0, move);

		stops[n]++;
		to[move[0].host]++;
		moves += (unsigned)n;
		for (size_t i = 0; i < n; i++)
			cancels += move[i].cancel;
	}
	for (size_t i = 1; i < 4; i++)
		g_assert_cmpuint(to[i], >, 1100);
	for (size_t n = 2; n <= 4; n++)
		g_assert_cmpuint(stops[n], >, 1100);
	g_assert_cmpuint(cancels * 100, >, moves * 8);
	g_assert_cmpuint(cancels * 100, <, moves * 12);
}

/* ---- lines ---- */

static void test_the_last_whole_line_counts(void)
{
	struct soak_beat b;

	g_assert_true(soak_beat_last("payload 1\r\nsoak 1 5 6 7 8 9 00000000000000ff\r\n"
				     "soak 2 50 60 0 80 0 d607106e9cdce886\r\nnmi 1\r\nsoak 3 5",
				     &b));
	g_assert_cmpuint(b.beat, ==, 2);
	g_assert_cmpuint(b.clock, ==, 50);
	g_assert_cmpuint(b.gap, ==, 60);
	g_assert_cmpuint(b.back, ==, 0);
	g_assert_cmpuint(b.checked, ==, 80);
	g_assert_cmpuint(b.bad, ==, 0);
	g_assert_cmphex(b.cpu, ==, UINT64_C(0xd607106e9cdce886));
}

static void test_what_is_no_line_of_a_watcher_is_passed_over(void)
{
	static const char *const none[] = {
		"",
		"\n",
		"soak 1 2 3 4 5 6 d607106e9cdce886",
		"soak 1 2 3 4 5 d607106e9cdce886\n",
		"soak 1 2 3 4 5 6 7 d607106e9cdce886\n",
		"soak 1 2 3 4 5 6 d607106e9cdce886 7\n",
		"soak 1 2 3 4 5 6 d607106e9cdce886 7 x\n",
		"soak 1 2 3 4 5 6 d607106e9cdce886 7 0 0\n",
		"soak 1 2 3 4 5 -6 d607106e9cdce886\n",
		"soak 1 2 3 4 5 6 d607\n",
		"soak 1 2 3 4 5 6 d607106e9cdce88g\n",
		"soaked 1 2 3 4 5 6 d607106e9cdce886\n",
		"soak 1  2 3 4 5 6 d607106e9cdce886\n",
		"\xff\xfe soak\n",
	};
	struct soak_beat b;

	for (size_t i = 0; i < G_N_ELEMENTS(none); i++)
		g_assert_false(soak_beat_last(none[i], &b));
}

/* ---- verdicts ---- */

static const struct soak_beat before = {
	.beat = 10, .clock = 1000, .gap = 50000000, .checked = 64, .cpu = 5
};
static const struct soak_bounds bounds = { .downtime = 30 * MS, .margin = 1000 * MS };

/* The checks that fail, with a space behind each. */
static char *verdict(const struct soak_beat *now)
{
	_cleanup_json_ Json *list = soak_judge(&before, now, &bounds);
	GString *s = g_string_new(NULL);
	const Json *j;
	size_t i;

	json_array_foreach(list, i, j)
	{
		g_assert_nonnull(json_str(j, "message"));
		g_string_append_printf(s, "%s ", json_str(j, "check"));
	}
	return g_string_free(s, FALSE);
}

static void test_each_deviation_is_named(void)
{
	static const struct {
		const char *now, *expect;
	} cases[] = {
		{ "soak 11 1001 50000000 0 64 0 0000000000000005\n", "" },
		{ "soak 11 1001 1030000000 0 64 0 0000000000000005\n", "" },
		{ "soak 11 1001 1030000001 0 64 0 0000000000000005\n", "clock " },
		{ "soak 11 1000 50000000 0 64 0 0000000000000005\n", "clock " },
		{ "soak 11 1001 50000000 1 64 0 0000000000000005\n", "clock " },
		{ "soak 10 1001 50000000 0 64 0 0000000000000005\n", "heartbeat " },
		{ "soak 1 10 50000000 0 64 0 0000000000000005\n", "heartbeat clock " },
		{ "soak 11 1001 50000000 0 64 1 0000000000000005\n", "memory " },
		{ "soak 11 1001 50000000 0 63 0 0000000000000005\n", "memory " },
		{ "soak 11 1001 50000000 0 64 0 0000000000000006\n", "cpu " },
		{ "soak 11 1001 50000000 0 64 0 0000000000000005 9 0\n", "" },
		{ "soak 11 1001 50000000 0 64 0 0000000000000005 9 1\n", "flow " },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct soak_beat now;
		g_autofree char *got = NULL;

		g_assert_true(soak_beat_last(cases[i].now, &now));
		got = verdict(&now);
		g_assert_cmpstr(got, ==, cases[i].expect);
	}
}

static void test_a_connection_that_was_watched_is_not_forgotten(void)
{
	struct soak_beat had = before, now = before;
	_cleanup_json_ Json *list = NULL, *told = NULL;

	had.flows = true;
	had.flow = 7;
	now.beat++;
	now.clock++;
	list = soak_judge(&had, &now, &bounds);
	g_assert_cmpuint(json_array_size(list), ==, 1);
	g_assert_cmpstr(json_str(json_array_get(list, 0), "check"), ==, "flow");
	told = soak_beat_to_json(&had);
	g_assert_cmpuint(json_uint(told, "flow", 0), ==, 7);
}

static void test_the_first_look_judges_only_what_the_guest_says_of_itself(void)
{
	struct soak_beat now = { .beat = 3, .gap = UINT64_MAX, .back = 4, .checked = 8 };
	_cleanup_json_ Json *good = soak_judge(NULL, &now, &bounds), *bad;

	g_assert_cmpuint(json_array_size(good), ==, 0);
	now.bad = 1;
	bad = soak_judge(NULL, &now, &bounds);
	g_assert_cmpuint(json_array_size(bad), ==, 1);
}

static size_t host_deviations(const char *text)
{
	_cleanup_json_ Json *seen = json_parse(text, strlen(text), NULL), *list;

	g_assert_nonnull(seen);
	list = soak_judge_hosts(seen, "a");
	return json_array_size(list);
}

static void test_a_guest_lives_once_and_where_it_should(void)
{
#define A "{\"host\":{\"id\":\"a\",\"name\":\"h0\"},\"processes\":["
#define B "{\"host\":{\"id\":\"b\",\"name\":\"h1\"},\"processes\":["
#define RUNS "{\"pid\":5,\"status\":\"running\"}"
	g_assert_cmpuint(host_deviations("[" A RUNS "]}," B "]}]"), ==, 0);
	g_assert_cmpuint(host_deviations("[" A "]}," B "]}]"), ==, 1);
	g_assert_cmpuint(host_deviations("[" A RUNS "]}," B RUNS "]}]"), ==, 2);
	g_assert_cmpuint(host_deviations("[" A "]}," B RUNS "]}]"), ==, 1);
	g_assert_cmpuint(host_deviations("[" A "{\"pid\":5,\"status\":\"paused\"}]}," B "]}]"), ==, 1);
	g_assert_cmpuint(host_deviations("[" A "{\"pid\":5,\"status\":null}]}," B "]}]"), ==, 1);
	g_assert_cmpuint(host_deviations("[" A RUNS "," RUNS "]}," B "]}]"), ==, 1);
	g_assert_cmpuint(host_deviations("[]"), ==, 1);
}

/* ---- histogram ---- */

static void test_a_histogram_counts_every_duration_once(void)
{
	g_autoptr(Histogram) h = histogram_new();
	_cleanup_json_ Json *j = NULL;
	uint64_t sum = 0;
	const Json *c;
	size_t i;

	for (uint64_t us = 100; us >= 1; us--)
		histogram_add(h, us * MS);
	histogram_add(h, UINT64_C(1) << 50);
	g_assert_cmpuint(histogram_percentile(h, 0), ==, 1 * MS);
	g_assert_cmpuint(histogram_percentile(h, 50), ==, 51 * MS);
	g_assert_cmpuint(histogram_percentile(h, 100), ==, UINT64_C(1) << 50);
	j = histogram_to_json(h);
	json_array_foreach(json_arr(j, "classes"), i, c) sum += json_uint(c, "count", 0);
	g_assert_cmpuint(sum, ==, 101);
	g_assert_cmpuint(json_uint(j, "count", 0), ==, 101);
}

static void test_a_histogram_is_drawn_from_its_first_class_to_its_last(void)
{
	g_autoptr(Histogram) h = histogram_new();
	g_autofree char *empty = histogram_print(h, "Downtime"), *text = NULL;

	g_assert_null(strchr(strchr(empty, '\n') + 1, '\n'));
	for (unsigned i = 0; i < 100; i++)
		histogram_add(h, 8 * MS);
	histogram_add(h, 30 * MS);
	text = histogram_print(h, "Downtime");
	g_assert_true(g_str_has_prefix(text, "Downtime of 101 moves: shortest 8"));
	g_assert_nonnull(strstr(text, " 100 ########################################\n"));
	g_assert_nonnull(strstr(text, "0 \n"));
	g_assert_nonnull(strstr(text, " 1 #\n"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/soak/" #name, name)
	T(test_a_trip_ends_at_home_and_visits_no_host_twice);
	T(test_a_seed_is_one_hunt_whatever_came_between);
	T(test_all_ways_and_cancels_come_as_often_as_asked);
	T(test_the_last_whole_line_counts);
	T(test_what_is_no_line_of_a_watcher_is_passed_over);
	T(test_each_deviation_is_named);
	T(test_a_connection_that_was_watched_is_not_forgotten);
	T(test_the_first_look_judges_only_what_the_guest_says_of_itself);
	T(test_a_guest_lives_once_and_where_it_should);
	T(test_a_histogram_counts_every_duration_once);
	T(test_a_histogram_is_drawn_from_its_first_class_to_its_last);
	return g_test_run();
}
