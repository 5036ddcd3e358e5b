/* SPDX-License-Identifier: Apache-2.0 */
/* The change of a vm's owner, in a store whose answers get lost. */
#include "base/err.h"
#include "core/model/keys.h"
#include "core/model/operation.h"
#include "engine/owner.h"
#include "engine/records.h"
#include "put.h"
#include "store/store-impl.h"

#include <string.h>

#define VM "6f1c7d7e-4a53-4c3e-9d57-0a6a4b1f5d10"

typedef enum Fate { ARRIVES, IS_LOST, ARRIVES_LATE } Fate;

typedef struct Rig {
	Store *store;
	const StoreBackend *real;
	StoreBackend lying;
	Fate fate;      /* of the first commit, whose answer is lost */
	bool lied;      /* that commit was made */
	char *late;     /* value of it, on its way */
	int64_t at_rev; /* that it expects */
	unsigned told;  /* how often it was said that the change waits */
} Rig;

static Rig *rig; /* of the back end's functions, which have no place for it */

static const StoreWrite *first_of(const StoreTx *tx)
{
	return tx->write->pdata[0];
}

static bool lose_answer(GError **err)
{
	return fail(err, ERR_UNAVAILABLE, "nobody answers");
}

static bool lying_commit(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	const StoreWrite *w = first_of(tx);

	if (rig->lied)
		return rig->real->commit(s, tx, flags, ret_rev, err);
	rig->lied = true;
	if (rig->fate == ARRIVES)
		g_assert_true(rig->real->commit(s, tx, flags, ret_rev, NULL));
	if (rig->fate == ARRIVES_LATE) {
		rig->late = g_strdup(w->value);
		rig->at_rev = w->rev;
	}
	return lose_answer(err);
}

/* Just behind the first reading, what was on its way comes. */
static StoreItem *lying_get(Store *s, const char *key, GError **err)
{
	StoreItem *item = rig->real->get(s, key, err);
	g_autofree char *late = g_steal_pointer(&rig->late);
	StoreTx *tx;
	int64_t rev;

	if (late == NULL)
		return item;
	tx = store_tx_new();
	store_tx_set(tx, key, rig->at_rev, late);
	g_assert_true(rig->real->commit(s, tx, STORE_DURABLE, &rev, NULL));
	store_tx_free(tx);
	return item;
}

static void rig_init(Rig *r, gconstpointer fate)
{
	g_autofree char *key = key_vm_runtime(VM), *lease = key_lease("b"), *own = key_lease("a");
	g_autoptr(GError) e = NULL;
	StoreTx *tx = store_tx_new();

	r->store = store_open("mem:", &e);
	g_assert_no_error(e);
	store_tx_set(tx, key, 0, "{\"host\":\"a\",\"operation\":\"out\"}");
	store_tx_set(tx, lease, 0, "{}");
	store_tx_set(tx, own, 0, "{}");
	store_commit(r->store, tx, STORE_DURABLE, NULL, &e);
	g_assert_no_error(e);
	r->fate = (Fate)GPOINTER_TO_INT(fate);
	r->real = r->store->be;
	r->lying = *r->real;
	r->lying.commit = lying_commit;
	r->lying.get = lying_get;
	r->store->be = &r->lying;
	rig = r;
}

static void rig_done(Rig *r, gconstpointer fate)
{
	(void)fate;
	r->store->be = r->real;
	store_close(r->store);
	g_free(r->late);
}

static bool change(Rig *r, GError **err)
{
	const struct owner_change c = {
		.vm = VM, .from_host = "a", .from_operation = "out", .to_host = "b", .to_operation = "in"
	};

	return owner_change(r->store, &c, err);
}

static void assert_owner(Rig *r, const char *host)
{
	g_autoptr(GError) e = NULL;
	bool is = false;

	g_assert_true(owner_is(r->store, VM, host, &is, &e));
	g_assert_no_error(e);
	g_assert_true(is);
}

static void test_a_change_whose_answer_is_lost_is_found(Rig *r, gconstpointer fate)
{
	g_autoptr(GError) e = NULL;

	(void)fate;
	g_assert_true(change(r, &e));
	g_assert_no_error(e);
	assert_owner(r, "b");
}

