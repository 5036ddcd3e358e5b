/* SPDX-License-Identifier: Apache-2.0 */
/* What is on record of a guest that is promised to another host. */
#include "base/err.h"
#include "core/model/keys.h"
#include "engine/owner.h"
#include "engine/promise.h"
#include "engine/records.h"
#include "put.h"

#define VM "6f1c7d7e-4a53-4c3e-9d57-0a6a4b1f5d10"

typedef struct Rig {
	Store *store;
} Rig;

/* The operation that receives the guest. */
static void reception(Rig *r, const char *record)
{
	g_autofree char *key = key_operation("in");

	put(r->store, key, record);
}

#define WAITING "{\"status\":\"running\",\"finished_at\":null,\"facts\":{}}"
#define TAKEN "{\"status\":\"running\",\"finished_at\":null,\"facts\":{\"promise_taken\":true}}"
#define UNDOING "{\"status\":\"undoing\",\"finished_at\":null,\"facts\":{\"promise_taken\":true}}"
#define ENDED                                                                                                \
	"{\"status\":\"failed\",\"finished_at\":\"2026-01-01T00:00:00Z\",\"facts\":{\"promise_taken\":true}}"

static void lease(Rig *r, const char *host, bool there)
{
	g_autofree char *key = key_lease(host);

	put(r->store, key, there ? "{}" : NULL);
}

static void rig_init(Rig *r, gconstpointer data)
{
	g_autofree char *runtime = key_vm_runtime(VM), *applied = key_vm_applied(VM);
	g_autoptr(GError) e = NULL;

	(void)data;
	r->store = store_open("mem:", &e);
	g_assert_no_error(e);
	put(r->store, runtime, "{\"host\":\"a\",\"operation\":\"out\"}");
	put(r->store, applied, "{\"by\":\"a\"}");
	lease(r, "a", true);
	lease(r, "b", true);
	reception(r, TAKEN);
}

static void rig_done(Rig *r, gconstpointer data)
{
	(void)data;
	store_close(r->store);
}

static bool make(Rig *r, const char *operation, GError **err)
{
	_cleanup_json_ Json *applied = json_object();
	struct promise_terms t = { .vm = VM,
				   .from_host = "a",
				   .operation = operation,
				   .host = "b",
				   .reception = "in",
				   .applied = applied };

	json_put_str(applied, "by", "b");
	return promise_make(r->store, &t, err);
}

static void made(Rig *r)
{
	g_autoptr(GError) e = NULL;

	make(r, "out", &e);
	g_assert_no_error(e);
}

static bool keep(Rig *r, bool dead, GError **err)
{
	struct owner_change c = { .vm = VM,
				  .from_host = "a",
				  .from_operation = "out",
				  .to_host = "b",
				  .to_operation = "in",
				  .kept = true,
				  .dead = dead };

	return owner_change(r->store, &c, err);
}

static bool is_owner(Rig *r, const char *host)
{
	g_autoptr(GError) e = NULL;
	bool is = false;

	owner_is(r->store, VM, host, &is, &e);
	g_assert_no_error(e);
	return is;
}

static void assert_applied_by(Rig *r, const char *host)
{
	g_autofree char *key = key_vm_applied(VM);
	_cleanup_json_ Json *j = record_get(r->store, key, NULL, NULL);

	g_assert_cmpstr(json_str(j, "by"), ==, host);
}

static void assert_promised(Rig *r, bool promised)
{
	g_autoptr(GError) e = NULL;
	bool is = !promised, to_b = !promised, to_a = true;

	g_assert_true(promise_is(r->store, VM, "out", &is, &e));
	g_assert_no_error(e);
	g_assert_true(is == promised);
	g_assert_true(promise_is_to(r->store, VM, "b", &to_b, &e) &&
		      promise_is_to(r->store, VM, "a", &to_a, &e));
	g_assert_no_error(e);
	g_assert_true(to_b == promised && !to_a);
}

static void test_a_promise_leaves_the_guest_where_it_is(Rig *r, gconstpointer data)
{
	g_autoptr(Promise) p = NULL;

	(void)data;
	made(r);
	assert_promised(r, true);
	g_assert_true(is_owner(r, "a"));
	assert_applied_by(r, "a");
	p = promise_read(r->store, VM, NULL);
	g_assert_cmpstr(p->host, ==, "b");
	g_assert_cmpstr(p->reception, ==, "in");
}

