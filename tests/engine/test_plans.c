/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plans that planners make, on the simulated engine: what each one says,
 * and that a kill at every point of every kind of plan, followed by a restart,
 * ends with the world as it was before or as it is after, and with no vm locked.
 */
#include "base/fd.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "core/plan/plan_backup.h"
#include "core/plan/plan_evidence.h"
#include "core/plan/plan_image.h"
#include "core/plan/plan_migrate.h"
#include "engine/records.h"
#include "engine/sim.h"

#include <string.h>
#include <sys/wait.h>

#define WAIT UINT64_C(120000000)
#define VM_ID "11111111-1111-4111-8111-111111111111"
#define COPY_ID "22222222-2222-4222-8222-222222222222"
#define IMAGE_ID "33333333-3333-4333-8333-333333333333"
#define VOLUME_ID "44444444-4444-4444-8444-444444444444"
#define FREE_ID "55555555-5555-4555-8555-555555555555"
#define NOW "2026-01-01T00:00:00Z"

typedef struct Bench {
	char *dir, *world, *orders;
	Store *store;
	Sim *sim;
	WorkerPool *pool;
	Exec *exec;
	HostFacts *host;
	CpuOffer *cpu;
	int n; /* operations made */
} Bench;

/* A pool of one: the level is what the host offers. */
static CpuOffer *offer_made(Sim *s)
{
	g_auto(CpuFound) found = { 0 };
	CpuOffer *o = g_new0(CpuOffer, 1);
	struct cpu_offer *tcg = &o->guest[GUEST_TCG];

	sim_cpu(s, ACCEL_TCG, &found);
	tcg->there = true;
	tcg->max = tcg->level = found.max;
	featureset_make_default(&tcg->level);
	o->guest[GUEST_KVM].why = g_strdup("simulated host");
	return o;
}

static void bench_open(Bench *b, const char *dir)
{
	g_autofree char *url = g_strdup_printf("sqlite:%s/state.db", dir);
	struct exec_config config = { .steps = sim_steps };
	g_autoptr(GError) err = NULL;

	b->dir = g_strdup(dir);
	b->world = g_build_filename(dir, "world.json", NULL);
	b->orders = g_build_filename(dir, "orders.json", NULL);
	b->store = store_open(url, &err);
	g_assert_no_error(err);
	b->sim = sim_open(b->world, b->orders);
	b->pool = worker_pool_new(2);
	b->host = sim_facts();
	b->cpu = offer_made(b->sim);
	b->host->id = g_strdup("99999999-9999-4999-8999-999999999999");
	b->host->name = g_strdup("sim");
	b->host->folders = (Folders){ g_strdup("/state"), g_strdup("/run"), g_strdup("/log") };
	config.store = b->store;
	config.pool = b->pool;
	config.engine = b->sim;
	b->exec = exec_new(&config);
}

static void bench_close(Bench *b)
{
	exec_free(b->exec);
	worker_pool_free(b->pool);
	sim_close(b->sim);
	store_close(b->store);
	host_facts_free(b->host);
	cpu_offer_free(b->cpu);
	g_free(b->dir);
	g_free(b->world);
	g_free(b->orders);
	*b = (Bench){ 0 };
}

static PlanRequest request(Bench *b, const char *op_id)
{
	return (PlanRequest){ .op_id = op_id, .now = NOW, .user = "tester", .host = b->host, .cpu = b->cpu };
}

static Volume *volume_made(const char *id, const char *name, const char *vm)
{
	Volume *v = volume_new();

	v->id = g_strdup(id);
	v->name = g_strdup(name);
	v->created_at = g_strdup(NOW);
	v->size = 1 << 30;
	v->format = g_strdup("qcow2");
	v->path = g_strdup_printf("/state/volumes/%s.qcow2", id);
	v->vm_id = g_strdup(vm);
	v->status = g_strdup("ready");
	return v;
}

static Vm *vm_made(const char *id, const char *name, const char *volume)
{
	_cleanup_json_ Json *j =
	    json_pack("{s:s,s:s,s:s,s:[{s:s,s:s}],s:[{s:s,s:s,s:s}],s:{s:s}}", "id", id, "name", name,
		      "created_at", NOW, "disks", "name", "root", "volume", volume, "nics", "name", "net0",
		      "network", "bridge:br0", "mac", "52:54:00:00:00:01", "cloud_init", "hostname", name);
	g_autoptr(GError) err = NULL;
	Vm *vm = vm_of_json(j, &err);

	g_assert_no_error(err);
	return vm;
}

static Operation *create(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(Vm) vm = vm_made(VM_ID, "web1", VOLUME_ID);
	g_autoptr(Volume) v = volume_made(VOLUME_ID, "web1-root", VM_ID);
	VolumeWish wish = { .volume = v };
	g_autoptr(GPtrArray) wishes = g_ptr_array_new();

	(void)err;
	g_ptr_array_add(wishes, &wish);
	return plan_vm_create(&req, vm, wishes);
}

