/* SPDX-License-Identifier: Apache-2.0 */
/* Guests that move: one of them, where it could go, and all of a host. */
#include "base/str.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>

/* Moves of an evacuation that are under way at once. */
#define PARALLEL 2
#define PARALLEL_MAX 16

/* ---- one guest ---- */

static bool put_size(const Cli *c, const char *option, const char *key, Json *body, GError **err)
{
	uint64_t n;

	if (cli_text(c, option) == NULL)
		return true;
	if (!parse_size(cli_text(c, option), &n, err))
		return false;
	json_put_uint(body, key, n);
	return true;
}

static bool put_duration(const Cli *c, const char *option, const char *key, Json *body, GError **err)
{
	uint64_t us;

	if (cli_text(c, option) == NULL)
		return true;
	if (!parse_duration(cli_text(c, option), &us, err))
		return false;
	json_put_uint(body, key, us);
	return true;
}

/* The options that moves share, as the API takes them. NULL: *err is set. New reference. */
static Json *options(const Cli *c, GError **err)
{
	_cleanup_json_ Json *body = json_object();

	if (!put_size(c, "bandwidth", "bandwidth", body, err) ||
	    !put_duration(c, "downtime", "downtime", body, err) ||
	    !put_duration(c, "deadline", "timeout", body, err))
		return NULL;
	if (cli_has(c, "no-auto-converge"))
		json_put_bool(body, "auto_converge", false);
	if (cli_has(c, "post-copy"))
		json_put_bool(body, "post_copy", true);
	if (cli_has(c, "disks"))
		json_put_bool(body, "disks", true);
	return json_ref(body);
}

static char *moved_line(const char *name, const Json *op)
{
	const Json *r = json_obj(op, "result");
	g_autofree char *total = print_duration(json_uint(r, "total", 0)),
			*down = print_duration(json_uint(r, "downtime", 0)),
			*bytes = print_size(json_uint(r, "bytes", 0) + json_uint(r, "disk_bytes", 0)),
			*clock = NULL;

	if (json_uint(r, "clock_set", 0) > 0) {
		g_autofree char *late = print_duration(json_uint(r, "clock_set", 0));

		clock = g_strdup_printf("; its clock was late by %s, and was set", late);
	}
	return g_strdup_printf("%s moved in %s; it stood still for %s; %s went over in %" PRIu64 " rounds%s",
			       name, total, down, bytes, json_uint(r, "rounds", 0),
			       clock != NULL ? clock : "");
}

static bool vm_migrate(Cli *c, GError **err)
{
	const char *name = cli_arg(c, 0), *host = c->args[1];
	g_autofree char *path = cli_path("vms", name, "/actions/migrate"), *line = NULL;
	_cleanup_json_ Json *body = options(c, err), *op = NULL, *end = NULL;

	if (body == NULL)
		return false;
	if (host != NULL)
		json_put_str(body, "host", host);
	if (cli_has(c, "dry-run") || cli_has(c, "no-wait"))
		return cli_operate(c, "POST", path, NULL, g_steal_pointer(&body), "", err);
	op = client_call(c->client, "POST", path, body, err);
	if (op == NULL || !cli_follow(c, op, &end, err))
		return false;
	line = moved_line(name, end);
	printf("%s\n", line);
	return true;
}

/* ---- where could it go ---- */

static const Column move_columns[] = {
	{ "HOST", "host.name", NULL, false },
	{ "POSSIBLE", "possible", NULL, false },
	{ "FREE MEMORY", "free_memory", print_bytes, true },
	{ 0 },
};

static void print_move(const Json *move)
{
	const Json *blockers = json_arr(move, "blockers"), *b, *d;
	const Json *copied = json_bool(move, "possible", false) ? json_arr(move, "copied") : NULL;
	const char *name = json_str(json_obj(move, "host"), "name");
	g_autofree char *free = print_size(json_uint(move, "free_memory", 0));
	size_t i;

	if (json_bool(move, "current", false))
		printf("%s: it is there\n", name);
	else if (json_bool(move, "possible", false))
		printf("%s: yes, %s of memory are free\n", name, free);
	else
		printf("%s: no\n", name);
	json_array_foreach(copied, i, d)
	    printf("  its disk '%s' would be copied to %s\n", json_str(d, "name"), json_str(d, "path"));
	json_array_foreach(blockers, i, b)
	{
		const char *advice = json_str(b, "advice");

		printf("  %s\n", json_str(b, "message"));
		if (advice != NULL)
			printf("    %s\n", advice);
	}
}