static void test_a_kept_promise_changes_owner_and_record_and_goes(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	g_assert_true(keep(r, false, &e));
	g_assert_no_error(e);
	g_assert_true(is_owner(r, "b"));
	assert_applied_by(r, "b");
	assert_promised(r, false);
}

/* The host that promised may be lost by the time at which the guest runs. */
static void test_a_promise_is_kept_without_the_host_that_gave_it(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	lease(r, "a", false);
	g_assert_true(keep(r, false, &e));
	g_assert_no_error(e);
	g_assert_true(is_owner(r, "b"));
}

static void test_only_a_host_with_a_lease_keeps_a_promise(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	lease(r, "b", false);
	g_assert_false(keep(r, false, &e));
	g_assert_error(e, ERR, ERR_BAD_STATE);
	g_assert_true(is_owner(r, "a"));
	assert_promised(r, true);
}

static void test_what_was_withdrawn_is_not_kept(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	g_assert_true(promise_withdraw(r->store, VM, "out", &e));
	g_assert_no_error(e);
	assert_promised(r, false);
	g_assert_false(keep(r, false, &e));
	g_assert_error(e, ERR, ERR_CONFLICT);
	g_assert_true(is_owner(r, "a"));
	assert_applied_by(r, "a");
}

static void test_nobody_withdraws_the_promise_of_another_move(Rig *r, gconstpointer data)
{
	(void)data;
	made(r);
	g_assert_true(promise_withdraw(r->store, VM, "another", NULL));
	assert_promised(r, true);
}

/* A reception that an earlier move of the guest asked for. */
static void test_a_promise_to_another_reception_is_not_kept(Rig *r, gconstpointer data)
{
	g_autofree char *key = key_operation("earlier");
	struct owner_change c = { .vm = VM,
				  .from_host = "a",
				  .from_operation = "out",
				  .to_host = "b",
				  .to_operation = "earlier",
				  .kept = true };
	g_autoptr(GError) e = NULL;

	(void)data;
	put(r->store, key, TAKEN);
	made(r);
	g_assert_false(owner_change(r->store, &c, &e));
	g_assert_error(e, ERR, ERR_CONFLICT);
	g_assert_true(is_owner(r, "a"));
}

static void test_only_who_has_the_guest_promises_it(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	g_assert_false(make(r, "another", &e));
	g_assert_error(e, ERR, ERR_CONFLICT);
	assert_promised(r, false);
}

static void test_hosts_without_a_lease_promise_nothing_and_are_promised_nothing(Rig *r, gconstpointer data)
{
	static const char *const host[] = { "a", "b" };

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(host); i++) {
		g_autoptr(GError) e = NULL;

		lease(r, host[i], false);
		g_assert_false(make(r, "out", &e));
		g_assert_error(e, ERR, ERR_BAD_STATE);
		assert_promised(r, false);
		lease(r, host[i], true);
	}
}

/* It may run there, and is offline: who says that it does not evicts that host, too. */
static void test_a_dead_hosts_guest_is_given_to_a_host_that_is_offline(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	lease(r, "a", false);
	lease(r, "b", false);
	g_assert_true(keep(r, true, &e));
	g_assert_no_error(e);
	g_assert_true(is_owner(r, "b"));
	assert_promised(r, false);
}

/* Who evicts a host gives its promised guests away only while it is dead. */
static void test_the_promise_of_a_dead_host_is_kept_only_while_it_is_dead(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	g_assert_false(keep(r, true, NULL));
	g_assert_true(is_owner(r, "a"));
	lease(r, "a", false);
	g_assert_true(keep(r, true, &e));
	g_assert_no_error(e);
	g_assert_true(is_owner(r, "b"));
}

