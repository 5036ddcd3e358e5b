/* SPDX-License-Identifier: Apache-2.0 */
/* plim soak: round trips under watch until all are made, the first deviation, or Ctrl-C. */
#include "cli/soak.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "cli/nouns.h"
#include "cli/output.h"
#include "cli/progress.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000)
#define MS UINT64_C(1000)
#define COUNT 100
#define COUNT_MAX 10000000
#define PAUSE_MAX (200 * MS)
#define MARGIN (1 * SECOND)
#define CANCEL 5
#define CANCEL_MAX (100 * MS)
/* Between two looks at the same guest. */
#define LOOK_AGAIN (50 * MS)
/* For a sign of life after a move; also for the rest of the guest on the other side to go. */
#define PATIENCE (60 * SECOND)
#define EXIT_INTERRUPTED 130

static void soak_clear(Soak *s)
{
	for (size_t i = 0; i < SOAK_HOSTS_MAX; i++) {
		g_free(s->host[i].id);
		g_free(s->host[i].name);
	}
	g_ptr_array_unref(s->guest);
	soak_flow_close(s->flow);
	histogram_free(s->downtime);
	histogram_free(s->total);
	json_unref(s->deviation);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Soak, soak_clear)

static void guest_free(gpointer p)
{
	SoakGuest *g = p;

	g_free(g->id);
	g_free(g->name);
	json_unref(g->op);
	g_free(g);
}

/* ---- before it begins ---- */

static bool add_host(Soak *s, const char *name, GError **err)
{
	g_autofree char *path = cli_path("hosts", name, NULL);
	_cleanup_json_ Json *host = client_call(s->cli->client, "GET", path, NULL, err);
	const char *id = json_str(host, "id");

	if (host == NULL)
		return false;
	for (size_t i = 0; i < s->settings.n_hosts; i++)
		if (g_strcmp0(s->host[i].id, id) == 0)
			return fail(err, ERR_INVALID, "host '%s' is named twice", name);
	if (s->settings.n_hosts == SOAK_HOSTS_MAX)
		return fail(err, ERR_INVALID, "no more than %d hosts", SOAK_HOSTS_MAX);
	s->host[s->settings.n_hosts].id = g_strdup(id);
	s->host[s->settings.n_hosts++].name = g_strdup(json_str(host, "name"));
	return true;
}

static bool add_hosts(Soak *s, GError **err)
{
	const char *text = cli_text(s->cli, "between");
	g_auto(GStrv) name = g_strsplit(text != NULL ? text : "", ",", -1);

	for (char **n = name; *n != NULL; n++)
		if (!add_host(s, *n, err))
			return false;
	if (s->settings.n_hosts < 2)
		return fail_advice(err, ERR_INVALID, "For example: --between host1,host2.",
				   "--between needs two hosts or more");
	return true;
}

static bool fail_elsewhere(const SoakGuest *g, GError **err)
{
	return fail_advice(err, ERR_BAD_STATE,
			   "Name its host there, or move it first with `plim vm migrate`.",
			   "'%s' runs on none of the hosts of --between", g->name);
}

static bool place_guest(Soak *s, SoakGuest *g, const Json *runtime, GError **err)
{
	const char *host = json_str(runtime, "host"), *state = json_str(runtime, "state");

	if (g_strcmp0(state, "running") != 0)
		return fail_advice(err, ERR_BAD_STATE, "Start it first with `plim vm start`.",
				   "'%s' is %s; only a running guest can be watched", g->name, state);
	for (g->home = 0; g->home < s->settings.n_hosts; g->home++)
		if (g_strcmp0(s->host[g->home].id, host) == 0)
			break;
	g->at = g->home;
	return g->home < s->settings.n_hosts || fail_elsewhere(g, err);
}

