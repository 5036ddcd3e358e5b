/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens, and the member's side of a join. */
#include "base/str.h"
#include "base/time.h"
#include "base/version.h"
#include "core/model/keys.h"
#include "core/place/place.h"
#include "engine/pool-impl.h"
#include "engine/pool_token.h"

#include <string.h>

Json *pool_token_make(Engine *e, const char *user, uint64_t life, GError **err)
{
	g_autofree char *ca = NULL, *fingerprint = NULL, *url = NULL, *hash = NULL, *token = NULL,
			*key = NULL, *text = NULL, *until = NULL;
	_cleanup_json_ Json *record = json_object();
	StoreTx *tx;
	Json *j;

	if (!pool_need_member(e, err))
		return NULL;
	ca = pki_file_read(e->member->folder, PKI_CA, err);
	fingerprint = ca != NULL ? pki_fingerprint(ca, err) : NULL;
	if (fingerprint == NULL)
		return NULL;
	url = membership_url(e->member);
	token = pool_token_print(fingerprint, url, &hash);
	until = time_print((time_real() + life) / 1000000 * 1000000);
	json_put_str(record, "expires_at", until);
	json_put_str(record, "made_by", user);
	json_put_str(record, "used_by", NULL);
	text = json_print(record);
	key = key_pool_token(hash);
	tx = store_tx_new();
	store_tx_set(tx, key, 0, text);
	if (!store_commit(e->store, tx, STORE_DURABLE, NULL, err))
		return NULL;
	j = json_object();
	json_put_str(j, "token", token);
	json_put_str(j, "expires_at", until);
	json_put_str(j, "url", url);
	return j;
}

Json *pool_authority(Engine *e, GError **err)
{
	g_autofree char *ca = NULL;
	Json *j;

	if (!pool_need_member(e, err))
		return NULL;
	ca = pki_file_read(e->member->folder, PKI_CA, err);
	if (ca == NULL)
		return NULL;
	j = json_object();
	json_put_str(j, "id", e->member->pool_id);
	json_put_str(j, "name", e->member->pool_name);
	json_put_str(j, "ca", ca);
	return j;
}

/* ---- one admission ---- */

typedef struct Admission {
	Engine *engine;
	const Json *application;
	HostFacts *host;
	char *address;
	Json *token, *known; /* records: of the token; of the host, or NULL */
	char *token_key;
	int64_t token_rev, known_rev, name_rev; /* 0: there is none */
} Admission;

static void admission_done(Admission *a)
{
	host_facts_free(a->host);
	json_unref(a->token);
	json_unref(a->known);
	g_free(a->token_key);
	g_free(a->address);
}

static bool fail_used(const Admission *a, GError **err)
{
	return fail_advice(err, ERR_GONE,
			   "`plim pool token` on a member makes a new one; each is for one host.",
			   "this token was used already, by host '%s' at %s",
			   json_str(a->token, "used_by_name"), json_str(a->token, "used_at"));
}

/* Good for the same host again, as long as that did not become a member with it. */
static bool check_token(Admission *a, GError **err)
{
	const char *secret = json_str(a->application, "token"), *user;
	g_autofree char *hash = secret != NULL ? pool_token_hash(secret) : NULL;
	g_autoptr(GError) e = NULL;
	uint64_t until = 0;

	if (secret == NULL)
		return fail(err, ERR_INVALID, "there is no token in this request");
	a->token_key = key_pool_token(hash);
	a->token = record_get(a->engine->store, a->token_key, &a->token_rev, &e);
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (a->token == NULL)
		return fail_advice(err, ERR_DENIED, "`plim pool token` on a member prints a new one.",
				   "this pool does not know that token");
	user = json_str(a->token, "used_by");
	if (user != NULL && (!g_str_equal(user, a->host->id) || json_bool(a->token, "spent", false)))
		return fail_used(a, err);
	if (!time_parse(json_str(a->token, "expires_at"), &until) || time_real() > until)
		return fail_advice(err, ERR_GONE, "`plim pool token` on a member prints a new one.",
				   "this token expired at %s", json_str(a->token, "expires_at"));
	return true;
}

