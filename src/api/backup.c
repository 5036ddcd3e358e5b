/* SPDX-License-Identifier: Apache-2.0 */
/* Backups: made, listed, read again, restored, deleted. A repository is a folder on the host that is asked.
 */
#include "api/backup.h"
#include "api/creation.h"
#include "api/handlers.h"
#include "base/str.h"
#include "base/time.h"
#include "core/backup/follow.h"
#include "core/backup/prune.h"
#include "core/model/settings.h"
#include "core/plan/plan_backup.h"
#include "engine/backup/key_file.h"
#include "engine/backup/off.h"
#include "engine/backup/repository.h"
#include "engine/vm_ops.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
#define BUDGET_DEFAULT (5 * SECOND)
#define BUDGET_MIN (SECOND / 100)
#define BUDGET_MAX (60 * SECOND)
/* Slower than this no backup comes to an end. */
#define BANDWIDTH_MIN (UINT64_C(64) << 10)
#define KEEP_MAX 100000
#define PREFIX_MIN 4
/* From the start of a restored copy to the answer of its agent. */
#define BOOT_DEFAULT (300 * SECOND)
#define BOOT_MIN SECOND
#define BOOT_MAX (3600 * SECOND)

static bool fail_type(const char *name, const char *what, GError **err)
{
	return fail(err, ERR_INVALID, "'%s' is %s", name, what);
}

bool api_backup_text(const Json *body, const char *name, const char **ret, GError **err)
{
	const Json *v = json_object_get(body, name);

	*ret = json_string_value(v);
	return v == NULL || json_is_null(v) || json_is_string(v) || fail_type(name, "a text", err);
}

static bool flag_of(const Json *body, const char *name, bool *ret, GError **err)
{
	const Json *v = json_object_get(body, name);

	*ret = json_is_true(v);
	return v == NULL || json_is_boolean(v) || fail_type(name, "true or false", err);
}

static bool number_of(const Json *body, const char *name, uint64_t min, uint64_t max, uint64_t dflt,
		      uint64_t *ret, GError **err)
{
	const Json *v = json_object_get(body, name);

	*ret = dflt;
	if (v == NULL || json_is_null(v))
		return true;
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return fail_type(name, "a number", err);
	*ret = (uint64_t)json_integer_value(v);
	return (*ret >= min && *ret <= max) ||
	       fail(err, ERR_INVALID, "'%s' is from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, name, min,
		    max);
}

/* NULL: neither. Caller frees. */
static char *asked_or_set(ApiCall *c, const char *asked, const char *setting)
{
	_cleanup_json_ Json *set =
	    asked == NULL ? host_setting_effective(engine_facts(c->engine)->settings, setting) : NULL;

	return g_strdup(asked != NULL ? asked : json_string_value(set));
}

/* What was asked for, else what the host is set to. Checked; caller frees. */
static char *repository_of(ApiCall *c, const char *asked, GError **err)
{
	g_autofree char *path = asked_or_set(c, asked, "backup.repository");

	if (path == NULL) {
		fail_advice(
		    err, ERR_INVALID,
		    "Name a folder (plim: --to or --from), or set one for the host: `plim host set HOST "
		    "backup.repository=/path`.",
		    "no repository was named");
		return NULL;
	}
	return repository_check(path, err) ? g_steal_pointer(&path) : NULL;
}

/* ---- making ---- */

struct wish {
	const char *repository, *key_file;
	bool incremental, crash_consistent, no_encryption;
	uint64_t budget, bandwidth;
};

static bool wish_of_body(const Json *body, struct wish *w, GError **err)
{
	static const char *const known[] = { "repository", "incremental", "crash_consistent", "freeze_budget",
					     "bandwidth",  "key_file",    "no_encryption",    NULL };

	if (body == NULL || !call_known(body, known, err) ||
	    !api_backup_text(body, "repository", &w->repository, err) ||
	    !flag_of(body, "incremental", &w->incremental, err) ||
	    !flag_of(body, "crash_consistent", &w->crash_consistent, err) ||
	    !api_backup_text(body, "key_file", &w->key_file, err) ||
	    !flag_of(body, "no_encryption", &w->no_encryption, err) ||
	    !number_of(body, "freeze_budget", BUDGET_MIN, BUDGET_MAX, BUDGET_DEFAULT, &w->budget, err) ||
	    !number_of(body, "bandwidth", 0, INT64_MAX, 0, &w->bandwidth, err))
		return false;
	if (w->key_file != NULL && w->no_encryption)
		return fail_advice(err, ERR_INVALID, "Leave one of them out.",
				   "a backup with a key is encrypted, and one without encryption has no key");
	return w->bandwidth == 0 || w->bandwidth >= BANDWIDTH_MIN ||
	       fail_advice(err, ERR_INVALID, "Allow 64 KiB a second or more; 0 is no bound.",
			   "the bandwidth is too small");
}

