/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plim tools rollout: guest after guest, wave after wave, until all are done or
 * one is not as it must be. It is driven from here and keeps nothing: what was
 * done shows in the guests, so a rollout that ended early is taken up by the same
 * command.
 */
#include "base/str.h"
#include "base/time.h"
#include "cli/interrupt.h"
#include "cli/nouns.h"
#include "cli/output.h"
#include "cli/tools_disk.h"
#include "core/tools/rollout.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000)
#define TIMEOUT (300 * SECOND)
#define ANSWER_WITHIN (120 * SECOND)
#define FAILURES_MAX 100000
#define LOOK_AGAIN (SECOND / 4)
#define OUTPUT_MAX 200
#define EXIT_INTERRUPTED 130

typedef struct Rollout {
	Cli *cli;
	struct rollout_options options;
	ToolsDisk disk;
	uint64_t timeout, answer_within, rest, max_failures;
	Json *plan;
	Json *done, *failed, *skipped, *not_begun; /* arrays of the result */
	bool aloud;                                /* tells each step as it goes */
} Rollout;

static void rollout_clear(Rollout *r)
{
	tools_disk_done(&r->disk);
	json_unref(r->plan);
	json_unref(r->done);
	json_unref(r->failed);
	json_unref(r->skipped);
	json_unref(r->not_begun);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Rollout, rollout_clear)

/* ---- before it begins ---- */

static bool duration_of(const Cli *c, const char *option, uint64_t *ret, GError **err)
{
	return cli_text(c, option) == NULL || parse_duration(cli_text(c, option), ret, err);
}

static bool read_options(Rollout *r, GError **err)
{
	const Cli *c = r->cli;
	const char *wave = cli_text(c, "wave"), *failures = cli_text(c, "max-failures");

	r->timeout = TIMEOUT;
	r->answer_within = ANSWER_WITHIN;
	r->options.version = cli_text(c, "version");
	r->options.command = cli_text(c, "command");
	r->options.disk = cli_text(c, "image") != NULL;
	r->aloud = cli_text(c, "output") == NULL;
	if (r->options.version != NULL && !rollout_reached(r->options.version, r->options.version))
		return fail_advice(err, ERR_INVALID,
				   "Write numbers with dots between them, as 7.2 or 109.0.2.",
				   "'%s' is no version", r->options.version);
	if (!rollout_wave_parse(wave != NULL ? wave : "10%", &r->options, err) ||
	    (failures != NULL && !parse_uint(failures, 0, FAILURES_MAX, &r->max_failures, err)) ||
	    !duration_of(c, "timeout", &r->timeout, err) ||
	    !duration_of(c, "answer-within", &r->answer_within, err) ||
	    !duration_of(c, "rest", &r->rest, err))
		return false;
	r->disk.timeout = r->timeout;
	r->disk.patience = r->answer_within;
	return tools_disk_init(&r->disk, r->cli, cli_text(c, "image"), err);
}

/* Who can't take the disk is left alone: the list of guests gets the reason, for the plan. */
static bool note_who_takes_no_disk(Rollout *r, const Json *plan, Json *guests, GError **err)
{
	const Json *wave, *g;
	size_t i, k;

	json_array_foreach(json_arr(plan, "waves"), i, wave) json_array_foreach((Json *)wave, k, g)
	{
		g_autoptr(GError) e = NULL;

		if (!json_bool(g, "disk", false) || tools_disk_check(&r->disk, json_str(g, "id"), &e))
			continue;
		if (e->code == ERR_UNAVAILABLE) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
		rollout_take_no_disk(guests, json_str(g, "id"), e->message);
	}
	return true;
}

static bool make_plan(Rollout *r, GError **err)
{
	g_autofree char *query = cli_list_query(r->cli), *path = g_strconcat("/v1/tools", query, NULL);
	_cleanup_json_ Json *guests = client_call(r->cli->client, "GET", path, NULL, err), *first = NULL;

	if (guests == NULL)
		return false;
	first = rollout_plan(guests, &r->options);
	if (!note_who_takes_no_disk(r, first, guests, err))
		return false;
	r->plan = rollout_plan(guests, &r->options);
	r->done = json_array();
	r->failed = json_array();
	r->not_begun = json_array();
	r->skipped = json_deep_copy(json_arr(r->plan, "skipped"));
	return true;
}

