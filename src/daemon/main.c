/* SPDX-License-Identifier: Apache-2.0 */
/* plimsolld: wires the layers together, nothing else. */
#include "api/api.h"
#include "base/log.h"
#include "base/version.h"
#include "daemon/handover.h"
#include "engine/fence.h"
#include "engine/limits.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#define PLAN_THREADS 16
/* How often, and how often at most, an end looks whether all requests are answered. */
#define IDLE_PAUSE UINT64_C(10000)
#define IDLE_LOOKS 300
/* The same before the engine is stopped, which refuses what is asked of it from then on. */
#define QUIET_LOOKS 20
#define LEASE_SECONDS_MIN 3
#define LEASE_SECONDS_MAX 600
#define STARTS_MAX 256
#define SAMPLE_MAX 3600
#define MEMORY_SAMPLE_MAX 60

typedef struct Daemon {
	Folders folders;
	char *name, *engine, *socket;
	char *tls_address, *tls_cert, *tls_key, *tls_client_ca;
	gboolean debug, version;
	gint lease; /* s */
	gint starts;
	gint sample, memory_sample; /* s */

	Loop *loop;
	Engine *e;
	Api *api;
	struct api_sockets sockets; /* of the daemon that this one follows, then those for its follower */
	GThread *helper;            /* starts and stops the engine, which blocks */
	GError *err;
	LoopSource *look;
	unsigned looks;
	bool stopping, again, given_up;
	char **argv; /* as it was given */
} Daemon;

static bool parse_options(Daemon *d, int *argc, char ***argv, GError **err)
{
	const GOptionEntry options[] = {
		{ "state", 0, 0, G_OPTION_ARG_FILENAME, &d->folders.state,
		  "Records, images, volumes (/var/lib/plimsoll)", "DIR" },
		{ "run", 0, 0, G_OPTION_ARG_FILENAME, &d->folders.run, "Sockets (/run/plimsoll)", "DIR" },
		{ "log", 0, 0, G_OPTION_ARG_FILENAME, &d->folders.log, "Logs of guests (/var/log/plimsoll)",
		  "DIR" },
		{ "socket", 0, 0, G_OPTION_ARG_FILENAME, &d->socket, "The API's socket (api.sock in --run)",
		  "PATH" },
		{ "name", 0, 0, G_OPTION_ARG_STRING, &d->name, "Name of this host (the machine's)", "NAME" },
		{ "engine", 0, 0, G_OPTION_ARG_STRING, &d->engine,
		  "qemu, or sim: an engine without guests, for tests", "NAME" },
		{ "tls-listen", 0, 0, G_OPTION_ARG_STRING, &d->tls_address, "Also serve the API on TLS here",
		  "ADDRESS:PORT" },
		{ "tls-cert", 0, 0, G_OPTION_ARG_FILENAME, &d->tls_cert, "Certificate of this server",
		  "FILE" },
		{ "tls-key", 0, 0, G_OPTION_ARG_FILENAME, &d->tls_key, "Its key", "FILE" },
		{ "tls-client-ca", 0, 0, G_OPTION_ARG_FILENAME, &d->tls_client_ca,
		  "Authority that signs clients' certificates", "FILE" },
		{ "lease", 0, 0, G_OPTION_ARG_INT, &d->lease,
		  "In a pool: how long others wait for a sign of life of this host (30)", "SECONDS" },
		{ "starts", 0, 0, G_OPTION_ARG_INT, &d->starts,
		  "How many guests are started at a time (two for each CPU, at least 4)", "N" },
		{ "sample", 0, 0, G_OPTION_ARG_INT, &d->sample,
		  "How often to look at what idle guests cost (30)", "SECONDS" },
		{ "memory-sample", 0, 0, G_OPTION_ARG_INT, &d->memory_sample,
		  "How often to look at what guests with dynamic memory need (3)", "SECONDS" },
		{ "debug", 0, 0, G_OPTION_ARG_NONE, &d->debug, "Log more", NULL },
		{ "version", 0, 0, G_OPTION_ARG_NONE, &d->version, "Print the version and end", NULL },
		{ 0 },
	};
	GOptionContext *ctx = g_option_context_new("- runs the virtual machines of a host");
	bool ok;

	g_option_context_add_main_entries(ctx, options, NULL);
	ok = g_option_context_parse(ctx, argc, argv, err);
	g_option_context_free(ctx);
	return ok;
}

