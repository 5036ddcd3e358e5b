/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/settings.h"
#include "base/str.h"

#include <inttypes.h>
#include <string.h>

#define MIB (INT64_C(1) << 20)
#define TIB (INT64_C(1) << 40)
#define SECOND INT64_C(1000000)

static const char *const accels[] = { "auto", "kvm", "tcg", NULL };
static const char *const firmwares[] = { "auto", "bios", "uefi", NULL };
static const char *const clocks[] = { "auto", "utc", "localtime", NULL };
static const char *const on_off_auto[] = { "auto", "on", "off", NULL };
static const char *const restarts[] = { "never", "on-failure", "always", NULL };
static const char *const videos[] = { "auto", "none", "std", "virtio", NULL };
static const char *const tablets[] = { "auto", "none", "virtio", NULL };
static const char *const ksm_modes[] = { "auto", "on", "off", NULL };
static const char *const dumps[] = { "none", "kdump", "elf", NULL };
static const char *const dumps_or_auto[] = { "auto", "none", "kdump", "elf", NULL };
static const char *const ports[] = { "none", "pty", NULL };
static const char *const caches[] = { "auto", "none", "writeback", NULL };
static const char *const error_policies[] = { "enospace", "stop", "report", NULL };
static const char *const memory_methods[] = { "auto", "virtio-mem", "dimm", "balloon", NULL };
static const char *const relevels[] = { "never", "reboot", NULL };
static const char *const panics[] = { "auto", "stop", "restart", "pause", NULL };