static Operation *with_cd(Bench *b, const char *op_id, const char *path, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(VmRecords) r = vm_records_load(b->store, VM_ID, err);
	VmCd cd = { .path = (char *)path };
	const CdWish wish = { .cd = &cd };

	return r != NULL ? plan_vm_cd_insert(&req, &r->seen, &wish, err) : NULL;
}

static Operation *insert_cd(Bench *b, const char *op_id, GError **err)
{
	return with_cd(b, op_id, "/srv/tools.iso", err);
}

static Operation *change_cd(Bench *b, const char *op_id, GError **err)
{
	return with_cd(b, op_id, "/srv/other.iso", err);
}

typedef Operation *(*SeenPlan)(const PlanRequest *req, const VmSeen *seen, GError **err);

static Operation *with_seen(Bench *b, const char *op_id, SeenPlan plan, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(VmRecords) r = vm_records_load(b->store, VM_ID, err);

	return r != NULL ? plan(&req, &r->seen, err) : NULL;
}

static Operation *start(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_vm_start, err);
}

static Operation *relevel(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_vm_relevel, err);
}

static Operation *kill_vm(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_vm_kill, err);
}

static Operation *pause_vm(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_vm_pause, err);
}

static Operation *suspend_vm(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_vm_suspend, err);
}

static Operation *plan_keep(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	const struct evidence_wish wish = { .cause = "panic", .reason = "the guest's kernel panicked" };

	return plan_vm_evidence(req, seen, &wish, err);
}

static Operation *keep_evidence(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_keep, err);
}

static Operation *plan_dump(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	static const char *const formats[] = { "elf", NULL };
	const struct evidence_wish wish = {
		.cause = "request", .reason = "a dump was asked for", .formats = formats, .must_dump = true
	};

	return plan_vm_evidence(req, seen, &wish, err);
}

static Operation *dump_vm(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_dump, err);
}

static Operation *start_cold(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_vm_start_cold, err);
}

static Operation *plan_stop(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	return plan_vm_stop(req, seen, 1000000, false, err);
}

static Operation *stop(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_stop, err);
}

static Operation *plan_crash(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	_cleanup_json_ Json *exit = json_pack("{s:i,s:n}", "signal", 9, "shutdown");
	VmVerdict v;
	Operation *op;

	vm_exit_judge(seen->vm, seen->runtime, exit, 0, &v);
	op = plan_vm_cleanup(req, seen, &v, exit, err);
	vm_verdict_done(&v);
	return op;
}

static Operation *cleanup(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_crash, err);
}

static Operation *plan_eject(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	return plan_vm_cd_eject(req, seen, false, err);
}

static Operation *eject_cd(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_eject, err);
}

static Operation *plan_delete(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	return plan_vm_delete(req, seen, false, err);
}

static Operation *delete_vm(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_delete, err);
}

static Operation *plan_copy(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	g_autoptr(Vm) vm = vm_made(COPY_ID, "web2", FREE_ID);
	g_autoptr(Volume) v = volume_made(FREE_ID, "web2-root", COPY_ID);
	VolumeWish wish = { .volume = v, .clone_of = "/state/volumes/" VOLUME_ID ".qcow2" };
	g_autoptr(GPtrArray) wishes = g_ptr_array_new();

	g_ptr_array_add(wishes, &wish);
	return plan_vm_clone(req, seen, vm, wishes, err);
}

static Operation *clone_vm(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_copy, err);
}

static Operation *import(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(Image) img = image_new(IMAGE_ID, "debian", NOW, err);
	const ImageSource source = { .location = "/tmp/x.qcow2" };

	return plan_image_import(&req, img, &source);
}

static Operation *delete_image(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	static const char *const nobody[] = { NULL };
	int64_t rev;
	g_autoptr(Image) img = image_load(b->store, IMAGE_ID, &rev, err);

	return img != NULL ? plan_image_delete(&req, img, rev, nobody, err) : NULL;
}

static Operation *create_volume(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(Volume) v = volume_made(FREE_ID, "free", NULL);
	VolumeWish wish = { .volume = v };

	(void)err;
	return plan_volume_create(&req, &wish);
}

static Operation *delete_volume(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	int64_t rev;
	g_autoptr(Volume) v = volume_load(b->store, FREE_ID, &rev, err);

	return v != NULL ? plan_volume_delete(&req, v, rev, err) : NULL;
}

static Operation *grow_volume(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	VolumeGrowth g = { .size = UINT64_C(4) << 30 };
	g_autoptr(Volume) v = volume_load(b->store, FREE_ID, &g.rev, err);

	g.volume = v;
	return v != NULL ? plan_volume_grow(&req, &g, err) : NULL;
}

static Operation *plan_grow_disk(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	const VolumeGrowth g = {
		.volume = seen->volume->pdata[0], .rev = STORE_ANY, .seen = seen, .size = UINT64_C(4) << 30
	};

	return plan_vm_disk_grow(req, &g, seen->vm->disk->pdata[0], true, err);
}

static Operation *grow_disk(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_grow_disk, err);
}

