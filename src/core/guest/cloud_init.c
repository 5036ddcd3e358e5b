/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/cloud_init.h"

#include <string.h>

#define HOSTNAME_MAX 253
#define LABEL_MAX 63
#define ID_HASH_LEN 12

/* Checks of members */

static bool fail_member(const char *name, const char *advice, GError **err)
{
	return fail_advice(err, ERR_INVALID, advice, "'cloud_init.%s' is not valid", name);
}

/* Labels of letters, digits and dashes, none at their ends; RFC 1123, 2.1. */
static bool hostname_ok(const char *text)
{
	size_t n = strlen(text), label = 0;

	if (n == 0 || n > HOSTNAME_MAX)
		return false;
	for (size_t i = 0; i <= n; i++) {
		bool ends = text[i] == '.' || text[i] == '\0';

		if (ends && (label == 0 || label > LABEL_MAX || text[i - 1] == '-'))
			return false;
		if (!ends && !g_ascii_isalnum(text[i]) && (text[i] != '-' || label == 0))
			return false;
		label = ends ? 0 : label + 1;
	}
	return true;
}

static bool check_hostname(const char *text, GError **err)
{
	return hostname_ok(text) ||
	       fail_member("hostname", "Use letters, digits and dashes, with dots between the parts.", err);
}

/* As useradd(8) takes it. */
static bool check_user(const char *text, GError **err)
{
	size_t n = strlen(text);
	bool ok = n >= 1 && n <= 32 && (g_ascii_islower(text[0]) || text[0] == '_');

	for (size_t i = 0; ok && i < n; i++)
		ok = g_ascii_islower(text[i]) || g_ascii_isdigit(text[i]) || strchr("_-.", text[i]) != NULL;
	return ok || fail_member("user",
				 "Use 1 to 32 lower-case letters, digits, dots, dashes or underscores.", err);
}

static bool check_hash(const char *text, GError **err)
{
	static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./$=,_-";
	size_t n = strlen(text);
	bool ok = n >= 20 && n <= 512 && text[0] == '$' && strspn(text, chars) == n &&
		  strchr(text + 1, '$') != NULL;

	return ok || fail_member("password_hash",
				 "Make one with `openssl passwd -6`; a password itself is not taken.", err);
}

static bool check_user_data(const char *text, GError **err)
{
	if (strlen(text) > CLOUD_INIT_USER_DATA_MAX)
		return fail_member("user_data", "Keep it under 256 KiB; let it fetch what is larger.", err);
	return true;
}

static bool check_network(const char *text, GError **err)
{
	if (strlen(text) > CLOUD_INIT_NETWORK_MAX)
		return fail_member("network_config", "Keep it under 64 KiB.", err);
	return true;
}

static const struct {
	const char *name;
	bool (*check)(const char *text, GError **err); /* NULL: is no plain text */
} members[] = {
	{ "hostname", check_hostname },      { "user", check_user },
	{ "password_hash", check_hash },     { "user_data", check_user_data },
	{ "network_config", check_network }, { "ssh_keys", NULL },
};

static bool check_text(const char *name, const Json *v, bool (*check)(const char *, GError **), GError **err)
{
	if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
		return fail_member(name, "It must be a string without NUL.", err);
	return check(json_string_value(v), err);
}

static bool key_ok(const char *key)
{
	static const char *const types[] = { "ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-" };
	g_auto(GStrv) word = g_strsplit(key, " ", -1);

	if (strlen(key) > CLOUD_INIT_KEY_MAX)
		return false;
	for (const char *p = key; *p != '\0'; p++)
		if (g_ascii_iscntrl(*p))
			return false;
	for (size_t i = 0; word[i] != NULL && word[i + 1] != NULL; i++)
		for (size_t t = 0; t < G_N_ELEMENTS(types); t++)
			if (g_str_has_prefix(word[i], types[t]) && g_str_has_prefix(word[i + 1], "AAAA"))
				return true;
	return false;
}

static bool check_keys(const Json *keys, GError **err)
{
	size_t i;
	Json *key;

	if (!json_is_array(keys) || json_array_size(keys) > CLOUD_INIT_KEYS_MAX)
		return fail_member("ssh_keys", "Give a list of at most 64 public keys.", err);
	json_array_foreach((Json *)keys, i, key) if (
	    !json_is_string(key) || strlen(json_string_value(key)) != json_string_length(key) ||
	    !key_ok(json_string_value(
		key))) return fail_member("ssh_keys",
					  "Give public keys, a line each, as in ~/.ssh/id_ed25519.pub.", err);
	return true;
}

