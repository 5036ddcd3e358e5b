/* SPDX-License-Identifier: Apache-2.0 */
/* Guests that move between hosts: what people ask for, and what hosts ask each other. */
#include "api/handlers.h"
#include "core/migrate/policy.h"
#include "engine/agent_clock.h"
#include "engine/evacuation.h"
#include "engine/move_survey.h"
#include "engine/receive.h"

#define TELL_TIMEOUT (UINT64_C(60) * 1000000)

static const char *const known_options[] = { "host",          "bandwidth", "downtime", "timeout",
					     "auto_converge", "post_copy", "disks",    NULL };

/* The id of the host that is named, or of one that is chosen. Caller frees. */
static char *target(ApiCall *c, const VmRecords *r, const Json *body, bool disks, GError **err)
{
	const Json *host = json_object_get(body, "host");

	if (host == NULL || json_is_null(host))
		return move_choose(c->engine, r, disks, err);
	if (!json_is_string(host)) {
		fail(err, ERR_INVALID, "'host' is the name of a host");
		return NULL;
	}
	return record_resolve(engine_store(c->engine), "hosts", json_string_value(host), err);
}

bool api_vm_migrate(ApiCall *c, GError **err)
{
	const Json *body = call_body(c, err);
	g_autoptr(VmRecords) r = NULL;
	g_autoptr(EngineRequest) req = NULL;
	struct migrate_settings settings;
	g_autofree char *host = NULL;

	if (body == NULL || !call_known(body, known_options, err) ||
	    !migrate_settings_of_json(body, &settings, err))
		return false;
	r = call_vm(c, err);
	if (r == NULL)
		return false;
	host = target(c, r, body, settings.disks, err);
	if (host == NULL)
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, move_plan(c->engine, &req->plan, &r->seen, host, &settings, err), err);
}

bool api_vm_moves(ApiCall *c, GError **err)
{
	const char *to = call_query(c, "to");
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autofree char *host = NULL;
	bool disks;
	Json *j;

	if (r == NULL || !call_flag(c, "disks", false, &disks, err))
		return false;
	if (to != NULL) {
		host = record_resolve(engine_store(c->engine), "hosts", to, err);
		if (host == NULL)
			return false;
	}
	j = move_survey(c->engine, r, host, disks, err);
	return j != NULL && call_answer(c, 200, j);
}

bool api_host_evacuation(ApiCall *c, GError **err)
{
	g_autofree char *id = record_resolve(engine_store(c->engine), "hosts", call_path(c, "host"), err);
	bool back, disks;
	Json *j;

	if (id == NULL || !call_flag(c, "back", false, &back, err) ||
	    !call_flag(c, "disks", false, &disks, err))
		return false;
	j = evacuation_plan(c->engine, id, back, disks, err);
	return j != NULL && call_answer(c, 200, j);
}

/* ---- between hosts ---- */

bool api_reception_check(ApiCall *c, GError **err)
{
	const Json *body = call_body(c, err);
	Json *j = body != NULL ? receive_check(c->engine, c->peer, body, err) : NULL;

	return j != NULL && call_answer(c, 200, j);
}

bool api_reception_begin(ApiCall *c, GError **err)
{
	const Json *body = call_body(c, err);
	Json *j = body != NULL ? receive_begin(c->engine, c->peer, body, err) : NULL;

	return j != NULL && call_answer(c, 200, j);
}

bool api_reception_show(ApiCall *c, GError **err)
{
	uint64_t wait;
	bool rested;
	Json *j;

	if (!call_number(c, "wait", 0, 60, 0, &wait, err))
		return false;
	rested = wait > 0 && call_rest(c);
	j = reception_wait_open(engine_receptions(c->engine), call_path(c, "reception"), c->peer,
				wait * 1000000, err);
	call_wake(c, rested);
	return j != NULL && call_answer(c, 200, j);
}

static bool tell(ApiCall *c, ReceptionWish wish, GError **err)
{
	bool rested = call_rest(c);
	Json *j = reception_tell(engine_receptions(c->engine), call_path(c, "reception"), c->peer, wish,
				 TELL_TIMEOUT, err);

	call_wake(c, rested);
	return j != NULL && call_answer(c, 200, j);
}

bool api_reception_finish(ApiCall *c, GError **err)
{
	struct agent_clock was;

	if (agent_clock_read(c->body, "clock_offset", "clock_doubt", &was))
		reception_set_clock(engine_receptions(c->engine), call_path(c, "reception"), c->peer, &was);
	return tell(c, json_bool(c->body, "promised", false) ? RECEPTION_PROMISE_SENT : RECEPTION_FINISH,
		    err);
}

bool api_reception_abort(ApiCall *c, GError **err)
{
	return tell(c, RECEPTION_ABORT, err);
}
