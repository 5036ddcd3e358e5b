/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pool_whatif.h"
#include "core/guest/pin.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "core/place/whatif.h"
#include "engine/peer.h"
#include "engine/pool-impl.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

typedef struct Seen {
	Store *store;
	GPtrArray *record; /* struct host_record */
	GHashTable *name;  /* host id -> name */
	GArray *vm;        /* struct whatif_vm; borrows from `json` and `name` */
	GPtrArray *json;
} Seen;

static void drop_record(gpointer p)
{
	host_record_done(p);
	g_free(p);
}

static void drop_json(gpointer p)
{
	json_unref(p);
}

static void seen_done(Seen *s)
{
	g_ptr_array_unref(s->record);
	g_hash_table_unref(s->name);
	g_array_unref(s->vm);
	g_ptr_array_unref(s->json);
}

static void seen_init(Seen *s, Store *store)
{
	s->store = store;
	s->record = g_ptr_array_new_with_free_func(drop_record);
	s->name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	s->vm = g_array_new(FALSE, FALSE, sizeof(struct whatif_vm));
	s->json = g_ptr_array_new_with_free_func(drop_json);
}

static bool load_hosts(Seen *s, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s->store, KEYS_CPUS, NULL, err);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		struct host_record *r = g_new0(struct host_record, 1);

		if (!host_record_parse(item->value, strlen(item->value), r, err)) {
			g_free(r);
			return false;
		}
		g_ptr_array_add(s->record, r);
		g_hash_table_insert(s->name, g_strdup(item->key + strlen(KEYS_CPUS)), g_strdup(r->host));
	}
	return items != NULL;
}

static bool add_vm(Seen *s, const char *id, GError **err)
{
	g_autoptr(VmRecords) r = vm_records_load(s->store, id, err);
	VmState state;
	struct whatif_vm vm = { 0 };
	const Json *pin;
	Json *kept;

	if (r == NULL)
		return false;
	state = vm_runtime_state(r->runtime);
	if (state != VM_RUNNING && state != VM_PAUSED)
		return true;
	kept = vm_to_json(r->vm);
	g_ptr_array_add(s->json, kept);
	vm.id = json_str(kept, "id");
	vm.name = json_str(kept, "name");
	vm.host = json_str(r->runtime, "host") != NULL
		      ? g_hash_table_lookup(s->name, json_str(r->runtime, "host"))
		      : NULL;
	pin = json_obj(r->applied, "pin");
	vm.pinned = pin != NULL && pin_of_json(pin, &vm.pin, &vm.type, NULL);
	g_array_append_val(s->vm, vm);
	return true;
}

static bool load_vms(Seen *s, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s->store, KEYS_VMS, NULL, err);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		g_autofree char *c = NULL, *id = NULL, *rest = NULL;

		if (key_split(((StoreItem *)items->pdata[i])->key, &c, &id, &rest) &&
		    g_str_equal(rest, "config") && !add_vm(s, id, err))
			return false;
	}
	return items != NULL;
}

/* Files are read here, in whatever folder the daemon is. */
static bool check_files(const Json *tls, GError **err)
{
	static const char *const member[] = { "ca", "cert", "key" };

	for (size_t i = 0; i < G_N_ELEMENTS(member); i++) {
		const char *path = json_str(tls, member[i]);

		if (path != NULL && !g_path_is_absolute(path))
			return fail(err, ERR_INVALID, "'%s' is not a whole path", path);
		if (path != NULL && access(path, R_OK) < 0)
			return fail(err, ERR_INVALID, "can't read %s: %s", path, g_strerror(errno));
	}
	return true;
}

/* What the daemon at `url` says of its own host's CPU, as its `plim host cpu --export` does. */
static Json *ask_host(const char *url, const Json *tls, GError **err)
{
	const struct peer_target t = {
		.url = url,
		.ca = json_str(tls, "ca"),
		.cert = json_str(tls, "cert"),
		.key = json_str(tls, "key") != NULL ? json_str(tls, "key") : json_str(tls, "cert"),
	};
	struct peer_request r = { .method = "GET", .path = "/v1", .timeout = POOL_CALL_TIME };
	_cleanup_json_ Json *daemon = NULL, *cpu = NULL;
	g_autofree char *path = NULL, *name = NULL;

	daemon = check_files(tls, err) ? peer_json(&t, &r, err) : NULL;
	if (daemon == NULL)
		return NULL;
	name = json_str(daemon, "host") != NULL ? g_uri_escape_string(json_str(daemon, "host"), NULL, FALSE)
						: NULL;
	path = g_strdup_printf("/v1/hosts/%s/cpu", name);
	r.path = path;
	cpu = name != NULL ? peer_json(&t, &r, err) : NULL;
	if (name == NULL || (cpu != NULL && json_obj(cpu, "record") == NULL)) {
		fail_advice(err, ERR_UNSUPPORTED, "Give the address where its API is served on TLS.",
			    "what answers at %s is no plimsolld that knows its CPU", url);
		return NULL;
	}
	return cpu != NULL ? json_incref(json_obj(cpu, "record")) : NULL;
}

/* Of the host that joins or is upgraded. */
static bool load_record(const Json *request, struct host_record *record, GError **err)
{
	const char *url = json_str(request, "url");
	_cleanup_json_ Json *given = json_incref(json_obj(request, "record"));

	if (url != NULL && given != NULL)
		return fail(err, ERR_INVALID, "there are a host record and an address in this request");
	if (url == NULL && given == NULL)
		return fail(err, ERR_INVALID, "there is no host record in this request");
	if (given == NULL)
		given = ask_host(url, json_obj(request, "tls"), err);
	return given != NULL && host_record_of_json(given, record, err);
}

static bool parse_change(Seen *s, const Json *request, struct whatif_change *c, struct host_record *record,
			 GError **err)
{
	g_autofree char *id = NULL;

	if (!whatif_kind_of_name(json_str(request, "kind"), &c->kind))
		return fail_advice(err, ERR_INVALID, "Write join, leave, disable or upgrade.",
				   "there is no such question");
	c->feature = json_str(request, "feature");
	if (c->kind == WHATIF_DISABLE && c->feature == NULL)
		return fail(err, ERR_INVALID, "there is no feature in this request");
	if (c->kind == WHATIF_LEAVE) {
		if (json_str(request, "host") == NULL)
			return fail(err, ERR_INVALID, "there is no host in this request");
		id = record_resolve(s->store, "hosts", json_str(request, "host"), err);
		if (id == NULL)
			return false;
		c->host = g_hash_table_lookup(s->name, id);
	}
	if (c->kind != WHATIF_JOIN && c->kind != WHATIF_UPGRADE)
		return true;
	c->record = record;
	return load_record(request, record, err);
}

Json *pool_whatif(Engine *e, const Json *request, GError **err)
{
	_cleanup_host_record_ struct host_record record = { 0 };
	struct whatif_change change = { 0 };
	Seen s;
	Json *j = NULL;

	seen_init(&s, e->store);
	if (load_hosts(&s, err) && load_vms(&s, err) && parse_change(&s, request, &change, &record, err))
		j = whatif((const struct host_record *const *)s.record->pdata, s.record->len, &change,
			   (const struct whatif_vm *)(void *)s.vm->data, s.vm->len, err);
	seen_done(&s);
	return j;
}