static Operation *plan_add_disk(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	g_autoptr(Vm) is = vm_copy(seen->vm);
	g_autoptr(Volume) v = volume_made(FREE_ID, "web1-data", VM_ID);
	VolumeWish wish = { .volume = v };
	VmDisk *d = vm_disk_new();

	d->name = g_strdup("data");
	d->volume = g_strdup(FREE_ID);
	d->format = g_strdup("qcow2");
	d->bus = g_strdup("auto");
	d->slot = 1;
	g_ptr_array_add(is->disk, d);
	return plan_vm_disk_add(req, seen, is, &wish, err);
}

static Operation *add_disk(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_add_disk, err);
}

static Operation *plan_remove_disk(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	return plan_vm_disk_remove(req, seen, seen->vm->disk->pdata[1], seen->volume->pdata[1], true, err);
}

static Operation *remove_disk(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_remove_disk, err);
}

static Operation *plan_move(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	struct migrate_settings settings;
	struct plan_migrate to = {
		.host_id = FREE_ID, .host_name = "other", .address = "192.0.2.2", .settings = &settings
	};

	migrate_settings_init(&settings);
	return plan_vm_migrate(req, seen, &to, err);
}

static Operation *migrate(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_move, err);
}

/* What the other host's commit does: this one's operation has the lock from then on. */
static void hand_over(Bench *b, const VmRecords *r, const char *op_id)
{
	g_autofree char *key = key_vm_runtime(VM_ID), *text = NULL;
	_cleanup_json_ Json *j = json_deep_copy(r->runtime);
	StoreTx *tx = store_tx_new();

	json_put_str(j, "operation", op_id);
	text = json_print(j);
	store_tx_set(tx, key, STORE_ANY, text);
	g_assert_true(store_commit(b->store, tx, STORE_DURABLE, NULL, NULL));
}

/* A guest with one disk that is copied, as the host that it comes to plans it. */
static Operation *receive(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(VmRecords) r = vm_records_load(b->store, VM_ID, err);
	const struct plan_receive_disk disk = { .name = "root",
						.path = "/state/volumes/" FREE_ID ".qcow2",
						.copied = true,
						.volume = FREE_ID,
						.format = "qcow2",
						.size = 1 << 30 };
	const struct plan_receive from = { .operation = COPY_ID,
					   .source_id = IMAGE_ID,
					   .address = "192.0.2.2",
					   .key_dir = "/run/key",
					   .machine = json_str(r->runtime, "machine"),
					   .applied = r->applied,
					   .run = true,
					   .shared_dir = true, /* there is one world only */
					   .disk = &disk,
					   .n_disks = 1 };
	_cleanup_json_ Json *applied = NULL;
	Operation *op = plan_vm_receive(&req, r->vm, &from, &applied, err);

	/* The record of what it was started with stays usable, wherever it is. */
	g_assert_true(op == NULL || json_arr(applied, "cleanup") != NULL);
	hand_over(b, r, op_id);
	return op;
}

/* ---- backups ---- */

#define BACKUP_ID "20260101T000000Z-0a0b0c0d"
#define OLDER_ID "20251231T000000Z-0a0b0c0d"

static Backup *backup_made(const Vm *vm, const char *id, const char *parent)
{
	Backup *b = backup_new();
	BackupDisk *d = backup_disk_new("root", 1 << 30);

	b->id = g_strdup(id);
	b->parent = g_strdup(parent);
	b->created_at = g_strdup(NOW);
	b->vm = vm_copy(vm);
	d->sha512 = g_strdup("");
	g_ptr_array_add(b->disk, d);
	return b;
}

static void drop_backup(gpointer p)
{
	backup_free(p);
}

/* A full one and one that rests on it, the newest first. */
static GPtrArray *backups_made(const Vm *vm)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(drop_backup);

	g_ptr_array_add(all, backup_made(vm, BACKUP_ID, OLDER_ID));
	g_ptr_array_add(all, backup_made(vm, OLDER_ID, NULL));
	return all;
}

static Operation *plan_backup(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	g_autoptr(GPtrArray) all = backups_made(seen->vm);
	_cleanup_json_ Json *blocks = json_pack(
	    "[{s:{s:s,s:{s:i},s:[{s:s,s:b,s:b}]}}]", "inserted", "node-name", "disk-root", "image",
	    "virtual-size", 1 << 30, "dirty-bitmaps", "name", "plim-" BACKUP_ID, "recording", 1, "busy", 0);
	const struct plan_backup p = { .repository = "/backup",
				       .incremental = true,
				       .blocks = blocks,
				       .backups = all,
				       .has_agent = true };
	Operation *op = plan_vm_backup(req, seen, &p, err);

	g_assert_true(op == NULL || g_str_equal(json_str(op->result, "parent"), BACKUP_ID));
	return op;
}

static Operation *back_up(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_backup, err);
}

static Operation *plan_over(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	g_autoptr(GPtrArray) all = backups_made(seen->vm), chain = backup_chain(all, all->pdata[0], err);

	return plan_backup_restore_over(req, seen, "/backup", chain, NULL, err);
}

