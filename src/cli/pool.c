/* SPDX-License-Identifier: Apache-2.0 */
/* plim pool: hosts that share their records. */
#include "base/str.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <stdio.h>

/* A daemon that begins anew takes up its guests before it answers. */
#define ANEW_TRIES 600
#define ANEW_PAUSE 200000

static void put_text(const Cli *c, Json *body, const char *option, const char *member)
{
	if (cli_text(c, option) != NULL)
		json_put_str(body, member, cli_text(c, option));
}

/* Wait until the daemon answers as one that is in this pool; NULL: in none. */
static bool wait_anew(Cli *c, const char *pool_id, GError **err)
{
	for (int i = 0; i < ANEW_TRIES; i++) {
		g_autoptr(Client) fresh = client_new(client_socket(c->client), false);
		_cleanup_json_ Json *d = client_call(fresh, "GET", "/v1", NULL, NULL);

		if (d != NULL && g_strcmp0(json_str(json_obj(d, "pool"), "id"), pool_id) == 0)
			return true;
		g_usleep(ANEW_PAUSE);
	}
	return fail_advice(err, ERR_TIMEOUT, "`journalctl -u plimsolld` says what it waits for.",
			   "the daemon did not come back yet");
}

static bool pool_init(Cli *c, GError **err)
{
	_cleanup_json_ Json *body = json_object(), *etcd = json_object(), *pool = NULL;

	put_text(c, body, "name", "name");
	put_text(c, body, "address", "address");
	put_text(c, etcd, "etcd", "url");
	put_text(c, etcd, "etcd-ca", "ca");
	put_text(c, etcd, "etcd-cert", "cert");
	put_text(c, etcd, "etcd-key", "key");
	put_text(c, etcd, "etcd-user", "user");
	put_text(c, etcd, "etcd-password-file", "password_file");
	if (json_object_size(etcd) > 0)
		json_put(body, "etcd", json_incref(etcd));
	pool = client_call(c->client, "POST", "/v1/pool/actions/init", body, err);
	if (pool == NULL || !wait_anew(c, json_str(pool, "id"), err))
		return false;
	printf("the pool %s has one host; `plim pool token` lets another one in\n", json_str(pool, "name"));
	return true;
}

static bool pool_token(Cli *c, GError **err)
{
	_cleanup_json_ Json *body = json_object(), *token = NULL;
	uint64_t us;

	if (cli_text(c, "life") != NULL) {
		if (!parse_duration(cli_text(c, "life"), &us, err))
			return false;
		json_put_uint(body, "life", us);
	}
	token = client_call(c->client, "POST", "/v1/pool/tokens", body, err);
	if (token == NULL)
		return false;
	if (cli_text(c, "output") != NULL)
		return output_object(c, token, err);
	printf("%s\n", json_str(token, "token"));
	fprintf(stderr, "On the new host, until %s:\n  plim pool join %s --token TOKEN\n",
		json_str(token, "expires_at"), json_str(token, "url"));
	return true;
}

static bool pool_join(Cli *c, GError **err)
{
	_cleanup_json_ Json *body = json_object(), *pool = NULL;

	if (c->args[0] != NULL)
		json_put_str(body, "url", c->args[0]);
	put_text(c, body, "token", "token");
	put_text(c, body, "address", "address");
	pool = client_call(c->client, "POST", "/v1/pool/actions/join", body, err);
	if (pool == NULL || !wait_anew(c, json_str(pool, "id"), err))
		return false;
	printf("this host is in the pool %s\n", json_str(pool, "name"));
	return true;
}

static bool pool_leave(Cli *c, GError **err)
{
	_cleanup_json_ Json *left = client_call(c->client, "POST", "/v1/pool/actions/leave", NULL, err);

	if (left == NULL || !wait_anew(c, NULL, err))
		return false;
	printf("this host left the pool %s, with %zu vms\n", json_str(left, "name"),
	       json_array_size(json_arr(left, "vms")));
	return true;
}

