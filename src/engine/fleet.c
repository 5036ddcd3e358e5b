/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/fleet.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "engine/qemu_pid.h"

#include <string.h>

#define LOCAL_PREFIX "run/vms/"
#define ADOPT_TIMEOUT UINT64_C(10000000)
/* Each may take the whole timeout: hundreds that hang must not be waited for one after the other. */
#define ADOPT_AT_ONCE 32
static const char *const qemu_groups[] = { "kvm", NULL };

/* A member of the fleet: the process and the channels into its guest. Shared by threads, counted. */
typedef struct Member {
	int refs; /* atomic */
	Fleet *fleet;
	char *vm_id, *name;
	char *operation; /* that started it; NULL: not noted */
	Vmm *vmm;        /* set once, under the fleet's lock */
	Console
	    *serial; /* NULL when the vm has no serial port; the virtio console and the agent are the Vmm's */
} Member;

struct Fleet {
	Loop *loop;
	Store *local;
	VmmHost *host;
	const FleetHandler *handler;
	void *data;
	GMutex lock;        /* of `member` and what members get later */
	GHashTable *member; /* vm id -> Member */
};

static Member *member_new(Fleet *f, const char *vm_id, const char *name, const char *operation)
{
	Member *m = g_new0(Member, 1);

	m->fleet = f;
	m->vm_id = g_strdup(vm_id);
	m->name = g_strdup(name);
	m->operation = g_strdup(operation);
	return m;
}

/* Loop thread: channels are closed there. */
static void member_free(gpointer p)
{
	Member *m = p;

	console_close(m->serial);
	if (m->vmm != NULL)
		vmm_forget(m->vmm);
	vmm_unref(m->vmm);
	g_free(m->vm_id);
	g_free(m->name);
	g_free(m->operation);
	g_free(m);
}

static void on_event(Vmm *v, const char *name, Json *args, uint64_t real_us, void *data)
{
	Member *m = data;

	(void)v, (void)real_us;
	m->fleet->handler->event(m->vm_id, name, args, m->fleet->data);
}

static void on_agent(Vmm *v, bool open, void *data)
{
	Member *m = data;

	(void)v;
	m->fleet->handler->agent(m->vm_id, open, m->fleet->data);
}

static void on_exited(Vmm *v, const VmmExit *e, void *data)
{
	Member *m = data;
	_cleanup_json_ Json *exit = vmm_exit_to_json(e);

	(void)v;
	m->fleet->handler->exited(m->vm_id, exit, m->fleet->data);
}

static const VmmHandler vmm_handler = { .event = on_event, .agent = on_agent, .exited = on_exited };

Fleet *fleet_new(Loop *l, Store *local, const char *run_as, const FleetHandler *handler, void *data,
		 GError **err)
{
	g_autoptr(Fleet) f = g_new0(Fleet, 1);
	SpawnUser user;

	g_mutex_init(&f->lock);
	f->loop = l;
	f->local = local;
	f->handler = handler;
	f->data = data;
	f->member = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, member_free);
	if (run_as != NULL && !spawn_user_find(run_as, qemu_groups, &user)) {
		fail(err, ERR_NOT_FOUND, "there is no user '%s' for QEMU to run as", run_as);
		return NULL;
	}
	f->host = vmm_host_new(l, run_as != NULL ? &user : NULL, err);
	return f->host != NULL ? g_steal_pointer(&f) : NULL;
}

Fleet *fleet_free(Fleet *f)
{
	if (f == NULL)
		return NULL;
	g_hash_table_unref(f->member);
	vmm_host_free(f->host);
	g_mutex_clear(&f->lock);
	g_free(f);
	return NULL;
}

static char *local_key(const char *vm_id)
{
	return g_strconcat(LOCAL_PREFIX, vm_id, NULL);
}

/* Relaxed: after a power cut no process is left to be found. */
static bool remember(Fleet *f, const char *vm_id, const struct fleet_spec *spec, const Vmm *v, GError **err)
{
	g_autofree char *key = local_key(vm_id), *text = NULL;
	_cleanup_json_ Json *j = json_object();
	StoreTx *tx = store_tx_new();

	json_put(j, "process", vmm_record(v));
	json_put_str(j, "name", spec->name);
	json_put_str(j, "dir", spec->dir);
	json_put_str(j, "log", spec->log_path);
	if (spec->operation != NULL)
		json_put_str(j, "operation", spec->operation);
	text = json_print(j);
	store_tx_set(tx, key, STORE_ANY, text);
	return store_commit(f->local, tx, STORE_RELAXED, NULL, err);
}