/* What is still on its way then must be refused: the guest goes on where it was. */
static void test_a_lost_change_can_not_happen_any_more(Rig *r, gconstpointer fate)
{
	g_autofree char *key = key_vm_runtime(VM);
	g_autoptr(StoreItem) before = store_get(r->store, key, NULL), after = NULL;
	g_autoptr(GError) e = NULL, late = NULL;
	StoreTx *tx = store_tx_new();

	(void)fate;
	g_assert_false(change(r, &e));
	g_assert_error(e, ERR, ERR_UNAVAILABLE);
	assert_owner(r, "a");
	store_tx_set(tx, key, before->rev, "{\"host\":\"b\",\"operation\":\"in\"}");
	g_assert_false(store_commit(r->store, tx, STORE_DURABLE, NULL, &late));
	g_assert_true(store_is_conflict(late));
	assert_owner(r, "a");
}

/* The store answers nobody until it was told that the change waits. */
static bool mute_commit(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	return rig->told > 0 ? rig->real->commit(s, tx, flags, ret_rev, err) : lose_answer(err);
}

static void on_waits(const GError *why, void *data)
{
	Rig *r = data;

	g_assert_error(why, ERR, ERR_UNAVAILABLE);
	r->told++;
}

static void test_a_change_that_waits_is_told_once(Rig *r, gconstpointer fate)
{
	const struct owner_change c = { .vm = VM,
					.from_host = "a",
					.from_operation = "out",
					.to_host = "b",
					.to_operation = "in",
					.waits = on_waits,
					.data = r };
	g_autoptr(GError) e = NULL;

	(void)fate;
	r->lying.commit = mute_commit;
	g_assert_false(owner_change(r->store, &c, &e));
	g_assert_error(e, ERR, ERR_UNAVAILABLE);
	g_assert_cmpuint(r->told, ==, 1);
	assert_owner(r, "a");
}

static bool on_stops(void *data)
{
	return ((Rig *)data)->told > 0;
}

static bool no_commit(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	(void)s, (void)tx, (void)flags, (void)ret_rev;
	return lose_answer(err);
}

/* The daemon ends while the store says nothing: that is neither a yes nor a no. */
static void test_a_change_that_nobody_knows_of_is_no_answer(Rig *r, gconstpointer fate)
{
	const struct owner_change c = { .vm = VM,
					.from_host = "a",
					.from_operation = "out",
					.to_host = "b",
					.to_operation = "in",
					.waits = on_waits,
					.stops = on_stops,
					.data = r };
	g_autoptr(GError) e = NULL;

	(void)fate;
	r->lying.commit = no_commit;
	g_assert_false(owner_change(r->store, &c, &e));
	g_assert_error(e, ERR, ERR_CANCELLED);
	g_assert_cmpuint(r->told, ==, 1);
}

static void test_a_host_without_a_lease_gets_no_guest(Rig *r, gconstpointer fate)
{
	g_autofree char *lease = key_lease("b");
	g_autoptr(GError) e = NULL;

	(void)fate;
	r->lied = true;
	put(r->store, lease, NULL);
	g_assert_false(change(r, &e));
	g_assert_error(e, ERR, ERR_BAD_STATE);
	assert_owner(r, "a");
}

/* Others gave it up for dead: the one who waits for the guest may have ended. */
static void test_a_host_without_a_lease_gives_no_guest_away(Rig *r, gconstpointer fate)
{
	g_autofree char *lease = key_lease("a");
	g_autoptr(GError) e = NULL;

	(void)fate;
	r->lied = true;
	put(r->store, lease, NULL);
	g_assert_false(change(r, &e));
	g_assert_error(e, ERR, ERR_BAD_STATE);
	assert_owner(r, "a");
}

static void test_what_nobody_has_can_be_taken_back_once(Rig *r, gconstpointer fate)
{
	g_autofree char *runtime = key_vm_runtime(VM), *volume = key_volume("v1");
	_cleanup_json_ Json *copied = json_pack("[{s:s,s:s,s:s,s:n}]", "volume", "v1", "path", "/b",
						"old_path", "/a", "image"),
			    *members = json_pack("{s:s}", "state", "running"), *record = NULL, *back = NULL;
	const struct owner_change c = { .vm = VM,
					.to_host = "a",
					.to_operation = "out",
					.members = members,
					.copied = copied,
					.back = true };
	g_autoptr(GError) e = NULL, e2 = NULL;

	(void)fate;
	r->lied = true;
	put(r->store, runtime, "{\"host\":null,\"operation\":null}");
	put(r->store, volume, "{\"id\":\"v1\",\"path\":\"/b\",\"host\":\"b\"}");
	g_assert_true(owner_change(r->store, &c, &e));
	g_assert_no_error(e);
	assert_owner(r, "a");
	record = record_get(r->store, volume, NULL, NULL);
	g_assert_cmpstr(json_str(record, "path"), ==, "/a");
	g_assert_cmpstr(json_str(record, "host"), ==, "a");
	back = record_get(r->store, runtime, NULL, NULL);
	g_assert_cmpstr(json_str(back, "state"), ==, "running");
	g_assert_false(owner_change(r->store, &c, &e2));
	g_assert_error(e2, ERR, ERR_CONFLICT);
}

