/* SPDX-License-Identifier: Apache-2.0 */
#include "api/forward.h"
#include "api/handlers.h"
#include "api/image_choice.h"
#include "base/str.h"
#include "core/model/keys.h"
#include "core/model/settings.h"
#include "core/model/vm_state.h"
#include "core/place/place.h"
#include "engine/peer.h"

#include <inttypes.h>
#include <string.h>

#define SECOND UINT64_C(1000000)
/* For what the other host does before it answers, beside what the client waits for. */
#define FORWARD_TIME (UINT64_C(600) * SECOND)
/* To be connected, and to agree on a WebSocket. */
#define SOCKET_TIME (UINT64_C(20) * SECOND)

/* ---- the hosts ---- */

bool host_is_alive(Store *s, const char *host_id)
{
	g_autofree char *key = key_lease(host_id);
	g_autoptr(StoreItem) item = store_get(s, key, NULL);

	return item != NULL;
}

static bool is_member(Store *s, const char *host_id)
{
	g_autofree char *key = key_host(host_id);
	g_autoptr(StoreItem) item = store_get(s, key, NULL);

	return item != NULL;
}

/* Owns what its PlaceHosts borrow. */
typedef struct Hosts {
	GPtrArray *record; /* Json */
	GArray *host;      /* PlaceHost */
} Hosts;

static void drop_json(gpointer p)
{
	json_unref(p);
}

static void hosts_done(Hosts *h)
{
	if (h->record != NULL)
		g_ptr_array_unref(h->record);
	if (h->host != NULL)
		g_array_unref(h->host);
}

static void add_host(Hosts *h, Store *s, Json *j, const char *id)
{
	const Json *accels = json_obj(j, "accelerators");
	PlaceHost p = { .id = json_str(j, "id"),
			.name = json_str(j, "name"),
			.memory = json_uint(j, "memory", 0) };

	g_ptr_array_add(h->record, j);
	if (p.id == NULL || p.name == NULL)
		return;
	p.online = host_is_alive(s, id);
	for (Accel a = 0; a < _ACCEL_MAX; a++)
		p.accel[a] = json_bool(json_obj(accels, accel_name(a)), "works", false);
	g_array_append_val(h->host, p);
}

static PlaceHost *find_host(Hosts *h, const char *id)
{
	for (guint i = 0; i < h->host->len; i++)
		if (g_strcmp0(g_array_index(h->host, PlaceHost, i).id, id) == 0)
			return &g_array_index(h->host, PlaceHost, i);
	return NULL;
}

/* What its running vms were given is not free. */
static bool subtract_vms(Hosts *h, Store *s, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s, KEYS_VMS, NULL, err);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *j = NULL;
		PlaceHost *p;
		uint64_t used;

		if (!g_str_has_suffix(item->key, "/runtime"))
			continue;
		j = json_parse(item->value, strlen(item->value), NULL);
		p = find_host(h, json_str(j, "host"));
		used = json_uint(j, "memory", 0);
		if (p != NULL)
			p->memory -= MIN(used, p->memory);
	}
	return items != NULL;
}

static bool load_hosts(Hosts *h, Store *s, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s, KEYS_HOSTS, NULL, err);

	h->record = g_ptr_array_new_with_free_func(drop_json);
	h->host = g_array_new(FALSE, FALSE, sizeof(PlaceHost));
	for (guint i = 0; items != NULL && i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		Json *j = json_parse(item->value, strlen(item->value), NULL);

		if (j != NULL)
			add_host(h, s, j, item->key + strlen(KEYS_HOSTS));
	}
	return items != NULL && subtract_vms(h, s, err);
}

/* ---- where a request belongs ---- */

/* The host that the query asks for, or NULL without error. */
static char *wanted_host(const ApiCall *c, GError **err)
{
	const char *ref = call_query(c, "host");

	return ref != NULL ? record_resolve(engine_store(c->engine), "hosts", ref, err) : NULL;
}

static const char *host_of_files(const VmRecords *r)
{
	for (guint i = 0; i < r->seen.volume->len; i++) {
		const Volume *v = r->seen.volume->pdata[i];

		if (v != NULL && v->host_id != NULL)
			return v->host_id;
	}
	return NULL;
}