static bool check_member(const char *name, const Json *v, GError **err)
{
	if (json_is_null(v))
		return true;
	if (g_str_equal(name, "network_config") && json_is_object(v)) {
		g_autofree char *text = json_print(v);

		return check_network(text, err);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(members); i++)
		if (g_str_equal(members[i].name, name))
			return members[i].check == NULL ? check_keys(v, err)
							: check_text(name, v, members[i].check, err);
	return fail_member(
	    name, "It may have hostname, user, password_hash, ssh_keys, user_data and network_config.", err);
}

/* The default user's password goes through chpasswd, which must know a hash when it sees one. */
static bool check_together(const Json *wish, GError **err)
{
	static const char *const known[] = { "$1$", "$2a$", "$2y$", "$5$", "$6$" };
	const char *hash = json_str(wish, "password_hash");

	if (hash == NULL || json_str(wish, "user") != NULL)
		return true;
	for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
		if (g_str_has_prefix(hash, known[i]))
			return true;
	return fail_member("password_hash", "Name a user too, or make it with `openssl passwd -6`.", err);
}

bool cloud_init_check(const Json *wish, GError **err)
{
	const char *name;
	Json *v;

	if (wish == NULL)
		return true;
	if (!json_is_object(wish))
		return fail(err, ERR_INVALID, "'cloud_init' must be an object");
	json_object_foreach((Json *)wish, name, v) if (!check_member(name, v, err)) return false;
	return check_together(wish, err);
}

/* Texts */

/* "web_1" -> "web-1"; the vm's id when nothing is left. */
static char *hostname_of(const char *vm_name, const char *vm_id)
{
	g_autofree char *name = g_strdelimit(g_ascii_strdown(vm_name, LABEL_MAX), "_", '-');
	size_t n = strlen(name);

	while (n > 0 && strchr("-.", name[n - 1]) != NULL)
		name[--n] = '\0';
	return hostname_ok(name) ? g_steal_pointer(&name) : g_strdup(vm_id);
}

/* Everything that was asked for, in the order of the table. */
static char *instance_id(const Json *wish, const char *vm_id)
{
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

	for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
		const Json *v = json_object_get(wish, members[i].name);
		g_autofree char *text = v != NULL && !json_is_null(v) ? json_print(v) : NULL;

		if (text != NULL) {
			g_checksum_update(sum, (const guchar *)members[i].name, -1);
			g_checksum_update(sum, (const guchar *)text, -1);
		}
	}
	return g_strdup_printf("%s-%.*s", vm_id, ID_HASH_LEN, g_checksum_get_string(sum));
}

static char *print_document(const char *first_line, Json *take)
{
	g_autofree char *text = json_print_pretty(take);

	json_unref(take);
	return g_strconcat(first_line, text, NULL);
}

static bool has_keys(const Json *wish)
{
	return json_array_size(json_arr(wish, "ssh_keys")) > 0;
}

static char *meta_data(const Json *wish, const char *instance, const char *hostname)
{
	Json *j = json_object();

	json_put_str(j, "instance-id", instance);
	json_put_str(j, "local-hostname", hostname);
	if (has_keys(wish) && json_str(wish, "user") == NULL)
		json_put(j, "public-keys", json_deep_copy(json_arr(wish, "ssh_keys")));
	return print_document("", j);
}

static Json *user_entry(const Json *wish)
{
	const char *hash = json_str(wish, "password_hash");
	Json *u = json_object();

	json_put_str(u, "name", json_str(wish, "user"));
	json_put_str(u, "shell", "/bin/bash");
	json_put_str(u, "sudo", "ALL=(ALL) NOPASSWD:ALL");
	json_put_bool(u, "lock_passwd", hash == NULL);
	if (hash != NULL)
		json_put_str(u, "passwd", hash);
	if (has_keys(wish))
		json_put(u, "ssh_authorized_keys", json_deep_copy(json_arr(wish, "ssh_keys")));
	return u;
}