static void print_plan(const Json *plan)
{
	const Json *wave, *g;
	size_t i, k;

	json_array_foreach(json_arr(plan, "skipped"), i, g)
	    printf("%s: left alone, %s\n", json_str(g, "name"), json_str(g, "reason"));
	json_array_foreach(json_arr(plan, "waves"), i, wave)
	{
		printf("wave %zu of %zu\n", i + 1, json_array_size(json_arr(plan, "waves")));
		json_array_foreach((Json *)wave, k, g)
		    printf("  %s on %s: from %s to %s%s: %s\n", json_str(g, "name"), json_str(g, "host"),
			   json_str(g, "from"), json_str(g, "to"),
			   json_bool(g, "disk", false) ? ", with the disk" : "", json_str(g, "command"));
	}
	if (json_int(plan, "guests", 0) == 0)
		printf("no guest is to be upgraded\n");
}

/* ---- one guest ---- */

typedef enum Outcome { UPGRADED, FAILED, SKIPPED } Outcome;

/* What the agent says of itself now. New reference. */
static Json *look(Rollout *r, const Json *g, GError **err)
{
	g_autofree char *path = cli_path("vms", json_str(g, "id"), "/agent");

	return client_call(r->cli->client, "GET", path, NULL, err);
}

static Json *exec_body(const Rollout *r, const Json *g)
{
	Json *body = json_object();

	json_put(body, "command", rollout_words(g));
	json_put_uint(body, "timeout", r->timeout);
	return body;
}

/* A command's last line, for people. Caller frees. */
static char *last_line(const Json *answer)
{
	const char *err = json_str(answer, "stderr"), *out = json_str(answer, "stdout"),
		   *text = err != NULL && err[0] != '\0' ? err : out;
	g_autofree char *all = g_strstrip(g_strdup(text != NULL ? text : ""));
	const char *line = strrchr(all, '\n'), *from = line != NULL ? line + 1 : all;

	if (from[0] == '\0')
		return g_strdup("it said nothing; `journalctl -u plimsoll-tools` in the guest may");
	return g_utf8_substring(from, 0, MIN(g_utf8_strlen(from, -1), OUTPUT_MAX));
}

/*
 * The agent that runs it may be replaced while it does, and then nobody answers:
 * only the agent that comes after it can tell. `cut` gets what ended the call.
 */
