/* SPDX-License-Identifier: Apache-2.0 */
/* A hundred guests at once: started by several workers, all watched by one loop, all ended. */
#include "base/time.h"
#include "drive.h"
#include "vmm_rig.h"

#include <signal.h>

#define GUESTS 100
#define WORKERS 4

typedef struct Crowd {
	VmmRig rig;
	RigVm vm[GUESTS];
	gint next;
} Crowd;

static gpointer launch_some(gpointer data)
{
	Crowd *c = data;
	int i;

	while ((i = g_atomic_int_add(&c->next, 1)) < GUESTS) {
		RigVm *v = &c->vm[i];
		struct vmm_spec spec = {
			.name = v->name,
			.uuid = v->uuid,
			.dir = v->dir,
			.log_path = v->log_path,
			.argv = (const char *const *)v->argv->pdata,
		};
		_cleanup_json_ Json *status = NULL;

		v->vmm = vmm_launch(c->rig.host, &spec, &vmm_rig_handler, &c->rig, v->timeout, &v->error);
		g_assert_no_error(v->error);
		status = qmp_call(vmm_qmp(v->vmm), "query-status", NULL, 0, &v->error);
		g_assert_no_error(v->error);
		g_assert_true(json_bool(status, "running", false));
	}
	return NULL;
}

static gpointer quit_some(gpointer data)
{
	Crowd *c = data;
	int i;

	while ((i = g_atomic_int_add(&c->next, 1)) < GUESTS) {
		vmm_quit(c->vm[i].vmm, 120 * SECONDS, &c->vm[i].error);
		g_assert_no_error(c->vm[i].error);
	}
	return NULL;
}

static void in_threads(Crowd *c, GThreadFunc func)
{
	GThread *t[WORKERS];

	c->next = 0;
	for (unsigned i = 0; i < WORKERS; i++)
		t[i] = g_thread_new("worker", func, c);
	for (unsigned i = 0; i < WORKERS; i++)
		g_thread_join(t[i]);
}

static void launch_all(void *data)
{
	in_threads(data, launch_some);
}

static void quit_all(void *data)
{
	in_threads(data, quit_some);
}

static void test_a_hundred_guests_live_and_end(void)
{
	Crowd *c = g_new0(Crowd, 1);

	if (!vmm_rig_init(&c->rig)) {
		g_free(c);
		return;
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		g_autofree char *name = g_strdup_printf("guest%u", i);

		rig_vm_init(&c->vm[i], &c->rig, name, "job=idle");
		g_ptr_array_add(c->vm[i].argv, NULL);
	}
	drive_worker(c->rig.loop, launch_all, c);
	g_assert_cmpuint(c->rig.n_exited, ==, 0);
	/* Some end by themselves in between. */
	for (unsigned i = 0; i < 10; i++)
		kill(vmm_pid(c->vm[i].vmm), SIGKILL);
	drive_until_count(c->rig.loop, &c->rig.n_exited, 10);
	drive_worker(c->rig.loop, quit_all, c);
	g_assert_cmpuint(c->rig.n_exited, ==, GUESTS);
	for (unsigned i = 0; i < GUESTS; i++) {
		g_auto(VmmExit) e = { 0 };

		g_assert_true(vmm_exit(c->vm[i].vmm, &e));
		g_assert_cmpint(e.end.signal, ==, i < 10 ? SIGKILL : 0);
		rig_vm_done(&c->vm[i]);
	}
	vmm_rig_done(&c->rig);
	g_free(c);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vmm/many", test_a_hundred_guests_live_and_end);
	return g_test_run();
}
