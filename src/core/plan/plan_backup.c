/* SPDX-License-Identifier: Apache-2.0 */
#include "core/plan/plan_backup.h"
#include "core/backup/follow.h"
#include "core/model/keys.h"
#include "core/model/paths.h"
#include "core/plan/plan_aside.h"
#include "core/plan/plan_vm-impl.h"

char *backup_folder(const char *repository, const char *vm, const char *backup)
{
	return g_build_filename(repository, vm, backup, NULL);
}

/* ---- a new one ---- */

typedef struct Making {
	const PlanRequest *req;
	const struct plan_backup *p;
	const VmSeen *seen;
	Vm *vm;               /* as it runs, or as it is */
	bool off;             /* it does not run */
	GPtrArray *name;      /* of the disks that are backed up; NULL-terminated */
	GPtrArray *left_out;  /* the same of the others */
	const Backup *parent; /* or NULL */
	char *why_full;       /* or NULL */
	char *id;
	char *key_check; /* or NULL */
} Making;

static void making_done(Making *m)
{
	vm_free(m->vm);
	g_ptr_array_unref(m->name);
	g_ptr_array_unref(m->left_out);
	g_free(m->why_full);
	g_free(m->id);
	g_free(m->key_check);
}

static bool find_disks(Making *m, GError **err)
{
	for (guint i = 0; i < m->vm->disk->len; i++) {
		VmDisk *d = m->vm->disk->pdata[i];

		g_ptr_array_add(d->readonly ? m->left_out : m->name, d->name);
	}
	if (m->name->len == 0)
		return fail_advice(err, ERR_UNSUPPORTED, "`plim vm export` writes down its configuration.",
				   "vm '%s' has no disk that is written to", m->vm->name);
	g_ptr_array_add(m->name, NULL);
	g_ptr_array_add(m->left_out, NULL);
	return true;
}

static bool find_vm(Making *m, GError **err)
{
	const Json *config = json_obj(m->seen->applied, "config");

	if (m->off) {
		m->vm = vm_copy(m->seen->vm);
		return true;
	}
	if (config == NULL)
		return fail(err, ERR_BAD_STATE, "it is not recorded what '%s' was started with",
			    m->seen->vm->name);
	m->vm = vm_of_json(config, err);
	return m->vm != NULL;
}

static const char *const *names_of(const Making *m)
{
	return (const char *const *)m->name->pdata;
}

static void find_parent(Making *m)
{
	if (m->p->incremental)
		m->parent = backup_follow(m->p->backups, m->p->blocks, names_of(m), m->p->key, &m->why_full);
}

/* {vm, name, backup, repository}: what every step of a backup carries. */
static Json *backup_args(const Making *m)
{
	Json *args = vm_args(m->vm);

	json_put_str(args, "backup", m->id);
	json_put_str(args, "repository", m->p->repository);
	return args;
}

/* The same, with what leads to the key. */
static Json *key_args(const Making *m)
{
	Json *args = backup_args(m);

	if (m->key_check != NULL) {
		json_put_str(args, "key_file", m->p->key_file);
		json_put_str(args, "key_check", m->key_check);
	}
	return args;
}

static uint64_t size_of(const Making *m, const char *disk)
{
	uint64_t size = backup_disk_size(m->p->blocks, disk);

	/* A simulated engine has no QEMU to ask. */
	for (guint i = 0; size == 0 && i < m->vm->disk->len && i < m->seen->volume->len; i++) {
		const Volume *v = m->seen->volume->pdata[i];

		if (v != NULL && g_str_equal(((const VmDisk *)m->vm->disk->pdata[i])->name, disk))
			size = v->size;
	}
	return size;
}

/* [{name, size, qcow2}] */
static Json *disks_of(const Making *m)
{
	Json *list = json_array();

	for (guint i = 0; m->name->pdata[i] != NULL; i++) {
		const VmDisk *d = vm_disk_find(m->vm, m->name->pdata[i]);
		Json *j = json_object();

		json_put_str(j, "name", d->name);
		json_put_uint(j, "size", size_of(m, d->name));
		json_put_bool(j, "qcow2", g_str_equal(d->format, "qcow2"));
		json_array_append_new(list, j);
	}
	return list;
}

