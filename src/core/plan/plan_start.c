/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan of a start: what stands around QEMU first, then QEMU, then the
 * guest. Beside it the plan of its cleanup, which is stored with what was
 * started: later changes of the configuration must not change what is taken down.
 */
#include "core/guest/argv.h"
#include "core/guest/cd.h"
#include "core/guest/dimm.h"
#include "core/guest/profile.h"
#include "core/host/memory.h"
#include "core/memory/range.h"
#include "core/migrate/hardware.h"
#include "core/model/keys.h"
#include "core/model/paths.h"
#include "core/plan/plan_migrate.h"
#include "core/plan/plan_start-impl.h"
#include "core/plan/plan_vm-impl.h"

#include <string.h>

bool start_find_disk_paths(Start *s, GError **err)
{
	for (guint i = 0; i < s->vm->disk->len; i++) {
		const VmDisk *d = s->vm->disk->pdata[i];
		const Volume *v = s->seen->volume->pdata[i];

		if (d->path == NULL && v == NULL) {
			fail(err, ERR_NOT_FOUND, "the volume of disk '%s' is gone", d->name);
			return err_advise(err, "Take the disk out of the vm: `plim vm disk remove %s %s`.",
					  s->vm->name, d->name);
		}
		g_ptr_array_add(s->disk_path, d->path != NULL ? d->path : v->path);
	}
	g_ptr_array_add(s->disk_path, NULL);
	return true;
}

/* A step and, when `down` is a kind, the step that takes it down again with the same arguments. */
void start_add(Start *s, StepKind up, StepKind down, const char *target, Json *args)
{
	if (down != _STEP_MAX) {
		Step *d = g_new(Step, 1);

		*d = (Step){ .kind = down, .target = g_strdup(target), .args = json_deep_copy(args) };
		g_ptr_array_insert(s->cleanup->step, 0, d);
	}
	plan_add(s->plan, up, target, args);
}

static Json *path_args(const Vm *vm, const char *path)
{
	Json *args = vm_args(vm);

	json_put_str(args, "path", path);
	return args;
}

void start_add_run_dir(Start *s)
{
	g_autofree char *dir = path_vm_run_dir(s->folders, s->vm->id);

	start_add(s, STEP_RUN_DIR_MAKE, STEP_RUN_DIR_REMOVE, s->vm->name, path_args(s->vm, dir));
}

static void add_seed(Start *s)
{
	g_autofree char *path = path_vm_seed(s->folders, s->vm->id);
	Json *args;

	if (s->vm->cloud_init == NULL)
		return;
	args = path_args(s->vm, path);
	json_put(args, "cloud_init", json_deep_copy(s->vm->cloud_init));
	start_add(s, STEP_SEED_WRITE, _STEP_MAX, s->vm->name, args);
}

static void add_firmware(Start *s)
{
	g_autofree char *path = path_vm_nvram(s->folders, s->vm->id);
	const HostFirmware *fw;
	Json *args;

	if (!profile_is(s->profile, PROFILE_FIRMWARE, "uefi"))
		return;
	fw = profile_is(s->profile, PROFILE_SECURE_BOOT, "on") ? &s->req->host->uefi_secure
							       : &s->req->host->uefi;
	args = path_args(s->vm, path);
	json_put_str(args, "template", fw->vars);
	start_add(s, STEP_NVRAM_CREATE, _STEP_MAX, s->vm->name, args);
}

/* The image that a disk is an overlay of, as its header must say; NULL: none. Caller frees. */
static char *backing_of(const Start *s, guint i)
{
	const Volume *v;

	if (s->from != NULL)
		return g_strdup(s->from->disk[i].backing);
	v = s->seen->volume->pdata[i];
	return v != NULL && v->image_id != NULL ? path_image(s->folders, v->image_id) : NULL;
}

/*
 * A qcow2 file can name other files, which QEMU opens with it: guests wrote to
 * our volumes, and anybody to a file that lies elsewhere. Each start looks again.
 */
