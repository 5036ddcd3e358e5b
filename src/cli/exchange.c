/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/exchange.h"
#include "base/fd.h"
#include "base/socket.h"
#include "base/str.h"
#include "base/time.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

struct Exchange {
	int fd;
	uint64_t end; /* of the time; UINT64_MAX: never */
	struct answer_head head;
	char in[ANSWER_HEAD_MAX + 1]; /* the head and what came with it */
	size_t n_in, taken;
	uint64_t left; /* of the body, when its length is known */
};

/* ---- the connection ---- */

static bool fail_late(GError **err)
{
	return fail_advice(err, ERR_TIMEOUT, "Try again, or look into the daemon's log.",
			   "the daemon did not answer in time");
}

static bool fail_broken(int errnum, GError **err)
{
	return fail_advice(err, ERR_UNAVAILABLE, "Look into the daemon's log, and try again.",
			   "the daemon did not answer: %s",
			   errnum != 0 ? g_strerror(errnum) : "it closed the connection");
}

static bool wait_for(const Exchange *x, short events, GError **err)
{
	struct pollfd p = { .fd = x->fd, .events = events };
	int r = 0;

	while (r == 0 || (r < 0 && errno == EINTR)) {
		uint64_t now = x->end == UINT64_MAX ? 0 : time_monotonic();

		if (now >= x->end)
			return fail_late(err);
		r = poll(&p, 1, x->end == UINT64_MAX ? -1 : (int)MIN((x->end - now) / 1000 + 1, 3600000));
	}
	return r > 0 || fail_errno(err, errno, "can't wait for the daemon");
}

static bool send_all(const Exchange *x, const char *text, size_t len, GError **err)
{
	while (len > 0) {
		ssize_t n = send(x->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			if (!wait_for(x, POLLOUT, err))
				return false;
		} else if (n < 0 && errno != EINTR) {
			return fail_broken(errno, err);
		}
		text += MAX(n, 0);
		len -= (size_t)MAX(n, 0);
	}
	return true;
}

/* 0 at the end of the connection. */
static bool receive(const Exchange *x, void *buf, size_t len, size_t *ret_n, GError **err)
{
	ssize_t n;

	do {
		if (!wait_for(x, POLLIN, err))
			return false;
		n = recv(x->fd, buf, len, MSG_DONTWAIT);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n < 0)
		return fail_broken(errno, err);
	*ret_n = (size_t)n;
	return true;
}

static bool is_clean(const char *text)
{
	for (; *text != '\0'; text++)
		if (!g_ascii_isgraph(*text))
			return false;
	return true;
}

static bool send_request(const Exchange *x, const struct exchange_request *r, GError **err)
{
	g_autoptr(GString) s = g_string_new(NULL);

	if (!is_clean(r->path))
		return fail(err, ERR_INVALID, "'%s' can't be asked for", r->path);
	g_string_printf(s, "%s %s HTTP/1.0\r\nHost: localhost\r\n", r->method, r->path);
	if (r->accept != NULL)
		g_string_append_printf(s, "Accept: %s\r\n", r->accept);
	if (r->body != NULL)
		g_string_append_printf(s, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
				       strlen(r->body));
	g_string_append_printf(s, "\r\n%s", r->body != NULL ? r->body : "");
	return send_all(x, s->str, s->len, err);
}

static bool read_head(Exchange *x, GError **err)
{
	g_autofree char *head = NULL;
	const char *end = NULL;

	while (end == NULL) {
		size_t n;

		if (x->n_in == ANSWER_HEAD_MAX)
			return answer_fail(err, "has no end of its head");
		if (!receive(x, x->in + x->n_in, ANSWER_HEAD_MAX - x->n_in, &n, err))
			return false;
		if (n == 0)
			return fail_broken(0, err);
		x->n_in += n;
		end = memmem(x->in, x->n_in, "\r\n\r\n", 4);
	}
	x->taken = (size_t)(end - x->in) + 4;
	if (memchr(x->in, '\0', x->taken) != NULL)
		return answer_fail(err, "is not text");
	head = g_strndup(x->in, x->taken);
	return answer_head_parse(head, &x->head, err);
}

Exchange *exchange_open(const struct exchange_request *r, GError **err)
{
	g_autoptr(Exchange) x = g_new(Exchange, 1);

	x->n_in = x->taken = 0;
	x->end = r->timeout > 0 ? time_monotonic() + r->timeout : UINT64_MAX;
	x->fd = socket_connect_wait(r->socket, err);
	if (x->fd < 0 || !send_request(x, r, err) || !read_head(x, err))
		return NULL;
	x->left = x->head.length;
	return g_steal_pointer(&x);
}

Exchange *exchange_free(Exchange *x)
{
	if (x != NULL) {
		fd_closep(&x->fd);
		g_free(x);
	}
	return NULL;
}

unsigned exchange_status(const Exchange *x)
{
	return x->head.status;
}

bool exchange_read(Exchange *x, void *buf, size_t len, size_t *ret_n, GError **err)
{
	size_t n = MIN(x->n_in - x->taken, len);

	n = (size_t)MIN(n, x->left);
	if (n > 0)
		memcpy(buf, x->in + x->taken, n);
	x->taken += n;
	if (n == 0 && x->left > 0 && !receive(x, buf, (size_t)MIN(len, x->left), &n, err))
		return false;
	if (n == 0 && x->left > 0 && x->left != ANSWER_LENGTH_UNKNOWN)
		return fail_broken(0, err);
	if (x->left != ANSWER_LENGTH_UNKNOWN)
		x->left -= n;
	*ret_n = n;
	return true;
}
