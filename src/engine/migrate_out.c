/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/migrate_out.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/migrate_link.h"
#include "engine/migrate_mirror.h"
#include "engine/vm_ops.h"
#include "engine/vmm_events.h"

#include <string.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000)
/* How long an event is waited for before cancellation is looked at. */
#define TURN (SECOND / 20)
/* Between two looks at QEMU's statistics: at the end of a round soon, else now and then. */
#define SAMPLE_SOON (SECOND / 50)
#define SAMPLE_LATE (SECOND / 4)
/* At the end of a round QEMU may stop the guest, and answers nothing while it saves what is left. */
#define SAMPLE_AFTER_ROUND (SECOND / 100)
#define DISK_SAMPLE (SECOND / 2)
/* QEMU's own work between two states, without any memory to send. */
#define STEP_TIMEOUT (60 * SECOND)
#define REVERT_TIMEOUT (30 * SECOND)
#define REVERT_TURN 10000
/* Of all progress, what copying disks is worth when there are some. */
#define DISK_SHARE 50

struct MigrateOut {
	Vmm *vmm;
	const struct migrate_out_spec *spec;
	VmmEvents *events;
	uint64_t began_at, memory_at, sampled_at; /* monotonic */
	char *status;                             /* of QEMU's last MIGRATION event, or NULL */
	uint64_t round_ended;                     /* when, or 0: not since the last sample */
	unsigned n_ready, n_ended;                /* of the copies of disks */
	bool post_copy;
	struct migrate_memory policy;
	struct migrate_stats stats;
};

MigrateOut *migrate_out_new(Vmm *v, const struct migrate_out_spec *spec)
{
	MigrateOut *m = g_new0(MigrateOut, 1);

	m->vmm = vmm_ref(v);
	m->spec = spec;
	m->events = vmm_events_open(v);
	m->began_at = time_monotonic();
	return m;
}

MigrateOut *migrate_out_free(MigrateOut *m)
{
	if (m != NULL) {
		vmm_events_close(m->events);
		vmm_unref(m->vmm);
		g_free(m->status);
		g_free(m);
	}
	return NULL;
}

static bool has_disks(const MigrateOut *m)
{
	return m->spec->node != NULL && m->spec->node[0] != NULL;
}

static unsigned n_disks(const MigrateOut *m)
{
	return m->spec->node != NULL ? g_strv_length((char **)m->spec->node) : 0;
}

/* ---- what QEMU tells ---- */

static bool is_copy(const VmmEvent *ev)
{
	return g_str_has_prefix(json_str(ev->args, "device"), "mirror-");
}

static bool copy_ended(MigrateOut *m, const VmmEvent *ev, GError **err)
{
	const char *error = json_str(ev->args, "error");

	m->n_ended++;
	if (error == NULL)
		return true;
	fail(err, strstr(error, "No space left") != NULL ? ERR_NO_SPACE : ERR_QEMU,
	     "a disk could not be copied to the other host: %s", error);
	return err_advise(err, "Look at the storage of the other host, and at the network between the two.");
}

/* What does not concern a migration is passed over. */
static bool take_event(MigrateOut *m, const VmmEvent *ev, GError **err)
{
	if (g_str_equal(ev->name, "MIGRATION")) {
		g_free(m->status);
		m->status = g_strdup(json_str(ev->args, "status"));
	} else if (g_str_equal(ev->name, "MIGRATION_PASS")) {
		m->round_ended = ev->at;
	} else if (g_str_equal(ev->name, "STOP")) {
		m->stats.stopped_at = ev->at;
	} else if (g_str_equal(ev->name, "BLOCK_JOB_READY") && is_copy(ev)) {
		m->n_ready++;
	} else if (g_str_equal(ev->name, "BLOCK_JOB_COMPLETED") && is_copy(ev)) {
		return copy_ended(m, ev, err);
	} else if (g_str_equal(ev->name, "BLOCK_JOB_CANCELLED") && is_copy(ev)) {
		return fail(err, ERR_QEMU, "the copy of a disk was cancelled");
	}
	return true;
}