/* What QEMU says of the disks, or their files; NULL without an error where there is neither. */
static Json *blocks_of(ApiCall *c, const VmRecords *r, bool *ret_agent, GError **err)
{
	Fleet *f = engine_fleet(c->engine);
	g_autoptr(Vmm) v = f != NULL ? fleet_vmm(f, r->vm->id) : NULL;
	g_autoptr(Agent) a = f != NULL ? fleet_agent(f, r->vm->id) : NULL;
	VmState state = vm_runtime_state(r->runtime);

	*ret_agent = a != NULL && agent_is_open(a);
	if (v != NULL)
		return vm_blocks(v, err);
	/* A simulated engine has no files either. */
	if (f == NULL || (state != VM_STOPPED && state != VM_CRASHED) ||
	    json_str(r->runtime, "operation") != NULL)
		return NULL;
	return backup_blocks_off(&r->seen, &engine_facts(c->engine)->folders, err);
}

/* Both NULL: it is not to be encrypted. */
static bool key_of_wish(ApiCall *c, const struct wish *w, char **ret_file, BackupKey **ret, GError **err)
{
	*ret = NULL;
	*ret_file = w->no_encryption ? NULL : asked_or_set(c, w->key_file, "backup.key_file");
	if (*ret_file != NULL)
		*ret = backup_key_read(*ret_file, err);
	return *ret_file == NULL || *ret != NULL;
}

static Operation *plan_for(ApiCall *c, const VmRecords *r, const struct wish *w, const char *repository,
			   GError **err)
{
	g_autoptr(BackupKey) key = NULL;
	g_autofree char *key_file = NULL;
	g_autoptr(EngineRequest) req = engine_request_new(c->engine, c->user);
	g_autoptr(GPtrArray) backups = repository_list(repository, r->vm->id, NULL, err);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *blocks = NULL;
	struct plan_backup p = { .repository = repository,
				 .incremental = w->incremental,
				 .crash_consistent = w->crash_consistent,
				 .budget = w->budget,
				 .bandwidth = w->bandwidth,
				 .backups = backups };

	if (backups == NULL || !key_of_wish(c, w, &key_file, &key, err) ||
	    (key == NULL && !w->no_encryption && !backup_check_plain(backups, err)))
		return NULL;
	p.key_file = key_file;
	p.key = key;
	blocks = blocks_of(c, r, &p.has_agent, &e);
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return NULL;
	}
	p.blocks = blocks;
	return plan_vm_backup(&req->plan, &r->seen, &p, err);
}

bool api_vm_backup(ApiCall *c, GError **err)
{
	g_autofree char *repository = NULL;
	g_autoptr(VmRecords) r = NULL;
	struct wish w = { 0 };

	if (!wish_of_body(call_body(c, err), &w, err))
		return false;
	r = call_vm(c, err);
	repository = r != NULL ? repository_of(c, w.repository, err) : NULL;
	return repository != NULL && call_submit(c, plan_for(c, r, &w, repository, err), err);
}

/* ---- finding ---- */

static bool is_of_vm(const Backup *b, const char *vm)
{
	return vm == NULL || g_str_equal(b->vm->id, vm) || g_str_equal(b->vm->name, vm);
}

