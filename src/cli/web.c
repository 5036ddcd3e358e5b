/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/web.h"
#include "base/fd.h"
#include "base/socket.h"
#include "base/str.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD_MAX 16384
#define HEAD_TIME_MS 10000
#define KEY_BYTES 16
#define PIECE 65536
/* Browsers open six at a time, and one for each console. */
#define CONNECTIONS_MAX 128
#define NOBODY (-1)
#define TABLE_MAX (UINT64_C(16) << 20)

typedef struct Web {
	const char *socket, *page;
	char key[2 * KEY_BYTES + 1];
	unsigned port;
	gint open; /* connections; atomic */
	gint user; /* uid of who came with the link first, or NOBODY; atomic */
} Web;

typedef struct Visit {
	Web *web;
	int fd;
} Visit;

/* ---- heads of requests ---- */

/* The value of the first header of that name, at its own place; its length in *ret_len. NULL: there is none.
 */
static const char *header(const char *head, const char *name, size_t *ret_len)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (g_ascii_strncasecmp(line, name, len) != 0 || line[len] != ':')
			continue;
		line += len + 1;
		line += strspn(line, " \t");
		*ret_len = strcspn(line, "\r\n");
		return line;
	}
	return NULL;
}

static bool header_is(const char *head, const char *name, const char *value)
{
	size_t len;
	const char *at = header(head, name, &len);

	return at != NULL && len == strlen(value) && g_ascii_strncasecmp(at, value, len) == 0;
}

/* A name that leads here but is not loopback's is another site's, which wants to be taken for this one. */
static bool is_for_here(const char *head, unsigned port)
{
	g_autofree char *number = g_strdup_printf("127.0.0.1:%u", port),
			*word = g_strdup_printf("localhost:%u", port);

	return header_is(head, "Host", number) || header_is(head, "Host", word);
}

/* Takes as long for a wrong key as for the right one. */
static bool same_key(const char *a, const char *key)
{
	unsigned char differs = 0;

	for (size_t i = 0; i < 2 * KEY_BYTES; i++)
		differs |= (unsigned char)(a[i] ^ key[i]);
	return differs == 0;
}

static bool has_cookie(const char *head, const char *key, unsigned port)
{
	g_autofree char *name = g_strdup_printf("plim-%u=", port);
	size_t len;
	const char *at = header(head, "Cookie", &len), *end = at != NULL ? at + len : NULL;

	while (at != NULL && at < end) {
		size_t piece = strcspn(at, ";\r\n");

		if (piece == strlen(name) + 2 * KEY_BYTES && strncmp(at, name, strlen(name)) == 0 &&
		    same_key(at + strlen(name), key))
			return true;
		at += piece;
		at += strspn(at, "; ");
	}
	return false;
}

bool web_head_allowed(const char *head, const char *key, unsigned port)
{
	return is_for_here(head, port) && has_cookie(head, key, port);
}

/*
 * Each connection carries one request: a browser may send a second one on it
 * for another page, and that one would not be looked at.
 */