static bool add_guest(Soak *s, const char *name, GError **err)
{
	g_autofree char *path = cli_path("vms", name, NULL);
	_cleanup_json_ Json *vm = client_call(s->cli->client, "GET", path, NULL, err);
	SoakGuest *g;

	if (vm == NULL)
		return false;
	for (guint i = 0; i < s->guest->len; i++)
		if (g_strcmp0(((SoakGuest *)s->guest->pdata[i])->id, json_str(vm, "id")) == 0)
			return fail(err, ERR_INVALID, "vm '%s' is named twice", name);
	g = g_new0(SoakGuest, 1);
	g->id = g_strdup(json_str(vm, "id"));
	g->name = g_strdup(json_str(vm, "name"));
	g->number = s->guest->len;
	g->state = SOAK_DONE;
	g_ptr_array_add(s->guest, g);
	return place_guest(s, g, json_obj(vm, "runtime"), err) && soak_watch_start(s, g, err);
}

static bool duration_of(const Cli *c, const char *option, uint64_t *ret, GError **err)
{
	return cli_text(c, option) == NULL || parse_duration(cli_text(c, option), ret, err);
}

static bool number_of(const Cli *c, const char *option, uint64_t min, uint64_t max, uint64_t *ret,
		      GError **err)
{
	return cli_text(c, option) == NULL || parse_uint(cli_text(c, option), min, max, ret, err);
}

static bool read_options(Soak *s, GError **err)
{
	uint64_t cancel = CANCEL;

	random_bytes(&s->settings.seed, sizeof s->settings.seed);
	s->settings.seed &= UINT32_MAX; /* people copy it */
	s->settings.pause_max = PAUSE_MAX;
	s->settings.cancel_max = CANCEL_MAX;
	s->count = COUNT;
	s->margin = MARGIN;
	if (!number_of(s->cli, "seed", 0, INT64_MAX, &s->settings.seed, err) ||
	    !number_of(s->cli, "count", 1, COUNT_MAX, &s->count, err) ||
	    !number_of(s->cli, "cancel", 0, 100, &cancel, err) ||
	    !duration_of(s->cli, "pause", &s->settings.pause_max, err) ||
	    !duration_of(s->cli, "margin", &s->margin, err))
		return false;
	s->settings.cancel = (unsigned)cancel;
	return true;
}

/* ---- the first deviation ---- */

static char *evidence_folder(const Soak *s, const SoakGuest *g)
{
	g_autofree char *now = time_stamp();

	if (cli_text(s->cli, "evidence") != NULL)
		return g_strdup(cli_text(s->cli, "evidence"));
	return g_strdup_printf("soak-%s-%s", g->name, now);
}

/* Takes `reasons`. */
static void deviate(Soak *s, const SoakGuest *g, Json *reasons)
{
	g_autofree char *folder = evidence_folder(s, g);
	g_autoptr(GError) e = NULL;

	s->ended = time_monotonic();
	s->deviation = json_object();
	json_put_str(s->deviation, "vm", g->name);
	json_put_uint(s->deviation, "trip", g->trip + 1);
	json_put_uint(s->deviation, "move", g->move + 1);
	json_put_str(s->deviation, "from", s->host[g->at].name);
	json_put_str(s->deviation, "to", s->host[g->way[g->move].host].name);
	json_put(s->deviation, "reasons", reasons);
	json_put_str(s->deviation, "evidence", folder);
	if (!soak_evidence_write(s, g, folder, &e)) {
		json_put_str(s->deviation, "evidence", NULL);
		fprintf(stderr, "plim: %s\n", e->message);
	}
}

static Json *one_reason(const char *check, const char *message)
{
	Json *list = json_array(), *j = json_object();

	json_put_str(j, "check", check);
	json_put_str(j, "message", message);
	json_array_append_new(list, j);
	return list;
}

/* Takes `more`. */
static void add_reasons(Json *list, Json *more)
{
	json_array_extend(list, more);
	json_unref(more);
}

/* ---- a guest, state by state ---- */

static void rest(SoakGuest *g)
{
	g->state = SOAK_REST;
	g->due = time_monotonic() + g->way[g->move].pause;
	g->deadline = g->due + PATIENCE;
	g->cancel = g->way[g->move].cancel;
}

static void begin_trip(Soak *s, SoakGuest *g)
{
	g->move = 0;
	g->n_moves = soak_trip(&s->settings, g->number, g->trip, g->home, g->way);
	rest(g);
}

/*
 * Somebody else does something with it, or the host begins nothing because it has lost touch with its pool's
 * etcd: that is no deviation, and will be over. False when it is not, and no daemon answers. Takes e.
 */
