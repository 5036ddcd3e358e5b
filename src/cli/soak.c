/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plim soak migrate: guests move to and fro, and after every move it is looked
 * at whether they noticed. What happens follows from a seed.
 */
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "cli/nouns.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COUNT_MAX 1000000
/* A guest that tells of itself does so once a second; so often it is waited for. */
#define WAIT_EVERY 10
#define WAIT_FOR (UINT64_C(30) * 1000000)
#define LOOK 100000

typedef struct Guest {
	const char *name;
	uint64_t told; /* lines of the payload seen so far on the host where it is */
	uint64_t ns;   /* its own clock in the last of them */
	char *host;    /* id */
} Guest;

typedef struct Soak {
	Cli *cli;
	Guest *guest;
	guint n_guests;
	GStrv host;    /* names */
	GPtrArray *id; /* their ids */
	GRand *rand;
	uint64_t count, seed;
	GArray *downtime; /* uint64_t, us */
	Json *last;       /* the last operation */
} Soak;

static void soak_clear(Soak *s)
{
	for (guint i = 0; i < s->n_guests; i++)
		g_free(s->guest[i].host);
	g_free(s->guest);
	g_strfreev(s->host);
	g_ptr_array_unref(s->id);
	if (s->rand != NULL)
		g_rand_free(s->rand);
	g_array_unref(s->downtime);
	json_unref(s->last);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Soak, soak_clear)

/* ---- what the guest says ---- */

/* A payload's line "dirty PAGES NS BAD": every page it writes is checked first. */
static bool read_line(Guest *g, const char *line, GError **err)
{
	uint64_t pages, ns, bad;

	if (g_str_has_prefix(line, "error "))
		return fail(err, ERR_CONFLICT, "%s says: %s", g->name, line);
	if (sscanf(line, "dirty %" SCNu64 " %" SCNu64 " %" SCNu64, &pages, &ns, &bad) != 3)
		return true;
	if (bad != 0)
		return fail(err, ERR_CONFLICT, "%s lost what it wrote to %" PRIu64 " pages", g->name, bad);
	if (ns < g->ns)
		return fail(err, ERR_CONFLICT, "the clock of %s went back: %" PRIu64 " ns after %" PRIu64,
			    g->name, ns, g->ns);
	g->ns = ns;
	g->told++;
	return true;
}

static bool read_console(Soak *s, Guest *g, GError **err)
{
	g_autofree char *path = cli_path("vms", g->name, "/console/log?port=serial");
	g_autoptr(GBytes) bytes = client_fetch(s->cli->client, path, NULL);
	g_auto(GStrv) line = NULL;
	g_autofree char *text = NULL;
	gsize len;
	const char *data;

	if (bytes == NULL) /* it has no such console */
		return true;
	data = g_bytes_get_data(bytes, &len);
	text = g_strndup(data, len);
	line = g_strsplit(text, "\n", -1);
	g->told = 0;
	g->ns = 0;
	for (char **l = line; *l != NULL && l[1] != NULL; l++)
		if (!read_line(g, g_strchomp(*l), err))
			return false;
	return true;
}

/* Whether it has told anything since it came: it lives. Guests that tell nothing are only looked at. */
static bool wait_life(Soak *s, Guest *g, GError **err)
{
	uint64_t until = time_monotonic() + WAIT_FOR, before;

	if (!read_console(s, g, err))
		return false;
	before = g->told;
	if (!cli_has(s->cli, "payload"))
		return true;
	while (g->told <= before) {
		if (time_monotonic() > until)
			return fail(err, ERR_TIMEOUT, "%s shows no sign of life", g->name);
		g_usleep(LOOK);
		if (!read_console(s, g, err))
			return false;
	}
	return true;
}

static bool run_check(Soak *s, const Guest *g, GError **err)
{
	const char *check = cli_text(s->cli, "check");
	g_autofree char *path = cli_path("vms", g->name, "/agent/exec");
	_cleanup_json_ Json *body = NULL, *answer = NULL;

	if (check == NULL)
		return true;
	body = json_pack("{s:[s,s,s]}", "command", "/bin/sh", "-c", check);
	answer = client_call(s->cli->client, "POST", path, body, err);
	if (answer == NULL || json_int(answer, "exitcode", -1) == 0)
		return answer != NULL;
	return fail(err, ERR_CONFLICT, "the check in %s ended with %d: %s", g->name,
		    (int)json_int(answer, "exitcode", -1), json_str(answer, "stderr"));
}

/* ---- one move ---- */

