/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/receive.h"
#include "base/fd.h"
#include "base/str.h"
#include "core/cpu/check.h"
#include "core/guest/cd.h"
#include "core/guest/pin.h"
#include "core/model/keys.h"
#include "core/model/settings.h"
#include "core/plan/plan_migrate.h"
#include "engine/as_user.h"
#include "engine/engine-impl.h"
#include "engine/limits.h"
#include "engine/migrate_link.h"
#include "engine/records.h"

#include <inttypes.h>
#include <net/if.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* For what an earlier move of the guest still removes here. */
#define LAST_MOVE_TIMEOUT UINT64_C(10000000)

typedef struct Request {
	Engine *engine;
	const Json *json;
	const char *source, *operation; /* operation NULL: it is only asked */
	Vm *vm;                         /* as it runs */
	EngineRequest *req;
	char *address, *key_dir;
	GArray *disk;    /* struct plan_receive_disk */
	GPtrArray *text; /* what these borrow */
	struct plan_receive from;
	Operation *op;
	Json *applied;
	Json *blockers; /* errors */
} Request;

static void request_clear(Request *r)
{
	vm_free(r->vm);
	engine_request_free(r->req);
	g_free(r->address);
	g_free(r->key_dir);
	g_array_unref(r->disk);
	g_ptr_array_unref(r->text);
	operation_free(r->op);
	json_unref(r->applied);
	json_unref(r->blockers);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Request, request_clear)

/* ---- what was asked ---- */

static bool request_read(Request *r, GError **err)
{
	const Json *config = json_obj(json_obj(r->json, "applied"), "config");
	const char *id = json_str(r->json, "vm");
	g_autofree char *run_dir = NULL;

	r->operation = json_str(r->json, "operation");
	if (id == NULL || !uuid_valid(id) || config == NULL || json_arr(r->json, "disks") == NULL ||
	    json_str(r->json, "machine") == NULL || (r->operation != NULL && !uuid_valid(r->operation)))
		return fail(err, ERR_INVALID, "a request to receive a guest lacks what it needs");
	if (r->operation != NULL && !migrate_key_check(json_str(r->json, "key"), err))
		return false;
	r->vm = vm_of_json(config, err);
	if (r->vm == NULL)
		return false;
	if (!g_str_equal(r->vm->id, id))
		return fail(err, ERR_INVALID, "the request is about two vms");
	if (r->engine->member == NULL)
		return fail(err, ERR_UNSUPPORTED, "this host is not in a pool");
	r->req = engine_request_new(r->engine, "plimsolld");
	run_dir = path_vm_run_dir(&r->engine->folders, id);
	r->key_dir = g_build_filename(run_dir, "key", NULL);
	r->address = pool_address_host(r->engine->member->address);
	return true;
}

static void block(Request *r, GError *take)
{
	json_array_append_new(r->blockers, err_to_json(take));
	g_error_free(take);
}

static bool need_memory(uint64_t want, GError **err)
{
	g_autofree char *has = NULL, *wants = print_size(want);
	uint64_t free = host_memory_available();

	if (free == 0 || free >= want)
		return true;
	has = print_size(free);
	return fail_advice(err, ERR_LIMIT, "Move or stop another guest of that host first.",
			   "the guest has %s of memory, and the host has %s left", wants, has);
}

static bool need_bridge(const VmNic *n, GError **err)
{
	const char *bridge = n->network + strlen("bridge:");

	if (!g_str_has_prefix(n->network, "bridge:") || if_nametoindex(bridge) != 0)
		return true;
	return fail_advice(err, ERR_NOT_FOUND, "Make the bridge there, connected to the same network.",
			   "the network of its card '%s' is the bridge '%s', which the host does not have",
			   n->name, bridge);
}

static bool need_file(const char *what, const char *path, GError **err)
{
	if (path == NULL || path[0] == '\0' || access(path, R_OK) == 0)
		return true;
	return fail_advice(err, ERR_NOT_FOUND, "Copy the file to the same place there.",
			   "its %s is '%s', which the host does not have", what, path);
}