static Json *moves_of(Cli *c, const char *name, const char *to, GError **err)
{
	g_autoptr(GString) query = g_string_new(NULL);
	g_autofree char *path = NULL;

	if (to != NULL)
		query_add(query, "to", to);
	if (cli_has(c, "disks"))
		query_add(query, "disks", "true");
	path = cli_path("vms", name, "/moves");
	g_string_prepend(query, path);
	return client_call(c->client, "GET", query->str, NULL, err);
}

static bool vm_explain_move(Cli *c, GError **err)
{
	_cleanup_json_ Json *list = moves_of(c, cli_arg(c, 0), cli_text(c, "to"), err);
	const Json *move;
	size_t i;

	if (list == NULL)
		return false;
	if (cli_text(c, "output") != NULL || cli_text(c, "format") != NULL)
		return output_list(c, list, move_columns, err);
	json_array_foreach(list, i, move) print_move(move);
	return true;
}

/* ---- all guests of a host ---- */

typedef struct Leaving {
	const Json *guest; /* of the plan */
	Json *op;          /* while it moves */
	GError *error;
} Leaving;

typedef struct Evacuation {
	Cli *cli;
	Json *plan;
	GArray *guest; /* Leaving */
} Evacuation;

static void leaving_clear(gpointer p)
{
	Leaving *l = p;

	json_unref(l->op);
	g_clear_error(&l->error);
}

static void evacuation_clear(Evacuation *e)
{
	g_array_unref(e->guest);
	json_unref(e->plan);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Evacuation, evacuation_clear)

static const char *name_of(const Leaving *l)
{
	return json_str(json_obj(l->guest, "vm"), "name");
}

static const Json *target_of(const Leaving *l)
{
	return json_obj(l->guest, "to");
}

static Leaving *leaving_at(const Evacuation *e, guint i)
{
	return &g_array_index(e->guest, Leaving, i);
}

static bool plan_all(Evacuation *e, const char *host, bool back, GError **err)
{
	g_autofree char *rest = g_strdup_printf("/evacuation?back=%s&disks=%s", back ? "true" : "false",
						cli_has(e->cli, "disks") ? "true" : "false"),
			*path = cli_path("hosts", host, rest);
	Json *guests, *guest;
	size_t i;

	e->plan = client_call(e->cli->client, "GET", path, NULL, err);
	guests = json_arr(e->plan, "guests");
	json_array_foreach(guests, i, guest)
	{
		Leaving l = { .guest = guest };

		g_array_append_val(e->guest, l);
	}
	return e->plan != NULL;
}

/* Names those that can't leave. */
static void print_evacuation(const Evacuation *e)
{
	for (guint i = 0; i < e->guest->len; i++) {
		const Leaving *l = leaving_at(e, i);
		Json *moves = json_arr(l->guest, "moves"), *m;
		size_t k;

		if (target_of(l) != NULL) {
			printf("%s: to %s\n", name_of(l), json_str(target_of(l), "name"));
			continue;
		}
		printf("%s: can't move\n", name_of(l));
		json_array_foreach(moves, k, m) if (!json_bool(m, "current", false)) print_move(m);
	}
}

static void begin_move(Evacuation *e, Leaving *l)
{
	g_autofree char *path = cli_path("vms", json_str(json_obj(l->guest, "vm"), "id"), "/actions/migrate");
	_cleanup_json_ Json *body = options(e->cli, &l->error);

	if (body == NULL)
		return;
	json_put_str(body, "host", json_str(target_of(l), "id"));
	l->op = client_call(e->cli->client, "POST", path, body, &l->error);
}

static void end_move(Evacuation *e, Leaving *l)
{
	_cleanup_json_ Json *end = NULL;
	g_autofree char *line = NULL;

	if (l->op != NULL && cli_follow(e->cli, l->op, &end, &l->error)) {
		line = moved_line(name_of(l), end);
		printf("%s\n", line);
	} else if (l->error != NULL) {
		fprintf(stderr, "%s did not move: %s\n", name_of(l), l->error->message);
	}
}

/* So many at once: the next one begins when the oldest has ended. */
static guint move_all(Evacuation *e, guint parallel)
{
	guint failed = 0, begun = 0;

	for (guint i = 0; i < e->guest->len; i++) {
		Leaving *l = leaving_at(e, i);

		for (; begun < e->guest->len && begun < i + parallel; begun++)
			if (target_of(leaving_at(e, begun)) != NULL)
				begin_move(e, leaving_at(e, begun));
		if (target_of(l) == NULL)
			continue;
		end_move(e, l);
		failed += l->error != NULL;
	}
	return failed;
}