static const ConsoleHandler no_handler = { 0 };

/* ---- on the loop's thread, asked for by a worker who waits ---- */

typedef struct Errand {
	void (*func)(struct Errand *e);
	Fleet *fleet;
	Member *member;
	const char *vm_id, *dir, *port; /* what it is about, as its function needs */
	GBytes *bytes;                  /* what it found */
	GMutex lock;
	GCond cond;
	bool done;
} Errand;

static void run_errand(void *data)
{
	Errand *e = data;

	e->func(e);
	g_mutex_lock(&e->lock);
	e->done = true;
	g_cond_signal(&e->cond);
	g_mutex_unlock(&e->lock);
}

static void on_loop(Errand *e)
{
	g_mutex_init(&e->lock);
	g_cond_init(&e->cond);
	loop_post(e->fleet->loop, run_errand, e);
	g_mutex_lock(&e->lock);
	while (!e->done)
		g_cond_wait(&e->cond, &e->lock);
	g_mutex_unlock(&e->lock);
	g_mutex_clear(&e->lock);
	g_cond_clear(&e->cond);
}

static bool has_socket(const char *path)
{
	return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* A guest without a console is better than none. */
static Console *open_console(const Member *m, const char *socket, const char *ring)
{
	g_autoptr(GError) err = NULL;
	Console *c = console_open(m->fleet->loop, socket, ring, &err);

	if (c == NULL)
		log_warning("vm %s: its console can't be used: %s", m->name, err->message);
	return c;
}

/* An agent that was there before we looked is told of now. */
static void open_channels(Errand *e)
{
	Member *m = e->member;
	g_autofree char *serial = vmm_socket(m->vmm, "serial"),
			*ring = g_build_filename(e->dir, "serial.ring", NULL);
	Agent *agent = vmm_agent(m->vmm);

	if (has_socket(serial))
		m->serial = open_console(m, serial, ring);
	g_mutex_lock(&e->fleet->lock);
	g_hash_table_replace(e->fleet->member, m->vm_id, m);
	g_mutex_unlock(&e->fleet->lock);
	if (agent != NULL && agent_is_open(agent))
		e->fleet->handler->agent(m->vm_id, true, e->fleet->data);
}

static void drop_member(Errand *e)
{
	member_free(e->member);
}

static void join_fleet(Fleet *f, Member *m, const char *dir)
{
	Errand e = { .func = open_channels, .fleet = f, .member = m, .dir = dir };

	on_loop(&e);
}

/* ---- launch ---- */

static bool launch(Fleet *f, Member *m, const struct fleet_spec *spec, uint64_t timeout, GError **err)
{
	const struct vmm_spec v = {
		.name = spec->name,
		.uuid = spec->vm_id,
		.dir = spec->dir,
		.log_path = spec->log_path,
		.argv = spec->argv,
		.fds = spec->fds,
		.n_fds = spec->n_fds,
	};

	m->vmm = vmm_launch(f->host, &v, &vmm_handler, m, timeout, err);
	if (m->vmm == NULL)
		return false;
	if (remember(f, spec->vm_id, spec, m->vmm, err))
		return true;
	vmm_kill(m->vmm, timeout, NULL);
	return false;
}

bool fleet_launch(Fleet *f, const struct fleet_spec *spec, uint64_t timeout, GError **err)
{
	g_autoptr(Vmm) own = fleet_started_by(f, spec->vm_id, spec->operation);
	g_autoptr(Vmm) other = own == NULL ? fleet_vmm(f, spec->vm_id) : NULL;
	Member *m;

	if (own != NULL)
		return true;
	if (other != NULL)
		return fail_advice(err, ERR_BUSY, "Try again in a few seconds.",
				   "a QEMU of '%s' that ran before has not ended yet", spec->name);
	m = member_new(f, spec->vm_id, spec->name, spec->operation);
	if (!launch(f, m, spec, timeout, err)) {
		Errand e = { .func = drop_member, .fleet = f, .member = m };

		on_loop(&e);
		return false;
	}
	join_fleet(f, m, spec->dir);
	return true;
}

/* ---- adoption ---- */

typedef struct Adoption {
	Fleet *fleet;
	const StoreItem *item;
	FleetAdoptFunc each;
	void *data;
} Adoption;

static void adopt_one(void *data)
{
	g_autofree Adoption *a = data;
	const StoreItem *item = a->item;
	Fleet *f = a->fleet;
	const char *vm_id = item->key + strlen(LOCAL_PREFIX);
	_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);
	const struct vmm_known known = {
		.name = json_str(j, "name"),
		.uuid = vm_id,
		.dir = json_str(j, "dir"),
		.log_path = json_str(j, "log"),
		.record = json_obj(j, "process"),
	};
	g_autoptr(GError) err = NULL;
	Member *m;

	if (known.name == NULL || known.dir == NULL || known.log_path == NULL) {
		log_warning("what is remembered of QEMU of vm %s makes no sense: it is forgotten", vm_id);
		fleet_forget(f, vm_id);
		return;
	}
	m = member_new(f, vm_id, known.name, json_str(j, "operation"));
	m->vmm = vmm_adopt(f->host, &known, &vmm_handler, m, ADOPT_TIMEOUT, &err);
	if (m->vmm != NULL) {
		join_fleet(f, m, known.dir);
		a->each(vm_id, known.name, NULL, a->data);
	} else {
		Errand e = { .func = drop_member, .fleet = f, .member = m };

		on_loop(&e);
		a->each(vm_id, known.name, err, a->data);
	}
}