static bool is_off(const VmRecords *r)
{
	VmState state = vm_runtime_state(r->runtime);

	return (state == VM_STOPPED || state == VM_CRASHED) && json_str(r->runtime, "operation") == NULL;
}

/* A running vm belongs to its host; so does the log of one that is off, while that host is there. */
static char *host_of_vm(const ApiCall *c, const VmRecords *r)
{
	const char *host = json_str(r->runtime, "host");

	if (host == NULL || (is_off(r) && !host_is_alive(engine_store(c->engine), host)))
		return NULL;
	return g_strdup(host);
}

/* NULL: none. */
static char *choose_host(const ApiCall *c, const PlaceVm *vm, GError **err)
{
	Hosts h = { 0 };
	const PlaceHost *found = NULL;
	char *id;

	if (load_hosts(&h, engine_store(c->engine), err))
		found = place_choose(vm, (const PlaceHost *)(void *)h.host->data, h.host->len, err);
	id = found != NULL ? g_strdup(found->id) : NULL;
	hosts_done(&h);
	return id;
}

static char *host_for_start(ApiCall *c, const VmRecords *r, GError **err)
{
	_cleanup_json_ Json *memory = setting_effective(r->vm->settings, "memory.start");
	const char *accel = json_string_value(vm_setting(r->vm, "accel"));
	g_autoptr(GError) e = NULL;
	g_autofree char *wanted = wanted_host(c, &e);
	PlaceVm vm = { .name = r->vm->name, .wanted = wanted, .files = host_of_files(r), .accel = -1 };
	char *id;
	Accel a;

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return NULL;
	}
	vm.memory = (uint64_t)json_integer_value(memory);
	if (accel != NULL && accel_of_name(accel, &a))
		vm.accel = (int)a;
	id = choose_host(c, &vm, NULL);
	if (id != NULL)
		return id;
	/* A host may just have come, or ended a guest: this host's copy of the records may be behind that. */
	call_await_all(c);
	return choose_host(c, &vm, err);
}

/* A new vm goes where its image or its first volume is. */
static char *host_for_create(const ApiCall *c, GError **err)
{
	Store *s = engine_store(c->engine);
	const char *image = json_str(c->body, "image");
	const Json *disk = json_array_get(json_arr(c->body, "disks"), 0);
	const char *volume = json_str(disk, "volume");
	g_autoptr(Image) img = NULL;
	g_autoptr(Volume) v = NULL;
	g_autofree char *id = NULL;

	if (call_query(c, "host") != NULL)
		return wanted_host(c, err);
	if (image != NULL) {
		img = image_choose(s, image, NULL, err);
		return img != NULL ? g_strdup(image_get(img, "stored_on")) : NULL;
	}
	if (volume == NULL)
		return NULL;
	id = record_resolve(s, "volumes", volume, err);
	v = id != NULL ? volume_load(s, id, NULL, err) : NULL;
	return v != NULL ? g_strdup(v->host_id) : NULL;
}

/* A start of what runs is seldom asked for: the copy of the records may be from before its end. */
static VmRecords *vm_to_place(ApiCall *c, RouteAt at, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);

	if (r == NULL || at != ROUTE_AT_START || is_off(r))
		return g_steal_pointer(&r);
	call_await_all(c);
	return call_vm(c, err);
}

static char *vm_target(ApiCall *c, RouteAt at, GError **err)
{
	g_autoptr(VmRecords) r = vm_to_place(c, at, err);

	if (r == NULL)
		return NULL;
	if (!is_off(r))
		return host_of_vm(c, r);
	if (at == ROUTE_AT_START)
		return host_for_start(c, r, err);
	if (at == ROUTE_AT_FILES && host_of_files(r) != NULL)
		return g_strdup(host_of_files(r));
	return host_of_vm(c, r);
}

static char *operation_target(ApiCall *c, GError **err)
{
	Store *s = engine_store(c->engine);
	g_autofree char *id = record_resolve(s, "operations", call_path(c, "operation"), err), *key = NULL;
	_cleanup_json_ Json *j = NULL;

	key = id != NULL ? key_operation(id) : NULL;
	j = key != NULL ? record_get(s, key, NULL, err) : NULL;
	return json_str(j, "finished_at") == NULL ? g_strdup(json_str(j, "host")) : NULL;
}

