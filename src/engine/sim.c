/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sim.h"
#include "base/fd.h"
#include "base/time.h"

#include <string.h>

#define FILE_MAX (UINT64_C(16) << 20)

struct Sim {
	char *world_path, *orders_path;
	GMutex lock;
	int64_t kill_points; /* passed so far in this process */
};

typedef enum Effect { ADDS, REMOVES, NOTHING } Effect;

/* What a step does to the world; `id` names the argument that identifies the resource. */
static const struct {
	Effect effect;
	const char *resource, *id;
} effects[_STEP_MAX] = {
	[STEP_VM_DIR_MAKE] = { ADDS, "dir", "vm" },
	[STEP_VM_DIR_REMOVE] = { REMOVES, "dir", "vm" },
	[STEP_RUN_DIR_MAKE] = { ADDS, "run", "vm" },
	[STEP_RUN_DIR_REMOVE] = { REMOVES, "run", "vm" },
	[STEP_VOLUME_CREATE] = { ADDS, "volume", "volume" },
	[STEP_VOLUME_CLONE] = { ADDS, "volume", "volume" },
	[STEP_VOLUME_DELETE] = { REMOVES, "volume", "volume" },
	[STEP_VOLUME_GROW] = { NOTHING, NULL, NULL },
	[STEP_DISK_MAKE] = { ADDS, "file", "path" },
	[STEP_DISK_GROW] = { NOTHING, NULL, NULL },
	[STEP_GUEST_GROW] = { NOTHING, NULL, NULL },
	[STEP_CD_EJECT] = { REMOVES, "cd", "vm" },
	[STEP_CD_INSERT] = { ADDS, "cd", "vm" },
	[STEP_SEED_WRITE] = { NOTHING, NULL, NULL }, /* a file in the folder, and so gone with it */
	[STEP_NVRAM_CREATE] = { NOTHING, NULL, NULL },
	[STEP_DISK_CHECK] = { NOTHING, NULL, NULL },
	[STEP_DISK_GRANT] = { ADDS, "grant", "path" },
	[STEP_DISK_REVOKE] = { REMOVES, "grant", "path" },
	[STEP_TPM_START] = { ADDS, "tpm", "vm" },
	[STEP_TPM_STOP] = { REMOVES, "tpm", "vm" },
	[STEP_NET_TAP_ADD] = { ADDS, "tap", "tap" },
	[STEP_NET_TAP_DEL] = { REMOVES, "tap", "tap" },
	[STEP_QEMU_SPAWN] = { ADDS, "qemu", "vm" },
	[STEP_CPU_CHECK] = { NOTHING, NULL, NULL },
	[STEP_QEMU_CONT] = { NOTHING, NULL, NULL },
	[STEP_GUEST_SHUTDOWN] = { NOTHING, NULL, NULL },
	[STEP_QEMU_QUIT] = { REMOVES, "qemu", "vm" },
	[STEP_QEMU_PAUSE] = { NOTHING, NULL, NULL },
	[STEP_QEMU_RESUME] = { NOTHING, NULL, NULL },
	[STEP_QEMU_RESET] = { NOTHING, NULL, NULL },
	[STEP_GUEST_REBOOT] = { NOTHING, NULL, NULL },
	[STEP_MIGRATE_PREPARE] = { ADDS, "reception", "vm" },
	[STEP_MIGRATE_SEND] = { NOTHING, NULL, NULL },
	[STEP_MIGRATE_LEAVE] = { REMOVES, "reception", "vm" },
	[STEP_RECEIVE_OPEN] = { NOTHING, NULL, NULL },
	[STEP_RECEIVE_GUEST] = { NOTHING, NULL, NULL },
	[STEP_STATE_SAVE] = { ADDS, "state", "vm" },
	[STEP_STATE_LOAD] = { NOTHING, NULL, NULL },
	[STEP_CLOCK_RESTORE] = { NOTHING, NULL, NULL },
	[STEP_STATE_RUN] = { REMOVES, "state", "vm" },
	[STEP_STATE_REMOVE] = { REMOVES, "state", "vm" },
	[STEP_EVIDENCE_TAKE] = { NOTHING, NULL, NULL },
	[STEP_BACKUP_PREPARE] = { ADDS, "backup-begun", "vm" },
	[STEP_BACKUP_COPY] = { ADDS, "bitmap", "vm" },
	[STEP_BACKUP_SEAL] = { ADDS, "backup", "vm" },
	[STEP_BACKUP_SETTLE] = { NOTHING, NULL, NULL },
	[STEP_BACKUP_VERIFY] = { NOTHING, NULL, NULL },
	[STEP_BACKUP_SERVE] = { ADDS, "server", "backup" },
	[STEP_BACKUP_OVERLAY] = { NOTHING, NULL, NULL },
	[STEP_BACKUP_BOOT] = { NOTHING, NULL, NULL },
	[STEP_BACKUP_UNSERVE] = { REMOVES, "server", "backup" },
	[STEP_BACKUP_DELETE] = { REMOVES, "backup", "vm" },
	[STEP_VOLUME_RESTORE] = { ADDS, "restored", "path" },
	[STEP_VOLUME_SWAP] = { REMOVES, "restored", "path" },
	[STEP_IMAGE_FETCH] = { ADDS, "fetched", "image" },
	[STEP_IMAGE_INSPECT] = { NOTHING, NULL, NULL },
	[STEP_IMAGE_CONVERT] = { ADDS, "converted", "image" },
	[STEP_IMAGE_PUBLISH] = { ADDS, "image", "image" },
	[STEP_IMAGE_VERIFY] = { NOTHING, NULL, NULL },
	[STEP_IMAGE_REMOVE] = { REMOVES, "image", "image" },
};