static bool is_member(Fleet *f, const char *vm_id)
{
	bool is;

	g_mutex_lock(&f->lock);
	is = g_hash_table_contains(f->member, vm_id);
	g_mutex_unlock(&f->lock);
	return is;
}

/* One that runs, and that no daemon lived to note. */
static void adopt_unknown(Fleet *f, const Folders *folders, const char *vm_id, FleetAdoptFunc each,
			  void *data)
{
	g_autofree char *dir = path_vm_run_dir(folders, vm_id), *log = path_vm_log(folders, vm_id);
	const struct fleet_spec spec = { .vm_id = vm_id, .name = vm_id, .dir = dir, .log_path = log };
	const struct vmm_known known = { .name = vm_id, .uuid = vm_id, .dir = dir, .log_path = log };
	Member *m = member_new(f, vm_id, vm_id, NULL);
	g_autoptr(GError) err = NULL;

	m->vmm = vmm_adopt(f->host, &known, &vmm_handler, m, ADOPT_TIMEOUT, &err);
	if (m->vmm != NULL && remember(f, vm_id, &spec, m->vmm, &err)) {
		join_fleet(f, m, dir);
		each(vm_id, vm_id, NULL, data);
	} else {
		Errand e = { .func = drop_member, .fleet = f, .member = m };

		log_warning("a QEMU of vm %s that nobody noted was not taken up: %s", vm_id, err->message);
		on_loop(&e);
	}
}

static void adopt_unknowns(Fleet *f, const Folders *folders, FleetAdoptFunc each, void *data)
{
	g_autofree char *path = g_build_filename(folders->run, "vms", NULL);
	GDir *d = g_dir_open(path, 0, NULL);
	const char *id;

	while (d != NULL && (id = g_dir_read_name(d)) != NULL)
		if (uuid_valid(id) && !is_member(f, id) && qemu_pid_of(folders->run, id) != 0)
			adopt_unknown(f, folders, id, each, data);
	if (d != NULL)
		g_dir_close(d);
}

bool fleet_adopt_all(Fleet *f, const Folders *folders, FleetAdoptFunc each, void *data, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(f->local, LOCAL_PREFIX, NULL, err);
	WorkerPool *pool;

	if (items == NULL)
		return false;
	pool = worker_pool_new(ADOPT_AT_ONCE);
	for (guint i = 0; i < items->len; i++) {
		Adoption *a = g_new(Adoption, 1);

		*a = (Adoption){ f, items->pdata[i], each, data };
		worker_pool_push(pool, adopt_one, a);
	}
	worker_pool_free(pool); /* when all are through */
	adopt_unknowns(f, folders, each, data);
	return true;
}

static void remove_member(Errand *e)
{
	Member *m;

	g_mutex_lock(&e->fleet->lock);
	m = g_hash_table_lookup(e->fleet->member, e->vm_id);
	if (m != NULL && !vmm_alive(m->vmm))
		g_hash_table_steal(e->fleet->member, e->vm_id);
	else
		m = NULL;
	g_mutex_unlock(&e->fleet->lock);
	if (m != NULL)
		member_free(m);
}

