/* SPDX-License-Identifier: Apache-2.0 */
/* plim vm memory: what a guest has, what it needs, and why it was given that. */
#include "base/str.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Cells of the bar. */
#define WIDTH 50
/* The daemon holds an answer until it has looked once more. */
#define WAIT "?wait=30"
#define CLOCK_BEGIN strlen("2026-11-21T")
#define CLOCK_LENGTH strlen("12:34:56")

static uint64_t number(const Json *decision, const char *key)
{
	return json_uint(decision, key, 0);
}

/* "12:34:56" of a time stamp; the whole of one that is shorter than that. */
static char *clock_text(const Json *value, const Json *entry)
{
	const char *text = json_string_value(value);

	(void)entry;
	if (text == NULL || strlen(text) < CLOCK_BEGIN + CLOCK_LENGTH)
		return g_strdup(text != NULL ? text : "-");
	return g_strndup(text + CLOCK_BEGIN, CLOCK_LENGTH);
}

static const Column trail_columns[] = {
	{ "AT", "at", clock_text, false },
	{ "UNTIL", "until", clock_text, false },
	{ "VERDICT", "verdict", NULL, false },
	{ "FROM", "from", print_bytes, true },
	{ "TO", "to", print_bytes, true },
	{ "HAS", "size", print_bytes, true },
	{ "NEEDS", "need", print_bytes, true },
	{ "WHY", "reason", NULL, false },
	{ 0 },
};

static void print_line(const char *what, const Json *object, const char *key)
{
	g_autofree char *text = print_bytes(json_at(object, key), object);

	printf("%-12s %s\n", what, text);
}

static void print_report(const Json *decision)
{
	const Json *report = json_obj(decision, "report");

	if (report == NULL) {
		printf("%-12s nothing\n", "it tells");
		return;
	}
	print_line("it tells", report, "total");
	print_line("  available", report, "available");
	print_line("  free", report, "free");
	print_line("  caches", report, "caches");
}

static void print_host(const Json *host)
{
	g_autofree char *missing = print_size(number(host, "missing"));

	if (json_bool(host, "short", false))
		printf("%-12s %s of memory are missing for its guests\n", "host", missing);
	else if (json_bool(host, "tight", false))
		printf("%-12s guests give back what they can spare\n", "host");
}

/* What is wrong in the guest, and its administrator can mend. */
static void print_warning(const Json *answer)
{
	const char *warning = json_str(json_obj(answer, "decision"), "warning");

	if (warning != NULL)
		printf("%-12s %s\n", "warning", warning);
}

static void print_now(const Json *answer)
{
	const Json *d = json_obj(answer, "decision");

	print_line("has", answer, "memory");
	if (!json_bool(answer, "dynamic", false)) {
		printf("%-12s its memory is fixed; memory.min and memory.max give it room to move\n", "why");
		return;
	}
	if (d == NULL) {
		printf("%-12s the daemon has not looked yet\n", "why");
		return;
	}
	print_line("target", d, "to");
	print_line("needs", d, "need");
	print_line("with buffer", d, "floor");
	print_line("min", d, "min");
	print_line("start", d, "start");
	print_line("max", d, "max");
	printf("%-12s %s\n", "method", json_str(d, "method"));
	print_report(d);
	print_host(json_obj(answer, "host"));
	printf("%-12s %s: %s\n", "why", json_str(d, "verdict"), json_str(d, "reason"));
	print_warning(answer);
}

static size_t cells(uint64_t bytes, uint64_t max)
{
	return max == 0 ? 0 : (size_t)((double)MIN(bytes, max) / (double)max * WIDTH + 0.5);
}

/* "####====....|": used, on top of it what it has, up to memory.max; the target is a bar. */
static void draw(const Json *answer)
{
	const Json *d = json_obj(answer, "decision");
	g_autofree char *at = clock_text(json_object_get(d, "at"), d), *has = print_size(number(d, "size")),
			*need = print_size(number(d, "need")), *to = print_size(number(d, "to"));
	uint64_t max = number(d, "max");
	char bar[WIDTH + 2];
	size_t target;

	if (d == NULL)
		return;
	target = cells(number(d, "to"), max);
	for (size_t i = 0; i <= WIDTH; i++)
		bar[i] = i < cells(number(d, "need"), max)   ? '#'
			 : i < cells(number(d, "size"), max) ? '='
							     : '.';
	bar[target] = '|';
	bar[WIDTH + 1] = '\0';
	printf("%s [%s] uses %s, has %s, target %s, %s\n", at, bar, need, has, to, json_str(d, "verdict"));
	fflush(stdout);
}

static Json *ask(Cli *c, const char *rest, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), rest);

	return client_call(c->client, "GET", path, NULL, err);
}

static bool watch(Cli *c, GError **err)
{
	_cleanup_json_ Json *first = ask(c, "/balance", err);

	if (first == NULL)
		return false;
	if (!json_bool(first, "dynamic", false)) {
		print_now(first);
		return true;
	}
	printf("# uses   = has   | target   up to memory.max; ^C ends it\n");
	for (;;) {
		_cleanup_json_ Json *answer = ask(c, "/balance" WAIT, err);

		if (answer == NULL)
			return false;
		draw(answer);
	}
}

static bool vm_memory(Cli *c, GError **err)
{
	bool table = cli_text(c, "output") == NULL || g_str_equal(cli_text(c, "output"), "table");
	_cleanup_json_ Json *answer = NULL;

	if (cli_has(c, "watch"))
		return watch(c, err);
	answer = ask(c, "/balance", err);
	if (answer == NULL)
		return false;
	if (cli_has(c, "why")) {
		if (!output_list(c, json_arr(answer, "trail"), trail_columns, err))
			return false;
		if (table)
			print_warning(answer);
		return true;
	}
	if (!table)
		return output_object(c, answer, err);
	print_now(answer);
	return true;
}

static const Option memory_options[] = {
	{ "why", 0, OPTION_FLAG, NULL, "The last hundred decisions, and their reasons" },
	{ "watch", 'w', OPTION_FLAG, NULL, "Draw it each time that the daemon looks, until ^C" },
	{ 0 },
};

const Command balance_commands[] = {
	{ "vm", "memory", "NAME", "How much memory a guest has and needs, and why it was given that",
	  "Guests with memory.min or memory.max get what they need while they run. The need is what the guest tells itself, "
	  "through its balloon driver.",
	  "plim vm memory web1 --why", 1, 1, "vms", GROUP_OUTPUT, memory_options, vm_memory },
	{ 0 },
};