void start_add_checks(Start *s)
{
	for (guint i = 0; i < s->vm->disk->len; i++) {
		const VmDisk *d = s->vm->disk->pdata[i];
		g_autofree char *backing = NULL;
		Json *args;

		if (!g_str_equal(d->format, "qcow2"))
			continue;
		backing = backing_of(s, i);
		args = path_args(s->vm, s->disk_path->pdata[i]);
		json_put_bool(args, "volume", d->path == NULL);
		json_put_str(args, "backing", backing);
		start_add(s, STEP_DISK_CHECK, _STEP_MAX, d->name, args);
	}
}

/* What QEMU opens by path while it runs as another user than the daemon. */
static void add_grant(Start *s, const char *target, const char *path, bool readonly)
{
	Json *args;

	if (path == NULL || path[0] == '\0' || s->req->host->run_as == NULL)
		return;
	args = path_args(s->vm, path);
	json_put_bool(args, "readonly", readonly);
	json_put_str(args, "user", s->req->host->run_as);
	start_add(s, STEP_DISK_GRANT, STEP_DISK_REVOKE, target, args);
}

void start_add_disk_grants(Start *s)
{
	for (guint i = 0; i < s->vm->disk->len; i++) {
		const VmDisk *d = s->vm->disk->pdata[i];

		add_grant(s, d->name, s->disk_path->pdata[i], d->readonly);
	}
}

static void add_grants(Start *s)
{
	static const struct {
		ProfileKey key;
		const char *name;
	} files[] = { { PROFILE_KERNEL, "kernel" }, { PROFILE_INITRD, "initrd" } };
	g_autofree char *seed = path_vm_seed(s->folders, s->vm->id),
			*nvram = path_vm_nvram(s->folders, s->vm->id), *cd = cd_path(s->vm, s->folders);

	start_add_disk_grants(s);
	for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
		add_grant(s, files[i].name, profile_text(s->profile, files[i].key), true);
	add_grant(s, CD_NAME, cd, true);
	if (s->vm->cloud_init != NULL)
		add_grant(s, "seed", seed, true);
	if (profile_is(s->profile, PROFILE_FIRMWARE, "uefi"))
		add_grant(s, "nvram", nvram, false);
}

static void add_tpm(Start *s)
{
	g_autofree char *dir = path_vm_tpm_dir(s->folders, s->vm->id);
	g_autofree char *socket = path_vm_socket(s->folders, s->vm->id, "swtpm");
	Json *args;

	if (profile_is(s->profile, PROFILE_TPM, "none"))
		return;
	args = vm_args(s->vm);
	json_put_str(args, "dir", dir);
	json_put_str(args, "socket", socket);
	json_put_str(args, "swtpm", s->req->host->swtpm);
	json_put_str(args, "user", s->req->host->run_as);
	start_add(s, STEP_TPM_START, STEP_TPM_STOP, s->vm->name, args);
}

/* Eight digits of the id and the slot: within IFNAMSIZ, and the same at every start. */
static char *tap_name(const Vm *vm, const VmNic *n)
{
	return g_strdup_printf("pl%.8s-%u", vm->id, n->slot);
}

static void add_taps(Start *s)
{
	for (guint i = 0; i < s->vm->nic->len; i++) {
		const VmNic *n = s->vm->nic->pdata[i];
		g_autofree char *tap = tap_name(s->vm, n);
		Json *args;

		if (!g_str_has_prefix(n->network, "bridge:"))
			continue;
		args = vm_args(s->vm);
		json_put_str(args, "tap", tap);
		json_put_str(args, "bridge", n->network + strlen("bridge:"));
		json_put_int(args, "queues", profile_nic_queues(s->profile, n));
		json_put(s->taps, n->name, json_deep_copy(args));
		start_add(s, STEP_NET_TAP_ADD, STEP_NET_TAP_DEL, n->name, args);
	}
}

/* A QEMU that waits for its guest instead of making one. */
static Json *argv_json(const Start *s)
{
	g_auto(GStrv) words = argv_words(s->argv);
	Json *argv = json_of_strv((const char *const *)words);

	if (s->from != NULL) {
		json_array_append_new(argv, json_string("-incoming"));
		json_array_append_new(argv, json_string("defer"));
	}
	return argv;
}

static Json *pin_record(const Start *s)
{
	const Profile *p = s->profile;

	return p->has_pin ? pin_to_json(&p->pin, p->guest, profile_text(p, PROFILE_MACHINE)) : json_null();
}