void fleet_forget(Fleet *f, const char *vm_id)
{
	g_autofree char *key = local_key(vm_id);
	Errand e = { .func = remove_member, .fleet = f, .vm_id = vm_id };
	g_autoptr(Vmm) other = NULL;
	StoreTx *tx;

	on_loop(&e);
	/* One that came meanwhile is remembered. */
	other = fleet_vmm(f, vm_id);
	if (other != NULL)
		return;
	tx = store_tx_new();
	store_tx_set(tx, key, STORE_ANY, NULL);
	if (!store_commit(f->local, tx, STORE_RELAXED, NULL, NULL))
		log_warning("that QEMU of vm %s is gone was not recorded", vm_id);
}

/* ---- looking up ---- */

/* `operation` NULL: whichever started it. */
static Vmm *look_up(Fleet *f, const char *vm_id, const char *operation)
{
	Member *m;
	Vmm *v = NULL;

	g_mutex_lock(&f->lock);
	m = g_hash_table_lookup(f->member, vm_id);
	if (m != NULL && vmm_alive(m->vmm) &&
	    (operation == NULL || m->operation == NULL || g_str_equal(m->operation, operation)))
		v = vmm_ref(m->vmm);
	g_mutex_unlock(&f->lock);
	return v;
}

Vmm *fleet_vmm(Fleet *f, const char *vm_id)
{
	return look_up(f, vm_id, NULL);
}

Vmm *fleet_started_by(Fleet *f, const char *vm_id, const char *operation)
{
	return look_up(f, vm_id, operation);
}

Agent *fleet_agent(Fleet *f, const char *vm_id)
{
	Member *m;
	Agent *a = NULL;

	g_mutex_lock(&f->lock);
	m = g_hash_table_lookup(f->member, vm_id);
	if (m != NULL && vmm_agent(m->vmm) != NULL)
		a = agent_ref(vmm_agent(m->vmm));
	g_mutex_unlock(&f->lock);
	return a;
}

Console *fleet_console(Fleet *f, const char *vm_id, const char *port)
{
	Member *m;
	Console *c = NULL;

	g_mutex_lock(&f->lock);
	m = g_hash_table_lookup(f->member, vm_id);
	if (m != NULL)
		c = g_str_equal(port, "serial") ? m->serial : vmm_console(m->vmm);
	g_mutex_unlock(&f->lock);
	return c;
}

static void read_scrollback(Errand *e)
{
	Console *c = fleet_console(e->fleet, e->vm_id, e->port);
	g_autoptr(ConsoleReader) r = NULL;
	char *text;

	if (c == NULL)
		return;
	r = console_attach(c, CONSOLE_RING_SIZE, &no_handler, NULL);
	text = g_malloc(CONSOLE_RING_SIZE);
	e->bytes = g_bytes_new_take(text, console_read(r, text, CONSOLE_RING_SIZE, NULL));
}

GBytes *fleet_scrollback(Fleet *f, const char *vm_id, const char *port)
{
	Errand e = { .func = read_scrollback, .fleet = f, .vm_id = vm_id, .port = port };

	on_loop(&e);
	return e.bytes;
}

static void guest_free(gpointer p)
{
	struct fleet_guest *g = p;

	vmm_unref(g->vmm);
	g_free(g->vm_id);
	g_free(g);
}

GPtrArray *fleet_guests(Fleet *f)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(guest_free);
	GHashTableIter it;
	gpointer p;

	g_mutex_lock(&f->lock);
	g_hash_table_iter_init(&it, f->member);
	while (g_hash_table_iter_next(&it, NULL, &p)) {
		const Member *m = p;
		struct fleet_guest *g;

		if (m->vmm == NULL)
			continue;
		g = g_new(struct fleet_guest, 1);
		*g = (struct fleet_guest){ g_strdup(m->vm_id), vmm_ref(m->vmm) };
		g_ptr_array_add(all, g);
	}
	g_mutex_unlock(&f->lock);
	return all;
}

unsigned fleet_size(Fleet *f)
{
	unsigned n;

	g_mutex_lock(&f->lock);
	n = g_hash_table_size(f->member);
	g_mutex_unlock(&f->lock);
	return n;
}
