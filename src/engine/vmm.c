/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/vmm-impl.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>

#define RETRY_FIRST UINT64_C(100000)
#define RETRY_LAST UINT64_C(10000000)
/* The kernel takes the memory of a large guest back first. */
#define KILL_TIMEOUT UINT64_C(10000000)
/* No wait is longer: sums must not overflow. */
#define TIMEOUT_MAX (UINT64_C(365) * 24 * 3600 * 1000000)

static const QmpHandler qmp_handler;

VmmHost *vmm_host_new(Loop *l, const SpawnUser *user, GError **err)
{
	LogKeeper *logs = log_keeper_new(l, err);
	VmmHost *h;

	if (logs == NULL)
		return NULL;
	h = g_new0(VmmHost, 1);
	h->loop = l;
	h->logs = logs;
	if (user != NULL) {
		h->change_user = true;
		h->user = *user;
	}
	return h;
}

VmmHost *vmm_host_free(VmmHost *h)
{
	if (h != NULL) {
		log_keeper_free(h->logs);
		g_free(h);
	}
	return NULL;
}

Vmm *vmm_new(VmmHost *h, const char *name, const char *uuid, const char *dir, const char *log_path, pid_t pid,
	     int pidfd, const VmmHandler *handler, void *data)
{
	Vmm *v = g_new0(Vmm, 1);

	v->refs = 1;
	v->host = h;
	v->name = g_strdup(name);
	v->uuid = g_strdup(uuid);
	v->dir = g_strdup(dir);
	v->log_path = g_strdup(log_path);
	v->handler = handler;
	v->data = data;
	v->pid = pid;
	v->pidfd = pidfd;
	v->qmp = qmp_new(h->loop, &qmp_handler, v);
	v->retry_delay = RETRY_FIRST;
	v->log_watch = -1;
	v->listeners = g_ptr_array_new();
	g_mutex_init(&v->lock);
	g_cond_init(&v->changed);
	return v;
}

Vmm *vmm_ref(Vmm *v)
{
	g_atomic_int_inc(&v->refs);
	return v;
}

void vmm_unref(Vmm *v)
{
	if (v == NULL || !g_atomic_int_dec_and_test(&v->refs))
		return;
	/* The loop holds a reference while it watches. */
	g_assert(v->end_source == NULL && v->retry_source == NULL);
	qmp_unref(v->qmp);
	agent_unref(v->agent);
	vmm_exit_clear(&v->exit);
	g_ptr_array_unref(v->listeners);
	fd_closep(&v->pidfd);
	g_mutex_clear(&v->lock);
	g_cond_clear(&v->changed);
	g_free(v->name);
	g_free(v->uuid);
	g_free(v->dir);
	g_free(v->log_path);
	g_free(v->shutdown);
	g_free(v);
}

/*
 * Watching, in the order it happens. Loop thread.
 */

static VmmState state_of(Vmm *v)
{
	VmmState s;

	g_mutex_lock(&v->lock);
	s = v->state;
	g_mutex_unlock(&v->lock);
	return s;
}

/* The loop looks no more; the reference that it held is the caller's. `why`: as of qmp_close(). */
static void stop_watching(Vmm *v, const GError *why)
{
	if (v->agent != NULL)
		agent_close(agent_ref(v->agent), why); /* ours stays, for those who ask vmm_agent() */
	v->console = console_close(v->console);
	v->end_source = loop_source_free(v->end_source);
	v->retry_source = loop_source_free(v->retry_source);
	log_keeper_unwatch(v->host->logs, v->log_watch);
	qmp_close(qmp_ref(v->qmp), why);
}

static void on_process_end(int fd, uint32_t events, void *data);

static bool connect_monitor(Vmm *v, GError **err)
{
	g_autofree char *path = vmm_socket(v, "qmp");

	return qmp_connect(v->qmp, path, err);
}

/* Some time after the monitor was lost: a QEMU that is ending has ended by now, and its pidfd tells. */
static void on_retry(void *data)
{
	Vmm *v = data;
	bool news = state_of(v) == VMM_LIVE && !v->told_lost;
	struct pollfd end = { .fd = v->pidfd, .events = POLLIN };

	if (poll(&end, 1, 0) > 0)
		return;
	v->retry_delay = MIN(v->retry_delay * 2, RETRY_LAST);
	if (!connect_monitor(v, NULL))
		loop_timer_set(v->retry_source, v->retry_delay);
	v->told_lost = v->told_lost || news;
	if (news && v->handler->monitor != NULL)
		v->handler->monitor(v, false, v->data);
}

