/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/guest_grow.h"
#include "base/time.h"
#include "core/guest/disk_layout.h"
#include "engine/agent_ops.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
/* After a restart of the daemon it connects anew. */
#define OPEN_TIMEOUT (10 * SECOND)
#define LOOK_TIMEOUT (60 * SECOND)
#define GROW_TIMEOUT (600 * SECOND)
/* A virtio disk tells its driver at once; but while it boots a guest may not know its disks by their numbers.
 */
#define NOTICE_TIMEOUT (60 * SECOND)
#define PAUSE (SECOND / 2)
/* Of a command's words, for people. */
#define OUTPUT_MAX 300

typedef struct Growth {
	Agent *agent;
	const char *serial;
	uint64_t size;
	bool (*ended)(void *data);
	void *data;
	Json *report, *steps; /* steps: in the report */
} Growth;

static char *text_of(GBytes *bytes)
{
	gsize len;
	const char *data = g_bytes_get_data(bytes, &len);

	return data != NULL ? g_utf8_make_valid(data, (gssize)len) : g_strdup("");
}

/* What it came to, its last line; of one that failed all that it said. Caller frees. */
static char *words_of(const AgentExecResult *r)
{
	g_autofree char *out = text_of(r->out), *errors = text_of(r->errors), *all = NULL;
	const char *last;

	if (r->has_code && r->code == 0) {
		last = strrchr(g_strstrip(out), '\n');
		return g_strdup(last != NULL ? last + 1 : out);
	}
	all = g_strstrip(g_strconcat(out, errors, NULL));
	return g_utf8_substring(all, 0, MIN(g_utf8_strlen(all, -1), OUTPUT_MAX));
}

static bool run(Growth *g, const char *const *words, uint64_t timeout, AgentExecResult *ret, GError **err)
{
	const struct agent_exec e = {
		.path = words[0], .args = words + 1, .ended = g->ended, .data = g->data
	};

	if (agent_exec(g->agent, &e, timeout, ret, err))
		return true;
	g_prefix_error(err, "the guest can't run %s: ", words[0]);
	if (err_advice(*err) == NULL)
		err_advise(err, "Install %s in the guest, or grow the file system there by hand.", words[0]);
	return false;
}

/* What a command prints as JSON. New reference. */
static Json *ask(Growth *g, const char *const *words, GError **err)
{
	g_auto(AgentExecResult) r = { 0 };
	gsize len;
	const char *data;
	Json *j;

	if (!run(g, words, LOOK_TIMEOUT, &r, err))
		return NULL;
	data = g_bytes_get_data(r.out, &len);
	j = r.has_code && r.code == 0 && data != NULL ? json_parse(data, len, NULL) : NULL;
	if (j == NULL) {
		g_autofree char *said = words_of(&r);

		fail(err, ERR_AGENT, "%s in the guest gave no answer: %s", words[0], said);
	}
	return j;
}

/* A command that changes something: it is told, whatever becomes of it. */
static bool change(Growth *g, const char *const *words, GError **err)
{
	g_auto(AgentExecResult) r = { 0 };
	g_autofree char *command = g_strjoinv(" ", (char **)words), *said = NULL;
	Json *step;

	if (!run(g, words, GROW_TIMEOUT, &r, err))
		return false;
	said = words_of(&r);
	step = json_object();
	json_put_str(step, "command", command);
	json_put(step, "exit", r.has_code ? json_integer(r.code) : json_null());
	json_put_str(step, "output", said);
	json_array_append_new(g->steps, step);
	/* growpart ends with 1 when the partition fills the disk already. */
	if ((r.has_code && r.code == 0) || g_str_has_prefix(said, "NOCHANGE"))
		return true;
	return fail(err, ERR_AGENT, "%s failed in the guest: %s", command, said);
}

/* lsblk has it from udev, which lags behind; of what is mounted the kernel knows. */
static bool learn_fs(Growth *g, struct guest_disk *d, GError **err)
{
	const char *const findmnt[] = { "findmnt", "-J", "-o", "FSTYPE", "--mountpoint", d->mount, NULL };
	_cleanup_json_ Json *j = NULL;

	if (d->fs != NULL || d->mount == NULL)
		return true;
	j = ask(g, findmnt, err);
	if (j != NULL)
		d->fs = g_strdup(json_str(json_array_get(json_arr(j, "filesystems"), 0), "fstype"));
	return j != NULL;
}