bool api_backup_list(ApiCall *c, GError **err)
{
	g_autofree char *repository = repository_of(c, call_query(c, "repository"), err);
	g_autoptr(GPtrArray) all = NULL;
	Json *broken = NULL, *answer, *list;

	all = repository != NULL ? repository_list(repository, NULL, &broken, err) : NULL;
	if (all == NULL)
		return false;
	answer = json_object();
	list = json_array();
	for (guint i = 0; i < all->len; i++)
		if (is_of_vm(all->pdata[i], call_query(c, "vm")))
			json_array_append_new(list, backup_to_api(all->pdata[i]));
	json_put_str(answer, "repository", repository);
	json_put(answer, "backups", list);
	json_put(answer, "broken", broken);
	return call_answer(c, 200, answer);
}

/* Its id, or the unique beginning of it. Borrowed. */
static const Backup *find_backup(const GPtrArray *all, const char *ref, GError **err)
{
	const Backup *found = NULL;

	for (guint i = 0; i < all->len; i++) {
		const Backup *b = all->pdata[i];

		if (!g_str_equal(b->id, ref) && (strlen(ref) < PREFIX_MIN || !g_str_has_prefix(b->id, ref)))
			continue;
		if (found != NULL) {
			fail_advice(err, ERR_CONFLICT, "Write more of it.", "several backups begin with '%s'",
				    ref);
			return NULL;
		}
		found = b;
	}
	if (found == NULL)
		fail_advice(err, ERR_NOT_FOUND, "`plim backup list REPOSITORY` shows what is there.",
			    "the repository has no backup '%s'", ref);
	return found;
}

void api_backup_found_done(struct backup_found *f)
{
	g_free(f->repository);
	g_free(f->key_file);
	if (f->all != NULL)
		g_ptr_array_unref(f->all);
	if (f->chain != NULL)
		g_ptr_array_unref(f->chain);
}

static bool find(ApiCall *c, const char *asked, struct backup_found *f, GError **err)
{
	f->repository = repository_of(c, asked, err);
	if (f->repository == NULL)
		return false;
	f->all = repository_list(f->repository, NULL, NULL, err);
	f->backup = f->all != NULL ? find_backup(f->all, call_path(c, "backup"), err) : NULL;
	return f->backup != NULL;
}

/* What is wrong with the repository says itself what to do. */
static bool advise_key(bool asked, const struct backup_found *f, GError **err)
{
	if (err == NULL || !g_error_matches(*err, ERR, ERR_INVALID))
		return false;
	if (f->backup->key_check == NULL && asked)
		return err_advise(
		    err, "Leave the key file out (plim: --key-file) if that is what you expect of it.");
	if (f->key_file == NULL)
		return err_advise(
		    err, "Name the file with its key (plim: --key-file), or set one for the host: `plim "
			 "host set HOST backup.key_file=/path`.");
	g_prefix_error(err, "the key in '%s' is of no use: ", f->key_file);
	return err_advise(err, "Name another key file, or another backup.");
}

/* All of the chain. Nothing is read for a backup that is not encrypted, unless somebody asks for that. */
static bool find_key(ApiCall *c, const char *asked, struct backup_found *f, GError **err)
{
	g_autoptr(BackupKey) key = NULL;

	if (!backup_chain_check(f->chain, err))
		return false;
	if (asked != NULL || f->backup->key_check != NULL)
		f->key_file = asked_or_set(c, asked, "backup.key_file");
	if (f->key_file != NULL)
		key = backup_key_read(f->key_file, err);
	if (f->key_file != NULL && key == NULL)
		return false;
	for (guint i = f->chain->len; i > 0; i--) {
		if (!backup_key_fits(key, f->chain->pdata[i - 1], err))
			return advise_key(asked != NULL, f, err);
	}
	return true;
}

bool api_backup_find_chain(ApiCall *c, const char *asked, const char *key_file, struct backup_found *f,
			   GError **err)
{
	if (!find(c, asked, f, err))
		return false;
	f->chain = backup_chain(f->all, f->backup, err);
	return f->chain != NULL && find_key(c, key_file, f, err);
}

struct verifying {
	const char *repository, *key_file;
	bool boot;
	uint64_t timeout;
};