static Operation *restore_over(Bench *b, const char *op_id, GError **err)
{
	return with_seen(b, op_id, plan_over, err);
}

static Operation *restore_new(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(Vm) vm = vm_made(COPY_ID, "web2", FREE_ID);
	g_autoptr(Volume) v = volume_made(FREE_ID, "web2-root", COPY_ID);
	g_autoptr(GPtrArray) all = backups_made(vm), chain = backup_chain(all, all->pdata[0], err),
			     wishes = g_ptr_array_new();
	_cleanup_json_ Json *sources = backup_sources("/backup", chain, "root", NULL);
	VolumeWish wish = { .volume = v, .backup = sources };

	g_ptr_array_add(wishes, &wish);
	return plan_backup_restore_new(&req, vm, wishes);
}

static Operation *verify(Bench *b, const char *op_id, uint64_t boot, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(Vm) vm = vm_made(VM_ID, "web1", VOLUME_ID);
	g_autoptr(GPtrArray) all = backups_made(vm), chain = backup_chain(all, all->pdata[0], err);

	return plan_backup_verify(&req, "/backup", chain, NULL, boot, err);
}

static Operation *verify_backup(Bench *b, const char *op_id, GError **err)
{
	return verify(b, op_id, 0, err);
}

static Operation *boot_backup(Bench *b, const char *op_id, GError **err)
{
	return verify(b, op_id, 1000000, err);
}

static Operation *mount_backup(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(Vm) vm = vm_made(VM_ID, "web1", VOLUME_ID);
	g_autoptr(GPtrArray) all = backups_made(vm), chain = backup_chain(all, all->pdata[0], err);

	return plan_backup_mount(&req, "/backup", chain, NULL);
}

static Operation *prune(Bench *b, const char *op_id, GError **err)
{
	PlanRequest req = request(b, op_id);
	g_autoptr(Vm) vm = vm_made(VM_ID, "web1", VOLUME_ID);
	g_autoptr(GPtrArray) all = backups_made(vm);

	(void)err;
	return plan_backup_prune(&req, "/backup", all);
}

typedef Operation *(*MakeFunc)(Bench *b, const char *op_id, GError **err);

