/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases in etcd. Its leader counts them down. A member that was the leader and
 * is cut off goes on renewing for a moment, while the new leader has begun to
 * count anew; so a renewal counts only when a read that was sent behind it, which
 * needs the assent of more than half of the members, was answered in the same term.
 */
#include "base/time.h"
#include "store/store-etcd.h"

#include <inttypes.h>

#define SECOND UINT64_C(1000000)

bool etcd_lease_grant(Store *base, StoreLease *l, uint64_t ttl, GError **err)
{
	g_autofree char *body = wire_lease("TTL", (int64_t)((ttl + SECOND - 1) / SECOND));
	/* Sent twice, it leaves one behind that nobody renews. */
	EtcdCall call = { .path = "lease/grant", .body = body };
	struct wire_header h;
	_cleanup_json_ Json *answer = etcd_ask((EtcdStore *)base, &call, &h, err);
	int64_t seconds;

	if (answer == NULL || !wire_lease_read(answer, &l->id, &seconds, err))
		return false;
	l->until = call.sent + (uint64_t)seconds * SECOND;
	return true;
}

static bool fail_ended(const StoreLease *l, GError **err)
{
	return fail_advice(err, ERR_GONE, "Take a new lease.", "lease %" PRId64 " has ended", l->id);
}

static bool renew_once(EtcdStore *s, const StoreLease *l, uint64_t end, uint64_t *ret_until, bool *ret_sure,
		       GError **err)
{
	uint64_t now = time_monotonic();
	g_autofree char *body = wire_lease("ID", l->id);
	EtcdCall call = { .path = "lease/keepalive", .body = body, .timeout = end > now ? end - now : 1 };
	_cleanup_json_ Json *answer = etcd_client_call(s->client, &call, err);
	const Json *result = json_obj(answer, "result");
	struct wire_header renewed, read;
	int64_t id, seconds;

	if (answer == NULL || !wire_header_read(result, &renewed, err) ||
	    !wire_lease_read(result, &id, &seconds, err))
		return false;
	if (seconds == 0)
		return fail_ended(l, err);
	now = time_monotonic();
	if (!etcd_read_now(s, end > now ? end - now : 1, &read, err))
		return false;
	*ret_until = call.sent + (uint64_t)seconds * SECOND;
	*ret_sure = read.term == renewed.term;
	return true;
}

bool etcd_lease_renew(Store *base, StoreLease *l, uint64_t timeout, GError **err)
{
	uint64_t end = time_monotonic() + timeout, until;
	bool sure;

	do {
		if (!renew_once((EtcdStore *)base, l, end, &until, &sure, err))
			return false;
		if (sure) {
			l->until = until;
			return true;
		}
	} while (time_monotonic() < end);
	return fail_advice(err, ERR_UNAVAILABLE, "Try again.",
			   "etcd changed its leader while a lease was renewed");
}

bool etcd_lease_revoke(Store *base, const StoreLease *l, GError **err)
{
	g_autofree char *body = wire_lease("ID", l->id);
	struct wire_header h;
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *answer =
	    etcd_ask((EtcdStore *)base, &(EtcdCall){ .path = "lease/revoke", .body = body }, &h, &e);

	if (answer != NULL || (g_error_matches(e, ERR, ERR_GONE) && etcd_usable((EtcdStore *)base, NULL)))
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}
