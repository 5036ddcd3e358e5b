/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket between a client and a guest's console.
 *
 * The vm is looked up on a worker thread, and if it runs on another host its
 * daemon has the console (relay.c). Then all stays on the loop: what the
 * guest prints goes to the client as fast as both allow, what the client sends
 * waits while the guest does not read.
 */
#include "api/api-impl.h"
#include "api/handlers.h"
#include "core/model/vm_state.h"

#define PIECE 4096
/* What may wait for one slow client before its guest's output waits in the ring. */
#define QUEUE_MAX (UINT64_C(256) << 10)
#define PING_INTERVAL (UINT64_C(30) * 1000000)

typedef struct ConsoleLink {
	Api *api;
	HttpWs *ws;
	ConsoleReader *reader;
	GByteArray *input; /* that the guest has not taken yet */
} ConsoleLink;

static void pass_output(void *data)
{
	ConsoleLink *l = data;
	uint8_t buf[PIECE];
	size_t n;

	while (http_ws_queued(l->ws) < QUEUE_MAX && (n = console_read(l->reader, buf, sizeof buf, NULL)) > 0)
		if (!http_ws_send(l->ws, false, buf, n))
			return;
}

static void on_drain(HttpWs *ws, void *data)
{
	(void)ws;
	pass_output(data);
}

static void pass_input(void *data)
{
	ConsoleLink *l = data;
	size_t n = console_write(l->reader, l->input->data, l->input->len);

	if (n > 0)
		g_byte_array_remove_range(l->input, 0, (guint)n);
	http_ws_pause(l->ws, l->input->len > 0);
}

static void on_message(HttpWs *ws, bool text, const uint8_t *buf, size_t len, void *data)
{
	ConsoleLink *l = data;

	(void)ws, (void)text;
	g_byte_array_append(l->input, buf, (guint)len);
	pass_input(l);
}

static void on_ended(void *data)
{
	ConsoleLink *l = data;

	pass_output(l);
	http_ws_close(l->ws, 1001, "the guest's console was closed");
}

static void on_close(HttpWs *ws, unsigned code, void *data)
{
	ConsoleLink *l = data;

	(void)ws, (void)code;
	console_detach(l->reader);
	g_ptr_array_remove_fast(l->api->console, l);
	g_byte_array_unref(l->input);
	g_free(l);
}

static const struct http_ws_callbacks ws_callbacks = {
	.on_message = on_message,
	.on_drain = on_drain,
	.on_close = on_close,
	.ping_interval = PING_INTERVAL,
};
static const ConsoleHandler console_handler = { .readable = pass_output,
						.writable = pass_input,
						.ended = on_ended };

static void begin(Api *a, HttpRequest *req, Console *c)
{
	ConsoleLink *l = g_new0(ConsoleLink, 1);

	l->api = a;
	l->ws = http_ws_accept(req, &ws_callbacks, l);
	if (l->ws == NULL) {
		g_free(l);
		return;
	}
	l->input = g_byte_array_new();
	l->reader = console_attach(c, CONSOLE_RING_SIZE, &console_handler, l);
	g_ptr_array_add(a->console, l);
	pass_output(l);
}

/* ---- which console ---- */

struct ConsoleTarget {
	char *id, *name, *port;
};

ConsoleTarget *console_target_free(ConsoleTarget *t)
{
	if (t != NULL) {
		g_free(t->id);
		g_free(t->name);
		g_free(t->port);
		g_free(t);
	}
	return NULL;
}

ConsoleTarget *console_target_find(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = NULL;
	const char *port = call_query(c, "port");
	ConsoleTarget *t;

	if (engine_is_sim(c->engine)) {
		fail(err, ERR_UNSUPPORTED, "the simulated engine has no guests");
		return NULL;
	}
	r = call_vm(c, err);
	if (r == NULL)
		return NULL;
	if (json_str(r->runtime, "operation") == NULL &&
	    !vm_allows(r->vm->name, r->runtime, VM_ACTION_console, err))
		return NULL;
	t = g_new0(ConsoleTarget, 1);
	t->id = g_strdup(r->vm->id);
	t->name = g_strdup(r->vm->name);
	t->port = g_strdup(port != NULL ? port : "console");
	return t;
}

bool console_link_open(Api *a, HttpRequest *req, const ConsoleTarget *t, GError **err)
{
	Console *c = fleet_console(engine_fleet(a->engine), t->id, t->port);

	if (c == NULL)
		return fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Set platform.console=true (or platform.hvm_serial=pty) and start it again.",
		    "vm '%s' has no such console", t->name);
	begin(a, req, c);
	return true;
}

void console_links_close(Api *a)
{
	for (guint i = 0; i < a->console->len; i++)
		http_ws_close(((ConsoleLink *)a->console->pdata[i])->ws, 1001, "the daemon stops");
	for (guint i = 0; i < a->relay->len; i++)
		relay_say_goodbye(a->relay->pdata[i], "the daemon stops");
}
