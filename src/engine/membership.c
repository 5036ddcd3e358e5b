/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/membership.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#define FILE_MAX (1 << 20)

Membership *membership_free(Membership *m)
{
	if (m != NULL) {
		g_free(m->pool_id);
		g_free(m->pool_name);
		g_free(m->host_id);
		g_free(m->address);
		g_free(m->store);
		g_free(m->folder);
		g_free(m->step);
		g_free(m->token);
		json_unref(m->etcd);
		g_free(m);
	}
	return NULL;
}

char *membership_folder(const char *state)
{
	return g_build_filename(state, "pool", NULL);
}

char *membership_url(const Membership *m)
{
	return g_strconcat("https://", m->address, NULL);
}

static bool take(const Json *j, const char *member, char **ret, const char *path, GError **err)
{
	*ret = g_strdup(json_str(j, member));
	if (*ret != NULL)
		return true;
	fail(err, ERR_INVALID, "'%s' lacks '%s'", path, member);
	return err_advise(err,
			  "Restore the file from a backup, or take this host out of its pool with `plim pool "
			  "evict` elsewhere and move the file away.");
}

Membership *membership_load(const char *state, const char *name, GError **err)
{
	g_autofree char *path = g_build_filename(state, name, NULL), *text = NULL;
	_cleanup_json_ Json *j = NULL;
	g_autoptr(Membership) m = g_new0(Membership, 1);

	if (!g_file_test(path, G_FILE_TEST_EXISTS))
		return NULL;
	text = file_read(path, FILE_MAX, NULL, err);
	j = text != NULL ? json_parse(text, strlen(text), err) : NULL;
	if (j == NULL)
		return NULL;
	if (!take(j, "pool", &m->pool_id, path, err) || !take(j, "name", &m->pool_name, path, err) ||
	    !take(j, "host", &m->host_id, path, err) || !take(j, "address", &m->address, path, err) ||
	    !take(j, "store", &m->store, path, err))
		return NULL;
	m->etcd = json_ref(json_obj(j, "etcd"));
	m->step = g_strdup(json_str(j, "step"));
	m->token = g_strdup(json_str(j, "token"));
	m->folder = membership_folder(state);
	return g_steal_pointer(&m);
}

bool membership_save(const Membership *m, const char *state, const char *name, GError **err)
{
	g_autofree char *path = g_build_filename(state, name, NULL), *text = NULL;
	_cleanup_json_ Json *j = json_object();

	json_put_str(j, "pool", m->pool_id);
	json_put_str(j, "name", m->pool_name);
	json_put_str(j, "host", m->host_id);
	json_put_str(j, "address", m->address);
	json_put_str(j, "store", m->store);
	json_put(j, "etcd", m->etcd != NULL ? json_ref(m->etcd) : json_null());
	json_put_str(j, "step", m->step);
	json_put_str(j, "token", m->token);
	text = json_print_pretty(j);
	return file_write_atomic(path, text, strlen(text), 0600, err);
}

void membership_settle(Membership *m, const char *state)
{
	g_autoptr(GError) e = NULL;

	g_clear_pointer(&m->step, g_free);
	g_clear_pointer(&m->token, g_free);
	if (!membership_save(m, state, MEMBERSHIP_FILE, &e))
		log_warning("%s", e->message);
}

/* ---- addresses ---- */

char *pool_address_host(const char *address)
{
	const char *colon = strrchr(address, ':');
	size_t len = colon != NULL ? (size_t)(colon - address) : strlen(address);

	return address[0] == '[' ? g_strndup(address + 1, len - 2) : g_strndup(address, len);
}

/* What every interface answers to is no address to call. */
static bool is_callable(const char *host, bool *ret_v6)
{
	static const uint8_t none[16] = { 0 };
	uint8_t ip[16] = { 0 };
	bool v4 = inet_pton(AF_INET, host, ip) == 1;

	*ret_v6 = !v4 && inet_pton(AF_INET6, host, ip) == 1;
	return (v4 || *ret_v6) && memcmp(ip, none, v4 ? 4 : 16) != 0;
}

char *pool_address_parse(const char *text, GError **err)
{
	const char *colon = strrchr(text, ':');
	bool one_colon = colon != NULL && strchr(text, ':') == colon, bracket = text[0] == '[';
	bool with_port = bracket ? colon != NULL && colon > text && colon[-1] == ']' : one_colon;
	bool closed = bracket && !with_port && g_str_has_suffix(text, "]");
	g_autofree char *whole = closed ? g_strndup(text + 1, strlen(text) - 2) : NULL;
	g_autofree char *host = with_port ? pool_address_host(text) : g_strdup(whole != NULL ? whole : text);
	uint64_t port = POOL_PORT;
	bool v6;

	if ((with_port && !parse_uint(colon + 1, 1, 65535, &port, NULL)) || !is_callable(host, &v6)) {
		fail_advice(err, ERR_INVALID,
			    "Give an address of this host that the other hosts reach, like 192.0.2.1 or "
			    "[2001:db8::1]:7443.",
			    "'%s' is not an address to call", text);
		return NULL;
	}
	return g_strdup_printf(v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)port);
}

static bool fail_no_way(const char *to, GError **err)
{
	return fail_advice(err, ERR_INVALID,
			   "Name an address of this host that the other hosts reach: --address.",
			   "there is no way from this host to %s", to);
}

/* For want of another one: an address that documentation uses (RFC 5737), which the default route is for. */
#define ANYWHERE "192.0.2.1"

char *pool_address_find(const char *url, GError **err)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
					.ai_socktype = SOCK_DGRAM };
	g_autofree char *host =
	    url != NULL ? pool_address_host(url + strlen("https://")) : g_strdup(ANYWHERE);
	struct sockaddr_storage own;
	socklen_t len = sizeof own;
	struct addrinfo *ai = NULL;
	char text[64];
	_cleanup_close_ int fd = -EBADF;
	bool ok;

	if (getaddrinfo(host, "9", &hints, &ai) != 0) {
		fail_no_way(host, err);
		return NULL;
	}
	fd = socket(ai->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ok = fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
	     getsockname(fd, (struct sockaddr *)&own, &len) == 0 &&
	     getnameinfo((struct sockaddr *)&own, len, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0;
	freeaddrinfo(ai);
	if (!ok) {
		fail_no_way(host, err);
		return NULL;
	}
	return pool_address_parse(text, err);
}
