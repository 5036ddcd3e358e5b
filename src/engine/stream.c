/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/stream.h"
#include "base/fd.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* A dead peer's socket holds less than this; a live one is not drained for ever. */
#define DRAIN_CHUNKS 256

typedef struct Piece {
	char *bytes;
	size_t len, sent;
	int fd; /* ours, to pass with the first byte; -EBADF when there is none, or it went */
} Piece;

struct Stream {
	int refs; /* the owner's, and one while a handler may run */
	Loop *loop;
	int fd;
	LoopSource *source;
	const StreamHandler *handler;
	void *data;
	GQueue queue; /* Piece */
	size_t queued, queue_max;
	bool paused, done;
};

static void piece_free(Piece *p)
{
	fd_closep(&p->fd);
	g_free(p->bytes);
	g_free(p);
}

static void shut(Stream *s)
{
	Piece *p;

	s->done = true;
	s->source = loop_source_free(s->source);
	fd_closep(&s->fd);
	s->fd = -EBADF;
	while ((p = g_queue_pop_head(&s->queue)) != NULL)
		piece_free(p);
	s->queued = 0;
}

static void drop_ref(Stream *s)
{
	if (--s->refs == 0) {
		shut(s);
		g_free(s);
	}
}

Stream *stream_free(Stream *s)
{
	if (s != NULL) {
		shut(s);
		drop_ref(s);
	}
	return NULL;
}

static void tell_closed(Stream *s, int errnum)
{
	g_autoptr(GError) e = NULL;

	shut(s);
	if (errnum == 0)
		fail(&e, ERR_UNAVAILABLE, "the other side closed the connection");
	else
		fail_errno(&e, errnum, "the connection broke");
	s->handler->closed(e, s->data);
}

static void want_events(Stream *s)
{
	uint32_t events = 0;

	if (!s->paused)
		events |= EPOLLIN;
	if (!g_queue_is_empty(&s->queue))
		events |= EPOLLOUT;
	loop_fd_set_events(s->source, events);
}

/* Bytes sent, 0 when the socket is full, -errno. */
static ssize_t send_some(int sock, const char *bytes, size_t len, int pass_fd)
{
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = len };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (pass_fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof control.bytes;
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)),
		};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &pass_fd, sizeof pass_fd);
	}
	do
		n = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

/* False when the connection is broken; reading will tell how. */
static bool flush(Stream *s)
{
	Piece *p;

	while ((p = g_queue_peek_head(&s->queue)) != NULL) {
		ssize_t n = send_some(s->fd, p->bytes + p->sent, p->len - p->sent, p->fd);

		if (n <= 0)
			return n == 0;
		fd_closep(&p->fd);
		p->fd = -EBADF;
		p->sent += (size_t)n;
		s->queued -= (size_t)n;
		if (p->sent == p->len)
			piece_free(g_queue_pop_head(&s->queue));
	}
	return true;
}

static void on_writable(Stream *s)
{
	bool ok = flush(s);

	if (!ok) {
		/* Nothing more can go out; what the peer still said may be read. */
		while (!g_queue_is_empty(&s->queue))
			piece_free(g_queue_pop_head(&s->queue));
		s->queued = 0;
	}
	want_events(s);
	if (ok && g_queue_is_empty(&s->queue) && s->handler->drained != NULL)
		s->handler->drained(s->data);
}

/* False when there is nothing more to read now. */
static bool read_chunk(Stream *s)
{
	char chunk[STREAM_CHUNK];
	ssize_t n;

	do
		n = recv(s->fd, chunk, sizeof chunk, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0)
		s->handler->input(chunk, (size_t)n, s->data);
	else
		tell_closed(s, n == 0 ? 0 : errno);
	return n > 0;
}

static void on_fd(int fd, uint32_t events, void *data)
{
	Stream *s = data;

	(void)fd;
	s->refs++;
	if ((events & EPOLLOUT) != 0)
		on_writable(s);
	/* A peer that hung up has sent its last: what is left is read even when paused. */
	if ((events & (EPOLLHUP | EPOLLERR)) != 0)
		stream_drain(s);
	else if (!s->done && !s->paused && (events & EPOLLIN) != 0)
		read_chunk(s);
	drop_ref(s);
}

Stream *stream_new(Loop *l, int fd, size_t queue_max, const StreamHandler *h, void *data)
{
	Stream *s = g_new(Stream, 1);

	*s = (Stream){
		.refs = 1,
		.loop = l,
		.fd = fd,
		.handler = h,
		.data = data,
		.queue = G_QUEUE_INIT,
		.queue_max = queue_max,
	};
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	s->source = loop_add_fd(l, fd, EPOLLIN, on_fd, s);
	return s;
}

size_t stream_room(const Stream *s)
{
	return s->queue_max - s->queued;
}

bool stream_write(Stream *s, const void *bytes, size_t len, int pass_fd, GError **err)
{
	Piece *p;

	if (s->done || len == 0)
		return true;
	if (len > stream_room(s))
		return fail(err, ERR_LIMIT, "%zu bytes wait to be sent already", s->queued);
	if (pass_fd >= 0) {
		pass_fd = fcntl(pass_fd, F_DUPFD_CLOEXEC, 3);
		if (pass_fd < 0)
			return fail_errno(err, errno, "can't pass a descriptor on");
	}
	p = g_new(Piece, 1);
	*p = (Piece){ .bytes = g_memdup2(bytes, len), .len = len, .fd = pass_fd };
	g_queue_push_tail(&s->queue, p);
	s->queued += len;
	/* Only the head may go out now: order. A broken pipe shows when it is polled. */
	if (s->queue.length == 1)
		flush(s);
	want_events(s);
	return true;
}

void stream_pause(Stream *s)
{
	if (!s->done && !s->paused) {
		s->paused = true;
		want_events(s);
	}
}

void stream_resume(Stream *s)
{
	if (!s->done && s->paused) {
		s->paused = false;
		want_events(s);
	}
}

void stream_drain(Stream *s)
{
	s->refs++;
	for (unsigned i = 0; i < DRAIN_CHUNKS && !s->done && read_chunk(s); i++)
		continue;
	drop_ref(s);
}
