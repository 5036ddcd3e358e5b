/* SPDX-License-Identifier: Apache-2.0 */
/* What cloud-init is given. */
#include "core/guest/cloud_init.h"

#include <string.h>

#define ID "9e194003-4608-4fe3-b073-00bd2a774a57"
#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8x me@example"
#define HASH "$6$saltsalt$abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./"

static CloudInit *make(const char *wish, const char *name)
{
	_cleanup_json_ Json *j = json_parse(wish, strlen(wish), NULL);
	g_autoptr(GError) err = NULL;
	CloudInit *c;

	g_assert_nonnull(j);
	c = cloud_init_of(j, name, ID, &err);
	g_assert_no_error(err);
	return c;
}

/* The text behind its first line, which is `first`. */
static Json *document(const char *text, const char *first)
{
	g_autoptr(GError) err = NULL;
	Json *j;

	g_assert_true(g_str_has_prefix(text, first));
	text += strlen(first);
	j = json_parse(text, strlen(text), &err);
	g_assert_no_error(err);
	return j;
}

static void test_nothing_asked_is_still_a_seed(void)
{
	g_autoptr(CloudInit) c = cloud_init_of(NULL, "web_1", ID, NULL);
	_cleanup_json_ Json *meta = document(c->meta_data, "");

	g_assert_cmpstr(c->user_data, ==, "#cloud-config\n{}\n");
	g_assert_null(c->network_config);
	g_assert_cmpstr(json_str(meta, "local-hostname"), ==, "web-1");
	g_assert_cmpstr(json_str(meta, "instance-id"), ==, c->instance_id);
	g_assert_true(g_str_has_prefix(c->instance_id, ID "-"));
	g_assert_cmpuint(json_object_size(meta), ==, 2);
}

static void test_host_names_come_from_names_that_may_be_one(void)
{
	static const struct {
		const char *name, *want;
	} rows[] = { { "web1", "web1" }, { "Web_1", "web-1" }, { "a.b", "a.b" },
		     { "web-", "web" },  { "web..", "web" },   { "a..b", ID },
		     { "9", "9" },       { "x._", "x" },       { "a.-b", ID } };

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(CloudInit) c = make("{}", rows[i].name);
		_cleanup_json_ Json *meta = document(c->meta_data, "");

		g_assert_cmpstr(json_str(meta, "local-hostname"), ==, rows[i].want);
	}
}

static void test_user_data_goes_through_byte_for_byte(void)
{
	static const char text[] = "#!/bin/sh\necho \"it's: [a] {b} # \xc3\xa4 \\n\"\n\t- x\n";
	_cleanup_json_ Json *j = json_pack("{s:s, s:[s], s:s}", "user_data", text, "ssh_keys", KEY,
					   "hostname", "h"),
			    *meta = NULL;
	g_autoptr(CloudInit) c = cloud_init_of(j, "n", ID, NULL);

	g_assert_cmpstr(c->user_data, ==, text);
	meta = document(c->meta_data, "");
	g_assert_cmpstr(json_string_value(json_array_get(json_arr(meta, "public-keys"), 0)), ==, KEY);
	g_assert_cmpstr(json_str(meta, "local-hostname"), ==, "h");
}

static void test_a_user_gets_keys_and_password(void)
{
	g_autoptr(CloudInit) c =
	    make("{\"user\":\"alice\",\"ssh_keys\":[\"" KEY "\"],\"password_hash\":\"" HASH "\"}", "n"),
			     locked = make("{\"user\":\"bob\"}", "n");
	_cleanup_json_ Json *config = document(c->user_data, "#cloud-config\n"),
			    *meta = document(c->meta_data, ""),
			    *other = document(locked->user_data, "#cloud-config\n");
	const Json *u = json_array_get(json_arr(config, "users"), 0),
		   *b = json_array_get(json_arr(other, "users"), 0);

	g_assert_cmpstr(json_str(u, "name"), ==, "alice");
	g_assert_cmpstr(json_str(u, "passwd"), ==, HASH);
	g_assert_false(json_bool(u, "lock_passwd", true));
	g_assert_cmpstr(json_string_value(json_array_get(json_arr(u, "ssh_authorized_keys"), 0)), ==, KEY);
	g_assert_null(json_object_get(meta, "public-keys"));
	g_assert_true(json_bool(b, "lock_passwd", false));
	g_assert_null(json_object_get(b, "passwd"));
}

