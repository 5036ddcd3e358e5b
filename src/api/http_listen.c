/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http-impl.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 4096 /* the kernel makes it less, where that is its limit */
#define ACCEPTS_A_TURN 64
#define SOCKET_MODE 0660
#define GROUPS_MAX 65536 /* NGROUPS_MAX of the kernel */
/* When there are no descriptors left, and no connection of ours to close. */
#define RETRY_TIME UINT64_C(1000000)

struct Listener {
	HttpServer *server;
	int fd;
	LoopSource *io, *retry;
	unsigned n_conns;
	bool paused, resting;
	TlsContext *tls; /* NULL: the unix socket */
	char *path;      /* of the unix socket, and which file it is */
	dev_t dev;
	ino_t ino;
};

static void on_accept(int fd, uint32_t events, void *data);

static Listener *listener_new(HttpServer *s, int *fd, TlsContext *tls)
{
	Listener *ln = g_new0(Listener, 1);

	*ln = (Listener){ .server = s, .fd = fd_take(fd), .tls = tls };
	ln->io = loop_add_fd(s->loop, ln->fd, EPOLLIN, on_accept, ln);
	return ln;
}

Listener *listener_free(Listener *ln)
{
	struct stat st;

	if (ln == NULL)
		return NULL;
	loop_source_free(ln->io);
	loop_source_free(ln->retry);
	fd_closep(&ln->fd);
	/* Someone may have put another socket there since. */
	if (ln->path != NULL && lstat(ln->path, &st) == 0 && st.st_dev == ln->dev && st.st_ino == ln->ino)
		unlink(ln->path);
	g_free(ln->path);
	tls_context_free(ln->tls);
	g_free(ln);
	return NULL;
}

/* ---- the unix socket ---- */

/*
 * ERR_CONFLICT when there is something at the path that must not be replaced:
 * a socket on which someone listens, or anything else but a socket.
 */
static bool check_free(const struct sockaddr_un *sa, GError **err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT || fail_errno(err, errno, "can't look at '%s'", sa->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return fail_advice(err, ERR_CONFLICT, "Move it away, or choose another path for the socket.",
				   "'%s' is there already and is no socket", sa->sun_path);
	if (fd < 0)
		return fail_errno(err, errno, "can't make a socket");
	if (connect(fd, (const struct sockaddr *)sa, sizeof *sa) < 0 && errno == ECONNREFUSED)
		return true;
	return fail_advice(err, ERR_CONFLICT,
			   "Stop the other daemon first, or give this one another run folder.",
			   "someone listens on '%s' already", sa->sun_path);
}

static bool set_owner(const char *path, const char *group, GError **err)
{
	struct group gr, *found = NULL;
	char buf[16384];

	if (chmod(path, SOCKET_MODE) < 0)
		return fail_errno(err, errno, "can't set the mode of '%s'", path);
	if (group == NULL || getgrnam_r(group, &gr, buf, sizeof buf, &found) != 0 || found == NULL)
		return true;
	/* A daemon of an ordinary user need not be a member of that group. */
	if (chown(path, (uid_t)-1, gr.gr_gid) < 0 && errno != EPERM)
		return fail_errno(err, errno, "can't give '%s' to the group %s", path, group);
	return true;
}

static bool set_path(struct sockaddr_un *sa, const char *path, GError **err)
{
	if (strlen(path) >= sizeof sa->sun_path)
		return fail_advice(err, ERR_INVALID, "Choose a folder with a shorter name.",
				   "the path of the socket is longer than %zu characters: '%s'",
				   sizeof sa->sun_path - 1, path);
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(sa->sun_path, path, strlen(path));
	return true;
}

/* Bound under another name and then renamed, so that nobody ever meets it with the wrong owner or mode. */
static int bind_unix(const char *path, const char *group, struct stat *ret_st, GError **err)
{
	g_autofree char *tmp = g_strconcat(path, ".new", NULL);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa, sa_tmp;

	if (!set_path(&sa_tmp, tmp, err) || !set_path(&sa, path, err) || !check_free(&sa, err))
		return -1;
	unlink(tmp);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&sa_tmp, sizeof sa_tmp) < 0) {
		fail_errno(err, errno, "can't make the socket '%s'", path);
		return -1;
	}
	if (!set_owner(tmp, group, err)) {
		unlink(tmp);
		return -1;
	}
	if (listen(fd, BACKLOG) < 0 || lstat(tmp, ret_st) < 0 || rename(tmp, path) < 0) {
		fail_errno(err, errno, "can't make the socket '%s'", path);
		unlink(tmp);
		return -1;
	}
	return fd_take(&fd);
}

