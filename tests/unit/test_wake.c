/* SPDX-License-Identifier: Apache-2.0 */
/* The wakeup ledger: from QEMU's words to a table that names who wakes it. */
#include "core/wake/ledger.h"

#include <string.h>

/* As QEMU 7.2.22 printed them. */
static const char idle_pc[] =
    "memory_region_ops_read cpu 0 mr 0x562651d1d1b0 addr 0xfebc00c0 value 0x0 size 4 name 'e1000-mmio'\n"
    "memory_region_ops_read cpu 0 mr 0x562651d1d1b0 addr 0xfebc00c0 value 0x0 size 4 name 'e1000-mmio'\n"
    "memory_region_ops_write cpu 0 mr 0x562651b44db0 addr 0x70 value 0x8f size 1 name 'rtc-index'\n"
    "memory_region_ops_write cpu 1 mr 0x562651b44db0 addr 0xfe003000 value 0x1 size 2 name "
    "'virtio-pci-notify-virtio-blk'\n"
    "x86_gsi_interrupt GSI interrupt #8 level:1\n"
    "x86_gsi_interrupt GSI interrupt #8 level:0\n"
    "x86_gsi_interrupt GSI interrupt #0 level:1\n"
    "apic_local_deliver vector 0 delivery mode 0\n"
    "apic_local_deliver vector 3 delivery mode 7\n"
    "usb_uhci_frame_start nr 77\n"
    "virtio_queue_notify vdev 0x55 n 0 vq 0x56\n";

static const char profile[] =
    "Type               Object  Call site                           Wait Time (s)         Count  Average (us)\r\n"
    "--------------------------------------------------------------------------------------------------------\r\n"
    "condvar    0x5626512df8b0  softmmu/cpus.c:423                        2.01536            37      54469.21\r\n"
    "BQL mutex  0x56262e2fcb40  accel/tcg/cputlb.c:1371                   0.10216        270429          0.38\r\n"
    "BQL mutex  0x56262e2fcb40  util/main-loop.c:318                      0.07281           243        299.63\r\n"
    "BQL mutex  0x56262e2fcb40  softmmu/physmem.c:2748                    0.06811        206032          0.33\r\n"
    "BQL mutex  0x56262e2fcb40  accel/tcg/cputlb.c:1431                   0.02128         33239          0.64\r\n"
    "mutex      [           3]  util/qemu-timer.c:547                     0.00003           725          0.05\r\n"
    "mutex      0x562651052cd8  util/qemu-timer.c:577                     0.00001           198          0.04\r\n"
    "mutex      0x562651052c68  util/qemu-timer.c:577                     0.00000             3          0.04\r\n";

static Tally *tally_of(const char *text)
{
	Tally *t = tally_new();

	g_assert_cmpuint(tally_add(t, text, strlen(text)), ==, strlen(text));
	return t;
}

static void test_each_event_is_counted_as_what_it_is(void)
{
	g_autoptr(Tally) t = tally_of(idle_pc);

	g_assert_cmpuint(t->lines, ==, 11);
	g_assert_cmpuint(t->read, ==, 2);
	g_assert_cmpuint(t->write, ==, 2);
	g_assert_cmpuint(t->irq[8], ==, 1);
	g_assert_cmpuint(t->irq[0], ==, 1);
	g_assert_cmpuint(t->apic_timer, ==, 1);
	g_assert_cmpuint(t->uhci_frame, ==, 1);
	g_assert_cmpuint(t->queue, ==, 1);
	g_assert_cmpuint(t->region->len, ==, 3);
}

static void test_a_stamp_before_the_event_is_skipped(void)
{
	g_autoptr(Tally) t = tally_of("15427@1795250704.306561:usb_uhci_frame_start nr 1\n"
				      "15427@1795250704.306563:memory_region_ops_read cpu 0 name 'hpet'\n"
				      "1542:\n12@:\n:usb_uhci_frame_start nr 2\n77\n");

	g_assert_cmpuint(t->lines, ==, 2);
	g_assert_cmpuint(t->uhci_frame, ==, 1);
	g_assert_cmpuint(t->read, ==, 1);
}

