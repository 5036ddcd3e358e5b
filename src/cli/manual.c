/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/manual.h"
#include "base/version.h"
#include "core/cpu/feature.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *noun, *about;
} nouns[] = {
	// clang-format off
	{ "vm", "virtual machines" },
	{ "image", "images that vms are made from" },
	{ "volume", "disks of vms" },
	{ "disk", "a vm's disks while it runs" },
	{ "backup", "copies of guests, and the way back" },
	{ "host", "servers" },
	{ "cpu", "CPU features, from files" },
	{ "pool", "hosts that share their records" },
	{ "tools", "agents and drivers of guests" },
	{ "soak", "long tests of what must not go wrong" },
	{ "evidence", "what is kept of guests that went wrong" },
	{ "operation", "requests that take time" },
	{ "event", "what happened" },
	// clang-format on
};

typedef void (*EachFunc)(const Command *c, void *data);

static void each_command(const char *noun, EachFunc func, void *data)
{
	for (size_t i = 0; i < n_commands; i++)
		for (const Command *c = commands[i]; c->noun != NULL; c++)
			if (noun == NULL || g_str_equal(c->noun, noun))
				func(c, data);
}

static void help_line(const Command *c, void *data)
{
	g_autofree char *head = g_strdup_printf("plim %s %s %s", c->noun, c->verb, c->args);

	(void)data;
	if (strlen(head) <= 42)
		printf("  %-42s  %s\n", head, c->summary);
	else
		printf("  %s\n  %-42s  %s\n", head, "", c->summary);
}

void help_all(const char *noun)
{
	printf("plim drives the daemon of Plimsoll, which runs virtual machines.\n");
	for (size_t i = 0; i < G_N_ELEMENTS(nouns); i++) {
		if (noun != NULL && !g_str_equal(noun, nouns[i].noun))
			continue;
		printf("\n%s: %s\n", nouns[i].noun, nouns[i].about);
		each_command(nouns[i].noun, help_line, NULL);
	}
	printf(
	    "\n`plim NOUN VERB --help` says more of a command. `plim version`, `plim completion bash|zsh`.\n");
}

/* "disk" begins "disk add". */
static bool begins(const Command *c, const char *word)
{
	size_t n = strlen(word);

	return strncmp(c->verb, word, n) == 0 && c->verb[n] == ' ';
}

bool help_begun(const char *noun, const char *word)
{
	bool any = false;

	for (size_t i = 0; i < n_commands; i++)
		for (const Command *c = commands[i]; c->noun != NULL; c++)
			if (g_str_equal(c->noun, noun) && begins(c, word)) {
				help_line(c, NULL);
				any = true;
			}
	return any;
}

typedef void (*OptionFunc)(const Option *o);

static void each_option(const Command *c, OptionFunc func)
{
	for (const Option *o = c->options; o != NULL && o->name != NULL; o++)
		func(o);
	for (int g = 0; g < OPTION_GROUPS; g++)
		if (c->groups & (1u << g))
			for (const Option *o = group_options((OptionGroup)(1u << g)); o->name != NULL; o++)
				func(o);
	for (const Option *o = global_options; o->name != NULL; o++)
		func(o);
}

static void help_option(const Option *o)
{
	g_autofree char *name = g_strdup_printf("--%s%s%s", o->name, o->value != NULL ? " " : "",
						o->value != NULL ? o->value : "");

	if (o->letter != 0)
		printf("  -%c, %-28s  %s\n", o->letter, name, o->help);
	else
		printf("      %-28s  %s\n", name, o->help);
}

void help_command(const Command *c)
{
	printf("plim %s %s %s\n\n%s.\n", c->noun, c->verb, c->args, c->summary);
	if (c->text != NULL)
		printf("%s\n", c->text);
	printf("\n");
	each_option(c, help_option);
	if (c->example != NULL)
		printf("\nExample:\n  %s\n", c->example);
}

/* roff: a backslash and a leading dot or quote have meanings, a minus is a hyphen unless it is escaped. */
static void roff(const char *text)
{
	if (*text == '.' || *text == '\'')
		printf("\\&");
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			printf("\\e");
		else if (*text == '-')
			printf("\\-");
		else
			putchar(*text);
	}
}

static void roff_option(const Option *o)
{
	printf(".TP\n");
	if (o->letter != 0)
		printf("\\fB\\-%c\\fR, ", o->letter);
	printf("\\fB\\-\\-");
	roff(o->name);
	printf("\\fR");
	if (o->value != NULL) {
		printf(" \\fI");
		roff(o->value);
		printf("\\fR");
	}
	printf("\n");
	roff(o->help);
	printf(".\n");
}

static void roff_command(const Command *c, void *data)
{
	(void)data;
	printf(".SS plim %s %s \\fI", c->noun, c->verb);
	roff(c->args);
	printf("\\fR\n");
	roff(c->summary);
	printf(".\n");
	if (c->text != NULL) {
		roff(c->text);
		printf("\n");
	}
	each_option(c, roff_option);
	if (c->example != NULL) {
		printf(".PP\nExample:\n.PP\n.nf\n.RS\n");
		roff(c->example);
		printf("\n.RE\n.fi\n");
	}
}