/* What else goes with a step: partial files when the whole comes, what was plugged into a QEMU that ends. */
static const struct {
	StepKind kind;
	const char *resource;
} swept[] = {
	{ STEP_BACKUP_SEAL, "backup-begun" },
	{ STEP_IMAGE_PUBLISH, "fetched" },
	{ STEP_IMAGE_PUBLISH, "converted" },
	{ STEP_QEMU_QUIT, "cd" },
};

Sim *sim_open(const char *world_path, const char *orders_path)
{
	Sim *s = g_new0(Sim, 1);

	s->world_path = g_strdup(world_path);
	s->orders_path = g_strdup(orders_path);
	g_mutex_init(&s->lock);
	return s;
}

Sim *sim_close(Sim *s)
{
	if (s != NULL) {
		g_free(s->world_path);
		g_free(s->orders_path);
		g_mutex_clear(&s->lock);
		g_free(s);
	}
	return NULL;
}

/* An absent or half-made file is an empty object: the world begins empty, orders are optional. */
static Json *read_object(const char *path)
{
	size_t len;
	g_autofree char *text = file_read(path, FILE_MAX, &len, NULL);
	Json *j = text != NULL ? json_parse(text, len, NULL) : NULL;

	return j != NULL ? j : json_object();
}

static void kill_point(Sim *s, const Json *orders)
{
	if (++s->kill_points == json_int(orders, "kill_at", 0))
		_exit(9);
}

static char *resource_name(const char *resource, const char *id)
{
	return g_strconcat(resource, ":", id, NULL);
}

static bool change_world(Sim *s, StepKind kind, bool add, const char *id, GError **err)
{
	_cleanup_json_ Json *world = read_object(s->world_path);
	g_autofree char *name = resource_name(effects[kind].resource, id), *text = NULL;

	if (add)
		json_put_bool(world, name, true);
	else
		json_object_del(world, name);
	for (size_t i = 0; i < G_N_ELEMENTS(swept); i++)
		if (swept[i].kind == kind) {
			g_autofree char *more = resource_name(swept[i].resource, id);

			json_object_del(world, more);
		}
	text = json_print(world);
	return file_write_atomic(s->world_path, text, strlen(text), 0600, err);
}

static bool ordered_failure(const Json *orders, const char *when, StepKind kind, GError **err)
{
	const char *message = json_str(json_obj(orders, when), step_name(kind));

	return message == NULL ? false : !fail(err, ERR_QEMU, "%s", message);
}