/* One that was handed over was made by bind_unix(): the name that is its own is that from before the
 * renaming. */
static bool listens_at(int fd, const char *path, struct stat *ret_st)
{
	g_autofree char *tmp = g_strconcat(path, ".new", NULL);
	struct sockaddr_un sa = { 0 };
	socklen_t len = sizeof sa - 1;

	return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 && sa.sun_family == AF_UNIX &&
	       g_str_equal(sa.sun_path, tmp) && lstat(path, ret_st) == 0 && S_ISSOCK(ret_st->st_mode);
}

bool listener_open_unix(HttpServer *s, const struct http_config *cfg, Listener **ret, GError **err)
{
	_cleanup_close_ int given = cfg->unix_fd > 0 ? cfg->unix_fd : -EBADF;
	struct stat st;
	int fd;

	if (cfg->unix_path == NULL)
		return true;
	if (given >= 0 && listens_at(given, cfg->unix_path, &st))
		fd = fd_take(&given);
	else
		fd = bind_unix(cfg->unix_path, cfg->unix_group, &st, err);
	if (fd < 0)
		return false;
	*ret = listener_new(s, &fd, NULL);
	(*ret)->path = g_strdup(cfg->unix_path);
	(*ret)->dev = st.st_dev;
	(*ret)->ino = st.st_ino;
	return true;
}

/* ---- TLS ---- */

/* "1.2.3.4:7443", "[::1]:7443" */
static bool split_address(const char *text, char **ret_host, char **ret_port)
{
	const char *colon = strrchr(text, ':');
	size_t len = colon != NULL ? (size_t)(colon - text) : 0;

	if (len == 0 || colon[1] == '\0')
		return false;
	if (text[0] == '[' && colon[-1] == ']') {
		text++;
		len -= 2;
	} else if (memchr(text, ':', len) != NULL) {
		return false;
	}
	*ret_host = g_strndup(text, len);
	*ret_port = g_strdup(colon + 1);
	return true;
}

static bool is_bound_to(int fd, const struct addrinfo *ai)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof ss;

	return fd >= 0 && getsockname(fd, (struct sockaddr *)&ss, &len) == 0 && len == ai->ai_addrlen &&
	       memcmp(&ss, ai->ai_addr, len) == 0;
}

/* Where the old one listens may be in the way of the new one. */
static void close_now(int *fd)
{
	_cleanup_close_ int old = fd_take(fd);
}

/* `given` listens already, perhaps there; taken. */
static int bind_tcp(const char *address, int given, GError **err)
{
	_cleanup_close_ int old = given;
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
					.ai_socktype = SOCK_STREAM };
	g_autofree char *host = NULL, *port = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct addrinfo *ai = NULL;
	int on = 1;

	if (!split_address(address, &host, &port) || getaddrinfo(host, port, &hints, &ai) != 0) {
		fail_advice(err, ERR_INVALID, "Write it like 192.0.2.1:7443, 0.0.0.0:7443 or [::]:7443.",
			    "'%s' is no address with a port", address);
		return -1;
	}
	if (is_bound_to(old, ai)) {
		freeaddrinfo(ai);
		return fd_take(&old);
	}
	close_now(&old);
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		if (errno == EADDRINUSE)
			fail_advice(err, ERR_CONFLICT, "Stop the other program, or choose another port.",
				    "someone listens on %s already", address);
		else
			fail_errno(err, errno, "can't listen on %s", address);
		freeaddrinfo(ai);
		return -1;
	}
	freeaddrinfo(ai);
	return fd_take(&fd);
}

bool listener_open_tls(HttpServer *s, const struct http_config *cfg, Listener **ret, GError **err)
{
	_cleanup_close_ int given = cfg->tls_fd > 0 ? cfg->tls_fd : -EBADF;
	g_autoptr(TlsContext) tls = NULL;
	int fd;

	if (cfg->tls_address == NULL)
		return true;
	if (cfg->tls_cert == NULL || cfg->tls_key == NULL)
		return fail_advice(err, ERR_INVALID, "Name the files of the server's certificate and key.",
				   "TLS on %s needs a certificate and a key", cfg->tls_address);
	tls = tls_context_new(cfg->tls_cert, cfg->tls_key, cfg->tls_client_ca, cfg->tls_client_cert, err);
	if (tls == NULL)
		return false;
	fd = bind_tcp(cfg->tls_address, fd_take(&given), err);
	if (fd < 0)
		return false;
	*ret = listener_new(s, &fd, g_steal_pointer(&tls));
	return true;
}