static bool status_is(const MigrateOut *m, const char *status)
{
	return g_strcmp0(m->status, status) == 0;
}

/* The migration itself failed: QEMU knows why, more or less. */
static bool fail_migration(MigrateOut *m, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(m->vmm), "query-migrate", NULL, 0, NULL);
	const char *why = json_str(reply, "error-desc");

	fail(err, ERR_QEMU, "QEMU could not send the guest of '%s': %s", vmm_name(m->vmm),
	     why != NULL ? why : "the other end broke off");
	return err_advise(err,
			  "The guest runs on where it was. The log of its QEMU on the other host says more.");
}

/* One event, or a turn without one. */
static bool turn(MigrateOut *m, GError **err)
{
	g_auto(VmmEvent) ev = { 0 };

	if (m->spec->ended != NULL && m->spec->ended(m->spec->data, err))
		return false;
	if (!vmm_events_next(m->events, m->round_ended != 0 ? SAMPLE_AFTER_ROUND : TURN, &ev, err))
		return false;
	if (ev.name != NULL && !take_event(m, &ev, err))
		return false;
	if (status_is(m, "failed") || status_is(m, "cancelled"))
		return fail_migration(m, err);
	return true;
}

static bool fail_late(const MigrateOut *m, const char *what, GError **err)
{
	return fail(err, ERR_TIMEOUT, "QEMU of '%s' did not come to it in time: %s", vmm_name(m->vmm), what);
}

static void tell(MigrateOut *m, unsigned percent, uint64_t left, const struct migrate_sample *x)
{
	if (m->spec->progress != NULL)
		m->spec->progress(percent, left, x, m->spec->data);
}

/* ---- disks ---- */

static bool begin_disks(MigrateOut *m, GError **err)
{
	for (const char *const *node = m->spec->node; *node != NULL; node++) {
		struct migrate_mirror mirror = { .node = *node,
						 .host = m->spec->host,
						 .port = m->spec->disks,
						 .tls = m->spec->key_dir != NULL,
						 .speed = m->spec->settings.bandwidth };

		if (!migrate_mirror_begin(m->vmm, &mirror, err))
			return false;
	}
	return true;
}

static bool sample_disks(MigrateOut *m, GError **err)
{
	static const struct migrate_sample none;
	uint64_t done, len, now = time_monotonic();

	if (now - m->sampled_at < DISK_SAMPLE)
		return true;
	m->sampled_at = now;
	if (!migrate_mirror_progress(m->vmm, &done, &len, err))
		return false;
	m->stats.disk_bytes = MAX(m->stats.disk_bytes, done);
	tell(m, len > 0 ? (unsigned)((double)done * DISK_SHARE / (double)len) : 0, 0, &none);
	return true;
}

/* From here on whatever the guest writes is on both sides. */
static bool copy_disks(MigrateOut *m, GError **err)
{
	uint64_t len;

	if (!begin_disks(m, err))
		return false;
	while (m->n_ready < n_disks(m))
		if (!turn(m, err) || !sample_disks(m, err))
			return false;
	m->stats.disks = time_monotonic() - m->began_at;
	return migrate_mirror_progress(m->vmm, &m->stats.disk_bytes, &len, err);
}

/* ---- memory ---- */

/* Something must be done here between the guest's stop and the rest. */
static bool pauses(const MigrateOut *m)
{
	return has_disks(m) || m->spec->settings.post_copy;
}