/* NULL when nothing needs one. */
static char *our_config(const Json *wish)
{
	const char *hash = json_str(wish, "password_hash");
	Json *j = json_object();

	if (json_str(wish, "user") != NULL) {
		Json *users = json_array();

		json_array_append_new(users, user_entry(wish));
		json_put(j, "users", users);
	} else if (hash != NULL) {
		Json *expire = json_object();

		json_put_str(j, "password", hash);
		json_put_bool(expire, "expire", false);
		json_put(j, "chpasswd", expire);
	} else {
		json_unref(j);
		return NULL;
	}
	return print_document("#cloud-config\n", j);
}

/* How cloud-init knows what a text is: its first line. */
static const struct {
	const char *begins, *type;
} part_types[] = {
	{ "#cloud-config-archive", "text/cloud-config-archive" },
	{ "#cloud-config", "text/cloud-config" },
	{ "#cloud-boothook", "text/cloud-boothook" },
	{ "#include-once", "text/x-include-once-url" },
	{ "#include", "text/x-include-url" },
	{ "#part-handler", "text/part-handler" },
	{ "#!", "text/x-shellscript" },
	{ "## template: jinja", "text/jinja2" },
};

static const char *part_type(const char *text)
{
	for (size_t i = 0; i < G_N_ELEMENTS(part_types); i++)
		if (g_str_has_prefix(text, part_types[i].begins))
			return part_types[i].type;
	return NULL;
}

/* In base64: nothing that a text may hold can end its part early. */
static void add_part(GString *s, const char *boundary, const char *type, const char *more, const char *text)
{
	g_autofree char *code = g_base64_encode((const guchar *)text, strlen(text));

	g_string_append_printf(s,
			       "--%s\nContent-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\n"
			       "Content-Transfer-Encoding: base64\n%s\n",
			       boundary, type, more);
	for (size_t at = 0, n = strlen(code); at < n; at += 76)
		g_string_append_printf(s, "%.76s\n", code + at);
}

static char *archive(const char *theirs, const char *ours, GError **err)
{
	static const char boundary[] = "===============plimsoll==";
	const char *type = part_type(theirs);
	GString *s;

	if (type == NULL) {
		fail_member(
		    "user_data",
		    "Put the user and the password into it, or begin it with #cloud-config or another first line "
		    "that cloud-init knows.",
		    err);
		return NULL;
	}
	s = g_string_new(NULL);
	g_string_append_printf(s, "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\n\n",
			       boundary);
	add_part(s, boundary, type, "", theirs);
	add_part(s, boundary, "text/cloud-config", "Merge-Type: dict(recurse_array)+list(append)\n", ours);
	g_string_append_printf(s, "--%s--\n", boundary);
	return g_string_free(s, FALSE);
}

static char *user_data(const Json *wish, GError **err)
{
	const char *theirs = json_str(wish, "user_data");
	g_autofree char *ours = our_config(wish);

	if (theirs == NULL || *theirs == '\0')
		return ours != NULL ? g_steal_pointer(&ours) : g_strdup("#cloud-config\n{}\n");
	return ours == NULL ? g_strdup(theirs) : archive(theirs, ours, err);
}

static char *network_config(const Json *wish)
{
	const Json *v = json_object_get(wish, "network_config");

	if (json_is_object(v))
		return json_print_pretty(v);
	return g_strdup(json_string_value(v));
}

CloudInit *cloud_init_of(const Json *wish, const char *vm_name, const char *vm_id, GError **err)
{
	g_autoptr(CloudInit) c = NULL;
	_cleanup_json_ Json *none = json_object();
	g_autofree char *hostname = NULL;

	if (!cloud_init_check(wish, err))
		return NULL;
	if (wish == NULL)
		wish = none;
	c = g_new0(CloudInit, 1);
	hostname = json_str(wish, "hostname") != NULL ? g_strdup(json_str(wish, "hostname"))
						      : hostname_of(vm_name, vm_id);
	c->instance_id = instance_id(wish, vm_id);
	c->meta_data = meta_data(wish, c->instance_id, hostname);
	c->network_config = network_config(wish);
	c->user_data = user_data(wish, err);
	return c->user_data != NULL ? g_steal_pointer(&c) : NULL;
}

CloudInit *cloud_init_free(CloudInit *c)
{
	if (c != NULL) {
		g_free(c->user_data);
		g_free(c->meta_data);
		g_free(c->network_config);
		g_free(c->instance_id);
		g_free(c);
	}
	return NULL;
}
