/* SPDX-License-Identifier: Apache-2.0 */
/* plim vm wakeups: who keeps a guest's QEMU busy. */
#include "base/str.h"
#include "cli/interrupt.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000)
/* The span of the table; counts of shorter or longer intervals are scaled to it. */
#define SPAN 30.0
#define SOURCE_WIDTH 34

/* Per 30 s, with commas as people write thousands; "-" for what could not be counted. */
static char *count_text(const Json *value, double scale)
{
	g_autofree char *digits = NULL;
	GString *s;
	size_t n;

	if (!json_is_integer(value))
		return g_strdup("-");
	digits = g_strdup_printf("%.0f", (double)json_integer_value(value) * scale);
	n = strlen(digits);
	s = g_string_new(NULL);
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			g_string_append_c(s, ',');
		g_string_append_c(s, digits[i]);
	}
	return g_string_free(s, FALSE);
}

static void print_count(const Json *obj, const char *key, double scale, int width)
{
	g_autofree char *text = count_text(json_object_get(obj, key), scale);

	printf(" %*s", width, text);
}

static double scale_of(const Json *interval)
{
	double s = (double)json_uint(interval, "duration", 0) / (double)SECOND;

	return s > 0 ? SPAN / s : 0;
}

static void print_head(void)
{
	printf("per 30 s      Timer       Read      Write      Exits      Halts    Main thread      vCPUs    "
	       "CPU\n");
}

static void print_interval(const Json *i)
{
	double scale = scale_of(i), cpu = (double)json_uint(i, "cpu", 0) * scale / (SPAN * (double)SECOND);

	printf("%03d   ", (int)json_int(i, "index", 0));
	print_count(i, "timer", scale, 12);
	print_count(i, "read", scale, 10);
	print_count(i, "write", scale, 10);
	print_count(i, "exits", scale, 10);
	print_count(i, "halts", scale, 10);
	print_count(i, "main_wakeups", scale, 14);
	print_count(i, "vcpu_wakeups", scale, 10);
	if (json_is_integer(json_object_get(i, "cpu")))
		printf(" %5.1f%%", cpu * 100);
	printf("%s\n", json_bool(i, "sampled", false) ? "  sampled" : "");
	fflush(stdout);
}

/* Sums of all intervals by source: {source: {title, timer, read, write, call}}. */
static Json *sum_sources(const Json *report)
{
	static const char *const keys[] = { "timer", "read", "write", "call" };
	Json *sums = json_object();
	const Json *i, *s;
	size_t a, b;

	json_array_foreach(json_arr(report, "intervals"), a, i)
	    json_array_foreach(json_arr(i, "sources"), b, s)
	{
		const char *name = json_str(s, "source");
		Json *sum = json_object_get(sums, name);

		if (sum == NULL) {
			sum = json_object();
			json_put(sums, name, sum);
			json_put_str(sum, "title", json_str(s, "title"));
		}
		for (size_t k = 0; k < G_N_ELEMENTS(keys); k++)
			json_put_int(sum, keys[k], json_int(sum, keys[k], 0) + json_int(s, keys[k], 0));
	}
	return sums;
}

static void print_devices(const Json *report)
{
	_cleanup_json_ Json *sums = sum_sources(report);
	const Json *i, *sum;
	const char *name;
	uint64_t duration = 0;
	size_t k;
	double scale;

	json_array_foreach(json_arr(report, "intervals"), k, i) duration += json_uint(i, "duration", 0);
	scale = duration > 0 ? SPAN * (double)SECOND / (double)duration : 0;
	printf("\n%-*s %10s %10s %10s %10s\n", SOURCE_WIDTH, "by device, per 30 s", "Timer", "Read", "Write",
	       "Calls");
	json_object_foreach(sums, name, sum)
	{
		printf("%-*s", SOURCE_WIDTH, json_str(sum, "title"));
		print_count(sum, "timer", scale, 10);
		print_count(sum, "read", scale, 10);
		print_count(sum, "write", scale, 10);
		print_count(sum, "call", scale, 10);
		printf("\n");
	}
	if (json_object_size(sums) == 0)
		printf("%s\n", "nothing emulated woke it");
}

static void print_rest(const Json *report, bool by_device)
{
	const Json *j;
	size_t i;

	if (by_device)
		print_devices(report);
	if (json_array_size(json_arr(report, "could_not")) > 0)
		printf("\ncould not be counted:\n");
	json_array_foreach(json_arr(report, "could_not"), i, j)
	    printf("  %s: %s\n", json_str(j, "count"), json_str(j, "reason"));
	if (json_array_size(json_arr(report, "advice")) > 0)
		printf("\nadvice:\n");
	json_array_foreach(json_arr(report, "advice"), i, j) printf("  %s\n", json_str(j, "text"));
	if (json_str(report, "reason") != NULL)
		printf("\nnot as planned: %s\n", json_str(report, "reason"));
}

/* Prints intervals as they come, from the `*from`th; the last report. */
static Json *follow(Cli *c, const char *path, bool table, GError **err)
{
	g_autofree char *stop = g_strdup(path), *look = g_strconcat(path, "?wait=1", NULL);
	size_t shown = 0;
	bool asked = false;

	for (;;) {
		Json *report = client_call(c->client, "GET", look, NULL, err);
		const Json *list = json_arr(report, "intervals");

		if (report == NULL)
			return NULL;
		for (; table && shown < json_array_size(list); shown++)
			print_interval(json_array_get(list, shown));
		if (g_strcmp0(json_str(report, "state"), "running") != 0)
			return report;
		json_unref(report);
		if (!asked && interrupt_came()) {
			_cleanup_json_ Json *ended = client_call(c->client, "DELETE", stop, NULL, err);

			if (ended == NULL)
				return NULL;
			asked = true;
		}
	}
}