static void test_a_password_alone_is_the_default_users(void)
{
	g_autoptr(CloudInit) c = make("{\"password_hash\":\"" HASH "\"}", "n");
	_cleanup_json_ Json *config = document(c->user_data, "#cloud-config\n");

	g_assert_cmpstr(json_str(config, "password"), ==, HASH);
	g_assert_false(json_bool(json_obj(config, "chpasswd"), "expire", true));
}

/* The decoded bodies of an archive's parts, and their types. */
static GPtrArray *parts_of(const char *text)
{
	static const char boundary[] = "\n--===============plimsoll==";
	GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
	g_auto(GStrv) piece = g_strsplit(text, boundary, -1);

	g_assert_true(g_str_has_prefix(
	    text, "Content-Type: multipart/mixed; boundary=\"===============plimsoll==\"\n"));
	for (size_t i = 1; piece[i] != NULL && !g_str_has_prefix(piece[i], "--"); i++) {
		char *body = strstr(piece[i], "\n\n");
		gsize n;

		g_assert_nonnull(body);
		*body = '\0';
		g_base64_decode_inplace(body + 2, &n);
		body[2 + n] = '\0';
		g_ptr_array_add(parts, g_strdup(piece[i]));
		g_ptr_array_add(parts, g_strdup(body + 2));
	}
	return parts;
}

static void test_both_are_an_archive_in_which_the_owner_comes_first(void)
{
	static const char theirs[] =
	    "#cloud-config\nusers: [bob]\n# \xe2\x82\xac --===============plimsoll==--\n";
	_cleanup_json_ Json *j = json_pack("{s:s, s:s}", "user_data", theirs, "user", "alice");
	g_autoptr(CloudInit) c = cloud_init_of(j, "n", ID, NULL);
	g_autoptr(GPtrArray) parts = parts_of(c->user_data);

	g_assert_cmpuint(parts->len, ==, 4);
	g_assert_nonnull(strstr(parts->pdata[0], "Content-Type: text/cloud-config;"));
	g_assert_null(strstr(parts->pdata[0], "Merge-Type"));
	g_assert_cmpstr(parts->pdata[1], ==, theirs);
	g_assert_nonnull(strstr(parts->pdata[2], "Merge-Type: dict(recurse_array)+list(append)"));
	g_assert_true(g_str_has_prefix(parts->pdata[3], "#cloud-config\n{"));
	g_assert_nonnull(strstr(parts->pdata[3], "alice"));
}