static void set_default(char **option, const char *value)
{
	if (*option == NULL)
		*option = g_strdup(value);
}

/* QEMU and plans work in another folder than ours. */
static void make_absolute(char **path)
{
	char *full = g_canonicalize_filename(*path, NULL);

	g_free(*path);
	*path = full;
}

static bool check_options(Daemon *d, GError **err)
{
	bool tls = d->tls_address != NULL;

	set_default(&d->folders.state, "/var/lib/plimsoll");
	set_default(&d->folders.run, "/run/plimsoll");
	set_default(&d->folders.log, "/var/log/plimsoll");
	set_default(&d->engine, "qemu");
	make_absolute(&d->folders.state);
	make_absolute(&d->folders.run);
	make_absolute(&d->folders.log);
	if (d->socket == NULL)
		d->socket = g_build_filename(d->folders.run, "api.sock", NULL);
	if (d->lease != 0 && (d->lease < LEASE_SECONDS_MIN || d->lease > LEASE_SECONDS_MAX))
		return fail(err, ERR_INVALID, "--lease takes %d to %d seconds", LEASE_SECONDS_MIN,
			    LEASE_SECONDS_MAX);
	if (d->sample < 0 || d->sample > SAMPLE_MAX)
		return fail(err, ERR_INVALID, "--sample takes 1 to %d seconds", SAMPLE_MAX);
	if (d->memory_sample < 0 || d->memory_sample > MEMORY_SAMPLE_MAX)
		return fail(err, ERR_INVALID, "--memory-sample takes 1 to %d seconds", MEMORY_SAMPLE_MAX);
	if (d->starts < 0 || d->starts > STARTS_MAX)
		return fail(err, ERR_INVALID, "--starts takes 1 to %d", STARTS_MAX);
	if (!g_str_equal(d->engine, "qemu") && !g_str_equal(d->engine, "sim"))
		return fail(err, ERR_INVALID, "there is no engine '%s': qemu or sim", d->engine);
	if (tls != (d->tls_cert != NULL) || tls != (d->tls_key != NULL) || tls != (d->tls_client_ca != NULL))
		return fail(err, ERR_INVALID,
			    "--tls-listen, --tls-cert, --tls-key and --tls-client-ca go together");
	return true;
}

static void begin_anew(void *data);

static void open_api(void *data)
{
	Daemon *d = data;
	struct api_config config = {
		.engine = d->e,
		.loop = d->loop,
		.socket = d->socket,
		.tls_address = d->tls_address,
		.tls_cert = d->tls_cert,
		.tls_key = d->tls_key,
		.tls_client_ca = d->tls_client_ca,
		.member = engine_membership(d->e),
		.sockets = d->sockets,
	};

	g_clear_pointer(&d->helper, g_thread_join);
	if (d->err == NULL)
		d->api = api_new(&config, &d->err);
	d->sockets = (struct api_sockets){ 0 };
	if (d->err != NULL) {
		loop_quit(d->loop, 1);
		return;
	}
	log_info("ready on %s", d->socket);
	sd_notify(0, "READY=1");
	if (d->again)
		begin_anew(d);
}

static gpointer start_engine(gpointer data)
{
	Daemon *d = data;

	engine_start(d->e, &d->err);
	loop_post(d->loop, open_api, d);
	return NULL;
}

/* Does nobody wait for an answer, or has `max` times? Else look(d) is called in a moment. */
static bool is_idle(Daemon *d, unsigned max, void (*look)(void *))
{
	if (!api_is_busy(d->api) || d->looks++ == max) {
		d->looks = 0;
		return true;
	}
	loop_source_free(d->look);
	d->look = loop_add_timer(d->loop, IDLE_PAUSE, look, d);
	return false;
}

/* Whoever asked for the end, or for something before it, gets the answer first, be it that there is none. */
static void quit_when_idle(void *data)
{
	Daemon *d = data;

	if (!is_idle(d, IDLE_LOOKS, quit_when_idle))
		return;
	if (!d->given_up && api_give_up(d->api)) {
		d->given_up = true;
		quit_when_idle(d);
		return;
	}
	loop_quit(d->loop, 0);
}

static void quit(void *data)
{
	Daemon *d = data;

	g_clear_pointer(&d->helper, g_thread_join);
	quit_when_idle(d);
}