static bool carry_out(Evacuation *e, GError **err)
{
	guint stuck = (guint)json_uint(e->plan, "stuck", 0);
	uint64_t parallel = PARALLEL;
	guint failed;

	if (cli_text(e->cli, "parallel") != NULL &&
	    !parse_uint(cli_text(e->cli, "parallel"), 1, PARALLEL_MAX, &parallel, err))
		return false;
	if (stuck > 0 && !cli_has(e->cli, "partial"))
		return fail_advice(err, ERR_CONFLICT,
				   "Remove what is in the way, or move the others with --partial.",
				   "%u of %u guests can't move; nothing was moved", stuck, e->guest->len);
	failed = move_all(e, (guint)parallel);
	return failed + stuck == 0 ||
	       fail(err, ERR_CONFLICT, "%u of %u guests did not move", failed + stuck, e->guest->len);
}

static bool host_evacuate(Cli *c, GError **err)
{
	bool back = cli_has(c, "return");
	g_auto(Evacuation) e = { .cli = c, .guest = g_array_new(FALSE, FALSE, sizeof(Leaving)) };

	g_array_set_clear_func(e.guest, leaving_clear);
	if (!plan_all(&e, cli_arg(c, 0), back, err))
		return false;
	if (cli_has(c, "dry-run") && cli_text(c, "output") != NULL)
		return output_object(c, e.plan, err);
	print_evacuation(&e);
	if (e.guest->len == 0)
		printf(back ? "no guest was moved away from %s\n" : "no guest runs on %s\n",
		       json_str(json_obj(e.plan, "host"), "name"));
	return cli_has(c, "dry-run") || carry_out(&e, err);
}

#define MOVE_OPTIONS                                                                                                      \
	{ "bandwidth", 0, OPTION_TEXT, "SIZE",                                                                            \
	  "Send no more than this in a second; all there is when left out" },                                             \
	    { "downtime", 0, OPTION_TEXT, "DURATION",                                                                     \
	      "How long the guest may stand still while the last memory is copied (300ms)" },                             \
	    { "deadline", 0, OPTION_TEXT, "DURATION",                                                                     \
	      "Give up, and leave the guest where it is, after this" },                                                   \
	    { "disks", 0, OPTION_FLAG, NULL,                                                                              \
	      "Disks that are no volumes move along, too: to the same path there; they are removed here" },               \
	    { "no-auto-converge", 0, OPTION_FLAG, NULL,                                                                   \
	      "Do not slow the vcpus of a guest that writes faster than can be sent" },                                   \
	{                                                                                                                 \
		"post-copy", 0, OPTION_FLAG, NULL,                                                                        \
		    "As the last means, let memory follow the guest; if a host or the link fails then, the guest is lost" \
	}

static const Option migrate_options[] = { MOVE_OPTIONS, { 0 } };
static const Option explain_options[] = {
	{ "to", 0, OPTION_TEXT, "HOST", "Only this host" },
	{ "disks", 0, OPTION_FLAG, NULL, "As for a move with --disks" },
	{ 0 },
};
static const Option evacuate_options[] = {
	{ "return", 0, OPTION_FLAG, NULL, "Bring back the guests whose last move was away from the host" },
	{ "partial", 0, OPTION_FLAG, NULL, "Move those that can, also when others can't" },
	{ "parallel", 0, OPTION_TEXT, "N", "Moves at the same time (2)" },
	MOVE_OPTIONS,
	{ 0 },
};

const Command move_commands[] = {
	{ "vm", "migrate", "NAME [HOST]", "Move a running guest to another host",
	  "Without HOST the one with the most free memory is taken, of those to which nothing blocks the way. "
	  "Volumes that only this host sees move along. Until the other host owns the guest it can be cancelled "
	  "at any moment, and whatever fails leaves it running where it is.",
	  "plim vm migrate web1 host2 --downtime 50ms", 1, 2, "vms", GROUP_CHANGE | GROUP_WAIT,
	  migrate_options, vm_migrate },
	{ "vm", "explain-move", "NAME", "Where a guest could move, and what is in the way elsewhere",
	  "Below each host stands everything that is in the way there, with the smallest change that removes it.",
	  "plim vm explain-move web1 --to host2", 1, 1, "vms", GROUP_OUTPUT, explain_options,
	  vm_explain_move },
	{ "host", "evacuate", "HOST", "Move all guests of a host elsewhere",
	  "All moves are planned first. If a guest can't leave, it is named with the reasons and nothing is "
	  "moved.",
	  "plim host evacuate host1 --dry-run", 1, 1, "hosts", GROUP_CHANGE | GROUP_WAIT | GROUP_OUTPUT,
	  evacuate_options, host_evacuate },
	{ 0 },
};
