/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm_rig.h"
#include "base/fd.h"
#include "base/time.h"
#include "drive.h"

#define LAUNCH_TIMEOUT (120 * SECONDS)

static void on_event(Vmm *v, const char *name, Json *args, uint64_t real_us, void *data)
{
	VmmRig *r = data;

	g_assert_nonnull(vmm_name(v));
	g_assert_true(json_is_object(args));
	g_assert_cmpuint(real_us, >, 0);
	g_string_append_printf(r->events, "%s ", name);
	r->n_events++;
}

static void on_monitor(Vmm *v, bool connected, void *data)
{
	VmmRig *r = data;

	(void)v;
	r->n_monitor++;
	r->connected = connected;
}

static void on_agent(Vmm *v, bool open, void *data)
{
	(void)v, (void)open;
	((VmmRig *)data)->n_agent++;
}

static void on_exited(Vmm *v, const VmmExit *e, void *data)
{
	VmmRig *r = data;

	g_assert_false(vmm_alive(v));
	r->n_exited++;
	vmm_exit_clear(&r->exit);
	r->exit = *e;
	r->exit.shutdown = g_strdup(e->shutdown);
	r->exit.last_words = g_strdup(e->last_words);
}

const VmmHandler vmm_rig_handler = {
	.event = on_event, .monitor = on_monitor, .agent = on_agent, .exited = on_exited
};

bool vmm_rig_init(VmmRig *r)
{
	g_autoptr(GError) e = NULL;

	*r = (VmmRig){ 0 };
	if (*QEMU == '\0') {
		g_test_skip("no QEMU is installed");
		return false;
	}
	r->loop = loop_new(&e);
	g_assert_no_error(e);
	r->host = vmm_host_new(r->loop, NULL, &e);
	g_assert_no_error(e);
	r->dir = g_dir_make_tmp("vmm-XXXXXX", &e);
	g_assert_no_error(e);
	r->events = g_string_new(NULL);
	return true;
}

void vmm_rig_done(VmmRig *r)
{
	g_autoptr(GError) e = NULL;

	drive_idle(r->loop);
	vmm_host_free(r->host);
	loop_free(r->loop);
	dir_remove(r->dir, &e);
	g_assert_no_error(e);
	vmm_exit_clear(&r->exit);
	g_string_free(r->events, TRUE);
	g_free(r->dir);
}

static void init_common(RigVm *v, VmmRig *r, const char *name)
{
	g_autoptr(GError) e = NULL;

	*v = (RigVm){ .rig = r, .name = g_strdup(name), .timeout = LAUNCH_TIMEOUT };
	v->uuid = uuid_new();
	v->dir = g_strdup_printf("%s/%s", r->dir, name);
	v->log_path = g_strdup_printf("%s/%s.log", r->dir, name);
	v->argv = g_ptr_array_new_with_free_func(g_free);
	dir_make(v->dir, 0700, &e);
	g_assert_no_error(e);
}

void rig_vm_add(RigVm *v, const char *arg)
{
	g_ptr_array_add(v->argv, g_strdup(arg));
}

void rig_vm_add_pair(RigVm *v, const char *option, const char *value)
{
	rig_vm_add(v, option);
	rig_vm_add(v, value);
}

void rig_vm_init(RigVm *v, VmmRig *r, const char *name, const char *append)
{
	init_common(v, r, name);
	rig_vm_add(v, QEMU);
	rig_vm_add(v, "-nodefaults");
	rig_vm_add(v, "-no-user-config");
	rig_vm_add_pair(v, "-display", "none");
	rig_vm_add_pair(v, "-machine", "q35,accel=tcg,hpet=off");
	rig_vm_add_pair(v, "-m", "16");
	rig_vm_add_pair(v, "-uuid", v->uuid);
	rig_vm_add_pair(v, "-kernel", PAYLOAD);
	rig_vm_add_pair(v, "-append", append);
	rig_vm_add_pair(v, "-chardev", "socket,id=qmp,fd=@fd:qmp@,server=on,wait=off");
	rig_vm_add_pair(v, "-mon", "chardev=qmp,mode=control");
}

void rig_vm_init_fake(RigVm *v, VmmRig *r, const char *name, const char *mode)
{
	init_common(v, r, name);
	rig_vm_add(v, FAKE_QEMU);
	rig_vm_add(v, mode);
	rig_vm_add(v, "@fd:qmp@");
	rig_vm_add(v, v->uuid);
}

static void launch(void *data)
{
	RigVm *v = data;
	struct vmm_spec spec;

	g_ptr_array_add(v->argv, NULL);
	spec = (struct vmm_spec){
		.name = v->name,
		.uuid = v->uuid,
		.dir = v->dir,
		.log_path = v->log_path,
		.argv = (const char *const *)v->argv->pdata,
	};
	v->vmm = vmm_launch(v->rig->host, &spec, &vmm_rig_handler, v->rig, v->timeout, &v->error);
	g_ptr_array_remove_index(v->argv, v->argv->len - 1);
}

void rig_vm_launch(RigVm *v)
{
	drive_worker(v->rig->loop, launch, v);
}

void rig_vm_must_launch(RigVm *v)
{
	rig_vm_launch(v);
	g_assert_no_error(v->error);
	g_assert_nonnull(v->vmm);
}

typedef struct Adoption {
	RigVm *v;
	const Json *record;
} Adoption;

static void adopt(void *data)
{
	Adoption *a = data;
	RigVm *v = a->v;
	struct vmm_known known = {
		.name = v->name,
		.uuid = v->uuid,
		.dir = v->dir,
		.log_path = v->log_path,
		.record = a->record,
	};

	v->vmm = vmm_adopt(v->rig->host, &known, &vmm_rig_handler, v->rig, v->timeout, &v->error);
}

void rig_vm_adopt(RigVm *v, const Json *record)
{
	Adoption a = { .v = v, .record = record };

	g_assert_null(v->vmm);
	g_clear_error(&v->error);
	drive_worker(v->rig->loop, adopt, &a);
}

typedef struct Quit {
	RigVm *v;
	uint64_t timeout;
	GError **err;
	const char *command;
} Quit;

static void quit(void *data)
{
	Quit *q = data;

	vmm_quit(q->v->vmm, q->timeout, q->err);
}

void rig_vm_quit(RigVm *v, uint64_t timeout, GError **err)
{
	Quit q = { .v = v, .timeout = timeout, .err = err };

	drive_worker(v->rig->loop, quit, &q);
}

static void command(void *data)
{
	Quit *q = data;
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(q->v->vmm), q->command, NULL, 0, &e);

	g_assert_no_error(e);
	g_assert_nonnull(reply);
}

void rig_vm_command(RigVm *v, const char *name)
{
	Quit q = { .v = v, .command = name };

	drive_worker(v->rig->loop, command, &q);
}

void rig_vm_wait_exited(RigVm *v)
{
	drive_until_count(v->rig->loop, &v->rig->n_exited, 1);
}

static void kill_it(void *data)
{
	g_autoptr(GError) e = NULL;

	vmm_kill(data, 120 * SECONDS, &e);
	g_assert_no_error(e);
}

void rig_vm_done(RigVm *v)
{
	if (v->vmm != NULL && vmm_alive(v->vmm))
		drive_worker(v->rig->loop, kill_it, v->vmm);
	vmm_unref(v->vmm);
	g_clear_error(&v->error);
	g_ptr_array_unref(v->argv);
	g_free(v->name);
	g_free(v->uuid);
	g_free(v->dir);
	g_free(v->log_path);
}