static gpointer stop_engine(gpointer data)
{
	Daemon *d = data;

	engine_stop(d->e);
	loop_post(d->loop, quit, d);
	return NULL;
}

static void on_signal(int signo, void *data)
{
	Daemon *d = data;

	/* An end as well, but without what was to follow. */
	if (d->again && d->api != NULL) {
		d->again = false;
		return;
	}
	/* Before it is ready, and a second time, there is nothing to wait for. */
	if (d->stopping || d->api == NULL) {
		loop_quit(d->loop, 1);
		return;
	}
	log_info("signal %d: stopping; guests run on", signo);
	sd_notify(0, "STOPPING=1");
	d->stopping = true;
	api_say_goodbye(d->api);
	d->helper = g_thread_new("stop", stop_engine, d);
}

static void stop_when_idle(void *data)
{
	Daemon *d = data;

	if (is_idle(d, QUIET_LOOKS, stop_when_idle))
		d->helper = g_thread_new("stop", stop_engine, d);
}

/* What must happen before the daemon is another one, or the same with another store. */
static void begin_anew(void *data)
{
	Daemon *d = data;

	if (d->stopping)
		return;
	d->again = true;
	if (d->api == NULL) /* open_api() comes back to it */
		return;
	log_info("beginning anew; guests run on");
	d->stopping = true;
	api_say_goodbye(d->api);
	api_rest(d->api);
	stop_when_idle(d);
}

static bool run(Daemon *d, GError **err)
{
	struct engine_config config = {
		.restart = begin_anew,
		.data = d,
		.folders = &d->folders,
		.host_name = d->name,
		.sim = g_str_equal(d->engine, "sim"),
		.workers = PLAN_THREADS,
		.launches = (unsigned)d->starts,
		.lease = (uint64_t)d->lease * 1000000,
		.sample = (uint64_t)d->sample * 1000000,
		.memory_sample = (uint64_t)d->memory_sample * 1000000,
	};
	g_autoptr(LoopSource) term = NULL, interrupt = NULL;
	int code;

	signal(SIGPIPE, SIG_IGN);
	umask(0022);
	limits_raise(!config.sim);
	d->loop = loop_new(err);
	if (d->loop == NULL)
		return false;
	term = loop_add_signal(d->loop, SIGTERM, on_signal, d, err);
	interrupt = term != NULL ? loop_add_signal(d->loop, SIGINT, on_signal, d, err) : NULL;
	if (interrupt == NULL)
		return false;
	config.loop = d->loop;
	d->e = engine_open(&config, err);
	if (d->e == NULL)
		return false;
	d->helper = g_thread_new("start", start_engine, d);
	code = loop_run(d->loop);
	if (d->err != NULL)
		g_propagate_error(err, g_steal_pointer(&d->err));
	return code == 0;
}

static void tell_failure(const GError *err)
{
	const char *advice = err_advice(err);

	log_error("%s", err->message);
	if (advice != NULL)
		log_error("%s", advice);
}

int main(int argc, char **argv)
{
	Daemon d = { 0 };
	g_autoptr(GError) err = NULL;
	bool ok;

	/* The daemon's own child: see engine/fence.h. */
	if (argc == 3 && g_str_equal(argv[1], "--guard"))
		return fence_guard((int)g_ascii_strtoll(argv[2], NULL, 10));
	d.argv = g_strdupv(argv);
	d.sockets = handover_take();
	if (!parse_options(&d, &argc, &argv, &err) || !check_options(&d, &err)) {
		fprintf(stderr, "plimsolld: %s\n", err->message);
		return 2;
	}
	if (d.version) {
		printf("plimsolld %s\n", plimsoll_version);
		return 0;
	}
	if (d.debug)
		log_set_level(LOG_LEVEL_DEBUG);
	ok = run(&d, &err);
	if (err != NULL)
		tell_failure(err);
	if (d.helper != NULL)
		g_thread_join(d.helper);
	loop_source_free(d.look);
	if (d.again && d.api != NULL)
		d.sockets = api_hand_over(d.api);
	d.api = api_free(d.api);
	d.e = engine_close(d.e);
	d.loop = loop_free(d.loop);
	if (ok && d.again) {
		handover_give(&d.sockets);
		execv("/proc/self/exe", d.argv);
		log_error("can't begin anew: %s", g_strerror(errno));
		ok = false;
	}
	g_strfreev(d.argv);
	return ok ? 0 : 1;
}
