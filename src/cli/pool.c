/* SPDX-License-Identifier: Apache-2.0 */
/* plim pool: hosts that share their records. */
#include "base/fd.h"
#include "base/str.h"
#include "cli/cpu_file.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

/* A daemon that begins anew takes up its guests before it answers. */
#define ANEW_TRIES 600
#define ANEW_PAUSE 200000
/* Features named in the table of the hosts; -o json has all. */
#define COSTS_SHOWN 4u

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

/* The daemon reads the file, in another folder than ours. */
static void put_path(const Cli *c, Json *body, const char *option, const char *member)
{
	g_autofree char *path =
	    cli_text(c, option) != NULL ? g_canonicalize_filename(cli_text(c, option), NULL) : NULL;

	if (path != NULL)
		json_put_str(body, member, path);
}

static char *changing(const Cli *c, const char *path)
{
	return g_strconcat(path, cli_has(c, "dry-run") ? "?dry_run=true" : "", NULL);
}

/* "a, b", or `none`. Caller frees. */
static char *print_list(const Json *names, const char *none)
{
	g_auto(GStrv) list = json_strv(names);

	return list[0] != NULL ? g_strjoinv(", ", list) : g_strdup(none);
}

static bool print_init(const Json *would)
{
	g_autofree char *vms = print_list(json_arr(would, "vms"), "no vms"),
			*etcd = print_list(json_arr(would, "etcd"), "an etcd of its own");

	printf("this host would be the pool %s, reached at %s, with %s; the records would be in %s\n",
	       json_str(would, "name"), json_str(would, "address"), vms, etcd);
	return true;
}