static void add_prepare(const Making *m, Operation *op)
{
	Json *args = key_args(m);

	json_put(args, "disks", disks_of(m));
	json_put_str(args, "parent", m->parent != NULL ? m->parent->id : NULL);
	plan_add(op->plan, STEP_BACKUP_PREPARE, m->vm->name, args);
}

static VmState state_of(const Making *m)
{
	return vm_runtime_state(m->seen->runtime);
}

/* Nothing moves on the disks of a guest that is off; what it left there depends on how it ended. */
static const char *why_not_at_rest(const Making *m)
{
	if (state_of(m) == VM_CRASHED)
		return "the vm is off, and its guest had not been shut down";
	return vm_was_shut_down(m->seen->runtime)
		   ? NULL
		   : "the vm is off, and it is not known that its guest had been shut down";
}

/* Why it is not even tried to freeze; NULL: it is. */
static const char *why_no_freeze(const Making *m)
{
	if (m->off)
		return why_not_at_rest(m);
	if (m->p->crash_consistent)
		return "it was asked for without a freeze";
	if (state_of(m) != VM_RUNNING)
		return "the guest is paused, so that its agent can't answer";
	return m->p->has_agent ? NULL : "the guest has no agent that answers";
}

static void add_copy(const Making *m, Operation *op)
{
	g_autofree char *bitmap = backup_bitmap(m->id),
			*since = m->parent != NULL ? backup_bitmap(m->parent->id) : NULL,
			*dir = path_vm_backup_dir(&m->req->host->folders, m->vm->id);
	Json *args = key_args(m);

	json_put(args, "disks", disks_of(m));
	json_put_str(args, "work", dir);
	json_put_str(args, "bitmap", bitmap);
	json_put_str(args, "since", since);
	json_put_str(args, "no_freeze", why_no_freeze(m));
	json_put_str(args, "aside", m->off ? m->req->op_id : NULL);
	json_put_bool(args, "runs", state_of(m) == VM_RUNNING);
	json_put_uint(args, "budget", m->p->budget);
	json_put_uint(args, "bandwidth", m->p->bandwidth);
	plan_add(op->plan, STEP_BACKUP_COPY, m->vm->name, args);
}

/* The manifest, as far as it is known before. */
static Json *manifest_of(const Making *m)
{
	g_autoptr(Backup) b = backup_new();

	b->id = g_strdup(m->id);
	b->parent = m->parent != NULL ? g_strdup(m->parent->id) : NULL;
	b->key_check = g_strdup(m->key_check);
	b->created_at = g_strdup(m->req->now);
	b->host = g_strdup(m->req->host->name);
	b->machine = g_strdup(json_str(m->seen->runtime, "machine"));
	b->vm = vm_copy(m->vm);
	g_strfreev(b->left_out);
	b->left_out = g_strdupv((char **)m->left_out->pdata);
	for (guint i = 0; m->name->pdata[i] != NULL; i++)
		g_ptr_array_add(b->disk, backup_disk_new(m->name->pdata[i], size_of(m, m->name->pdata[i])));
	return backup_to_json(b);
}

static void add_seal(const Making *m, Operation *op)
{
	Json *args = key_args(m);

	json_put(args, "manifest", manifest_of(m));
	plan_add(op->plan, STEP_BACKUP_SEAL, m->vm->name, args);
}

static void add_settle(const Making *m, Operation *op)
{
	Json *args = backup_args(m);

	json_put(args, "spare", backup_spare_bitmaps(m->p->backups, m->p->blocks, names_of(m)));
	json_put_str(args, "aside", m->off ? m->req->op_id : NULL);
	plan_add(op->plan, STEP_BACKUP_SETTLE, m->vm->name, args);
}

static void put_result(const Making *m, Operation *op)
{
	g_autofree char *warning =
	    m->why_full != NULL ? g_strdup_printf("It is a full backup: %s.", m->why_full) : NULL;

	json_put_str(op->result, "backup", m->id);
	json_put_str(op->result, "repository", m->p->repository);
	json_put_str(op->result, "kind", m->parent != NULL ? "incremental" : "full");
	json_put_str(op->result, "parent", m->parent != NULL ? m->parent->id : NULL);
	json_put_str(op->result, "encryption", m->key_check != NULL ? "luks" : NULL);
	json_put_str(op->result, "warning", warning);
}