char *web_head_single(const char *head)
{
	g_auto(GStrv) line = g_strsplit(head, "\r\n", -1);
	GString *s = g_string_new(line[0]);
	bool keep = header_is(head, "Upgrade", "websocket");

	for (char **l = line + 1; *l != NULL && **l != '\0'; l++)
		if (keep || (g_ascii_strncasecmp(*l, "Connection:", 11) != 0 &&
			     g_ascii_strncasecmp(*l, "Keep-Alive:", 11) != 0))
			g_string_append_printf(s, "\r\n%s", *l);
	g_string_append(s, keep ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
	return g_string_free(s, FALSE);
}

/* ---- who is at the other end ---- */

/* "0: 0100007F:1F90 0100007F:BA3C 01 QUEUES TIMER RETRIES UID ...": after `ends`, in so many words. */
#define UID_WORD 3

/* Both ends as the kernel's table has them, from the other side; and open, for of a closed one it knows no
 * owner. */
static char *ends_of(int fd)
{
	struct sockaddr_in us, them;
	socklen_t n_us = sizeof us, n_them = sizeof them;

	if (getsockname(fd, (struct sockaddr *)&us, &n_us) < 0 ||
	    getpeername(fd, (struct sockaddr *)&them, &n_them) < 0)
		return NULL;
	return g_strdup_printf(": %08X:%04X %08X:%04X 01 ", them.sin_addr.s_addr, ntohs(them.sin_port),
			       us.sin_addr.s_addr, ntohs(us.sin_port));
}

/* The uid of the browser's process, or NOBODY. */
static int user_of(int fd)
{
	g_autofree char *ends = ends_of(fd),
			*table = file_read_virtual("/proc/net/tcp", TABLE_MAX, NULL, NULL);
	const char *at = ends != NULL && table != NULL ? strstr(table, ends) : NULL;
	uint64_t uid;

	if (at == NULL)
		return NOBODY;
	at += strlen(ends);
	for (int i = 0; i < UID_WORD; i++)
		at += strcspn(at, " \n"), at += strspn(at, " ");
	uid = g_ascii_strtoull(at, NULL, 10);
	return uid < G_MAXINT ? (int)uid : NOBODY;
}

/*
 * Browsers tell a cookie to every server of 127.0.0.1, whatever its port, and other users may have servers
 * there: so the secret counts for that user only who came with the link.
 */
static bool is_users(Web *w, int fd)
{
	int user = user_of(fd);

	return user != NOBODY && user == g_atomic_int_get(&w->user);
}

/* The first one who comes with the link; from then on nobody else. */
static bool take_user(Web *w, int fd)
{
	int user = user_of(fd);

	return user != NOBODY && (g_atomic_int_compare_and_exchange(&w->user, NOBODY, user) ||
				  g_atomic_int_get(&w->user) == user);
}

/* ---- one connection ---- */

static bool send_all(int fd, const char *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return false;
		buf += MAX(n, 0);
		len -= (size_t)MAX(n, 0);
	}
	return true;
}

/* What came with the head and behind it; `ret_head` is the length of the head. NULL: none came. */
static GString *read_head(int fd, size_t *ret_head)
{
	g_autoptr(GString) in = g_string_new(NULL);
	gint64 end = g_get_monotonic_time() / 1000 + HEAD_TIME_MS;
	char buf[4096];

	for (;;) {
		const char *behind = strstr(in->str, "\r\n\r\n");
		struct pollfd p = { .fd = fd, .events = POLLIN };
		gint64 left = end - g_get_monotonic_time() / 1000;
		ssize_t n;

		if (behind != NULL) {
			*ret_head = (size_t)(behind - in->str) + 4;
			return g_steal_pointer(&in);
		}
		if (in->len > HEAD_MAX || left <= 0 || poll(&p, 1, (int)left) <= 0)
			return NULL;
		n = recv(fd, buf, sizeof buf, 0);
		if (n <= 0 || memchr(buf, '\0', (size_t)n) != NULL)
			return NULL;
		g_string_append_len(in, buf, n);
	}
}

/* False at the end of `from`. */
static bool pass(int from, int to)
{
	char buf[PIECE];
	ssize_t n = recv(from, buf, sizeof buf, 0);

	return n > 0 && send_all(to, buf, (size_t)n);
}

static void pass_both_ways(int a, int b)
{
	struct pollfd p[2] = { { .fd = a, .events = POLLIN }, { .fd = b, .events = POLLIN } };

	while (poll(p, 2, -1) > 0 || errno == EINTR) {
		if (p[0].revents != 0 && !pass(a, b))
			return;
		if (p[1].revents != 0 && !pass(b, a))
			return;
	}
}

static void refuse(int fd, const char *status, const char *text)
{
	g_autofree char *answer = g_strdup_printf("HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
						  "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
						  status, strlen(text) + 1, text);

	send_all(fd, answer, strlen(answer));
}

