/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "base/version.h"
#include "core/model/keys.h"
#include "core/model/settings.h"
#include "core/tools/judge.h"
#include "engine/boot.h"
#include "engine/bundle.h"
#include "engine/engine-impl.h"
#include "engine/ksm.h"
#include "engine/limits.h"
#include "engine/pool-impl.h"
#include "engine/pool_recover.h"
#include "engine/pool_store.h"
#include "engine/probe.h"
#include "engine/records.h"
#include "engine/sim.h"
#include "engine/steps.h"
#include "engine/tools.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/*
 * A start keeps a CPU busy for some 30 ms: more at a time only makes each of
 * them late, and with enough of them the monitors' deadlines are missed.
 */
#define LAUNCHES_PER_CPU 2
#define LAUNCHES_MIN 4
#define LAUNCHES_MAX 64

/* A pool has a few; the set begins anew when there are more. */
#define KNOWN_CPU_MAX 256

/* The first probe of a daemon takes half a second for each accelerator; a busy host takes longer. */
#define CPU_TIMEOUT UINT64_C(120000000)
#define PUT_TRIES 20

Store *engine_store(Engine *e)
{
	return e->store;
}

const Membership *engine_membership(const Engine *e)
{
	return e->member;
}

void engine_restart(Engine *e)
{
	loop_post(e->loop, e->restart, e->restart_data);
}

Events *engine_events(Engine *e)
{
	return e->events;
}

MemoryKeeper *engine_memory_keeper(Engine *e)
{
	return e->memory;
}

Exec *engine_exec(Engine *e)
{
	return e->exec;
}

Receptions *engine_receptions(Engine *e)
{
	return e->receptions;
}

Fleet *engine_fleet(Engine *e)
{
	return e->fleet;
}

unsigned engine_launches(const Engine *e)
{
	return e->launches;
}

bool engine_is_sim(const Engine *e)
{
	return e->sim != NULL;
}

Json *engine_wakeups(Engine *e)
{
	return wake_watch_report(e->watch);
}

Ledger *engine_ledger(Engine *e)
{
	return e->ledger;
}

HostCpu *engine_cpu(Engine *e)
{
	return e->cpu;
}

LevelKeeper *engine_level(Engine *e)
{
	return e->level;
}

void engine_await_cpu(Engine *e, const Vm *vm)
{
	const HostFacts *f = engine_facts(e);
	const char *asked = vm != NULL ? json_string_value(vm_setting(vm, "accel")) : NULL;
	const char *accel = asked != NULL && !g_str_equal(asked, "auto") ? asked : f->accel_wanted;
	bool kvm = g_str_equal(accel, "auto") ? f->accel[ACCEL_KVM].works : g_str_equal(accel, "kvm");

	if (!host_cpu_wait(e->cpu, kvm ? GUEST_KVM : GUEST_TCG, CPU_TIMEOUT))
		log_warning("the CPU features of this host are still not known");
}

const HostFacts *engine_facts(Engine *e)
{
	const HostFacts *f;

	g_mutex_lock(&e->lock);
	f = e->facts->pdata[e->facts->len - 1];
	g_mutex_unlock(&e->lock);
	return f;
}

bool engine_knows_cpu(Engine *e, const char *identity)
{
	bool known;

	g_mutex_lock(&e->lock);
	known = g_hash_table_contains(e->known_cpu, identity);
	g_mutex_unlock(&e->lock);
	return known;
}

void engine_learn_cpu(Engine *e, const char *identity)
{
	g_mutex_lock(&e->lock);
	if (g_hash_table_size(e->known_cpu) >= KNOWN_CPU_MAX)
		g_hash_table_remove_all(e->known_cpu);
	g_hash_table_add(e->known_cpu, g_strdup(identity));
	g_mutex_unlock(&e->lock);
}

bool engine_fence_in(Engine *e, pid_t qemu, GError **err)
{
	return e->fence == NULL || fence_add(e->fence, qemu) ||
	       fail_advice(err, ERR_LIMIT, "Start it on another host, or move guests away from this one.",
			   "%u guests run on this host, and no more can be watched over", FENCE_PLACES);
}