static bool prepare(MigrateOut *m, GError **err)
{
	const struct migrate_settings *s = &m->spec->settings;
	const char *on[6] = { "events" }, *off[5] = { NULL };
	size_t n_on = 1, n_off = 0;
	Json *p = json_object();

	*(s->auto_converge ? &on[n_on++] : &off[n_off++]) = "auto-converge";
	*(pauses(m) ? &on[n_on++] : &off[n_off++]) = "pause-before-switchover";
	*(s->post_copy ? &on[n_on++] : &off[n_off++]) = "return-path";
	*(s->post_copy ? &on[n_on++] : &off[n_off++]) = "postcopy-ram";
	json_put_uint(p, "max-bandwidth", s->bandwidth);
	json_put_uint(p, "downtime-limit", migrate_first_limit(s) / 1000);
	/* Auto-converge is switched on before the start or never: one percent is as good as nothing. */
	json_put_int(p, "cpu-throttle-initial", 1);
	json_put_int(p, "cpu-throttle-increment", 10);
	json_put_int(p, "max-cpu-throttle", 1);
	json_put_str(p, "tls-creds", m->spec->key_dir != NULL ? MIGRATE_KEY_ID : "");
	return migrate_end_plainly(m->vmm, err) && migrate_capabilities(m->vmm, on, off, err) &&
	       migrate_tell(m->vmm, "migrate-set-parameters", p, err);
}

static bool set_parameter(MigrateOut *m, const char *name, uint64_t value, GError **err)
{
	return migrate_tell(m->vmm, "migrate-set-parameters", json_pack("{s:I}", name, (json_int_t)value),
			    err);
}

/* QEMU raises the throttling by itself while it helps nothing, up to what is allowed. */
static bool allow_throttle(MigrateOut *m, unsigned percent, GError **err)
{
	m->stats.throttled = percent;
	log_info("vm %s: its vcpus may be slowed by %u%% to get its memory over", vmm_name(m->vmm), percent);
	return set_parameter(m, "max-cpu-throttle", percent, err);
}

static bool act(MigrateOut *m, const struct migrate_decision *d, GError **err)
{
	switch (d->action) {
	case MIGRATE_WAIT:
	case MIGRATE_GIVE_UP: /* migrate_decide() failed */
		return true;
	case MIGRATE_LIMIT:
		return set_parameter(m, "downtime-limit", d->value / 1000, err);
	case MIGRATE_THROTTLE:
		return allow_throttle(m, (unsigned)d->value, err);
	case MIGRATE_POST_COPY:
		m->post_copy = true;
		m->stats.post_copy = true;
		return migrate_tell(m->vmm, "migrate-start-postcopy", NULL, err);
	}
	g_assert_not_reached();
}

static void read_sample(MigrateOut *m, const Json *reply, struct migrate_sample *x)
{
	const Json *ram = json_obj(reply, "ram"), *mbps = json_object_get(ram, "mbps");

	*x = (struct migrate_sample){
		.at = time_monotonic() - m->memory_at,
		.transferred = json_uint(ram, "transferred", 0),
		.remaining = json_uint(ram, "remaining", 0),
		.total = json_uint(ram, "total", 0),
		.rounds = json_uint(ram, "dirty-sync-count", 0),
		.rate = (uint64_t)(MAX(json_number_value(mbps), 0) * 1e6 / 8),
		.dirty_rate = json_uint(ram, "dirty-pages-rate", 0) * json_uint(ram, "page-size", 0),
		.throttle = (unsigned)json_uint(reply, "cpu-throttle-percentage", 0),
	};
	m->stats.bytes = x->transferred;
	m->stats.memory = x->total;
	m->stats.rounds = x->rounds;
}

static bool sample(MigrateOut *m, struct migrate_sample *x, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(m->vmm), "query-migrate", NULL, 0, err);

	if (reply == NULL)
		return false;
	read_sample(m, reply, x);
	return true;
}

static bool is_due(MigrateOut *m)
{
	uint64_t now = time_monotonic(), age = now - m->sampled_at;

	if (m->round_ended != 0 ? age < SAMPLE_SOON || now - m->round_ended < SAMPLE_AFTER_ROUND
				: age < SAMPLE_LATE)
		return false;
	m->sampled_at = now;
	m->round_ended = 0;
	return true;
}