// clang-format off
const Setting settings[] = {
	{ "vcpus", SETTING_INT, APPLIES_START, 1, 255, NULL, "1", "Number of virtual CPUs." },
	{ "memory.start", SETTING_SIZE, APPLIES_START, 2 * MIB, 4 * TIB, NULL, "512MiB",
	  "Memory that the guest starts with; `memory` is short for it." },
	{ "memory.min", SETTING_SIZE, APPLIES_START, 2 * MIB, 4 * TIB, NULL, "auto",
	  "The guest's memory may shrink to this while it runs; auto is memory.start, and half of that for a vm with memory.max." },
	{ "memory.max", SETTING_SIZE, APPLIES_START, 2 * MIB, 4 * TIB, NULL, "auto",
	  "The guest's memory may grow to this while it runs; auto is memory.start." },
	{ "memory.buffer", SETTING_INT, APPLIES_NOW, 5, 200, NULL, "20",
	  "What a guest with memory.min or memory.max gets on top of the memory that it uses, in percent." },
	{ "memory.weight", SETTING_INT, APPLIES_NOW, 1, 10000, NULL, "100",
	  "When the host is short: how much of what is left this guest gets, compared to the others." },
	{ "memory.method", SETTING_ENUM, APPLIES_START, 0, 0, memory_methods, "auto",
	  "How memory above memory.start is given: virtio-mem plugs it in, dimm plugs it in for systems without virtio-mem, "
	  "balloon boots the guest with memory.max and takes the rest back; auto is virtio-mem for Linux (dimm for one from "
	  "before 5.8), else balloon." },
	{ "memory.merge", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "false",
	  "Let the host merge pages that are equal to those of other such guests; `plim host set HOST ksm=on` has it done." },
	{ "memory.low_mmio_gap", SETTING_SIZE, APPLIES_START, 128 * MIB, 3584 * MIB, NULL, "auto",
	  "Size of the gap for PCI devices below 4 GiB: 2 GiB and more on q35, 1 GiB and more on pc; less only where all memory "
	  "lies below it." },
	{ "memory.high_mmio_gap", SETTING_SIZE, APPLIES_START, 1024 * MIB, 4 * TIB, NULL, "auto",
	  "Size of the gap for PCI devices behind the memory, in whole GiB; auto is 32 GiB on q35 and 2 GiB on pc." },
	{ "accel", SETTING_ENUM, APPLIES_START, 0, 0, accels, "auto",
	  "Accelerator: kvm, tcg (emulation), or auto for the best one that was proven to work on the host." },
	{ "cpu.model", SETTING_TEXT, APPLIES_START, 0, 0, NULL, "auto",
	  "CPU model of QEMU, for a vm that shall have a CPU of its own; auto is the pool's CPU level, so that the vm can be moved." },
	{ "cpu.level", SETTING_TEXT, APPLIES_START, 0, 0, NULL, "auto",
	  "Lower than the pool's CPU level: x86-64, x86-64-v2, x86-64-v3, x86-64-v4, or a set as `plim cpu level` prints it." },
	{ "cpu.features", SETTING_TEXT, APPLIES_START, 0, 0, NULL, "auto",
	  "Features to take away from the level (-avx2,-sha-ni), to be given though no guest gets them unasked (+vmx, +svm), "
	  "or without which the vm does not start (+avx2)." },
	{ "cpu.relevel", SETTING_ENUM, APPLIES_NOW, 0, 0, relevels, "never",
	  "When a running guest follows a changed CPU level: never (at its next start), or reboot: when it reboots." },
	{ "machine", SETTING_TEXT, APPLIES_START, 0, 0, NULL, "auto",
	  "Machine type of QEMU; q35 and pc mean the newest version that the host knows. It stays as it was at the first start." },
	{ "firmware", SETTING_ENUM, APPLIES_START, 0, 0, firmwares, "auto",
	  "bios (SeaBIOS) or uefi (OVMF); auto follows the image's hw_firmware_type." },
	{ "secure_boot", SETTING_ENUM, APPLIES_START, 0, 0, on_off_auto, "auto",
	  "Firmware that starts signed systems only (needs uefi and q35); auto follows the image's os_secure_boot." },
	{ "tpm", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "auto", "A TPM 2.0, kept by swtpm." },
	{ "boot.kernel", SETTING_PATH, APPLIES_START, 0, 0, NULL, "none", "Boot this kernel directly." },
	{ "boot.initrd", SETTING_PATH, APPLIES_START, 0, 0, NULL, "none", "Initial RAM disk for boot.kernel." },
	{ "boot.cmdline", SETTING_TEXT, APPLIES_START, 0, 0, NULL, "none", "Command line for boot.kernel." },
	{ "clock", SETTING_ENUM, APPLIES_START, 0, 0, clocks, "auto",
	  "What the real-time clock shows: utc or localtime; auto is localtime for Windows." },
	{ "hyperv", SETTING_ENUM, APPLIES_START, 0, 0, on_off_auto, "auto",
	  "Hyper-V enlightenments; auto gives them to guests whose os_type is windows." },
	{ "disk.cache", SETTING_ENUM, APPLIES_START, 0, 0, caches, "auto",
	  "none reads and writes disks past the host's page cache, writeback through it; auto is none where the host's "
	  "file system can." },
	{ "disk.error_policy", SETTING_ENUM, APPLIES_START, 0, 0, error_policies, "enospace",
	  "What a disk's error does: enospace pauses the guest when the host has no room and reports other errors to it, "
	  "stop pauses it for each error, report tells the guest of all." },
	{ "agent", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "true", "A channel for qemu-guest-agent." },
	{ "autostart", SETTING_BOOL, APPLIES_NOW, 0, 0, NULL, "false", "Start the vm when its host starts; a restart of the daemon alone starts nothing." },
	{ "restart", SETTING_ENUM, APPLIES_NOW, 0, 0, restarts, "never",
	  "Start the vm again by itself, with growing pauses: on-failure after a crash, always also after it powered itself off." },
	{ "on_panic", SETTING_ENUM, APPLIES_NOW, 0, 0, panics, "auto",
	  "What happens when the guest's kernel reports a panic; auto stops it and lets `restart` decide." },
	{ "evidence.dump", SETTING_ENUM, APPLIES_NOW, 0, 0, dumps_or_auto, "auto",
	  "Dump of memory that is kept when the guest's kernel panics: none, kdump (compressed; Windows gets its own format), elf; "
	  "auto: as the host has it." },
	{ "stop.timeout", SETTING_DURATION, APPLIES_NOW, 1 * SECOND, 86400 * SECOND, NULL, "90s",
	  "How long `vm stop` waits for the guest to shut down." },
	{ "idle.wakeups", SETTING_INT, APPLIES_NOW, 0, 1000000, NULL, "auto",
	  "How often an idle guest may wake its QEMU in a second before an event tells of it; 0: as often as it likes; auto: as the host has it." },
	{ "idle.cpu", SETTING_INT, APPLIES_NOW, 0, 100, NULL, "auto",
	  "How much of a CPU QEMU may take beside an idle guest's own, in percent; 0: any; auto: as the host has it." },
	{ "platform.usb", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "false", "A USB controller (xHCI)." },
	{ "platform.usb_tablet", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "false",
	  "A USB tablet as pointer; brings the controller. The virtio tablet costs less." },
	{ "platform.tablet", SETTING_ENUM, APPLIES_START, 0, 0, tablets, "auto",
	  "An absolute pointer without USB: none or virtio; auto is virtio for a vm with a display and no USB tablet." },
	{ "platform.hvm_serial", SETTING_ENUM, APPLIES_START, 0, 0, ports, "none",
	  "A serial port (16550): pty attaches it to `plim vm console --serial`." },
	{ "platform.parallel", SETTING_ENUM, APPLIES_START, 0, 0, ports, "none", "A parallel port." },
	{ "platform.hpet", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "false", "The HPET timer." },
	{ "platform.cdrom", SETTING_PATH, APPLIES_START, 0, 0, NULL, "none",
	  "A CD drive that is there from the start, with this ISO file in it; guests poll it. `plim vm cdrom insert` needs none." },
	{ "platform.cdrom_port", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "auto",
	  "A free PCI Express port into which a CD drive is plugged while the guest runs; auto is true on q35, but for Windows." },
	{ "platform.floppy", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "false", "A floppy controller." },
	{ "platform.video", SETTING_ENUM, APPLIES_START, 0, 0, videos, "auto",
	  "Display: none, std (VGA) or virtio; auto is std for Windows and none for guests with a text console." },
	{ "platform.vnc", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "false",
	  "The display's VNC server, for `plim vm display`; it wakes QEMU every 3 s, more often while somebody looks." },
	{ "platform.console", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "true",
	  "A virtio console for `plim vm console`." },
	{ "platform.balloon", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "true",
	  "A memory balloon with free page reporting." },
	{ "platform.rng", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "true", "A virtio source of randomness." },
	{ "platform.pvpanic", SETTING_BOOL, APPLIES_START, 0, 0, NULL, "true",
	  "A device through which the guest's kernel reports a panic." },
};
// clang-format on
const size_t n_settings = G_N_ELEMENTS(settings);