static bool look_at_record(Soak *s, Guest *g, const char *host_id, GError **err)
{
	g_autofree char *path = cli_path("vms", g->name, NULL);
	_cleanup_json_ Json *vm = client_call(s->cli->client, "GET", path, NULL, err);
	const Json *runtime = json_obj(vm, "runtime");

	if (vm == NULL)
		return false;
	if (g_strcmp0(json_str(runtime, "state"), "running") != 0)
		return fail(err, ERR_CONFLICT, "%s is %s: %s", g->name, json_str(runtime, "state"),
			    json_str(runtime, "reason"));
	if (host_id != NULL && g_strcmp0(json_str(runtime, "host"), host_id) != 0)
		return fail(err, ERR_CONFLICT, "%s is not where it was moved to", g->name);
	g_free(g->host);
	g->host = g_strdup(json_str(runtime, "host"));
	return true;
}

/* Any of the hosts but the one where it is. */
static guint draw_host(Soak *s, const Guest *g)
{
	guint i;

	do
		i = (guint)g_rand_int_range(s->rand, 0, (gint32)s->id->len);
	while (g_strcmp0(s->id->pdata[i], g->host) == 0);
	return i;
}

static bool move(Soak *s, Guest *g, guint to, GError **err)
{
	g_autofree char *path = cli_path("vms", g->name, "/actions/migrate?wait=60");
	_cleanup_json_ Json *body = json_pack("{s:s}", "host", s->host[to]), *op = NULL;
	uint64_t down;

	op = client_call(s->cli->client, "POST", path, body, err);
	json_unref(s->last);
	s->last = json_ref(op);
	if (op == NULL)
		return false;
	if (g_strcmp0(json_str(op, "status"), "done") != 0) {
		const Json *error = json_obj(op, "error");

		if (error == NULL)
			return fail(err, ERR_TIMEOUT, "the move of %s does not end", g->name);
		g_propagate_error(err, err_of_json(error));
		return false;
	}
	down = json_uint(json_obj(op, "result"), "downtime", 0);
	g_array_append_val(s->downtime, down);
	return look_at_record(s, g, s->id->pdata[to], err);
}

static bool one_move(Soak *s, uint64_t i, GError **err)
{
	Guest *g = &s->guest[g_rand_int_range(s->rand, 0, (gint32)s->n_guests)];
	guint to = draw_host(s, g);

	/* What it said since the last look stays behind with the host. */
	if (!read_console(s, g, err) || !move(s, g, to, err))
		return false;
	return (i % WAIT_EVERY == 0 ? wait_life(s, g, err) : read_console(s, g, err)) && run_check(s, g, err);
}

/* ---- evidence ---- */

static void keep(Soak *s, const char *dir, const char *name, const char *path)
{
	g_autofree char *file = g_build_filename(dir, name, NULL);
	g_autoptr(GBytes) bytes = client_fetch(s->cli->client, path, NULL);

	if (bytes != NULL)
		file_write_atomic(file, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), 0600, NULL);
}

static void keep_guest(Soak *s, const char *dir, const Guest *g)
{
	static const struct {
		const char *name, *rest;
	} part[] = { { "vm.json", "" },
		     { "qemu.log", "/log" },
		     { "console.log", "/console/log" },
		     { "serial.log", "/console/log?port=serial" },
		     { "screen.png", "/screenshot" },
		     { "moves.json", "/moves" } };

	for (size_t i = 0; i < G_N_ELEMENTS(part); i++) {
		g_autofree char *name = g_strdup_printf("%s.%s", g->name, part[i].name),
				*path = cli_path("vms", g->name, part[i].rest);

		keep(s, dir, name, path);
	}
}

static void keep_evidence(Soak *s, uint64_t i, const GError *why)
{
	g_autofree char *dflt = g_strdup_printf("soak-%" PRIu64 "-%" PRIu64, s->seed, i);
	const char *dir = cli_text(s->cli, "evidence") != NULL ? cli_text(s->cli, "evidence") : dflt;
	g_autofree char *file = g_build_filename(dir, "deviation.json", NULL), *text = NULL;
	_cleanup_json_ Json *j = json_object();

	if (!dir_make(dir, 0700, NULL))
		return;
	json_put_uint(j, "seed", s->seed);
	json_put_uint(j, "move", i);
	json_put(j, "error", err_to_json(why));
	json_put(j, "operation", s->last != NULL ? json_ref(s->last) : json_null());
	text = json_print_pretty(j);
	file_write_atomic(file, text, strlen(text), 0600, NULL);
	keep(s, dir, "events.json", "/v1/events?limit=1000");
	keep(s, dir, "operations.json", "/v1/operations");
	for (guint k = 0; k < s->n_guests; k++)
		keep_guest(s, dir, &s->guest[k]);
	fprintf(stderr, "move %" PRIu64 " of seed %" PRIu64 " went wrong; what there is to see is in %s\n", i,
		s->seed, dir);
}

/* ---- the result ---- */