static char *image_target(ApiCall *c, GError **err)
{
	g_autoptr(Image) img = image_choose(engine_store(c->engine), call_path(c, "image"), NULL, err);

	return img != NULL ? g_strdup(image_get(img, "stored_on")) : NULL;
}

static char *volume_target(ApiCall *c, GError **err)
{
	Store *s = engine_store(c->engine);
	g_autofree char *id = record_resolve(s, "volumes", call_path(c, "volume"), err);
	g_autoptr(Volume) v = id != NULL ? volume_load(s, id, NULL, err) : NULL;

	return v != NULL ? g_strdup(v->host_id) : NULL;
}

/* NULL without error: here. */
static char *target_of(ApiCall *c, const Route *route, GError **err)
{
	switch (route->at) {
	case ROUTE_AT_HERE:
		return NULL;
	case ROUTE_AT_VM:
	case ROUTE_AT_START:
	case ROUTE_AT_FILES:
		return vm_target(c, route->at, err);
	case ROUTE_AT_CREATE:
		return host_for_create(c, err);
	case ROUTE_AT_HOST:
		return record_resolve(engine_store(c->engine), "hosts", call_path(c, "host"), err);
	case ROUTE_AT_OPERATION:
		return operation_target(c, err);
	case ROUTE_AT_IMAGE:
		return image_target(c, err);
	case ROUTE_AT_VOLUME:
		return volume_target(c, err);
	}
	g_assert_not_reached();
}

/* ---- passing on ---- */

/* The path and query again, of what was made of them. */
static char *path_of(const ApiCall *c, const Route *route)
{
	g_auto(GStrv) part = g_strsplit(route->path + 1, "/", -1);
	GString *path = g_string_new(NULL);
	GHashTableIter iter;
	gpointer name, values;
	char sep = '?';

	for (char **p = part; *p != NULL; p++) {
		g_autofree char *var = (*p)[0] == '{' ? g_strndup(*p + 1, strlen(*p) - 2) : NULL;
		g_autofree char *value =
		    var != NULL ? g_uri_escape_string(call_path(c, var), NULL, FALSE) : NULL;

		g_string_append_printf(path, "/%s", value != NULL ? value : *p);
	}
	g_hash_table_iter_init(&iter, c->query);
	while (g_hash_table_iter_next(&iter, &name, &values))
		for (char **v = values; *v != NULL; v++, sep = '&') {
			g_autofree char *n = g_uri_escape_string(name, NULL, FALSE);
			g_autofree char *t = g_uri_escape_string(*v, NULL, FALSE);

			g_string_append_printf(path, "%c%s=%s", sep, n, t);
		}
	return g_string_free(path, FALSE);
}

static bool fail_theirs(const PeerAnswer *a, const char *name, GError **err)
{
	gsize len;
	const char *text = g_bytes_get_data(a->body, &len);
	_cleanup_json_ Json *j = len > 0 ? json_parse(text, len, NULL) : NULL;
	g_autoptr(GError) theirs = NULL;

	if (json_str(j, "code") == NULL)
		return fail(err, ERR_UNAVAILABLE, "%s answers with HTTP status %u", name, a->status);
	theirs = err_of_json(j);
	g_prefix_error(&theirs, "%s: ", name);
	g_propagate_error(err, g_steal_pointer(&theirs));
	return false;
}

static void take_answer(ApiCall *c, PeerAnswer *a)
{
	c->status = a->status;
	c->location = g_strdup(a->location);
	if (a->etag != NULL) {
		g_strdelimit(a->etag, "\"", ' ');
		c->etag = g_ascii_strtoll(a->etag, NULL, 10);
	}
	/* An empty log is text all the same. */
	if (g_bytes_get_size(a->body) == 0 && a->content_type == NULL)
		return;
	c->bytes = g_bytes_ref(a->body);
	c->content_type = g_intern_string(a->content_type != NULL ? a->content_type : "application/json");
}

