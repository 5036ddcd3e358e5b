/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/console.h"
#include "base/socket.h"
#include "engine/stream.h"

#define RETRY_FIRST UINT64_C(100000)
#define RETRY_LAST UINT64_C(10000000)

struct Console {
	Loop *loop;
	char *path;
	ConsoleRing *ring;
	Stream *stream;
	LoopSource *retry_timer, *rate_timer;
	uint64_t retry_delay;
	uint64_t window_begin, window_bytes;
	GPtrArray *reader; /* ConsoleReader, each with a reference */
	bool closing;      /* a handler may close it while it is being closed */
};

struct ConsoleReader {
	int refs;         /* the owner's, the console's, and of what is posted or called */
	Console *console; /* NULL: closed, or detached */
	const ConsoleHandler *handler;
	void *data;
	uint64_t at;
	bool told;     /* `readable` was called, and it has not come to the end since */
	bool wants_in; /* console_write() took less than it was given */
	bool detached;
};

static void reader_unref(gpointer p)
{
	ConsoleReader *r = p;

	if (--r->refs == 0)
		g_free(r);
}

/*
 * Calls `tell` for each reader, whatever the handlers attach, detach or close
 * meanwhile. The console may be gone when it returns.
 */
static void each_reader(Console *c, void (*tell)(ConsoleReader *r))
{
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(reader_unref);

	for (guint i = 0; i < c->reader->len; i++) {
		ConsoleReader *r = c->reader->pdata[i];

		r->refs++;
		g_ptr_array_add(all, r);
	}
	for (guint i = 0; i < all->len; i++)
		tell(all->pdata[i]);
}

static void tell_readable(ConsoleReader *r)
{
	if (r->detached || r->told || r->console == NULL || r->at >= console_ring_end(r->console->ring))
		return;
	r->told = true;
	if (r->handler->readable != NULL)
		r->handler->readable(r->data);
}

static void tell_writable(ConsoleReader *r)
{
	if (r->detached || !r->wants_in)
		return;
	r->wants_in = false;
	if (r->handler->writable != NULL)
		r->handler->writable(r->data);
}

static void tell_ended(ConsoleReader *r)
{
	if (!r->detached && r->handler->ended != NULL)
		r->handler->ended(r->data);
	r->console = NULL;
}

/*
 * The connection, in the order it lives
 */

static void on_input(const char *bytes, size_t len, void *data);
static void on_closed(const GError *e, void *data);
static void on_drained(void *data);

static const StreamHandler stream_handler = { .input = on_input, .closed = on_closed, .drained = on_drained };

static void connect_console(Console *c)
{
	int fd = socket_connect(c->path, NULL);

	if (fd < 0) {
		loop_timer_set(c->retry_timer, c->retry_delay);
		c->retry_delay = MIN(c->retry_delay * 2, RETRY_LAST);
		return;
	}
	c->stream = stream_new(c->loop, fd, CONSOLE_INPUT_MAX, &stream_handler, c);
}

static void on_retry(void *data)
{
	connect_console(data);
}

/* What came in this window of time; a guest that exceeds its rate is not read until the next. */
static void limit_rate(Console *c, size_t len)
{
	uint64_t now = loop_now(c->loop);

	if (now - c->window_begin >= CONSOLE_WINDOW) {
		c->window_begin = now;
		c->window_bytes = 0;
	}
	c->window_bytes += len;
	if (c->window_bytes < CONSOLE_RATE)
		return;
	stream_pause(c->stream);
	loop_timer_set(c->rate_timer, c->window_begin + CONSOLE_WINDOW - now);
}

static void on_window_end(void *data)
{
	Console *c = data;

	if (c->stream != NULL)
		stream_resume(c->stream);
}

static void on_input(const char *bytes, size_t len, void *data)
{
	Console *c = data;

	c->retry_delay = RETRY_FIRST;
	console_ring_write(c->ring, bytes, len);
	limit_rate(c, len);
	each_reader(c, tell_readable);
}

static void on_drained(void *data)
{
	each_reader(data, tell_writable);
}

static void on_closed(const GError *e, void *data)
{
	Console *c = data;

	(void)e;
	c->stream = stream_free(c->stream);
	loop_timer_set(c->retry_timer, c->retry_delay);
	c->retry_delay = MIN(c->retry_delay * 2, RETRY_LAST);
}

Console *console_open(Loop *l, const char *socket_path, const char *ring_path, GError **err)
{
	ConsoleRing *ring = console_ring_open(ring_path, err);
	Console *c;

	if (ring == NULL)
		return NULL;
	c = g_new0(Console, 1);
	c->loop = l;
	c->path = g_strdup(socket_path);
	c->ring = ring;
	c->reader = g_ptr_array_new_with_free_func(reader_unref);
	c->retry_delay = RETRY_FIRST;
	c->retry_timer = loop_add_timer(l, 0, on_retry, c);
	c->rate_timer = loop_add_timer(l, 0, on_window_end, c);
	loop_timer_stop(c->retry_timer);
	loop_timer_stop(c->rate_timer);
	connect_console(c);
	return c;
}

Console *console_close(Console *c)
{
	if (c == NULL || c->closing)
		return NULL;
	c->closing = true;
	/* What QEMU still sent before it ended belongs to the console. */
	if (c->stream != NULL)
		stream_drain(c->stream);
	c->stream = stream_free(c->stream);
	loop_source_free(c->retry_timer);
	loop_source_free(c->rate_timer);
	each_reader(c, tell_ended);
	g_ptr_array_unref(c->reader);
	console_ring_close(c->ring);
	g_free(c->path);
	g_free(c);
	return NULL;
}

/*
 * Readers
 */

static void on_attached(void *data)
{
	tell_readable(data);
	reader_unref(data);
}

ConsoleReader *console_attach(Console *c, uint64_t replay, const ConsoleHandler *h, void *data)
{
	uint64_t end = console_ring_end(c->ring), begin = console_ring_begin(c->ring);
	ConsoleReader *r = g_new0(ConsoleReader, 1);

	r->refs = 3;
	r->console = c;
	r->handler = h;
	r->data = data;
	r->at = MAX(begin, end > replay ? end - replay : 0);
	g_ptr_array_add(c->reader, r);
	loop_post(c->loop, on_attached, r);
	return r;
}

ConsoleReader *console_detach(ConsoleReader *r)
{
	if (r == NULL)
		return NULL;
	r->detached = true;
	if (r->console != NULL)
		g_ptr_array_remove(r->console->reader, r);
	r->console = NULL;
	reader_unref(r);
	return NULL;
}

size_t console_read(ConsoleReader *r, void *buf, size_t size, uint64_t *ret_lost)
{
	uint64_t lost = 0;
	size_t n;

	if (ret_lost != NULL)
		*ret_lost = 0;
	if (r->console == NULL)
		return 0;
	n = console_ring_read(r->console->ring, &r->at, buf, size, &lost);
	if (r->at == console_ring_end(r->console->ring))
		r->told = false;
	if (ret_lost != NULL)
		*ret_lost = lost;
	return n;
}

size_t console_write(ConsoleReader *r, const void *bytes, size_t len)
{
	const Console *c = r->console;
	size_t n;

	if (c == NULL || c->stream == NULL)
		return 0;
	n = MIN(len, stream_room(c->stream));
	if (n > 0 && !stream_write(c->stream, bytes, n, -EBADF, NULL))
		n = 0;
	r->wants_in = r->wants_in || n < len;
	return n;
}