static void roff_exit_statuses(void)
{
	printf(".SH EXIT STATUS\n.TP\n0\nSuccess.\n");
	for (ErrCode code = 0; code < _ERR_MAX; code++)
		printf(".TP\n%d\n%s\n", err_exit_status(code), err_name(code));
	printf(".PP\n\\fBcpu check\\fR ends with 3 when the guest cannot move.\n");
	printf(".PP\n\\fBvm exec\\fR ends with the exit status of the command in the guest.\n");
}

static void roff_see_also(const char *noun)
{
	printf(".SH SEE ALSO\n");
	for (size_t i = 0; i < G_N_ELEMENTS(nouns); i++)
		if (noun == NULL || !g_str_equal(noun, nouns[i].noun))
			printf(".BR plim\\-%s (1),\n", nouns[i].noun);
	printf(".BR plimsolld (8)\n");
}

int manual_main(int argc, char **argv)
{
	const char *noun = argc > 1 ? argv[1] : NULL, *about = "drive the virtualization toolstack Plimsoll";
	bool known = noun == NULL;

	for (size_t i = 0; noun != NULL && i < G_N_ELEMENTS(nouns); i++)
		if (g_str_equal(noun, nouns[i].noun)) {
			about = nouns[i].about;
			known = true;
		}
	if (!known) {
		fprintf(stderr, "plim: there is no noun '%s'\n", noun);
		return err_exit_status(ERR_INVALID);
	}
	printf(".TH PLIM%s%s 1 \"\" \"Plimsoll %s\"\n.SH NAME\nplim%s%s \\- %s\n", noun != NULL ? "-" : "",
	       noun != NULL ? noun : "", plimsoll_version, noun != NULL ? "\\-" : "",
	       noun != NULL ? noun : "", about);
	printf(
	    ".SH SYNOPSIS\n\\fBplim\\fR \\fINOUN VERB\\fR [\\fIARGUMENT\\fR...] [\\fIOPTION\\fR...]\n.SH COMMANDS\n");
	each_command(noun, roff_command, NULL);
	roff_exit_statuses();
	roff_see_also(noun);
	return 0;
}

/* ---- completion ---- */

static const char bash_script[] =
    "_plim() {\n"
    "\tlocal IFS=$'\\n'\n"
    "\tCOMPREPLY=($(compgen -W \"$(plim completion words \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\" -- "
    "\"${COMP_WORDS[COMP_CWORD]}\"))\n"
    "}\n"
    "complete -o default -F _plim plim\n";

/* As a file _plim of zsh's $fpath it is read at the first use, by a function of that name, which is to answer
 * too. */
static const char zsh_script[] =
    "#compdef plim\n"
    "_plim() {\n"
    "\tlocal -a words_\n"
    "\twords_=(${(f)\"$(plim completion words \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
    "\tcompadd -a words_\n"
    "}\n"
    "if [[ ${funcstack[1]} == _plim ]]; then\n"
    "\t_plim \"$@\"\n"
    "else\n"
    "\tcompdef _plim plim\n"
    "fi\n";

/* The first word of each verb, once; those with the same one stand together. */
static void print_verb(const Command *c, void *data)
{
	const char **last = data;
	size_t n = strcspn(c->verb, " ");

	if (*last == NULL || strncmp(*last, c->verb, n) != 0 || strcspn(*last, " ") != n)
		printf("%.*s\n", (int)n, c->verb);
	*last = c->verb;
}

static void print_second_word(const Command *c, void *data)
{
	if (begins(c, data))
		printf("%s\n", strchr(c->verb, ' ') + 1);
}

static void print_option(const Option *o)
{
	printf("--%s\n", o->name);
}

/* Live names; silent when no daemon answers. */
static void print_names(const char *collection)
{
	const char *env = g_getenv("PLIMSOLL_SOCKET");
	g_autoptr(Client) client = client_new(env != NULL ? env : "/run/plimsoll/api.sock", false);
	g_autofree char *path = g_strconcat("/v1/", collection, NULL);
	_cleanup_json_ Json *list = client_call(client, "GET", path, NULL, NULL);
	const Json *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *name = json_str(item, "name");

		printf("%s\n", name != NULL ? name : json_str(item, "id"));
	}
}

static void print_features(void)
{
	for (size_t i = 0; i < n_features; i++)
		printf("%s\n", features[i].name);
}

/* `n` words are there, the last of which is being typed. */
static void complete(int n, char **word)
{
	const Command *c;
	const char *last = NULL;

	if (n <= 1) {
		for (size_t i = 0; i < G_N_ELEMENTS(nouns); i++)
			printf("%s\n", nouns[i].noun);
		printf("help\nversion\ncompletion\n");
	} else if (n == 2) {
		each_command(word[0], print_verb, &last);
	} else if ((c = command_find(n - 1, word, NULL)) == NULL) {
		if (n == 3)
			each_command(word[0], print_second_word, word[1]);
	} else {
		if (word[n - 1][0] == '-')
			each_option(c, print_option);
		else if (g_strcmp0(c->names, "cpu-features") == 0)
			print_features();
		else if (c->names != NULL)
			print_names(c->names);
	}
}

int completion_main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (g_str_equal(what, "bash")) {
		printf("%s", bash_script);
	} else if (g_str_equal(what, "zsh")) {
		printf("%s", zsh_script);
	} else if (g_str_equal(what, "words")) {
		complete(argc - 2, argv + 2);
	} else {
		fprintf(stderr, "plim: completion takes bash or zsh\n");
		return err_exit_status(ERR_INVALID);
	}
	return 0;
}
