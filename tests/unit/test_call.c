/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers that meet somebody else's change. */
#include "api/call.h"

/* What the handlers below know of each other. */
static struct {
	Store *store;
	unsigned runs, races;
} world;

static bool put(int64_t expected, const char *value, GError **err)
{
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, "/a", expected, value);
	return store_commit(world.store, tx, STORE_DURABLE, NULL, err);
}

/* Reads, loses the race as often as it is told, writes. */
static bool racing_handler(ApiCall *c, GError **err)
{
	g_autoptr(StoreItem) item = store_get(world.store, "/a", NULL);

	(void)c;
	if (world.runs++ < world.races)
		g_assert_true(put(STORE_ANY, "somebody's", NULL));
	return put(item->rev, "ours", err);
}

static bool refusing_handler(ApiCall *c, GError **err)
{
	(void)c;
	world.runs++;
	return fail(err, ERR_CONFLICT, "there is a vm of that name");
}

/* A call that names nothing. */
static bool run(ApiHandler handler, GError **err)
{
	g_autoptr(GHashTable) path = g_hash_table_new(g_str_hash, g_str_equal);
	ApiCall c = { .path = path };

	return call_run(&c, handler, NULL, NULL, err);
}

/* The first race was lost because what the call is about has moved to another host. */
static bool move_after_a_race(ApiCall *c, const void *data, bool *ret_done, GError **err)
{
	(void)c;
	(void)data;
	(void)err;
	*ret_done = world.runs > 0;
	return true;
}

static void begin(unsigned races)
{
	world.store = store_open("mem:", NULL);
	world.runs = 0;
	world.races = races;
	g_assert_true(put(STORE_ANY, "first", NULL));
}

static void end(const char *left)
{
	g_autoptr(StoreItem) item = store_get(world.store, "/a", NULL);

	g_assert_cmpstr(item->value, ==, left);
	store_close(world.store);
}

static void test_a_lost_race_is_run_again_on_what_is_there_now(void)
{
	g_autoptr(GError) err = NULL;

	begin(3);
	g_assert_true(run(racing_handler, &err));
	g_assert_no_error(err);
	g_assert_cmpuint(world.runs, ==, 4);
	end("ours");
}

static void test_who_loses_always_is_told_in_the_end(void)
{
	g_autoptr(GError) err = NULL;

	begin(1000);
	g_assert_false(run(racing_handler, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_cmpuint(world.runs, >, 1);
	g_assert_cmpuint(world.runs, <, 100);
	end("somebody's");
}

static void test_a_conflict_that_is_no_race_is_told_at_once(void)
{
	g_autoptr(GError) err = NULL;

	begin(0);
	g_assert_false(run(refusing_handler, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_cmpuint(world.runs, ==, 1);
	end("first");
}

static void test_what_has_moved_is_another_hosts(void)
{
	g_autoptr(GHashTable) path = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(GError) err = NULL;
	ApiCall c = { .path = path };

	begin(1);
	g_assert_true(call_run(&c, racing_handler, move_after_a_race, NULL, &err));
	g_assert_no_error(err);
	g_assert_cmpuint(world.runs, ==, 1);
	end("somebody's");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/call/race", test_a_lost_race_is_run_again_on_what_is_there_now);
	g_test_add_func("/call/races", test_who_loses_always_is_told_in_the_end);
	g_test_add_func("/call/moved", test_what_has_moved_is_another_hosts);
	g_test_add_func("/call/no-race", test_a_conflict_that_is_no_race_is_told_at_once);
	return g_test_run();
}
