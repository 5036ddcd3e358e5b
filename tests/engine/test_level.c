/* SPDX-License-Identifier: Apache-2.0 */
/* The level of a pool, kept by two daemons that share a store. */
#include "base/time.h"
#include "core/cpu/record.h"
#include "core/model/keys.h"
#include "engine/level.h"
#include "engine/records.h"

#include <string.h>

#define WAIT UINT64_C(120000000)
#define FEATURES "fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,hypervisor,lm,xsave,avx,avx2"

typedef struct Pool {
	Loop *loop;
	WorkerPool *workers;
	Store *store;
	Events *events[2];
	LevelKeeper *keeper[2];
} Pool;

static void pool_up(Pool *p)
{
	g_autoptr(GError) e = NULL;

	p->loop = loop_new(&e);
	p->workers = worker_pool_new(2);
	p->store = store_open("mem:", &e);
	g_assert_no_error(e);
	for (size_t i = 0; i < 2; i++) {
		p->events[i] = events_open(p->store, &e);
		p->keeper[i] = level_keeper_new(p->loop, p->workers, p->store, p->events[i]);
	}
	g_assert_no_error(e);
}

static void pool_down(Pool *p)
{
	worker_pool_free(p->workers);
	for (size_t i = 0; i < 2; i++) {
		level_keeper_free(p->keeper[i]);
		events_close(p->events[i]);
	}
	store_close(p->store);
	loop_free(p->loop);
}

static struct featureset set_of(const char *names)
{
	struct featureset s = { .vendor = "AuthenticAMD", .family = 15, .level = 0xd, .phys_bits = 40 };

	g_assert_true(cpu_bits_parse_names(names, &s.has, NULL));
	cpu_bits_close(&s.has, CLOSE_HARD, NULL);
	return s;
}

static void put(Pool *p, const char *key, const char *value)
{
	StoreTx *tx = store_tx_new();
	g_autoptr(GError) e = NULL;

	store_tx_set(tx, key, STORE_ANY, value);
	store_commit(p->store, tx, STORE_DURABLE, NULL, &e);
	g_assert_no_error(e);
}

/* `names` NULL: the host leaves. */
static void host(Pool *p, const char *id, const char *names)
{
	g_autofree char *key = key_cpu(id), *text = NULL;
	_cleanup_host_record_ struct host_record r = { 0 };
	_cleanup_json_ Json *j = NULL;

	if (names != NULL) {
		r.host = g_strdup_printf("host-%s", id);
		r.date = g_strdup("2026-01-01T00:00:00Z");
		r.qemu_version = g_strdup("7.2.0");
		r.guest[GUEST_TCG] = (struct guest_sets){ true, set_of(names), set_of(names) };
		j = host_record_to_json(&r);
		text = json_print(j);
	}
	put(p, key, text);
}

static void refresh(Pool *p)
{
	for (size_t i = 0; i < 2; i++) {
		g_autoptr(GError) e = NULL;

		level_keeper_refresh(p->keeper[i], &e);
		g_assert_no_error(e);
	}
}

static Json *level_record(Pool *p)
{
	return record_get(p->store, KEY_LEVEL, NULL, NULL);
}

/* The messages of all changes of the level, a line each. */
static char *told(Pool *p)
{
	g_autoptr(GPtrArray) items = store_list(p->store, KEYS_EVENTS, NULL, NULL);
	g_autoptr(GString) text = g_string_new(NULL);

	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);

		g_assert_cmpstr(json_str(j, "type"), ==, "pool.level-changed");
		g_string_append_printf(text, "%s\n", json_str(j, "message"));
	}
	return g_string_free(g_steal_pointer(&text), FALSE);
}

static bool level_has(Pool *p, size_t i, const char *name)
{
	struct featureset s;

	g_assert_true(level_keeper_get(p->keeper[i], GUEST_TCG, &s));
	return cpu_bits_has(&s.has, feature_find(name)->id);
}

static void test_there_is_no_level_without_hosts(void)
{
	struct featureset s;
	Pool p;

	pool_up(&p);
	refresh(&p);
	g_assert_false(level_keeper_get(p.keeper[0], GUEST_TCG, &s));
	g_assert_false(level_keeper_get(p.keeper[0], GUEST_KVM, &s));
	pool_down(&p);
}