/* One that comes with more than it began with needs that here, too. */
static uint64_t claim_of(const Start *s)
{
	uint64_t start = profile_number(s->profile, PROFILE_START),
		 now = s->from != NULL ? s->from->memory : 0;

	return memory_claim_of(s->profile) + (now > start ? now - start : 0);
}

static void add_qemu(Start *s)
{
	g_auto(GStrv) fds = argv_fds(s->argv);
	g_autofree char *run = path_vm_run_dir(s->folders, s->vm->id),
			*log = path_vm_log(s->folders, s->vm->id);
	Json *args = vm_args(s->vm);

	json_put(args, "argv", argv_json(s));
	json_put(args, "fds", json_of_strv((const char *const *)fds));
	json_put_str(args, "run_dir", run);
	json_put_str(args, "log", s->log != NULL ? s->log : log);
	json_put_str(args, "user", s->req->host->run_as);
	json_put(args, "taps", json_deep_copy(s->taps));
	json_put_uint(args, "memory_claim", claim_of(s));
	start_add(s, STEP_QEMU_SPAWN, _STEP_MAX, s->vm->name, args);
	if (s->profile->has_pin) {
		args = vm_args(s->vm);
		json_put(args, "pin", pin_record(s));
		start_add(s, STEP_CPU_CHECK, _STEP_MAX, s->vm->name, args);
	}
}

/* How its memory moves; null when it does not. */
static Json *dynamic_record(const Start *s)
{
	const Profile *p = s->profile;
	Json *j;

	if (profile_is(p, PROFILE_METHOD, memory_method_name(MEMORY_FIXED)))
		return json_null();
	j = json_object();
	json_put_str(j, "method", profile_text(p, PROFILE_METHOD));
	json_put_uint(j, "base", profile_number(p, PROFILE_MEMORY));
	json_put_uint(j, "min", profile_number(p, PROFILE_MIN));
	json_put_uint(j, "start", profile_number(p, PROFILE_START));
	json_put_uint(j, "max", profile_number(p, PROFILE_MAX));
	json_put_uint(j, "region", profile_plug_region(p));
	json_put_uint(j, "overhead", memory_overhead_of(p));
	json_put_bool(j, "boots", s->from == NULL);
	return j;
}

static Json *running_members(const Start *s)
{
	Json *m = json_object();

	json_put_str(m, "state", "running");
	json_put_str(m, "reason", "started on request");
	json_put(m, "since", operation_fact("started_at"));
	json_put(m, "started_at", operation_fact("started_at"));
	json_put(m, "pid", operation_fact("pid"));
	json_put_str(m, "host", s->req->host->id);
	json_put_str(m, "accel", profile_text(s->profile, PROFILE_ACCEL));
	json_put_str(m, "machine", profile_text(s->profile, PROFILE_MACHINE));
	json_put_uint(m, "vcpus", profile_number(s->profile, PROFILE_VCPUS));
	json_put_uint(m, "memory", profile_number(s->profile, PROFILE_START));
	json_put(m, "dynamic", dynamic_record(s));
	json_put_uint(m, "memory_claim", memory_claim_of(s->profile));
	json_put(m, "exit", json_null());
	json_put(m, VM_RESTART_AT, json_null());
	json_put(m, "agent", json_null());
	json_put(m, "addresses", json_array());
	if (s->cold)
		json_put(m, "saved", json_null());
	return m;
}

static Json *applied_record(const Start *s)
{
	Json *j = json_object();

	json_put(j, "config", vm_to_json(s->vm));
	json_put(j, "arguments", argv_to_json(s->argv));
	json_put(j, "could_not", profile_could_not_to_json(s->profile));
	json_put(j, "cleanup", plan_to_json(s->cleanup));
	json_put(j, "pin", pin_record(s));
	return j;
}

void start_add_around(Start *s)
{
	start_add_run_dir(s);
	add_seed(s);
	add_firmware(s);
	add_grants(s);
	add_tpm(s);
	add_taps(s);
	add_qemu(s);
}

static void add_all(Start *s)
{
	start_add_checks(s);
	start_add_around(s);
}

void start_done(Start *s)
{
	g_ptr_array_unref(s->disk_path);
	plan_free(s->cleanup);
	json_unref(s->taps);
	profile_free(s->profile);
	argv_free(s->argv);
}

