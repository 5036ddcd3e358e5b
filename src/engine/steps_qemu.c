/* SPDX-License-Identifier: Apache-2.0 */
/* Steps about QEMU processes and their guests. */
#include "base/log.h"
#include "base/time.h"
#include "core/guest/pin.h"
#include "engine/engine-impl.h"
#include "engine/net.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define SECOND UINT64_C(1000000)
/* It takes 30 ms, and was seen to take half a minute in a start storm on a host that is emulated itself. */
#define LAUNCH_TIMEOUT (180 * SECOND)
#define QUIT_TIMEOUT (20 * SECOND)
#define ASK_TIMEOUT (5 * SECOND)
/* A wait is cut into turns of this length, in which a cancellation is noticed. */
#define TURN (SECOND / 4)
/* From the first press of the power button to the second; then twice as long each time, until PRESS_PAUSE. */
#define PRESS_FIRST SECOND
#define PRESS_PAUSE (10 * SECOND)

static Fleet *fleet_of(StepContext *ctx)
{
	return ((Engine *)step_engine(ctx))->fleet;
}

/* The vm's QEMU; ERR_GONE when there is none. */
static Vmm *vmm_of(StepContext *ctx, const Json *args, GError **err)
{
	Vmm *v = fleet_vmm(fleet_of(ctx), json_str(args, "vm"));

	if (v == NULL)
		fail_advice(err, ERR_GONE, "`plim vm show` says how it ended.", "QEMU of '%s' has ended",
			    json_str(args, "name"));
	return v;
}

/* ---- launch ---- */

static void clear_fd(gpointer p)
{
	struct vmm_fd *f = p;

	g_free((char *)f->name);
	close(f->fd);
}

static void add_fd(GArray *fds, const char *kind, const char *nic, unsigned i, int fd)
{
	struct vmm_fd f = { .name = g_strdup_printf("%s-%s-%u", kind, nic, i), .fd = fd };

	g_array_append_val(fds, f);
}

static bool wants(const Json *args, const char *name)
{
	g_auto(GStrv) fds = json_strv(json_arr(args, "fds"));

	return g_strv_contains((const char *const *)fds, name);
}

/* The queues of one tap, and their vhost descriptors when the command line names them. */
static bool open_tap(const Json *args, const char *nic, const Json *tap, GArray *fds, GError **err)
{
	unsigned n = (unsigned)CLAMP(json_int(tap, "queues", 1), 1, NET_QUEUES_MAX);
	g_autofree char *vhost = g_strdup_printf("vhost-%s-0", nic);
	int fd[NET_QUEUES_MAX];

	if (!net_tap_open(json_str(tap, "tap"), n, fd, err))
		return false;
	for (unsigned i = 0; i < n; i++)
		add_fd(fds, "tap", nic, i, fd[i]);
	if (!wants(args, vhost))
		return true;
	if (!net_vhost_open(n, fd))
		return fail_advice(err, ERR_UNAVAILABLE,
				   "Load the module vhost_net, or probe the host again: `plim host probe`.",
				   "/dev/vhost-net can't be opened any more");
	for (unsigned i = 0; i < n; i++)
		add_fd(fds, "vhost", nic, i, fd[i]);
	return true;
}

/* In a pool it must not outlive the host's lease. The guest does not run yet: a daemon that dies before this
 * takes up its QEMU at its next start, and fences it then. */
static bool fence_in(StepContext *ctx, const char *vm_id, GError **err)
{
	Engine *e = step_engine(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, vm_id);

	return v == NULL || engine_fence_in(e, vmm_pid(v), err);
}

static bool open_taps(const Json *args, GArray *fds, GError **err)
{
	const char *nic;
	Json *tap;

	json_object_foreach(json_obj(args, "taps"), nic,
			    tap) if (!open_tap(args, nic, tap, fds, err)) return false;
	return true;
}

static void note_start(StepContext *ctx, const Json *args)
{
	g_autoptr(Vmm) v = fleet_vmm(fleet_of(ctx), json_str(args, "vm"));
	g_autofree char *now = time_stamp();

	if (v != NULL)
		step_fact(ctx, "pid", json_integer(vmm_pid(v)));
	step_fact(ctx, "started_at", json_string(now));
}

bool step_QEMU_SPAWN_run(StepContext *ctx, const Json *args, GError **err)
{
	g_auto(GStrv) argv = json_strv(json_arr(args, "argv"));
	g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(struct vmm_fd));
	struct fleet_spec spec = {
		.vm_id = json_str(args, "vm"),
		.name = json_str(args, "name"),
		.dir = json_str(args, "run_dir"),
		.log_path = json_str(args, "log"),
		.operation = step_operation(ctx)->id,
		.argv = (const char *const *)argv,
	};

	g_array_set_clear_func(fds, clear_fd);
	if (!open_taps(args, fds, err))
		return false;
	spec.fds = (const struct vmm_fd *)(void *)fds->data;
	spec.n_fds = fds->len;
	if (!fleet_launch(fleet_of(ctx), &spec, LAUNCH_TIMEOUT, err) || !fence_in(ctx, spec.vm_id, err))
		return false;
	note_start(ctx, args);
	return true;
}