/* Another host has ended it: nobody would unlock the guest. */
static void test_a_reception_that_has_ended_keeps_no_promise(Rig *r, gconstpointer data)
{
	static const char *const record[] = { NULL, ENDED };

	(void)data;
	made(r);
	for (size_t i = 0; i < G_N_ELEMENTS(record); i++) {
		g_autoptr(GError) e = NULL;

		reception(r, record[i]);
		g_assert_false(keep(r, false, &e));
		g_assert_error(e, ERR, ERR_NOT_FOUND);
		g_assert_true(is_owner(r, "a"));
		assert_promised(r, true);
	}
}

/* What has not said that the guest may run there may never come to the step that would unlock it. */
static void test_a_dead_hosts_guest_is_given_only_where_it_was_taken(Rig *r, gconstpointer data)
{
	static const char *const record[] = { NULL, WAITING, UNDOING, ENDED };
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	lease(r, "a", false);
	for (size_t i = 0; i < G_N_ELEMENTS(record); i++) {
		reception(r, record[i]);
		g_assert_false(keep(r, true, &e));
		g_assert_error(e, ERR, ERR_NOT_FOUND);
		g_clear_error(&e);
		g_assert_true(is_owner(r, "a"));
	}
	reception(r, TAKEN);
	g_assert_true(keep(r, true, &e));
	g_assert_no_error(e);
	g_assert_true(is_owner(r, "b"));
}

static bool end(Rig *r, const char *operation, GError **err)
{
	const struct promise_terms t = { .vm = VM, .from_host = "a", .operation = operation };

	return promise_end(r->store, &t, err);
}

/* Who ends a promise that may be kept in this moment learns which of both came first. */
static void test_a_promise_is_either_ended_or_kept(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	g_assert_true(end(r, "out", &e));
	g_assert_no_error(e);
	assert_promised(r, false);
	g_assert_false(keep(r, false, NULL));
	g_assert_true(is_owner(r, "a"));
	made(r);
	g_assert_true(keep(r, false, NULL));
	g_assert_false(end(r, "out", &e));
	g_assert_error(e, ERR, ERR_CONFLICT);
	g_assert_true(is_owner(r, "b"));
}

static void test_an_ended_promise_of_another_move_stays(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	made(r);
	g_assert_false(end(r, "another", &e));
	g_assert_error(e, ERR, ERR_CONFLICT);
	assert_promised(r, true);
}

static void test_a_promise_that_makes_no_sense_is_told(Rig *r, gconstpointer data)
{
	static const char *const record[] = { "{}", "[]",
					      "{\"operation\":\"out\",\"host\":\"b\",\"reception\":\"in\"}" };
	g_autofree char *key = key_vm_promise(VM);

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(record); i++) {
		g_autoptr(GError) e = NULL;

		put(r->store, key, record[i]);
		g_assert_null(promise_read(r->store, VM, &e));
		g_assert_error(e, ERR, ERR_INVALID);
		g_clear_error(&e);
		g_assert_false(keep(r, false, &e));
		g_assert_true(is_owner(r, "a"));
		/* It is in nobody's way. */
		g_assert_true(promise_withdraw(r->store, VM, "out", NULL));
		g_assert_true(end(r, "out", NULL));
	}
}

#define TEST(name) g_test_add("/promise/" #name, Rig, NULL, rig_init, test_##name, rig_done)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST(a_promise_leaves_the_guest_where_it_is);
	TEST(a_kept_promise_changes_owner_and_record_and_goes);
	TEST(a_promise_is_kept_without_the_host_that_gave_it);
	TEST(only_a_host_with_a_lease_keeps_a_promise);
	TEST(what_was_withdrawn_is_not_kept);
	TEST(nobody_withdraws_the_promise_of_another_move);
	TEST(a_promise_to_another_reception_is_not_kept);
	TEST(only_who_has_the_guest_promises_it);
	TEST(hosts_without_a_lease_promise_nothing_and_are_promised_nothing);
	TEST(the_promise_of_a_dead_host_is_kept_only_while_it_is_dead);
	TEST(a_dead_hosts_guest_is_given_to_a_host_that_is_offline);
	TEST(a_reception_that_has_ended_keeps_no_promise);
	TEST(a_dead_hosts_guest_is_given_only_where_it_was_taken);
	TEST(a_promise_is_either_ended_or_kept);
	TEST(an_ended_promise_of_another_move_stays);
	TEST(a_promise_that_makes_no_sense_is_told);
	return g_test_run();
}
