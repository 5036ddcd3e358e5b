/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU record of a host that leaves its pool while it is probed. */
#include "base/fd.h"
#include "core/model/keys.h"
#include "engine/engine-impl.h"
#include "put.h"
#include "store/store-impl.h"

#define HOST "6f1c7d7e-4a53-4c3e-9d57-0a6a4b1f5d10"

typedef struct Rig {
	Engine engine;
	Membership member;
	char *dir, *host, *cpu;
	const StoreBackend *real;
	StoreBackend other;
	void (*before)(struct Rig *r); /* a commit of the CPU's record; once */
} Rig;

static Rig *rig; /* of the back end's function, which has no place for it */

static bool commit_behind(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	bool is_cpu = false;

	for (guint i = 0; i < tx->write->len; i++)
		is_cpu = is_cpu || g_str_equal(((const StoreWrite *)tx->write->pdata[i])->key, rig->cpu);
	if (is_cpu && rig->before != NULL) {
		void (*before)(Rig * r) = g_steal_pointer(&rig->before);

		before(rig);
	}
	return rig->real->commit(s, tx, flags, ret_rev, err);
}

static void open_parts(Engine *e, const char *dir)
{
	g_autofree char *world = g_build_filename(dir, "world", NULL),
			*orders = g_build_filename(dir, "orders", NULL);
	HostFacts *facts = sim_facts();
	g_autoptr(GError) err = NULL;

	g_mutex_init(&e->lock);
	facts->name = g_strdup("h1");
	e->host_id = g_strdup(HOST);
	e->host_name = g_strdup("h1");
	e->sim = sim_open(world, orders);
	e->facts = g_ptr_array_new();
	g_ptr_array_add(e->facts, facts);
	e->store = store_open("mem:", &err);
	g_assert_no_error(err);
	e->local = store_open("mem:", &err);
	g_assert_no_error(err);
	e->events = events_open(e->store, &err);
	g_assert_no_error(err);
	e->loop = loop_new(&err);
	g_assert_no_error(err);
	e->pool = worker_pool_new(1);
	e->level = level_keeper_new(e->loop, e->pool, e->store, e->events);
	e->cpu = host_cpu_new(e);
}

static void rig_init(Rig *r, gconstpointer unused)
{
	g_autoptr(GError) err = NULL;

	(void)unused;
	*r = (Rig){ .dir = g_dir_make_tmp("plim-host-cpu-XXXXXX", &err),
		    .host = key_host(HOST),
		    .cpu = key_cpu(HOST) };
	g_assert_no_error(err);
	open_parts(&r->engine, r->dir);
	r->engine.member = &r->member;
	r->real = r->engine.store->be;
	r->other = *r->real;
	r->other.commit = commit_behind;
	r->engine.store->be = &r->other;
	rig = r;
	put(r->engine.store, r->host, "{}");
}

static void rig_done(Rig *r, gconstpointer unused)
{
	Engine *e = &r->engine;

	(void)unused;
	worker_pool_free(e->pool);
	level_keeper_free(e->level);
	host_cpu_free(e->cpu);
	sim_close(e->sim);
	events_close(e->events);
	store_close(e->local);
	e->store->be = r->real;
	store_close(e->store);
	loop_free(e->loop);
	host_facts_free(e->facts->pdata[0]);
	g_ptr_array_unref(e->facts);
	g_free(e->host_id);
	g_free(e->host_name);
	g_mutex_clear(&e->lock);
	dir_remove(r->dir, NULL);
	g_free(r->dir);
	g_free(r->host);
	g_free(r->cpu);
}

static void probe(Rig *r)
{
	g_autoptr(GError) err = NULL;

	host_cpu_probe(r->engine.cpu, &err);
	g_assert_no_error(err);
}

static bool is_published(Rig *r)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(StoreItem) item = store_get(r->engine.store, r->cpu, &err);

	g_assert_no_error(err);
	return item != NULL;
}

static void leave(Rig *r)
{
	g_autoptr(GError) err = NULL;
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, r->host, STORE_ANY, NULL);
	store_tx_set(tx, r->cpu, STORE_ANY, NULL);
	store_commit(r->engine.store, tx, STORE_DURABLE, NULL, &err);
	g_assert_no_error(err);
}

static void touch(Rig *r)
{
	put(r->engine.store, r->host, "{\"settings\":{}}");
}

static void test_a_member_is_published(Rig *r, gconstpointer unused)
{
	(void)unused;
	probe(r);
	g_assert_true(is_published(r));
}

static void test_a_host_that_left_is_not_published(Rig *r, gconstpointer unused)
{
	(void)unused;
	leave(r);
	probe(r);
	g_assert_false(is_published(r));
}

static void test_a_leave_right_before_the_write_counts(Rig *r, gconstpointer unused)
{
	(void)unused;
	r->before = leave;
	probe(r);
	g_assert_null(r->before);
	g_assert_false(is_published(r));
}

static void test_a_record_that_was_written_meanwhile_is_no_hindrance(Rig *r, gconstpointer unused)
{
	(void)unused;
	r->before = touch;
	probe(r);
	g_assert_null(r->before);
	g_assert_true(is_published(r));
}

static void test_a_host_in_no_pool_needs_no_record(Rig *r, gconstpointer unused)
{
	(void)unused;
	leave(r);
	r->engine.member = NULL;
	probe(r);
	g_assert_true(is_published(r));
}

#define add(name) g_test_add("/host_cpu/" #name, Rig, NULL, rig_init, test_##name, rig_done)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add(a_member_is_published);
	add(a_host_that_left_is_not_published);
	add(a_leave_right_before_the_write_counts);
	add(a_record_that_was_written_meanwhile_is_no_hindrance);
	add(a_host_in_no_pool_needs_no_record);
	return g_test_run();
}