/* It is not copied: it must be there, and be the same. */
static bool need_cd(const Request *r, GError **err)
{
	g_autofree char *path = cd_path(r->vm, &r->engine->folders);
	uint64_t size = json_uint(json_obj(r->json, "cdrom"), "size", 0);
	struct stat st;
	bool there = path != NULL && stat(path, &st) == 0;

	if (path == NULL || (there && (size == 0 || (uint64_t)st.st_size == size)))
		return true;
	fail(err, ERR_NOT_FOUND, "in its CD drive is '%s', which the host does not have%s", path,
	     there ? " in this size" : "");
	return err_advise(
	    err,
	    "Take it out with `plim vm cdrom eject %s`, put the same file there, or use storage "
	    "that both hosts see.",
	    r->vm->name);
}

/* ---- disks ---- */

static const char *keep(Request *r, char *take)
{
	g_ptr_array_add(r->text, take);
	return take;
}

/* A file of the user's own: no volume, so that it would be made at the same path here. */
static bool may_copy_file(const Request *r, const Json *d, const struct plan_receive_disk *disk, GError **err)
{
	g_autofree char *folder = g_path_get_dirname(disk->path);
	const char *advice = NULL;

	if (json_bool(d, "readonly", false))
		advice = "Put it on storage that both hosts see under this path, or take it out of the vm.";
	else if (json_uint(d, "size", 0) == 0)
		advice = "It is no plain file, so it can't be copied: put it on storage that both hosts see "
			 "under this path.";
	else if (!json_bool(r->json, "files", false))
		advice =
		    "With --disks it moves along: it is copied to the same path there, and removed here. Or "
		    "put it on storage that both hosts see under this path.";
	if (advice != NULL)
		return fail_advice(err, ERR_UNSUPPORTED, advice,
				   "its disk '%s' is '%s', which the host does not see", disk->name,
				   disk->path);
	if (disk->path[0] != '/')
		return fail(err, ERR_INVALID, "disk '%s' makes no sense", disk->name);
	return access(folder, F_OK) == 0 ||
	       fail_advice(err, ERR_NOT_FOUND, "Make the folder there, for the copy of the disk.",
			   "its disk '%s' is in '%s', which the host does not have", disk->name, folder);
}

/* One that only the other host sees. */
static bool take_copied(Request *r, const Json *d, struct plan_receive_disk *disk, GError **err)
{
	const char *volume = json_str(d, "volume"), *format = json_str(d, "format");
	uint64_t size = json_uint(d, "size", 0);

	if (volume == NULL && !may_copy_file(r, d, disk, err))
		return false;
	if ((volume != NULL && !uuid_valid(volume)) || format == NULL ||
	    (!g_str_equal(format, "qcow2") && !g_str_equal(format, "raw")))
		return fail(err, ERR_INVALID, "disk '%s' makes no sense", disk->name);
	if (!volume_check_size(disk->name, size, err))
		return false;
	disk->copied = true;
	disk->backing = NULL;
	disk->volume = volume;
	disk->format = format;
	disk->size = size;
	if (volume != NULL)
		disk->path = keep(r, path_volume(&r->engine->folders, volume, format));
	if (access(disk->path, F_OK) == 0)
		return fail_advice(
		    err, ERR_CONFLICT,
		    "If it is the same disk, make the folder readable for root on both hosts, so that "
		    "they notice; else move the file away.",
		    "there is a file '%s' already, where its disk '%s' would be copied to", disk->path,
		    disk->name);
	return true;
}

/*
 * Both hosts see it, and mean the same by it: a volume of ours lies in our own
 * folder. (Two daemons of one machine see each other's files as well.)
 */
static bool is_shared(const Request *r, const Json *d)
{
	const char *volume = json_str(d, "volume"), *format = json_str(d, "format"),
		   *path = json_str(d, "path");
	g_autofree char *own =
	    volume != NULL && format != NULL ? path_volume(&r->engine->folders, volume, format) : NULL;

	return marker_seen(json_obj(d, "marker")) && access(path, F_OK) == 0 &&
	       (volume == NULL || g_strcmp0(own, path) == 0);
}

