/* SPDX-License-Identifier: Apache-2.0 */
/* The account of promised memory: many starts at once, starts that fail, guests that end. */
#include "core/model/keys.h"
#include "engine/admission.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define HOST "99999999-9999-4999-8999-999999999999"

typedef struct Bench {
	Store *store;
	Admission *admission;
	struct host_view host;
} Bench;

/* Room for ten guests of 100 MiB. */
static void bench_init(Bench *b)
{
	*b = (Bench){ .host.memory = { .total = 1100 * MIB, .reserve = 100 * MIB, .overcommit = 100 } };
	b->store = store_open("mem:", NULL);
	b->admission = admission_new(b->store, HOST);
}

static void bench_done(Bench *b)
{
	admission_free(b->admission);
	store_close(b->store);
}

static Operation *start_of(const char *id, const char *vm)
{
	Operation *op = operation_new(id, "vm.start", "2026-01-01T00:00:00Z");
	Json *args = json_object();

	operation_set_target(op, "vm", vm, vm);
	json_put_uint(args, "memory_claim", 100 * MIB);
	plan_add(op->plan, STEP_QEMU_SPAWN, vm, args);
	return op;
}

static void record(Bench *b, const char *vm, const char *state, const char *host, const char *operation)
{
	g_autofree char *key = key_vm_runtime(vm), *text = NULL;
	_cleanup_json_ Json *j = json_object();
	StoreTx *tx = store_tx_new();

	json_put_str(j, "state", state);
	json_put_str(j, "host", host);
	json_put_str(j, "operation", operation);
	json_put_uint(j, "memory_claim", 100 * MIB);
	text = json_print(j);
	store_tx_set(tx, key, STORE_ANY, text);
	g_assert_true(store_commit(b->store, tx, STORE_RELAXED, NULL, NULL));
}

static void claims_are(Bench *b, unsigned guests)
{
	struct memory_claims c = admission_claims(b->admission);

	g_assert_cmpuint(c.guests, ==, guests);
	g_assert_cmpuint(c.bytes, ==, guests * 100 * MIB);
}

typedef struct Starter {
	Bench *b;
	char *name;
	bool in;
} Starter;

static gpointer ask(gpointer data)
{
	Starter *s = data;
	g_autoptr(Operation) op = start_of(s->name, s->name);
	g_autoptr(GError) err = NULL;

	s->in = admission_take(s->b->admission, &s->b->host, op, &err);
	g_assert_true(s->in || g_error_matches(err, ERR, ERR_LIMIT));
	return NULL;
}

static void test_starts_at_once_are_never_promised_the_same_memory(void)
{
	Starter s[64];
	GThread *thread[64];
	unsigned in = 0;
	Bench b;

	bench_init(&b);
	for (size_t i = 0; i < G_N_ELEMENTS(s); i++) {
		s[i] = (Starter){ &b, g_strdup_printf("vm%zu", i), false };
		thread[i] = g_thread_new("start", ask, &s[i]);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(s); i++) {
		g_thread_join(thread[i]);
		in += s[i].in;
		g_free(s[i].name);
	}
	g_assert_cmpuint(in, ==, 10);
	claims_are(&b, 10);
	bench_done(&b);
}

static void test_a_claim_lives_as_long_as_the_record_says(void)
{
	g_autoptr(Operation) op = start_of("o1", "v"), stop = operation_new("o2", "vm.stop", "");
	Bench b;

	bench_init(&b);
	operation_set_target(stop, "vm", "v", "v");
	g_assert_true(admission_take(b.admission, &b.host, op, NULL));
	record(&b, "v", "running", HOST, NULL);
	admission_settle(b.admission, op);
	claims_are(&b, 1);
	record(&b, "v", "stopped", HOST, NULL);
	admission_settle(b.admission, stop);
	claims_are(&b, 0);
	bench_done(&b);
}

static void test_a_start_that_failed_gives_its_memory_back(void)
{
	g_autoptr(Operation) op = start_of("o1", "v");
	Bench b;

	bench_init(&b);
	record(&b, "v", "stopped", HOST, NULL);
	g_assert_true(admission_take(b.admission, &b.host, op, NULL));
	claims_are(&b, 1);
	admission_settle(b.admission, op);
	claims_are(&b, 0);
	bench_done(&b);
}

static void test_of_two_starts_of_one_vm_the_faster_one_has_the_claim(void)
{
	g_autoptr(Operation) first = start_of("o1", "v"), second = start_of("o2", "v");
	Bench b;

	bench_init(&b);
	g_assert_true(admission_take(b.admission, &b.host, first, NULL));
	g_assert_true(admission_take(b.admission, &b.host, second, NULL));
	claims_are(&b, 1);
	record(&b, "v", "stopped", HOST, "o2"); /* the other one was stored first */
	admission_settle(b.admission, first);
	claims_are(&b, 1);
	record(&b, "v", "stopped", HOST, NULL);
	admission_settle(b.admission, second);
	claims_are(&b, 0);
	bench_done(&b);
}