static void retry_later(Vmm *v)
{
	if (v->retry_source == NULL)
		v->retry_source = loop_add_timer(v->host->loop, v->retry_delay, on_retry, v);
	else
		loop_timer_set(v->retry_source, v->retry_delay);
}

static void on_agent(bool open, void *data)
{
	Vmm *v = data;

	if (state_of(v) == VMM_LIVE && v->handler->agent != NULL)
		v->handler->agent(v, open, v->data);
}

/* The peripherals whose sockets are there; a launch removes those that are not its own. */
static void start_peripherals(Vmm *v)
{
	g_autofree char *agent = vmm_socket(v, "agent"), *console = vmm_socket(v, "console");
	g_autofree char *ring = g_strdup_printf("%s/console.ring", v->dir);
	g_autoptr(GError) e = NULL;

	if (access(agent, F_OK) == 0)
		v->agent = agent_new(v->host->loop, agent, on_agent, v);
	if (access(console, F_OK) == 0)
		v->console = console_open(v->host->loop, console, ring, &e);
	if (e != NULL)
		log_warning("vm '%s' goes without its console: %s", v->name, e->message);
}

/* Events tell of changes; this tells from what. */
static void on_chardevs(Json *reply, const GError *e, void *data)
{
	g_autoptr(Vmm) v = data;
	size_t i;
	Json *c;

	if (e != NULL || v->end_source == NULL) /* looked after no more */
		return;
	json_array_foreach(reply, i, c)
	{
		if (g_str_equal(json_str(c, "label"), "agent"))
			agent_set_open(v->agent, json_bool(c, "frontend-open", false));
	}
}

static void ask_chardevs(Vmm *v)
{
	if (v->agent != NULL)
		qmp_send(v->qmp, "query-chardev", NULL, 0, on_chardevs, vmm_ref(v));
}

/* Takes the reference that the loop holds from now on. */
static void start_watching(void *data)
{
	Vmm *v = data;
	VmmState state = state_of(v);

	v->end_source = loop_add_fd(v->host->loop, v->pidfd, EPOLLIN, on_process_end, v);
	v->log_watch = log_keeper_watch(v->host->logs, v->log_path);
	start_peripherals(v);
	/* The monitor may have been faster, when there was no agent yet to ask for. */
	if ((state == VMM_READY || state == VMM_LIVE) && !v->fresh)
		ask_chardevs(v);
}

static void start_unconnected(void *data)
{
	start_watching(data);
	retry_later(data);
}

void vmm_watch(Vmm *v)
{
	bool ok = connect_monitor(v, NULL);

	loop_post(v->host->loop, ok ? start_watching : start_unconnected, vmm_ref(v));
}

static void on_ready(Qmp *q, void *data)
{
	Vmm *v = data;
	bool news;

	(void)q;
	if (!v->fresh)
		ask_chardevs(v);
	v->retry_delay = RETRY_FIRST;
	g_mutex_lock(&v->lock);
	news = v->late || v->told_lost;
	v->late = false;
	if (v->state == VMM_STARTING)
		v->state = VMM_READY;
	g_cond_broadcast(&v->changed);
	g_mutex_unlock(&v->lock);
	v->told_lost = false;
	if (news && v->handler->monitor != NULL)
		v->handler->monitor(v, true, v->data);
}

static void note_event(Vmm *v, const char *name, Json *args)
{
	/* With -no-shutdown QEMU says once why the guest ended and later that it was told to quit. */
	if (g_str_equal(name, "SHUTDOWN") && v->shutdown == NULL)
		v->shutdown = g_strdup(json_str(args, "reason"));
	if (g_str_equal(name, "GUEST_PANICKED"))
		v->panicked = true;
	/* A question before the first `cont` would only hold that up. A guest that came from elsewhere runs
	 * now.
	 */
	if (g_str_equal(name, "RESUME") && v->fresh) {
		v->fresh = false;
		ask_chardevs(v);
	}
	if (g_str_equal(name, "RESET") || g_str_equal(name, "RESUME")) {
		g_clear_pointer(&v->shutdown, g_free);
		v->panicked = false;
	}
	if (g_str_equal(name, "VSERPORT_CHANGE") && v->agent != NULL &&
	    g_str_equal(json_str(args, "id"), VMM_AGENT_PORT))
		agent_set_open(v->agent, json_bool(args, "open", false));
}

