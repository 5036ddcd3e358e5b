/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/probe_cpu.h"
#include "base/fd.h"
#include "base/time.h"
#include "engine/cpu_raw.h"
#include "engine/payload_run.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

/* One boot of the payload takes a fifth of a second, on a busy host that is itself emulated a hundred times
 * that. */
#define RUN_TIMEOUT UINT64_C(60000000)
/* All tries together. Each takes away at least one feature; a whole word at once is the rule. */
#define SEARCH_TIMEOUT UINT64_C(300000000)
#define TEXT_MAX (1u << 20)
/* QEMU's TCG has these, and refuses any other number. */
#define TCG_PHYS_BITS 40
/* The guest leaves XSAVE alone: what XCR0 can be is not what is compared. */
#define CMDLINE "xsave=off job=poweroff"

typedef struct Search {
	const Probe *p;
	Accel accel;
	char *payload; /* the copy that QEMU's user can read */
	struct featureset set;
	struct cpu_bits qemu; /* what this QEMU has a name for */
	CpuFound *found;
} Search;

void cpu_found_clear(CpuFound *f)
{
	g_free(f->reason);
	json_unref(f->dropped);
	*f = (CpuFound){ 0 };
}

/* ---- what QEMU believes ---- */

static void take_features(const Json *props, struct cpu_bits *ret_on, struct cpu_bits *ret_known)
{
	const struct feature *f;
	const char *name;
	Json *v;

	json_object_foreach((Json *)props, name, v)
	{
		if (!json_is_boolean(v) || (f = feature_find(name)) == NULL)
			continue;
		cpu_bits_set(ret_known, f->id);
		if (json_is_true(v))
			cpu_bits_set(ret_on, f->id);
	}
}

/* One of the properties is beyond int64, so that all of them come as reals. */
static uint32_t number(const Json *props, const char *name)
{
	return (uint32_t)CLAMP(json_number_value(json_object_get(props, name)), 0, UINT32_MAX);
}

static bool take_model(Search *s, const Json *model, GError **err)
{
	const Json *props = json_obj(model, "props");
	const char *vendor = json_str(props, "vendor");

	if (vendor == NULL || strlen(vendor) != CPU_VENDOR_LENGTH)
		return fail(err, ERR_QEMU, "QEMU did not tell the features of its CPU");
	take_features(props, &s->set.has, &s->qemu);
	memcpy(s->set.vendor, vendor, CPU_VENDOR_LENGTH + 1);
	s->set.family = number(props, "family");
	s->set.model = number(props, "model");
	s->set.stepping = number(props, "stepping");
	s->set.level = number(props, "level");
	s->set.xlevel = number(props, "xlevel");
	return true;
}

static bool ask_qemu(Search *s, GError **err)
{
	g_autofree char *machine = g_strdup_printf("none,accel=%s", accel_name(s->accel)),
			*question =
			    g_strdup_printf("{\"execute\": \"query-cpu-model-expansion\", \"id\": \"cpu\", "
					    "\"arguments\": {\"type\": \"full\", \"model\": {\"name\": "
					    "\"%s\", \"props\": {\"migratable\": true}}}}\n",
					    s->accel == ACCEL_KVM ? "host" : "max");
	g_autoptr(GString) text = g_string_new(NULL);
	g_auto(GStrv) line = NULL;

	if (!probe_ask(s->p, machine, question, text, err))
		return false;
	line = g_strsplit(text->str, "\n", -1);
	for (size_t i = 0; line[i] != NULL; i++) {
		size_t len = strlen(line[i]);
		_cleanup_json_ Json *j = len > 0 ? json_parse_wide(line[i], len, NULL) : NULL;

		if (g_strcmp0(json_str(j, "id"), "cpu") == 0)
			return take_model(s, json_obj(json_obj(j, "return"), "model"), err);
	}
	return fail(err, ERR_QEMU, "QEMU did not tell the features of its CPU");
}

/* ---- taking away ---- */

static void drop(Search *s, const struct cpu_bits *gone, const char *why)
{
	struct cpu_bits before = s->set.has, fell;
	Json *j = json_object();

	featureset_remove(&s->set, gone, CLOSE_HARD);
	cpu_bits_minus(&fell, &before, &s->set.has);
	json_put(j, "features", cpu_bits_names_json(&fell));
	json_put_str(j, "why", why);
	json_array_append_new(s->found->dropped, j);
}

/* "... requested feature: CPUID.07H:EBX.rdseed [bit 18]", "... MSR(10AH).rdctl-no [bit 0]" */
static const struct feature *named_feature(const char *line)
{
	const char *at = strstr(line, "requested feature: "), *end;
	g_autofree char *name = NULL;

	at = at != NULL ? strpbrk(at + strlen("requested feature: "), ":)") : NULL;
	at = at != NULL ? strchr(at, '.') : NULL;
	end = at != NULL ? strstr(at, " [bit") : NULL;
	if (end == NULL)
		return NULL;
	name = g_strndup(at + 1, (gsize)(end - at - 1));
	return feature_find(name);
}