static void test_each_change_is_told_once_with_its_cause(void)
{
	static const char expected[] =
	    "the pool's CPU level: tcg guests can have 17 features (host host-a joined)\n"
	    "the pool's CPU level: tcg guests lose avx, avx2 (host host-b joined)\n"
	    "the pool's CPU level: tcg guests gain avx (host host-b changed)\n"
	    "the pool's CPU level: tcg guests gain avx2 (host host-b left)\n"
	    "the pool's CPU level: no host offers tcg guests any more (host host-a left)\n";
	g_autofree char *text = NULL;
	Pool p;

	pool_up(&p);
	host(&p, "a", FEATURES);
	refresh(&p);
	host(&p, "b", "fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,hypervisor,lm,xsave");
	refresh(&p);
	g_assert_false(level_has(&p, 0, "avx") || level_has(&p, 1, "avx2"));
	host(&p, "b", "fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,hypervisor,lm,xsave,avx");
	refresh(&p);
	g_assert_true(level_has(&p, 0, "avx") && level_has(&p, 1, "avx"));
	host(&p, "b", NULL);
	refresh(&p);
	host(&p, "a", NULL);
	refresh(&p);
	text = told(&p);
	g_assert_cmpstr(text, ==, expected);
	pool_down(&p);
}

static void test_what_is_lost_names_who_lacks_it_and_since_when(void)
{
	g_autofree char *first = NULL;
	_cleanup_json_ Json *one = NULL, *two = NULL;
	const Json *lost;
	Pool p;

	pool_up(&p);
	host(&p, "a", FEATURES);
	host(&p, "b", "fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,hypervisor,lm,xsave,avx");
	refresh(&p);
	one = level_record(&p);
	lost = json_arr(json_obj(one, "tcg"), "lost");
	g_assert_cmpuint(json_array_size(lost), ==, 1);
	g_assert_cmpstr(json_str(json_array_get(lost, 0), "feature"), ==, "avx2");
	first = g_strdup(json_str(json_array_get(lost, 0), "since"));
	g_assert_nonnull(first);
	host(&p, "c", "fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,hypervisor,lm,xsave,avx");
	refresh(&p);
	two = level_record(&p);
	lost = json_array_get(json_arr(json_obj(two, "tcg"), "lost"), 0);
	g_assert_cmpstr(json_str(lost, "since"), ==, first);
	g_assert_cmpuint(json_array_size(json_arr(lost, "hosts")), ==, 2);
	g_assert_cmpstr(json_string_value(json_array_get(json_arr(lost, "hosts"), 0)), ==, "host-b");
	g_assert_true(json_is_null(json_object_get(two, "kvm")));
	pool_down(&p);
}

/* What can't be read, or counted, never raises the level. */
static void test_a_broken_record_counts_as_before(void)
{
	g_autofree char *key = key_cpu("b");
	Pool p;

	pool_up(&p);
	host(&p, "a", FEATURES);
	host(&p, "b", "fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,hypervisor,lm");
	refresh(&p);
	put(&p, key, "{\"format\":\"plimsoll-host-record\",\"version\":99}");
	refresh(&p);
	g_assert_false(level_has(&p, 0, "avx") || level_has(&p, 1, "avx"));
	put(&p, key, "[");
	refresh(&p);
	g_assert_false(level_has(&p, 0, "avx"));
	pool_down(&p);
}

/* Nobody asks: the watch alone. */
static void test_a_daemon_follows_the_records_of_others(void)
{
	uint64_t end = time_monotonic() + WAIT;
	struct featureset s;
	bool seen = false;
	Pool p;

	pool_up(&p);
	level_keeper_begin(p.keeper[0], NULL, NULL);
	host(&p, "a", FEATURES);
	while (!seen && time_monotonic() < end) {
		loop_turn(p.loop, 10000);
		seen = level_keeper_get(p.keeper[0], GUEST_TCG, &s);
	}
	g_assert_true(seen);
	host(&p, "b", "fpu,tsc,msr,pae,cx8,apic,cmov,mmx,fxsr,sse,sse2,pni,hypervisor,lm");
	while (level_has(&p, 0, "avx") && time_monotonic() < end)
		loop_turn(p.loop, 10000);
	g_assert_false(level_has(&p, 0, "avx"));
	pool_down(&p);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/level/none", test_there_is_no_level_without_hosts);
	g_test_add_func("/level/told-once", test_each_change_is_told_once_with_its_cause);
	g_test_add_func("/level/lost", test_what_is_lost_names_who_lacks_it_and_since_when);
	g_test_add_func("/level/broken", test_a_broken_record_counts_as_before);
	g_test_add_func("/level/follows", test_a_daemon_follows_the_records_of_others);
	return g_test_run();
}