/* Every kind of plan, what must have happened before it, and the plan as it is printed. */
static const struct {
	const char *kind;
	MakeFunc make, before[3];
	const char *text;
} kinds[] = {
	{ "vm.create", create, { NULL }, "VM_DIR_MAKE web1\nVOLUME_CREATE web1-root\n" },
	{ "vm.start",
	  start,
	  { create },
	  "DISK_CHECK root\nRUN_DIR_MAKE web1\nSEED_WRITE web1\nNET_TAP_ADD net0\nQEMU_SPAWN web1\nCPU_CHECK web1\nQEMU_CONT web1\n" },
	{ "vm.stop",
	  stop,
	  { create, start },
	  "GUEST_SHUTDOWN web1\nQEMU_QUIT web1\nNET_TAP_DEL net0\nRUN_DIR_REMOVE web1\n" },
	{ "vm.relevel",
	  relevel,
	  { create, start },
	  "QEMU_QUIT web1\nNET_TAP_DEL net0\nRUN_DIR_REMOVE web1\nDISK_CHECK root\nRUN_DIR_MAKE web1\nSEED_WRITE web1\n"
	  "NET_TAP_ADD net0\nQEMU_SPAWN web1\nCPU_CHECK web1\nQEMU_CONT web1\n" },
	{ "vm.kill", kill_vm, { create, start }, "QEMU_QUIT web1\nNET_TAP_DEL net0\nRUN_DIR_REMOVE web1\n" },
	{ "vm.cleanup",
	  cleanup,
	  { create, start },
	  "QEMU_QUIT web1\nNET_TAP_DEL net0\nRUN_DIR_REMOVE web1\n" },
	{ "vm.migrate",
	  migrate,
	  { create, start },
	  "MIGRATE_PREPARE other\nMIGRATE_SEND web1\nQEMU_QUIT web1\nNET_TAP_DEL net0\nRUN_DIR_REMOVE web1\n"
	  "MIGRATE_LEAVE web1\n" },
	{ "vm.receive",
	  receive,
	  { create, start, kill_vm },
	  "VOLUME_CREATE root\nDISK_CHECK root\nRUN_DIR_MAKE web1\nSEED_WRITE web1\nNET_TAP_ADD net0\n"
	  "QEMU_SPAWN web1\nCPU_CHECK web1\nRECEIVE_OPEN web1\nRECEIVE_GUEST web1\n" },
	{ "vm.pause", pause_vm, { create, start }, "QEMU_PAUSE web1\n" },
	{ "vm.suspend",
	  suspend_vm,
	  { create, start },
	  "STATE_SAVE web1\nQEMU_QUIT web1\nNET_TAP_DEL net0\nRUN_DIR_REMOVE web1\n" },
	{ "vm.start",
	  start,
	  { create, start, suspend_vm },
	  "DISK_CHECK root\nRUN_DIR_MAKE web1\nSEED_WRITE web1\nNET_TAP_ADD net0\nQEMU_SPAWN web1\nCPU_CHECK web1\n"
	  "STATE_LOAD web1\nSTATE_RUN web1\n" },
	{ "vm.start",
	  start_cold,
	  { create, start, suspend_vm },
	  "DISK_CHECK root\nRUN_DIR_MAKE web1\nSEED_WRITE web1\nNET_TAP_ADD net0\nQEMU_SPAWN web1\nCPU_CHECK web1\n"
	  "STATE_REMOVE web1\nQEMU_CONT web1\n" },
	{ "vm.dump", dump_vm, { create, start }, "EVIDENCE_TAKE web1\n" },
	{ "vm.evidence", keep_evidence, { create, start }, "EVIDENCE_TAKE web1\n" },
	{ "vm.kill", kill_vm, { create, start, suspend_vm }, "STATE_REMOVE web1\n" },
	{ "vm.backup",
	  back_up,
	  { create, start },
	  "BACKUP_PREPARE web1\nBACKUP_COPY web1\nBACKUP_SEAL web1\nBACKUP_SETTLE web1\n" },
	{ "vm.backup",
	  back_up,
	  { create },
	  "DISK_CHECK root\nRUN_DIR_MAKE web1\nQEMU_SPAWN web1\nBACKUP_PREPARE web1\nBACKUP_COPY web1\nBACKUP_SEAL web1\n"
	  "BACKUP_SETTLE web1\nQEMU_QUIT web1\nRUN_DIR_REMOVE web1\n" },
	{ "backup.verify", verify_backup, { NULL }, "BACKUP_VERIFY root\n" },
	{ "backup.verify",
	  boot_backup,
	  { NULL },
	  "BACKUP_VERIFY root\nVM_DIR_MAKE web1\nBACKUP_SERVE " BACKUP_ID "\nBACKUP_OVERLAY " BACKUP_ID
	  "\nRUN_DIR_MAKE web1\n"
	  "QEMU_SPAWN web1\nCPU_CHECK web1\nQEMU_RESUME web1\nBACKUP_BOOT " BACKUP_ID
	  "\nQEMU_QUIT web1\nRUN_DIR_REMOVE web1\n"
	  "BACKUP_UNSERVE " BACKUP_ID "\nVM_DIR_REMOVE web1\n" },
	{ "backup.mount", mount_backup, { NULL }, "BACKUP_SERVE " BACKUP_ID "\n" },
	{ "backup.prune", prune, { NULL }, "BACKUP_DELETE " BACKUP_ID "\nBACKUP_DELETE " OLDER_ID "\n" },
	{ "backup.restore", restore_over, { create }, "VOLUME_RESTORE root\nVOLUME_SWAP root\n" },
	{ "backup.restore", restore_new, { NULL }, "VM_DIR_MAKE web2\nVOLUME_RESTORE web2-root\n" },
	{ "vm.clone", clone_vm, { create }, "VM_DIR_MAKE web2\nVOLUME_CLONE web2-root\n" },
	{ "vm.delete", delete_vm, { create }, "VOLUME_DELETE web1-root\nVM_DIR_REMOVE web1\n" },
	{ "image.import",
	  import,
	  { NULL },
	  "IMAGE_FETCH debian\nIMAGE_INSPECT debian\nIMAGE_CONVERT debian\nIMAGE_PUBLISH debian\n" },
	{ "image.delete", delete_image, { import }, "IMAGE_REMOVE debian\n" },
	{ "volume.create", create_volume, { NULL }, "VOLUME_CREATE free\n" },
	{ "volume.grow", grow_volume, { create_volume }, "VOLUME_GROW free\n" },
	{ "vm.disk-grow", grow_disk, { create, start }, "DISK_GROW root\nGUEST_GROW root\n" },
	{ "vm.cd-insert", insert_cd, { create, start }, "CD_INSERT cdrom\n" },
	{ "vm.cd-insert", change_cd, { create, start, insert_cd }, "CD_EJECT cdrom\nCD_INSERT cdrom\n" },
	{ "vm.cd-eject", eject_cd, { create, start, insert_cd }, "CD_EJECT cdrom\n" },
	{ "vm.kill",
	  kill_vm,
	  { create, start, insert_cd },
	  "QEMU_QUIT web1\nNET_TAP_DEL net0\nRUN_DIR_REMOVE web1\n" },
	{ "vm.disk-add", add_disk, { create }, "VOLUME_CREATE web1-data\n" },
	{ "vm.disk-remove", remove_disk, { create, add_disk }, "VOLUME_DELETE web1-data\n" },
	{ "volume.delete", delete_volume, { create_volume }, "VOLUME_DELETE free\n" },
};

static OperationState run(Bench *b, MakeFunc make)
{
	g_autofree char *id = g_strdup_printf("op%d", b->n++), *key = key_operation(id);
	g_autoptr(GError) err = NULL;
	Operation *op = make(b, id, &err);
	g_autoptr(Operation) ended = NULL;
	_cleanup_json_ Json *j = NULL;

	g_assert_no_error(err);
	exec_submit(b->exec, op, &err);
	g_assert_no_error(err);
	g_assert_true(exec_wait(b->exec, id, WAIT));
	j = record_get(b->store, key, NULL, NULL);
	ended = operation_of_json(j, NULL);
	return ended->state;
}