/* ---- whose QEMU may be where ---- */

static void put_operation(Store *s, const char *id, const char *host, OperationState state, StepKind step,
			  Json *args)
{
	g_autofree char *key = key_operation(id), *text = NULL;
	g_autoptr(Operation) op = operation_new(id, "vm.x", "2026-01-01T00:00:00Z");
	_cleanup_json_ Json *j = NULL;

	operation_set_target(op, "vm", VM, "web1");
	op->host = g_strdup(host);
	op->state = state;
	plan_add(op->plan, step, "web1", args);
	json_put_str(op->facts, "reception", "in");
	j = operation_to_json(op);
	text = json_print(j);
	put(s, key, text);
}

static bool may_be_on(Rig *r, const char *host, const char *runtime)
{
	g_autofree char *key = key_vm_runtime(VM);
	g_autoptr(GError) e = NULL;
	bool may = false;

	r->lied = true;
	put(r->store, key, runtime);
	g_assert_true(owner_may_be_on(r->store, VM, host, &may, &e));
	g_assert_no_error(e);
	return may;
}

static void test_a_qemu_may_be_where_the_record_says(Rig *r, gconstpointer fate)
{
	(void)fate;
	g_assert_true(may_be_on(r, "a", "{\"host\":\"a\",\"operation\":null}"));
	g_assert_false(may_be_on(r, "b", "{\"host\":\"a\",\"operation\":null}"));
	g_assert_false(may_be_on(r, "a", "{\"host\":null,\"operation\":null}"));
	g_assert_false(may_be_on(r, "a", NULL));
}

/* Its host is in the record when it is done only. */
static void test_a_start_that_goes_on_claims_its_vm(Rig *r, gconstpointer fate)
{
	static const char locked[] = "{\"host\":\"b\",\"operation\":\"start\"}";

	(void)fate;
	r->lied = true;
	put_operation(r->store, "start", "a", OPERATION_RUNNING, STEP_QEMU_SPAWN, NULL);
	g_assert_true(may_be_on(r, "a", locked));
	g_assert_false(may_be_on(r, "c", locked));
	g_assert_false(may_be_on(r, "a", "{\"host\":\"b\",\"operation\":\"another\"}"));
	/* As an eviction leaves it. */
	put_operation(r->store, "start", "a", OPERATION_FAILED, STEP_QEMU_SPAWN, NULL);
	g_assert_false(may_be_on(r, "a", locked));
}

static unsigned asides(Rig *r, const char *host)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(OwnerClaims) c = owner_claims_load(r->store, host, &e);
	g_autoptr(GPtrArray) ids = owner_claims_aside(c, r->store, &e);

	g_assert_no_error(e);
	for (guint i = 0; i < ids->len; i++)
		g_assert_cmpstr(ids->pdata[i], ==, "backup");
	return ids->len;
}

/* A backup of a vm that is off has a QEMU with the id of its operation. */
static void test_a_qemu_beside_the_vms_is_claimed_by_its_operation(Rig *r, gconstpointer fate)
{
	g_autofree char *key = key_vm_runtime(VM);

	(void)fate;
	r->lied = true;
	put(r->store, key, "{\"host\":\"a\",\"operation\":\"backup\"}");
	put_operation(r->store, "backup", "a", OPERATION_RUNNING, STEP_QEMU_SPAWN,
		      json_pack("{s:s}", "vm", "backup"));
	put_operation(r->store, "start", "a", OPERATION_RUNNING, STEP_QEMU_SPAWN,
		      json_pack("{s:s}", "vm", VM));
	g_assert_cmpuint(asides(r, "a"), ==, 1);
	g_assert_cmpuint(asides(r, "b"), ==, 0);
	/* Another host took the vm, and its lock, while this one was cut off. */
	put(r->store, key, "{\"host\":\"b\",\"operation\":\"start\"}");
	g_assert_cmpuint(asides(r, "a"), ==, 0);
}