EngineRequest *engine_request_new(Engine *e, const char *user)
{
	EngineRequest *r = g_new0(EngineRequest, 1);

	r->op_id = uuid_new();
	r->now = time_stamp();
	r->user = g_strdup(user);
	r->cpu = host_cpu_offer(e->cpu);
	r->plan = (PlanRequest){
		.op_id = r->op_id, .now = r->now, .user = r->user, .host = engine_facts(e), .cpu = r->cpu
	};
	return r;
}

EngineRequest *engine_request_free(EngineRequest *r)
{
	if (r != NULL) {
		g_free(r->op_id);
		g_free(r->now);
		g_free(r->user);
		cpu_offer_free(r->cpu);
		g_free(r);
	}
	return NULL;
}

/* QEMU's user must reach disks and sockets: everybody may pass through, nobody may list. */
static bool make_folders(const Folders *f, GError **err)
{
	const char *const roots[] = { f->state, f->run, f->log };
	static const char *const below[] = { "images", "volumes", "vms" };

	for (size_t i = 0; i < G_N_ELEMENTS(roots); i++)
		if (!dir_make(roots[i], 0711, err))
			return false;
	for (size_t i = 0; i < G_N_ELEMENTS(below); i++) {
		g_autofree char *path = g_build_filename(f->state, below[i], NULL);

		if (!dir_make(path, 0711, err))
			return false;
	}
	for (size_t i = 1; i < G_N_ELEMENTS(roots); i++) {
		g_autofree char *path = g_build_filename(roots[i], "vms", NULL);

		if (!dir_make(path, 0711, err))
			return false;
	}
	return true;
}

static int take_lock(const Folders *f, GError **err)
{
	g_autofree char *path = g_build_filename(f->state, "daemon.lock", NULL);
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		fail_errno(err, errno, "can't open '%s'", path);
		return -EBADF;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		fail(err, ERR_CONFLICT, "another plimsolld works on '%s'", f->state);
		err_advise(err, "Stop that one first, or give this one another folder with --state.");
		return -EBADF;
	}
	return fd_take(&fd);
}

static Store *open_store(const Folders *f, const char *name, GError **err)
{
	g_autofree char *url = g_strdup_printf("sqlite:%s/%s", f->state, name);

	return store_open(url, err);
}

/* The id of this host is made once and stays. */
static char *host_id(Store *local, GError **err)
{
	static const char key[] = "host/id";
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = store_get(local, key, &e);
	g_autofree char *id = NULL;
	StoreTx *tx;

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return NULL;
	}
	if (item != NULL)
		return g_strdup(item->value);
	id = uuid_new();
	tx = store_tx_new();
	store_tx_set(tx, key, 0, id);
	return store_commit(local, tx, STORE_DURABLE, NULL, err) ? g_steal_pointer(&id) : NULL;
}

static void drop_facts(gpointer p)
{
	host_facts_free(p);
}

static void on_operation_end(const Operation *op, void *data)
{
	Engine *e = data;
	g_autoptr(GError) error = op->error != NULL ? err_of_json(op->error) : NULL;

	admission_settle(e->admission, op);
	reception_end(e->receptions, op->id, error);
	supervisor_operation_ended(e->supervisor, op);
}

struct memory_host engine_memory(Engine *e)
{
	struct memory_host h = memory_host_of(engine_facts(e));

	if (e->sim == NULL)
		h.available = host_memory_available();
	return h;
}

struct memory_claims engine_memory_claims(Engine *e)
{
	return admission_claims(e->admission);
}

struct limits_seen engine_limits(Engine *e)
{
	return e->sim != NULL ? (struct limits_seen){ 0 }
			      : limits_look(admission_claims(e->admission).guests);
}

struct host_view engine_view(Engine *e)
{
	return (struct host_view){ .memory = engine_memory(e), .limits = engine_limits(e) };
}