static bool dir_is_shared(const Request *r)
{
	g_autofree char *own = path_vm_dir(&r->engine->folders, r->vm->id);
	const Json *marker = json_obj(r->json, "dir");
	g_autofree char *folder =
	    json_str(marker, "path") != NULL ? g_path_get_dirname(json_str(marker, "path")) : NULL;

	return g_strcmp0(folder, own) == 0 && marker_seen(marker);
}

static bool take_disk(Request *r, const Json *d, GError **err)
{
	struct plan_receive_disk disk = { .name = json_str(d, "name"),
					  .path = json_str(d, "path"),
					  .backing = json_str(d, "backing") };
	bool ok = true;

	if (disk.name == NULL || disk.path == NULL)
		return fail(err, ERR_INVALID, "a disk of the guest has no name or no path");
	if (!is_shared(r, d))
		ok = take_copied(r, d, &disk, err);
	g_array_append_val(r->disk, disk);
	return ok;
}

/* In the order of the vm's own list, which the plan follows. */
static void take_disks(Request *r)
{
	const Json *disks = json_arr(r->json, "disks");

	for (guint i = 0; i < r->vm->disk->len; i++) {
		const VmDisk *own = r->vm->disk->pdata[i];
		const Json *d = json_array_get(disks, i);
		GError *e = NULL;

		if (g_strcmp0(json_str(d, "name"), own->name) != 0)
			fail(&e, ERR_INVALID, "the request's disks are not the vm's");
		else
			take_disk(r, d, &e);
		if (e != NULL)
			block(r, e);
	}
}

/* Where the copy of disk `i` would be; false: there is none. */
static bool folder_of_copy(const Request *r, guint i, char **ret, dev_t *ret_device)
{
	const struct plan_receive_disk *d = &g_array_index(r->disk, struct plan_receive_disk, i);
	g_autofree char *folder = d->copied ? g_path_get_dirname(d->path) : NULL;
	struct stat st;

	if (folder == NULL || stat(folder, &st) < 0)
		return false;
	*ret_device = st.st_dev;
	*ret = g_steal_pointer(&folder);
	return true;
}

/* What all copies on this file system take. */
static uint64_t wanted_of(const Request *r, dev_t device)
{
	const Json *disks = json_arr(r->json, "disks");
	uint64_t want = 0;

	for (guint i = 0; i < r->disk->len; i++) {
		g_autofree char *folder = NULL;
		dev_t at;

		if (folder_of_copy(r, i, &folder, &at) && at == device)
			want += json_uint(json_array_get(disks, i), "allocated", 0);
	}
	return want;
}

static bool need_space(Request *r, GError **err)
{
	for (guint i = 0; i < r->disk->len; i++) {
		g_autofree char *folder = NULL, *wants = NULL, *has = NULL;
		uint64_t want, free;
		struct statvfs st;
		dev_t device;

		if (!folder_of_copy(r, i, &folder, &device) || statvfs(folder, &st) < 0)
			continue;
		want = wanted_of(r, device);
		free = (uint64_t)st.f_bavail * st.f_frsize;
		if (free >= want)
			continue;
		wants = print_size(want);
		has = print_size(free);
		return fail_advice(err, ERR_NO_SPACE, "Make room there, or use storage that both hosts see.",
				   "its disks need %s, and '%s' of the host has %s left", wants, folder, has);
	}
	return true;
}

/* ---- all of it ---- */

static void check(Request *r, bool ok, GError *take)
{
	g_assert(ok == (take == NULL));
	if (take != NULL)
		block(r, take);
}

/* The guest believes in the features that it found when it started. */
static bool need_cpu(Request *r, GError **err)
{
	const CpuOffer *cpu = r->req->plan.cpu;
	const struct cpu_check_names names = { .vm = r->vm->name, .host = r->engine->host_name };
	g_autofree char *text = NULL;
	struct cpu_verdict verdict;
	struct featureset pin;
	GuestType type;

	if (!pin_of_json(json_obj(json_obj(r->json, "applied"), "pin"), &pin, &type, NULL))
		return true;
	cpu_check(&pin, type, cpu != NULL && cpu->guest[type].there ? &cpu->guest[type].max : NULL, &verdict);
	if (verdict.can)
		return true;
	text = cpu_verdict_print(&verdict, &names);
	fail(err, ERR_UNSUPPORTED, "%s", text);
	err_advise(
	    err,
	    "After a power cycle (`plim vm stop %s`, `plim vm start %s`) it has the pool's level, and moves.",
	    r->vm->name, r->vm->name);
	return err_detail(err, "cpu", cpu_verdict_to_json(&verdict, &names));
}

