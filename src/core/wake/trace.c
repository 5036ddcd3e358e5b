/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wake/trace.h"
#include "core/guest/address.h"

#include <string.h>

/* Names longer than this are no names of QEMU's. */
#define NAME_MAX_LEN 64
/* No QEMU counts as many in its life; more is nonsense. */
#define COUNT_MAX UINT64_C(1000000000000)

const char *const tally_events[] = {
	"memory_region_ops_read", "memory_region_ops_write", "usb_uhci_frame_start", "apic_local_deliver",
	"x86_gsi_interrupt",      "virtio_queue_notify",     "scsi_req_parsed",      NULL,
};

static void region_free(gpointer p)
{
	struct tally_region *r = p;

	g_free(r->name);
	g_free(r);
}

Tally *tally_new(void)
{
	Tally *t = g_new0(Tally, 1);

	t->region = g_ptr_array_new_with_free_func(region_free);
	return t;
}

Tally *tally_free(Tally *t)
{
	if (t != NULL) {
		g_ptr_array_unref(t->region);
		g_free(t);
	}
	return NULL;
}

static bool is_named(const struct tally_region *r, const char *name, size_t len)
{
	return strncmp(r->name, name, len) == 0 && r->name[len] == '\0';
}

/* NULL when there are too many. The last one asked for is asked for again most often. */
static struct tally_region *region_at(Tally *t, const char *name, size_t len)
{
	struct tally_region *r;

	for (guint i = 0; i < t->region->len; i++)
		if (is_named(t->region->pdata[i], name, len))
			return t->region->pdata[i];
	if (t->region->len >= TALLY_REGIONS_MAX)
		return NULL;
	r = g_new0(struct tally_region, 1);
	r->name = g_strndup(name, len);
	g_ptr_array_add(t->region, r);
	return r;
}

/* "... size 4 name 'acpi-tmr'" */
static bool add_access(Tally *t, const char *text, size_t len, bool write)
{
	static const char mark[] = " name '";
	const char *name = memmem(text, len, mark, strlen(mark)), *end = text + len;
	struct tally_region *r;
	size_t n;

	if (name == NULL || end[-1] != '\'')
		return false;
	name += strlen(mark);
	n = (size_t)(end - name) - 1;
	if (name >= end || n > NAME_MAX_LEN || !g_utf8_validate(name, (gssize)n, NULL))
		return false;
	r = region_at(t, name, n);
	*(write ? &t->write : &t->read) += 1;
	if (r != NULL)
		*(write ? &r->write : &r->read) += 1;
	return true;
}

static bool add_read(Tally *t, const char *text, size_t len)
{
	return add_access(t, text, len, false);
}

static bool add_write(Tally *t, const char *text, size_t len)
{
	return add_access(t, text, len, true);
}

static bool add_frame(Tally *t, const char *text, size_t len)
{
	(void)text, (void)len;
	t->uhci_frame++;
	return true;
}