bool engine_has_room(Engine *e, const Operation *op, GError **err)
{
	struct host_view view = engine_view(e);

	return admission_ask(e->admission, &view, op, err);
}

static bool admit(const Operation *op, StoreTx *tx, void *data, GError **err)
{
	struct host_view view;
	Engine *e = data;

	if (e->lease != NULL && !lease_admit(e->lease, tx, err))
		return false;
	if (operation_memory_claim(op) == 0)
		return true;
	view = engine_view(e);
	return admission_take(e->admission, &view, op, err);
}

static void dismiss(const Operation *op, void *data)
{
	Engine *e = data;

	admission_settle(e->admission, op);
}

static void open_sim(Engine *e)
{
	g_autofree char *world = g_build_filename(e->folders.run, "sim-world.json", NULL);
	g_autofree char *orders = g_build_filename(e->folders.run, "sim-orders.json", NULL);

	e->sim = sim_open(world, orders);
}

/* The pool's store, unless the pool has let go of this host. */
static bool open_pool(Engine *e, GError **err)
{
	g_autofree char *key = key_host(e->host_id);
	g_autoptr(GError) e2 = NULL;
	_cleanup_json_ Json *record = NULL;

	/* A member of etcd that does not start (the pool may have taken it out) is not the only way to the
	 * records. */
	if (!pool_etcd_start(e->folders.state, &e2))
		log_warning("this host's member of the pool's etcd does not run: %s", e2->message);
	g_clear_error(&e2);
	e->store = pool_store_open_patiently(e->member->store, err);
	if (e->store == NULL)
		return err_advise(err, "This host is in the pool '%s': its daemon needs the pool's etcd.",
				  e->member->pool_name);
	record = record_get(e->store, key, NULL, &e2);
	if (e2 != NULL) {
		g_propagate_error(err, g_steal_pointer(&e2));
		return false;
	}
	if (record != NULL)
		return true;
	e->store = store_close(e->store);
	e->dismissed_from = g_strdup(e->member->pool_name);
	e->member = membership_free(e->member);
	return pool_dismiss(&e->folders, err);
}

static bool open_records(Engine *e, GError **err)
{
	if (e->member != NULL && !open_pool(e, err))
		return false;
	if (e->store == NULL)
		e->store = open_store(&e->folders, "state.db", err);
	return e->store != NULL;
}

static unsigned launches_of(const struct engine_config *config)
{
	if (config->launches > 0)
		return config->launches;
	return CLAMP(g_get_num_processors() * LAUNCHES_PER_CPU, LAUNCHES_MIN, LAUNCHES_MAX);
}

static bool open_parts(Engine *e, const struct engine_config *config, GError **err)
{
	struct exec_config exec = { .steps = config->sim ? sim_steps : qemu_steps,
				    .on_end = on_operation_end,
				    .data = e };

	g_autoptr(GError) e2 = NULL;

	e->local = open_store(&e->folders, "host.db", err);
	if (e->local == NULL)
		return false;
	if (!pool_recover(&e->folders, &e->join_undone, err))
		return false;
	e->member = membership_load(e->folders.state, MEMBERSHIP_FILE, &e2);
	if (e2 != NULL) {
		g_propagate_error(err, g_steal_pointer(&e2));
		return false;
	}
	e->host_id = host_id(e->local, err);
	if (e->host_id == NULL || !open_records(e, err))
		return false;
	e->events = events_open(e->store, err);
	if (e->events == NULL)
		return false;
	if (config->sim)
		open_sim(e);
	e->supervisor = supervisor_new(e);
	e->ledger = ledger_new(e);
	e->hang = hang_watch_new(e);
	e->receptions = receptions_new();
	e->moves = moves_new();
	if (!config->sim)
		e->freezes = freeze_keeper_new(e);
	e->pool = worker_pool_new(config->workers);
	e->launches = launches_of(config);
	e->launch_pool = worker_pool_new(e->launches);
	e->level = level_keeper_new(e->loop, e->pool, e->store, e->events);
	e->cpu = host_cpu_new(e);
	exec.store = e->store;
	exec.pool = e->pool;
	exec.launch_pool = e->launch_pool;
	exec.host = e->host_id;
	e->admission = admission_new(e->store, e->host_id);
	exec.admit = admit;
	exec.dismiss = dismiss;
	exec.engine = config->sim ? (void *)e->sim : (void *)e;
	e->exec = exec_new(&exec);
	return true;
}

