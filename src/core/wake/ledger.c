/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wake/ledger.h"

#include <inttypes.h>
#include <string.h>

#define SECOND UINT64_C(1000000)
/* The span that people compare: Project Pulsar's. */
#define ADVICE_SPAN (30 * SECOND)
/* A source that costs less in that span is not worth a change. */
#define ADVICE_MIN 10

static const struct {
	const char *name, *title, *remedy;
} sources[_WAKE_MAX] = {
#define X(id, n, t, r) [WAKE_##id] = { .name = n, .title = t, .remedy = r },
	WAKE_SOURCE_TABLE(X)
#undef X
};

/* Where no setting helps, what does. */
static const struct {
	WakeSource source;
	const char *text;
} hints[] = {
	{ WAKE_E1000, "a virtio network card" },
	{ WAKE_RTL8139, "a virtio network card" },
	{ WAKE_TCO, "no iTCO watchdog in the guest (machine=pc has none)" },
	{ WAKE_IDE, "no CD drive from the start (`plim vm unset NAME platform.cdrom`)" },
	{ WAKE_SATA, "no CD drive from the start (`plim vm unset NAME platform.cdrom`)" },
	{ WAKE_CD, "ejecting the CD (`plim vm cdrom eject`)" },
	{ WAKE_DISPLAY, "closing the console's viewer" },
	{ WAKE_BALLOON_STATS, "asking for no memory statistics" },
	{ WAKE_RTC, "a guest that sets no periodic clock interrupt" },
	{ WAKE_PM_TIMER, "another clock source in the guest (under KVM: kvm-clock)" },
};

/*
 * QEMU's names of regions; "virtio-pci-notify-virtio-blk" is tried without its
 * first words. A line holds for all names that begin with it; the first one wins.
 */
static const struct {
	const char *prefix;
	WakeSource source;
} regions[] = {
	{ "hpet", WAKE_HPET },
	{ "rtc", WAKE_RTC },
	{ "pit", WAKE_PIT },
	{ "pcspk", WAKE_PIT },
	{ "apic-msi", WAKE_APIC },
	{ "kvm-apic-msi", WAKE_APIC },
	{ "acpi-tmr", WAKE_PM_TIMER },
	{ "sm-tco", WAKE_TCO },
	{ "ioapic", WAKE_IRQ },
	{ "kvm-ioapic", WAKE_IRQ },
	{ "pic", WAKE_IRQ },
	{ "elcr", WAKE_IRQ },
	{ "acpi-", WAKE_ACPI },
	{ "apm-io", WAKE_ACPI },
	{ "pm-smbus", WAKE_ACPI },
	{ "piix4-", WAKE_ACPI },
	{ "pci", WAKE_PCI },
	{ "msix-", WAKE_PCI },
	{ "uhci", WAKE_UHCI },
	{ "ohci", WAKE_USB },
	{ "capabilities", WAKE_USB },
	{ "operational", WAKE_USB },
	{ "ports", WAKE_USB },
	{ "runtime", WAKE_USB },
	{ "doorbell", WAKE_USB },
	{ "usb", WAKE_USB },
	{ "xhci", WAKE_USB },
	{ "ehci", WAKE_USB },
	{ "serial", WAKE_SERIAL },
	{ "parallel", WAKE_PARALLEL },
	{ "fdc", WAKE_FLOPPY },
	{ "i8042", WAKE_PS2 },
	{ "vmmouse", WAKE_PS2 },
	{ "vmport", WAKE_PS2 },
	{ "ahci", WAKE_SATA },
	{ "ide", WAKE_IDE },
	{ "bmdma", WAKE_IDE },
	{ "piix-bmdma", WAKE_IDE },
	{ "e1000", WAKE_E1000 },
	{ "rtl8139", WAKE_RTL8139 },
	{ "vga", WAKE_VGA },
	{ "vbe", WAKE_VGA },
	{ "bochs", WAKE_VGA },
	{ "edid", WAKE_VGA },
	{ "qemu extended regs", WAKE_VGA },
	{ "virtio-gpu", WAKE_GPU },
	{ "virtio-vga", WAKE_GPU },
	{ "virtio-blk", WAKE_BLK },
	{ "virtio-scsi", WAKE_SCSI },
	{ "virtio-net", WAKE_NET },
	{ "virtio-serial", WAKE_PORTS },
	{ "virtio-balloon", WAKE_BALLOON },
	{ "virtio-rng", WAKE_RNG },
	{ "virtio", WAKE_VIRTIO },
	{ "fwcfg", WAKE_FW_CFG },
	{ "fw_cfg", WAKE_FW_CFG },
};

static const char *const virtio_parts[] = { "virtio-pci-common-", "virtio-pci-isr-", "virtio-pci-device-",
					    "virtio-pci-notify-pio-", "virtio-pci-notify-" };

const char *wake_source_name(WakeSource s)
{
	g_assert(s < _WAKE_MAX);
	return sources[s].name;
}