static void on_event(Qmp *q, const char *name, Json *args, uint64_t real_us, void *data)
{
	Vmm *v = data;

	(void)q;
	note_event(v, name, args); /* known events have the form of the table */
	vmm_tell_listeners(v, name, args, real_us);
	if (state_of(v) == VMM_LIVE && v->handler->event != NULL)
		v->handler->event(v, name, args, real_us, v->data);
}

/* Either QEMU is ending, which its pidfd will tell in a moment, or its monitor broke. */
static void on_lost(Qmp *q, const GError *e, void *data)
{
	(void)q, (void)e;
	vmm_tell_listeners(data, NULL, NULL, 0);
	retry_later(data);
}

static const QmpHandler qmp_handler = { .ready = on_ready, .event = on_event, .lost = on_lost };

/* Returns the state before. */
static VmmState set_ended(Vmm *v, const struct process_end *end)
{
	bool clean = end->known && end->code == 0 && end->signal == 0 && !v->panicked;
	char *last_words =
	    clean ? vmm_log_last_words_of_clean_end(v->log_path) : vmm_log_last_words(v->log_path);
	VmmState before;

	g_mutex_lock(&v->lock);
	before = v->state;
	v->state = VMM_ENDED;
	v->exit = (VmmExit){
		.end = *end,
		.shutdown = g_steal_pointer(&v->shutdown),
		.panicked = v->panicked,
		.last_words = last_words,
	};
	g_cond_broadcast(&v->changed);
	g_mutex_unlock(&v->lock);
	return before;
}

static void on_process_end(int fd, uint32_t events, void *data)
{
	g_autoptr(Vmm) v = vmm_ref(data);
	g_autoptr(GError) gone = NULL;
	struct process_end end;
	VmmState before;

	(void)events;
	if (!process_ended(fd, &end))
		return;
	/* Its last events say why; they may lie in the socket still. */
	qmp_drain(v->qmp);
	if (v->agent != NULL)
		agent_set_open(v->agent, false);
	if (state_of(v) == VMM_FORGOTTEN) /* on one of those */
		return;
	before = set_ended(v, &end); /* first: a step waits for it */
	/* Nobody has cancelled what was under way. */
	fail(&gone, ERR_GONE, "QEMU of '%s' has ended", v->name);
	stop_watching(v, gone);
	vmm_tell_listeners(v, NULL, NULL, 0);
	if (before == VMM_LIVE && v->handler->exited != NULL)
		v->handler->exited(v, &v->exit, v->data);
	vmm_unref(v); /* the loop's */
}

void vmm_forget(Vmm *v)
{
	VmmState s = state_of(v);

	g_assert(loop_on_thread(v->host->loop));
	if (s == VMM_ENDED || s == VMM_FORGOTTEN)
		return;
	g_mutex_lock(&v->lock);
	v->state = VMM_FORGOTTEN;
	g_cond_broadcast(&v->changed);
	g_mutex_unlock(&v->lock);
	vmm_tell_listeners(v, NULL, NULL, 0);
	stop_watching(v, NULL);
	vmm_unref(v); /* the loop's */
}

static void forget_posted(void *data)
{
	g_autoptr(Vmm) v = data;

	vmm_forget(v);
}

void vmm_abandon(Vmm *v)
{
	loop_post(v->host->loop, forget_posted, v);
}

/*
 * Any thread
 */

const char *vmm_name(const Vmm *v)
{
	return v->name;
}

pid_t vmm_pid(const Vmm *v)
{
	return v->pid;
}

Qmp *vmm_qmp(const Vmm *v)
{
	return v->qmp;
}

Loop *vmm_loop(const Vmm *v)
{
	return v->host->loop;
}