static bool end_qemu(StepContext *ctx, const Json *args, GError **err)
{
	g_autoptr(Vmm) v = fleet_vmm(fleet_of(ctx), json_str(args, "vm"));

	return v == NULL || vmm_quit(v, QUIT_TIMEOUT, err);
}

/* One that ran before is for its own operation to end. */
bool step_QEMU_SPAWN_undo(StepContext *ctx, const Json *args, GError **err)
{
	g_autoptr(Vmm) v = fleet_started_by(fleet_of(ctx), json_str(args, "vm"), step_operation(ctx)->id);

	return v == NULL || vmm_quit(v, QUIT_TIMEOUT, err);
}

bool step_QEMU_QUIT_run(StepContext *ctx, const Json *args, GError **err)
{
	return end_qemu(ctx, args, err);
}

/* ---- one QMP command each ---- */

typedef bool (*VmOp)(Vmm *v, GError **err);

static bool with_vmm(StepContext *ctx, const Json *args, VmOp op, GError **err)
{
	g_autoptr(Vmm) v = vmm_of(ctx, args, err);

	return v != NULL && op(v, err);
}

bool step_QEMU_CONT_run(StepContext *ctx, const Json *args, GError **err)
{
	return with_vmm(ctx, args, vm_resume, err);
}

/* Which CPU it is and which file runs; NULL when that is not to be seen, as of a QEMU that has ended. */
static char *cpu_identity(const Vmm *v, const Json *pin)
{
	g_autofree char *exe = g_strdup_printf("/proc/%d/exe", (int)vmm_pid(v)), *text = json_print(pin);
	struct stat st;

	if (stat(exe, &st) < 0)
		return NULL;
	return g_strdup_printf("%" PRIu64 ":%" PRIu64 " %" PRIu64 " %" PRId64 ".%09ld %s",
			       (uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_size,
			       (int64_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, text);
}

bool step_CPU_CHECK_run(StepContext *ctx, const Json *args, GError **err)
{
	g_autoptr(Vmm) v = vmm_of(ctx, args, err);
	Engine *e = step_engine(ctx);
	g_autofree char *cpu = NULL;
	struct featureset pin;

	if (v == NULL || !pin_of_json(json_obj(args, "pin"), &pin, NULL, err))
		return false;
	cpu = cpu_identity(v, json_obj(args, "pin"));
	if (!vm_cpu_check(v, &pin, cpu != NULL && engine_knows_cpu(e, cpu), err))
		return false;
	if (cpu != NULL)
		engine_learn_cpu(e, cpu);
	return true;
}

bool step_QEMU_PAUSE_run(StepContext *ctx, const Json *args, GError **err)
{
	return with_vmm(ctx, args, vm_pause, err);
}

bool step_QEMU_RESUME_run(StepContext *ctx, const Json *args, GError **err)
{
	return with_vmm(ctx, args, vm_resume, err);
}

bool step_QEMU_RESET_run(StepContext *ctx, const Json *args, GError **err)
{
	return with_vmm(ctx, args, vm_reset, err);
}

/* ---- asking the guest ---- */

/* The agent's refusal is no failure: the power button is the second way. */
static bool ask_agent(StepContext *ctx, const Json *args, const char *mode, GError **err)
{
	g_autoptr(Agent) agent = fleet_agent(fleet_of(ctx), json_str(args, "vm"));
	Json *how;

	if (agent == NULL || !agent_is_open(agent))
		return fail(err, ERR_AGENT, "no guest agent answers");
	how = json_object();
	json_put_str(how, "mode", mode);
	return agent_tell(agent, "guest-shutdown", how, ASK_TIMEOUT, err);
}

/* A guest that is asked to end, and what was tried so far. */
typedef struct Ending {
	StepContext *ctx;
	const Json *args;
	Vmm *v;
	unsigned asked, pressed; /* how often its agent was, its power button was */
	bool open;               /* an agent was there when it was looked for last */
	uint64_t next, pause;    /* when the next try is due, and the pause behind it */
} Ending;

static bool agent_is_there(const Ending *e)
{
	g_autoptr(Agent) agent = fleet_agent(fleet_of(e->ctx), json_str(e->args, "vm"));

	return agent != NULL && agent_is_open(agent);
}

/* "agent asked 1x, power button pressed 2x" */
static char *tries_of(const Ending *e)
{
	g_autofree char *button = g_strdup_printf("power button pressed %ux", e->pressed);

	if (e->asked == 0)
		return g_strconcat("no agent, ", button, NULL);
	return g_strdup_printf("agent asked %ux%s%s", e->asked, e->pressed > 0 ? ", " : "",
			       e->pressed > 0 ? button : "");
}

/*
 * The agent, else the power button. An agent's silence is no promise: while the
 * guest boots, its shutdown may fail behind the agent's back. So from the second
 * time on the button is pressed as well.
 */
static bool try_to_end(Ending *e, GError **err)
{
	bool heard = e->open && ask_agent(e->ctx, e->args, "powerdown", NULL);
	g_autofree char *tries = NULL;
	bool again = e->asked > 0, ok = true;

	e->asked += heard;
	if (!vmm_alive(e->v))
		return true;
	if (!heard || again) {
		ok = vm_powerdown(e->v, err);
		e->pressed += ok;
	}
	e->pause = heard ? PRESS_PAUSE : MIN(e->pause * 2, PRESS_PAUSE);
	e->next = time_monotonic() + e->pause;
	tries = tries_of(e);
	step_say(e->ctx, "%s", tries);
	return ok || !vmm_alive(e->v);
}

/*
 * True when it ended; false without an error when the time is over. A guest
 * that boots loses a press of its button without a trace, so it is pressed again
 * while nothing happens; and when its agent comes up, that is asked at once.
 */
static bool wait_for_end(Ending *e, uint64_t timeout, GError **err)
{
	uint64_t until = time_monotonic() + timeout;

	for (;;) {
		uint64_t now = time_monotonic();
		bool was_open = e->open;

		if (vmm_wait(e->v, MIN(TURN, until > now ? until - now : 0), NULL))
			return true;
		if (step_cancelled(e->ctx))
			return fail(err, ERR_CANCELLED, "the wait for the guest was cancelled");
		if (time_monotonic() >= until)
			return false;
		e->open = agent_is_there(e);
		if (time_monotonic() >= e->next || (e->open && !was_open))
			try_to_end(e, NULL);
	}
}

/* Five hundred guests that take their time must not hold up a start. */
static bool rest_until_end(Ending *e, uint64_t timeout, GError **err)
{
	bool rests = step_rest(e->ctx), ended = wait_for_end(e, timeout, err);

	if (rests)
		step_wake(e->ctx);
	return ended;
}

static bool fail_patience(const Ending *e, GError **err)
{
	const char *name = json_str(e->args, "name");
	g_autofree char *tries = tries_of(e);

	fail(err, ERR_TIMEOUT, "the guest of '%s' did not shut down in time (%s)", name, tries);
	err_detail(err, "agent_asked", json_integer(e->asked));
	err_detail(err, "button_pressed", json_integer(e->pressed));
	return err_advise(err, "It may still do so. `plim vm stop %s --force` or `plim vm kill %s` ends it.",
			  name, name);
}

/* With `force` the next step ends QEMU, whatever the guest made of it. */
bool step_GUEST_SHUTDOWN_run(StepContext *ctx, const Json *args, GError **err)
{
	g_autoptr(Vmm) v = fleet_vmm(fleet_of(ctx), json_str(args, "vm"));
	Ending e = { .ctx = ctx, .args = args, .v = v, .pause = PRESS_FIRST / 2 };
	bool force = json_bool(args, "force", false);
	g_autoptr(GError) failure = NULL;

	if (v == NULL)
		return true;
	e.open = agent_is_there(&e);
	if (!json_bool(args, "resume", false) || vm_resume(v, &failure))
		try_to_end(&e, &failure);
	if (failure != NULL && !force) {
		g_propagate_error(err, g_steal_pointer(&failure));
		return false;
	}
	g_clear_error(&failure);
	if (rest_until_end(&e, json_uint(args, "timeout", 0), &failure))
		return true;
	if (failure != NULL) {
		g_propagate_error(err, g_steal_pointer(&failure));
		return false;
	}
	return force || fail_patience(&e, err);
}

bool step_GUEST_REBOOT_run(StepContext *ctx, const Json *args, GError **err)
{
	g_autoptr(Vmm) v = vmm_of(ctx, args, err);
	g_autoptr(GError) e = NULL;

	if (v == NULL)
		return false;
	if (ask_agent(ctx, args, "reboot", &e))
		return true;
	if (json_bool(args, "force", false))
		return vm_reset(v, err);
	g_propagate_error(err, g_steal_pointer(&e));
	return err_advise(err, "`plim vm reboot %s --force` resets a guest without an agent.",
			  json_str(args, "name"));
}