static bool parse_application(Admission *a, GError **err)
{
	const Json *host = json_obj(a->application, "host");
	const char *address = json_str(a->application, "address");

	if (json_int(a->application, "format", 0) != POOL_FORMAT)
		return fail_advice(err, ERR_UNSUPPORTED, "Install the same version of Plimsoll on all hosts.",
				   "the host's version %s does not fit this pool's %s",
				   json_str(a->application, "version") != NULL
				       ? json_str(a->application, "version")
				       : "(unknown)",
				   plimsoll_version);
	a->host = host != NULL ? host_facts_of_json(host, err) : NULL;
	if (a->host == NULL)
		return host != NULL ? false : fail(err, ERR_INVALID, "there is no host in this request");
	if (a->host->id == NULL || !uuid_valid(a->host->id))
		return fail(err, ERR_INVALID, "the host has no id");
	if (address == NULL || json_str(a->application, "request") == NULL)
		return fail(err, ERR_INVALID, "there is no address, or no request for a certificate");
	a->address = pool_address_parse(address, err);
	return a->address != NULL && name_check("a host", a->host->name, err);
}

static bool load_known(Admission *a, GError **err)
{
	g_autofree char *key = key_host(a->host->id);
	g_autoptr(GError) e = NULL;

	a->known = record_get(a->engine->store, key, &a->known_rev, &e);
	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return e == NULL || err == NULL || *err == NULL;
}

