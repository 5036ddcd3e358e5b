/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands: one table entry each. Help, manual pages and completion are made
 * of the same entries, so what a command takes is said once.
 */
#pragma once

#include "cli/client.h"

typedef enum OptionKind {
	OPTION_FLAG,
	OPTION_TEXT,
	OPTION_LIST, /* may be given several times */
} OptionKind;

typedef struct Option {
	const char *name; /* without dashes */
	char letter;      /* or 0 */
	OptionKind kind;
	const char *value; /* what stands for the value in help */
	const char *help;
} Option;

/* Groups of options that many commands share. */
typedef enum OptionGroup {
	GROUP_OUTPUT = 1, /* -o, --no-headers */
	GROUP_LIST = 2,   /* --sort, --filter */
	GROUP_CHANGE = 4, /* --dry-run */
	GROUP_WAIT = 8,   /* --wait, --no-wait, --timeout */
	GROUP_MANY = 16,  /* --all, --filter */
} OptionGroup;

typedef struct Cli Cli;

typedef struct Command {
	const char *noun, *verb;
	const char *args;      /* "NAME [KEY=VALUE...]" */
	const char *summary;   /* one sentence */
	const char *text;      /* further paragraphs for the manual, or NULL */
	const char *example;   /* command lines, or NULL */
	unsigned min, max;     /* number of arguments; max 0 means: as min */
	const char *names;     /* collection whose names complete the arguments ("vms"), or NULL */
	unsigned groups;       /* OptionGroup */
	const Option *options; /* own ones, ends with a NULL name; or NULL */
	bool (*run)(Cli *c, GError **err);
} Command;

struct Cli {
	const Command *command;
	Client *client;
	GHashTable *option; /* name -> GStrv of the values; a flag has none */
	GStrv args;
	Json *settings;  /* the daemon's table of settings, once it was asked for */
	int exit_status; /* of a command that did not fail; 0 unless it says otherwise */
};

/* All commands, noun by noun. */
extern const Command *const commands[];
extern const size_t n_commands;
extern const Option global_options[];

/* The options of one group. Ends with a NULL name. */
const Option *group_options(OptionGroup group);
#define OPTION_GROUPS 5

/*
 * The command that `n` words begin with, "vm start ..." or "vm disk add ...";
 * NULL when there is none. `ret_words` (may be NULL): how many of them name it.
 */
const Command *command_find(int n, char *const *word, int *ret_words);

bool cli_has(const Cli *c, const char *option);
/* The last value, or NULL. */
const char *cli_text(const Cli *c, const char *option);
/* An empty vector when it was not given. Borrowed. */
const char *const *cli_list(const Cli *c, const char *option);
const char *cli_arg(const Cli *c, unsigned i);

/* "/v1/vms/NAME/actions/start", NAME percent-encoded. Caller frees. */
char *cli_path(const char *collection, const char *name, const char *rest);
/* sort= and filter= as they were given. Caller frees the builder's string. */
void query_add(GString *query, const char *key, const char *value);
char *cli_list_query(const Cli *c);

/*
 * Ask for an operation and see it through as --dry-run, --wait, --no-wait and
 * --timeout say: prints the plan, progress, and how it ended. `done` is the
 * line for a successful end ("web1 was started"). Takes `body`.
 */
bool cli_operate(Cli *c, const char *method, const char *path, const char *query, Json *body,
		 const char *done, GError **err);
/* Wait for the operation as --timeout says, with progress; a failed operation is an error. `ret_op` may be
 * NULL. */
bool cli_follow(Cli *c, const Json *operation, Json **ret_op, GError **err);
/* The same without progress, for one of many. `deadline` as of g_get_monotonic_time(). */
bool cli_follow_until(Cli *c, const Json *operation, uint64_t deadline, GError **err);
/* What --timeout means now; UINT64_MAX when it was not given. */
bool cli_deadline(const Cli *c, uint64_t *ret, GError **err);