static bool tell_delayed(const Sim *s, StepKind kind, GError **err)
{
	g_autofree char *path = g_strconcat(s->orders_path, ".delayed", NULL);

	return file_write_atomic(path, step_name(kind), strlen(step_name(kind)), 0600, err);
}

/* Sleeps in small turns, as a real step waits with an eye on cancellation. */
static bool wait_as_ordered(StepContext *ctx, const Json *orders, StepKind kind, GError **err)
{
	uint64_t delay = json_uint(json_obj(orders, "delay_ms"), step_name(kind), 0) * 1000;
	uint64_t until = time_monotonic() + delay;

	if (delay > 0 && !tell_delayed(step_engine(ctx), kind, err))
		return false;
	while (time_monotonic() < until) {
		if (step_cancelled(ctx))
			return fail(err, ERR_CANCELLED, "the operation was cancelled");
		g_usleep(2000);
	}
	return true;
}

static bool take_effect(StepContext *ctx, StepKind kind, bool add, const Json *args, GError **err)
{
	Sim *s = step_engine(ctx);
	_cleanup_json_ Json *orders = read_object(s->orders_path);
	const char *id = effects[kind].id != NULL ? json_str(args, effects[kind].id) : "";
	bool ok = true;

	if (id == NULL)
		return fail(err, ERR_INTERNAL, "%s lacks its argument '%s'", step_name(kind),
			    effects[kind].id);
	g_mutex_lock(&s->lock);
	kill_point(s, orders);
	if (effects[kind].effect != NOTHING)
		ok = change_world(s, kind, add, id, err);
	kill_point(s, orders);
	g_mutex_unlock(&s->lock);
	return ok;
}

static bool run(StepContext *ctx, StepKind kind, const Json *args, GError **err)
{
	Sim *s = step_engine(ctx);
	_cleanup_json_ Json *orders = read_object(s->orders_path);

	if (ordered_failure(orders, "fail", kind, err) || !wait_as_ordered(ctx, orders, kind, err) ||
	    !take_effect(ctx, kind, effects[kind].effect == ADDS, args, err))
		return false;
	if (kind == STEP_QEMU_SPAWN) {
		g_autofree char *now = time_stamp();

		step_fact(ctx, "started_at", json_string(now));
	}
	return !ordered_failure(orders, "fail_after", kind, err);
}

static bool undo(StepContext *ctx, StepKind kind, const Json *args, GError **err)
{
	return take_effect(ctx, kind, effects[kind].effect != ADDS, args, err);
}