static bool look(Growth *g, const char *part, struct guest_disk *ret, GError **err)
{
	static const char *const lsblk[] = { "lsblk", "-J", "-b", "-p", "-o", LSBLK_COLUMNS, NULL };
	_cleanup_json_ Json *j = ask(g, lsblk, err);

	return j != NULL && guest_disk_of(j, g->serial, part, ret, err) && learn_fs(g, ret, err);
}

/* The guest has the disk, in its new size; false without an error when it has not yet. */
static bool has_noticed(Growth *g, struct guest_disk *ret, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (look(g, NULL, ret, &e)) {
		if (ret->size >= g->size)
			return true;
		guest_disk_clear(ret);
	} else if (!g_error_matches(e, ERR, ERR_NOT_FOUND)) {
		g_propagate_error(err, g_steal_pointer(&e));
	}
	return false;
}

/* A guest that has just booted may not have named its disks yet. */
static bool await_size(Growth *g, struct guest_disk *ret, GError **err)
{
	uint64_t deadline = time_monotonic() + NOTICE_TIMEOUT;
	g_autoptr(GError) e = NULL;

	while (!has_noticed(g, ret, &e)) {
		if (e == NULL && g->ended(g->data))
			fail(&e, ERR_CANCELLED, "the guest was not waited for");
		if (e == NULL && time_monotonic() > deadline)
			fail_advice(&e, ERR_AGENT,
				    "Reboot the guest, or let it look again at that disk, and ask again.",
				    "the guest has not noticed that its disk '%s' is larger", g->serial);
		if (e != NULL || !agent_pause(g->agent, PAUSE, &e)) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
	return true;
}

/* To what lies last on the disk, with what is on it. */
static bool choose_part(Growth *g, struct guest_disk *d, unsigned *ret_number, GError **err)
{
	const char *const sfdisk[] = { "sfdisk", "-J", d->device, NULL };
	_cleanup_json_ Json *table = ask(g, sfdisk, err);
	g_autofree char *part = NULL;

	if (table == NULL || !guest_last_partition(table, d->device, &part, ret_number, err))
		return false;
	guest_disk_clear(d);
	return look(g, part, d, err);
}

static bool grow_part(Growth *g, const struct guest_disk *d, unsigned number, GError **err)
{
	g_autofree char *n = g_strdup_printf("%u", number);
	const char *const growpart[] = { "growpart", d->device, n, NULL };

	return change(g, growpart, err);
}

static bool grow(Growth *g, GError **err)
{
	g_auto(GuestDisk) d = { 0 }, after = { 0 };
	const char *words[FS_COMMAND_WORDS];
	unsigned number = 0;

	if (!await_size(g, &d, err) || (d.parted && !choose_part(g, &d, &number, err)))
		return false;
	json_put_str(g->report, "part", d.part);
	json_put_str(g->report, "filesystem", d.fs);
	json_put_str(g->report, "mount", d.mount);
	json_put_uint(g->report, "before", d.fs_size);
	json_put_uint(g->report, "after", d.fs_size);
	/* A partition that nothing can be made of is left as it is. */
	if (!guest_fs_command(&d, words, err) || (d.parted && !grow_part(g, &d, number, err)) ||
	    !change(g, words, err) || !look(g, d.part, &after, err))
		return false;
	json_put_uint(g->report, "after", after.fs_size);
	return true;
}

Json *guest_grow(Agent *a, const char *serial, uint64_t size, bool (*ended)(void *data), void *data)
{
	Growth g = { .agent = a,
		     .serial = serial,
		     .size = size,
		     .ended = ended,
		     .data = data,
		     .report = json_object() };
	g_autoptr(GError) err = NULL;

	json_put(g.report, "steps", json_array());
	g.steps = json_arr(g.report, "steps");
	if (a == NULL)
		fail_advice(&err, ERR_AGENT, "Grow the file system in the guest by hand.",
			    "the vm has no channel for an agent");
	else if (agent_wait_open(a, OPEN_TIMEOUT, &err))
		grow(&g, &err);
	json_put_str(g.report, "note", err != NULL ? err->message : NULL);
	json_put_str(g.report, "advice", err != NULL ? err_advice(err) : NULL);
	return g.report;
}