static void test_a_move_has_a_qemu_on_both_hosts(Rig *r, gconstpointer fate)
{
	static const char before[] = "{\"host\":\"a\",\"operation\":\"out\"}",
			  behind[] = "{\"host\":\"b\",\"operation\":\"in\"}",
			  done[] = "{\"host\":\"b\",\"operation\":null}",
			  freed[] = "{\"host\":null,\"operation\":null}";

	(void)fate;
	r->lied = true;
	put_operation(r->store, "out", "a", OPERATION_RUNNING, STEP_MIGRATE_SEND,
		      json_pack("{s:s}", "host", "b"));
	put_operation(r->store, "in", "b", OPERATION_RUNNING, STEP_RECEIVE_GUEST,
		      json_pack("{s:s,s:s}", "source", "a", "operation", "out"));
	g_assert_true(may_be_on(r, "a", before) && may_be_on(r, "b", before));
	g_assert_true(may_be_on(r, "a", behind) && may_be_on(r, "b", behind));
	/* The other host may have begun it anew by now: what is left here may run nothing. */
	g_assert_true(!may_be_on(r, "a", done) && may_be_on(r, "b", done));
	g_assert_false(may_be_on(r, "a", freed) || may_be_on(r, "b", freed));
	/* Its memory follows it, and the reception is over. */
	put_operation(r->store, "out", "a", OPERATION_RUNNING, STEP_MIGRATE_SEND,
		      json_pack("{s:s,s:{s:b}}", "host", "b", "settings", "post_copy", 1));
	g_assert_true(may_be_on(r, "a", done) && may_be_on(r, "b", done));
	g_assert_false(may_be_on(r, "a", freed));
	/* The guest was freed while it was about to move, and is started elsewhere. */
	g_assert_false(may_be_on(r, "b", "{\"host\":null,\"operation\":\"start\"}"));
}

static void test_the_record_of_a_guest_that_left_is_not_written(Rig *r, gconstpointer fate)
{
	_cleanup_json_ Json *left = json_pack("{s:s,s:s}", "host", "b", "operation", "in"),
			    *starts = json_pack("{s:n,s:s}", "host", "operation", "start");

	(void)fate;
	r->lied = true;
	put_operation(r->store, "in", "b", OPERATION_RUNNING, STEP_RECEIVE_GUEST, NULL);
	put_operation(r->store, "start", "a", OPERATION_RUNNING, STEP_QEMU_SPAWN, NULL);
	g_assert_false(owner_may_write(r->store, left, "a"));
	g_assert_true(owner_may_write(r->store, left, "b"));
	g_assert_true(owner_may_write(r->store, starts, "a"));
	g_assert_false(owner_may_write(r->store, starts, "b"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add("/owner/a_change_whose_answer_is_lost_is_found", Rig, GINT_TO_POINTER(ARRIVES), rig_init,
		   test_a_change_whose_answer_is_lost_is_found, rig_done);
	g_test_add("/owner/a_lost_change_can_not_happen_any_more", Rig, GINT_TO_POINTER(IS_LOST), rig_init,
		   test_a_lost_change_can_not_happen_any_more, rig_done);
	g_test_add("/owner/a_change_that_comes_behind_the_question_is_found", Rig,
		   GINT_TO_POINTER(ARRIVES_LATE), rig_init, test_a_change_whose_answer_is_lost_is_found,
		   rig_done);
#define ADD(name) g_test_add("/owner/" #name, Rig, GINT_TO_POINTER(ARRIVES), rig_init, test_##name, rig_done)
	ADD(a_change_that_waits_is_told_once);
	ADD(a_change_that_nobody_knows_of_is_no_answer);
	ADD(a_host_without_a_lease_gets_no_guest);
	ADD(a_host_without_a_lease_gives_no_guest_away);
	ADD(what_nobody_has_can_be_taken_back_once);
	ADD(a_qemu_may_be_where_the_record_says);
	ADD(a_start_that_goes_on_claims_its_vm);
	ADD(a_qemu_beside_the_vms_is_claimed_by_its_operation);
	ADD(a_move_has_a_qemu_on_both_hosts);
	ADD(the_record_of_a_guest_that_left_is_not_written);
	return g_test_run();
}
