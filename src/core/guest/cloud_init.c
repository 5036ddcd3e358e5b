/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/cloud_init.h"

#include <string.h>

CloudInit *cloud_init_free(CloudInit *c)
{
	if (c != NULL) {
		g_free(c->user_data);
		g_free(c->meta_data);
		g_free(c->vendor_data);
		g_free(c->network_config);
		g_free(c);
	}
	return NULL;
}

static bool check_text(const Json *wish, const char *key, GError **err)
{
	const Json *v = json_object_get(wish, key);

	if (v == NULL || json_is_null(v))
		return true;
	if (!json_is_string(v) || json_string_length(v) > CLOUD_INIT_TEXT_MAX)
		return fail(err, ERR_INVALID, "cloud_init: '%s' must be text of at most 512 KiB", key);
	return true;
}

/* RFC 1123: letters, digits and dashes between dots. */
static bool check_hostname(const char *name, GError **err)
{
	size_t n = strlen(name);
	bool ok = n >= 1 && n <= 253 && g_ascii_isalnum(name[0]);

	for (size_t i = 0; ok && i < n; i++)
		ok = g_ascii_isalnum(name[i]) || name[i] == '-' || name[i] == '.';
	return ok || fail_advice(err, ERR_INVALID, "Use letters, digits, dashes and dots.",
				 "'%s' can't be a host name", name);
}

/* useradd(8): the portable form. */
static bool check_user(const char *name, GError **err)
{
	size_t n = strlen(name);
	bool ok = n >= 1 && n <= 32 && (g_ascii_islower(name[0]) || name[0] == '_');

	for (size_t i = 0; ok && i < n; i++)
		ok = g_ascii_islower(name[i]) || g_ascii_isdigit(name[i]) || name[i] == '_' || name[i] == '-';
	return ok || fail_advice(err, ERR_INVALID, "Use small letters, digits, dashes and underscores.",
				 "'%s' can't be the name of a user", name);
}

static bool check_hash(const char *hash, GError **err)
{
	bool ok = hash[0] == '$' && strlen(hash) < 256 && strpbrk(hash, ":\n\r ") == NULL;

	return ok ||
	       fail_advice(err, ERR_INVALID, "`openssl passwd -6` prints one.", "the password is not a hash");
}

static bool check_keys(const Json *keys, GError **err)
{
	const Json *key;
	size_t i;

	if (keys != NULL && !json_is_null(keys) && !json_is_array(keys))
		return fail(err, ERR_INVALID, "cloud_init: 'ssh_keys' must be a list");
	json_array_foreach((Json *)keys, i, key)
	{
		const char *text = json_string_value(key);

		if (text == NULL || strlen(text) > 16384 || strpbrk(text, "\r\n") != NULL ||
		    strchr(text, ' ') == NULL)
			return fail_advice(err, ERR_INVALID, "Give the line of an authorized_keys file.",
					   "ssh key %zu is no public key", i + 1);
	}
	return true;
}

static bool check(const Json *wish, GError **err)
{
	static const char *const texts[] = { "hostname", "user", "password_hash", "user_data",
					     "network_config" };
	const char *host = json_str(wish, "hostname"), *user = json_str(wish, "user"),
		   *hash = json_str(wish, "password_hash");

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		if (!check_text(wish, texts[i], err))
			return false;
	return (host == NULL || check_hostname(host, err)) && (user == NULL || check_user(user, err)) &&
	       (hash == NULL || check_hash(hash, err)) && check_keys(json_object_get(wish, "ssh_keys"), err);
}

static Json *one_user(const Json *wish)
{
	const char *hash = json_str(wish, "password_hash");
	Json *u = json_object(), *keys = json_arr(wish, "ssh_keys");

	json_put_str(u, "name", json_str(wish, "user"));
	json_put_str(u, "shell", "/bin/bash");
	json_put_str(u, "sudo", "ALL=(ALL) NOPASSWD:ALL");
	json_put_bool(u, "lock_passwd", hash == NULL);
	if (hash != NULL)
		json_put_str(u, "passwd", hash);
	if (keys != NULL)
		json_put(u, "ssh_authorized_keys", json_deep_copy(keys));
	return u;
}

/* Without a user of its own the image's default user gets keys and password. */
static Json *config_of(const Json *wish, const char *hostname)
{
	const char *hash = json_str(wish, "password_hash");
	Json *c = json_object(), *keys = json_arr(wish, "ssh_keys");

	json_put_str(c, "hostname", hostname);
	if (json_str(wish, "user") != NULL) {
		json_put(c, "users", json_pack("[o]", one_user(wish)));
	} else {
		if (keys != NULL && json_array_size(keys) > 0)
			json_put(c, "ssh_authorized_keys", json_deep_copy(keys));
		if (hash != NULL)
			json_put_str(c, "password", hash);
	}
	if (hash != NULL) {
		json_put_bool(c, "ssh_pwauth", true);
		json_put(c, "chpasswd", json_pack("{s:b}", "expire", 0));
	}
	return c;
}

static char *cloud_config(Json *config)
{
	g_autofree char *text = json_print_pretty(config);

	json_unref(config);
	return g_strconcat("#cloud-config\n", text, NULL);
}

CloudInit *cloud_init_of(const Json *wish, const char *vm_name, const char *instance_id, GError **err)
{
	const char *own = json_str(wish, "user_data"), *host = json_str(wish, "hostname");
	_cleanup_json_ Json *meta = NULL;
	CloudInit *c;

	if (!check(wish, err))
		return NULL;
	if (host == NULL)
		host = vm_name;
	c = g_new0(CloudInit, 1);
	meta = json_pack("{s:s,s:s}", "instance-id", instance_id, "local-hostname", host);
	c->meta_data = json_print_pretty(meta);
	if (own != NULL) {
		c->user_data = g_strdup(own);
		c->vendor_data = cloud_config(config_of(wish, host));
	} else {
		c->user_data = cloud_config(config_of(wish, host));
		c->vendor_data = g_strdup("#cloud-config\n{}\n");
	}
	c->network_config = g_strdup(json_str(wish, "network_config"));
	return c;
}