static const Column status_columns[] = {
	{ "HOST", "name", NULL, false },
	{ "STATE", "state", NULL, false },
	{ "LEASE", "lease_since", print_age, true },
	{ "ETCD", "etcd", NULL, false },
	{ "VMS", "vms", NULL, true },
	{ "ACCEL", "accelerators", print_strings, false },
	{ "VERSION", "version", NULL, false },
	{ "URL", "url", NULL, false },
	{ 0 },
};

static bool pool_status(Cli *c, GError **err)
{
	_cleanup_json_ Json *pool = client_call(c->client, "GET", "/v1/pool", NULL, err);
	const char *format = cli_text(c, "output");

	if (pool == NULL)
		return false;
	if (format != NULL && !g_str_equal(format, "table"))
		return output_object(c, pool, err);
	printf("pool %s, made %s\n", json_str(pool, "name"), json_str(pool, "created_at"));
	return output_list(c, json_arr(pool, "hosts"), status_columns, err);
}

static bool pool_evict(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("hosts", cli_arg(c, 0), "/actions/evict");
	_cleanup_json_ Json *gone = client_call(c->client, "POST", path, NULL, err);
	Json *vm;
	size_t i;

	if (gone == NULL)
		return false;
	printf("%s was taken out of the pool\n", json_str(gone, "name"));
	json_array_foreach(json_arr(gone, "vms"), i, vm)
	    printf("vm %s was %s there\n", json_str(vm, "name"), json_str(vm, "state"));
	return true;
}

static const Option init_options[] = {
	{ "name", 0, OPTION_TEXT, "NAME", "Name of the pool (pool)" },
	{ "address", 0, OPTION_TEXT, "ADDRESS[:PORT]",
	  "Where the other hosts reach this one (its way out, port 7443)" },
	{ "etcd", 0, OPTION_TEXT, "URL[,URL...]", "Keep the records in an etcd that is there already" },
	{ "etcd-ca", 0, OPTION_TEXT, "FILE", "Authority of that etcd's certificates" },
	{ "etcd-cert", 0, OPTION_TEXT, "FILE", "Certificate to show to it" },
	{ "etcd-key", 0, OPTION_TEXT, "FILE", "Its key" },
	{ "etcd-user", 0, OPTION_TEXT, "NAME", "User of that etcd" },
	{ "etcd-password-file", 0, OPTION_TEXT, "FILE", "A file whose first line is the password" },
	{ 0 },
};
static const Option token_options[] = {
	{ "life", 0, OPTION_TEXT, "DURATION", "How long it is good (1h; a week at most)" },
	{ 0 },
};
static const Option join_options[] = {
	{ "token", 0, OPTION_TEXT, "TOKEN", "What `plim pool token` printed on a member" },
	{ "address", 0, OPTION_TEXT, "ADDRESS[:PORT]",
	  "Where the other hosts reach this one (the way to URL, port 7443)" },
	{ 0 },
};

const Command pool_commands[] = {
	{ "pool", "init", "", "Make a pool of this host; its guests run on",
	  "The daemon makes the pool's certificates, moves the records into etcd and begins anew.",
	  "plim pool init --name rack1 --address 192.0.2.1", 0, 0, NULL, 0, init_options, pool_init },
	{ "pool", "token", "", "Print a token with which one host can join, once", NULL, NULL, 0, 0, NULL,
	  GROUP_OUTPUT, token_options, pool_token },
	{ "pool", "join", "[URL]", "Join the pool that made the token; run it on the new host",
	  "The host's own vms, volumes and images come with it. Names that the pool has already are refused "
	  "before anything is changed. Guests run on.",
	  "plim pool join https://192.0.2.1:7443 --token plj1.x...", 0, 1, NULL, 0, join_options, pool_join },
	{ "pool", "leave", "", "Take this host out of its pool, with the vms that are on it", NULL, NULL, 0,
	  0, NULL, 0, NULL, pool_leave },
	{ "pool", "status", "", "Show the hosts of the pool", NULL, NULL, 0, 0, NULL, GROUP_OUTPUT, NULL,
	  pool_status },
	{ "pool", "evict", "HOST", "Take a dead host out of the pool",
	  "Its lease must be gone. Its vms are stopped in the records; those whose disks other hosts reach can be "
	  "started there.",
	  NULL, 1, 1, "hosts", 0, NULL, pool_evict },
	{ 0 },
};