static char *name_of_host(const ApiCall *c, const char *id)
{
	g_autofree char *key = key_host(id);
	_cleanup_json_ Json *j = record_get(engine_store(c->engine), key, NULL, NULL);

	return g_strdup(json_str(j, "name") != NULL ? json_str(j, "name") : id);
}

static bool pass_on(ApiCall *c, const Route *route, const char *host, GError **err)
{
	g_autofree char *path = path_of(c, route), *name = name_of_host(c, host);
	g_autofree char *body = c->body != NULL ? json_print(c->body) : NULL;
	struct peer_request r = { .method = route->method,
				  .path = path,
				  .body = body,
				  .if_match = c->if_match,
				  .user = c->user,
				  .role = role_name(c->role),
				  .ended = call_is_ending,
				  .data = c };
	g_autoptr(PeerAnswer) a = NULL;
	uint64_t wait;
	bool rested;

	if (!call_number(c, "wait", 0, 3600, 0, &wait, err))
		return false;
	r.timeout = FORWARD_TIME + wait * SECOND;
	rested = call_rest(c);
	a = peer_exchange_host(c->engine, host, &r, err);
	call_wake(c, rested);
	if (a == NULL)
		return false;
	/* Who asks here about what was told there finds it. Older daemons do not say how far they are. */
	call_await_revision(c, a->revision > 0 ? a->revision : INT64_MAX);
	if (a->status >= 400)
		return fail_theirs(a, name, err);
	take_answer(c, a);
	return true;
}

/* An id of a host that is no member any more is nobody's. */
static bool fail_gone(const char *host, GError **err)
{
	return fail_advice(err, ERR_UNAVAILABLE, "`plim pool status` shows the hosts.",
			   "what this needs is on host '%s', which is not in the pool any more", host);
}

/* The member that it is for; *ret_host stays NULL when that is this one. */
static bool find_other(ApiCall *c, const Route *route, char **ret_host, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *host = NULL;

	*ret_host = NULL;
	if (engine_membership(c->engine) == NULL || c->peer != NULL)
		return true;
	host = target_of(c, route, &e);
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (host == NULL || g_str_equal(host, engine_facts(c->engine)->id))
		return true;
	if (!is_member(engine_store(c->engine), host))
		return fail_gone(host, err);
	*ret_host = g_steal_pointer(&host);
	return true;
}

bool forward_call(ApiCall *c, const Route *route, bool *ret_done, GError **err)
{
	g_autofree char *host = NULL;

	if (!find_other(c, route, &host, err))
		return false;
	*ret_done = host != NULL;
	return host == NULL || pass_on(c, route, host, err);
}

static Ws *connect_to(ApiCall *c, const Route *route, const char *host, GError **err)
{
	g_autofree char *path = path_of(c, route), *name = name_of_host(c, host);
	g_autofree char *user = g_strconcat("Plimsoll-User: ", c->user, NULL);
	g_autofree char *role = g_strconcat("Plimsoll-Role: ", role_name(c->role), NULL);
	g_autofree char *seen =
	    g_strdup_printf(PEER_REVISION ": %" PRId64, store_revision(engine_store(c->engine), NULL));
	const char *const headers[] = { user, role, seen, NULL };
	struct ws_connection connection;
	g_autoptr(GError) e = NULL;
	Ws *ws;

	if (!text_is_plain(c->user)) {
		fail(err, ERR_INVALID,
		     "your name can't be passed on to another host: it holds control characters");
		return NULL;
	}
	if (!peer_connect(c->engine, host, SOCKET_TIME, &connection, err))
		return NULL;
	ws = ws_connect(&connection, host, path, headers, SOCKET_TIME, &e);
	if (ws == NULL) {
		g_prefix_error(&e, "%s: ", name);
		g_propagate_error(err, g_steal_pointer(&e));
	}
	return ws;
}

bool forward_socket(ApiCall *c, const Route *route, Ws **ret, GError **err)
{
	g_autofree char *host = NULL;
	bool rested;

	*ret = NULL;
	if (!find_other(c, route, &host, err))
		return false;
	rested = host != NULL && call_rest(c);
	if (host != NULL)
		*ret = connect_to(c, route, host, err);
	call_wake(c, rested);
	return host == NULL || *ret != NULL;
}