static bool run_command(Rollout *r, const Json *g, GError **cut, GError **err)
{
	g_autofree char *path = cli_path("vms", json_str(g, "id"), "/agent/exec"), *said = NULL;
	_cleanup_json_ Json *body = exec_body(r, g), *answer = NULL;
	g_autoptr(GError) e = NULL;

	answer = client_call(r->cli->client, "POST", path, body, &e);
	if (answer != NULL && rollout_succeeded(g, json_int(answer, "exitcode", -1)))
		return true;
	if (answer != NULL) {
		said = last_line(answer);
		return fail(err, ERR_AGENT, "the command failed with %" PRIi64 ": %s",
			    json_int(answer, "exitcode", -1), said);
	}
	if (e->code == ERR_AGENT || e->code == ERR_UNAVAILABLE || e->code == ERR_CANCELLED) {
		g_propagate_error(cut, g_steal_pointer(&e));
		return true;
	}
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

static bool fail_gate(const Rollout *r, const Json *g, const Json *agent, const GError *why, GError **err)
{
	g_autofree char *time = print_duration(r->answer_within);
	const char *version = json_str(agent, "version");

	if (version != NULL)
		return fail(err, ERR_AGENT, "its agent is %s still after %s; %s was wanted", version, time,
			    json_str(g, "to"));
	return fail(err, ERR_AGENT, "its agent does not answer within %s%s%s", time, why != NULL ? ": " : "",
		    why != NULL ? why->message : "");
}

/* The health gate: the agent answers, and is what it should be. `ret` gets its version. */
static bool pass_gate(Rollout *r, const Json *g, uint64_t within, char **ret, GError **err)
{
	uint64_t deadline = time_monotonic() + within;

	for (;;) {
		g_autoptr(GError) e = NULL;
		_cleanup_json_ Json *agent = look(r, g, &e);
		const char *version = json_str(agent, "version");

		if (rollout_reached(version, json_str(g, "to"))) {
			*ret = g_strdup(version);
			return true;
		}
		if (time_monotonic() >= deadline)
			return fail_gate(r, g, agent, e, err);
		g_usleep(LOOK_AGAIN);
	}
}

/* Since the plan was made it may have been stopped, paused, moved away or upgraded. */
static bool is_ready(Rollout *r, const Json *g, GError **err)
{
	_cleanup_json_ Json *agent = look(r, g, err);
	const char *version = json_str(agent, "version");

	if (agent == NULL)
		return false;
	if (!json_bool(agent, "connected", false))
		return fail(err, ERR_AGENT, "its agent does not answer now");
	return !rollout_reached(version, json_str(g, "to")) ||
	       fail(err, ERR_CONFLICT, "its agent is %s already", version);
}

static Outcome run_and_look(Rollout *r, const Json *g, char **ret_version, GError **err)
{
	g_autoptr(GError) cut = NULL;

	if (!run_command(r, g, &cut, err))
		return FAILED;
	if (pass_gate(r, g, r->answer_within, ret_version, err))
		return UPGRADED;
	if (cut != NULL)
		g_prefix_error(err, "%s; then ", cut->message);
	return FAILED;
}

static Outcome with_disk(Rollout *r, const Json *g, char **ret_version, char **ret_left, GError **err)
{
	const char *id = json_str(g, "id");
	g_autoptr(GError) left = NULL;
	Outcome outcome = FAILED;

	if (tools_disk_insert(&r->disk, id, err))
		outcome = run_and_look(r, g, ret_version, err);
	/* Also when the insert was cut off: the daemon may have gone on with it. */
	if (!tools_disk_eject(&r->disk, id, &left))
		*ret_left = g_strdup(left->message);
	return outcome;
}

/* `ret_left`: why its disk is in it still. */
static Outcome upgrade(Rollout *r, const Json *g, char **ret_version, char **ret_left, GError **err)
{
	if (!is_ready(r, g, err))
		return SKIPPED;
	return json_bool(g, "disk", false) ? with_disk(r, g, ret_version, ret_left, err)
					   : run_and_look(r, g, ret_version, err);
}

/* ---- all of them ---- */

static Json *entry_of(const Json *g, const char *key, const char *value)
{
	Json *j = json_object();

	json_put_str(j, "name", json_str(g, "name"));
	json_put_str(j, key, value);
	return j;
}

static void tell(const Rollout *r, const Json *g, const char *what, const char *detail)
{
	if (!r->aloud)
		return;
	printf("%s: %s%s\n", json_str(g, "name"), what, detail);
	fflush(stdout);
}

static void take_done(Rollout *r, const Json *g, const char *version, const char *left, uint64_t took)
{
	Json *j = entry_of(g, "to", version);
	g_autofree char *time = print_duration(took), *what = NULL;

	json_put_str(j, "id", json_str(g, "id"));
	json_put_str(j, "from", json_str(g, "from"));
	json_put_uint(j, "took", took);
	json_put_str(j, "disk_left", left);
	json_array_append_new(r->done, j);
	what = g_strdup_printf("from %s to %s in %s", json_str(g, "from"), version, time);
	tell(r, g, what, "");
}

static void take_failed(Rollout *r, const Json *g, const char *reason, const char *left)
{
	Json *j = entry_of(g, "reason", reason);

	json_put_str(j, "disk_left", left);
	json_array_append_new(r->failed, j);
	tell(r, g, "failed: ", reason);
}

static void one_guest(Rollout *r, const Json *g)
{
	uint64_t began = time_monotonic();
	g_autoptr(GError) e = NULL;
	g_autofree char *version = NULL, *left = NULL;

	switch (upgrade(r, g, &version, &left, &e)) {
	case UPGRADED:
		take_done(r, g, version, left, time_monotonic() - began);
		break;
	case FAILED:
		take_failed(r, g, e->message, left);
		break;
	case SKIPPED:
		json_array_append_new(r->skipped, entry_of(g, "reason", e->message));
		tell(r, g, "left alone, ", e->message);
		break;
	}
	if (left != NULL)
		tell(r, g, "its disk of tools is in it still: ", left);
}

static bool goes_on(const Rollout *r)
{
	return json_array_size(r->failed) <= r->max_failures && !interrupt_came();
}

static bool is_done(const Rollout *r, const Json *g)
{
	const Json *x;
	size_t i;

	json_array_foreach(r->done, i,
			   x) if (g_strcmp0(json_str(x, "id"), json_str(g, "id")) == 0) return true;
	return false;
}

/* After its rest each guest of the wave that was upgraded must still answer so. */
static void rest_and_look(Rollout *r, const Json *wave)
{
	const Json *g;
	size_t i;

	interrupt_wait(r->rest);
	json_array_foreach((Json *)wave, i, g)
	{
		g_autoptr(GError) e = NULL;
		g_autofree char *version = NULL, *reason = NULL;

		if (interrupt_came() || !is_done(r, g) || pass_gate(r, g, r->answer_within, &version, &e))
			continue;
		reason = g_strconcat("after the rest of its wave ", e->message, NULL);
		take_failed(r, g, reason, NULL);
	}
}

static void go(Rollout *r)
{
	const Json *waves = json_arr(r->plan, "waves"), *wave, *g;
	size_t i, k;

	json_array_foreach((Json *)waves, i, wave)
	{
		if (r->aloud && goes_on(r))
			printf("wave %zu of %zu\n", i + 1, json_array_size(waves));
		json_array_foreach((Json *)wave, k, g)
		{
			if (goes_on(r))
				one_guest(r, g);
			else
				json_array_append_new(r->not_begun, json_string(json_str(g, "name")));
		}
		if (r->rest > 0 && goes_on(r))
			rest_and_look(r, wave);
	}
}

/* ---- the result ---- */

static const char *status_of(const Rollout *r)
{
	if (interrupt_came())
		return "interrupted";
	if (json_array_size(r->not_begun) > 0)
		return "stopped";
	return json_array_size(r->failed) > 0 ? "failed" : "done";
}

static Json *result_of(const Rollout *r)
{
	Json *j = json_object();

	json_put_str(j, "status", status_of(r));
	json_put_int(j, "guests", json_int(r->plan, "guests", 0));
	json_put(j, "done", json_ref(r->done));
	json_put(j, "failed", json_ref(r->failed));
	json_put(j, "skipped", json_ref(r->skipped));
	json_put(j, "not_begun", json_ref(r->not_begun));
	return j;
}

static void print_result(const Rollout *r)
{
	g_autofree char *left = print_strings(r->not_begun, NULL);

	printf("%s: %zu upgraded, %zu failed, %zu left alone, %zu not begun\n", status_of(r),
	       json_array_size(r->done), json_array_size(r->failed), json_array_size(r->skipped),
	       json_array_size(r->not_begun));
	if (json_array_size(r->not_begun) > 0)
		printf("not begun: %s\n", left);
}

static bool fail_rollout(const Rollout *r, GError **err)
{
	const Json *first = json_array_get(r->failed, 0);

	return fail_advice(
	    err, ERR_AGENT,
	    "Look into that guest first. The same command goes on with those that are not upgraded yet.",
	    "%zu of %" PRIi64 " guests failed; '%s': %s", json_array_size(r->failed),
	    json_int(r->plan, "guests", 0), json_str(first, "name"), json_str(first, "reason"));
}

static bool conclude(Rollout *r, GError **err)
{
	_cleanup_json_ Json *j = result_of(r);

	if (r->aloud)
		print_result(r);
	else if (!output_object(r->cli, j, err))
		return false;
	if (interrupt_came())
		r->cli->exit_status = EXIT_INTERRUPTED;
	return json_array_size(r->failed) == 0 || fail_rollout(r, err);
}

static bool tools_rollout(Cli *c, GError **err)
{
	g_auto(Rollout) r = { .cli = c };

	if (!read_options(&r, err) || !make_plan(&r, err))
		return false;
	if (cli_has(c, "dry-run") && !r.aloud)
		return output_object(c, r.plan, err);
	if (cli_has(c, "dry-run")) {
		print_plan(r.plan);
		return true;
	}
	interrupt_hold();
	go(&r);
	return conclude(&r, err);
}

static const Option rollout_options[] = {
	{ "wave", 0, OPTION_TEXT, "PART", "Guests of a wave: 10% of all, or so many (10%)" },
	{ "rest", 0, OPTION_TEXT, "DURATION", "Wait after each wave, then look at all its guests again (0)" },
	{ "max-failures", 0, OPTION_TEXT, "N", "Go on until more than so many have failed (0)" },
	{ "version", 0, OPTION_TEXT, "VERSION", "What they shall come to (what the host of each expects)" },
	{ "command", 0, OPTION_TEXT, "COMMAND", "Run this in each instead of its package manager" },
	{ "image", 0, OPTION_TEXT, "CD",
	  "The disk of tools, an image or a file as `plim vm cdrom insert` takes it: in each guest for the time" },
	{ "timeout", 0, OPTION_TEXT, "DURATION", "How long the command may take in one guest (5min)" },
	{ "answer-within", 0, OPTION_TEXT, "DURATION",
	  "How long after it the agent may take to answer with its new version (2min)" },
	{ 0 },
};

const Command rollout_commands[] = {
	{ "tools", "rollout", "",
	  "Upgrade the agents of guests in waves, and stop at the first that does not come back",
	  "Each guest's package manager is run through its agent, as a unit of its own where the guest has systemd. A guest "
	  "with Windows gets the disk of --image for the time and its setup is run; with --command every guest gets the "
	  "disk. Then the agent must answer again, with the version that is wanted; the next guest is begun only when it "
	  "does. Guests that are off, paused, without an agent, without room for the disk or current already are left "
	  "alone, and the reason is told. The command drives the rollout: when it ends, by an interrupt (^C) or otherwise, "
	  "no further guest is begun, and the same command goes on with those that are left.",
	  "plim tools rollout --wave 10% --filter os_type=linux --rest 10min --dry-run", 0, 0, NULL,
	  GROUP_OUTPUT | GROUP_LIST | GROUP_CHANGE, rollout_options, tools_rollout },
	{ 0 },
};
