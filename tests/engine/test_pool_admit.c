/* SPDX-License-Identifier: Apache-2.0 */
/* Two hosts of one name that want to join at the same time, each with a token of its own. */
#include "base/fd.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/pool-impl.h"
#include "engine/pool_token.h"
#include "put.h"
#include "store/store-impl.h"

#define FIRST "22222222-2222-4222-8222-222222222222"
#define SECOND "33333333-3333-4333-8333-333333333333"
#define LIFE UINT64_C(3600000000)

typedef struct Rig {
	Engine engine;
	Membership *member;
	char *dir;
	const StoreBackend *real;
	StoreBackend other;
	Json *between; /* admitted right before the next commit that takes a name */
} Rig;

static Rig *rig; /* of the back end's function, which has no place for it */

static void admit(Engine *e, const Json *application)
{
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *j = pool_admit(e, application, &err);

	g_assert_no_error(err);
	g_assert_nonnull(json_str(j, "certificate"));
}

static bool takes_name(const StoreTx *tx)
{
	g_autofree char *name = key_name("hosts", "twin");

	for (guint i = 0; i < tx->write->len; i++)
		if (g_str_equal(((const StoreWrite *)tx->write->pdata[i])->key, name))
			return true;
	return false;
}

static bool commit_behind(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	_cleanup_json_ Json *between = takes_name(tx) ? g_steal_pointer(&rig->between) : NULL;

	if (between != NULL)
		admit(&rig->engine, between);
	return rig->real->commit(s, tx, flags, ret_rev, err);
}

static void rig_init(Rig *r, gconstpointer unused)
{
	_cleanup_json_ Json *access = json_object();
	g_autoptr(GError) err = NULL;

	(void)unused;
	*r = (Rig){ .dir = g_dir_make_tmp("plim-pool-admit-XXXXXX", &err) };
	g_assert_no_error(err);
	r->member = g_new0(Membership, 1);
	r->member->pool_id = g_strdup("44444444-4444-4444-8444-444444444444");
	r->member->pool_name = g_strdup("lab");
	r->member->address = g_strdup("127.0.0.1:7443");
	r->member->folder = g_strdup(r->dir);
	pki_ca_make(r->dir, r->member->pool_id, time_real(), &err);
	g_assert_no_error(err);
	pool_store_save(access, r->dir, &err);
	g_assert_no_error(err);
	r->engine.member = r->member;
	r->engine.store = store_open("mem:", &err);
	g_assert_no_error(err);
	r->engine.events = events_open(r->engine.store, &err);
	g_assert_no_error(err);
	r->real = r->engine.store->be;
	r->other = *r->real;
	r->other.commit = commit_behind;
	r->engine.store->be = &r->other;
	rig = r;
}

static void rig_done(Rig *r, gconstpointer unused)
{
	(void)unused;
	events_close(r->engine.events);
	r->engine.store->be = r->real;
	store_close(r->engine.store);
	dir_remove(r->dir, NULL);
	membership_free(r->member);
	g_free(r->dir);
}

static char *secret(Rig *r)
{
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *j = pool_token_make(&r->engine, "root", LIFE, &err);
	g_autoptr(PoolToken) t = NULL;

	g_assert_no_error(err);
	t = pool_token_parse(json_str(j, "token"), &err);
	g_assert_no_error(err);
	return g_strdup(t->secret);
}

static Json *application(Rig *r, const char *id)
{
	g_autoptr(HostFacts) facts = sim_facts();
	g_autofree char *token = secret(r), *folder = g_build_filename(r->dir, id, NULL), *request = NULL;
	g_autoptr(GError) err = NULL;
	Json *j = json_object();

	g_assert_true(dir_make(folder, 0700, NULL));
	request = pki_request(folder, id, &err);
	g_assert_no_error(err);
	facts->id = g_strdup(id);
	facts->name = g_strdup("twin");
	facts->folders = (Folders){ g_strdup("/s"), g_strdup("/r"), g_strdup("/l") };
	json_put_int(j, "format", POOL_FORMAT);
	json_put_str(j, "version", "test");
	json_put_str(j, "token", token);
	json_put_str(j, "request", request);
	json_put_str(j, "address", "127.0.0.1:7444");
	json_put(j, "host", host_facts_to_json(facts));
	return j;
}

static void assert_name_is_of(Rig *r, const char *id)
{
	g_autofree char *name = key_name("hosts", "twin"), *value = g_strdup_printf("\"%s\"", id);
	g_autoptr(StoreItem) item = store_get(r->engine.store, name, NULL);

	g_assert_nonnull(item);
	g_assert_cmpstr(item->value, ==, value);
}

static void test_of_two_of_a_name_one_is_let_in(Rig *r, gconstpointer unused)
{
	_cleanup_json_ Json *late = application(r, SECOND);
	g_autofree char *key = key_host(SECOND);
	g_autoptr(GError) moved = NULL, err = NULL;
	g_autoptr(StoreItem) host = NULL;

	(void)unused;
	r->between = application(r, FIRST);
	g_assert_null(pool_admit(&r->engine, late, &moved));
	g_assert_true(store_is_conflict(moved));
	g_assert_null(r->between);
	assert_name_is_of(r, FIRST);
	host = store_get(r->engine.store, key, NULL);
	g_assert_null(host);
	/* The API tries again what lost such a race. */
	g_assert_null(pool_admit(&r->engine, late, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_false(store_is_conflict(err));
}

static void test_a_join_that_broke_can_be_repeated(Rig *r, gconstpointer unused)
{
	_cleanup_json_ Json *a = application(r, FIRST);

	(void)unused;
	admit(&r->engine, a);
	admit(&r->engine, a);
	assert_name_is_of(r, FIRST);
}

#define add(name) g_test_add("/pool_admit/" #name, Rig, NULL, rig_init, test_##name, rig_done)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add(of_two_of_a_name_one_is_let_in);
	add(a_join_that_broke_can_be_repeated);
	return g_test_run();
}