static bool begin_refused(Soak *s, SoakGuest *g, GError *e, GError **err)
{
	bool may_wait = e->code == ERR_BUSY || e->code == ERR_UNAVAILABLE;

	if (may_wait && time_monotonic() < g->deadline) {
		g->due = time_monotonic() + LOOK_AGAIN;
	} else if (e->code == ERR_UNAVAILABLE) {
		g_propagate_error(err, e);
		return false;
	} else {
		deviate(s, g, one_reason("move", e->message));
	}
	g_error_free(e);
	return true;
}

static bool begin_move(Soak *s, SoakGuest *g, GError **err)
{
	const struct soak_move *m = &g->way[g->move];
	g_autofree char *path = cli_path("vms", g->id, "/actions/migrate");
	_cleanup_json_ Json *body = json_object();
	g_autoptr(GError) e = NULL;
	Json *op;

	json_put_str(body, "host", s->host[m->host].id);
	op = client_call(s->cli->client, "POST", path, body, &e);
	if (op == NULL)
		return begin_refused(s, g, g_steal_pointer(&e), err);
	json_unref(g->op);
	g->op = op;
	g->state = SOAK_MOVE;
	g->due = time_monotonic() + LOOK_AGAIN;
	g->cancel_at = time_monotonic() + m->cancel_after;
	if (g->cancel)
		g->due = MIN(g->due, g->cancel_at);
	return true;
}

/* A move that is over already can't be cancelled; then it has simply been made. */
static void cancel_move(Soak *s, SoakGuest *g)
{
	g_autofree char *path = cli_path("operations", json_str(g->op, "id"), "/actions/cancel");
	_cleanup_json_ Json *answer = client_call(s->cli->client, "POST", path, NULL, NULL);

	g->cancel = false;
}

static void move_ended(Soak *s, SoakGuest *g)
{
	const char *status = json_str(g->op, "status");
	const Json *r = json_obj(g->op, "result");

	g->state = SOAK_LOOK;
	g->arrived = false;
	g->deadline = time_monotonic() + PATIENCE;
	if (g_str_equal(status, "cancelled")) {
		s->cancelled++;
		return;
	}
	if (!g_str_equal(status, "done")) {
		deviate(s, g, one_reason("move", json_str(json_obj(g->op, "error"), "message")));
		return;
	}
	g->at = g->way[g->move].host;
	g->downtime = json_uint(r, "downtime", 0);
	s->moves++;
	histogram_add(s->downtime, g->downtime);
	histogram_add(s->total, json_uint(r, "total", 0));
}

static bool watch_move(Soak *s, SoakGuest *g, GError **err)
{
	g_autofree char *path = cli_path("operations", json_str(g->op, "id"), NULL);
	Json *op;

	if (g->cancel && time_monotonic() >= g->cancel_at)
		cancel_move(s, g);
	op = client_call(s->cli->client, "GET", path, NULL, err);
	if (op == NULL)
		return false;
	json_unref(g->op);
	g->op = op;
	g->due = time_monotonic() + LOOK_AGAIN;
	if (json_str(op, "finished_at") != NULL)
		move_ended(s, g);
	return true;
}

/* As it must be: on to the next move, or the next trip. */
static void look_passed(Soak *s, SoakGuest *g, const struct soak_beat *now)
{
	bool arrived = g->at == g->way[g->move].host;

	g->beat = *now;
	g->downtime = 0;
	if (arrived && ++g->move == g->n_moves) {
		s->trips++;
		if (++g->trip == g->trips)
			g->state = SOAK_DONE;
		else
			begin_trip(s, g);
		return;
	}
	rest(g);
	if (!arrived) /* it was cancelled: now it is made */
		g->cancel = false;
}

static size_t count_running(const Json *seen)
{
	const Json *host, *p;
	size_t n = 0, i, k;

	json_array_foreach(seen, i, host) json_array_foreach(json_arr(host, "processes"), k, p) n +=
	    g_strcmp0(json_str(p, "status"), "running") == 0;
	return n;
}

