/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http-impl.h"
#include "base/fd.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define SECOND UINT64_C(1000000)
/* A body has this long to begin, and must come at this many bytes a second on average. */
#define BODY_GRACE (30 * SECOND)
#define BODY_RATE 1024
/* How long a client may be silent that still sends what is thrown away, and how long in all. */
#define LINGER_SILENCE (2 * SECOND)
#define LINGER_TIME (30 * SECOND)

static void on_io(int fd, uint32_t events, void *data);
static void on_timer(void *data);

static uint64_t now_of(const HttpConn *c)
{
	return loop_now(c->server->loop);
}

/* ---- life ---- */

void conn_new(HttpServer *s, Listener *ln, int fd, Tls *tls, struct http_peer *peer)
{
	HttpConn *c = g_new0(HttpConn, 1);

	*c = (HttpConn){ .server = s, .listener = ln, .fd = fd, .tls = tls, .peer = *peer };
	*peer = (struct http_peer){ 0 };
	c->writable = true;
	c->timer_at = c->deadline = UINT64_MAX;
	c->in = g_byte_array_new();
	g_queue_init(&c->out);
	c->io = loop_add_fd(s->loop, fd, 0, on_io, c);
	g_hash_table_add(s->conns, c);
	conn_set_state(c, tls != NULL ? CONN_HANDSHAKE : CONN_HEAD);
	conn_enter(c);
	conn_leave(c);
}

static void conn_free(HttpConn *c)
{
	g_byte_array_unref(c->in);
	g_queue_clear_full(&c->out, (GDestroyNotify)g_bytes_unref);
	g_free(c->peer.groups);
	g_free(c->peer.address);
	g_free(c->peer.cert_cn);
	g_free(c->peer.cert_sha256);
	g_free(c);
}

void conn_die(HttpConn *c)
{
	if (c->state == CONN_DEAD)
		return;
	c->state = CONN_DEAD;
	g_hash_table_remove(c->server->conns, c);
	c->io = loop_source_free(c->io);
	c->timer = loop_source_free(c->timer);
	c->tls = tls_free(c->tls);
	fd_closep(&c->fd);
	c->fd = -EBADF;
	listener_release(c->listener);
	exchange_release(c);
	if (c->stream != NULL)
		stream_lost(g_steal_pointer(&c->stream));
	if (c->ws != NULL)
		ws_lost(g_steal_pointer(&c->ws));
}

void conn_set_state(HttpConn *c, ConnState state)
{
	if (c->state == CONN_DEAD)
		return;
	c->state = state;
	c->since = now_of(c);
}

/* ---- bytes ---- */

bool conn_read(HttpConn *c, size_t max)
{
	size_t room = c->in->len < max ? MIN(max - c->in->len, c->server->scratch_size) : 0;
	ssize_t r;

	if (room == 0 || !c->readable || c->eof)
		return false;
	if (c->tls != NULL) {
		r = tls_read(c->tls, c->server->scratch, room);
	} else {
		r = recv(c->fd, c->server->scratch, room, 0);
		r = r < 0 ? -errno : r;
	}
	if (r > 0) {
		g_byte_array_append(c->in, c->server->scratch, (guint)r);
		/*
		 * One piece a turn, so that a fast sender does not keep the others waiting: the loop tells
		 * when the socket has more. It does not see what TLS holds back.
		 */
		c->readable = c->tls != NULL && tls_pending(c->tls);
		return true;
	}
	c->readable = r == -EINTR;
	c->eof = r == 0;
	if (r < 0 && r != -EAGAIN && r != -EINTR)
		conn_die(c);
	return false;
}

void conn_used(HttpConn *c, size_t n)
{
	g_byte_array_remove_range(c->in, 0, (guint)n);
	c->searched = 0;
}

void conn_queue(HttpConn *c, GBytes *bytes)
{
	if (c->state == CONN_DEAD || g_bytes_get_size(bytes) == 0) {
		g_bytes_unref(bytes);
		return;
	}
	if (c->out_len == 0)
		c->moved_at = now_of(c);
	c->out_len += g_bytes_get_size(bytes);
	g_queue_push_tail(&c->out, bytes);
}

static ssize_t send_some(HttpConn *c)
{
	size_t len;
	const uint8_t *buf = g_bytes_get_data(g_queue_peek_head(&c->out), &len);
	ssize_t r;

	if (c->tls != NULL)
		return tls_write(c->tls, buf + c->out_off, len - c->out_off);
	r = send(c->fd, buf + c->out_off, len - c->out_off, MSG_NOSIGNAL);
	return r < 0 ? -errno : r;
}