static bool make_plan(Request *r, GError **err)
{
	const Json *applied = json_obj(r->json, "applied");

	r->from = (struct plan_receive){
		.operation = r->operation,
		.source_id = r->source,
		.address = r->address,
		.key_dir = r->key_dir,
		.machine = json_str(r->json, "machine"),
		.applied = applied,
		.memory = json_uint(r->json, "memory", 0),
		.run = json_bool(r->json, "run", true),
		.post_copy = json_bool(r->json, "post_copy", false),
		.shared_dir = dir_is_shared(r),
		.disk = (const struct plan_receive_disk *)(void *)r->disk->data,
		.n_disks = r->disk->len,
	};
	r->op = plan_vm_receive(&r->req->plan, r->vm, &r->from, &r->applied, err);
	return r->op != NULL;
}

static bool not_here_yet(Request *r, GError **err)
{
	g_autoptr(Vmm) v = r->engine->fleet != NULL ? fleet_vmm(r->engine->fleet, r->vm->id) : NULL;

	return v == NULL || fail_advice(err, ERR_BUSY, "Wait for the end of its last move.",
					"a QEMU of '%s' is on the host still", r->vm->name);
}

static const char *argument(const Json *applied, const char *option)
{
	const Json *args = json_arr(applied, "arguments"), *a;
	size_t i;

	json_array_foreach(args, i, a)
	{
		if (g_strcmp0(json_str(a, "option"), option) == 0)
			return json_str(a, "value");
	}
	return NULL;
}

/* Asked once more when the guest comes; here it is a blocker among the others. */
static bool need_promise(Request *r, GError **err)
{
	return engine_has_room(r->engine, r->op, err);
}

static void look(Request *r)
{
	const Json *applied = json_obj(r->json, "applied");
	_cleanup_json_ Json *start = setting_effective(r->vm->settings, "memory.start");
	uint64_t memory = MAX((uint64_t)json_integer_value(start), json_uint(r->json, "memory", 0));
	GError *e = NULL;
	bool ok;

	ok = not_here_yet(r, &e);
	check(r, ok, g_steal_pointer(&e));
	take_disks(r);
	ok = need_space(r, &e);
	check(r, ok, g_steal_pointer(&e));
	ok = need_memory(memory, &e);
	check(r, ok, g_steal_pointer(&e));
	for (guint i = 0; i < r->vm->nic->len; i++) {
		ok = need_bridge(r->vm->nic->pdata[i], &e);
		check(r, ok, g_steal_pointer(&e));
	}
	ok = need_file("kernel", argument(applied, "-kernel"), &e);
	check(r, ok, g_steal_pointer(&e));
	ok = need_file("initrd", argument(applied, "-initrd"), &e);
	check(r, ok, g_steal_pointer(&e));
	ok = need_cd(r, &e);
	check(r, ok, g_steal_pointer(&e));
	ok = need_cpu(r, &e);
	check(r, ok, g_steal_pointer(&e));
	/* Without a CPU that it can have there is no plan either, for the same reason. */
	if (!ok)
		return;
	ok = make_plan(r, &e) && need_promise(r, &e);
	check(r, ok, g_steal_pointer(&e));
}

/* [{name, path}] of the disks that would be, or are, copied to here. */
static Json *copied_of(const Request *r)
{
	Json *copied = json_array();

	for (guint i = 0; i < r->disk->len; i++) {
		const struct plan_receive_disk *d = &g_array_index(r->disk, struct plan_receive_disk, i);

		if (d->copied)
			json_array_append_new(copied,
					      json_pack("{s:s,s:s}", "name", d->name, "path", d->path));
	}
	return copied;
}