static void prepare(Bench *b, size_t k)
{
	for (size_t i = 0; i < G_N_ELEMENTS(kinds[k].before) && kinds[k].before[i] != NULL; i++)
		g_assert_cmpint(run(b, kinds[k].before[i]), ==, OPERATION_DONE);
}

static char *scratch(void)
{
	return g_dir_make_tmp("plimsoll-plans-XXXXXX", NULL);
}

static void test_each_plan_says_what_it_does(void)
{
	for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
		g_autofree char *dir = scratch(), *text = NULL;
		g_autoptr(Operation) op = NULL;
		Bench b = { 0 };

		bench_open(&b, dir);
		prepare(&b, k);
		op = kinds[k].make(&b, "x", NULL);
		text = plan_print(op->plan);
		g_assert_cmpstr(text, ==, kinds[k].text);
		g_assert_cmpstr(op->kind, ==, kinds[k].kind);
		bench_close(&b);
		g_assert_true(dir_remove(dir, NULL));
	}
}

/* The list is another host's: a wrong one is refused before anything is looked up in it. */
static void test_a_guest_with_other_disks_is_not_received(void)
{
	const struct plan_receive_disk good = { .name = "root", .path = "/state/volumes/x.raw" },
				       nameless = { .path = good.path },
				       strange = { .name = "data", .path = good.path },
				       nowhere = { .name = "root" };
	const struct plan_receive_disk *lists[] = { NULL, &nameless, &strange, &nowhere };
	g_autofree char *dir = scratch();
	Bench b = { 0 };

	bench_open(&b, dir);
	g_assert_cmpint(run(&b, create), ==, OPERATION_DONE);
	g_assert_cmpint(run(&b, start), ==, OPERATION_DONE);
	for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
		PlanRequest req = request(&b, "x");
		g_autoptr(VmRecords) r = vm_records_load(b.store, VM_ID, NULL);
		struct plan_receive from = {
			.machine = "q35", .applied = r->applied, .disk = lists[i], .n_disks = lists[i] != NULL
		};
		_cleanup_json_ Json *applied = NULL;
		g_autoptr(GError) err = NULL;

		g_assert_cmpuint(r->vm->disk->len, ==, 1);
		g_assert_null(plan_vm_receive(&req, r->vm, &from, &applied, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_null(applied);
	}
	bench_close(&b);
	g_assert_true(dir_remove(dir, NULL));
}

static Json *applied_arguments(Bench *b)
{
	g_autofree char *key = key_vm_applied(VM_ID);
	_cleanup_json_ Json *j = record_get(b->store, key, NULL, NULL);

	return json_deep_copy(json_arr(j, "arguments"));
}

static Json *after_runs(const MakeFunc *make, size_t n)
{
	g_autofree char *dir = scratch();
	Bench b = { 0 };
	Json *arguments;

	bench_open(&b, dir);
	for (size_t i = 0; i < n; i++)
		g_assert_cmpint(run(&b, make[i]), ==, OPERATION_DONE);
	arguments = applied_arguments(&b);
	bench_close(&b);
	g_assert_true(dir_remove(dir, NULL));
	return arguments;
}

/* By it a guest is moved, and restored: what was plugged in must be recorded as if it had been there. */
static void test_a_cd_is_recorded_as_if_the_guest_had_been_started_with_it(void)
{
	static const MakeFunc plugged[] = { create, start, insert_cd }, cold[] = { create, insert_cd, start },
			      changed[] = { create, start, change_cd, insert_cd },
			      empty[] = { create, start, insert_cd, eject_cd }, never[] = { create, start };
	_cleanup_json_ Json *a = after_runs(plugged, 3), *b = after_runs(cold, 3),
			    *c = after_runs(changed, 4), *d = after_runs(empty, 4), *e = after_runs(never, 2);

	g_assert_true(json_equal(a, b));
	g_assert_true(json_equal(c, b));
	/* The controller stays until the next start. */
	g_assert_cmpuint(json_array_size(d), ==, json_array_size(e) + 1);
	g_assert_cmpuint(json_array_size(a), ==, json_array_size(d) + 3);
}

static void test_a_guest_without_a_place_for_a_drive_is_told_what_to_do(void)
{
	g_autofree char *dir = scratch();
	g_autoptr(GError) err = NULL, empty = NULL;
	g_autoptr(VmRecords) r = NULL;
	VmCd cd = { .path = (char *)"/srv/tools.iso" };
	const CdWish wish = { .cd = &cd };
	PlanRequest req;
	Bench b = { 0 };

	bench_open(&b, dir);
	run(&b, create);
	run(&b, start);
	req = request(&b, "x");
	r = vm_records_load(b.store, VM_ID, NULL);
	json_put_str(json_obj(json_obj(r->applied, "config"), "properties"), "os_type", "windows");
	g_assert_null(plan_vm_cd_insert(&req, &r->seen, &wish, &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(strstr(err_advice(err), "plim vm stop web1"));
	g_assert_null(plan_vm_cd_eject(&req, &r->seen, false, &empty));
	g_assert_error(empty, ERR, ERR_BAD_STATE);
	bench_close(&b);
	g_assert_true(dir_remove(dir, NULL));
}

/* What fails when all is loaded leaves the state where it was: there is no other copy of the guest. */
static void test_a_suspended_guest_that_can_not_run_is_suspended_still(void)
{
	static const char fails[] = "{\"fail\":{\"QEMU_CONT\":\"no\",\"STATE_RUN\":\"no\"}}";
	g_autofree char *dir = scratch(), *orders = g_build_filename(dir, "orders.json", NULL),
			*before = NULL, *after = NULL, *key = key_vm_runtime(VM_ID);
	_cleanup_json_ Json *runtime = NULL;
	Bench b = { 0 };

	bench_open(&b, dir);
	run(&b, create);
	run(&b, start);
	run(&b, suspend_vm);
	before = sim_print(b.sim);
	g_assert_nonnull(strstr(before, "state:"));
	g_assert_true(file_write_atomic(orders, fails, strlen(fails), 0600, NULL));
	g_assert_cmpint(run(&b, start), ==, OPERATION_FAILED);
	after = sim_print(b.sim);
	g_assert_cmpstr(after, ==, before);
	runtime = record_get(b.store, key, NULL, NULL);
	g_assert_cmpstr(json_str(runtime, "state"), ==, "suspended");
	g_assert_nonnull(json_obj(runtime, "saved"));
	bench_close(&b);
	g_assert_true(dir_remove(dir, NULL));
}

static Json *runtime_of(Bench *b)
{
	g_autofree char *key = key_vm_runtime(VM_ID);

	return record_get(b->store, key, NULL, NULL);
}

/* As the supervisor does while the operation runs. */
static void tell_of_agent(Bench *b)
{
	g_autofree char *key = key_vm_runtime(VM_ID), *text = NULL;
	_cleanup_json_ Json *j = runtime_of(b);
	StoreTx *tx = store_tx_new();

	json_put(j, "agent", json_pack("{s:b,s:s}", "connected", 1, "version", "9.2"));
	json_put(j, "addresses", json_pack("[s]", "192.0.2.7"));
	text = json_print(j);
	store_tx_set(tx, key, STORE_ANY, text);
	g_assert_true(store_commit(b->store, tx, STORE_RELAXED, NULL, NULL));
}

static void test_the_agent_of_a_guest_that_is_taken_up_stays_on_record(void)
{
	g_autofree char *dir = scratch();
	_cleanup_json_ Json *suspended = NULL, *resumed = NULL;
	Bench b = { 0 };

	bench_open(&b, dir);
	run(&b, create);
	run(&b, start);
	tell_of_agent(&b);
	run(&b, suspend_vm);
	suspended = runtime_of(&b);
	g_assert_null(json_obj(suspended, "agent"));
	g_assert_cmpuint(json_array_size(json_arr(suspended, "addresses")), ==, 0);
	tell_of_agent(&b);
	g_assert_cmpint(run(&b, start), ==, OPERATION_DONE);
	resumed = runtime_of(&b);
	g_assert_cmpstr(json_str(resumed, "state"), ==, "running");
	g_assert_true(json_bool(json_obj(resumed, "agent"), "connected", false));
	g_assert_cmpuint(json_array_size(json_arr(resumed, "addresses")), ==, 1);
	bench_close(&b);
	g_assert_true(dir_remove(dir, NULL));
}

/* It has moved since its host was asked. */
static void test_nothing_is_begun_where_a_guest_runs_no_more(void)
{
	static const struct {
		Operation *(*make)(Bench *b, const char *op_id, GError **err);
	} plan[] = { { kill_vm }, { migrate }, { suspend_vm }, { insert_cd } };
	g_autofree char *dir = scratch();
	Bench b = { 0 };

	bench_open(&b, dir);
	run(&b, create);
	run(&b, start);
	g_free(b.host->id);
	b.host->id = g_strdup("88888888-8888-4888-8888-888888888888");
	for (size_t i = 0; i < G_N_ELEMENTS(plan); i++) {
		g_autoptr(GError) err = NULL;

		g_assert_null(plan[i].make(&b, "op50", &err));
		g_assert_error(err, ERR, ERR_BAD_STATE);
		g_assert_nonnull(strstr(err->message, "another host"));
	}
	bench_close(&b);
	g_assert_true(dir_remove(dir, NULL));
}

/* A lock, or a record that says "creating", may not outlive its operation. */
static void assert_nothing_is_busy(Bench *b, bool handed_over)
{
	g_autoptr(GPtrArray) items = store_list(b->store, KEY_ROOT, NULL, NULL);

	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);
		const char *status = json_str(j, "status");

		g_assert_true(handed_over || json_str(j, "operation") == NULL);
		if (g_str_has_prefix(item->key, KEYS_VOLUMES))
			g_assert_cmpstr(status, ==, "ready");
		if (g_str_has_prefix(item->key, KEYS_IMAGES))
			g_assert_cmpstr(status, ==, "active");
	}
}

static void order_kill(const char *dir, int at)
{
	g_autofree char *path = g_build_filename(dir, "orders.json", NULL);
	g_autofree char *text = g_strdup_printf("{\"kill_at\":%d}", at);

	g_assert_true(file_write_atomic(path, text, strlen(text), 0600, NULL));
}

/* The program runs itself for this: a fork of a process with threads is no daemon. */
static int child_main(const char *dir, size_t k)
{
	Bench b = { .n = 100 };

	bench_open(&b, dir);
	run(&b, kinds[k].make);
	bench_close(&b);
	return 0;
}

/* True when the child got through without meeting its kill point. */
static bool run_killed(const char *dir, size_t k)
{
	g_autofree char *row = g_strdup_printf("%zu", k);
	char *argv[] = { (char *)"/proc/self/exe", (char *)"--child", (char *)dir, row, NULL };
	int status;

	g_assert_true(g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL));
	g_assert_true(WIFEXITED(status));
	g_assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9);
	return WEXITSTATUS(status) == 0;
}