// clang-format off
const Setting host_settings[] = {
	{ "memory.reserve", SETTING_SIZE, APPLIES_NOW, 0, TIB, NULL, "auto",
	  "Memory that the host keeps for itself; auto is a sixteenth of all, 256MiB to 4GiB." },
	{ "memory.overcommit", SETTING_INT, APPLIES_NOW, 50, 1000, NULL, "100",
	  "How much of the rest guests may be promised altogether, in percent; above 100 some of it is promised twice." },
	{ "ksm", SETTING_ENUM, APPLIES_NOW, 0, 0, ksm_modes, "auto",
	  "Merging of equal pages by the kernel, of vms with memory.merge: on, off (what was merged is parted), or auto: as it is." },
	{ "idle.wakeups", SETTING_INT, APPLIES_NOW, 0, 1000000, NULL, "100",
	  "How often an idle guest may wake its QEMU in a second before an event tells of it; 0: as often as it likes." },
	{ "idle.cpu", SETTING_INT, APPLIES_NOW, 0, 100, NULL, "3",
	  "How much of a CPU QEMU may take beside an idle guest's own, in percent; 0: any." },
	{ "tools.version", SETTING_TEXT, APPLIES_NOW, 0, 0, NULL, "auto",
	  "The version that the agent of a guest should have at least (7.2: any 7.2); auto is the version of the host's QEMU." },
	{ "tools.windows_version", SETTING_TEXT, APPLIES_NOW, 0, 0, NULL, "none",
	  "The same of guests with Windows, whose agents are numbered on their own." },
	{ "evidence.dump", SETTING_ENUM, APPLIES_NOW, 0, 0, dumps, "kdump",
	  "Dump of memory that is kept when a guest's kernel panics: none, kdump (compressed; Windows gets its own format), elf." },
	{ "evidence.quota", SETTING_SIZE, APPLIES_NOW, 0, 64 * TIB, NULL, "20GiB",
	  "How much all kept evidence of the host's guests may take; the oldest goes first." },
	{ "evidence.keep", SETTING_INT, APPLIES_NOW, 1, 1000, NULL, "5", "How many bundles of evidence are kept of one vm." },
	{ "backup.repository", SETTING_PATH, APPLIES_NOW, 0, 0, NULL, "none",
	  "Folder where backups are kept when a request names none." },
	{ "backup.key_file", SETTING_PATH, APPLIES_NOW, 0, 0, NULL, "none",
	  "File with the key that backups of the host's vms are encrypted with, and opened, when a request names none." },
};
// clang-format on
const size_t n_host_settings = G_N_ELEMENTS(host_settings);

/* Of a vm, or of a host: the rules are the same. */
typedef struct Table {
	const Setting *row;
	size_t n;
	const char *all; /* the advice that ends "did you mean" */
} Table;

static const Table vm_table = { settings, G_N_ELEMENTS(settings), "`plim vm settings` lists all settings." };
static const Table host_table = { host_settings, G_N_ELEMENTS(host_settings),
				  "`plim host settings` lists all settings." };

