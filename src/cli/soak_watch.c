/* SPDX-License-Identifier: Apache-2.0 */
/* How a guest is looked at: by its console, by its agent, and by the hosts. */
#include "base/str.h"
#include "base/time.h"
#include "cli/soak.h"

#define SECOND UINT64_C(1000000)
#define START_TIMEOUT (60 * SECOND)
#define PORT "/console/log?port=serial"

/*
 * The watcher of a guest with an agent: any sh with the usual small programs.
 * It keeps a file in memory and one on disk, and notes each tenth of a second
 * its count, its clock and what the clock did since. Only what it looks at
 * often is in its loop, so that its own work is no gap.
 */
static const char start_script[] =
    "d=/run/plim-soak disk=/var/tmp/plim-soak.disk\n"
    "[ -e $d/pid ] && kill $(cat $d/pid) 2>/dev/null\n"
    "[ -e $d/flow.pid ] && kill $(cat $d/flow.pid) 2>/dev/null\n"
    "mkdir -p $d && cd $d && rm -f line fresh.sum flow flow.pid broken || exit 1\n"
    "head -c 1048576 /dev/urandom > memory && head -c 1048576 /dev/urandom > $disk && sync || exit 1\n"
    "sha256sum memory $disk > sums || exit 1\n"
    "(n=0 last=0 gap=0 back=0\n"
    "while :; do\n"
    " read up idle < /proc/uptime\n"
    " now=${up%.*}${up#*.} n=$((n + 1))\n"
    " if [ $now -lt $last ]; then back=$((back + 1))\n"
    " elif [ $last -gt 0 ] && [ $((now - last)) -gt $gap ]; then gap=$((now - last)); fi\n"
    " last=$now\n"
    " echo soak $n ${now}0000000 ${gap}0000000 $back > line.new && mv line.new line\n"
    " sleep 0.1\n"
    "done) < /dev/null > /dev/null 2>&1 &\n"
    "echo $! > pid\n";

/*
 * bash opens TCP connections itself. Each message must come back before the next goes; a minute is far more
 * than TCP waits to say a thing again after a move.
 */
static const char flow_script[] =
    "cd /run/plim-soak && command -v bash > /dev/null || { echo there is no bash >&2; exit 1; }\n"
    "bash -c 'exec 5<>/dev/tcp/%s/%u || exit 1\n"
    "n=1\n"
    "while echo flow $n >&5 && read -r -t 60 word back <&5 && [ \"$word $back\" = \"flow $n\" ]; do\n"
    " echo $n > flow.new && mv flow.new flow\n"
    " n=$((n + 1))\n"
    " sleep 0.05\n"
    "done\n"
    "echo 1 > broken' < /dev/null > flow.log 2>&1 &\n"
    "echo $! > flow.pid\n";

/*
 * The pages of the files on disk are dropped first, where that is allowed: else memory would be read. At the
 * end a fresh one is written, to be read after the next move.
 */
static const char look_script[] =
    "cd /run/plim-soak && [ -e line ] || exit 1\n"
    "kill -0 $(cat pid) || exit 1\n"
    "echo 1 2>/dev/null > /proc/sys/vm/drop_caches\n"
    "[ -e fresh.sum ] && fresh=fresh.sum\n"
    "all=$(sha256sum -c sums $fresh 2>/dev/null)\n"
    "checked=$(echo \"$all\" | wc -l) bad=$(echo \"$all\" | grep -vc ': OK$')\n"
    "head -c 262144 /dev/urandom > /var/tmp/plim-soak.fresh && sync && \\\n"
    " sha256sum /var/tmp/plim-soak.fresh > fresh.sum || exit 1\n"
    "[ -e flow ] && flow=\"$(cat flow) $([ -e broken ] && echo 1 || echo 0)\"\n"
    "cpu=$(grep -E '^(vendor_id|cpu family|model|stepping|flags)' /proc/cpuinfo | sha256sum)\n"
    "cpu=${cpu%% *}\n"
    "echo $(cat line) $checked $bad ${cpu%????????????????????????????????????????????????} $flow\n";

static bool look_at_console(Soak *s, const SoakGuest *g, struct soak_beat *ret, GError **err)
{
	g_autofree char *path = cli_path("vms", g->id, PORT), *text = NULL;
	g_autoptr(GBytes) bytes = client_fetch(s->cli->client, path, err);
	gsize len;
	const char *data;

	if (bytes == NULL)
		return false;
	data = g_bytes_get_data(bytes, &len);
	text = g_strndup(data != NULL ? data : "", len);
	return soak_beat_last(text, ret);
}