static void conn_sent(HttpConn *c, size_t n)
{
	c->moved_at = now_of(c);
	c->out_len -= n;
	c->out_off += n;
	if (c->out_off == g_bytes_get_size(g_queue_peek_head(&c->out))) {
		g_bytes_unref(g_queue_pop_head(&c->out));
		c->out_off = 0;
	}
}

void conn_send(HttpConn *c)
{
	while (c->out_len > 0 && c->writable && c->state != CONN_DEAD) {
		ssize_t r = send_some(c);

		if (r > 0)
			conn_sent(c, (size_t)r);
		else if (r == -EAGAIN)
			c->writable = false;
		else if (r != -EINTR)
			conn_die(c);
	}
}

/* ---- the states ---- */

/* What the client sent behind a handshake that failed is read away, so that the alert reaches it. */
static bool refuse_handshake(HttpConn *c)
{
	c->tls = tls_free(c->tls);
	shutdown(c->fd, SHUT_WR);
	c->readable = true;
	conn_set_state(c, CONN_LINGER);
	return true;
}

static bool step_handshake(HttpConn *c)
{
	int r = tls_handshake(c->tls);

	if (r == -EAGAIN)
		return false;
	if (r < 0)
		return refuse_handshake(c);
	if (!tls_identity(c->tls, &c->peer.cert_cn, &c->peer.cert_sha256)) {
		conn_die(c);
		return false;
	}
	c->readable = true;
	conn_set_state(c, CONN_HEAD);
	return true;
}

static bool step_read(HttpConn *c)
{
	bool idle = c->state == CONN_HEAD && c->in->len == 0;

	if (exchange_step(c))
		return true;
	if (c->state != CONN_HEAD && (c->state != CONN_BODY || c->body_paused))
		return false;
	if (conn_read(c, c->state == CONN_HEAD ? c->server->cfg.head_max : c->server->scratch_size)) {
		if (idle)
			c->since = now_of(c);
		return true;
	}
	if (c->eof)
		conn_die(c);
	return false;
}

static bool step_flush(HttpConn *c)
{
	if (c->out_len > 0)
		return false;
	if (c->tls != NULL)
		tls_bye(c->tls);
	shutdown(c->fd, SHUT_WR);
	conn_set_state(c, CONN_LINGER);
	return true;
}

static bool step_linger(HttpConn *c)
{
	g_byte_array_set_size(c->in, 0);
	if (conn_read(c, c->server->scratch_size)) {
		c->moved_at = now_of(c);
		return true;
	}
	if (c->eof)
		conn_die(c);
	return false;
}

static bool conn_step(HttpConn *c)
{
	switch (c->state) {
	case CONN_HANDSHAKE:
		return step_handshake(c);
	case CONN_HEAD:
	case CONN_BODY:
		return step_read(c);
	case CONN_ANSWER:
		if (!c->answered || c->out_len > 0)
			return false;
		exchange_next(c);
		return true;
	case CONN_WS:
		ws_pump(c->ws);
		return c->state == CONN_FLUSH;
	case CONN_FLUSH:
		return step_flush(c);
	case CONN_LINGER:
		return step_linger(c);
	case CONN_DEAD:
		return false;
	}
	g_assert_not_reached();
}

static void conn_pump(HttpConn *c)
{
	do
		conn_send(c);
	while (conn_step(c));
}

/* ---- what to wait for ---- */

static bool wants_drain(const HttpConn *c)
{
	if (c->state == CONN_ANSWER)
		return c->stream != NULL && stream_wants_drain(c->stream);
	return c->state == CONN_WS && ws_wants_drain(c->ws);
}

static uint32_t wanted_events(const HttpConn *c)
{
	bool in = false, out = (c->out_len > 0 && !c->writable) || wants_drain(c);

	switch (c->state) {
	case CONN_HANDSHAKE:
		out = tls_wants_write(c->tls);
		in = !out;
		break;
	case CONN_HEAD:
	case CONN_LINGER:
		in = true;
		break;
	case CONN_BODY:
		in = !c->body_paused;
		break;
	case CONN_WS:
		in = ws_wants_read(c->ws);
		break;
	case CONN_ANSWER:
	case CONN_FLUSH:
	case CONN_DEAD:
		break;
	}
	return (in ? EPOLLIN : 0u) | (out ? EPOLLOUT : 0u) | (in || c->rdhup ? 0u : EPOLLRDHUP);
}