WakeSource wake_source_of_region(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(virtio_parts); i++)
		if (g_str_has_prefix(name, virtio_parts[i])) {
			name += strlen(virtio_parts[i]);
			break;
		}
	for (size_t i = 0; i < G_N_ELEMENTS(regions); i++)
		if (g_str_has_prefix(name, regions[i].prefix))
			return regions[i].source;
	return WAKE_OTHER;
}

static void thread_clear(gpointer p)
{
	struct wake_thread *t = p;

	g_free(t->name);
}

WakeInterval *wake_interval_new(void)
{
	WakeInterval *w = g_new0(WakeInterval, 1);

	w->thread = g_array_new(FALSE, TRUE, sizeof(struct wake_thread));
	g_array_set_clear_func(w->thread, thread_clear);
	return w;
}

WakeInterval *wake_interval_free(WakeInterval *w)
{
	if (w != NULL) {
		g_array_unref(w->thread);
		g_free(w);
	}
	return NULL;
}

bool wake_thread_is_vcpu(const char *name)
{
	return g_str_has_prefix(name, "CPU ") || g_str_has_prefix(name, "ALL CPUs");
}

/*
 * Settling
 */

static void settle_accesses(WakeInterval *w, const Tally *t, const struct wake_facts *f)
{
	uint64_t seen = t->read + t->write;
	double scale = 1;

	if (f->log_full && f->has_locks && f->locks.accesses > seen && seen > 0)
		scale = (double)f->locks.accesses / (double)seen;
	w->sampled = f->log_full;
	w->sum.read = (uint64_t)((double)t->read * scale + 0.5);
	w->sum.write = (uint64_t)((double)t->write * scale + 0.5);
	for (guint i = 0; i < t->region->len; i++) {
		const struct tally_region *r = t->region->pdata[i];
		struct wake_count *c = &w->source[wake_source_of_region(r->name)];

		c->read += (uint64_t)((double)r->read * scale + 0.5);
		c->write += (uint64_t)((double)r->write * scale + 0.5);
	}
}

/* As many of the timers as `n`, at most what is left. */
static void claim(WakeInterval *w, WakeSource s, uint64_t n, uint64_t *left)
{
	n = MIN(n, *left);
	w->source[s].timer += n;
	*left -= n;
}

/*
 * Lines 0 and 8 are the ticks of the PIT and of the clock, or of an HPET that
 * took both over: then the guest has been seen to read or write the HPET.
 */
static void settle_timers(WakeInterval *w, const Tally *t, const struct wake_facts *f)
{
	bool hpet = f->has_hpet && w->source[WAKE_HPET].read + w->source[WAKE_HPET].write > 0;
	uint64_t stats = f->balloon_interval > 0 ? w->duration / (f->balloon_interval * SECOND) : 0;
	uint64_t left;

	w->has_timers = f->has_locks && f->locks.has_timers;
	left = w->has_timers ? f->locks.timers : UINT64_MAX;
	claim(w, WAKE_UHCI, t->uhci_frame, &left);
	claim(w, WAKE_APIC, t->apic_timer, &left);
	claim(w, hpet ? WAKE_HPET : WAKE_PIT, t->irq[0], &left);
	claim(w, hpet ? WAKE_HPET : WAKE_RTC, t->irq[8], &left);
	claim(w, WAKE_BALLOON_STATS, stats, &left);
	if (w->has_timers)
		claim(w,
		      f->display_clients > 0 ? WAKE_DISPLAY
		      : f->has_ehci          ? WAKE_USB
					     : WAKE_OTHER,
		      left, &left);
	for (WakeSource s = 0; s < _WAKE_MAX; s++)
		w->sum.timer += w->source[s].timer;
}

void wake_interval_settle(WakeInterval *w, const Tally *t, const struct wake_facts *f)
{
	w->has_accesses = true;
	settle_accesses(w, t, f);
	settle_timers(w, t, f);
	/* Not accesses of a region: the guest rang, QEMU or the daemon was woken. */
	w->source[WAKE_CD].write += MIN(t->cd, t->queue);
	w->source[WAKE_VIRTIO].write += t->queue - MIN(t->cd, t->queue);
	w->sum.write += t->queue;
	w->source[WAKE_DAEMON].call += f->qmp_calls;
	w->source[WAKE_AGENT].call += f->agent_calls;
}

/*
 * Printing
 */

static Json *threads_to_json(const WakeInterval *w)
{
	Json *list = json_array();

	for (guint i = 0; i < w->thread->len; i++) {
		const struct wake_thread *t = &g_array_index(w->thread, struct wake_thread, i);
		Json *j = json_object();

		json_put_str(j, "name", t->name);
		json_put_int(j, "tid", t->tid);
		json_put_uint(j, "wakeups", t->wakeups);
		json_put_uint(j, "cpu", t->cpu);
		json_array_append_new(list, j);
	}
	return list;
}