Engine *engine_open(const struct engine_config *config, GError **err)
{
	g_autoptr(Engine) e = g_new0(Engine, 1);

	g_mutex_init(&e->lock);
	g_mutex_init(&e->dumping);
	g_mutex_init(&e->forgetting);
	e->loop = config->loop;
	e->lease_ttl = config->lease != 0 ? config->lease : LEASE_TTL;
	e->sample = config->sample;
	e->memory_sample = config->memory_sample;
	e->restart = config->restart;
	e->restart_data = config->data;
	e->lock_fd = -EBADF;
	e->facts = g_ptr_array_new_with_free_func(drop_facts);
	e->known_cpu = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	e->folders = (Folders){ g_strdup(config->folders->state), g_strdup(config->folders->run),
				g_strdup(config->folders->log) };
	e->host_name = config->host_name != NULL ? g_strdup(config->host_name) : g_strdup(g_get_host_name());
	if (!make_folders(&e->folders, err))
		return NULL;
	e->lock_fd = take_lock(&e->folders, err);
	if (e->lock_fd < 0 || !open_parts(e, config, err))
		return NULL;
	return g_steal_pointer(&e);
}

/*
 * The record as it is, with these facts. In a pool others have written to it,
 * and it is there only as long as the host is a member.
 */
static Json *host_record(Engine *e, const HostFacts *facts, int64_t *ret_rev, GError **err)
{
	g_autofree char *key = key_host(facts->id), *url = NULL;
	_cleanup_json_ Json *now = host_facts_to_json(facts);
	g_autoptr(GError) e2 = NULL;
	Json *j = record_get(e->store, key, ret_rev, &e2);

	if (e2 != NULL) {
		g_propagate_error(err, g_steal_pointer(&e2));
		return NULL;
	}
	if (e->member == NULL) {
		json_unref(j);
		*ret_rev = STORE_ANY;
		return g_steal_pointer(&now);
	}
	if (j == NULL) {
		fail_advice(
		    err, ERR_DENIED,
		    "Its vms may run elsewhere by now. Make sure that none runs here, move pool.json and "
		    "state.db out of the state folder, and join again.",
		    "this host was taken out of the pool '%s'", e->member->pool_name);
		return NULL;
	}
	json_object_update(j, now);
	url = membership_url(e->member);
	json_put_str(j, "url", url);
	json_put_str(j, "version", plimsoll_version);
	json_put_bool(j, "etcd", pool_has_etcd());
	return j;
}

static bool put_host_once(Engine *e, const HostFacts *facts, GError **err)
{
	g_autofree char *key = key_host(facts->id), *name = key_name("hosts", facts->name), *text = NULL,
			*id = NULL;
	int64_t rev;
	_cleanup_json_ Json *j = host_record(e, facts, &rev, err);
	StoreTx *tx;

	if (j == NULL)
		return false;
	text = json_print(j);
	id = g_strdup_printf("\"%s\"", facts->id);
	tx = store_tx_new();
	store_tx_set(tx, key, rev, text);
	store_tx_set(tx, name, STORE_ANY, id);
	return store_commit(e->store, tx, STORE_DURABLE, NULL, err);
}

/* In a pool others write to the record too. */
static bool put_host_record(Engine *e, const HostFacts *facts, GError **err)
{
	for (int tries = 0;; tries++) {
		g_autoptr(GError) e2 = NULL;

		if (put_host_once(e, facts, &e2))
			return true;
		if (tries == PUT_TRIES || !store_is_conflict(e2)) {
			g_propagate_error(err, g_steal_pointer(&e2));
			return false;
		}
	}
}