static bool verifying_of_body(const Json *body, struct verifying *v, GError **err)
{
	static const char *const known[] = { "repository", "boot", "boot_timeout", "key_file", NULL };

	if (body == NULL || !call_known(body, known, err) ||
	    !api_backup_text(body, "repository", &v->repository, err) ||
	    !api_backup_text(body, "key_file", &v->key_file, err) || !flag_of(body, "boot", &v->boot, err) ||
	    !number_of(body, "boot_timeout", BOOT_MIN, BOOT_MAX, BOOT_DEFAULT, &v->timeout, err))
		return false;
	return v->boot || json_object_get(body, "boot_timeout") == NULL ||
	       fail_advice(err, ERR_INVALID, "Say `boot` as well (plim: --boot), or leave the time out.",
			   "there is a time for a boot, and none was asked for");
}

bool api_backup_verify(ApiCall *c, GError **err)
{
	const Json *body = call_body(c, err);
	g_autoptr(EngineRequest) req = NULL;
	_cleanup_found_ struct backup_found f = { 0 };
	struct verifying v = { 0 };

	if (!verifying_of_body(body, &v, err) || !api_backup_find_chain(c, v.repository, v.key_file, &f, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(
	    c, plan_backup_verify(&req->plan, f.repository, f.chain, f.key_file, v.boot ? v.timeout : 0, err),
	    err);
}

/* ---- removing ---- */

bool api_backup_delete(ApiCall *c, GError **err)
{
	g_autoptr(EngineRequest) req = NULL;
	_cleanup_found_ struct backup_found f = { 0 };

	if (!find(c, call_query(c, "repository"), &f, err) || !backup_check_free(f.all, f.backup->id, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan_backup_delete(&req->plan, f.repository, f.backup), err);
}

static GPtrArray *backups_of_vm(const GPtrArray *all, const char *vm)
{
	GPtrArray *mine = g_ptr_array_new();

	for (guint i = 0; i < all->len; i++)
		if (is_of_vm(all->pdata[i], vm))
			g_ptr_array_add(mine, all->pdata[i]);
	return mine;
}

struct pruning {
	const char *repository, *vm;
	struct backup_policy policy;
};

static bool pruning_of_body(const Json *body, struct pruning *p, GError **err)
{
	static const char *const known[] = { "repository", "vm",          "keep_last",
					     "keep_daily", "keep_weekly", NULL };

	return body != NULL && call_known(body, known, err) &&
	       api_backup_text(body, "repository", &p->repository, err) &&
	       api_backup_text(body, "vm", &p->vm, err) &&
	       number_of(body, "keep_last", 0, KEEP_MAX, 0, &p->policy.last, err) &&
	       number_of(body, "keep_daily", 0, KEEP_MAX, 0, &p->policy.daily, err) &&
	       number_of(body, "keep_weekly", 0, KEEP_MAX, 0, &p->policy.weekly, err);
}

bool api_backup_prune(ApiCall *c, GError **err)
{
	g_autoptr(GPtrArray) all = NULL, mine = NULL, spare = NULL;
	g_autoptr(EngineRequest) req = NULL;
	g_autofree char *repository = NULL;
	struct pruning p = { 0 };

	if (!pruning_of_body(call_body(c, err), &p, err))
		return false;
	repository = repository_of(c, p.repository, err);
	all = repository != NULL ? repository_list(repository, NULL, NULL, err) : NULL;
	if (all == NULL)
		return false;
	mine = backups_of_vm(all, p.vm);
	spare = backup_prune(mine, &p.policy, err);
	if (spare == NULL)
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan_backup_prune(&req->plan, repository, spare), err);
}

/* ---- restoring ---- */

static bool check_name(Store *s, const char *name, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (!name_check("a vm", name, err))
		return false;
	if (name_is_free(s, "vms", name, &e))
		return true;
	if (e == NULL)
		fail_advice(&e, ERR_CONFLICT, "Choose another name with --name, or restore it with --over.",
			    "there is a vm called '%s' already", name);
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* Two guests with one address would be in each other's way. */
static void give_identity(Creation *n, const Backup *b, const char *name)
{
	g_autoptr(VmRecords) original = vm_records_load(n->store, b->vm->id, NULL);

	g_free(n->vm->id);
	g_free(n->vm->name);
	g_free(n->vm->created_at);
	n->vm->id = uuid_new();
	n->vm->name = g_strdup(name);
	n->vm->created_at = g_strdup(n->req->now);
	for (guint i = 0; original != NULL && i < n->vm->nic->len; i++)
		g_clear_pointer(&((VmNic *)n->vm->nic->pdata[i])->mac, g_free);
	vm_draw_macs(n->vm);
}

static void restore_disk(Creation *n, VmDisk *d, const struct backup_found *f)
{
	const BackupDisk *b = backup_disk_find(f->backup, d->name);
	VolumeWish *w = creation_wish(n, d->name, b->size, d->format);

	w->backup = backup_sources(f->repository, f->chain, d->name, f->key_file);
	g_free(d->volume);
	g_clear_pointer(&d->path, g_free);
	d->volume = g_strdup(w->volume->id);
}

/* A disk that is only read stays where it is when it has a path, and is left out else. */
static void restore_disks(Creation *n, const struct backup_found *f)
{
	for (guint i = n->vm->disk->len; i > 0; i--) {
		VmDisk *d = n->vm->disk->pdata[i - 1];

		if (backup_disk_find(f->backup, d->name) != NULL)
			restore_disk(n, d, f);
		else if (d->path == NULL)
			g_ptr_array_remove_index(n->vm->disk, i - 1);
	}
}

static bool restore_new(ApiCall *c, const struct backup_found *f, const char *name, GError **err)
{
	g_autoptr(Creation) n = creation_new(c);
	Operation *op;

	if (name == NULL)
		name = f->backup->vm->name;
	if (!check_name(n->store, name, err))
		return false;
	n->vm = vm_copy(f->backup->vm);
	give_identity(n, f->backup, name);
	restore_disks(n, f);
	if (!vm_check_startable(c, n->vm, NULL, err))
		return false;
	op = plan_backup_restore_new(&n->req->plan, n->vm, n->wish);
	json_put_str(op->result, "backup", f->backup->id);
	json_put_str(op->result, "vm", n->vm->name);
	return call_submit(c, op, err);
}

static bool check_is_its_own(const ApiCall *c, const VmRecords *r, const Backup *b, GError **err)
{
	if (!g_str_equal(r->vm->id, b->vm->id))
		return fail_advice(err, ERR_CONFLICT, "Restore it as a new vm with --name.",
				   "backup %s is not of vm '%s', but of '%s'", b->id, r->vm->name,
				   b->vm->name);
	return g_strcmp0(json_str(r->runtime, "host"), engine_facts(c->engine)->id) == 0 ||
	       fail_advice(err, ERR_UNSUPPORTED, "Ask that host, or restore it as a new vm with --name.",
			   "the disks of vm '%s' are on another host", r->vm->name);
}

static bool restore_over(ApiCall *c, const struct backup_found *f, const char *vm, GError **err)
{
	Store *s = engine_store(c->engine);
	g_autofree char *id = record_resolve(s, "vms", vm, err);
	g_autoptr(VmRecords) r = id != NULL ? vm_records_load(s, id, err) : NULL;
	g_autoptr(EngineRequest) req = NULL;
	Operation *op;

	if (r == NULL || !check_is_its_own(c, r, f->backup, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	op = plan_backup_restore_over(&req->plan, &r->seen, f->repository, f->chain, f->key_file, err);
	if (op != NULL)
		json_put_str(op->result, "vm", r->vm->name);
	return call_submit(c, op, err);
}

bool api_backup_restore(ApiCall *c, GError **err)
{
	static const char *const known[] = { "repository", "name", "vm", "key_file", NULL };
	const char *repository, *name, *vm, *key_file;
	const Json *body = call_body(c, err);
	_cleanup_found_ struct backup_found f = { 0 };

	if (body == NULL || !call_known(body, known, err) ||
	    !api_backup_text(body, "repository", &repository, err) ||
	    !api_backup_text(body, "name", &name, err) || !api_backup_text(body, "vm", &vm, err) ||
	    !api_backup_text(body, "key_file", &key_file, err))
		return false;
	if (name != NULL && vm != NULL)
		return fail_advice(err, ERR_INVALID, "Leave one of them out.",
				   "a backup is restored as a new vm or over one that is there, not both");
	if (!api_backup_find_chain(c, repository, key_file, &f, err))
		return false;
	return vm != NULL ? restore_over(c, &f, vm, err) : restore_new(c, &f, name, err);
}