unsigned listener_port(const Listener *ln)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof ss;

	getsockname(ln->fd, (struct sockaddr *)&ss, &len);
	/* The port is at the same place for both families. */
	return ntohs(((const struct sockaddr_in *)&ss)->sin_port);
}

/* ---- who it is ---- */

static bool peer_of_unix(int fd, struct http_peer *ret)
{
	struct ucred cred;
	socklen_t len = sizeof cred;
	g_autofree gid_t *groups = NULL;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	/* The first call only tells the size. */
	len = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) < 0 && errno != ERANGE)
		return false;
	if (len > GROUPS_MAX * sizeof(gid_t))
		return false;
	groups = g_malloc(len + 1);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	*ret =
	    (struct http_peer){ .kind = HTTP_PEER_UNIX, .uid = cred.uid, .gid = cred.gid, .pid = cred.pid };
	ret->n_groups = len / sizeof(gid_t);
	ret->groups = g_steal_pointer(&groups);
	return true;
}

static bool peer_of_tcp(int fd, struct http_peer *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	char host[64], port[16];

	if (getpeername(fd, (struct sockaddr *)&ss, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&ss, len, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return false;
	*ret = (struct http_peer){ .kind = HTTP_PEER_TLS, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	ret->address = g_strdup_printf(ss.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
	return true;
}

/* ---- new connections ---- */

static void set_tcp_options(int fd)
{
	int on = 1, idle = 60, interval = 20, count = 3;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	/* Finds clients that lost power while an event stream was silent; the kernel does it without us. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static void welcome(Listener *ln, int *fd)
{
	struct http_peer peer = { 0 };
	Tls *tls = NULL;

	if (!(ln->tls != NULL ? peer_of_tcp(*fd, &peer) : peer_of_unix(*fd, &peer)))
		return;
	if (ln->tls != NULL) {
		set_tcp_options(*fd);
		tls = tls_new(ln->tls, *fd, NULL);
		if (tls == NULL) {
			g_free(peer.address);
			return;
		}
	}
	ln->n_conns++;
	conn_new(ln->server, ln, fd_take(fd), tls, &peer);
}

static void listener_pause(Listener *ln, bool paused)
{
	paused = paused || ln->resting;
	if (ln->paused != paused)
		loop_fd_set_events(ln->io, paused ? 0 : EPOLLIN);
	ln->paused = paused;
}

/* Makes room: the connection that has waited longest between two requests goes. */
static bool evict_idle(Listener *ln)
{
	HttpConn *oldest = NULL;
	GHashTableIter iter;
	void *key;

	g_hash_table_iter_init(&iter, ln->server->conns);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		HttpConn *c = key;

		if (c->listener == ln && c->state == CONN_HEAD && c->in->len == 0 && c->served > 0 &&
		    c->users == 0 && (oldest == NULL || c->since < oldest->since))
			oldest = c;
	}
	if (oldest == NULL)
		return false;
	conn_enter(oldest);
	conn_die(oldest);
	conn_leave(oldest);
	return true;
}

static void on_retry(void *data)
{
	listener_pause(data, false);
}

static void no_descriptors(Listener *ln)
{
	log_warning("no descriptors left for another connection: %s", g_strerror(errno));
	listener_pause(ln, true);
	if (ln->retry == NULL)
		ln->retry = loop_add_timer(ln->server->loop, RETRY_TIME, on_retry, ln);
	else
		loop_timer_set(ln->retry, RETRY_TIME);
}

static void on_accept(int fd, uint32_t events, void *data)
{
	Listener *ln = data;

	(void)events;
	if (ln->n_conns >= ln->server->cfg.max_connections && !evict_idle(ln)) {
		listener_pause(ln, true);
		return;
	}
	for (unsigned i = 0; i < ACCEPTS_A_TURN && ln->n_conns < ln->server->cfg.max_connections; i++) {
		_cleanup_close_ int new_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (new_fd >= 0)
			welcome(ln, &new_fd);
		else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			return no_descriptors(ln);
		else if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

void listener_look(Listener *ln)
{
	listener_pause(ln, false);
}

void listener_rest(Listener *ln)
{
	if (ln == NULL)
		return;
	ln->resting = true;
	listener_pause(ln, true);
}

int listener_hand_over(Listener *ln)
{
	if (ln == NULL)
		return -EBADF;
	ln->io = loop_source_free(ln->io);
	g_clear_pointer(&ln->path, g_free);
	return fd_take(&ln->fd);
}

void listener_release(Listener *ln)
{
	ln->n_conns--;
	listener_look(ln);
}
