/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/migrate_mirror.h"
#include "base/time.h"
#include "engine/migrate_link.h"

#include <unistd.h>

#define END_TIMEOUT UINT64_C(30000000)
#define TURN 20000

char *migrate_mirror_job(const char *node)
{
	return g_strconcat("mirror-", node, NULL);
}

static char *target_of(const char *node)
{
	return g_strconcat(node, "-there", NULL);
}

static bool connect_target(Vmm *v, const struct migrate_mirror *m, const char *target, GError **err)
{
	g_autofree char *port = g_strdup_printf("%u", m->port);
	Json *args = json_pack("{s:s,s:s,s:s,s:{s:s,s:s,s:s}}", "driver", "nbd", "node-name", target,
			       "export", m->node, "server", "type", "inet", "host", m->host, "port", port);

	if (m->tls)
		json_put_str(args, "tls-creds", MIGRATE_KEY_ID);
	return migrate_tell(v, "blockdev-add", args, err);
}

bool migrate_mirror_begin(Vmm *v, const struct migrate_mirror *m, GError **err)
{
	g_autofree char *job = migrate_mirror_job(m->node), *target = target_of(m->node);

	return connect_target(v, m, target, err) &&
	       migrate_tell(v, "blockdev-mirror",
			    json_pack("{s:s,s:s,s:s,s:s,s:s,s:I}", "job-id", job, "device", m->node, "target",
				      target, "sync", "full", "copy-mode", "write-blocking", "speed",
				      (json_int_t)m->speed),
			    err);
}

bool migrate_mirror_progress(Vmm *v, uint64_t *ret_done, uint64_t *ret_len, GError **err)
{
	_cleanup_json_ Json *jobs = qmp_call(vmm_qmp(v), "query-block-jobs", NULL, 0, err);
	const Json *j;
	uint64_t done = 0, len = 0;
	size_t i;

	if (jobs == NULL)
		return false;
	json_array_foreach(jobs, i, j)
	{
		done += json_uint(j, "offset", 0);
		len += json_uint(j, "len", 0);
	}
	*ret_done = done;
	*ret_len = len;
	return true;
}

bool migrate_mirror_finish(Vmm *v, const char *node, GError **err)
{
	g_autofree char *job = migrate_mirror_job(node);

	return migrate_tell(v, "block-job-cancel", json_pack("{s:s}", "device", job), err);
}

/* -1: can't be asked. */
static int job_lives(Vmm *v, const char *job, GError **err)
{
	_cleanup_json_ Json *jobs = qmp_call(vmm_qmp(v), "query-block-jobs", NULL, 0, err);
	const Json *j;
	size_t i;

	if (jobs == NULL)
		return -1;
	json_array_foreach(jobs, i, j)
	{
		if (g_str_equal(json_str(j, "device"), job))
			return 1;
	}
	return 0;
}

static bool end_job(Vmm *v, const char *job, GError **err)
{
	uint64_t until = time_monotonic() + END_TIMEOUT;
	int lives = job_lives(v, job, err);

	if (lives == 1)
		migrate_tell(v, "block-job-cancel", json_pack("{s:s,s:b}", "device", job, "force", 1), NULL);
	while (lives == 1 && time_monotonic() < until) {
		usleep(TURN);
		lives = job_lives(v, job, err);
	}
	return lives == 0 || (lives == 1 && fail(err, ERR_TIMEOUT, "the copy '%s' does not end", job));
}

bool migrate_mirror_drop(Vmm *v, const char *node, GError **err)
{
	g_autofree char *job = migrate_mirror_job(node), *target = target_of(node);

	if (!end_job(v, job, err))
		return false;
	/* Absent is fine. */
	migrate_tell(v, "blockdev-del", json_pack("{s:s}", "node-name", target), NULL);
	return true;
}