static bool add_steps(const Making *m, Operation *op, GError **err)
{
	Plan *down = NULL;

	if (m->off && !plan_aside_disks(m->req, m->seen, op, &down, err))
		return false;
	add_prepare(m, op);
	add_copy(m, op);
	add_seal(m, op);
	add_settle(m, op);
	if (down != NULL)
		plan_aside_end(op, down);
	return true;
}

static Operation *plan_making(Making *m, GError **err)
{
	Operation *op;

	if (!vm_allows(m->seen->vm->name, m->seen->runtime, VM_ACTION_backup, err))
		return NULL;
	m->off = state_of(m) == VM_STOPPED || state_of(m) == VM_CRASHED;
	if (!find_vm(m, err) || !find_disks(m, err))
		return NULL;
	find_parent(m);
	op = vm_operation_begin(m->req, "vm.backup", m->seen, VM_ACTION_backup, err);
	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	if (!add_steps(m, op, err))
		return operation_free(op);
	vm_operation_end(op, m->seen->vm, NULL);
	put_result(m, op);
	return op;
}

Operation *plan_vm_backup(const PlanRequest *req, const VmSeen *seen, const struct plan_backup *p,
			  GError **err)
{
	Making m = { .req = req, .seen = seen, .p = p };
	Operation *op;

	m.name = g_ptr_array_new();
	m.left_out = g_ptr_array_new();
	m.id = backup_id_of(req->now, req->op_id);
	m.key_check = p->key != NULL ? backup_key_check(p->key, m.id) : NULL;
	op = plan_making(&m, err);
	making_done(&m);
	return op;
}

/* ---- those that are there ---- */

Json *backup_sources(const char *repository, const GPtrArray *chain, const char *disk, const char *key_file)
{
	g_autofree char *file = backup_file(disk);
	Json *list = json_array();

	for (guint i = 0; i < chain->len; i++) {
		const Backup *b = chain->pdata[i];
		g_autofree char *folder = backup_folder(repository, b->vm->id, b->id),
				*path = g_build_filename(folder, file, NULL), *backing = NULL;
		const BackupDisk *d = backup_disk_find(b, disk);
		Json *j;

		if (b->parent != NULL)
			backing = backup_backing(b->parent, disk);
		j = json_object();
		json_put_str(j, "path", path);
		json_put_str(j, "backing", backing);
		json_put_str(j, "sha512", d != NULL ? d->sha512 : NULL);
		if (b->key_check != NULL) {
			json_put_str(j, "backup", b->id);
			json_put_str(j, "key_file", key_file);
			json_put_str(j, "key_check", b->key_check);
		}
		json_array_append_new(list, j);
	}
	return list;
}

static Operation *backup_operation(const PlanRequest *req, const char *kind, const char *repository,
				   const Backup *b)
{
	Operation *op = operation_new(req->op_id, kind, req->now);

	operation_set_target(op, "backup", b->id, b->id);
	op->user = g_strdup(req->user);
	json_put_str(op->result, "repository", repository);
	return op;
}

/* {DISK: backup_sources()} of the last of the chain. New reference. */
static Json *all_sources(const char *repository, const GPtrArray *chain, const char *key_file)
{
	const Backup *b = chain->pdata[chain->len - 1];
	Json *all = json_object();

	for (guint i = 0; i < b->disk->len; i++) {
		const BackupDisk *d = b->disk->pdata[i];

		json_put(all, d->name, backup_sources(repository, chain, d->name, key_file));
	}
	return all;
}

static bool add_boot(const PlanRequest *req, Operation *op, const Backup *b, const Json *sources,
		     uint64_t timeout, GError **err)
{
	Plan *down = NULL;
	Json *args;

	if (!plan_aside_trial(req, b, sources, op, &down, err))
		return false;
	args = plan_aside_args(req, b->vm->name);
	json_put_uint(args, "timeout", timeout);
	plan_add(op->plan, STEP_BACKUP_BOOT, b->id, args);
	plan_aside_end(op, down);
	return true;
}

