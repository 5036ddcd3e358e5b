/* SPDX-License-Identifier: Apache-2.0 */
/* The change of a vm's owner, in a store whose answers get lost. */
#include "base/err.h"
#include "core/model/keys.h"
#include "engine/owner.h"
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
	g_autofree char *key = key_vm_runtime(VM);
	g_autoptr(GError) e = NULL;
	StoreTx *tx = store_tx_new();

	r->store = store_open("mem:", &e);
	g_assert_no_error(e);
	store_tx_set(tx, key, 0, "{\"host\":\"a\",\"operation\":\"out\"}");
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
	return g_test_run();
}
