/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/wake_probe.h"
#include "base/time.h"
#include "engine/qemu_threads.h"
#include "engine/vm_ops.h"
#include "engine/vmm_events.h"
#include "engine/wake_log.h"

#include <string.h>

/* All places of locks: those of timers may be the last of them. */
#define LOCKS_COMMAND "info sync-profile 5000"
#define BALLOON_PATH "/machine/peripheral/balloon"
/* For the end of a QEMU whose monitor was lost. */
#define END_TIMEOUT UINT64_C(5000000)

struct WakeProbe {
	Vmm *vmm;
	Json *could_not;
	WakeLog *log; /* NULL: it could not be had */
	char *version;
	bool profiling;
	bool has_hpet, has_ehci;
	/* the interval */
	uint64_t since, begin;
	GArray *thread;
	Tally *tally;
	bool full;
	bool has_kvm;
	uint64_t exits, halts;
	struct lock_counts locks;
	uint64_t calls, agent_calls;
	/* the guest itself */
	VmmEvents *events;
	uint64_t stopped; /* since when it stands still; 0: it runs */
	uint64_t stood;   /* how long it did in this interval, before that */
};

/* Of each count the first reason is kept. */
static void note(WakeProbe *p, const char *count, const char *reason)
{
	const Json *known;
	size_t i;

	json_array_foreach(p->could_not, i,
			   known) if (g_strcmp0(json_str(known, "count"), count) == 0) return;
	json_array_append_new(
	    p->could_not, json_pack("{s:s, s:o}", "count", count, "reason", json_text_or_escaped(reason)));
}

static Json *monitor_args(const char *line)
{
	return json_pack("{s:s}", "command-line", line);
}

/* What QEMU's human monitor says; NULL when it can't be asked. Caller frees. */
static char *monitor(Vmm *v, const char *line, GError **err)
{
	_cleanup_json_ Json *reply =
	    qmp_call(vmm_qmp(v), "human-monitor-command", monitor_args(line), 0, err);

	return g_strdup(json_string_value(reply));
}

static bool set_events(Vmm *v, bool on, GError **err)
{
	for (const char *const *e = tally_events; *e != NULL; e++) {
		Json *args =
		    json_pack("{s:s, s:b, s:b}", "name", *e, "enable", on, "ignore-unavailable", true);
		_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), "trace-event-set-state", args, 0, err);

		if (reply == NULL)
			return false;
	}
	return true;
}

bool wake_probe_switch_off(Vmm *v, GError **err)
{
	g_autofree char *said = NULL;

	if (!set_events(v, false, err) || !wake_log_off(vmm_qmp(v), err))
		return false;
	said = monitor(v, "sync-profile off", err);
	return said != NULL;
}

static void begin_trace(WakeProbe *p)
{
	g_autoptr(GError) e = NULL;

	p->log = wake_log_open(vmm_qmp(p->vmm), &e);
	if (p->log == NULL || !set_events(p->vmm, true, &e)) {
		note(p, "read", e->message);
		note(p, "write", e->message);
		set_events(p->vmm, false, NULL);
		p->log = wake_log_close(p->log);
	}
}

static void begin_profile(WakeProbe *p)
{
	_cleanup_json_ Json *v = qmp_call(vmm_qmp(p->vmm), "query-version", NULL, 0, NULL);
	const Json *n = json_obj(v, "qemu");
	g_autofree char *said = monitor(p->vmm, "sync-profile on", NULL);

	p->version = g_strdup_printf("%d.%d.%d", (int)json_int(n, "major", 0), (int)json_int(n, "minor", 0),
				     (int)json_int(n, "micro", 0));
	p->profiling = said != NULL && *g_strstrip(said) == '\0';
	if (!p->profiling)
		note(p, "timer", "this QEMU has no lock profiler, which counts timers");
}

static void look_at_devices(WakeProbe *p)
{
	g_autofree char *tree = monitor(p->vmm, "info qtree", NULL);

	p->has_hpet = tree != NULL && strstr(tree, "dev: hpet") != NULL;
	p->has_ehci = tree != NULL && strstr(tree, "-ehci") != NULL;
}

/* What QEMU told of the guest's being stopped and going on. It may have ended, too: others see to that. */
static void follow_guest(WakeProbe *p)
{
	for (;;) {
		g_auto(VmmEvent) ev = { 0 };

		if (!vmm_events_next(p->events, 0, &ev, NULL) || ev.name == NULL)
			return;
		if (g_str_equal(ev.name, "STOP") && p->stopped == 0) {
			p->stopped = ev.at;
		} else if (g_str_equal(ev.name, "RESUME") && p->stopped != 0) {
			p->stood += ev.at - MIN(ev.at, MAX(p->stopped, p->begin));
			p->stopped = 0;
		}
	}
}

