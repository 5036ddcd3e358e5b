/* SPDX-License-Identifier: Apache-2.0 */
/* plim host cpu */
#include "cli/nouns.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

#define LINE_WIDTH 100

/* "  offered (68): fpu, de, ..." in lines of bounded length; nothing when there are none. */
static void print_names(const char *title, const Json *list)
{
	size_t n = json_array_size(list), column = LINE_WIDTH;

	if (n == 0)
		return;
	printf("  %s (%zu):", title, n);
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(list, i));

		if (column + strlen(name) >= LINE_WIDTH) {
			printf("\n    ");
			column = 4;
		}
		column += (size_t)printf("%s%s", name, i + 1 < n ? ", " : "");
	}
	printf("\n");
}

/* Pairs of what and why, one a line. */
static void print_reasons(const char *title, const Json *list, const char *what)
{
	const Json *item;
	size_t i;

	if (json_array_size(list) == 0)
		return;
	printf("  %s:\n", title);
	json_array_foreach(list, i, item)
	{
		const Json *value = json_object_get(item, what);
		g_autofree char *name = json_is_array(value) ? print_strings(value, NULL) : value_text(value);
		const char *why = json_str(item, "why");

		printf("    %s%s%s\n", name, why != NULL ? ": " : "", why != NULL ? why : "");
	}
}

static void print_guests(const char *type, const Json *cpu)
{
	const Json *g = json_obj(json_obj(cpu, "guests"), type);
	const char *reason = json_str(json_obj(cpu, "reasons"), type);

	if (g == NULL) {
		printf("%s guests: none%s%s\n", type, reason != NULL ? ": " : "",
		       reason != NULL ? reason : "");
		return;
	}
	printf("%s guests: %s, family %d, model %d, stepping %d, %d physical address bits\n", type,
	       json_str(g, "vendor"), (int)json_int(g, "family", 0), (int)json_int(g, "model", 0),
	       (int)json_int(g, "stepping", 0), (int)json_int(g, "phys_bits", 0));
	print_names("a guest that boots can get", json_arr(g, "default"));
	print_reasons("only a guest that arrives may have", json_arr(g, "hidden"), "feature");
	print_names("the pool would gain without this host", json_arr(g, "sole"));
	print_reasons("QEMU named and a guest could not have", json_arr(json_obj(cpu, "dropped"), type),
		      "features");
}

static void print_cpu(const Json *cpu)
{
	const Json *mask = json_obj(cpu, "mask");
	g_autofree char *masked =
	    mask != NULL ? print_strings(json_object_get(mask, "features"), NULL) : NULL;

	printf("host %s, QEMU %s, found %s\n", json_str(cpu, "name"), json_str(cpu, "qemu_version"),
	       json_str(cpu, "date"));
	if (mask != NULL)
		printf("masked by %s on %s: %s\n", json_str(mask, "by"), json_str(mask, "at"), masked);
	print_guests("kvm", cpu);
	print_guests("tcg", cpu);
}

static bool show(Cli *c, const char *host, GError **err)
{
	g_autofree char *path = host_path_of(c, host, "/cpu", err);
	_cleanup_json_ Json *cpu = path != NULL ? client_call(c->client, "GET", path, NULL, err) : NULL;
	const char *format = cli_text(c, "output");

	if (cpu == NULL)
		return false;
	if (cli_has(c, "export")) {
		g_autofree char *text = json_print_pretty(json_obj(cpu, "record"));

		fputs(text, stdout);
		return true;
	}
	if (format != NULL && !g_str_equal(format, "table"))
		return output_object(c, cpu, err);
	print_cpu(cpu);
	return true;
}

static bool change_mask(Cli *c, const char *verb, GError **err)
{
	g_autofree char *rest = g_strdup_printf("/cpu/actions/%s%s", verb,
						cli_has(c, "dry-run") ? "?dry_run=true" : ""),
			*path = host_path_of(c, cli_text(c, "host"), rest, err), *names = NULL, *also = NULL;
	_cleanup_json_ Json *body = json_object(), *cpu = NULL;
	bool mask = g_str_equal(verb, "mask");
	Json *list;

	if (path == NULL)
		return false;
	list = json_of_strv((const char *const *)c->args + 1);
	names = print_strings(list, NULL);
	json_put(body, "features", list);
	cpu = client_call(c->client, "POST", path, body, err);
	if (cpu == NULL)
		return false;
	printf("%s: %s %s %s\n", json_str(cpu, "name"), names, cli_has(c, "dry-run") ? "would be" : "is now",
	       mask ? "masked" : "offered again where the CPU has it");
	also = print_strings(json_object_get(cpu, "also"), NULL);
	if (json_array_size(json_arr(cpu, "also")) > 0)
		printf("with it %s: %s\n", mask ? "go what needs it" : "come back", also);
	return true;
}

/* plim host cpu [HOST], plim host cpu mask FEATURE..., plim host cpu unmask FEATURE... */
static bool host_cpu(Cli *c, GError **err)
{
	const char *word = c->args[0];
	bool change = word != NULL && (g_str_equal(word, "mask") || g_str_equal(word, "unmask"));

	if (change && c->args[1] == NULL)
		return fail_advice(err, ERR_INVALID, "Write `plim host cpu mask avx2`.",
				   "no feature was named");
	if (change)
		return change_mask(c, word, err);
	if (word != NULL && c->args[1] != NULL)
		return fail_advice(err, ERR_INVALID,
				   "Write `plim host cpu HOST`, or `plim host cpu mask FEATURE...`.",
				   "'%s' is one word too many", c->args[1]);
	return show(c, word != NULL ? word : cli_text(c, "host"), err);
}

static const Option cpu_options[] = {
	{ "export", 0, OPTION_FLAG, NULL, "Print the host record, for `plim cpu decode` and other pools" },
	{ "host", 0, OPTION_TEXT, "HOST", "The host whose mask changes (the daemon's own)" },
	{ 0 },
};

const Command host_cpu_commands[] = {
	{ "host", "cpu", "[HOST] | mask FEATURE... | unmask FEATURE...",
	  "Show the CPU features that guests of a host can have, or mask some",
	  "mask takes features out of what the host offers, with all that needs them; guests that run keep what they "
	  "have. unmask offers them again.",
	  "plim host cpu mask rtm hle", 0, 1000, "hosts", GROUP_OUTPUT | GROUP_CHANGE, cpu_options,
	  host_cpu },
	{ 0 },
};