static bool ask_agent(Soak *s, const SoakGuest *g, const char *script, Json **ret, GError **err)
{
	g_autofree char *path = cli_path("vms", g->id, "/agent/exec");
	const char *const command[] = { "/bin/sh", "-c", script, NULL };
	_cleanup_json_ Json *body = json_object(), *answer = NULL;
	g_autofree char *said = NULL;

	json_put(body, "command", json_of_strv(command));
	json_put_uint(body, "timeout", 60 * SECOND);
	answer = client_call(s->cli->client, "POST", path, body, err);
	if (answer == NULL)
		return false;
	said = text_harmless(g_strdup(json_str(answer, "stderr")), false);
	if (json_int(answer, "exitcode", -1) != 0)
		return fail(err, ERR_AGENT, "the watcher in '%s' failed: %s", g->name, said);
	*ret = json_ref(answer);
	return true;
}

bool soak_run_check(Soak *s, const SoakGuest *g, const char *command, GError **err)
{
	_cleanup_json_ Json *answer = NULL;

	return ask_agent(s, g, command, &answer, err);
}

static bool look_by_agent(Soak *s, const SoakGuest *g, struct soak_beat *ret, GError **err)
{
	_cleanup_json_ Json *answer = NULL;
	const char *line;

	if (!ask_agent(s, g, look_script, &answer, err))
		return false;
	line = json_str(answer, "stdout");
	return soak_beat_last(line != NULL ? line : "", ret);
}

bool soak_watch(Soak *s, const SoakGuest *g, struct soak_beat *ret, GError **err)
{
	return g->agent ? look_by_agent(s, g, ret, err) : look_at_console(s, g, ret, err);
}

/* Its line that has all that is watched; until then what it says is no sign of life. */
static bool wait_for_line(Soak *s, SoakGuest *g, GError **err)
{
	uint64_t deadline = time_monotonic() + START_TIMEOUT;

	while (!look_by_agent(s, g, &g->beat, NULL) || (s->flow != NULL && g->beat.flow == 0)) {
		if (time_monotonic() > deadline && s->flow != NULL && g->beat.beat > 0)
			return fail_advice(err, ERR_AGENT,
					   "--flow names an address of this machine that the guest reaches.",
					   "'%s' gets no answer from %s, port %u, over TCP", g->name,
					   soak_flow_address(s->flow), soak_flow_port(s->flow));
		if (time_monotonic() > deadline)
			return fail(err, ERR_AGENT, "the watcher in '%s' gives no sign of life", g->name);
		g_usleep(SECOND / 10);
	}
	return true;
}

static bool start_by_agent(Soak *s, SoakGuest *g, GError **err)
{
	_cleanup_json_ Json *answer = NULL, *flow = NULL;
	g_autofree char *script = NULL;

	g->agent = true;
	if (!ask_agent(s, g, start_script, &answer, err))
		return false;
	if (s->flow != NULL) {
		script = g_strdup_printf(flow_script, soak_flow_address(s->flow), soak_flow_port(s->flow));
		if (!ask_agent(s, g, script, &flow, err))
			return false;
	}
	return wait_for_line(s, g, err);
}

bool soak_watch_start(Soak *s, SoakGuest *g, GError **err)
{
	g_autofree char *path = cli_path("vms", g->id, "/agent");
	_cleanup_json_ Json *agent = NULL;

	if (look_at_console(s, g, &g->beat, NULL))
		return s->flow == NULL ||
		       fail_advice(err, ERR_UNSUPPORTED, "Leave --flow out, or soak a guest with the agent.",
				   "'%s' is watched by its console, and holds no TCP connection", g->name);
	agent = client_call(s->cli->client, "GET", path, NULL, NULL);
	if (json_bool(agent, "connected", false))
		return start_by_agent(s, g, err);
	return fail_advice(err, ERR_UNSUPPORTED,
			   "Give it the payload with job=soak:4:8 on its serial console, or the guest agent: "
			   "docs/soak.md tells how.",
			   "nothing in '%s' watches the guest from inside", g->name);
}

Json *soak_hosts_look(Soak *s, const SoakGuest *g, GError **err)
{
	_cleanup_json_ Json *list = json_array();

	for (size_t i = 0; i < s->settings.n_hosts; i++) {
		g_autofree char *rest = g_strconcat("/guests/", g->id, NULL),
				*path = cli_path("hosts", s->host[i].id, rest);
		Json *one = client_call(s->cli->client, "GET", path, NULL, err);

		if (one == NULL)
			return NULL;
		json_array_append_new(list, one);
	}
	return json_ref(list);
}