static uint64_t stood_still(WakeProbe *p, uint64_t now)
{
	follow_guest(p);
	return p->stood + (p->stopped != 0 ? now - MIN(now, MAX(p->stopped, p->begin)) : 0);
}

/* Events come from now on only. */
static void look_at_guest(WakeProbe *p)
{
	g_autofree char *status = NULL;

	p->events = vmm_events_open(p->vmm);
	status = vm_status(p->vmm, NULL);
	if (status != NULL && !g_str_equal(status, "running"))
		p->stopped = time_monotonic();
}

WakeProbe *wake_probe_begin(Vmm *v, Json *could_not)
{
	WakeProbe *p = g_new0(WakeProbe, 1);

	p->vmm = vmm_ref(v);
	p->could_not = could_not;
	p->tally = tally_new();
	look_at_guest(p);
	look_at_devices(p);
	begin_profile(p);
	begin_trace(p);
	return p;
}

/*
 * What QEMU tells
 */

/* Sums of all vcpus. False when this QEMU counts none: no KVM, or none for it. */
static bool sum_kvm(const Json *reply, uint64_t *ret_exits, uint64_t *ret_halts)
{
	const Json *vcpu, *stat;
	bool found = false;
	size_t i, k;

	*ret_exits = *ret_halts = 0;
	json_array_foreach((Json *)reply, i, vcpu) json_array_foreach(json_arr(vcpu, "stats"), k, stat)
	{
		const char *name = json_str(stat, "name");
		bool exits = g_strcmp0(name, "exits") == 0, halts = g_strcmp0(name, "halt_exits") == 0;

		if (exits || halts)
			*(exits ? ret_exits : ret_halts) += json_uint(stat, "value", 0);
		found |= exits;
	}
	return found;
}

struct answers {
	bool has_kvm;
	uint64_t exits, halts;
	bool has_locks;
	struct lock_counts locks;
	unsigned display_clients;
	uint64_t balloon_interval;
};

enum { ASK_STATS, ASK_LOCKS, ASK_VNC, ASK_BALLOON, N_ASKS };

static void read_locks(WakeProbe *p, const struct qmp_ask *a, struct answers *ret)
{
	const char *table = json_string_value(a->reply);

	if (!p->profiling)
		return;
	if (table == NULL) {
		note(p, "timer", a->error != NULL ? a->error->message : "QEMU did not answer");
		return;
	}
	lock_counts_parse(&ret->locks, table, p->version);
	ret->has_locks = true;
	if (!ret->locks.has_timers) {
		g_autofree char *why =
		    g_strdup_printf("where QEMU %s counts its timers is not known", p->version);

		note(p, "timer", why);
	}
}

/* Of all VNC servers, also of one that listens nowhere and is given its clients. */
static unsigned viewers_of(const Json *servers)
{
	const Json *server;
	size_t i, n = 0;

	json_array_foreach((Json *)servers, i, server) n += json_array_size(json_arr(server, "clients"));
	return (unsigned)n;
}

static void read_answers(WakeProbe *p, const struct qmp_ask *a, struct answers *ret)
{
	ret->has_kvm = a[ASK_STATS].reply != NULL && sum_kvm(a[ASK_STATS].reply, &ret->exits, &ret->halts);
	if (!ret->has_kvm) {
		const char *why = a[ASK_STATS].error != NULL ? a[ASK_STATS].error->message
							     : "the guest does not run under KVM";

		note(p, "exits", why);
		note(p, "halts", why);
	}
	read_locks(p, &a[ASK_LOCKS], ret);
	ret->display_clients = viewers_of(a[ASK_VNC].reply);
	if (json_is_integer(a[ASK_BALLOON].reply) && json_integer_value(a[ASK_BALLOON].reply) > 0)
		ret->balloon_interval = (uint64_t)json_integer_value(a[ASK_BALLOON].reply);
}

/* One that is told to quit leaves its monitor first, and ends a moment later. */
static bool has_ended(const WakeProbe *p, const struct qmp_ask *a)
{
	bool lost = false;

	for (size_t i = 0; i < N_ASKS; i++)
		lost |= g_error_matches(a[i].error, ERR, ERR_GONE) ||
			g_error_matches(a[i].error, ERR, ERR_UNAVAILABLE);
	return lost && vmm_wait(p->vmm, END_TIMEOUT, NULL);
}

/* In one go, so that QEMU is woken once. False: it has ended, which is no reason why something can't be
 * counted. */