/* What an admin chose outlives probes and restarts. */
static void take_choices(Engine *e, HostFacts *f)
{
	g_autofree char *key = key_host(e->host_id);
	_cleanup_json_ Json *j = record_get(e->store, key, NULL, NULL);
	const char *accel = json_str(j, "accel");
	const Json *chosen = json_obj(j, "settings");
	g_autoptr(GError) err = NULL;

	g_free(f->accel_wanted);
	f->accel_wanted = g_strdup(accel != NULL ? accel : "auto");
	if (chosen != NULL && !host_settings_merge(f->settings, chosen, &err))
		log_warning("the settings of this host are not used: %s", err->message);
}

static void set_identity(Engine *e, HostFacts *f)
{
	g_free(f->id);
	g_free(f->name);
	g_free(f->folders.state);
	g_free(f->folders.run);
	g_free(f->folders.log);
	f->id = g_strdup(e->host_id);
	f->name = g_strdup(e->host_name);
	take_choices(e, f);
	f->folders =
	    (Folders){ g_strdup(e->folders.state), g_strdup(e->folders.run), g_strdup(e->folders.log) };
}

static void publish_facts(Engine *e, HostFacts *facts)
{
	g_mutex_lock(&e->lock);
	g_ptr_array_add(e->facts, facts);
	g_mutex_unlock(&e->lock);
}

static void tell_accelerators(Engine *e, const HostFacts *f)
{
	for (Accel a = 0; a < _ACCEL_MAX; a++)
		if (!f->accel[a].works && f->accel[a].reason != NULL)
			events_emit(e->events, EVENT_HOST_ACCEL_UNUSABLE, "host", f->id, f->name, NULL,
				    "%s is not used: %s", accel_name(a), f->accel[a].reason);
}

/* Whom QEMU runs as is settled when the daemon starts: guests, grants and folders hang on it. */
static void keep_user(Engine *e, HostFacts *f)
{
	if (e->facts->len == 0)
		return;
	g_free(f->run_as);
	f->run_as = g_strdup(engine_facts(e)->run_as);
}

/* Takes `f`; NULL: the probe failed. */
static bool take_facts(Engine *e, HostFacts *f, GError **err)
{
	if (f == NULL)
		return false;
	set_identity(e, f);
	keep_user(e, f);
	if (!put_host_record(e, f, err)) {
		host_facts_free(f);
		return false;
	}
	publish_facts(e, f);
	events_emit(e->events, EVENT_HOST_PROBED, "host", f->id, f->name, NULL, "QEMU %s, %u CPUs",
		    f->qemu_version, f->cpus);
	tell_accelerators(e, f);
	return true;
}

bool engine_probe(Engine *e, GError **err)
{
	HostFacts *f = e->sim != NULL ? sim_probe(e->sim) : host_probe_fresh(e->local, &e->folders, err);

	return take_facts(e, f, err) && host_cpu_probe(e->cpu, err);
}

static bool check_accel(Engine *e, const char *accel, GError **err)
{
	Accel a;

	if (!g_str_equal(accel, "auto") && !accel_of_name(accel, &a))
		return fail_advice(err, ERR_INVALID, "Write auto, kvm or tcg.",
				   "there is no accelerator '%s'", accel);
	if (!g_str_equal(accel, "auto") && !engine_facts(e)->accel[a].works)
		return fail_advice(err, ERR_UNSUPPORTED, "`plim host show` says what works.",
				   "%s does not work on this host: %s", accel,
				   engine_facts(e)->accel[a].reason);
	return true;
}