/* What QEMU is told, as all that is known now says. */
bool start_find_hardware(Start *s, GError **err)
{
	s->profile = profile_of(s->vm, s->req->host, s->req->cpu, json_str(s->seen->runtime, "machine"), err);
	if (s->profile == NULL || !start_find_disk_paths(s, err))
		return false;
	s->argv = argv_of(s->profile, s->vm, s->req->host, (const char *const *)s->disk_path->pdata, err);
	return s->argv != NULL;
}

static void add_start(Start *s, Operation *op)
{
	s->plan = op->plan;
	add_all(s);
	if (s->cold)
		start_add(s, STEP_STATE_REMOVE, _STEP_MAX, s->vm->name, vm_state_args(s->req, s->vm));
	start_add(s, STEP_QEMU_CONT, _STEP_MAX, s->vm->name, vm_args(s->vm));
}

static Operation *plan_of(Start *s, GError **err)
{
	g_autofree char *applied = key_vm_applied(s->vm->id);
	Operation *op;

	if (!start_find_hardware(s, err))
		return NULL;
	op = vm_operation_begin(s->req, "vm.start", s->seen, VM_ACTION_start, err);
	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	add_start(s, op);
	vm_operation_end(op, s->vm, running_members(s));
	operation_on_done(op, applied, applied_record(s));
	return op;
}

/* When the second half of it fails, the guest has ended in its reboot. */
static Operation *plan_replacement(Start *s, GError **err)
{
	g_autofree char *applied = key_vm_applied(s->vm->id), *runtime = key_vm_runtime(s->vm->id);
	Operation *op;
	Json *ended, *runs;

	if (!start_find_hardware(s, err))
		return NULL;
	op = vm_operation_begin(s->req, "vm.relevel", s->seen, VM_ACTION_reset, err);
	if (op == NULL)
		return NULL;
	plan_add(op->plan, STEP_QEMU_QUIT, s->vm->name, vm_args(s->vm));
	if (!vm_add_cleanup(op, s->seen, err))
		return operation_free(op);
	add_start(s, op);
	runs = running_members(s);
	json_put(runs, "operation", json_null());
	json_put_str(runs, "reason", "started anew in its reboot, with the pool's CPU level");
	operation_merge_on_done(op, runtime, runs);
	ended = vm_stopped_members(s->req, "crashed", "it could not be started again in its reboot", NULL);
	json_put(ended, "operation", json_null());
	operation_merge_on_failed(op, runtime, ended);
	operation_on_done(op, applied, applied_record(s));
	return op;
}

static Operation *plan_started(const PlanRequest *req, const VmSeen *seen, VmAction action, bool cold,
			       Operation *(*make)(Start *s, GError **err), GError **err)
{
	Start s = {
		.req = req,
		.seen = seen,
		.cold = cold,
		.vm = seen->vm,
		.folders = &req->host->folders,
		.disk_path = g_ptr_array_new(),
		.cleanup = plan_new(),
		.taps = json_object(),
	};
	Operation *op = NULL;

	/* What the state forbids is said before what the configuration lacks. */
	if (vm_allows(seen->vm->name, seen->runtime, action, err))
		op = make(&s, err);
	start_done(&s);
	return op;
}

Operation *plan_vm_relevel(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	return plan_started(req, seen, VM_ACTION_reset, false, plan_replacement, err);
}

/* ---- the same for a guest that comes from another host ---- */

static void add_vm_dir(Start *s)
{
	g_autofree char *dir = path_vm_dir(s->folders, s->vm->id);

	if (!s->from->shared_dir)
		start_add(s, STEP_VM_DIR_MAKE, _STEP_MAX, s->vm->name, path_args(s->vm, dir));
}

/* Empty, and as large as the disk is over there. */
static void add_copies(Start *s)
{
	for (size_t i = 0; i < s->from->n_disks; i++) {
		const struct plan_receive_disk *d = &s->from->disk[i];
		Json *args;

		if (!d->copied)
			continue;
		args = json_object();
		json_put_str(args, "volume", d->volume);
		json_put_str(args, "path", d->path);
		json_put_str(args, "format", d->format);
		json_put_uint(args, "size", d->size);
		if (d->volume == NULL)
			json_put_str(args, "disk", d->name);
		start_add(s, d->volume != NULL ? STEP_VOLUME_CREATE : STEP_DISK_MAKE, _STEP_MAX, d->name,
			  args);
	}
}