static void test_user_data_of_no_known_form_is_not_put_beside_ours(void)
{
	_cleanup_json_ Json *j = json_pack("{s:s, s:s}", "user_data", "hello", "user", "alice"),
			    *alone = json_pack("{s:s}", "user_data", "<powershell>x</powershell>");
	g_autoptr(GError) err = NULL;
	g_autoptr(CloudInit) c = cloud_init_of(alone, "n", ID, NULL);

	g_assert_null(cloud_init_of(j, "n", ID, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_nonnull(err_advice(err));
	g_assert_cmpstr(c->user_data, ==, "<powershell>x</powershell>");
}

static void test_network_config_as_text_or_object(void)
{
	g_autoptr(CloudInit) text = make("{\"network_config\":\"version: 2\\n\"}", "n"),
			     object = make("{\"network_config\":{\"version\":2}}", "n");

	g_assert_cmpstr(text->network_config, ==, "version: 2\n");
	g_assert_cmpstr(object->network_config, ==, "{\n  \"version\": 2\n}\n");
}

static void test_the_instance_changes_when_the_wish_does(void)
{
	g_autoptr(CloudInit) a = make("{\"hostname\":\"h\",\"user\":\"u\"}", "n"),
			     same = make("{\"user\":\"u\",\"hostname\":\"h\"}", "renamed"),
			     other = make("{\"hostname\":\"h\",\"user\":\"v\"}", "n");
	g_autoptr(CloudInit) vm2 = cloud_init_of(NULL, "n", "00000000-0000-4000-8000-000000000000", NULL),
			     vm1 = cloud_init_of(NULL, "n", ID, NULL);

	g_assert_cmpstr(a->instance_id, ==, same->instance_id);
	g_assert_cmpstr(a->instance_id, !=, other->instance_id);
	g_assert_cmpstr(vm1->instance_id, !=, vm2->instance_id);
}

static void test_bad_wishes_are_refused_by_name(void)
{
	static const struct {
		const char *wish, *name;
	} rows[] = {
		{ "{\"hostname\":\"a b\"}", "hostname" },
		{ "{\"hostname\":\"-a\"}", "hostname" },
		{ "{\"hostname\":\"a-\"}", "hostname" },
		{ "{\"hostname\":\"a..b\"}", "hostname" },
		{ "{\"hostname\":\"\"}", "hostname" },
		{ "{\"hostname\":5}", "hostname" },
		{ "{\"user\":\"Root\"}", "user" },
		{ "{\"user\":\"a:b\"}", "user" },
		{ "{\"password_hash\":\"secret\"}", "password_hash" },
		{ "{\"password_hash\":\"$6$bad\\n$xxxxxxxxxxxxxxxxxxxxxxxx\"}", "password_hash" },
		{ "{\"password_hash\":\"$y$j9T$abcdefgh$abcdefghijklmnopqrstuv\"}", "password_hash" },
		{ "{\"ssh_keys\":\"" KEY "\"}", "ssh_keys" },
		{ "{\"ssh_keys\":[\"hello\"]}", "ssh_keys" },
		{ "{\"ssh_keys\":[\"" KEY "\\n" KEY "\"]}", "ssh_keys" },
		{ "{\"ssh_keys\":[\"ssh-rsa BBBB\"]}", "ssh_keys" },
		{ "{\"user_data\":{}}", "user_data" },
		{ "{\"network_config\":[]}", "network_config" },
		{ "{\"pasword\":\"x\"}", "pasword" },
	};
	g_autofree char *big = g_strnfill(CLOUD_INIT_USER_DATA_MAX + 1, 'x');
	_cleanup_json_ Json *huge = json_pack("{s:s}", "user_data", big);

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		_cleanup_json_ Json *j = json_parse(rows[i].wish, strlen(rows[i].wish), NULL);
		g_autoptr(GError) err = NULL;

		g_assert_nonnull(j);
		g_assert_false(cloud_init_check(j, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(strstr(err->message, rows[i].name));
		g_assert_nonnull(err_advice(err));
	}
	g_assert_false(cloud_init_check(huge, NULL));
	big[CLOUD_INIT_USER_DATA_MAX] = '\0';
	json_put_str(huge, "user_data", big);
	g_assert_true(cloud_init_check(huge, NULL));
}

static void test_keys_with_options_and_nulls_are_fine(void)
{
	static const char wish[] =
	    "{\"ssh_keys\":[\"restrict,command=\\\"x y\\\" " KEY
	    "\",\"sk-ssh-ed25519@openssh.com AAAAGn\"],\"user\":null,\"user_data\":null}";
	g_autoptr(CloudInit) c = make(wish, "n");

	g_assert_nonnull(strstr(c->meta_data, "restrict,command="));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cloud-init/nothing", test_nothing_asked_is_still_a_seed);
	g_test_add_func("/cloud-init/hostname", test_host_names_come_from_names_that_may_be_one);
	g_test_add_func("/cloud-init/verbatim", test_user_data_goes_through_byte_for_byte);
	g_test_add_func("/cloud-init/user", test_a_user_gets_keys_and_password);
	g_test_add_func("/cloud-init/password", test_a_password_alone_is_the_default_users);
	g_test_add_func("/cloud-init/archive", test_both_are_an_archive_in_which_the_owner_comes_first);
	g_test_add_func("/cloud-init/unknown-form", test_user_data_of_no_known_form_is_not_put_beside_ours);
	g_test_add_func("/cloud-init/network", test_network_config_as_text_or_object);
	g_test_add_func("/cloud-init/instance", test_the_instance_changes_when_the_wish_does);
	g_test_add_func("/cloud-init/bad", test_bad_wishes_are_refused_by_name);
	g_test_add_func("/cloud-init/fine", test_keys_with_options_and_nulls_are_fine);
	return g_test_run();
}
