/* SPDX-License-Identifier: Apache-2.0 */
/* plim: from the command line to a command of the table, and from its error to an exit status. */
#include "base/version.h"
#include "cli/command.h"
#include "cli/manual.h"

#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_SOCKET "/run/plimsoll/api.sock"
#define OPTIONS_MAX 48

/* What getopt_long() needs, and the way back from its numbers. */
typedef struct OptionTable {
	struct option longs[OPTIONS_MAX];
	const Option *option[OPTIONS_MAX];
	char shorts[2 * OPTIONS_MAX + 2];
	int n;
} OptionTable;

static void add_options(OptionTable *t, const Option *o)
{
	size_t end = strlen(t->shorts);

	for (; o != NULL && o->name != NULL; o++) {
		g_assert(t->n < OPTIONS_MAX - 1);
		t->longs[t->n] =
		    (struct option){ o->name, o->kind == OPTION_FLAG ? optional_argument : required_argument,
				     NULL, 256 + t->n };
		t->option[t->n++] = o;
		if (o->letter != 0) {
			t->shorts[end++] = o->letter;
			if (o->kind != OPTION_FLAG)
				t->shorts[end++] = ':';
		}
	}
	t->shorts[end] = '\0';
}

static void make_table(OptionTable *t, const Command *c)
{
	*t = (OptionTable){ .shorts = ":" };
	add_options(t, global_options);
	for (int g = 0; g < OPTION_GROUPS; g++)
		if (c->groups & (1u << g))
			add_options(t, group_options((OptionGroup)(1u << g)));
	add_options(t, c->options);
}

static const Option *find_option(const OptionTable *t, int code)
{
	if (code >= 256)
		return t->option[code - 256];
	for (int i = 0; i < t->n; i++)
		if (t->option[i]->letter == code)
			return t->option[i];
	return NULL;
}

static void free_strv(gpointer p)
{
	g_strfreev(p);
}

static void keep_value(Cli *c, const char *name, const char *value)
{
	char **old = g_hash_table_lookup(c->option, name);
	guint n = old != NULL ? g_strv_length(old) : 0;
	char **all = g_new0(char *, n + 2);

	for (guint i = 0; i < n; i++)
		all[i] = g_strdup(old[i]);
	all[n] = g_strdup(value);
	g_hash_table_replace(c->option, g_strdup(name), all);
}

/* --flag, --flag=true; --flag=false takes it back. */
static void keep_flag(Cli *c, const char *name, const char *value)
{
	if (value != NULL && (g_str_equal(value, "false") || g_str_equal(value, "no")))
		g_hash_table_remove(c->option, name);
	else
		keep_value(c, name, value);
}

/* Where there is an --output, --format is another name of it. */
static const char *kept_name(const Command *c, const Option *o)
{
	return (c->groups & GROUP_OUTPUT) && g_str_equal(o->name, "format") ? "output" : o->name;
}

static bool parse_options(Cli *c, int argc, char **argv, GError **err)
{
	OptionTable t;
	int code;

	make_table(&t, c->command);
	opterr = 0;
	optind = 1;
	while ((code = getopt_long(argc, argv, t.shorts, t.longs, NULL)) != -1) {
		const Option *o = find_option(&t, code);

		if (code == '?' || code == ':' || o == NULL) {
			fail(err, ERR_INVALID,
			     code == ':' ? "option '%s' needs a value" : "there is no option '%s'",
			     argv[optind - 1]);
			return err_advise(err, "`plim %s %s --help` lists the options.", c->command->noun,
					  c->command->verb);
		}
		if (o->kind == OPTION_FLAG)
			keep_flag(c, o->name, optarg);
		else
			keep_value(c, kept_name(c->command, o), optarg);
	}
	c->args = g_strdupv(argv + optind);
	return true;
}

static bool check_args(const Cli *c, GError **err)
{
	const Command *k = c->command;
	unsigned n = g_strv_length(c->args), max = k->max > 0 ? k->max : k->min;

	if (n >= k->min && n <= max)
		return true;
	fail(err, ERR_INVALID, "%s %s takes: %s", k->noun, k->verb,
	     k->args[0] != '\0' ? k->args : "no arguments");
	return err_advise(err, "`plim %s %s --help` says more.", k->noun, k->verb);
}

static const char *socket_of(const Cli *c)
{
	const char *given = cli_text(c, "socket"), *env = g_getenv("PLIMSOLL_SOCKET");

	if (given != NULL)
		return given;
	return env != NULL && *env != '\0' ? env : DEFAULT_SOCKET;
}

static int report(const GError *err)
{
	const char *advice = err_advice(err);

	fflush(stdout);
	fprintf(stderr, "plim: %s\n", err->message);
	if (advice != NULL)
		fprintf(stderr, "%s\n", advice);
	return err_exit_status(err_code(err));
}

static int run(const Command *command, int argc, char **argv)
{
	Cli c = { .command = command,
		  .option = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_strv) };
	g_autoptr(GError) err = NULL;
	int status;

	if (!parse_options(&c, argc, argv, &err)) {
		status = report(err);
	} else if (cli_has(&c, "help")) {
		help_command(command);
		status = 0;
	} else if (!check_args(&c, &err)) {
		status = report(err);
	} else {
		c.client = client_new(socket_of(&c), cli_has(&c, "debug"));
		status = command->run(&c, &err) ? c.exit_status : report(err);
		client_free(c.client);
	}
	g_hash_table_unref(c.option);
	json_unref(c.settings);
	g_strfreev(c.args);
	if (fflush(stdout) != 0 && status == 0)
		status = 1;
	return status;
}

static bool is_help(const char *word)
{
	return g_str_equal(word, "help") || g_str_equal(word, "--help") || g_str_equal(word, "-h");
}

/* `more` tells of what is there when the verb is the first word of several verbs ("disk"). */
static int fail_unknown(const char *noun, const char *verb, const char *more)
{
	if (help_begun(noun, verb))
		return more != NULL && is_help(more) ? 0 : err_exit_status(ERR_INVALID);
	fprintf(stderr, "plim: there is no command '%s %s'\n", noun, verb);
	fprintf(stderr, "`plim help` lists the commands.\n");
	return err_exit_status(ERR_INVALID);
}

int main(int argc, char **argv)
{
	const Command *c;
	int words;

	setlocale(LC_ALL, "");
	if (argc < 2 || is_help(argv[1])) {
		help_all(argc > 2 ? argv[2] : NULL);
		return argc < 2 ? err_exit_status(ERR_INVALID) : 0;
	}
	if (g_str_equal(argv[1], "version") || g_str_equal(argv[1], "--version")) {
		printf("plim %s\n", plimsoll_version);
		return 0;
	}
	if (g_str_equal(argv[1], "manual"))
		return manual_main(argc - 1, argv + 1);
	if (g_str_equal(argv[1], "completion"))
		return completion_main(argc - 1, argv + 1);
	if (argc < 3 || is_help(argv[2])) {
		help_all(argv[1]);
		return argc < 3 ? err_exit_status(ERR_INVALID) : 0;
	}
	c = command_find(argc - 1, argv + 1, &words);
	if (c == NULL)
		return fail_unknown(argv[1], argv[2], argc > 3 ? argv[3] : NULL);
	/* getopt counts from the program's name: let the verb's last word stand for it. */
	return run(c, argc - words, argv + words);
}
