/* SPDX-License-Identifier: Apache-2.0 */
/* The joining host's side. */
#include "base/str.h"
#include "base/time.h"
#include "base/version.h"
#include "core/model/keys.h"
#include "engine/peer.h"
#include "engine/pool-impl.h"
#include "engine/pool_token.h"

#include <string.h>

/* The pool's authority, believed because its fingerprint is the token's. */
static bool fetch_authority(const struct peer_target *stranger, const PoolToken *token, GError **err)
{
	struct peer_target t = *stranger;
	const struct peer_request r = { .method = "GET", .path = "/v1/pool/ca", .timeout = POOL_CALL_TIME };
	_cleanup_json_ Json *j = NULL;
	g_autofree char *fingerprint = NULL, *ca = NULL;

	t.unverified = true;
	j = peer_json(&t, &r, err);
	if (j == NULL)
		return false;
	/* Nothing that stands behind it may be believed as well: the fingerprint says nothing of that. */
	ca = json_str(j, "ca") != NULL ? pki_only(json_str(j, "ca"), NULL) : NULL;
	fingerprint = ca != NULL ? pki_fingerprint(ca, NULL) : NULL;
	if (g_strcmp0(fingerprint, token->fingerprint) != 0)
		return fail_advice(err, ERR_DENIED, "Look whether address and token belong to the same pool.",
				   "who answers at %s is not of the pool that made this token", t.url);
	return pki_file_write(t.folder, PKI_CA, ca, err);
}

static bool put_names(Engine *e, Json *application, GError **err)
{
	g_autoptr(GPtrArray) items = records_collect(e->store, e->host_id, RECORDS_JOIN, err);

	if (items == NULL)
		return false;
	json_put(application, "names", records_names(items));
	return true;
}

static Json *application_of(Engine *e, const Membership *m, const PoolToken *token, GError **err)
{
	_cleanup_json_ Json *j = json_object();
	g_autofree char *request = pki_request(m->folder, e->host_id, err);

	if (request == NULL || !put_names(e, j, err))
		return NULL;
	json_put_int(j, "format", POOL_FORMAT);
	json_put_str(j, "version", plimsoll_version);
	json_put_str(j, "token", token->secret);
	json_put_str(j, "request", request);
	json_put_str(j, "address", m->address);
	json_put(j, "host", host_facts_to_json(engine_facts(e)));
	return g_steal_pointer(&j);
}

static bool take_files(const Json *answer, Membership *m, GError **err)
{
	static const struct {
		const char *member, *file;
	} files[] = { { "certificate", PKI_CERT }, { "ca_key", PKI_CA_KEY } };
	Json *access = json_obj(answer, "store");

	for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
		const char *text = json_str(answer, files[i].member);

		if (text == NULL)
			return fail(err, ERR_UNAVAILABLE, "the pool's answer lacks its '%s'",
				    files[i].member);
		if (!pki_file_write(m->folder, files[i].file, text, err))
			return false;
	}
	if (access == NULL || json_str(answer, "id") == NULL || json_str(answer, "name") == NULL)
		return fail(err, ERR_UNAVAILABLE, "the pool's answer does not say where its store is");
	m->pool_id = g_strdup(json_str(answer, "id"));
	m->pool_name = g_strdup(json_str(answer, "name"));
	m->store = pool_store_url(access, m->folder);
	return pool_store_save(access, m->folder, err) &&
	       pki_check(m->folder, m->host_id, time_real(), NULL, err);
}

/* What the pool answers; in m->folder is the authority then, and our key. */
static Json *apply(Engine *e, Membership *m, const PoolToken *token, const char *url, bool dry_run,
		   GError **err)
{
	const struct peer_target t = { .url = url, .folder = m->folder, .stranger = true };
	struct peer_request r = { .method = "POST", .path = "/v1/pool/members", .timeout = POOL_CALL_TIME };
	_cleanup_json_ Json *application = NULL;
	g_autofree char *text = NULL;

	if (!pool_folder_make(m->folder, err) || !fetch_authority(&t, token, err))
		return NULL;
	application = application_of(e, m, token, err);
	if (application == NULL)
		return NULL;
	json_put_bool(application, "dry_run", dry_run);
	text = json_print(application);
	r.body = text;
	return peer_json(&t, &r, err);
}

/* Would it let us in? Leaves nothing. */
static Json *ask(Engine *e, Membership *m, const PoolToken *token, const char *url, GError **err)
{
	_cleanup_json_ Json *answer = apply(e, m, token, url, true, err);
	Json *j;

	pool_forget(e->folders.state);
	if (answer == NULL)
		return NULL;
	j = json_object();
	json_put_str(j, "id", json_str(answer, "id"));
	json_put_str(j, "name", json_str(answer, "name"));
	return j;
}

static bool join(Engine *e, Membership *m, const PoolToken *token, const char *url, GError **err)
{
	_cleanup_json_ Json *answer = apply(e, m, token, url, false, err);

	if (answer == NULL || !take_files(answer, m, err)) {
		pool_forget(e->folders.state);
		return false;
	}
	return pool_convert(e, m, RECORDS_JOIN, err);
}

static char *full_url(const char *url, GError **err)
{
	const char *address = g_str_has_prefix(url, "https://") ? url + strlen("https://") : url;
	g_autofree char *whole = pool_address_parse(address, err);

	return whole != NULL ? g_strconcat("https://", whole, NULL) : NULL;
}

Json *pool_join(Engine *e, const char *url, const char *token, const char *address, bool dry_run,
		GError **err)
{
	g_autoptr(Membership) m = g_new0(Membership, 1);
	g_autoptr(PoolToken) t = NULL;
	g_autofree char *whole = NULL;
	Json *j;

	if (!pool_need_none(e, err))
		return NULL;
	t = pool_token_parse(token, err);
	whole = t != NULL ? full_url(url != NULL ? url : t->url, err) : NULL;
	if (whole == NULL)
		return NULL;
	m->address = address != NULL ? pool_address_parse(address, err) : pool_address_find(whole, err);
	if (m->address == NULL || !exec_freeze(e->exec, POOL_FREEZE_TIME, err))
		return NULL;
	m->host_id = g_strdup(e->host_id);
	m->folder = membership_folder(e->folders.state);
	m->step = g_strdup("join");
	m->token = pool_token_hash(t->secret);
	if (dry_run) {
		j = ask(e, m, t, whole, err);
		exec_thaw(e->exec);
		return j;
	}
	if (!join(e, m, t, whole, err)) {
		pool_fall_back(e, err);
		return NULL;
	}
	engine_restart(e);
	j = json_object();
	json_put_str(j, "id", m->pool_id);
	json_put_str(j, "name", m->pool_name);
	return j;
}