Agent *vmm_agent(const Vmm *v)
{
	return v->agent;
}

Console *vmm_console(const Vmm *v)
{
	return v->console;
}

char *vmm_socket(const Vmm *v, const char *name)
{
	return g_strdup_printf("%s/%s.sock", v->dir, name);
}

Json *vmm_record(const Vmm *v)
{
	Json *j = json_object();

	json_put_int(j, "pid", v->pid);
	json_put_uint(j, "pid_start", v->pid_start);
	return j;
}

bool vmm_alive(Vmm *v)
{
	return state_of(v) != VMM_ENDED;
}

bool vmm_exit(Vmm *v, VmmExit *ret)
{
	bool ended;

	g_mutex_lock(&v->lock);
	ended = v->state == VMM_ENDED;
	if (ended) {
		*ret = v->exit;
		ret->shutdown = g_strdup(v->exit.shutdown);
		ret->last_words = g_strdup(v->exit.last_words);
	}
	g_mutex_unlock(&v->lock);
	return ended;
}

/* Locked. Until the state is `s` or behind it. */
static bool wait_for(Vmm *v, VmmState s, uint64_t timeout)
{
	gint64 deadline = (gint64)(time_monotonic() + MIN(timeout, TIMEOUT_MAX));
	bool in_time = true;

	g_assert(!loop_on_thread(v->host->loop));
	while (in_time && v->state < s)
		in_time = g_cond_wait_until(&v->changed, &v->lock, deadline);
	return v->state >= s;
}

bool vmm_wait_started(Vmm *v, uint64_t timeout)
{
	bool ok;

	g_mutex_lock(&v->lock);
	ok = wait_for(v, VMM_READY, timeout);
	g_mutex_unlock(&v->lock);
	return ok;
}

bool vmm_go_live(Vmm *v, bool late)
{
	bool live;

	g_mutex_lock(&v->lock);
	v->late = late && v->state == VMM_STARTING;
	if (v->state == VMM_READY || v->late)
		v->state = VMM_LIVE;
	live = v->state == VMM_LIVE;
	g_mutex_unlock(&v->lock);
	return live;
}

bool vmm_wait(Vmm *v, uint64_t timeout, GError **err)
{
	bool ended, over;

	g_mutex_lock(&v->lock);
	over = wait_for(v, VMM_ENDED, timeout);
	ended = v->state == VMM_ENDED;
	g_mutex_unlock(&v->lock);
	if (ended)
		return true;
	if (over)
		return fail(err, ERR_CANCELLED, "the daemon stops; '%s' goes on", v->name);
	return fail(err, ERR_TIMEOUT, "QEMU of '%s' did not end in time", v->name);
}

static bool kernel_holds_it(Vmm *v, GError **err)
{
	g_clear_error(err);
	return fail_advice(err, ERR_TIMEOUT,
			   "A process that can't be killed waits for storage or another device of the host: "
			   "see the kernel's log.",
			   "QEMU of '%s' (process %d) does not end, not even killed", v->name, (int)v->pid);
}

bool vmm_kill(Vmm *v, uint64_t timeout, GError **err)
{
	g_autoptr(GError) e = NULL;

	pidfd_signal(v->pidfd, SIGKILL);
	if (vmm_wait(v, timeout, &e))
		return true;
	if (err_code(e) == ERR_TIMEOUT)
		return kernel_holds_it(v, err);
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

bool vmm_quit(Vmm *v, uint64_t timeout, GError **err)
{
	uint64_t half = time_monotonic() + timeout / 2, now;
	_cleanup_json_ Json *reply = NULL;

	if (!vmm_alive(v))
		return true;
	reply = qmp_call(v->qmp, "quit", NULL, MAX(timeout / 2, 1), NULL);
	/* Without an answer, when the monitor can't be reached or QEMU was faster to end, SIGTERM does no
	 * harm. */
	now = time_monotonic();
	if (reply != NULL && now < half && vmm_wait(v, half - now, NULL))
		return true;
	pidfd_signal(v->pidfd, SIGTERM);
	if (vmm_wait(v, timeout / 4, NULL))
		return true;
	return vmm_kill(v, MAX(timeout / 4, KILL_TIMEOUT), err);
}