static void test_half_a_line_waits_for_the_rest(void)
{
	g_autoptr(Tally) t = tally_new();
	size_t whole = strlen(idle_pc), cut = whole - 10, done = tally_add(t, idle_pc, cut);

	g_assert_cmpuint(done, <, cut);
	g_assert_cmpuint(t->queue, ==, 0);
	g_assert_cmpuint(tally_add(t, idle_pc + done, whole - done), ==, whole - done);
	g_assert_cmpuint(t->queue, ==, 1);
	g_assert_cmpuint(t->lines, ==, 11);
}

static void test_nonsense_is_passed_over(void)
{
	static const char *const bad[] = {
		"\n\n",
		"memory_region_ops_read\n",
		"memory_region_ops_read cpu 0 name 'open\n",
		"memory_region_ops_read cpu 0 name '\n",
		"memory_region_ops_write x name '\xff\xfe'\n",
		"x86_gsi_interrupt GSI interrupt #99999999999999999999 level:1\n",
		"x86_gsi_interrupt \n",
		"apic_local_deliver vector\n",
		"something_else name 'a'\n",
		"memory_region_ops_readname 'a'\n",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(Tally) t = tally_of(bad[i]);

		g_assert_cmpuint(t->read + t->write + t->apic_timer + t->queue, ==, 0);
		g_assert_cmpuint(t->region->len, ==, 0);
	}
}

static void test_a_flood_of_names_is_bounded_and_still_counted(void)
{
	g_autoptr(Tally) t = tally_new();

	for (unsigned i = 0; i < 5000; i++) {
		g_autofree char *line = g_strdup_printf("memory_region_ops_read cpu 0 name 'r%u'\n", i);

		tally_add(t, line, strlen(line));
	}
	g_assert_cmpuint(t->read, ==, 5000);
	g_assert_cmpuint(t->region->len, ==, TALLY_REGIONS_MAX);
}

static void test_the_lock_profile_counts_timers_and_accesses(void)
{
	struct lock_counts c;

	lock_counts_parse(&c, profile, "7.2.22");
	g_assert_true(c.has_timers);
	g_assert_cmpuint(c.timers, ==, 201);
	g_assert_cmpuint(c.accesses, ==, 270429 + 206032 + 33239);
}

static void test_an_unknown_qemu_has_no_count_of_timers(void)
{
	struct lock_counts c;

	lock_counts_parse(&c, profile, "9.9.0");
	g_assert_false(c.has_timers);
	g_assert_cmpuint(c.timers, ==, 0);
	lock_counts_parse(&c, "", "7.2.22");
	g_assert_true(c.has_timers);
	g_assert_cmpuint(c.timers + c.accesses, ==, 0);
	lock_counts_parse(&c, "util/qemu-timer.c:577\nBQL mutex softmmu/physmem.c:1 x\n", "7.2.0");
	g_assert_cmpuint(c.timers + c.accesses, ==, 0);
}

