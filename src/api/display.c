/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket between a client and a guest's screen: VNC's protocol (RFC 6143)
 * as QEMU speaks it, in binary messages, as web viewers want it. QEMU listens
 * nowhere: it is handed a connection for this viewer. It has a server for them
 * only with platform.vnc, since that looks at the screen from time to time even
 * when nobody else does.
 */
#include "api/api-impl.h"
#include "api/handlers.h"
#include "base/fd.h"
#include "core/model/vm_state.h"
#include "engine/stream.h"
#include "engine/vm_ops.h"

/* What may wait for one slow client before QEMU waits. */
#define TO_CLIENT_MAX (UINT64_C(1) << 20)
/* Keys and pointer moves that QEMU has not read yet: then the client waits; there is room for what is on its
 * way. */
#define TO_GUEST_MANY (UINT64_C(256) << 10)
#define TO_GUEST_MAX (UINT64_C(8) << 20)
#define PING_INTERVAL (UINT64_C(30) * 1000000)

typedef struct DisplayLink {
	Api *api;
	HttpWs *ws;
	Stream *stream; /* NULL: QEMU hung up */
} DisplayLink;

static void on_drain(HttpWs *ws, void *data)
{
	DisplayLink *l = data;

	(void)ws;
	if (l->stream != NULL)
		stream_resume(l->stream);
}

static void on_picture(const char *bytes, size_t len, void *data)
{
	DisplayLink *l = data;

	http_ws_send(l->ws, false, bytes, len);
	if (http_ws_queued(l->ws) >= TO_CLIENT_MAX)
		stream_pause(l->stream);
}

static void on_hung_up(const GError *e, void *data)
{
	DisplayLink *l = data;

	(void)e;
	l->stream = stream_free(l->stream);
	http_ws_close(l->ws, 1001, "the guest's display was closed");
}

static void on_room(void *data)
{
	DisplayLink *l = data;

	http_ws_pause(l->ws, false);
}

static void on_message(HttpWs *ws, bool text, const uint8_t *buf, size_t len, void *data)
{
	DisplayLink *l = data;

	(void)text;
	if (l->stream == NULL)
		return;
	if (!stream_write(l->stream, buf, len, -EBADF, NULL))
		http_ws_close(ws, 1008, "QEMU does not read what it is sent");
	else if (stream_room(l->stream) < TO_GUEST_MAX - TO_GUEST_MANY)
		http_ws_pause(ws, true);
}

static void on_close(HttpWs *ws, unsigned code, void *data)
{
	DisplayLink *l = data;

	(void)ws, (void)code;
	stream_free(l->stream);
	g_ptr_array_remove_fast(l->api->display, l);
	g_free(l);
}

static const struct http_ws_callbacks ws_callbacks = {
	.on_message = on_message,
	.on_drain = on_drain,
	.on_close = on_close,
	.ping_interval = PING_INTERVAL,
};
static const StreamHandler stream_handler = { .input = on_picture, .closed = on_hung_up, .drained = on_room };

int display_find(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = NULL;
	g_autoptr(Vmm) v = NULL;

	if (engine_is_sim(c->engine))
		return fail(err, ERR_UNSUPPORTED, "the simulated engine has no guests"), -EBADF;
	r = call_vm(c, err);
	if (r == NULL || !vm_allows(r->vm->name, r->runtime, VM_ACTION_screenshot, err))
		return -EBADF;
	v = fleet_vmm(engine_fleet(c->engine), r->vm->id);
	if (v == NULL)
		return fail_advice(err, ERR_BAD_STATE, "Start it first.", "vm '%s' does not run",
				   r->vm->name),
		       -EBADF;
	return vm_display_open(v, err);
}

void display_link_open(Api *a, HttpRequest *req, int fd)
{
	DisplayLink *l = g_new0(DisplayLink, 1);

	l->api = a;
	l->ws = http_ws_accept(req, &ws_callbacks, l);
	if (l->ws == NULL) {
		close(fd);
		g_free(l);
		return;
	}
	l->stream = stream_new(a->loop, fd, TO_GUEST_MAX, &stream_handler, l);
	g_ptr_array_add(a->display, l);
}

void display_links_close(Api *a)
{
	for (guint i = 0; i < a->display->len; i++)
		http_ws_close(((DisplayLink *)a->display->pdata[i])->ws, 1001, "the daemon stops");
}