static Json *open_args(const Start *s)
{
	Json *args = vm_args(s->vm), *nodes = json_array();

	for (size_t i = 0; i < s->from->n_disks; i++) {
		g_autofree char *node = migrate_node(s->from->disk[i].name);

		if (s->from->disk[i].copied)
			json_array_append_new(nodes, json_string(node));
	}
	json_put(args, "nodes", nodes);
	json_put_str(args, "address", s->from->address);
	json_put_str(args, "key_dir", s->from->key_dir);
	json_put_bool(args, "post_copy", s->from->post_copy);
	return args;
}

static bool has_copies(const Start *s)
{
	for (size_t i = 0; i < s->from->n_disks; i++)
		if (s->from->disk[i].copied)
			return true;
	return false;
}

/* No file that QEMU writes is one that the source's QEMU has open: it may be opened before that lets go. */
static bool is_alone(const Start *s)
{
	for (size_t i = 0; i < s->from->n_disks; i++)
		if (!s->from->disk[i].copied)
			return false;
	return !profile_is(s->profile, PROFILE_FIRMWARE, "uefi");
}

static Json *receive_args(const Start *s)
{
	Json *args = vm_args(s->vm);

	json_put_str(args, "operation", s->from->operation);
	json_put_str(args, "source", s->from->source_id);
	json_put_str(args, "host", s->req->host->id);
	json_put_str(args, "key_dir", s->from->key_dir);
	json_put_bool(args, "disks", has_copies(s));
	json_put_bool(args, "alone", is_alone(s));
	json_put_bool(args, "run", s->from->run);
	return args;
}

/* The guest can't be told that its hardware changed under it. */
static bool check_hardware(const Start *s, GError **err)
{
	_cleanup_json_ Json *here = argv_to_json(s->argv), *differences = NULL;

	differences = hardware_differences(json_arr(s->from->applied, "arguments"), here);
	return json_array_size(differences) == 0 || hardware_fail(s->vm->name, differences, err);
}

static Json *received_members(const Start *s)
{
	Json *m = json_object();

	json_put(m, "pid", operation_fact("pid"));
	json_put_str(m, "host", s->req->host->id);
	json_put_uint(m, "memory_claim", claim_of(s));
	json_put(m, "operation", json_null());
	return m;
}

static Json *received_record(const Start *s)
{
	Json *j = applied_record(s), *pin = json_object_get(s->from->applied, "pin");

	if (pin != NULL)
		json_put(j, "pin", json_ref(pin));
	if (s->profile->dimms != NULL)
		json_put(j, DIMMS, json_ref(s->profile->dimms));
	return j;
}

/* A guest that has a pin gets just that CPU; one that has none is given what it was started with before. */
static CpuOffer *kept_cpu(const Start *s)
{
	struct featureset pin;
	GuestType type;
	CpuOffer *o;

	if (!pin_of_json(json_obj(s->from->applied, "pin"), &pin, &type, NULL))
		return NULL;
	o = g_new0(CpuOffer, 1);
	o->guest[type] = (struct cpu_offer){ .there = true, .fixed = true, .level = pin, .max = pin };
	if (s->req->cpu != NULL && s->req->cpu->guest[type].there)
		o->guest[type].max = s->req->cpu->guest[type].max;
	return o;
}

/* Those that it has grown by. */
static bool take_dimms(Start *s, GError **err)
{
	Json *sizes = json_object_get(s->from->applied, DIMMS);

	if (!dimm_list_check(sizes, profile_has_dimms(s->profile) ? profile_plug_region(s->profile) : 0, err))
		return false;
	s->profile->dimms = json_ref(sizes);
	return true;
}

/* What it had where it was, or nothing. */
static bool find_received_hardware(Start *s, GError **err)
{
	g_autoptr(CpuOffer) cpu = kept_cpu(s);

	s->profile = profile_of(s->vm, s->req->host, cpu, s->from->machine, err);
	if (s->profile == NULL || !take_dimms(s, err))
		return false;
	for (size_t i = 0; i < s->from->n_disks; i++)
		g_ptr_array_add(s->disk_path, (gpointer)s->from->disk[i].path);
	g_ptr_array_add(s->disk_path, NULL);
	s->argv = argv_of(s->profile, s->vm, s->req->host, (const char *const *)s->disk_path->pdata, err);
	return s->argv != NULL && check_hardware(s, err);
}