static bool pool_init(Cli *c, GError **err)
{
	g_autofree char *path = changing(c, "/v1/pool/actions/init");
	_cleanup_json_ Json *body = json_object(), *etcd = json_object(), *pool = NULL;

	put_text(c, body, "name", "name");
	put_text(c, body, "address", "address");
	put_text(c, etcd, "etcd", "url");
	put_path(c, etcd, "etcd-ca", "ca");
	put_path(c, etcd, "etcd-cert", "cert");
	put_path(c, etcd, "etcd-key", "key");
	put_text(c, etcd, "etcd-user", "user");
	put_path(c, etcd, "etcd-password-file", "password_file");
	if (json_object_size(etcd) > 0)
		json_put(body, "etcd", json_incref(etcd));
	pool = client_call(c->client, "POST", path, body, err);
	if (pool != NULL && cli_has(c, "dry-run"))
		return print_init(pool);
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

#define TOKEN_MAX 4096

/* All that is given to the program, whatever it is: pipes and terminals have no size. */
static char *read_stdin(GError **err)
{
	g_autofree char *text = g_malloc(TOKEN_MAX + 1);
	size_t n = fread(text, 1, TOKEN_MAX, stdin);

	if (ferror(stdin)) {
		fail_errno(err, errno, "can't read the standard input");
		return NULL;
	}
	text[n] = '\0';
	return g_steal_pointer(&text);
}

/* In an argument everybody on the host can read it. */
static bool put_token(const Cli *c, Json *body, GError **err)
{
	const char *path = cli_text(c, "token-file");
	g_autofree char *text = NULL;

	put_text(c, body, "token", "token");
	if (path == NULL)
		return true;
	if (cli_text(c, "token") != NULL)
		return fail_advice(err, ERR_INVALID, "Give one of them.",
				   "both --token and --token-file are given");
	text = g_str_equal(path, "-") ? read_stdin(err) : file_read(path, TOKEN_MAX, NULL, err);
	if (text == NULL)
		return false;
	if (!g_utf8_validate(text, -1, NULL))
		return fail_advice(err, ERR_INVALID, "`plim pool token` on a member of the pool prints one.",
				   "'%s' holds no token", path);
	json_put_str(body, "token", g_strstrip(text));
	return true;
}

static bool pool_join(Cli *c, GError **err)
{
	g_autofree char *path = changing(c, "/v1/pool/actions/join");
	_cleanup_json_ Json *body = json_object(), *pool = NULL;

	if (c->args[0] != NULL)
		json_put_str(body, "url", c->args[0]);
	if (!put_token(c, body, err))
		return false;
	put_text(c, body, "address", "address");
	pool = client_call(c->client, "POST", path, body, err);
	if (pool != NULL && cli_has(c, "dry-run")) {
		printf("the pool %s would let this host in\n", json_str(pool, "name"));
		return true;
	}
	if (pool == NULL || !wait_anew(c, json_str(pool, "id"), err))
		return false;
	printf("this host is in the pool %s\n", json_str(pool, "name"));
	return true;
}

static bool pool_leave(Cli *c, GError **err)
{
	g_autofree char *path = changing(c, "/v1/pool/actions/leave");
	_cleanup_json_ Json *left = client_call(c->client, "POST", path, NULL, err);

	if (left != NULL && cli_has(c, "dry-run")) {
		g_autofree char *names = print_list(json_arr(left, "vms"), "no vms");

		printf("this host would leave the pool %s, with %s\n", json_str(left, "name"), names);
		return true;
	}
	if (left == NULL || !wait_anew(c, NULL, err))
		return false;
	printf("this host left the pool %s, with %zu vms\n", json_str(left, "name"),
	       json_array_size(json_arr(left, "vms")));
	return true;
}

/* "kvm: avx2, bmi2": what the pool lacks because of this host alone. */
static char *print_costs(const Json *value, const Json *object)
{
	g_autoptr(GString) text = g_string_new(NULL);
	const char *guest;
	Json *names;

	(void)object;
	json_object_foreach((Json *)value, guest, names)
	{
		g_auto(GStrv) list = json_strv(names);
		guint n = g_strv_length(list);

		if (n > COSTS_SHOWN) {
			g_free(list[COSTS_SHOWN]);
			list[COSTS_SHOWN] = NULL;
		}
		if (n > 0) {
			g_autofree char *words = g_strjoinv(",", list);

			g_string_append_printf(text, "%s%s: %s", text->len > 0 ? " " : "", guest, words);
		}
		if (n > COSTS_SHOWN)
			g_string_append_printf(text, "+%u", n - COSTS_SHOWN);
	}
	return text->len > 0 ? g_strdup(text->str) : g_strdup("-");
}

static const Column status_columns[] = {
	{ "HOST", "name", NULL, false },
	{ "STATE", "state", NULL, false },
	{ "LEASE", "lease_since", print_age, true },
	{ "ETCD", "etcd", NULL, false },
	{ "VMS", "vms", NULL, true },
	{ "ACCEL", "accelerators", print_strings, false },
	{ "COSTS", "sole", print_costs, false },
	{ "VERSION", "version", NULL, false },
	{ "URL", "url", NULL, false },
	{ 0 },
};

static void print_level(const Json *level)
{
	static const char *const guests[] = { "kvm", "tcg" };

	for (size_t i = 0; i < G_N_ELEMENTS(guests); i++) {
		const Json *of = json_obj(level, guests[i]);

		if (of != NULL)
			printf("%s guests: level %s, %zu features lost\n", guests[i], json_str(of, "set"),
			       json_array_size(json_arr(of, "lost")));
	}
}

static bool pool_status(Cli *c, GError **err)
{
	_cleanup_json_ Json *pool = client_call(c->client, "GET", "/v1/pool", NULL, err);
	const char *format = cli_text(c, "output");

	if (pool == NULL)
		return false;
	if (format != NULL && !g_str_equal(format, "table"))
		return output_object(c, pool, err);
	printf("pool %s, made %s\n", json_str(pool, "name"), json_str(pool, "created_at"));
	print_level(json_obj(pool, "level"));
	return output_list(c, json_arr(pool, "hosts"), status_columns, err);
}

static bool pool_evict(Cli *c, GError **err)
{
	g_autofree char *rest = changing(c, "/actions/evict"), *path = cli_path("hosts", cli_arg(c, 0), rest);
	bool dry_run = cli_has(c, "dry-run");
	_cleanup_json_ Json *gone = client_call(c->client, "POST", path, NULL, err);
	Json *vm;
	size_t i;

	if (gone == NULL)
		return false;
	printf("%s %s taken out of the pool\n", json_str(gone, "name"), dry_run ? "would be" : "was");
	json_array_foreach(json_arr(gone, "vms"), i, vm) printf(
	    "vm %s %s %s there\n", json_str(vm, "name"), dry_run ? "is" : "was", json_str(vm, "state"));
	return true;
}

/* A dump says what the CPU can, not what a probe found: it stands for a host that runs KVM guests. */
static Json *record_of_file(const char *path, GError **err)
{
	g_autoptr(CpuFile) f = cpu_file_read(path, err);
	struct host_record r = { 0 };
	struct guest_sets *kvm = &r.guest[GUEST_KVM];
	static char *no_machines[] = { NULL };

	if (f == NULL)
		return NULL;
	if (f->kind == CPU_FILE_RECORD)
		return host_record_to_json(&f->record);
	kvm->there = true;
	if (!cpu_file_set(f, GUEST_KVM, SET_MAX, &kvm->max, err) ||
	    !cpu_file_set(f, GUEST_KVM, SET_DEFAULT, &kvm->dflt, err))
		return NULL;
	r.host = f->name;
	r.machines = no_machines;
	return host_record_to_json(&r);
}

static void print_names(const char *what, const char *guest, const Json *names)
{
	g_autoptr(GString) text = g_string_new(NULL);
	const Json *name;
	size_t i;

	json_array_foreach((Json *)names, i, name)
	    g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", json_string_value(name));
	if (text->len > 0)
		printf("%s guests %s: %s\n", guest, what, text->str);
}

static void print_vm(const Json *vm)
{
	static const char *const what[] = { "lost", "gained" };

	if (json_bool(vm, "must_move", false))
		printf("vm %s must move away first\n", json_str(vm, "name"));
	for (size_t k = 0; k < G_N_ELEMENTS(what); k++) {
		g_auto(GStrv) hosts = json_strv(json_arr(vm, what[k]));
		g_autofree char *list = g_strjoinv(", ", hosts);

		if (hosts[0] != NULL)
			printf("vm %s %s: %s\n", json_str(vm, "name"),
			       k == 0 ? "could not move any more to" : "could move to", list);
	}
}

static bool print_whatif(const Json *j)
{
	static const char *const guests[] = { "kvm", "tcg" };
	Json *vm, *vms = json_arr(j, "vms");
	size_t i, changes = json_array_size(vms);

	for (size_t k = 0; k < G_N_ELEMENTS(guests); k++) {
		const Json *g = json_obj(j, guests[k]), *lost = json_arr(g, "lost"),
			   *gained = json_arr(g, "gained");

		print_names("lose", guests[k], lost);
		print_names("gain", guests[k], gained);
		changes += json_array_size(lost) + json_array_size(gained);
	}
	json_array_foreach(vms, i, vm) print_vm(vm);
	if (changes == 0)
		printf("nothing changes\n");
	return true;
}

/* Of the host that joins or is upgraded: its record in a file, or where its daemon can be asked for it. */
static bool put_host(const Cli *c, Json *body, const char *what, GError **err)
{
	_cleanup_json_ Json *tls = json_object();
	Json *record;

	put_path(c, tls, "tls-ca", "ca");
	put_path(c, tls, "tls-cert", "cert");
	put_path(c, tls, "tls-key", "key");
	if (g_str_has_prefix(what, "https://")) {
		json_put_str(body, "url", what);
		json_put(body, "tls", json_incref(tls));
		return true;
	}
	if (strstr(what, "://") != NULL)
		return fail_advice(err, ERR_INVALID, "Write it like https://192.0.2.7:8443.",
				   "'%s' is not the address of a host's API", what);
	if (json_object_size(tls) > 0)
		return fail(err, ERR_INVALID, "the --tls options go with an address, and '%s' is a file",
			    what);
	record = record_of_file(what, err);
	if (record != NULL)
		json_put(body, "record", record);
	return record != NULL;
}

static bool pool_whatif(Cli *c, GError **err)
{
	const char *kind = cli_arg(c, 0), *what = cli_arg(c, 1);
	_cleanup_json_ Json *body = json_object(), *j = NULL;

	json_put_str(body, "kind", kind);
	if (g_str_equal(kind, "join") || g_str_equal(kind, "upgrade")) {
		if (!put_host(c, body, what, err))
			return false;
	} else {
		json_put_str(body, g_str_equal(kind, "disable") ? "feature" : "host", what);
	}
	j = client_call(c->client, "POST", "/v1/pool/actions/what-if", body, err);
	if (j == NULL)
		return false;
	return cli_text(c, "output") != NULL ? output_object(c, j, err) : print_whatif(j);
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
	{ "token-file", 0, OPTION_TEXT, "FILE",
	  "The same in a file, or with - on the standard input: nobody sees it among the processes" },
	{ "address", 0, OPTION_TEXT, "ADDRESS[:PORT]",
	  "Where the other hosts reach this one (the way to URL, port 7443)" },
	{ 0 },
};
static const Option whatif_options[] = {
	{ "tls-ca", 0, OPTION_TEXT, "FILE", "Authority of that host's certificate (the machine's)" },
	{ "tls-cert", 0, OPTION_TEXT, "FILE", "Certificate to show to it" },
	{ "tls-key", 0, OPTION_TEXT, "FILE", "Its key (in the file of the certificate)" },
	{ 0 },
};

const Command pool_commands[] = {
	{ "pool", "init", "", "Make a pool of this host; its guests run on",
	  "The daemon makes the pool's certificates, moves the records into etcd and begins anew.",
	  "plim pool init --name rack1 --address 192.0.2.1", 0, 0, NULL, GROUP_CHANGE, init_options,
	  pool_init },
	{ "pool", "token", "", "Print a token with which one host can join, once", NULL, NULL, 0, 0, NULL,
	  GROUP_OUTPUT, token_options, pool_token },
	{ "pool", "join", "[URL]", "Join the pool that made the token; run it on the new host",
	  "The host's own vms, volumes and images come with it. Names that the pool has already are refused "
	  "before anything is changed. Guests run on.",
	  "plim pool join https://192.0.2.1:7443 --token plj1.x...", 0, 1, NULL, GROUP_CHANGE, join_options,
	  pool_join },
	{ "pool", "leave", "", "Take this host out of its pool, with the vms that are on it", NULL, NULL, 0,
	  0, NULL, GROUP_CHANGE, NULL, pool_leave },
	{ "pool", "status", "", "Show the hosts of the pool", NULL, NULL, 0, 0, NULL, GROUP_OUTPUT, NULL,
	  pool_status },
	{ "pool", "evict", "HOST", "Take a dead host out of the pool",
	  "Its lease must be gone. Its vms are stopped in the records; those whose disks other hosts reach can be "
	  "started there.",
	  NULL, 1, 1, "hosts", GROUP_CHANGE, NULL, pool_evict },
	{ "pool", "what-if", "CHANGE FILE|URL|HOST|FEATURE",
	  "Say what a change of the hosts would do; nothing is changed",
	  "CHANGE is join FILE|URL, leave HOST, disable FEATURE or upgrade FILE|URL. FILE is a host record "
	  "(`plim host cpu --export`), or for a join also a CPUID dump. URL is where that host serves its API on "
	  "TLS (plimsolld --tls-listen); this host's daemon asks it, with the certificate in --tls-cert. Told are "
	  "the features that guests would lose or gain at their next start, and each running vm that would lose "
	  "or gain hosts to move to.",
	  "plim pool what-if join newhost.json\n  "
	  "plim pool what-if join https://192.0.2.7:8443 --tls-ca ca.pem --tls-cert me.pem --tls-key me.key",
	  2, 2, NULL, GROUP_OUTPUT, whatif_options, pool_whatif },
	{ 0 },
};
