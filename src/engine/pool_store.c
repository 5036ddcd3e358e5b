/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pool_store.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/pki.h"

#include <signal.h>
#include <string.h>

/* Hosts that are switched on together begin their members of etcd one after the other. */
#define PATIENCE UINT64_C(60000000)
#define PAUSE UINT64_C(1000000)
#define ACCESS_FILE "store.json"
#define FILE_MAX (64 << 10)

/* Texts of the access that become files, and the option of the URL that names the file. */
static const struct {
	const char *member, *file, *option;
} parts[] = {
	{ "ca", "etcd-ca.pem", "ca" },
	{ "cert", "etcd.pem", "cert" },
	{ "key", "etcd.key", "key" },
	{ "password", "etcd-password.key", "password-file" },
};

static bool take_file(Json *access, const char *member, const char *path, GError **err)
{
	g_autofree char *text = path != NULL ? file_read(path, FILE_MAX, NULL, err) : NULL;

	if (path == NULL)
		return true;
	if (text == NULL)
		return err_advise(err, "Give the path of a file on this host that the daemon may read.");
	if (!g_utf8_validate(text, -1, NULL))
		return fail(err, ERR_INVALID, "'%s' is no text", path);
	json_put_str(access, member, text);
	return true;
}

static bool take_endpoints(Json *access, const char *text, GError **err)
{
	g_auto(GStrv) urls = g_strsplit(text, ",", -1);

	for (char **u = urls; *u != NULL; u++)
		if (!g_str_has_prefix(*u, "http://") && !g_str_has_prefix(*u, "https://"))
			return fail_advice(err, ERR_INVALID,
					   "Write it like https://192.0.2.9:2379, several with commas.",
					   "'%s' is not the address of an etcd", *u);
	json_put(access, "endpoints", json_of_strv((const char *const *)urls));
	return true;
}

Json *pool_store_of_request(const struct pool_init *r, const char *pool_id, GError **err)
{
	_cleanup_json_ Json *access = json_object();
	g_autofree char *root = g_strconcat("/pools/", pool_id, NULL);

	json_put_bool(access, "own", r->etcd == NULL);
	/* An etcd that was there may serve others too. */
	json_put_str(access, "root", r->etcd != NULL ? root : "");
	json_put(access, "endpoints", json_array());
	if (r->etcd != NULL && !take_endpoints(access, r->etcd, err))
		return NULL;
	if (!take_file(access, "ca", r->etcd_ca, err) || !take_file(access, "cert", r->etcd_cert, err) ||
	    !take_file(access, "key", r->etcd_key, err) ||
	    !take_file(access, "password", r->etcd_password_file, err))
		return NULL;
	if (r->etcd_user != NULL)
		json_put_str(access, "user", r->etcd_user);
	return g_steal_pointer(&access);
}

bool pool_store_save(const Json *access, const char *folder, GError **err)
{
	g_autofree char *path = g_build_filename(folder, ACCESS_FILE, NULL),
			*text = json_print_pretty(access);

	for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
		const char *value = json_str(access, parts[i].member);

		if (value != NULL && !pki_file_write(folder, parts[i].file, value, err))
			return false;
	}
	return file_write_atomic(path, text, strlen(text), 0600, err);
}

Json *pool_store_load(const char *folder, GError **err)
{
	g_autofree char *path = g_build_filename(folder, ACCESS_FILE, NULL);
	g_autofree char *text = file_read(path, FILE_MAX * 8, NULL, err);

	return text != NULL ? json_parse(text, strlen(text), err) : NULL;
}

static void add_option(GString *url, const char *name, const char *value)
{
	g_autofree char *escaped = g_uri_escape_string(value, "/", FALSE);

	g_string_append_printf(url, "%c%s=%s", strchr(url->str, '?') != NULL ? '&' : '?', name, escaped);
}

static void add_file(GString *url, const char *name, const char *folder, const char *file)
{
	g_autofree char *path = g_build_filename(folder, file, NULL);

	add_option(url, name, path);
}

char *pool_store_url(const Json *access, const char *folder)
{
	g_auto(GStrv) endpoints = json_strv(json_arr(access, "endpoints"));
	g_autofree char *list = g_strjoinv(",", endpoints);
	GString *url = g_string_new(POOL_STORE_PREFIX);

	g_string_append(url, list);
	if (json_str(access, "root") != NULL && json_str(access, "root")[0] != '\0')
		add_option(url, "root", json_str(access, "root"));
	if (json_str(access, "user") != NULL)
		add_option(url, "user", json_str(access, "user"));
	if (json_bool(access, "own", false)) {
		add_file(url, "ca", folder, PKI_CA);
		add_file(url, "cert", folder, PKI_CERT);
		add_file(url, "key", folder, PKI_KEY);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
		if (json_str(access, parts[i].member) != NULL)
			add_file(url, parts[i].option, folder, parts[i].file);
	return g_string_free(url, FALSE);
}

/* Its signals are blocked until the loop turns, which is later. */
static bool is_told_to_end(void)
{
	sigset_t waiting;

	return sigpending(&waiting) == 0 &&
	       (sigismember(&waiting, SIGTERM) == 1 || sigismember(&waiting, SIGINT) == 1);
}

Store *pool_store_open_patiently(const char *url, GError **err)
{
	uint64_t until = time_monotonic() + PATIENCE;
	bool told = false;

	for (;;) {
		g_autoptr(GError) e = NULL;
		Store *s = store_open(url, &e);
		bool absent =
		    g_error_matches(e, ERR, ERR_UNAVAILABLE) || g_error_matches(e, ERR, ERR_TIMEOUT);

		if (s != NULL)
			return s;
		if (!absent || time_monotonic() > until || is_told_to_end()) {
			g_propagate_error(err, g_steal_pointer(&e));
			return NULL;
		}
		if (!told)
			log_warning("the pool's etcd is waited for: %s", e->message);
		told = true;
		g_usleep(PAUSE);
	}
}