static void test_regions_belong_to_their_device(void)
{
	static const struct {
		const char *region;
		WakeSource source;
	} table[] = {
		{ "acpi-tmr", WAKE_PM_TIMER },
		{ "acpi-evt", WAKE_ACPI },
		{ "apic-msi", WAKE_APIC },
		{ "pic", WAKE_IRQ },
		{ "pit", WAKE_PIT },
		{ "piix-bmdma", WAKE_IDE },
		{ "rtc-index", WAKE_RTC },
		{ "virtio-pci-notify-virtio-blk", WAKE_BLK },
		{ "virtio-pci-common-virtio-gpu", WAKE_GPU },
		{ "virtio-pci", WAKE_VIRTIO },
		{ "pci-conf-data", WAKE_PCI },
		{ "serial", WAKE_SERIAL },
		{ "sm-tco", WAKE_TCO },
		{ "doorbell", WAKE_USB },
		{ "", WAKE_OTHER },
		{ "a device nobody knows", WAKE_OTHER },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
		g_assert_cmpstr(wake_source_name(wake_source_of_region(table[i].region)), ==,
				wake_source_name(table[i].source));
}

static WakeInterval *settled(const char *text, const struct wake_facts *f)
{
	g_autoptr(Tally) t = tally_of(text);
	WakeInterval *w = wake_interval_new();

	w->duration = 30000000;
	wake_interval_settle(w, t, f);
	return w;
}

static void test_timers_go_to_who_claims_them_and_the_rest_to_others(void)
{
	struct wake_facts f = { .has_locks = true,
				.locks = { .timers = 10, .accesses = 4, .has_timers = true } };
	g_autoptr(WakeInterval) w = settled(idle_pc, &f);

	g_assert_cmpuint(w->sum.timer, ==, 10);
	g_assert_cmpuint(w->source[WAKE_UHCI].timer, ==, 1);
	g_assert_cmpuint(w->source[WAKE_APIC].timer, ==, 1);
	g_assert_cmpuint(w->source[WAKE_PIT].timer, ==, 1);
	g_assert_cmpuint(w->source[WAKE_RTC].timer, ==, 1);
	g_assert_cmpuint(w->source[WAKE_OTHER].timer, ==, 6);
	g_assert_cmpuint(w->sum.read, ==, 2);
	g_assert_cmpuint(w->sum.write, ==, 3);
	g_assert_false(w->sampled);
}

static void test_who_looks_at_the_display_is_named(void)
{
	struct wake_facts f = { .has_locks = true,
				.locks = { .timers = 504, .has_timers = true },
				.display_clients = 1 };
	g_autoptr(WakeInterval) w = settled(idle_pc, &f);

	g_assert_cmpuint(w->source[WAKE_DISPLAY].timer, ==, 500);
	g_assert_cmpuint(w->source[WAKE_OTHER].timer, ==, 0);
}

static void test_an_hpet_that_took_the_ticks_is_named(void)
{
	struct wake_facts f = { .has_hpet = true };
	g_autofree char *text = g_strconcat(
	    idle_pc, "memory_region_ops_read cpu 0 mr 0 addr 0 value 0 size 8 name 'hpet'\n", NULL);
	g_autoptr(WakeInterval) w = settled(text, &f);

	g_assert_cmpuint(w->source[WAKE_HPET].timer, ==, 2);
	g_assert_cmpuint(w->source[WAKE_HPET].read, ==, 1);
	g_assert_cmpuint(w->source[WAKE_PIT].timer + w->source[WAKE_RTC].timer, ==, 0);
}

static void test_without_the_profiler_only_claimed_timers_are_known(void)
{
	struct wake_facts f = { 0 };
	g_autoptr(WakeInterval) w = settled(idle_pc, &f);
	_cleanup_json_ Json *j = wake_interval_to_json(w, 0);

	g_assert_false(w->has_timers);
	g_assert_true(json_is_null(json_object_get(j, "timer")));
	g_assert_cmpint(json_int(j, "read", -1), ==, 2);
	g_assert_cmpuint(w->source[WAKE_UHCI].timer, ==, 1);
}

static void test_what_the_log_could_not_hold_is_scaled_and_said(void)
{
	struct wake_facts f = { .has_locks = true,
				.locks = { .timers = 4, .accesses = 4000, .has_timers = true },
				.log_full = true };
	g_autoptr(WakeInterval) w = settled(idle_pc, &f);

	g_assert_true(w->sampled);
	g_assert_cmpuint(w->sum.read, ==, 2000);
	g_assert_cmpuint(w->source[WAKE_E1000].read, ==, 2000);
	g_assert_cmpuint(w->source[WAKE_BLK].write, ==, 1000);
}

static void test_a_count_that_could_not_be_had_is_null_and_never_zero(void)
{
	g_autoptr(WakeInterval) w = wake_interval_new();
	_cleanup_json_ Json *j = wake_interval_to_json(w, 3);
	static const char *const keys[] = { "timer", "read", "write", "exits", "halts", "wakeups", "cpu" };

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		g_assert_true(json_is_null(json_object_get(j, keys[i])));
	g_assert_cmpint(json_int(j, "index", -1), ==, 3);
}

static void add_thread(WakeInterval *w, const char *name, uint64_t wakeups, uint64_t cpu)
{
	struct wake_thread t = { .name = g_strdup(name), .tid = 1, .wakeups = wakeups, .cpu = cpu };

	g_array_append_val(w->thread, t);
}

static void test_threads_are_summed_by_what_they_do(void)
{
	g_autoptr(WakeInterval) w = wake_interval_new();
	_cleanup_json_ Json *j = NULL;

	w->has_threads = true;
	add_thread(w, "main", 7, 1000);
	add_thread(w, "CPU 0/KVM", 100, 5000);
	add_thread(w, "CPU 1/KVM", 50, 500);
	add_thread(w, "worker", 2, 10);
	j = wake_interval_to_json(w, 0);
	g_assert_cmpint(json_int(j, "wakeups", -1), ==, 159);
	g_assert_cmpint(json_int(j, "main_wakeups", -1), ==, 7);
	g_assert_cmpint(json_int(j, "vcpu_wakeups", -1), ==, 150);
	g_assert_cmpint(json_int(j, "cpu", -1), ==, 6510);
	g_assert_cmpint(json_int(j, "vcpu_cpu", -1), ==, 5500);
}

static void test_advice_names_the_dearest_source_and_its_setting(void)
{
	g_autoptr(GPtrArray) list = g_ptr_array_new();
	g_autoptr(WakeInterval) a = wake_interval_new(), b = wake_interval_new();
	_cleanup_json_ Json *advice = NULL;
	const Json *first;

	a->duration = b->duration = 10000000;
	a->source[WAKE_UHCI].timer = 9000;
	b->source[WAKE_UHCI].timer = 11000;
	b->source[WAKE_HPET].timer = 3000;
	b->source[WAKE_BLK].write = 90000; /* the guest's own work: nothing to advise */
	b->source[WAKE_SERIAL].read = 5;   /* too little */
	g_ptr_array_add(list, a);
	g_ptr_array_add(list, b);
	advice = wake_advice(list);
	g_assert_cmpuint(json_array_size(advice), ==, 2);
	first = json_array_get(advice, 0);
	g_assert_cmpstr(json_str(first, "source"), ==, "usb-uhci");
	g_assert_cmpint(json_int(first, "saves", 0), ==, 30000);
	g_assert_cmpstr(json_str(first, "text"), ==,
			"platform.usb_tablet=false platform.usb=false saves 30000 wakeups per 30 s "
			"(USB controller (UHCI))");
	g_assert_cmpstr(json_str(json_array_get(advice, 1), "setting"), ==, "platform.hpet=false");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/wake/events", test_each_event_is_counted_as_what_it_is);
	g_test_add_func("/wake/stamp", test_a_stamp_before_the_event_is_skipped);
	g_test_add_func("/wake/half_line", test_half_a_line_waits_for_the_rest);
	g_test_add_func("/wake/nonsense", test_nonsense_is_passed_over);
	g_test_add_func("/wake/flood", test_a_flood_of_names_is_bounded_and_still_counted);
	g_test_add_func("/wake/locks", test_the_lock_profile_counts_timers_and_accesses);
	g_test_add_func("/wake/locks_unknown", test_an_unknown_qemu_has_no_count_of_timers);
	g_test_add_func("/wake/regions", test_regions_belong_to_their_device);
	g_test_add_func("/wake/timers", test_timers_go_to_who_claims_them_and_the_rest_to_others);
	g_test_add_func("/wake/display", test_who_looks_at_the_display_is_named);
	g_test_add_func("/wake/hpet", test_an_hpet_that_took_the_ticks_is_named);
	g_test_add_func("/wake/no_profiler", test_without_the_profiler_only_claimed_timers_are_known);
	g_test_add_func("/wake/sampled", test_what_the_log_could_not_hold_is_scaled_and_said);
	g_test_add_func("/wake/null", test_a_count_that_could_not_be_had_is_null_and_never_zero);
	g_test_add_func("/wake/threads", test_threads_are_summed_by_what_they_do);
	g_test_add_func("/wake/advice", test_advice_names_the_dearest_source_and_its_setting);
	return g_test_run();
}