/* The other host wrote the list: what stands in it is looked up by the vm's own. */
static bool has_all_disks(const Start *s, GError **err)
{
	bool same = s->from->n_disks == s->vm->disk->len;

	for (size_t i = 0; same && i < s->from->n_disks; i++) {
		const VmDisk *own = s->vm->disk->pdata[i];

		same = g_strcmp0(s->from->disk[i].name, own->name) == 0 && s->from->disk[i].path != NULL;
	}
	return same ||
	       fail(err, ERR_INVALID, "the disks that were told of are not those of '%s'", s->vm->name);
}

static Operation *plan_reception(Start *s, GError **err)
{
	g_autofree char *runtime = key_vm_runtime(s->vm->id);
	Operation *op;

	if (!find_received_hardware(s, err))
		return NULL;
	op = vm_operation_new(s->req, "vm.receive", s->vm);
	s->plan = op->plan;
	op->may_cancel = true;
	add_vm_dir(s);
	add_copies(s);
	add_all(s);
	start_add(s, STEP_RECEIVE_OPEN, _STEP_MAX, s->vm->name, open_args(s));
	start_add(s, STEP_RECEIVE_GUEST, _STEP_MAX, s->vm->name, receive_args(s));
	operation_merge_on_done(op, runtime, received_members(s));
	return op;
}

Operation *plan_vm_receive(const PlanRequest *req, const Vm *vm, const struct plan_receive *from,
			   Json **ret_applied, GError **err)
{
	Start s = {
		.req = req,
		.from = from,
		.vm = vm,
		.folders = &req->host->folders,
		.disk_path = g_ptr_array_new(),
		.cleanup = plan_new(),
		.taps = json_object(),
	};
	Operation *op = has_all_disks(&s, err) ? plan_reception(&s, err) : NULL;

	if (op != NULL)
		*ret_applied = received_record(&s);
	start_done(&s);
	return op;
}

/* ---- the same for a guest whose state is in a file ---- */

static bool same_source(const VmDisk *a, const VmDisk *b)
{
	return g_strcmp0(a->path, b->path) == 0 && g_strcmp0(a->volume, b->volume) == 0;
}

/* The disk as the vm has it now: its place in `seen`, or -1. */
static int find_disk(const VmSeen *seen, const VmDisk *d)
{
	for (guint i = 0; i < seen->vm->disk->len; i++) {
		const VmDisk *now = seen->vm->disk->pdata[i];

		if (g_str_equal(now->name, d->name) && same_source(now, d))
			return (int)i;
	}
	return -1;
}

/* The disks that the guest had, which must be there still. `ret` has room for all; strings go to `keep`. */
static bool saved_disks(const Start *s, struct plan_receive_disk *ret, GPtrArray *keep, GError **err)
{
	for (guint i = 0; i < s->vm->disk->len; i++) {
		const VmDisk *d = s->vm->disk->pdata[i];
		int at = find_disk(s->seen, d);
		const Volume *v = at >= 0 ? s->seen->volume->pdata[at] : NULL;
		char *backing;

		if (at < 0 || (d->path == NULL && v == NULL))
			return fail_advice(
			    err, ERR_NOT_FOUND,
			    "Give it back that disk, or start the guest cold with --discard-state.",
			    "the disk '%s' that '%s' had when it was suspended is gone", d->name,
			    s->vm->name);
		backing = v != NULL && v->image_id != NULL ? path_image(s->folders, v->image_id) : NULL;
		if (backing != NULL)
			g_ptr_array_add(keep, backing);
		ret[i] = (struct plan_receive_disk){ .name = d->name,
						     .path = d->path != NULL ? d->path : v->path,
						     .backing = backing };
	}
	return true;
}