static const Setting *find_in(const Table *t, const char *key)
{
	if (t == &vm_table && g_str_equal(key, "memory"))
		key = "memory.start";
	for (size_t i = 0; i < t->n; i++)
		if (g_str_equal(t->row[i].key, key))
			return &t->row[i];
	return NULL;
}

const Setting *setting_find(const char *key)
{
	return find_in(&vm_table, key);
}

const char *setting_type_name(SettingType type)
{
	static const char *const name[] = {
		[SETTING_BOOL] = "bool",         [SETTING_INT] = "int",   [SETTING_SIZE] = "size",
		[SETTING_DURATION] = "duration", [SETTING_ENUM] = "enum", [SETTING_TEXT] = "text",
		[SETTING_PATH] = "path",
	};

	return name[type];
}

/* Levenshtein's distance, for "did you mean"; keys are short. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64], na = strlen(a), nb = strlen(b);

	if (na >= G_N_ELEMENTS(row) || nb >= G_N_ELEMENTS(row))
		return SIZE_MAX;
	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t up = row[j], change = diagonal + (a[i - 1] != b[j - 1]);

			row[j] = MIN(MIN(up + 1, row[j - 1] + 1), change);
			diagonal = up;
		}
	}
	return row[nb];
}

/* People leave out the first word ("kernel") or stop after it ("memory"). */
static size_t distance_to(const char *typed, const char *key)
{
	const char *dot = strchr(key, '.');
	g_autofree char *first = NULL;

	if (typed[0] != '\0' && g_str_has_prefix(key, typed))
		return 1;
	if (dot == NULL)
		return distance(typed, key);
	first = g_strndup(key, (gsize)(dot - key));
	return MIN(distance(typed, key), MIN(distance(typed, dot + 1), distance(typed, first)));
}

static const Setting *find_or_advise(const Table *t, const char *key, GError **err)
{
	const Setting *s = find_in(t, key), *near = NULL;
	size_t best = MIN(6, 2 + strlen(key) / 2);

	if (s != NULL)
		return s;
	fail(err, ERR_INVALID, "there is no setting '%s'", key);
	for (size_t i = 0; i < t->n; i++) {
		size_t d = distance_to(key, t->row[i].key);

		if (d < best) {
			best = d;
			near = &t->row[i];
		}
	}
	if (near != NULL)
		err_advise(err, "Did you mean %s? %s", near->key, t->all);
	else
		err_advise(err, "%s", t->all);
	return NULL;
}

static bool refuse(const Setting *s, const char *shown, GError **err)
{
	g_autofree char *list = s->values != NULL ? g_strjoinv(", ", (char **)s->values) : NULL;
	g_autofree char *min = NULL, *max = NULL;

	fail(err, ERR_INVALID, "%s can't be '%s'", s->key, shown);
	err_detail(err, "key", json_string(s->key));
	switch (s->type) {
	case SETTING_BOOL:
		return err_advise(err, "Write true or false.");
	case SETTING_INT:
		return err_advise(err, "Write a number between %" PRId64 " and %" PRId64 ".", s->min, s->max);
	case SETTING_SIZE:
		min = print_size((uint64_t)s->min);
		max = print_size((uint64_t)s->max);
		return err_advise(err, "Write a size between %s and %s, like 2GiB.", min, max);
	case SETTING_DURATION:
		min = print_duration((uint64_t)s->min);
		max = print_duration((uint64_t)s->max);
		return err_advise(err, "Write a duration between %s and %s, like 90s.", min, max);
	case SETTING_ENUM:
		return err_advise(err, "Write one of: %s.", list);
	case SETTING_TEXT:
		return err_advise(err, "Write at most 4096 characters without control characters.");
	case SETTING_PATH:
		return err_advise(err, "Write an absolute path on the host.");
	}
	return false;
}

static bool text_ok(const Setting *s, const char *text)
{
	if (strlen(text) > 4096 || (s->type == SETTING_PATH && text[0] != '/'))
		return false;
	for (const char *p = text; *p != '\0'; p++)
		if (g_ascii_iscntrl(*p))
			return false;
	return true;
}

static bool value_ok(const Setting *s, const Json *v)
{
	switch (s->type) {
	case SETTING_BOOL:
		return json_is_boolean(v);
	case SETTING_INT:
	case SETTING_SIZE:
	case SETTING_DURATION:
		return json_is_integer(v) && json_integer_value(v) >= s->min &&
		       json_integer_value(v) <= s->max;
	case SETTING_ENUM:
		return json_is_string(v) && g_strv_contains(s->values, json_string_value(v));
	case SETTING_TEXT:
	case SETTING_PATH:
		/* JSON text may hold a NUL, which would hide what is behind it. */
		return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v) &&
		       text_ok(s, json_string_value(v));
	}
	return false;
}