static char *world_after_recovery(const char *dir, OperationState *ret_state)
{
	Bench b = { 0 };
	g_autofree char *key = key_operation("op100");
	_cleanup_json_ Json *j = NULL;
	g_autoptr(Operation) op = NULL;
	char *world;

	order_kill(dir, 0);
	bench_open(&b, dir);
	g_assert_true(exec_recover(b.exec, NULL, NULL, NULL));
	g_assert_true(exec_wait(b.exec, "op100", WAIT));
	j = record_get(b.store, key, NULL, NULL);
	op = operation_of_json(j, NULL);
	g_assert_true(operation_ended(op));
	*ret_state = op->state;
	/* The lock of a guest that moved is the other host's; one that did not come is unlocked by the real
	 * step. */
	assert_nothing_is_busy(&b,
			       (g_str_equal(op->kind, "vm.migrate") && op->state == OPERATION_DONE) ||
				   (g_str_equal(op->kind, "vm.receive") && op->state == OPERATION_FAILED));
	world = sim_print(b.sim);
	bench_close(&b);
	return world;
}

static void check_kill_at(size_t k, int at, const char *before, const char *after, bool *ret_through)
{
	g_autofree char *dir = scratch(), *world = NULL;
	OperationState state;
	Bench b = { 0 };

	bench_open(&b, dir);
	prepare(&b, k);
	bench_close(&b);
	order_kill(dir, at);
	*ret_through = run_killed(dir, k);
	world = world_after_recovery(dir, &state);
	g_assert_cmpstr(world, ==, state == OPERATION_DONE ? after : before);
	if (*ret_through)
		g_assert_cmpint(state, ==, OPERATION_DONE);
	g_assert_true(dir_remove(dir, NULL));
}