bool engine_set_host(Engine *e, const char *accel, const Json *changes, GError **err)
{
	_cleanup_json_ Json *j = host_facts_to_json(engine_facts(e));
	HostFacts *f;

	if (accel != NULL && !check_accel(e, accel, err))
		return false;
	if (changes != NULL && (!host_settings_merge(json_object_get(j, "settings"), changes, err) ||
				!tools_settings_check(changes, err)))
		return false;
	if (json_object_get(changes, "ksm") != NULL && e->sim == NULL &&
	    !ksm_apply(KSM_DIR, ksm_mode_of(json_object_get(j, "settings")), host_memory_available(), err))
		return false;
	if (accel != NULL)
		json_put_str(j, "accel", accel);
	f = host_facts_of_json(j, err);
	if (f == NULL)
		return false;
	if (!put_host_record(e, f, err)) {
		host_facts_free(f);
		return false;
	}
	publish_facts(e, f);
	if (tools_settings_named(changes))
		tools_review(e);
	return true;
}

typedef struct FleetMaking {
	Engine *engine;
	GMutex lock;
	GCond cond;
	bool done, ok;
	GError *err;
} FleetMaking;

/* The fleet belongs to the loop's thread; the probe that says whom QEMU runs as was made on another. */
static void make_fleet_on_loop(void *data)
{
	FleetMaking *m = data;
	Engine *e = m->engine;

	e->fleet = fleet_new(e->loop, e->local, engine_facts(e)->run_as, supervisor_fleet_handler,
			     e->supervisor, &m->err);
	g_mutex_lock(&m->lock);
	m->done = true;
	m->ok = e->fleet != NULL;
	g_cond_signal(&m->cond);
	g_mutex_unlock(&m->lock);
}

static bool make_fleet(Engine *e, GError **err)
{
	FleetMaking m = { .engine = e };

	g_mutex_init(&m.lock);
	g_cond_init(&m.cond);
	loop_post(e->loop, make_fleet_on_loop, &m);
	g_mutex_lock(&m.lock);
	while (!m.done)
		g_cond_wait(&m.cond, &m.lock);
	g_mutex_unlock(&m.lock);
	g_mutex_clear(&m.lock);
	g_cond_clear(&m.cond);
	if (!m.ok)
		g_propagate_error(err, m.err);
	return m.ok;
}

static void tell_recovery(const Operation *op, bool forward, void *data)
{
	Engine *e = data;

	admission_force(e->admission, op);
	events_emit(e->events, EVENT_OPERATION_RECOVERED, op->target_type, op->target_id, op->target_name,
		    NULL, "%s of %s was interrupted; %s", op->kind, op->target_name,
		    forward ? "it is being finished" : "what was begun is being undone");
}

/* What happened to this host's membership while no daemon could tell. */
static void tell_pool(Engine *e)
{
	if (e->join_undone != NULL)
		events_emit(e->events, EVENT_HOST_JOIN_UNDONE, "host", e->host_id, e->host_name, NULL,
			    "this host was about to join the pool %s when its daemon ended; that was undone",
			    e->join_undone);
	if (e->dismissed_from != NULL)
		events_emit(
		    e->events, EVENT_HOST_EVICTED, "host", e->host_id, e->host_name, NULL,
		    "this host was taken out of the pool %s; its guests were ended, its files are kept",
		    e->dismissed_from);
	if (e->member != NULL && e->member->step != NULL) {
		events_emit(e->events,
			    g_str_equal(e->member->step, "init") ? EVENT_POOL_CREATED : EVENT_HOST_JOINED,
			    "host", e->host_id, e->host_name, NULL, "host %s is in the pool %s", e->host_name,
			    e->member->pool_name);
		membership_settle(e->member, e->folders.state);
	}
}

static bool hold_lease(Engine *e, GError **err)
{
	if (e->sim == NULL) {
		e->fence = fence_open(e->folders.run, engine_facts(e)->run_as, err);
		if (e->fence == NULL)
			return false;
	}
	e->lease = lease_start(e, e->lease_ttl, err);
	return e->lease != NULL;
}

/* As it was set; the kernel has forgotten it when the host was booted. */
static void restore_ksm(Engine *e)
{
	const HostFacts *f = engine_facts(e);
	g_autoptr(GError) why = NULL;

	if (e->sim == NULL && !ksm_apply(KSM_DIR, ksm_mode_of(f->settings), host_memory_available(), &why))
		events_emit(e->events, EVENT_HOST_KSM_UNUSABLE, "host", f->id, f->name, NULL, "%s",
			    why->message);
}