static void test_a_guest_that_moved_away_takes_nothing_here(void)
{
	g_autoptr(Operation) op = operation_new("o1", "vm.migrate", "");
	Bench b;

	bench_init(&b);
	operation_set_target(op, "vm", "v", "v");
	record(&b, "v", "running", HOST, NULL);
	record(&b, "w", "running", "another", NULL);
	g_assert_true(admission_fill(b.admission, NULL));
	claims_are(&b, 1);
	record(&b, "v", "running", "another", NULL);
	admission_settle(b.admission, op);
	claims_are(&b, 0);
	bench_done(&b);
}

static void test_starts_under_way_count_against_the_limit_on_files(void)
{
	g_autoptr(GError) err = NULL;
	unsigned in = 0;
	Bench b;

	bench_init(&b);
	b.host.limits.limit[LIMIT_FILES] = (struct limit_seen){ .used = 20, .max = 84 };
	for (;; in++) {
		g_autofree char *name = g_strdup_printf("vm%u", in);
		g_autoptr(Operation) op = start_of(name, name);

		if (!admission_take(b.admission, &b.host, op, &err))
			break;
	}
	g_assert_error(err, ERR, ERR_LIMIT);
	g_assert_cmpuint(in, ==, (84 - 20 - 40) / 6); /* nobody has opened a file yet */
	bench_done(&b);
}

static void test_a_guest_that_gave_memory_back_makes_room(void)
{
	g_autoptr(GHashTable) own = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(Operation) op = start_of("op", "b");
	Bench b;

	bench_init(&b);
	g_hash_table_add(own, (gpointer) "a");
	record(&b, "a", "running", HOST, NULL);
	g_assert_true(admission_fill(b.admission, NULL));
	admission_resize(b.admission, "a", 40 * MIB);
	g_assert_cmpuint(admission_claims(b.admission).bytes, ==, 40 * MIB);
	g_assert_cmpuint(admission_of_others(b.admission, own), ==, 0);
	g_assert_true(admission_take(b.admission, &b.host, op, NULL));
	admission_resize(b.admission, "b", MIB);      /* an operation has it */
	admission_resize(b.admission, "nobody", MIB); /* nothing is promised to it */
	g_assert_cmpuint(admission_claims(b.admission).bytes, ==, 140 * MIB);
	g_assert_cmpuint(admission_of_others(b.admission, own), ==, 100 * MIB);
	bench_done(&b);
}

static void test_a_guest_that_is_seen_to_have_stopped_makes_room_at_once(void)
{
	g_autoptr(Operation) op = start_of("op", "new"), more = start_of("op2", "more");
	g_autoptr(GError) err = NULL;
	Bench b;

	bench_init(&b);
	for (int i = 0; i < 10; i++) {
		g_autofree char *vm = g_strdup_printf("vm%d", i);

		record(&b, vm, "running", HOST, NULL);
	}
	g_assert_true(admission_fill(b.admission, NULL));
	record(&b, "vm0", "running", HOST, "backup");
	record(&b, "vm1", "stopped", HOST, "start"); /* whose claim it is, by and by */
	record(&b, "vm2", "running", "another", NULL);
	g_assert_false(admission_take(b.admission, &b.host, op, &err));
	g_assert_error(err, ERR, ERR_LIMIT);
	g_clear_error(&err);
	record(&b, "vm3", "stopped", HOST, NULL);
	g_assert_true(admission_take(b.admission, &b.host, op, NULL));
	claims_are(&b, 10);
	g_assert_false(admission_take(b.admission, &b.host, more, &err));
	g_assert_error(err, ERR, ERR_LIMIT);
	bench_done(&b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/admission/parallel", test_starts_at_once_are_never_promised_the_same_memory);
	g_test_add_func("/admission/life", test_a_claim_lives_as_long_as_the_record_says);
	g_test_add_func("/admission/failed", test_a_start_that_failed_gives_its_memory_back);
	g_test_add_func("/admission/two", test_of_two_starts_of_one_vm_the_faster_one_has_the_claim);
	g_test_add_func("/admission/moved", test_a_guest_that_moved_away_takes_nothing_here);
	g_test_add_func("/admission/resized", test_a_guest_that_gave_memory_back_makes_room);
	g_test_add_func("/admission/files", test_starts_under_way_count_against_the_limit_on_files);
	g_test_add_func("/admission/ended", test_a_guest_that_is_seen_to_have_stopped_makes_room_at_once);
	return g_test_run();
}