static bool steer(MigrateOut *m, GError **err)
{
	struct migrate_decision d;
	struct migrate_sample x;

	if (!sample(m, &x, err) || !migrate_decide(&m->spec->settings, &m->policy, &x, &d, err))
		return false;
	tell(m, has_disks(m) ? DISK_SHARE + d.percent * (100 - DISK_SHARE) / 100 : d.percent, d.left, &x);
	return act(m, &d, err);
}

static bool stands(const MigrateOut *m)
{
	return status_is(m, "pre-switchover") || status_is(m, "completed") ||
	       (m->stats.stopped_at != 0 && !pauses(m));
}

static bool send_memory(MigrateOut *m, GError **err)
{
	g_autofree char *uri = migrate_uri(m->spec->host, m->spec->memory);

	if (!prepare(m, err))
		return false;
	m->memory_at = time_monotonic();
	if (!migrate_tell(m->vmm, "migrate", json_pack("{s:s}", "uri", uri), err))
		return false;
	while (!stands(m)) {
		if (!turn(m, err))
			return false;
		if (status_is(m, "active") && m->stats.stopped_at == 0 && is_due(m) && !steer(m, err))
			return false;
	}
	return true;
}

bool migrate_out_send(MigrateOut *m, GError **err)
{
	if (m->spec->key_dir != NULL && !migrate_key_load(m->vmm, m->spec->key_dir, false, err))
		return false;
	return (!has_disks(m) || copy_disks(m, err)) && send_memory(m, err);
}

bool migrate_out_is_post_copy(const MigrateOut *m)
{
	return m->post_copy;
}

/* ---- the switch; the guest stands still ---- */

static bool end_copies(MigrateOut *m, GError **err)
{
	uint64_t until = time_monotonic() + STEP_TIMEOUT;

	for (unsigned i = 0; i < n_disks(m); i++)
		if (!migrate_mirror_finish(m->vmm, m->spec->node[i], err))
			return false;
	while (m->n_ended < n_disks(m))
		if (!turn(m, err))
			return false;
		else if (time_monotonic() > until)
			return fail_late(m, "the end of the copy of its disks", err);
	return true;
}

bool migrate_out_is_confirmed(const MigrateOut *m)
{
	return m->spec->settings.post_copy;
}

bool migrate_out_release(MigrateOut *m, GError **err)
{
	return !status_is(m, "pre-switchover") ||
	       (end_copies(m, err) &&
		migrate_tell(m->vmm, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"), err));
}

bool migrate_out_wait(MigrateOut *m, GError **err)
{
	const char *status = m->post_copy ? "postcopy-active" : "completed";
	uint64_t until = time_monotonic() + STEP_TIMEOUT;

	while (!status_is(m, status) && !status_is(m, "completed"))
		if (!turn(m, err))
			return false;
		else if (time_monotonic() > until)
			return fail_late(m, status, err);
	return true;
}

bool migrate_out_follow(MigrateOut *m, GError **err)
{
	while (!status_is(m, "completed")) {
		struct migrate_sample x;

		if (!turn(m, err))
			return false;
		if (status_is(m, "postcopy-paused"))
			return fail(err, ERR_UNAVAILABLE,
				    "the link broke while the memory of '%s' followed it", vmm_name(m->vmm));
		if (is_due(m) && !sample(m, &x, err))
			return false;
	}
	return true;
}

void migrate_out_stats(MigrateOut *m, struct migrate_stats *ret)
{
	struct migrate_sample x;

	if (m->memory_at != 0)
		sample(m, &x, NULL);
	m->stats.total = time_monotonic() - m->began_at;
	*ret = m->stats;
}

/* ---- back ---- */

bool migrate_out_gave_up(Vmm *v)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), "query-migrate", NULL, 0, NULL);
	const char *status = json_str(reply, "status");

	return g_strcmp0(status, "failed") == 0 || g_strcmp0(status, "cancelled") == 0;
}