static bool ask(WakeProbe *p, struct answers *ret)
{
	struct qmp_ask a[N_ASKS] = {
		[ASK_STATS] = { .command = "query-stats", .args = json_pack("{s:s}", "target", "vcpu") },
		[ASK_LOCKS] = { .command = "human-monitor-command", .args = monitor_args(LOCKS_COMMAND) },
		[ASK_VNC] = { .command = "query-vnc-servers" },
		[ASK_BALLOON] = { .command = "qom-get",
				  .args = json_pack("{s:s, s:s}", "path", BALLOON_PATH, "property",
						    "guest-stats-polling-interval") },
	};

	bool ended;

	*ret = (struct answers){ 0 };
	qmp_call_all(vmm_qmp(p->vmm), a, N_ASKS, 0);
	ended = has_ended(p, a);
	if (!ended)
		read_answers(p, a, ret);
	for (size_t i = 0; i < N_ASKS; i++)
		qmp_ask_clear(&a[i]);
	return !ended;
}

static uint64_t agent_calls_of(Vmm *v)
{
	Agent *a = vmm_agent(v);

	return a != NULL ? agent_calls(a) : 0;
}

static void read_threads(WakeProbe *p)
{
	g_autoptr(GError) e = NULL;

	g_clear_pointer(&p->thread, g_array_unref);
	p->thread = qemu_threads_read(vmm_pid(p->vmm), &e);
	if (p->thread == NULL && e->code == ERR_UNSUPPORTED) {
		note(p, "wakeups", e->message);
		note(p, "cpu", e->message);
	}
}

void wake_probe_mark(WakeProbe *p, uint64_t since)
{
	g_autoptr(Tally) before = tally_new();
	struct answers now;

	ask(p, &now);
	p->has_kvm = now.has_kvm;
	p->exits = now.exits;
	p->halts = now.halts;
	p->locks = now.locks;
	follow_guest(p);
	p->stood = 0;
	p->since = since;
	p->full = false;
	tally_free(p->tally);
	p->tally = tally_new();
	if (p->log != NULL)
		wake_log_take(p->log, before);
	p->agent_calls = agent_calls_of(p->vmm);
	p->calls = qmp_calls(vmm_qmp(p->vmm));
	p->begin = time_monotonic();
	read_threads(p);
}

void wake_probe_tick(WakeProbe *p)
{
	follow_guest(p);
	if (p->log != NULL && wake_log_take(p->log, p->tally))
		p->full = true;
}

static uint64_t risen(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

static void settle_threads(WakeProbe *p, WakeInterval *w)
{
	g_autoptr(GArray) now = NULL;

	if (p->thread == NULL)
		return;
	now = qemu_threads_read(vmm_pid(p->vmm), NULL);
	if (now == NULL)
		return;
	g_array_unref(w->thread);
	w->thread = qemu_threads_between(p->thread, now);
	w->has_threads = true;
}

static void settle_kvm(const WakeProbe *p, const struct answers *now, WakeInterval *w)
{
	w->has_kvm = p->has_kvm && now->has_kvm;
	if (w->has_kvm) {
		w->exits = risen(p->exits, now->exits);
		w->halts = risen(p->halts, now->halts);
	}
}

static struct wake_facts facts_of(const WakeProbe *p, const struct answers *now)
{
	return (struct wake_facts){
		.has_locks = now->has_locks,
		.locks = { .timers = risen(p->locks.timers, now->locks.timers),
			   .accesses = risen(p->locks.accesses, now->locks.accesses),
			   .has_timers = now->locks.has_timers },
		.display_clients = now->display_clients,
		.has_hpet = p->has_hpet,
		.has_ehci = p->has_ehci,
		.balloon_interval = now->balloon_interval,
		.log_full = p->full,
	};
}

WakeInterval *wake_probe_interval(WakeProbe *p, bool *ret_gone)
{
	g_autoptr(WakeInterval) w = wake_interval_new();
	uint64_t calls = qmp_calls(vmm_qmp(p->vmm)) - p->calls,
		 asked = agent_calls_of(p->vmm) - p->agent_calls;
	struct wake_facts f;
	struct answers now = { 0 };

	settle_threads(p, w);
	wake_probe_tick(p);
	w->start = p->since;
	w->duration = time_monotonic() - p->begin;
	w->paused = MIN(stood_still(p, p->begin + w->duration), w->duration);
	*ret_gone = !vmm_alive(p->vmm) || !ask(p, &now);
	settle_kvm(p, &now, w);
	f = facts_of(p, &now);
	f.qmp_calls = calls;
	f.agent_calls = asked;
	wake_interval_settle(w, p->tally, &f);
	w->has_accesses = p->log != NULL;
	return g_steal_pointer(&w);
}

WakeProbe *wake_probe_end(WakeProbe *p)
{
	if (p == NULL)
		return NULL;
	if (vmm_alive(p->vmm))
		wake_probe_switch_off(p->vmm, NULL);
	wake_log_close(p->log);
	vmm_events_close(p->events);
	tally_free(p->tally);
	g_clear_pointer(&p->thread, g_array_unref);
	vmm_unref(p->vmm);
	g_free(p->version);
	g_free(p);
	return NULL;
}