static Json *no_life(const SoakGuest *g, const struct soak_beat *now, const GError *e)
{
	if (e == NULL && now->beat != g->beat.beat)
		return one_reason("flow", "nothing comes back over its TCP connection");
	return one_reason("heartbeat", e != NULL ? e->message : "there is no sign of life");
}

/*
 * It goes on since its move: by its heartbeat, and with a TCP connection by one message that went both
 * ways. The first that comes back over here may have been under way before.
 */
static bool lives(Soak *s, SoakGuest *g, struct soak_beat *now, GError **err)
{
	if (!soak_watch(s, g, now, err) || now->beat == g->beat.beat)
		return false;
	if (!g->arrived)
		g->flow = now->flow;
	g->arrived = true;
	return !now->flows || now->broken > 0 || now->flow > g->flow + 1;
}

/*
 * Nothing to complain of yet, but not what is waited for either, is an empty list with `ret_wait` set.
 * The guest is listened to first: as long as it is still, asking all hosts each time would only cost.
 */
static Json *look_reasons(Soak *s, SoakGuest *g, struct soak_beat *now, bool *ret_wait, GError **err)
{
	const struct soak_bounds bounds = { .downtime = g->downtime, .margin = s->margin };
	bool late = time_monotonic() >= g->deadline, alive;
	_cleanup_json_ Json *seen = NULL, *place = NULL;
	g_autoptr(GError) e = NULL;
	Json *reasons;

	alive = lives(s, g, now, &e);
	*ret_wait = !alive;
	if (!alive && !late)
		return json_array();
	seen = soak_hosts_look(s, g, err);
	if (seen == NULL)
		return NULL;
	place = soak_judge_hosts(seen, s->host[g->at].id);
	if (json_array_size(place) > 0 && (late || count_running(seen) > 1))
		return json_ref(place);
	*ret_wait = json_array_size(place) > 0;
	if (!alive)
		return no_life(g, now, e);
	if (*ret_wait)
		return json_array();
	reasons = soak_judge(&g->beat, now, &bounds);
	g_clear_error(&e);
	if (cli_text(s->cli, "check") != NULL && !soak_run_check(s, g, cli_text(s->cli, "check"), &e))
		add_reasons(reasons, one_reason("check", e->message));
	return reasons;
}

static bool look(Soak *s, SoakGuest *g, GError **err)
{
	struct soak_beat now = { 0 };
	bool wait;
	_cleanup_json_ Json *reasons = look_reasons(s, g, &now, &wait, err);

	if (reasons == NULL)
		return false;
	g->due = time_monotonic() + LOOK_AGAIN;
	if (json_array_size(reasons) > 0)
		deviate(s, g, json_ref(reasons));
	else if (!wait)
		look_passed(s, g, &now);
	return true;
}

static bool step(Soak *s, SoakGuest *g, GError **err)
{
	if (g->state == SOAK_DONE || time_monotonic() < g->due)
		return true;
	switch (g->state) {
	case SOAK_REST:
		return begin_move(s, g, err);
	case SOAK_MOVE:
		return watch_move(s, g, err);
	case SOAK_LOOK:
		return look(s, g, err);
	case SOAK_DONE:
		return true;
	}
	g_assert_not_reached();
}

/* ---- all of them ---- */

static bool all_done(const Soak *s)
{
	for (guint i = 0; i < s->guest->len; i++)
		if (((SoakGuest *)s->guest->pdata[i])->state != SOAK_DONE)
			return false;
	return true;
}

/* On a terminal each trip is shown, elsewhere each tenth of them all. */
static void show(Progress *p, const Soak *s)
{
	uint64_t tenth = MAX(s->count / 10, 1);
	g_autofree char *stage =
	    isatty(STDERR_FILENO)
		? g_strdup_printf("%" PRIu64 " of %" PRIu64 " round trips, %" PRIu64 " moves", s->trips,
				  s->count, s->moves)
		: g_strdup_printf("%" PRIu64 " of %" PRIu64 " round trips", s->trips / tenth * tenth,
				  s->count);

	progress_show(p, stage, (int)(s->trips * 100 / s->count));
}