Operation *plan_backup_verify(const PlanRequest *req, const char *repository, const GPtrArray *chain,
			      const char *key_file, uint64_t boot, GError **err)
{
	const Backup *b = chain->pdata[chain->len - 1];
	Operation *op = backup_operation(req, "backup.verify", repository, b);
	_cleanup_json_ Json *all = all_sources(repository, chain, key_file);
	const char *disk;
	Json *sources;

	op->may_cancel = true;
	json_put_str(op->result, "backup", b->id);
	json_object_foreach(all, disk, sources)
	{
		Json *args = json_object();

		json_put_str(args, "backup", b->id);
		json_put(args, "sources", json_deep_copy(sources));
		plan_add(op->plan, STEP_BACKUP_VERIFY, disk, args);
	}
	if (boot > 0 && !add_boot(req, op, b, all, boot, err))
		return operation_free(op);
	return op;
}

/* What a list of mounts says of it. New reference. */
static Json *mount_record(const PlanRequest *req, const char *repository, const Backup *b)
{
	Json *disks = json_array(), *j = json_object();

	for (guint i = 0; i < b->disk->len; i++) {
		const BackupDisk *d = b->disk->pdata[i];

		json_array_append_new(disks,
				      json_pack("{s:s,s:I}", "name", d->name, "size", (json_int_t)d->size));
	}
	json_put_str(j, "backup", b->id);
	json_put(j, "vm", json_pack("{s:s,s:s}", "id", b->vm->id, "name", b->vm->name));
	json_put_str(j, "repository", repository);
	json_put_str(j, "created_at", req->now);
	json_put(j, "disks", disks);
	return j;
}

Operation *plan_backup_mount(const PlanRequest *req, const char *repository, const GPtrArray *chain,
			     const char *key_file)
{
	const Backup *b = chain->pdata[chain->len - 1];
	Operation *op = backup_operation(req, "backup.mount", repository, b);
	g_autofree char *dir = path_backup_server(&req->host->folders, req->op_id);
	Json *args = json_object();

	json_put_str(op->result, "backup", b->id);
	json_put_str(args, "backup", b->id);
	json_put_str(args, "dir", dir);
	json_put(args, "sources", all_sources(repository, chain, key_file));
	json_put(args, "mount", mount_record(req, repository, b));
	plan_add(op->plan, STEP_BACKUP_SERVE, b->id, args);
	return op;
}

Operation *plan_backup_unmount(const PlanRequest *req, const Json *mounts)
{
	const Json *first = json_array_get(mounts, 0), *m;
	const char *id = json_str(first, "backup");
	Operation *op = operation_new(req->op_id, "backup.unmount", req->now);
	size_t i;

	operation_set_target(op, "backup", id, id);
	op->user = g_strdup(req->user);
	json_put_str(op->result, "repository", json_str(first, "repository"));
	json_put_str(op->result, "backup", id);
	json_array_foreach((Json *)mounts, i, m)
	{
		Json *args = json_object();

		json_put_str(args, "backup", id);
		json_put_str(args, "dir", json_str(m, "dir"));
		plan_add(op->plan, STEP_BACKUP_UNSERVE, id, args);
	}
	return op;
}

/* A step for each, and what the result says of them. */
static void add_deletions(Operation *op, const char *repository, const GPtrArray *backups)
{
	Json *deleted = json_array();

	for (guint i = 0; i < backups->len; i++) {
		const Backup *b = backups->pdata[i];
		Json *args = json_object();

		json_put_str(args, "vm", b->vm->id);
		json_put_str(args, "backup", b->id);
		json_put_str(args, "repository", repository);
		plan_add(op->plan, STEP_BACKUP_DELETE, b->id, args);
		json_array_append_new(deleted, json_string(b->id));
	}
	json_put(op->result, "deleted", deleted);
}

Operation *plan_backup_delete(const PlanRequest *req, const char *repository, const Backup *b)
{
	Operation *op = backup_operation(req, "backup.delete", repository, b);
	g_autoptr(GPtrArray) one = g_ptr_array_new();

	g_ptr_array_add(one, (gpointer)b);
	add_deletions(op, repository, one);
	return op;
}

Operation *plan_backup_prune(const PlanRequest *req, const char *repository, const GPtrArray *backups)
{
	Operation *op = operation_new(req->op_id, "backup.prune", req->now);

	operation_set_target(op, "repository", repository, repository);
	op->user = g_strdup(req->user);
	json_put_str(op->result, "repository", repository);
	add_deletions(op, repository, backups);
	return op;
}