/* What QEMU named on its way out; nothing when it said something else. */
static void refused_features(const char *said, struct cpu_bits *ret)
{
	g_auto(GStrv) line = g_strsplit(said, "\n", -1);
	const struct feature *f;

	for (size_t i = 0; line[i] != NULL; i++)
		if ((f = named_feature(line[i])) != NULL)
			cpu_bits_set(ret, f->id);
	/* Some KVMs offer the register of IA32_ARCH_CAPABILITIES and refuse every value. */
	if (strstr(said, "set MSR 0x10a ") != NULL && (f = feature_find("arch-capabilities")) != NULL)
		cpu_bits_set(ret, f->id);
}

/* False when nothing of the set is among them: another try would be the same one. */
static bool drop_some(Search *s, struct cpu_bits *gone, const char *why)
{
	cpu_bits_and(gone, gone, &s->set.has);
	if (cpu_bits_empty(gone))
		return false;
	drop(s, gone, why);
	return true;
}

/* ---- what guest code sees ---- */

static bool dump_of_report(const struct payload_report *r, struct cpuid_dump *ret, GError **err)
{
	for (size_t i = 0; i < r->n_cpuid; i++) {
		const struct payload_cpuid *c = &r->cpuid[i];
		const struct cpuid_leaf l = { c->leaf, c->subleaf, { c->eax, c->ebx, c->ecx, c->edx } };

		if (!cpuid_add(ret, &l, err))
			return false;
	}
	return true;
}

/* What is not a matter of features, as the guest has it. */
static void take_layout(Search *s, const struct payload_report *r, const struct cpuid_dump *d)
{
	struct featureset seen;

	if (featureset_of_cpuid(d, &seen, NULL))
		memcpy(s->set.xsave, seen.xsave, sizeof(seen.xsave));
	s->set.tsc_khz = s->accel == ACCEL_KVM ? r->tsc_khz : 0;
}

typedef enum Verdict { VERDICT_AGREE, VERDICT_AGAIN, VERDICT_FAIL } Verdict;

static Verdict compare(Search *s, const struct payload_report *r, GError **err)
{
	g_autofree struct cpuid_dump *d = g_new0(struct cpuid_dump, 1);
	g_autoptr(GError) e = NULL;
	struct cpu_bits missing = { 0 };

	if (!dump_of_report(r, d, err))
		return VERDICT_FAIL;
	if (featureset_check_guest(&s->set, d, &e)) {
		take_layout(s, r, d);
		return VERDICT_AGREE;
	}
	if (cpu_bits_of_json(json_arr(err_details(e), "missing"), &missing, NULL) &&
	    drop_some(s, &missing, "guest code does not see it"))
		return VERDICT_AGAIN;
	g_propagate_error(err, g_steal_pointer(&e));
	return VERDICT_FAIL;
}

static Verdict try_set(Search *s, GError **err)
{
	g_autofree char *cpu = featureset_print_qemu(&s->set, &s->qemu, err);
	const struct payload_try how = { .payload = s->payload,
					 .accel = s->accel,
					 .cpu = cpu,
					 .cmdline = CMDLINE,
					 .timeout = RUN_TIMEOUT };
	g_auto(PayloadRun) r = { 0 };
	struct cpu_bits gone = { 0 };

	if (cpu == NULL)
		return VERDICT_FAIL;
	payload_run(s->p, &how, &r);
	if (r.report != NULL && r.report->ready)
		return compare(s, r.report, err);
	refused_features(r.said, &gone);
	if (drop_some(s, &gone, "QEMU refuses to start a vcpu with it"))
		return VERDICT_AGAIN;
	fail(err, ERR_QEMU, "a guest with the features that QEMU names did not run: %s",
	     r.why != NULL ? r.why : "it said nothing");
	return VERDICT_FAIL;
}

static bool search(Search *s, GError **err)
{
	uint64_t end = time_monotonic() + SEARCH_TIMEOUT;
	Verdict v = VERDICT_AGAIN;

	while (v == VERDICT_AGAIN && time_monotonic() < end)
		v = try_set(s, err);
	if (v == VERDICT_AGAIN)
		fail(err, ERR_TIMEOUT, "no set of features that a guest can have was found in time");
	return v == VERDICT_AGREE;
}

/* ---- the host's own CPUs ---- */

static bool kvm_scales_tsc(void)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd >= 0 && ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
}

bool probe_cpu_raw(struct featureset *ret, GError **err)
{
	g_autoptr(GPtrArray) cpus = cpu_raw_read(err);
	struct cpu_bits differ;

	return cpus != NULL && featureset_of_cpus(cpus, ret, &differ, err);
}