/* Until something is due, or the signal comes. */
static bool wait_for_signal(const Soak *s, int fd)
{
	uint64_t now = time_monotonic(), due = now + LOOK_AGAIN;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (guint i = 0; i < s->guest->len; i++) {
		const SoakGuest *g = s->guest->pdata[i];

		if (g->state != SOAK_DONE)
			due = MIN(due, g->due);
	}
	return poll(&p, 1, due > now ? (int)((due - now + MS - 1) / MS) : 0) > 0;
}

static bool go_round(Soak *s, int signal_fd, GError **err)
{
	Progress *p = progress_begin();
	bool ok = true;

	while (ok && s->deviation == NULL && !all_done(s) && !s->interrupted) {
		for (guint i = 0; ok && s->deviation == NULL && i < s->guest->len; i++)
			ok = step(s, s->guest->pdata[i], err);
		show(p, s);
		s->interrupted = wait_for_signal(s, signal_fd);
	}
	progress_end(p);
	return ok;
}

/* Moves that are under way are called off: every guest is left running where it is. */
static void call_off(Soak *s)
{
	uint64_t deadline = time_monotonic() + PATIENCE;

	for (guint i = 0; i < s->guest->len; i++) {
		SoakGuest *g = s->guest->pdata[i];
		g_autofree char *path = NULL;

		if (g->state != SOAK_MOVE)
			continue;
		cancel_move(s, g);
		path = cli_path("operations", json_str(g->op, "id"), "?wait=10");
		while (json_str(g->op, "finished_at") == NULL && time_monotonic() < deadline) {
			Json *op = client_call(s->cli->client, "GET", path, NULL, NULL);

			if (op == NULL)
				break;
			json_unref(g->op);
			g->op = op;
		}
	}
}

static int signals_open(GError **err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		fail_errno(err, errno, "can't wait for signals");
	return fd;
}

/* ---- the result ---- */

static const char *status_of(const Soak *s)
{
	return s->deviation != NULL ? "deviation" : s->interrupted ? "interrupted" : "done";
}

Json *soak_summary(Soak *s)
{
	Json *j = json_object(), *hosts = json_array(), *guests = json_array();

	for (size_t i = 0; i < s->settings.n_hosts; i++)
		json_array_append_new(hosts, json_string(s->host[i].name));
	for (guint i = 0; i < s->guest->len; i++) {
		const SoakGuest *g = s->guest->pdata[i];
		Json *one = json_object();

		json_put_str(one, "name", g->name);
		json_put_str(one, "host", s->host[g->at].name);
		json_put_str(one, "watched_by", g->agent ? "agent" : "console");
		json_put_uint(one, "trips", g->trip);
		json_put(one, "last", soak_beat_to_json(&g->beat));
		json_array_append_new(guests, one);
	}
	json_put_str(j, "status", status_of(s));
	json_put_uint(j, "seed", s->settings.seed);
	json_put_uint(j, "count", s->count);
	json_put(j, "hosts", hosts);
	json_put_uint(j, "trips", s->trips);
	json_put_uint(j, "moves", s->moves);
	json_put_uint(j, "cancelled", s->cancelled);
	json_put_uint(j, "elapsed", s->ended - s->began);
	json_put(j, "downtime", histogram_to_json(s->downtime));
	json_put(j, "total", histogram_to_json(s->total));
	json_put(j, "guests", guests);
	json_put(j, "deviation", s->deviation != NULL ? json_ref(s->deviation) : json_null());
	return j;
}

static void print_summary(const Soak *s)
{
	g_autofree char *took = print_duration(s->ended - s->began),
			*down = histogram_print(s->downtime, "Downtime"),
			*total = histogram_print(s->total, "Total time");

	printf("%s: %" PRIu64 " of %" PRIu64 " round trips by %u guests in %s: %" PRIu64 " moves, %" PRIu64
	       " cancelled on purpose; seed %" PRIu64 "\n%s%s",
	       status_of(s), s->trips, s->count, s->guest->len, took, s->moves, s->cancelled,
	       s->settings.seed, down, total);
}