/* ---- back into a vm ---- */

Operation *plan_backup_restore_new(const PlanRequest *req, const Vm *vm, GPtrArray *wish)
{
	return plan_vm_make(req, "backup.restore", vm, wish);
}

/* The volume of the disk of that name. */
static const Volume *volume_of(const VmSeen *seen, const char *disk)
{
	for (guint i = 0; i < seen->vm->disk->len; i++) {
		const VmDisk *d = seen->vm->disk->pdata[i];

		if (g_str_equal(d->name, disk))
			return d->volume != NULL ? seen->volume->pdata[i] : NULL;
	}
	return NULL;
}

static bool check_disks(const VmSeen *seen, const Backup *b, GError **err)
{
	for (guint i = 0; i < b->disk->len; i++) {
		const BackupDisk *d = b->disk->pdata[i];

		if (vm_disk_find(seen->vm, d->name) == NULL)
			return fail_advice(err, ERR_CONFLICT, "Restore it as a new vm with --name.",
					   "vm '%s' has no disk '%s', which the backup has", seen->vm->name,
					   d->name);
		if (volume_of(seen, d->name) == NULL)
			return fail_advice(err, ERR_UNSUPPORTED, "Restore it as a new vm with --name.",
					   "disk '%s' of vm '%s' is a file of your own, and no volume",
					   d->name, seen->vm->name);
	}
	for (guint i = 0; i < seen->vm->disk->len; i++) {
		const VmDisk *d = seen->vm->disk->pdata[i];

		if (!d->readonly && backup_disk_find(b, d->name) == NULL)
			return fail_advice(err, ERR_CONFLICT, "Restore it as a new vm with --name.",
					   "disk '%s' of vm '%s' is not in the backup", d->name,
					   seen->vm->name);
	}
	return true;
}

static Json *swap_args(const VmSeen *seen, const Volume *v)
{
	Json *args = vm_args(seen->vm);
	g_autofree char *path = g_strconcat(v->path, ".restored", NULL);

	json_put_str(args, "volume", v->id);
	json_put_str(args, "target", v->path);
	json_put_str(args, "path", path);
	json_put_str(args, "format", v->format);
	return args;
}

static void add_restore(Operation *op, const VmSeen *seen, const char *repository, const GPtrArray *chain,
			const char *key_file, const BackupDisk *d)
{
	const Volume *v = volume_of(seen, d->name);
	Json *args = swap_args(seen, v);

	json_put_uint(args, "size", d->size);
	json_put(args, "sources", backup_sources(repository, chain, d->name, key_file));
	plan_add(op->plan, STEP_VOLUME_RESTORE, d->name, args);
}

/* Whole in its own file, and as large as it was. */
static void put_restored(Operation *op, const Volume *v, const BackupDisk *d)
{
	g_autofree char *key = key_volume(v->id);
	Json *is = json_object();

	json_put(is, "image", json_null());
	json_put_uint(is, "size", d->size);
	operation_merge_on_done(op, key, is);
}

Operation *plan_backup_restore_over(const PlanRequest *req, const VmSeen *seen, const char *repository,
				    const GPtrArray *chain, const char *key_file, GError **err)
{
	const Backup *b = chain->pdata[chain->len - 1];
	Operation *op = vm_operation_begin(req, "backup.restore", seen, VM_ACTION_restore, err);
	Json *members;

	if (op == NULL || !check_disks(seen, b, err))
		return operation_free(op);
	op->may_cancel = true;
	json_put_str(op->result, "id", seen->vm->id);
	json_put_str(op->result, "backup", b->id);
	for (guint i = 0; i < b->disk->len; i++)
		add_restore(op, seen, repository, chain, key_file, b->disk->pdata[i]);
	for (guint i = 0; i < b->disk->len; i++) {
		const BackupDisk *d = b->disk->pdata[i];

		plan_add(op->plan, STEP_VOLUME_SWAP, d->name, swap_args(seen, volume_of(seen, d->name)));
		put_restored(op, volume_of(seen, d->name), d);
	}
	/* What is on them now is not what the guest left when it was shut down. */
	members = json_object();
	json_put_str(members, "reason", "its disks were restored from a backup");
	vm_operation_end(op, seen->vm, members);
	return op;
}