bool engine_start(Engine *e, GError **err)
{
	if (!take_facts(e, e->sim != NULL ? sim_probe(e->sim) : host_probe(e->local, &e->folders, err), err))
		return false;
	e->booted = boot_is_new(e->local);
	restore_ksm(e);
	bundle_sweep(&e->folders);
	/* Before guests are adopted: those that the fence holds can't answer. */
	if (e->member != NULL && !hold_lease(e, err))
		return false;
	if (e->sim == NULL && (!make_fleet(e, err) || !supervisor_adopt(e->supervisor, err)))
		return false;
	/* A guest that was frozen waits for nothing but this. */
	if (e->sim == NULL)
		freeze_keeper_recover(e->freezes);
	if (!admission_fill(e->admission, err))
		return false;
	if (e->sim == NULL)
		ledger_recover(e->ledger);
	host_cpu_begin(e->cpu);
	level_keeper_begin(e->level, host_cpu_followed, e->cpu);
	if (!exec_recover(e->exec, tell_recovery, e, err))
		return false;
	tell_pool(e);
	events_emit(e->events, EVENT_DAEMON_STARTED, NULL, NULL, NULL, NULL, "the daemon of host %s is up",
		    e->host_name);
	if (e->member != NULL)
		e->keeper = pool_keeper_start(e);
	supervisor_begin(e->supervisor);
	if (e->sim == NULL) {
		e->watch = wake_watch_start(e, e->sample);
		e->memory = memory_keeper_start(e, e->memory_sample);
	}
	boot_remember(e->local);
	return true;
}

void engine_stop(Engine *e)
{
	supervisor_end(e->supervisor);
	ledger_stop_all(e->ledger);
	wake_watch_stop(e->watch);
	memory_keeper_stop(e->memory);
	pool_keeper_stop(e->keeper);
	exec_stop(e->exec);
	if (e->freezes != NULL)
		freeze_keeper_stop(e->freezes);
	/* What the supervisor began needs the fleet and a loop that turns. */
	worker_pool_drain(e->pool);
	lease_stop(e->lease);
	if (e->facts->len > 0)
		events_emit(e->events, EVENT_DAEMON_STOPPED, NULL, NULL, NULL, NULL,
			    "the daemon of host %s stops; guests run on", e->host_name);
}

Engine *engine_close(Engine *e)
{
	if (e == NULL)
		return NULL;
	freeze_keeper_free(e->freezes);
	wake_watch_free(e->watch);
	memory_keeper_free(e->memory);
	ledger_free(e->ledger);
	fleet_free(e->fleet);
	pool_keeper_free(e->keeper);
	lease_stop(e->lease);
	exec_free(e->exec);
	admission_free(e->admission);
	worker_pool_free(e->launch_pool);
	worker_pool_free(e->pool);
	lease_free(e->lease);
	level_keeper_free(e->level);
	host_cpu_free(e->cpu);
	supervisor_free(e->supervisor);
	hang_watch_free(e->hang);
	fence_close(e->fence);
	receptions_free(e->receptions);
	moves_free(e->moves);
	sim_close(e->sim);
	events_close(e->events);
	store_close(e->local);
	store_close(e->store);
	fd_closep(&e->lock_fd);
	g_ptr_array_unref(e->facts);
	g_hash_table_unref(e->known_cpu);
	g_free(e->folders.state);
	g_free(e->folders.run);
	g_free(e->folders.log);
	g_free(e->host_name);
	g_free(e->host_id);
	g_free(e->join_undone);
	g_free(e->dismissed_from);
	membership_free(e->member);
	g_mutex_clear(&e->lock);
	g_mutex_clear(&e->dumping);
	g_mutex_clear(&e->forgetting);
	g_free(e);
	return NULL;
}