static void put_thread_sums(Json *j, const WakeInterval *w)
{
	static const char *const keys[] = { "wakeups", "main_wakeups", "vcpu_wakeups", "cpu", "vcpu_cpu" };
	uint64_t sum[G_N_ELEMENTS(keys)] = { 0 };

	for (guint i = 0; i < w->thread->len; i++) {
		const struct wake_thread *t = &g_array_index(w->thread, struct wake_thread, i);

		sum[0] += t->wakeups;
		sum[1] += g_str_equal(t->name, "main") ? t->wakeups : 0;
		sum[2] += wake_thread_is_vcpu(t->name) ? t->wakeups : 0;
		sum[3] += t->cpu;
		sum[4] += wake_thread_is_vcpu(t->name) ? t->cpu : 0;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		json_put(j, keys[i], w->has_threads ? json_integer((json_int_t)sum[i]) : json_null());
}

static void put_count(Json *j, const struct wake_count *c)
{
	json_put_uint(j, "timer", c->timer);
	json_put_uint(j, "read", c->read);
	json_put_uint(j, "write", c->write);
}

static uint64_t count_sum(const struct wake_count *c)
{
	return c->timer + c->read + c->write + c->call;
}

static Json *sources_to_json(const WakeInterval *w)
{
	Json *list = json_array();

	for (WakeSource s = 0; s < _WAKE_MAX; s++) {
		Json *j;

		if (count_sum(&w->source[s]) == 0)
			continue;
		j = json_object();
		json_put_str(j, "source", sources[s].name);
		json_put_str(j, "title", sources[s].title);
		put_count(j, &w->source[s]);
		json_put_uint(j, "call", w->source[s].call);
		json_array_append_new(list, j);
	}
	return list;
}

Json *wake_interval_to_json(const WakeInterval *w, unsigned index)
{
	Json *j = json_object();

	json_put_int(j, "index", index);
	json_put_uint(j, "start", w->start);
	json_put_uint(j, "duration", w->duration);
	json_put_uint(j, "paused", w->paused);
	put_count(j, &w->sum);
	if (!w->has_timers)
		json_put(j, "timer", json_null());
	if (!w->has_accesses) {
		json_put(j, "read", json_null());
		json_put(j, "write", json_null());
	}
	json_put_bool(j, "sampled", w->sampled);
	json_put(j, "exits", w->has_kvm ? json_integer((json_int_t)w->exits) : json_null());
	json_put(j, "halts", w->has_kvm ? json_integer((json_int_t)w->halts) : json_null());
	put_thread_sums(j, w);
	json_put(j, "threads", threads_to_json(w));
	json_put(j, "sources", sources_to_json(w));
	return j;
}

/*
 * Advice
 */

static const char *hint_of(WakeSource s)
{
	for (size_t i = 0; i < G_N_ELEMENTS(hints); i++)
		if (hints[i].source == s)
			return hints[i].text;
	return NULL;
}

struct saving {
	WakeSource source;
	uint64_t saves;
};

static int dearer_first(const void *a, const void *b)
{
	const struct saving *x = a, *y = b;

	return x->saves < y->saves ? 1 : x->saves > y->saves ? -1 : (int)x->source - (int)y->source;
}

static Json *one_advice(const struct saving *v)
{
	const char *setting = sources[v->source].remedy, *hint = hint_of(v->source);
	g_autofree char *text =
	    g_strdup_printf("%s saves %" PRIu64 " wakeups per 30 s (%s)", setting != NULL ? setting : hint,
			    v->saves, sources[v->source].title);
	Json *j = json_object();

	json_put_str(j, "source", sources[v->source].name);
	json_put_str(j, "setting", setting);
	json_put_uint(j, "saves", v->saves);
	json_put_str(j, "text", text);
	return j;
}

Json *wake_advice(const GPtrArray *intervals)
{
	struct saving all[_WAKE_MAX];
	Json *list = json_array();
	uint64_t duration = 0;

	for (guint i = 0; i < intervals->len; i++)
		duration += ((const WakeInterval *)intervals->pdata[i])->duration;
	for (WakeSource s = 0; s < _WAKE_MAX; s++) {
		double n = 0;

		for (guint i = 0; i < intervals->len; i++)
			n += (double)count_sum(&((const WakeInterval *)intervals->pdata[i])->source[s]);
		all[s] = (struct saving){
			s, duration > 0 ? (uint64_t)(n * (double)ADVICE_SPAN / (double)duration + 0.5) : 0
		};
	}
	qsort(all, _WAKE_MAX, sizeof *all, dearer_first);
	for (size_t i = 0; i < _WAKE_MAX; i++)
		if (all[i].saves >= ADVICE_MIN &&
		    (sources[all[i].source].remedy != NULL || hint_of(all[i].source) != NULL))
			json_array_append_new(list, one_advice(&all[i]));
	return list;
}