/* When a client that takes nothing of what is to be sent has had its time. */
static uint64_t sent_deadline(const HttpConn *c)
{
	return c->out_len > 0 || wants_drain(c) ? c->moved_at + c->server->cfg.write_timeout : UINT64_MAX;
}

static uint64_t body_deadline(const HttpConn *c)
{
	return c->body_paused ? UINT64_MAX
			      : c->since + BODY_GRACE + (c->body_got - c->body_mark) / BODY_RATE * SECOND;
}

static uint64_t wanted_deadline(const HttpConn *c)
{
	const struct http_config *cfg = &c->server->cfg;
	uint64_t sent = sent_deadline(c);

	switch (c->state) {
	case CONN_HANDSHAKE:
		return c->since + cfg->head_timeout;
	case CONN_HEAD:
		return c->since + (c->in->len > 0 || c->served == 0 ? cfg->head_timeout : cfg->idle_timeout);
	case CONN_BODY:
		return MIN(sent, body_deadline(c));
	case CONN_WS:
		return MIN(sent, ws_deadline(c->ws));
	case CONN_ANSWER:
	case CONN_FLUSH:
		return sent;
	case CONN_LINGER:
		return MIN(MAX(c->since, c->moved_at) + LINGER_SILENCE, c->since + LINGER_TIME);
	case CONN_DEAD:
		break;
	}
	return UINT64_MAX;
}

/* A timer that is due too early is left alone: it looks again. Most deadlines move, and are never reached. */
static void set_timer(HttpConn *c)
{
	uint64_t now = now_of(c), delay;

	if (c->deadline >= c->timer_at)
		return;
	delay = c->deadline > now ? c->deadline - now : 0;
	if (c->timer == NULL)
		c->timer = loop_add_timer(c->server->loop, delay, on_timer, c);
	else
		loop_timer_set(c->timer, delay);
	c->timer_at = c->deadline;
}

static void conn_update(HttpConn *c)
{
	uint32_t events = wanted_events(c);

	if (events != c->events)
		loop_fd_set_events(c->io, events);
	c->events = events;
	c->deadline = wanted_deadline(c);
	set_timer(c);
	if (c->in->len == 0 && c->state == CONN_HEAD) {
		g_byte_array_unref(c->in); /* thousands of idle connections need no buffers */
		c->in = g_byte_array_new();
	}
}

void conn_enter(HttpConn *c)
{
	c->users++;
}

void conn_leave(HttpConn *c)
{
	if (c->users == 1)
		conn_pump(c);
	if (--c->users > 0)
		return;
	if (c->state == CONN_DEAD)
		conn_free(c);
	else
		conn_update(c);
}

/* ---- events ---- */

/* Once a turn, however fast the client takes what is written. */
static void drained(HttpConn *c)
{
	if (c->out_len > 0 || !wants_drain(c))
		return;
	if (c->stream != NULL)
		stream_drained(c->stream);
	else
		ws_drained(c->ws);
}

static void on_io(int fd, uint32_t events, void *data)
{
	HttpConn *c = data;

	(void)fd;
	conn_enter(c);
	c->readable |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0;
	c->writable |= (events & EPOLLOUT) != 0;
	c->rdhup |= (events & EPOLLRDHUP) != 0;
	conn_pump(c);
	if (events & EPOLLOUT)
		drained(c);
	/* A client on the unix socket may close its half and wait for the answer; on TLS that means it has
	 * gone. */
	if ((events & (EPOLLERR | EPOLLHUP)) || (c->rdhup && c->tls != NULL && c->state == CONN_ANSWER))
		conn_die(c);
	conn_leave(c);
}

static void on_timer(void *data)
{
	HttpConn *c = data;
	bool stuck;

	c->timer_at = UINT64_MAX;
	if (c->deadline > now_of(c)) {
		if (c->deadline != UINT64_MAX)
			set_timer(c);
		return;
	}
	stuck = sent_deadline(c) <= now_of(c);
	conn_enter(c);
	if (!stuck && (c->state == CONN_BODY || (c->state == CONN_HEAD && c->in->len > 0)))
		exchange_timeout(c);
	else if (!stuck && c->state == CONN_WS)
		ws_timeout(c->ws);
	else
		conn_die(c);
	conn_leave(c);
}