static Json *check_in(const Table *t, const char *key, const Json *value, GError **err)
{
	const Setting *s = find_or_advise(t, key, err);

	if (s == NULL)
		return NULL;
	if (!value_ok(s, value)) {
		g_autofree char *shown = json_print(value);

		refuse(s, shown, err);
		return NULL;
	}
	return json_deep_copy(value);
}

Json *setting_check(const char *key, const Json *value, GError **err)
{
	return check_in(&vm_table, key, value, err);
}

static Json *json_of_text(const Setting *s, const char *text)
{
	uint64_t n;
	bool b;

	switch (s->type) {
	case SETTING_BOOL:
		return parse_bool(text, &b, NULL) ? json_boolean(b) : NULL;
	case SETTING_INT:
		return parse_uint(text, 0, INT64_MAX, &n, NULL) ? json_integer((json_int_t)n) : NULL;
	case SETTING_SIZE:
		return parse_size(text, &n, NULL) ? json_integer((json_int_t)n) : NULL;
	case SETTING_DURATION:
		return parse_duration(text, &n, NULL) ? json_integer((json_int_t)n) : NULL;
	case SETTING_ENUM:
	case SETTING_TEXT:
	case SETTING_PATH:
		return json_string(text);
	}
	return NULL;
}

Json *setting_parse(const char *key, const char *text, GError **err)
{
	const Setting *s = find_or_advise(&vm_table, key, err);
	_cleanup_json_ Json *v = NULL;

	if (s == NULL)
		return NULL;
	v = json_of_text(s, text);
	if (v == NULL || !value_ok(s, v)) {
		g_autofree char *shown = g_utf8_make_valid(text, -1);

		refuse(s, shown, err);
		return NULL;
	}
	return json_ref(v);
}

static bool check_all(const Table *t, const Json *obj, GError **err)
{
	const char *key;
	Json *v;

	if (!json_is_object(obj))
		return fail_advice(err, ERR_INVALID, "Write {\"vcpus\": 2}.",
				   "settings must be an object of keys and values");
	json_object_foreach((Json *)obj, key, v)
	{
		_cleanup_json_ Json *checked = NULL;

		if (json_is_null(v) && find_or_advise(t, key, err) != NULL)
			continue;
		checked = check_in(t, key, v, err);
		if (checked == NULL)
			return false;
	}
	return true;
}

bool settings_check(const Json *obj, GError **err)
{
	return check_all(&vm_table, obj, err);
}

static bool merge_in(const Table *t, Json *into, const Json *from, GError **err)
{
	const char *key;
	Json *v;

	if (!check_all(t, from, err))
		return false;
	json_object_foreach((Json *)from, key, v)
	{
		const char *own = find_in(t, key)->key;

		if (json_is_null(v))
			json_object_del(into, own);
		else
			json_put(into, own, json_deep_copy(v));
	}
	return true;
}

bool settings_merge(Json *into, const Json *from, GError **err)
{
	return merge_in(&vm_table, into, from, err);
}

bool host_settings_merge(Json *into, const Json *from, GError **err)
{
	return merge_in(&host_table, into, from, err);
}

static Json *effective_in(const Table *t, const Json *stored, const char *key)
{
	const Setting *s = find_in(t, key);
	const Json *set = json_object_get(stored, s->key);
	_cleanup_json_ Json *dflt = NULL;

	if (set != NULL)
		return json_deep_copy(set);
	if (g_str_equal(s->dflt, "auto") || g_str_equal(s->dflt, "none"))
		return NULL;
	dflt = json_of_text(s, s->dflt);
	g_assert(dflt != NULL && value_ok(s, dflt));
	return json_ref(dflt);
}

Json *setting_effective(const Json *stored, const char *key)
{
	return effective_in(&vm_table, stored, key);
}

Json *host_setting_effective(const Json *stored, const char *key)
{
	return effective_in(&host_table, stored, key);
}

char *setting_print(const Setting *s, const Json *value)
{
	switch (s->type) {
	case SETTING_SIZE:
		return print_size((uint64_t)json_integer_value(value));
	case SETTING_DURATION:
		return print_duration((uint64_t)json_integer_value(value));
	case SETTING_BOOL:
	case SETTING_INT:
		return json_print(value);
	case SETTING_ENUM:
	case SETTING_TEXT:
	case SETTING_PATH:
		return g_strdup(json_string_value(value));
	}
	return NULL;
}