/* One function a step, because a step does not know its kind. */
#define X(name, undoes, no_return, lasting, told, stage)                                                     \
	static bool run_##name(StepContext *ctx, const Json *args, GError **err)                             \
	{                                                                                                    \
		return run(ctx, STEP_##name, args, err);                                                     \
	}                                                                                                    \
	G_GNUC_UNUSED static bool undo_##name(StepContext *ctx, const Json *args, GError **err)              \
	{                                                                                                    \
		return undo(ctx, STEP_##name, args, err);                                                    \
	}
STEP_TABLE(X)
#undef X

const struct step_impl sim_steps[_STEP_MAX] = {
#define X(name, undoes, no_return, lasting, told, stage)                                                     \
	[STEP_##name] = { run_##name, undoes ? undo_##name : NULL },
	STEP_TABLE(X)
#undef X
};

HostFacts *sim_facts(void)
{
	HostFacts *h = host_facts_new();

	h->accel[ACCEL_TCG].works = true;
	h->accel[ACCEL_KVM].reason = g_strdup("simulated host");
	h->qemu = g_strdup("/usr/bin/qemu-system-x86_64");
	h->qemu_version = g_strdup("7.2.0");
	host_facts_add_machine(h, "pc-i440fx-7.2", "pc");
	host_facts_add_machine(h, "pc-q35-7.2", "q35");
	host_facts_add_machine(h, "microvm", NULL);
	h->cpus = 4;
	h->cpu_vendor = g_strdup("AuthenticAMD");
	h->cpu_model = g_strdup("simulated processor");
	h->memory = UINT64_C(16) << 30;
	h->uefi = (HostFirmware){ g_strdup("/usr/share/OVMF/OVMF_CODE_4M.fd"),
				  g_strdup("/usr/share/OVMF/OVMF_VARS_4M.fd") };
	h->uefi_secure = (HostFirmware){ g_strdup("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"),
					 g_strdup("/usr/share/OVMF/OVMF_VARS_4M.ms.fd") };
	h->swtpm = g_strdup("/usr/bin/swtpm");
	h->direct_io = true;
	return h;
}

HostFacts *sim_probe(Sim *s)
{
	_cleanup_json_ Json *orders = read_object(s->orders_path);
	const char *reason = json_str(orders, "no_accel");
	HostFacts *h = sim_facts();

	if (json_obj(json_obj(orders, "cpu"), "kvm") != NULL) {
		h->accel[ACCEL_KVM].works = true;
		g_clear_pointer(&h->accel[ACCEL_KVM].reason, g_free);
	}
	if (reason != NULL) {
		h->accel[ACCEL_TCG].works = false;
		h->accel[ACCEL_TCG].reason = g_strdup(reason);
	}
	return h;
}

/* What QEMU 7.2 emulates. */
#define SIM_FEATURES                                                                                         \
	"fpu,de,pse,tsc,msr,pae,mce,cx8,apic,sep,mtrr,pge,mca,cmov,pat,pse36,clflush,acpi,mmx,fxsr,sse,"     \
	"sse2,ss,pni,pclmulqdq,ssse3,fma,cx16,sse4.1,sse4.2,movbe,popcnt,aes,xsave,avx,f16c,rdrand,"         \
	"hypervisor,syscall,nx,mmxext,pdpe1gb,rdtscp,lm,3dnowext,3dnow,lahf-lm,svm,cr8legacy,abm,sse4a,"     \
	"npt,fsgsbase,bmi1,avx2,smep,bmi2,erms,adx,smap,clflushopt,clwb,umip,pku,vaes,xsaveopt,xgetbv1,arat"

static uint32_t ordered(const Json *o, const char *key, uint32_t usual)
{
	return (uint32_t)MIN(json_uint(o, key, usual), UINT32_MAX);
}

void sim_cpu(Sim *s, Accel accel, CpuFound *ret)
{
	_cleanup_json_ Json *orders = read_object(s->orders_path);
	const Json *o = json_obj(json_obj(orders, "cpu"), accel_name(accel));
	const char *vendor = json_str(o, "vendor");
	struct featureset *m = &ret->max;
	struct cpu_bits with = { 0 }, without = { 0 };
	bool ok = cpu_bits_parse_names(SIM_FEATURES, &m->has, NULL);

	g_assert(ok);
	ret->dropped = json_array();
	ret->reason = g_strdup(json_str(o, "fail"));
	ret->known = ret->reason == NULL;
	cpu_bits_of_json(json_arr(o, "with"), &with, NULL);
	cpu_bits_of_json(json_arr(o, "without"), &without, NULL);
	cpu_bits_or(&m->has, &m->has, &with);
	g_strlcpy(m->vendor, vendor != NULL ? vendor : "AuthenticAMD", sizeof(m->vendor));
	m->family = ordered(o, "family", 15);
	m->model = ordered(o, "model", 107);
	m->stepping = ordered(o, "stepping", 1);
	m->level = ordered(o, "level", 0xd);
	m->xlevel = ordered(o, "xlevel", 0x8000000a);
	m->phys_bits = ordered(o, "phys_bits", 40);
	featureset_remove(m, &without, CLOSE_HARD);
	featureset_make_max(m, NULL);
}

static gint compare(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *sim_print(Sim *s)
{
	_cleanup_json_ Json *world = read_object(s->world_path);
	g_autoptr(GPtrArray) names = g_ptr_array_new();
	GString *text = g_string_new(NULL);
	const char *key;
	Json *v;

	json_object_foreach(world, key, v) g_ptr_array_add(names, (gpointer)key);
	g_ptr_array_sort(names, compare);
	for (guint i = 0; i < names->len; i++)
		g_string_append_printf(text, "%s\n", (const char *)names->pdata[i]);
	return g_string_free(text, FALSE);
}
