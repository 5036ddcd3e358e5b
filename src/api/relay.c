/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket of a client that is served by another host's daemon: messages go
 * from one to the other, in both directions, at the pace of the slower side.
 *
 * The client may leave while what it typed is still on its way: then `near` is
 * NULL, and the relay goes on until the other daemon has taken it.
 */
#include "api/api-impl.h"

#include <poll.h>
#include <sys/epoll.h>

/* What may wait for a side before the other one is not read any more. */
#define QUEUE_MAX (UINT64_C(256) << 10)
#define PING_INTERVAL (UINT64_C(30) * 1000000)
#define LEAVE_TIME (UINT64_C(10) * 1000000)
/* Of RFC 6455, section 7.4; the middle two are for the API only, never sent. */
#define CODE_NORMAL 1000
#define CODE_NONE 1005
#define CODE_LOST 1006
#define CODE_BROKEN 1011

struct Relay {
	Api *api;
	HttpWs *near;
	Ws *far;
	LoopSource *io, *late;
	uint32_t events;
	bool inside, over;
};

void relay_free(Relay *r)
{
	loop_source_free(r->io);
	loop_source_free(r->late);
	ws_free(r->far);
	g_ptr_array_remove_fast(r->api->relay, r);
	g_free(r);
}

static void pass_to_near(Relay *r)
{
	struct ws_message *m;

	while ((r->near == NULL || http_ws_queued(r->near) < QUEUE_MAX) && (m = ws_next(r->far)) != NULL) {
		if (r->near != NULL)
			http_ws_send(r->near, m->text, m->data, m->len);
		g_free(m);
	}
}

/* The other daemon's last words, or our own when it had none. */
static void end(Relay *r, bool broken)
{
	unsigned code = CODE_LOST;
	const char *reason = NULL;

	if (r->over || (!broken && !ws_closed(r->far, &code, &reason)))
		return;
	r->over = true;
	if (r->near == NULL)
		return;
	if (code == CODE_LOST)
		http_ws_close(r->near, CODE_BROKEN, "the connection to the vm's host broke");
	else
		http_ws_close(r->near, code == CODE_NONE ? CODE_NORMAL : code, reason);
}

static void wait_for_more(Relay *r)
{
	bool full;
	uint32_t events = 0;

	/* It may bring messages, so it comes first. */
	if (r->near != NULL)
		http_ws_pause(r->near, !r->over && ws_queued(r->far) > QUEUE_MAX);
	full = r->near != NULL && http_ws_queued(r->near) >= QUEUE_MAX;

	if (!r->over)
		events = (full ? 0u : EPOLLIN) | ((ws_events(r->far) & POLLOUT) && !full ? EPOLLOUT : 0u) |
			 (ws_queued(r->far) > 0 ? EPOLLOUT : 0u);
	if (events != r->events)
		loop_fd_set_events(r->io, events);
	r->events = events;
}

/* As far as it goes now. Calls that come back here from below have nothing to do that this one does not. */
static void pump(Relay *r)
{
	bool ok;

	if (r->inside || r->over)
		return;
	r->inside = true;
	ok = ws_service(r->far, NULL);
	pass_to_near(r);
	end(r, !ok);
	wait_for_more(r);
	r->inside = false;
	if (r->over && r->near == NULL)
		relay_free(r);
}

static void on_far(int fd, uint32_t events, void *data)
{
	(void)fd, (void)events;
	pump(data);
}

static void on_message(HttpWs *ws, bool text, const uint8_t *buf, size_t len, void *data)
{
	Relay *r = data;

	(void)ws;
	if (!r->over)
		ws_send(r->far, text, buf, len);
	pump(r);
}

static void on_drain(HttpWs *ws, void *data)
{
	(void)ws;
	pump(data);
}

static void on_late(void *data)
{
	relay_free(data);
}

static void on_close(HttpWs *ws, unsigned code, void *data)
{
	Relay *r = data;

	(void)ws, (void)code;
	r->near = NULL;
	if (r->over) {
		relay_free(r);
		return;
	}
	r->late = loop_add_timer(r->api->loop, LEAVE_TIME, on_late, r);
	ws_close(r->far, CODE_NORMAL, NULL);
	pump(r);
}

void relay_open(Api *a, HttpRequest *req, Ws *take)
{
	static const struct http_ws_callbacks callbacks = {
		.on_message = on_message,
		.on_drain = on_drain,
		.on_close = on_close,
		.ping_interval = PING_INTERVAL,
	};
	Relay *r = g_new0(Relay, 1);

	*r = (Relay){ .api = a, .far = take, .inside = true };
	r->io = loop_add_fd(a->loop, ws_fd(take), 0, on_far, r);
	g_ptr_array_add(a->relay, r);
	r->near = http_ws_accept(req, &callbacks, r);
	r->inside = false;
	if (r->near == NULL) {
		relay_free(r);
		return;
	}
	pump(r);
}

void relay_say_goodbye(Relay *r, const char *reason)
{
	if (r->near != NULL)
		http_ws_close(r->near, 1001, reason);
}