static Json *restored_members(const Start *s, bool runs)
{
	Json *m = running_members(s);

	/* The guest runs, and its agent may have come, before the clock is set: that is not taken back. The
	 * suspend left none. */
	json_object_del(m, "agent");
	json_object_del(m, "addresses");
	json_put_str(m, "reason", "taken up where it was suspended");
	json_put(m, "saved", json_null());
	if (runs)
		return m;
	json_put_str(m, "state", "paused");
	json_put_str(m, "since", s->req->now);
	json_put_str(m, "started_at", s->req->now);
	return m;
}

static Json *clock_args(const Start *s, const Json *saved)
{
	Json *args = vm_args(s->vm), *doubt = json_object_get(saved, "clock_doubt");

	json_put_int(args, "offset", json_int(saved, "clock_offset", 0));
	/* Earlier versions did not write it. */
	if (json_is_integer(doubt))
		json_put(args, "doubt", json_ref(doubt));
	json_put_str(args, "since", json_str(saved, "at"));
	return args;
}

static void add_restore(Start *s, const Json *saved, bool runs)
{
	Json *load = vm_state_args(s->req, s->vm);

	json_put_uint(load, "bytes", json_uint(saved, "bytes", 0));
	json_put_str(load, "sha256", json_str(saved, "sha256"));
	add_all(s);
	start_add(s, STEP_STATE_LOAD, _STEP_MAX, s->vm->name, load);
	/* Once it runs its disks would not fit to it a second time. One that stands needs its file no more.
	 */
	start_add(s, runs ? STEP_STATE_RUN : STEP_STATE_REMOVE, _STEP_MAX, s->vm->name,
		  vm_state_args(s->req, s->vm));
	if (runs && json_is_integer(json_object_get(saved, "clock_offset")))
		start_add(s, STEP_CLOCK_RESTORE, _STEP_MAX, s->vm->name, clock_args(s, saved));
}

static Operation *plan_restoration(Start *s, GError **err)
{
	const Json *saved = json_obj(s->seen->runtime, "saved");
	g_autofree char *applied = key_vm_applied(s->vm->id);
	bool runs = json_bool(saved, "runs", true);
	Operation *op;

	if (!find_received_hardware(s, err)) {
		err_advise(err, "It can be started cold with --discard-state.");
		return NULL;
	}
	op = vm_operation_begin(s->req, "vm.start", s->seen, VM_ACTION_start, err);
	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	s->plan = op->plan;
	add_restore(s, saved, runs);
	vm_operation_end(op, s->vm, restored_members(s, runs));
	operation_on_done(op, applied, received_record(s));
	return op;
}

/* As the vm was when it was suspended, but for its name. */
static Vm *suspended_vm(const VmSeen *seen, GError **err)
{
	Vm *vm = vm_of_json(json_obj(seen->applied, "config"), err);

	if (vm != NULL) {
		g_free(vm->name);
		vm->name = g_strdup(seen->vm->name);
	}
	return vm;
}

static Operation *plan_restore(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	g_autoptr(Vm) vm =
	    vm_allows(seen->vm->name, seen->runtime, VM_ACTION_start, err) ? suspended_vm(seen, err) : NULL;
	g_autofree struct plan_receive_disk *disk = NULL;
	g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func(g_free);
	struct plan_receive from = { .applied = seen->applied,
				     .machine = json_str(seen->runtime, "machine") };
	Start s = {
		.req = req,
		.seen = seen,
		.from = &from,
		.vm = vm,
		.folders = &req->host->folders,
	};
	Operation *op = NULL;

	if (vm == NULL)
		return NULL;
	disk = g_new0(struct plan_receive_disk, vm->disk->len);
	from.disk = disk;
	from.n_disks = vm->disk->len;
	s.disk_path = g_ptr_array_new();
	s.cleanup = plan_new();
	s.taps = json_object();
	if (saved_disks(&s, disk, keep, err))
		op = plan_restoration(&s, err);
	start_done(&s);
	return op;
}

Operation *plan_vm_start(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	if (vm_runtime_state(seen->runtime) == VM_SUSPENDED)
		return plan_restore(req, seen, err);
	return plan_started(req, seen, VM_ACTION_start, false, plan_of, err);
}

Operation *plan_vm_start_cold(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	bool saved = vm_runtime_state(seen->runtime) == VM_SUSPENDED;

	return plan_started(req, seen, VM_ACTION_start, saved, plan_of, err);
}