static bool fail_deviation(const Soak *s, GError **err)
{
	const Json *first = json_array_get(json_arr(s->deviation, "reasons"), 0);

	fail(err, ERR_CONFLICT, "'%s' deviated in trip %" PRIu64 ", from %s to %s: %s",
	     json_str(s->deviation, "vm"), json_uint(s->deviation, "trip", 0), json_str(s->deviation, "from"),
	     json_str(s->deviation, "to"), json_str(first, "message"));
	return err_advise(
	    err,
	    "The guest stands still, as it was found. What was gathered is in '%s'; `--seed %" PRIu64
	    "` makes the same moves again.",
	    json_str(s->deviation, "evidence"), s->settings.seed);
}

static bool conclude(Soak *s, GError **err)
{
	_cleanup_json_ Json *j = soak_summary(s);

	if (cli_text(s->cli, "output") == NULL)
		print_summary(s);
	else if (!output_object(s->cli, j, err))
		return false;
	if (s->interrupted)
		s->cli->exit_status = EXIT_INTERRUPTED;
	return s->deviation == NULL || fail_deviation(s, err);
}

static void share_trips(Soak *s)
{
	for (guint i = 0; i < s->guest->len; i++) {
		SoakGuest *g = s->guest->pdata[i];

		g->trips = s->count / s->guest->len + (i < s->count % s->guest->len ? 1 : 0);
		if (g->trips > 0)
			begin_trip(s, g);
	}
}

static bool open_flow(Soak *s, GError **err)
{
	const char *address = cli_text(s->cli, "flow");

	s->flow = address != NULL ? soak_flow_open(address, err) : NULL;
	return address == NULL || s->flow != NULL;
}

static bool soak_migrate(Cli *c, GError **err)
{
	_cleanup_close_ int signal_fd = -EBADF;
	g_auto(Soak) s = { .cli = c,
			   .guest = g_ptr_array_new_with_free_func(guest_free),
			   .downtime = histogram_new(),
			   .total = histogram_new() };
	bool ok;

	if (!read_options(&s, err) || !add_hosts(&s, err) || !open_flow(&s, err))
		return false;
	for (char **name = c->args; *name != NULL; name++)
		if (!add_guest(&s, *name, err))
			return false;
	signal_fd = signals_open(err);
	if (signal_fd < 0)
		return false;
	share_trips(&s);
	s.began = time_monotonic();
	ok = go_round(&s, signal_fd, err);
	call_off(&s);
	s.ended = time_monotonic();
	return ok ? conclude(&s, err) : (print_summary(&s), false);
}

static const Option soak_options[] = {
	{ "between", 0, OPTION_TEXT, "HOST,HOST[,...]", "The hosts to go round between" },
	{ "count", 'c', OPTION_TEXT, "N", "Round trips in all, shared among the guests (100)" },
	{ "seed", 0, OPTION_TEXT, "N", "Make the moves of an earlier soak again; drawn when left out" },
	{ "evidence", 0, OPTION_TEXT, "DIR",
	  "A new folder for what is found at a deviation (soak-NAME-TIME)" },
	{ "check", 0, OPTION_TEXT, "COMMAND",
	  "Run this in the guest, by its agent, after each move; it must succeed" },
	{ "flow", 0, OPTION_TEXT, "ADDRESS",
	  "Have each guest hold a TCP connection to this address of this machine, through all moves" },
	{ "pause", 0, OPTION_TEXT, "DURATION", "The longest rest before a move (200ms)" },
	{ "cancel", 0, OPTION_TEXT, "PERCENT", "Moves that are cancelled under way and made again (5)" },
	{ "margin", 0, OPTION_TEXT, "DURATION",
	  "How much longer than its downtime a guest's clock may jump (1s)" },
	{ 0 },
};

const Command soak_commands[] = {
	{ "soak", "migrate", "VM...", "Move guests round and round under watch until something is wrong",
	  "Each guest must watch itself: the payload's job soak, or a guest with the agent. After every move it "
	  "must run on exactly one host, its heartbeat must go on, its clock must neither go back nor jump, its "
	  "memory and CPUID must be what they were. At the first deviation everything stops, the guest is paused "
	  "and what both hosts know goes into a folder. Ctrl-C leaves all guests running and prints what was "
	  "measured.",
	  "plim soak migrate test1 test2 --between host1,host2 --count 2000", 1, 1000, "vms", GROUP_OUTPUT,
	  soak_options, soak_migrate },
	{ 0 },
};