static bool begins(const char *text, size_t len, const char *with)
{
	return len >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

/* "vector 0 delivery mode 0": entry 0 of the local vector table is the timer. */
static bool add_local_interrupt(Tally *t, const char *text, size_t len)
{
	if (!begins(text, len, "vector "))
		return false;
	t->apic_timer += begins(text, len, "vector 0 ");
	return true;
}

/* "GSI interrupt #8 level:1" */
static bool add_line(Tally *t, const char *text, size_t len)
{
	static const char mark[] = "GSI interrupt #";
	uint64_t line = 0;
	size_t at = strlen(mark);

	if (!begins(text, len, mark))
		return false;
	for (; at < len && g_ascii_isdigit(text[at]) && line < TALLY_LINES; at++)
		line = line * 10 + (uint64_t)(text[at] - '0');
	if (line < TALLY_LINES && begins(text + at, len - at, " level:1"))
		t->irq[line]++;
	return true;
}

static bool add_queue(Tally *t, const char *text, size_t len)
{
	(void)text, (void)len;
	t->queue++;
	return true;
}

/* "target 24 lun 0 tag 5 command 74 dir 1 length 8": the target that only a CD drive has. */
static bool add_scsi(Tally *t, const char *text, size_t len)
{
	if (!begins(text, len, "target "))
		return false;
	t->cd += begins(text, len, "target " G_STRINGIFY(SCSI_TARGET_CDROM) " ");
	return true;
}

static const struct {
	const char *event;
	bool (*add)(Tally *t, const char *text, size_t len);
} parsers[] = {
	{ "memory_region_ops_read ", add_read }, { "memory_region_ops_write ", add_write },
	{ "usb_uhci_frame_start ", add_frame },  { "apic_local_deliver ", add_local_interrupt },
	{ "x86_gsi_interrupt ", add_line },      { "virtio_queue_notify ", add_queue },
	{ "scsi_req_parsed ", add_scsi },
};

/* With `-msg timestamp=on` each line begins so: "15427@1795250704.306561:". */
static size_t stamp_len(const char *line, size_t len)
{
	size_t n = 0;

	while (n < len && (g_ascii_isdigit(line[n]) || line[n] == '@' || line[n] == '.'))
		n++;
	return n > 0 && n < len && line[n] == ':' ? n + 1 : 0;
}

static void add(Tally *t, const char *line, size_t len)
{
	size_t stamp = stamp_len(line, len);

	line += stamp;
	len -= stamp;
	for (size_t i = 0; i < G_N_ELEMENTS(parsers); i++) {
		size_t n = strlen(parsers[i].event);

		if (begins(line, len, parsers[i].event)) {
			t->lines += parsers[i].add(t, line + n, len - n);
			return;
		}
	}
}

size_t tally_add(Tally *t, const char *text, size_t len)
{
	size_t at = 0, all = strnlen(text, len);

	while (at < all) {
		const char *end = memchr(text + at, '\n', all - at);
		size_t n;

		if (end == NULL)
			break;
		n = (size_t)(end - (text + at));
		if (n > 0)
			add(t, text + at, n);
		at += n + 1;
	}
	return at;
}

/*
 * Where timerlist_run_timers() locks its list again behind a callback. To add
 * a version: `sync-profile on`, and of the two places in that function it is
 * the later one.
 */
static const struct {
	const char *version, *site;
} TIMER_SITES[] = {
	{ "7.2.", "util/qemu-timer.c:577" },
};

/* Both are where a vcpu takes the big lock for a device. */
static const char *const access_sites[] = { "accel/tcg/cputlb.c:", "softmmu/physmem.c:" };

static const char *skip_spaces(const char *p)
{
	return p + strspn(p, " ");
}

/* "  CALL SITE   0.00001   201   0.04": the count of a line that has the place. False: it has not. */
static bool count_at(const char *line, const char *site, uint64_t *ret)
{
	const char *p = strstr(line, site);
	char *end;

	if (p == NULL)
		return false;
	p = skip_spaces(p + strcspn(p, " ")); /* behind the place */
	p = skip_spaces(p + strcspn(p, " ")); /* behind the time */
	*ret = g_ascii_strtoull(p, &end, 10);
	return end != p && *ret <= COUNT_MAX;
}

void lock_counts_parse(struct lock_counts *c, const char *table, const char *version)
{
	g_auto(GStrv) line = g_strsplit_set(table, "\r\n", -1);
	const char *timers = NULL;

	*c = (struct lock_counts){ 0 };
	for (size_t i = 0; i < G_N_ELEMENTS(TIMER_SITES); i++)
		if (g_str_has_prefix(version, TIMER_SITES[i].version))
			timers = TIMER_SITES[i].site;
	c->has_timers = timers != NULL;
	for (char **l = line; *l != NULL; l++) {
		uint64_t n;

		if (timers != NULL && count_at(*l, timers, &n))
			c->timers += n;
		for (size_t i = 0; i < G_N_ELEMENTS(access_sites); i++)
			if (g_str_has_prefix(*l, "BQL mutex") && count_at(*l, access_sites[i], &n))
				c->accesses += n;
	}
}
