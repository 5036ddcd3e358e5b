/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a running guest, and its console and agent's port, with real QEMU. */
#include "drive.h"
#include "engine/vm_ops.h"
#include "vmm_rig.h"

/* An operation on a worker. */
typedef struct Op {
	RigVm *v;
	bool (*func)(Vmm *v, GError **err);
	GError *error;
	char *status;
	GBytes *picture;
} Op;

static void run_op(void *data)
{
	Op *o = data;

	g_assert_cmpint(o->func(o->v->vmm, &o->error), ==, o->error == NULL);
}

static void must(RigVm *v, bool (*func)(Vmm *v, GError **err))
{
	Op o = { .v = v, .func = func };

	drive_worker(v->rig->loop, run_op, &o);
	g_assert_no_error(o.error);
}

static void ask_status(void *data)
{
	Op *o = data;

	o->status = vm_status(o->v->vmm, &o->error);
}

static void expect_status(RigVm *v, const char *want)
{
	Op o = { .v = v };

	drive_worker(v->rig->loop, ask_status, &o);
	g_assert_no_error(o.error);
	g_assert_cmpstr(o.status, ==, want);
	g_free(o.status);
}

static void wait_event(VmmRig *r, const char *name)
{
	g_autofree char *word = g_strconcat(name, " ", NULL);

	while (strstr(r->events->str, word) == NULL)
		drive_until_count(r->loop, &r->n_events, r->n_events + 1);
}