static Request request_new(Engine *e, const char *source, const Json *json)
{
	return (Request){
		.engine = e,
		.json = json,
		.source = source,
		.disk = g_array_new(FALSE, TRUE, sizeof(struct plan_receive_disk)),
		.text = g_ptr_array_new_with_free_func(g_free),
		.blockers = json_array(),
	};
}

Json *receive_check(Engine *e, const char *source, const Json *json, GError **err)
{
	g_auto(Request) r = request_new(e, source, json);
	Json *j;

	if (!request_read(&r, err))
		return NULL;
	look(&r);
	j = json_object();
	json_put(j, "copied", copied_of(&r));
	json_put(j, "blockers", json_ref(r.blockers));
	json_put_uint(j, "free_memory", host_memory_available());
	return j;
}

/* ---- and it is meant ---- */

/* Only the host that has a guest gives it away, and only in an operation that has it locked. */
static bool may_give(const Request *r, GError **err)
{
	g_autofree char *key = key_vm_runtime(r->vm->id);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *runtime = record_get(r->engine->store, key, NULL, &e);

	if (runtime == NULL) {
		if (e == NULL)
			return fail(err, ERR_NOT_FOUND, "there is no vm '%s'", r->vm->id);
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (g_strcmp0(json_str(runtime, "host"), r->source) == 0 &&
	    g_strcmp0(json_str(runtime, "operation"), r->operation) == 0)
		return true;
	return fail(err, ERR_CONFLICT, "'%s' is not yours to give away", r->vm->name);
}

/* An operation that the guest has left behind here removes what has the same names. */
static bool await_last_move(const Request *r, GError **err)
{
	return exec_wait_target(r->engine->exec, r->vm->id, LAST_MOVE_TIMEOUT) ||
	       fail_advice(err, ERR_BUSY, "`plim operation list` shows it.",
			   "an operation on '%s' goes on still on the host", r->vm->name);
}

static bool fail_blocked(const Request *r, GError **err)
{
	g_autoptr(GError) first = err_of_json(json_array_get(r->blockers, 0));

	g_propagate_error(err, g_steal_pointer(&first));
	/* A copy: the first one's details are in the list, and would be in themselves. */
	return err_detail(err, "blockers", json_deep_copy(r->blockers));
}

static bool write_key(const Request *r, GError **err)
{
	const char *name = engine_facts(r->engine)->run_as;
	SpawnUser user;

	if (name != NULL && !spawn_user_find(name, qemu_user_groups, &user))
		return fail(err, ERR_NOT_FOUND, "there is no user '%s' for QEMU to run as", name);
	return migrate_key_write(r->key_dir, json_str(r->json, "key"), name != NULL ? &user : NULL, err);
}

static Json *answer_of(const Request *r)
{
	Json *j = json_object();

	json_put_str(j, "reception", r->req->op_id);
	json_put(j, "applied", json_ref(r->applied));
	json_put(j, "copied", copied_of(r));
	json_put_bool(j, "shared_dir", r->from.shared_dir);
	json_put_bool(j, "takes_promise", true);
	return j;
}

Json *receive_begin(Engine *e, const char *source, const Json *json, GError **err)
{
	g_auto(Request) r = request_new(e, source, json);

	if (!request_read(&r, err))
		return NULL;
	if (r.operation == NULL) {
		fail(err, ERR_INVALID, "the request does not say which operation sends the guest");
		return NULL;
	}
	/* The source has locked the guest just before it asked. */
	if (!store_catch_up(e->store, err) || !may_give(&r, err) || !await_last_move(&r, err))
		return NULL;
	look(&r);
	if (json_array_size(r.blockers) > 0) {
		fail_blocked(&r, err);
		return NULL;
	}
	if (!write_key(&r, err))
		return NULL;
	reception_add(e->receptions, r.req->op_id, source);
	if (!exec_submit(e->exec, g_steal_pointer(&r.op), err)) {
		reception_end(e->receptions, r.req->op_id, err != NULL ? *err : NULL);
		dir_remove(r.key_dir, NULL);
		return NULL;
	}
	return answer_of(&r);
}