/* The link that was printed: from now on the browser is known. The page is asked for by a page of this site,
 * as the cookie demands. */
static bool let_in(Web *w, int fd, const char *head)
{
	static const char link[] = "GET /open/";
	g_autofree char *answer = NULL;

	if (!is_for_here(head, w->port) || !g_str_has_prefix(head, link) ||
	    strlen(head) < strlen(link) + 2 * KEY_BYTES || !same_key(head + strlen(link), w->key) ||
	    head[strlen(link) + 2 * KEY_BYTES] != ' ' || !take_user(w, fd))
		return false;
	answer = g_strdup_printf(
	    "HTTP/1.1 200 OK\r\nSet-Cookie: plim-%u=%s; HttpOnly; SameSite=Strict; Path=/\r\n"
	    "Refresh: 0; url=/web/%s\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
	    "Content-Length: 0\r\nConnection: close\r\n\r\n",
	    w->port, w->key, w->page);
	send_all(fd, answer, strlen(answer));
	return true;
}

/* `in`: the head, of that length, and what came behind it. */
static void ask_daemon(const Web *w, int fd, const char *head, const GString *in, size_t head_len)
{
	g_autofree char *single = web_head_single(head);
	g_autoptr(GError) e = NULL;
	_cleanup_close_ int daemon = socket_connect_wait(w->socket, &e);

	if (daemon < 0)
		refuse(fd, "502 Bad Gateway", e->message);
	else if (send_all(daemon, single, strlen(single)) &&
		 send_all(daemon, in->str + head_len, in->len - head_len))
		pass_both_ways(fd, daemon);
}

static void *serve(void *data)
{
	Visit *v = data;
	Web *w = v->web;
	size_t len = 0;
	g_autoptr(GString) in = read_head(v->fd, &len);
	g_autofree char *head = in != NULL ? g_strndup(in->str, len) : NULL;

	if (in == NULL)
		refuse(v->fd, "400 Bad Request", "This is no request of a browser.");
	else if (web_head_allowed(head, w->key, w->port) && is_users(w, v->fd))
		ask_daemon(w, v->fd, head, in, len);
	else if (!let_in(w, v->fd, head))
		refuse(v->fd, "403 Forbidden", "Open the link that plim printed.");
	close(v->fd);
	g_atomic_int_add(&w->open, -1);
	g_free(v);
	return NULL;
}

/* ---- the listener ---- */

static int listen_here(unsigned *port, GError **err)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)*port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof at;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0 ||
	    bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) < 0) {
		fail_errno(err, errno, "can't listen on port %u of loopback", *port);
		return -EBADF;
	}
	*port = ntohs(at.sin_port);
	return fd_take(&fd);
}

static void accept_one(Web *w, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	Visit *v;

	if (fd < 0)
		return;
	if (g_atomic_int_add(&w->open, 1) >= CONNECTIONS_MAX) {
		g_atomic_int_add(&w->open, -1);
		close(fd);
		return;
	}
	v = g_new(Visit, 1);
	*v = (Visit){ .web = w, .fd = fd };
	g_thread_unref(g_thread_new("visit", serve, v));
}

bool web_serve(const char *socket, const char *page, unsigned port, GError **err)
{
	Web *w = g_new0(Web, 1); /* threads may use it until the program ends */
	unsigned char key[KEY_BYTES];
	int listener = listen_here(&port, err);

	if (listener < 0) {
		g_free(w);
		return false;
	}
	random_bytes(key, sizeof key);
	for (size_t i = 0; i < sizeof key; i++)
		g_snprintf(w->key + 2 * i, 3, "%02x", key[i]);
	w->socket = socket, w->page = page, w->port = port, w->user = NOBODY;
	printf("http://127.0.0.1:%u/open/%s\n", port, w->key);
	fprintf(stderr, "Open this link in a browser on this machine; Ctrl-C ends it.\n");
	fflush(stdout);
	for (;;)
		accept_one(w, listener);
}
