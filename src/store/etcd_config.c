/* SPDX-License-Identifier: Apache-2.0 */
#include "store/etcd_config.h"
#include "base/str.h"

#include <string.h>

#define DEFAULT_PORT "2379"
#define DEFAULT_TIMEOUT UINT64_C(10000000)
#define TIMEOUT_MIN UINT64_C(100000)
#define TIMEOUT_MAX UINT64_C(600000000)

typedef bool (*OptionFunc)(EtcdConfig *c, char *value, GError **err);

static bool take_text(char **at, char *value)
{
	g_free(*at);
	*at = value;
	return true;
}

// clang-format off
#define TEXT_OPTION(name)                                                        \
	static bool set_##name(EtcdConfig *c, char *value, GError **err)         \
	{                                                                        \
		(void)err;                                                       \
		return take_text(&c->name, value);                               \
	}
// clang-format on
TEXT_OPTION(ca)
TEXT_OPTION(cert)
TEXT_OPTION(key)
TEXT_OPTION(user)
TEXT_OPTION(password_file)

static bool set_root(EtcdConfig *c, char *value, GError **err)
{
	bool ok = strlen(value) <= ETCD_ROOT_MAX;

	for (const char *p = value; ok && *p != '\0'; p++)
		ok = g_ascii_isgraph(*p);
	take_text(&c->root, value);
	return ok || fail(err, ERR_INVALID,
			  "'root' of an etcd store has at most %d printable characters without spaces",
			  ETCD_ROOT_MAX);
}

static bool set_timeout(EtcdConfig *c, char *value, GError **err)
{
	g_autofree char *own = value;

	if (!parse_duration(own, &c->timeout, err))
		return false;
	return (c->timeout >= TIMEOUT_MIN && c->timeout <= TIMEOUT_MAX) ||
	       fail(err, ERR_INVALID, "'timeout' of an etcd store is 100ms to 10min, not '%s'", own);
}

static const struct {
	const char *name;
	OptionFunc set; /* takes the value */
} options[] = {
	{ "root", set_root },       { "ca", set_ca },     { "cert", set_cert },
	{ "key", set_key },         { "user", set_user }, { "password-file", set_password_file },
	{ "timeout", set_timeout },
};

static bool parse_option(EtcdConfig *c, const char *text, GError **err)
{
	const char *equal = strchr(text, '=');
	size_t n = equal != NULL ? (size_t)(equal - text) : strlen(text);

	for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
		char *value;

		if (equal == NULL || strlen(options[i].name) != n || strncmp(options[i].name, text, n) != 0)
			continue;
		value = g_uri_unescape_string(equal + 1, NULL);
		if (value == NULL)
			return fail(err, ERR_INVALID, "the value of '%s' is badly escaped", options[i].name);
		return options[i].set(c, value, err);
	}
	return fail_advice(
	    err, ERR_INVALID,
	    "Options are root, ca, cert, key, user, password-file and timeout, as in '?ca=/path&user=name'.",
	    "'%.*s' is no option of an etcd store", (int)MIN(n, 40), text);
}

static bool host_check(const char *host, GError **err)
{
	size_t n = strlen(host);
	bool ok = n > 0 && n <= 255;

	/* No user, path or query: what libcurl is given must be a host and a port. */
	for (size_t i = 0; ok && i < n; i++)
		ok = g_ascii_isalnum(host[i]) || strchr(".-_:[]", host[i]) != NULL;
	return ok ||
	       fail_advice(
		   err, ERR_INVALID,
		   "Write endpoints as 'https://HOST:2379'; a login goes to 'user' and 'password-file'.",
		   "an endpoint of etcd is a scheme, a host and a port");
}

static bool has_port(const char *host)
{
	const char *bracket = strchr(host, ']');

	return strchr(bracket != NULL ? bracket : host, ':') != NULL;
}

static bool parse_endpoint(EtcdConfig *c, const char *text, GError **err)
{
	g_autofree char *own = g_strdup(text);
	size_t n = strlen(own);
	const char *host;

	if (n > 0 && own[n - 1] == '/')
		own[n - 1] = '\0';
	if (!g_str_has_prefix(own, "http://") && !g_str_has_prefix(own, "https://"))
		return fail_advice(err, ERR_INVALID, "Write endpoints as 'https://HOST:2379'.",
				   "an endpoint of etcd begins with http:// or https://");
	host = strstr(own, "://") + 3;
	if (!host_check(host, err))
		return false;
	if (c->endpoint->len == ETCD_ENDPOINTS_MAX)
		return fail(err, ERR_INVALID, "an etcd store has at most %d endpoints", ETCD_ENDPOINTS_MAX);
	g_ptr_array_add(c->endpoint,
			has_port(host) ? g_strdup(own) : g_strconcat(own, ":" DEFAULT_PORT, NULL));
	return true;
}

static bool pairs_check(const EtcdConfig *c, GError **err)
{
	if ((c->cert == NULL) != (c->key == NULL))
		return fail(err, ERR_INVALID, "'cert' and 'key' of an etcd store belong together");
	if ((c->user == NULL) != (c->password_file == NULL))
		return fail(err, ERR_INVALID, "'user' and 'password-file' of an etcd store belong together");
	return true;
}

static bool parse_all(EtcdConfig *c, const char *text, GError **err)
{
	const char *query = strchr(text, '?');
	g_autofree char *hosts = query != NULL ? g_strndup(text, (gsize)(query - text)) : g_strdup(text);
	g_auto(GStrv) endpoint = g_strsplit(hosts, ",", -1),
		      option = g_strsplit(query != NULL ? query + 1 : "", "&", -1);

	for (guint i = 0; endpoint[i] != NULL; i++)
		if (!parse_endpoint(c, endpoint[i], err))
			return false;
	for (guint i = 0; option[i] != NULL; i++)
		if (!parse_option(c, option[i], err))
			return false;
	if (c->endpoint->len == 0)
		return fail(err, ERR_INVALID, "a store in etcd needs an endpoint: 'etcd:http://HOST:2379'");
	return pairs_check(c, err);
}

EtcdConfig *etcd_config_parse(const char *text, GError **err)
{
	EtcdConfig *c = g_new0(EtcdConfig, 1);

	c->endpoint = g_ptr_array_new_with_free_func(g_free);
	c->root = g_strdup("");
	c->timeout = DEFAULT_TIMEOUT;
	return parse_all(c, text, err) ? c : etcd_config_free(c);
}

EtcdConfig *etcd_config_free(EtcdConfig *c)
{
	if (c == NULL)
		return NULL;
	g_ptr_array_unref(c->endpoint);
	g_free(c->root);
	g_free(c->ca);
	g_free(c->cert);
	g_free(c->key);
	g_free(c->user);
	g_free(c->password_file);
	g_free(c);
	return NULL;
}