static void test_a_kill_at_every_point_of(gconstpointer data)
{
	size_t k = GPOINTER_TO_SIZE(data);
	g_autofree char *dir = scratch(), *before = NULL, *after = NULL;
	bool through = false;
	Bench b = { 0 };

	bench_open(&b, dir);
	prepare(&b, k);
	before = sim_print(b.sim);
	g_assert_cmpint(run(&b, kinds[k].make), ==, OPERATION_DONE);
	after = sim_print(b.sim);
	bench_close(&b);
	g_assert_true(dir_remove(dir, NULL));
	for (int at = 1; !through; at++) {
		g_assert_cmpint(at, <, 100);
		check_kill_at(k, at, before, after, &through);
		g_assert_true(at > 1 || !through);
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && g_str_equal(argv[1], "--child"))
		return child_main(argv[2], (size_t)g_ascii_strtoull(argv[3], NULL, 10));
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/plans/text", test_each_plan_says_what_it_does);
	g_test_add_func("/plans/a_guest_with_other_disks_is_not_received",
			test_a_guest_with_other_disks_is_not_received);
	g_test_add_func("/plans/cd-recorded", test_a_cd_is_recorded_as_if_the_guest_had_been_started_with_it);
	g_test_add_func("/plans/cd-refused", test_a_guest_without_a_place_for_a_drive_is_told_what_to_do);
	g_test_add_func("/plans/saved-state", test_a_suspended_guest_that_can_not_run_is_suspended_still);
	g_test_add_func("/plans/elsewhere", test_nothing_is_begun_where_a_guest_runs_no_more);
	g_test_add_func("/plans/saved-agent", test_the_agent_of_a_guest_that_is_taken_up_stays_on_record);
	for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
		g_autofree char *path = g_strdup_printf("/plans/kill/%zu-%s", k, kinds[k].kind);

		g_test_add_data_func(path, GSIZE_TO_POINTER(k), test_a_kill_at_every_point_of);
	}
	return g_test_run();
}