/* What only some of the logical CPUs have is nothing that a guest can rely on. */
static bool look_at_cpus(Search *s, GError **err)
{
	g_autoptr(GPtrArray) cpus = cpu_raw_read(err);
	struct featureset raw;
	struct cpu_bits differ;

	if (s->accel == ACCEL_TCG) {
		s->set.phys_bits = TCG_PHYS_BITS;
		return true;
	}
	if (cpus == NULL || !featureset_of_cpus(cpus, &raw, &differ, err))
		return false;
	s->set.phys_bits = raw.phys_bits;
	s->set.tsc_scaling = kvm_scales_tsc();
	drop_some(s, &differ, "only some of the host's CPUs have it");
	return true;
}

/* ---- all of it ---- */

static bool search_from_qemu(Search *s, GError **err)
{
	if (!ask_qemu(s, err) || !look_at_cpus(s, err))
		return false;
	featureset_make_max(&s->set, NULL);
	featureset_cap(&s->set);
	return search(s, err);
}

/* One run; a set that is not quite it any more is searched for anew. */
static bool confirm(Search *s, const struct featureset *known)
{
	guint dropped = (guint)json_array_size(s->found->dropped);

	s->set = *known;
	s->qemu = feature_known;
	if (try_set(s, NULL) == VERDICT_AGREE)
		return true;
	while (json_array_size(s->found->dropped) > dropped)
		json_array_remove(s->found->dropped, dropped);
	s->set = (struct featureset){ 0 };
	s->qemu = (struct cpu_bits){ 0 };
	return false;
}

void probe_cpu(const Probe *p, Accel accel, const struct featureset *known, CpuFound *ret)
{
	Search s = { .p = p, .accel = accel, .found = ret };
	g_autoptr(GError) e = NULL;
	g_autofree char *payload = NULL;
	size_t len;

	*ret = (CpuFound){ .dropped = json_array() };
	payload = payload_read(&len, &e);
	s.payload = payload != NULL ? payload_place(p->folders, payload, len, &e) : NULL;
	if (s.payload != NULL) {
		ret->known = (known != NULL && confirm(&s, known)) || search_from_qemu(&s, &e);
		unlink(s.payload);
	}
	if (ret->known)
		ret->max = s.set;
	else
		ret->reason = g_strdup(e->message);
	g_free(s.payload);
}

/* ---- what it depends on ---- */

/* A file's text without the newline, or "" when there is none. Caller frees. */
static char *text_of(const char *path)
{
	g_autofree char *text = file_read_virtual(path, TEXT_MAX, NULL, NULL);

	return g_utf8_make_valid(text != NULL ? g_strchomp(text) : "", -1);
}

/* Registers change from read to read, or name the CPU that asked: only what a featureset holds counts. */
static char *cpuid_sum(const GPtrArray *cpus)
{
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

	for (guint i = 0; i < cpus->len; i++) {
		struct featureset raw;
		g_autofree char *text = NULL;
		_cleanup_json_ Json *j = NULL;

		if (!featureset_of_cpuid(cpus->pdata[i], &raw, NULL))
			continue;
		raw.tsc_khz = 0;
		j = featureset_to_json(&raw);
		text = json_print(j);
		g_checksum_update(sum, (const guchar *)text, (gssize)strlen(text));
	}
	return g_strdup(g_checksum_get_string(sum));
}

static void put_firmware(Json *j)
{
	g_autofree char *version = text_of("/sys/class/dmi/id/bios_version"),
			*date = text_of("/sys/class/dmi/id/bios_date"),
			*firmware = g_strdup_printf("%s %s", version, date);

	json_put_str(j, "firmware", g_strstrip(firmware));
}

/* The kernel's command line may hold what is nobody's business. */
static void put_kernel(Json *j)
{
	g_autofree char *line = text_of("/proc/cmdline"),
			*sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, line, -1), *text = NULL;
	struct utsname u = { 0 };

	uname(&u);
	text = g_strdup_printf("%s %s", u.release, u.version);
	json_put_str(j, "kernel", text);
	json_put_str(j, "kernel_command_line", sum);
}

Json *probe_cpu_digest(const Probe *p, GError **err)
{
	g_autoptr(GPtrArray) cpus = cpu_raw_read(err);
	g_autofree char *payload = NULL, *sum = NULL, *cpuid = NULL, *qemu = NULL,
			*microcode = text_of("/sys/devices/system/cpu/cpu0/microcode/version");
	size_t len;
	Json *j;

	if (cpus == NULL || (payload = payload_read(&len, err)) == NULL)
		return NULL;
	sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)payload, len);
	cpuid = cpuid_sum(cpus);
	qemu = probe_qemu_file(p);
	j = json_object();
	json_put_str(j, "processor", p->facts->cpu_model);
	json_put_int(j, "cpus", cpus->len);
	json_put_str(j, "cpuid", cpuid);
	json_put_str(j, "microcode", microcode);
	put_firmware(j);
	put_kernel(j);
	json_put_str(j, "qemu", qemu);
	json_put_str(j, "payload", sum);
	return j;
}