static bool put_number(Cli *c, const char *option, Json *body, GError **err)
{
	uint64_t n;

	if (!cli_has(c, option))
		return true;
	if (!parse_uint(cli_text(c, option), 1, 100000, &n, err))
		return false;
	json_put_uint(body, option, n);
	return true;
}

static bool begin(Cli *c, const char *path, GError **err)
{
	_cleanup_json_ Json *body = json_object(), *answer = NULL;

	if (!put_number(c, "seconds", body, err) || !put_number(c, "intervals", body, err))
		return false;
	answer = client_call(c->client, "POST", path, body, err);
	return answer != NULL;
}

static bool check_by(Cli *c, GError **err)
{
	const char *by = cli_text(c, "by");

	return by == NULL || g_str_equal(by, "device") ||
	       fail_advice(err, ERR_INVALID, "Write --by device.", "nothing is told apart by '%s'", by);
}

static bool vm_wakeups(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/wakeups");
	bool table = cli_text(c, "output") == NULL || g_str_equal(cli_text(c, "output"), "table");
	_cleanup_json_ Json *report = NULL;

	if (!check_by(c, err))
		return false;
	if (cli_has(c, "stop")) {
		report = client_call(c->client, "DELETE", path, NULL, err);
		return report != NULL;
	}
	interrupt_hold();
	if (!cli_has(c, "follow") && !begin(c, path, err))
		return false;
	if (table)
		print_head();
	report = follow(c, path, table, err);
	if (report == NULL)
		return false;
	if (!table)
		return output_object(c, report, err);
	print_rest(report, cli_has(c, "by"));
	return true;
}

/* A column of `plim host wakeups`: a count per 30 s. */
static char *per_span(const Json *value, const Json *guest)
{
	return count_text(value, scale_of(guest));
}

static char *share_text(const Json *value, const Json *guest)
{
	if (!json_is_integer(value))
		return g_strdup("-");
	return g_strdup_printf("%.2f%%", (double)json_integer_value(value) * scale_of(guest) * 100 /
					     (SPAN * (double)SECOND));
}

static char *judgement(const Json *value, const Json *guest)
{
	(void)value;
	if (json_uint(guest, "duration", 0) == 0)
		return g_strdup("-");
	if (!json_bool(guest, "idle", false))
		return g_strdup("works");
	return g_strdup(json_bool(guest, "over", false) ? "over budget" : "idle");
}

static const Column host_columns[] = {
	{ "NAME", "name", NULL, false },
	{ "MAIN THREAD", "main_wakeups", per_span, true },
	{ "VCPUS", "vcpu_wakeups", per_span, true },
	{ "EXITS", "exits", per_span, true },
	{ "HALTS", "halts", per_span, true },
	{ "CPU OF MAIN", "main_cpu", share_text, true },
	{ "CPU OF VCPUS", "vcpu_cpu", share_text, true },
	{ "STATE", "name", judgement, false },
	{ 0 },
};

static bool host_wakeups(Cli *c, GError **err)
{
	g_autofree char *path = host_path_of(c, c->args[0], "/wakeups", err);
	_cleanup_json_ Json *report = path != NULL ? client_call(c->client, "GET", path, NULL, err) : NULL;
	const char *format = cli_text(c, "output");
	const Json *j;
	size_t i;

	if (report == NULL)
		return false;
	if (format != NULL && !g_str_equal(format, "table"))
		return g_str_equal(format, "json") || g_str_equal(format, "yaml")
			   ? output_object(c, report, err)
			   : output_list(c, json_arr(report, "guests"), host_columns, err);
	if (!output_list(c, json_arr(report, "guests"), host_columns, err))
		return false;
	json_array_foreach(json_arr(report, "could_not"), i, j)
	    printf("could not count %s: %s\n", json_str(j, "count"), json_str(j, "reason"));
	return true;
}

static const Option wakeup_options[] = {
	{ "seconds", 0, OPTION_TEXT, "N", "Length of an interval; 30 when left out" },
	{ "intervals", 0, OPTION_TEXT, "N", "How many intervals; 1 when left out" },
	{ "by", 0, OPTION_TEXT, "device", "Also say which devices the events came from" },
	{ "follow", 0, OPTION_FLAG, NULL, "Show the counting that runs, or the last one; begin none" },
	{ "stop", 0, OPTION_FLAG, NULL, "End the counting that runs" },
	{ 0 },
};

const Command wakeup_commands[] = {
	{ "vm", "wakeups", "NAME", "Count who wakes the QEMU of a running vm, and say what to change",
	  "Timer: timers of QEMU that fired. Read, Write: the guest used an emulated device. Exits, Halts: of the "
	  "guest from KVM. The threads' columns count how often each slept and was woken. All are per 30 s. The "
	  "counting needs no restart of the guest, and costs nothing when it is over. An interrupt (^C) ends it "
	  "and shows what was counted.",
	  "plim vm wakeups web1 --seconds 10 --intervals 3 --by device", 1, 1, "vms", GROUP_OUTPUT,
	  wakeup_options, vm_wakeups },
	{ "host", "wakeups", "[HOST]", "Rank the guests of a host by how often they wake it",
	  "Counts of the last half minute, per 30 s, as the kernel keeps them for threads: no guest is asked, so none "
	  "is woken. An idle guest that is over its budget (settings idle.wakeups and idle.cpu) is told of in an event; "
	  "`plim vm wakeups` says who it is.",
	  NULL, 0, 1, "hosts", GROUP_OUTPUT, NULL, host_wakeups },
	{ 0 },
};
