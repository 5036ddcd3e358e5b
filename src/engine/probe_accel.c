/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which accelerators work: the payload guest burns instructions under each and
 * says how many a second it saw. TCG goes first: it is the measure for KVM.
 */
#include "base/fd.h"
#include "base/time.h"
#include "core/host/payload_report.h"
#include "engine/as_user.h"
#include "engine/payload_run.h"
#include "engine/probe-impl.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

/* More on a slow or busy host: as many times what the run under TCG took. */
#define KVM_TIMEOUT UINT64_C(4000000)
#define KVM_SLOWNESS 5
/* It takes a quarter of a second; only a host that is emulated or very busy takes long. */
#define TCG_TIMEOUT UINT64_C(60000000)
/*
 * Hardware runs a loop at ten times and more the rate of TCG, a /dev/kvm that
 * emulates at a hundredth of it. A quarter leaves room for noise on both sides.
 */
#define TCG_SHARE 4
/* The same where TCG could not be measured: no emulator of single instructions comes near. */
#define RATE_MIN UINT64_C(20000000)

/*
 * Two loops of two instructions a round: the short one tells the rate even
 * where the long one does not end in time. xsave=off, because a KVM that
 * emulates does not know XGETBV and would kill the guest.
 */
#define CMDLINE "xsave=off job=burn:10000,burn:1000000,poweroff"

/* In the order they are tried: some hosts' KVM refuses to set what `host` promises. */
static const char *const kvm_cpus[] = { "host", "host,-arch-capabilities" };

/* One run of the payload. */
typedef struct Trial {
	uint64_t rate; /* instructions a second; 0 when it did not come so far */
	bool entered;  /* guest code ran and told so */
	bool late;     /* ended by us */
	char *why;     /* what QEMU or the bound said; NULL when it ended as it should */
} Trial;

static void trial_clear(Trial *t)
{
	g_free(t->why);
	*t = (Trial){ 0 };
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Trial, trial_clear)

/* What the whole search knows. */
typedef struct Search {
	Probe *p;
	char *payload; /* the copy that QEMU's user can read */
	uint64_t tcg_rate, tcg_took;
} Search;

/* The fastest burn: noise only slows down. */
static void take_report(Trial *t, const PayloadRun *r)
{
	t->entered = r->report != NULL && r->report->ready;
	for (size_t i = 0; r->report != NULL && i < r->report->n_burn; i++)
		t->rate = MAX(t->rate, payload_burn_rate(&r->report->burn[i]));
}

static void try_accel(const Search *s, Accel accel, const char *cpu, uint64_t timeout, Trial *ret)
{
	const struct payload_try how = {
		.payload = s->payload, .accel = accel, .cpu = cpu, .cmdline = CMDLINE, .timeout = timeout
	};
	g_auto(PayloadRun) r = { 0 };

	payload_run(s->p, &how, &r);
	take_report(ret, &r);
	ret->late = r.late;
	ret->why = g_steal_pointer(&r.why);
}

static const char *why_of(const Trial *t)
{
	return t->why != NULL ? t->why : "the guest said nothing";
}

static void conclude(AccelFact *f, char *take_reason)
{
	g_free(f->reason);
	f->works = take_reason == NULL;
	f->reason = take_reason;
}

static void search_tcg(Search *s)
{
	g_auto(Trial) t = { 0 };
	uint64_t begun = time_monotonic();

	try_accel(s, ACCEL_TCG, "max", TCG_TIMEOUT, &t);
	s->tcg_took = time_monotonic() - begun;
	s->tcg_rate = t.rate;
	conclude(&s->p->facts->accel[ACCEL_TCG],
		 t.rate > 0 ? NULL : g_strdup_printf("no guest code came through: %s", why_of(&t)));
}

/* "2.1" or "302": millions. Caller frees. */
static char *millions(uint64_t rate)
{
	double m = (double)rate / 1e6;

	return g_strdup_printf(m < 10 ? "%.1f" : "%.0f", m);
}

static char *judge_kvm(const Search *s, const Trial *t)
{
	g_autofree char *rate = millions(t->rate), *tcg = millions(s->tcg_rate);
	uint64_t needed = s->tcg_rate > 0 ? s->tcg_rate / TCG_SHARE : RATE_MIN;

	if (!t->entered)
		return g_strdup_printf("/dev/kvm opens, but no guest code came through: %s", why_of(t));
	if (t->rate == 0)
		return g_strdup(
		    "/dev/kvm opens, but the guest did not get through 20000 instructions in time");
	if (t->rate < needed && s->tcg_rate > 0)
		return g_strdup_printf(
		    "/dev/kvm opens, but only emulates: %s million instructions/s; TCG does %s", rate, tcg);
	if (t->rate < needed)
		return g_strdup_printf("/dev/kvm opens, but only emulates: %s million instructions/s", rate);
	return NULL;
}

static void search_kvm(Search *s)
{
	uint64_t end = time_monotonic() + KVM_TIMEOUT + KVM_SLOWNESS * s->tcg_took, now;
	char *reason = NULL;

	for (size_t i = 0; i < G_N_ELEMENTS(kvm_cpus) && (now = time_monotonic()) < end; i++) {
		g_auto(Trial) t = { 0 };

		try_accel(s, ACCEL_KVM, kvm_cpus[i], end - now, &t);
		g_free(reason);
		reason = judge_kvm(s, &t);
		s->p->unsure = t.late && !t.entered;
		if (t.entered)
			break;
	}
	conclude(&s->p->facts->accel[ACCEL_KVM], reason);
}