static bool check_identity(Admission *a, GError **err)
{
	g_autofree char *key = key_name("hosts", a->host->name);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *id = record_get(a->engine->store, key, &a->name_rev, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (g_strcmp0(json_str(a->known, "state"), HOST_MEMBER) == 0)
		return fail_advice(
		    err, ERR_CONFLICT,
		    "If that host is no more, `plim pool evict` it. If this one was copied from it, "
		    "give this one a state folder of its own.",
		    "the pool has this host already, as '%s'", json_str(a->known, "name"));
	if (id != NULL && g_strcmp0(json_string_value(id), a->host->id) != 0)
		return fail_advice(err, ERR_CONFLICT, "Start its daemon with another --name, and join again.",
				   "the pool has another host called '%s'", a->host->name);
	return true;
}

/* ---- the CPU ---- */

static PlaceCpu cpu_of(const HostFacts *h)
{
	bool wants = g_strcmp0(h->accel_wanted, "tcg") != 0;

	return (
	    PlaceCpu){ .name = h->name, .vendor = h->cpu_vendor, .kvm = h->accel[ACCEL_KVM].works && wants };
}

static void drop_facts(gpointer p)
{
	host_facts_free(p);
}

static bool check_vendor(const Admission *a, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(a->engine->store, KEYS_HOSTS, NULL, err);
	g_autoptr(GPtrArray) hosts = g_ptr_array_new_with_free_func(drop_facts);
	g_autoptr(GArray) cpus = g_array_new(FALSE, FALSE, sizeof(PlaceCpu));
	const PlaceCpu joins = cpu_of(a->host);

	if (items == NULL)
		return false;
	for (guint i = 0; i < items->len; i++) {
		const char *text = ((StoreItem *)items->pdata[i])->value;
		_cleanup_json_ Json *j = json_parse(text, strlen(text), NULL);
		HostFacts *h = j != NULL ? host_facts_of_json(j, NULL) : NULL;
		PlaceCpu cpu;

		if (h == NULL || g_strcmp0(h->id, a->host->id) == 0) {
			host_facts_free(h);
			continue;
		}
		cpu = cpu_of(h);
		g_ptr_array_add(hosts, h);
		g_array_append_val(cpus, cpu);
	}
	return place_check_vendor(&joins, (const PlaceCpu *)(void *)cpus->data, cpus->len, err);
}

/* ---- the answer ---- */

static char *sign(const Admission *a, GError **err)
{
	g_autofree char *host = pool_address_host(a->address);
	const char *const names[] = { host, NULL };
	uint64_t now = time_real();
	const struct pki_subject s = { a->host->id, names, now, now + PKI_HOST_LIFE };

	return pki_sign(a->engine->member->folder, json_str(a->application, "request"), &s, err);
}

static Json *who_we_are(const Membership *m)
{
	Json *j = json_object();

	json_put_int(j, "format", POOL_FORMAT);
	json_put_str(j, "id", m->pool_id);
	json_put_str(j, "name", m->pool_name);
	return j;
}

static Json *answer(const Admission *a, GError **err)
{
	const Membership *m = a->engine->member;
	g_autofree char *cert = sign(a, err), *ca = NULL, *key = NULL;
	Json *access = NULL, *j;

	if (cert == NULL)
		return NULL;
	ca = pki_file_read(m->folder, PKI_CA, err);
	key = ca != NULL ? pki_file_read(m->folder, PKI_CA_KEY, err) : NULL;
	access = key != NULL ? pool_store_load(m->folder, err) : NULL;
	if (access == NULL)
		return NULL;
	j = who_we_are(m);
	json_put_str(j, "certificate", cert);
	json_put_str(j, "ca", ca);
	json_put_str(j, "ca_key", key);
	json_put(j, "store", access);
	return j;
}

/* The token is used, the host and its name are known, from one moment on. Of two of one name one is let in.
 */
static bool let_in(const Admission *a, GError **err)
{
	g_autofree char *key = key_host(a->host->id), *name = key_name("hosts", a->host->name),
			*id = g_strdup_printf("\"%s\"", a->host->id), *now = time_stamp(),
			*url = g_strconcat("https://", a->address, NULL), *token = NULL, *host = NULL;
	_cleanup_json_ Json *h = host_facts_to_json(a->host), *t = json_copy(a->token);
	StoreTx *tx = store_tx_new();

	json_put_str(t, "used_by", a->host->id);
	json_put_str(t, "used_by_name", a->host->name);
	json_put_str(t, "used_at", now);
	json_put_str(h, "url", url);
	json_put_str(h, "state", HOST_JOINING);
	json_put_str(h, "joined_at", now);
	json_put_str(h, "version", json_str(a->application, "version"));
	token = json_print(t);
	host = json_print(h);
	store_tx_set(tx, a->token_key, a->token_rev, token);
	store_tx_set(tx, key, a->known != NULL ? a->known_rev : 0, host);
	store_tx_set(tx, name, a->name_rev, id);
	return store_commit(a->engine->store, tx, STORE_DURABLE, NULL, err);
}

static bool is_dry_run(const Json *application)
{
	return json_bool(application, "dry_run", false);
}

static Json *admit(Admission *a, GError **err)
{
	_cleanup_json_ Json *j = NULL;

	if (!parse_application(a, err) || !load_known(a, err) || !check_token(a, err) ||
	    !check_identity(a, err) || !check_vendor(a, err) ||
	    !records_check_names(a->engine->store, json_obj(a->application, "names"), err))
		return NULL;
	if (is_dry_run(a->application))
		return who_we_are(a->engine->member);
	j = answer(a, err);
	return j != NULL && let_in(a, err) ? g_steal_pointer(&j) : NULL;
}

Json *pool_admit(Engine *e, const Json *application, GError **err)
{
	Admission a = { .engine = e, .application = application };
	Json *j;

	if (!pool_need_member(e, err))
		return NULL;
	j = admit(&a, err);
	if (j != NULL && !is_dry_run(application))
		events_emit(e->events, EVENT_HOST_JOINING, "host", a.host->id, a.host->name, NULL,
			    "host %s is let into the pool %s", a.host->name, e->member->pool_name);
	admission_done(&a);
	return j;
}