static bool is_under_way(const char *status)
{
	static const char *const idle[] = { "none", "cancelled", "failed", "completed", NULL };

	return status != NULL && !g_strv_contains(idle, status);
}

/* QEMU lets a guest go on whose migration was cancelled before it was completed. */
static bool order_cancel(Vmm *v, GError **err)
{
	return migrate_tell(v, "migrate_cancel", NULL, err);
}

/* Shuts its connection. In some states there is none yet, or none any more. */
static bool order_yank(Vmm *v, GError **err G_GNUC_UNUSED)
{
	migrate_tell(v, "yank", json_pack("{s:[{s:s}]}", "instances", "type", "migration"), NULL);
	return true;
}

/*
 * Until it is not under way any more. `order` is given again and again: one that was taken while QEMU still
 * set its connection up may come to nothing. Caller frees ret_status.
 */
static bool end_migration(Vmm *v, bool (*order)(Vmm *v, GError **err), char **ret_status, GError **err)
{
	uint64_t until = time_monotonic() + REVERT_TIMEOUT;

	for (;;) {
		_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), "query-migrate", NULL, 0, err);

		if (reply == NULL)
			return false;
		if (!is_under_way(json_str(reply, "status"))) {
			*ret_status = g_strdup(json_str(reply, "status"));
			return true;
		}
		if (!order(v, err))
			return false;
		if (time_monotonic() > until)
			return fail(err, ERR_TIMEOUT, "QEMU of '%s' does not end its migration", vmm_name(v));
		usleep(REVERT_TURN);
	}
}

/* Switches may have learnt already that it is elsewhere. */
static void announce(Vmm *v)
{
	migrate_tell(v, "announce-self",
		     json_pack("{s:i,s:i,s:i,s:i}", "initial", 50, "max", 550, "rounds", 5, "step", 100),
		     NULL);
}

/* QEMU says that it completed a moment before it lets go. */
static char *settled_status(Vmm *v, GError **err)
{
	uint64_t until = time_monotonic() + REVERT_TIMEOUT;
	char *status = vm_status(v, err);

	while (g_strcmp0(status, "finish-migrate") == 0 && time_monotonic() < until) {
		g_free(status);
		usleep(REVERT_TURN);
		status = vm_status(v, err);
	}
	return status;
}

/*
 * "completed" may be of an earlier migration, which brought the guest here: QEMU says so until there is
 * another. One that was sent stands in a state of its own.
 */
static bool is_sent(Vmm *v, const char *migration)
{
	g_autofree char *status =
	    g_strcmp0(migration, "completed") == 0 ? settled_status(v, NULL) : g_strdup("running");

	return status == NULL || g_str_equal(status, "postmigrate") || g_str_equal(status, "finish-migrate");
}

bool migrate_out_break(Vmm *v, bool *ret_all_sent, GError **err)
{
	g_autofree char *status = NULL;
	g_autoptr(GError) e = NULL;

	*ret_all_sent = true;
	if (end_migration(v, order_yank, &status, &e)) {
		*ret_all_sent = is_sent(v, status);
		return true;
	}
	if (!vmm_alive(v))
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

static bool go_on(Vmm *v, GError **err)
{
	g_autofree char *status = settled_status(v, err);

	if (status == NULL)
		return false;
	if (g_str_equal(status, "running"))
		return true;
	announce(v);
	return vm_resume(v, err);
}

bool migrate_out_revert(Vmm *v, const char *const *node, bool run, GError **err)
{
	g_autofree char *status = NULL;
	bool ok = end_migration(v, order_cancel, &status, err);

	for (; ok && node != NULL && *node != NULL; node++)
		ok = migrate_mirror_drop(v, *node, err);
	migrate_key_unload(v);
	return ok && (!run || go_on(v, err));
}