static void test_a_guest_is_paused_resumed_and_reset(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_add(&v, "-S");
	rig_vm_must_launch(&v);
	expect_status(&v, "prelaunch");
	must(&v, vm_resume);
	expect_status(&v, "running");
	must(&v, vm_pause);
	expect_status(&v, "paused");
	must(&v, vm_resume);
	must(&v, vm_reset);
	wait_event(&r, "RESET");
	must(&v, vm_nmi);
	expect_status(&v, "running");
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

/*
 * The console: the payload prints its report there.
 */

typedef struct Looker {
	ConsoleReader *reader;
	GString *seen;
	unsigned n_ended;
} Looker;

static void on_readable(void *data)
{
	Looker *l = data;
	char buf[1000];
	size_t n;

	while ((n = console_read(l->reader, buf, sizeof buf, NULL)) > 0)
		g_string_append_len(l->seen, buf, (gssize)n);
}

static void on_ended(void *data)
{
	Looker *l = data;

	on_readable(l);
	l->n_ended++;
}

static const ConsoleHandler look_handler = { .readable = on_readable, .ended = on_ended };

static void add_console(RigVm *v)
{
	rig_vm_add_pair(v, "-chardev", "socket,id=console,fd=@fd:console@,server=on,wait=off");
	rig_vm_add_pair(v, "-device", "isa-serial,chardev=console");
}

static void look_until(VmmRig *r, Looker *l, const char *text)
{
	uint64_t turns = 0;

	while (strstr(l->seen->str, text) == NULL) {
		g_assert_cmpuint(turns++, <, 10000);
		loop_turn(r->loop, SECONDS / 10);
	}
}

static void test_the_power_button_reaches_the_guest_and_the_console_tells(void)
{
	Looker l = { .seen = g_string_new(NULL) };
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "out=serial job=acpi");
	add_console(&v);
	rig_vm_must_launch(&v);
	g_assert_nonnull(vmm_console(v.vmm));
	l.reader = console_attach(vmm_console(v.vmm), CONSOLE_RING_SIZE, &look_handler, &l);
	look_until(&r, &l, "ready");
	look_until(&r, &l, "job acpi");
	must(&v, vm_powerdown);
	rig_vm_wait_exited(&v);
	g_assert_cmpstr(r.exit.shutdown, ==, "guest-shutdown");
	g_assert_cmpuint(l.n_ended, ==, 1);
	g_assert_null(vmm_console(v.vmm));
	console_detach(l.reader);
	g_string_free(l.seen, TRUE);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_the_console_is_there_again_after_adoption(void)
{
	Looker l = { .seen = g_string_new(NULL) };
	_cleanup_json_ Json *record = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "out=serial job=acpi");
	add_console(&v);
	rig_vm_must_launch(&v);
	l.reader = console_attach(vmm_console(v.vmm), CONSOLE_RING_SIZE, &look_handler, &l);
	look_until(&r, &l, "job acpi");
	record = vmm_record(v.vmm);
	vmm_forget(v.vmm);
	g_assert_cmpuint(l.n_ended, ==, 1);
	console_detach(l.reader);
	vmm_unref(g_steal_pointer(&v.vmm));
	rig_vm_adopt(&v, record);
	g_assert_no_error(v.error);
	g_string_truncate(l.seen, 0);
	l.reader = console_attach(vmm_console(v.vmm), CONSOLE_RING_SIZE, &look_handler, &l);
	look_until(&r, &l, "job acpi"); /* from the ring */
	must(&v, vm_powerdown);
	rig_vm_wait_exited(&v);
	g_assert_cmpstr(r.exit.shutdown, ==, "guest-shutdown");
	console_detach(l.reader);
	g_string_free(l.seen, TRUE);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

/*
 * Screenshots
 */

static void shoot(void *data)
{
	Op *o = data;

	o->picture = vm_screenshot(o->v->vmm, &o->error);
}

static void test_a_screenshot_is_a_png_and_leaves_nothing_behind(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_add_pair(&v, "-device", "VGA");
	rig_vm_add_pair(&v, "-sandbox",
			"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	rig_vm_must_launch(&v);
	for (unsigned i = 0; i < 3; i++) {
		Op o = { .v = &v };
		const char *bytes;
		gsize n;

		drive_worker(r.loop, shoot, &o);
		g_assert_no_error(o.error);
		bytes = g_bytes_get_data(o.picture, &n);
		g_assert_cmpuint(n, >, 100);
		g_assert_cmpint(memcmp(bytes, "\x89PNG", 4), ==, 0);
		g_assert_cmpint(memcmp(bytes + n - 8, "IEND", 4), ==, 0); /* whole */
		g_bytes_unref(o.picture);
	}
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_without_a_display_a_screenshot_is_refused_with_advice(void)
{
	VmmRig r;
	RigVm v;
	Op o;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_must_launch(&v);
	o = (Op){ .v = &v };
	drive_worker(r.loop, shoot, &o);
	g_assert_error(o.error, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(strstr(err_advice(o.error), "platform.video"));
	g_clear_error(&o.error);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

/*
 * The agent's port
 */

static bool call_agent(Vmm *v, GError **err)
{
	_cleanup_json_ Json *reply = agent_call(vmm_agent(v), "guest-ping", NULL, 120 * SECONDS, err);

	return reply != NULL;
}

static void test_a_port_that_no_guest_opened_is_known_without_asking_it(void)
{
	VmmRig r;
	RigVm v;
	Op o;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_add_pair(&v, "-device", "virtio-serial");
	rig_vm_add_pair(&v, "-chardev", "socket,id=agent,fd=@fd:agent@,server=on,wait=off");
	rig_vm_add_pair(&v, "-device",
			"virtserialport,id=" VMM_AGENT_PORT ",chardev=agent,name=org.qemu.guest_agent.0");
	rig_vm_must_launch(&v);
	g_assert_nonnull(vmm_agent(v.vmm));
	o = (Op){ .v = &v, .func = call_agent };
	drive_worker(r.loop, run_op, &o);
	g_assert_error(o.error, ERR, ERR_AGENT);
	g_clear_error(&o.error);
	g_assert_false(agent_is_open(vmm_agent(v.vmm)));
	g_assert_cmpuint(r.n_agent, ==, 0);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_events_open_and_close_the_port(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init_fake(&v, &r, "web1", "serve");
	rig_vm_add(&v, "@fd:agent@");
	rig_vm_must_launch(&v);
	g_assert_false(agent_is_open(vmm_agent(v.vmm)));
	rig_vm_command(&v, "inject-nmi"); /* as tests/qmp/fake_qemu.c does */
	drive_until_count(r.loop, &r.n_agent, 1);
	g_assert_true(agent_is_open(vmm_agent(v.vmm)));
	rig_vm_command(&v, "system_reset");
	drive_until_count(r.loop, &r.n_agent, 2);
	g_assert_false(agent_is_open(vmm_agent(v.vmm)));
	rig_vm_command(&v, "inject-nmi");
	drive_until_count(r.loop, &r.n_agent, 3);
	/* The end of QEMU closes it too. */
	rig_vm_quit(&v, 120 * SECONDS, NULL);
	g_assert_cmpuint(r.n_agent, ==, 4);
	g_assert_false(agent_is_open(vmm_agent(v.vmm)));
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_vm_without_peripherals_has_none(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_must_launch(&v);
	g_assert_null(vmm_agent(v.vmm));
	g_assert_null(vmm_console(v.vmm));
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm-ops/run", test_a_guest_is_paused_resumed_and_reset);
	g_test_add_func("/vm-ops/powerdown", test_the_power_button_reaches_the_guest_and_the_console_tells);
	g_test_add_func("/vm-ops/console-adopted", test_the_console_is_there_again_after_adoption);
	g_test_add_func("/vm-ops/screenshot", test_a_screenshot_is_a_png_and_leaves_nothing_behind);
	g_test_add_func("/vm-ops/no-display", test_without_a_display_a_screenshot_is_refused_with_advice);
	g_test_add_func("/vm-ops/agent-closed", test_a_port_that_no_guest_opened_is_known_without_asking_it);
	g_test_add_func("/vm-ops/agent-events", test_events_open_and_close_the_port);
	g_test_add_func("/vm-ops/no-peripherals", test_a_vm_without_peripherals_has_none);
	return g_test_run();
}