static gint by_size(gconstpointer a, gconstpointer b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* A line for each power of two milliseconds. */
static void print_histogram(const GArray *us)
{
	uint64_t top = 1000;
	guint i = 0;

	while (i < us->len) {
		guint first = i;

		while (i < us->len && g_array_index(us, uint64_t, i) < top)
			i++;
		if (i > first) {
			g_autofree char *bar = g_strnfill(MAX((i - first) * 50 / us->len, 1), '#');

			printf("  below %6" PRIu64 " ms %7u %s\n", top / 1000, i - first, bar);
		}
		top *= 2;
	}
}

static void print_result(const Soak *s)
{
	guint n = s->downtime->len;

	printf("%u moves, seed %" PRIu64 "\n", n, s->seed);
	if (n == 0)
		return;
	g_array_sort(s->downtime, by_size);
	printf("downtime: median %.1f ms, 99 of 100 below %.1f ms, longest %.1f ms\n",
	       (double)g_array_index(s->downtime, uint64_t, n / 2) / 1000,
	       (double)g_array_index(s->downtime, uint64_t, (n - 1) * 99 / 100) / 1000,
	       (double)g_array_index(s->downtime, uint64_t, n - 1) / 1000);
	print_histogram(s->downtime);
}

/* ---- the command ---- */

static bool find_hosts(Soak *s, GError **err)
{
	const char *text = cli_text(s->cli, "between");

	if (text == NULL)
		return fail_advice(err, ERR_INVALID, "Write --between host1,host2.",
				   "between which hosts shall they move?");
	s->host = g_strsplit(text, ",", -1);
	for (char **h = s->host; *h != NULL; h++) {
		g_autofree char *path = cli_path("hosts", *h, NULL);
		_cleanup_json_ Json *host = client_call(s->cli->client, "GET", path, NULL, err);

		if (host == NULL)
			return false;
		g_ptr_array_add(s->id, g_strdup(json_str(host, "id")));
	}
	return s->id->len >= 2 || fail_advice(err, ERR_INVALID, "Write --between host1,host2.",
					      "one host is too few to move between");
}

static bool prepare(Soak *s, GError **err)
{
	random_bytes(&s->seed, sizeof s->seed);
	s->seed &= UINT32_MAX;
	s->count = 100;
	if ((cli_text(s->cli, "count") != NULL &&
	     !parse_uint(cli_text(s->cli, "count"), 1, COUNT_MAX, &s->count, err)) ||
	    (cli_text(s->cli, "seed") != NULL &&
	     !parse_uint(cli_text(s->cli, "seed"), 0, UINT32_MAX, &s->seed, err)) ||
	    !find_hosts(s, err))
		return false;
	s->rand = g_rand_new_with_seed((guint32)s->seed);
	s->n_guests = g_strv_length(s->cli->args);
	s->guest = g_new0(Guest, s->n_guests);
	for (guint i = 0; i < s->n_guests; i++) {
		s->guest[i].name = s->cli->args[i];
		if (!look_at_record(s, &s->guest[i], NULL, err))
			return false;
	}
	return true;
}

static bool soak_migrate(Cli *c, GError **err)
{
	g_auto(Soak) s = { .cli = c,
			   .id = g_ptr_array_new_with_free_func(g_free),
			   .downtime = g_array_new(FALSE, FALSE, sizeof(uint64_t)) };
	g_autoptr(GError) e = NULL;

	if (!prepare(&s, err))
		return false;
	for (uint64_t i = 1; i <= s.count && e == NULL; i++)
		if (!one_move(&s, i, &e))
			keep_evidence(&s, i, e);
	print_result(&s);
	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	else
		printf("no deviation\n");
	return *err == NULL;
}

static const Option soak_options[] = {
	{ "count", 0, OPTION_TEXT, "N", "How many moves (100)" },
	{ "between", 0, OPTION_TEXT, "HOST,HOST,...", "The hosts" },
	{ "seed", 0, OPTION_TEXT, "N", "Choose guests and hosts as a soak before did; drawn when left out" },
	{ "payload", 0, OPTION_FLAG, NULL,
	  "The guests are payloads that write to memory: each must tell of itself again after every tenth move" },
	{ "check", 0, OPTION_TEXT, "COMMAND",
	  "Run this in the guest, by its agent, after each move; it must succeed" },
	{ "evidence", 0, OPTION_TEXT, "FOLDER",
	  "Where to keep what there is to see when something went wrong" },
	{ 0 },
};

const Command soak_commands[] = {
	{ "soak", "migrate", "VM...", "Move guests to and fro, and stop when one of them noticed",
	  "After each move the vm's record must say that it runs where it was moved to, and its serial console must "
	  "not tell of an error. A payload guest (docs/payload.md, job dirty) checks all memory that it writes, and "
	  "its clock. The same seed makes the same moves.",
	  "plim soak migrate web1 web2 --count 200 --between host1,host2 --check 'sha256sum -c /root/sums'",
	  1, 1000, "vms", 0, soak_options, soak_migrate },
	{ 0 },
};