/* NULL when QEMU's user opens /dev/kvm. Caller frees. */
static char *kvm_obstacle(const Probe *p)
{
	static const char path[] = "/dev/kvm";
	int r = p->user != NULL ? as_user_access(p->user, path, R_OK | W_OK)
				: (access(path, R_OK | W_OK) < 0 ? -errno : 0);

	if (r == -ENOENT)
		return g_strdup("there is no /dev/kvm: virtualization is off in the host's firmware, or the "
				"kernel's module kvm_intel or kvm_amd is not loaded");
	if (r == -EACCES && p->user != NULL)
		return g_strdup_printf("permission denied: the user %s may not open /dev/kvm; give it to the "
				       "group kvm (`chgrp kvm /dev/kvm; chmod 660 /dev/kvm`)",
				       p->facts->run_as);
	if (r == -EACCES)
		return g_strdup(
		    "permission denied: the user of the daemon may not open /dev/kvm; put it into "
		    "the group kvm");
	return r < 0 ? g_strdup_printf("/dev/kvm does not open: %s", g_strerror(-r)) : NULL;
}

/*
 * What the result depends on, as one line of text: kernel, QEMU, payload,
 * /dev/kvm and the rights to it, user, processor, and how it was tried.
 */
static char *circumstances(const Probe *p, const char *payload, size_t len, const char *obstacle)
{
	g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)payload, len),
			*qemu = probe_qemu_file(p);
	struct stat kvm = { 0 };
	struct utsname u = { 0 };

	uname(&u);
	if (stat("/dev/kvm", &kvm) < 0)
		kvm = (struct stat){ 0 };
	return g_strdup_printf("%s %s|%s|%s|kvm %u:%u|%s|%s|%s|%s", u.release, u.version, qemu, sum,
			       major(kvm.st_rdev), minor(kvm.st_rdev),
			       p->facts->run_as != NULL ? p->facts->run_as : "",
			       p->facts->cpu_model != NULL ? p->facts->cpu_model : "", CMDLINE,
			       obstacle != NULL ? obstacle : "");
}

static bool recall(Probe *p, const char *when)
{
	g_autoptr(StoreItem) item = store_get(p->local, PROBE_KEY, NULL);
	_cleanup_json_ Json *j = item != NULL ? json_parse(item->value, strlen(item->value), NULL) : NULL;

	if (p->fresh || g_strcmp0(json_str(j, "when"), when) != 0)
		return false;
	for (Accel a = 0; a < _ACCEL_MAX; a++) {
		const Json *f = json_obj(j, accel_name(a));
		const char *reason = json_str(f, "reason");

		if (f == NULL || (reason == NULL && !json_bool(f, "works", false)))
			return false;
		conclude(&p->facts->accel[a], g_strdup(reason));
	}
	return true;
}

/* It can be found out again: neither a power cut nor a full disk is worth a failure. */
static void keep(const Probe *p, const char *when)
{
	_cleanup_json_ Json *j = json_object();
	g_autofree char *text = NULL;
	StoreTx *tx = store_tx_new();

	json_put_str(j, "when", when);
	for (Accel a = 0; a < _ACCEL_MAX; a++) {
		Json *f = json_object();

		json_put_bool(f, "works", p->facts->accel[a].works);
		json_put_str(f, "reason", p->facts->accel[a].reason);
		json_put(j, accel_name(a), f);
	}
	text = json_print(j);
	store_tx_set(tx, PROBE_KEY, STORE_ANY, text);
	store_commit(p->local, tx, STORE_RELAXED, NULL, NULL);
}

/* `obstacle` is what keeps KVM from being tried, or NULL. */
static bool search(Probe *p, const char *payload, size_t len, const char *obstacle, GError **err)
{
	g_autofree char *path = payload_place(p->folders, payload, len, err);
	Search s = { .p = p, .payload = path };

	if (path == NULL)
		return false;
	search_tcg(&s);
	if (obstacle != NULL)
		conclude(&p->facts->accel[ACCEL_KVM], g_strdup(obstacle));
	else
		search_kvm(&s);
	unlink(path);
	return true;
}

static bool recall_or_search(Probe *p, GError **err)
{
	size_t len;
	g_autofree char *payload = payload_read(&len, err), *obstacle = kvm_obstacle(p), *when = NULL;

	if (payload == NULL)
		return false;
	when = circumstances(p, payload, len, obstacle);
	if (recall(p, when))
		return true;
	if (!search(p, payload, len, obstacle, err))
		return false;
	/* Where not even TCG came through, or KVM in time, the host may have been too busy to tell. */
	if (p->facts->accel[ACCEL_TCG].works && !p->unsure)
		keep(p, when);
	return true;
}

void probe_accel(Probe *p)
{
	g_autoptr(GError) e = NULL;

	if (recall_or_search(p, &e))
		return;
	for (Accel a = 0; a < _ACCEL_MAX; a++)
		conclude(&p->facts->accel[a], g_strdup_printf("it could not be tried: %s", e->message));
}
