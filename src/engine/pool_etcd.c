/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pool-impl.h"

bool pool_etcd_found(Engine *e, Membership *m, Json *access, GError **err)
{
	(void)e, (void)m;
	if (!json_bool(access, "own", false))
		return true;
	return fail_advice(err, ERR_UNSUPPORTED, "Name an etcd with --etcd URL.",
			   "this daemon can't run a member of etcd itself");
}

void pool_etcd_abandon(Engine *e, Membership *m)
{
	(void)e, (void)m;
}
