/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's side of a vm: screen, NMI, logs, agent. */
#include "api/handlers.h"
#include "base/fd.h"
#include "core/model/paths.h"
#include "core/model/vm_state.h"
#include "engine/agent_ops.h"
#include "engine/evidence.h"
#include "engine/nmi.h"
#include "engine/vm_ops.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
#define ASK_TIMEOUT (10 * SECOND)
#define EXEC_TIMEOUT (30 * SECOND)
#define FILE_MAX (UINT64_C(1) << 20)
#define LOG_TAIL (UINT64_C(64) << 10)

static bool refuse_in_sim(const ApiCall *c, GError **err)
{
	return engine_is_sim(c->engine) ? fail(err, ERR_UNSUPPORTED, "the simulated engine has no guests")
					: true;
}

/* The QEMU of a vm that allows `action`. */
static Vmm *call_vmm(ApiCall *c, VmRecords *r, VmAction action, GError **err)
{
	Vmm *v;

	if (!refuse_in_sim(c, err))
		return NULL;
	if (json_str(r->runtime, "operation") == NULL && !vm_allows(r->vm->name, r->runtime, action, err))
		return NULL;
	v = fleet_vmm(engine_fleet(c->engine), r->vm->id);
	if (v == NULL)
		fail_advice(err, ERR_BAD_STATE, "Start it first.", "vm '%s' does not run", r->vm->name);
	return v;
}

bool api_vm_nmi(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(Vmm) v = r != NULL ? call_vmm(c, r, VM_ACTION_nmi, err) : NULL;
	g_autoptr(Agent) a = v != NULL ? fleet_agent(engine_fleet(c->engine), r->vm->id) : NULL;
	_cleanup_json_ Json *kept = NULL;
	Json *counts;
	bool evidence;

	if (v == NULL || !call_flag(c, "evidence", false, &evidence, err))
		return false;
	if (evidence)
		kept =
		    evidence_take(c->engine, r->vm, "nmi", "an NMI was about to be sent", c->user, NULL, err);
	if (evidence && kept == NULL)
		return false;
	counts = nmi_inject(v, a, err);
	if (counts == NULL)
		return false;
	json_put_str(counts, "evidence", json_str(kept, "id"));
	return call_answer(c, 200, counts);
}

bool api_vm_screenshot(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(Vmm) v = r != NULL ? call_vmm(c, r, VM_ACTION_screenshot, err) : NULL;
	GBytes *png = v != NULL ? vm_screenshot(v, err) : NULL;

	if (v != NULL && png == NULL && g_error_matches(*err, ERR, ERR_UNSUPPORTED))
		err_advise(err, "Give it a display and start it again: `plim vm set %s platform.video=std`.",
			   r->vm->name);
	return png != NULL && call_answer_bytes(c, "image/png", png);
}

/* The end of a file, from a line's beginning. */
static GBytes *tail_of(const char *path, GError **err)
{
	size_t len, from;
	g_autofree char *text = file_read(path, 8 * FILE_MAX, &len, err);
	const char *line;

	if (text == NULL)
		return NULL;
	from = len > LOG_TAIL ? len - LOG_TAIL : 0;
	line = from > 0 ? memchr(text + from, '\n', len - from) : NULL;
	if (line != NULL)
		from = (size_t)(line + 1 - text);
	return g_bytes_new(text + from, len - from);
}

bool call_answer_log(ApiCall *c, const char *vm_id, GError **err)
{
	g_autofree char *path = path_vm_log(&engine_facts(c->engine)->folders, vm_id);
	GBytes *text = tail_of(path, err);

	return text != NULL && call_answer_bytes(c, "text/plain; charset=utf-8", text);
}

bool api_vm_log(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);

	return r != NULL && call_answer_log(c, r->vm->id, err);
}

static Agent *call_agent(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(Vmm) v = r != NULL ? call_vmm(c, r, VM_ACTION_agent, err) : NULL;
	Agent *a = v != NULL ? fleet_agent(engine_fleet(c->engine), r->vm->id) : NULL;

	if (v != NULL && a == NULL)
		fail_advice(err, ERR_AGENT, "Set agent=true and start it again.",
			    "vm '%s' has no channel for an agent", r->vm->name);
	return a;
}

/* What one question could not answer is left null: an old agent lacks some. */
static void put_or_null(Json *j, const char *key, Json *value)
{
	json_put(j, key, value != NULL ? value : json_null());
}

static Json *describe(Agent *a, GError **err)
{
	Json *j = agent_info(a, ASK_TIMEOUT, err);
	g_autofree char *host = NULL;

	if (j == NULL)
		return NULL;
	host = agent_host_name(a, ASK_TIMEOUT, NULL);
	json_put_str(j, "hostname", host);
	put_or_null(j, "os", agent_osinfo(a, ASK_TIMEOUT, NULL));
	put_or_null(j, "addresses", agent_addresses(a, ASK_TIMEOUT, NULL));
	json_put_bool(j, "connected", true);
	return j;
}

bool api_vm_agent(ApiCall *c, GError **err)
{
	g_autoptr(Agent) a = call_agent(c, err);
	Json *j;

	if (a == NULL)
		return false;
	j = agent_is_open(a) ? describe(a, err) : json_pack("{s:b}", "connected", 0);
	return j != NULL && call_answer(c, 200, j);
}

static Json *text_of(GBytes *bytes)
{
	gsize len;
	const char *data = g_bytes_get_data(bytes, &len);
	g_autofree char *text = g_utf8_make_valid(data != NULL ? data : "", data != NULL ? (gssize)len : 0);

	return json_string(text);
}

static Json *exec_answer(const AgentExecResult *r)
{
	Json *j = json_object();

	json_put(j, "exitcode", r->has_code ? json_integer(r->code) : json_null());
	json_put(j, "signal", r->signal != 0 ? json_integer(r->signal) : json_null());
	json_put(j, "stdout", text_of(r->out));
	json_put(j, "stderr", text_of(r->errors));
	json_put_bool(j, "truncated", r->out_truncated || r->errors_truncated);
	return j;
}

/* A daemon that is to end waits for no program of a guest's. */
static bool is_ending(void *data)
{
	return exec_is_stopping(engine_exec(data));
}

bool api_vm_agent_exec(ApiCall *c, GError **err)
{
	static const char *const known[] = { "command", "input", "timeout", NULL };
	const Json *body = call_body(c, err);
	g_auto(GStrv) command = NULL;
	g_autoptr(Agent) a = NULL;
	g_auto(AgentExecResult) result = { 0 };
	const char *input = json_str(body, "input");
	struct agent_exec e;
	bool rested, ok;

	if (body == NULL || !call_known(body, known, err))
		return false;
	command = json_strv(json_arr(body, "command"));
	if (command[0] == NULL)
		return fail(err, ERR_INVALID, "'command' must be a list of at least one word");
	e = (struct agent_exec){ .path = command[0],
				 .args = (const char *const *)command + 1,
				 .input = input,
				 .ended = is_ending,
				 .data = c->engine };
	e.input_len = input != NULL ? strlen(input) : 0;
	a = call_agent(c, err);
	rested = call_rest(c);
	ok = a != NULL && agent_exec(a, &e, json_uint(body, "timeout", EXEC_TIMEOUT), &result, err);
	call_wake(c, rested);
	return ok && call_answer(c, 200, exec_answer(&result));
}

bool api_vm_agent_file(ApiCall *c, GError **err)
{
	const char *path = call_query(c, "path");
	g_autoptr(Agent) a = NULL;
	GBytes *bytes;
	bool whole;

	if (path == NULL || path[0] != '/')
		return fail(err, ERR_INVALID, "'path' must be an absolute path in the guest");
	a = call_agent(c, err);
	bytes = a != NULL ? agent_file_read(a, path, FILE_MAX, ASK_TIMEOUT, &whole, err) : NULL;
	if (bytes != NULL && !whole) {
		g_bytes_unref(bytes);
		return fail_advice(err, ERR_LIMIT, "Copy it out another way, over the network for example.",
				   "'%s' is longer than 1 MiB", path);
	}
	return bytes != NULL && call_answer_bytes(c, "application/octet-stream", bytes);
}

bool api_vm_console_log(ApiCall *c, GError **err)
{
	const char *port = call_query(c, "port");
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(Vmm) v = r != NULL ? call_vmm(c, r, VM_ACTION_console, err) : NULL;
	GBytes *text;

	if (v == NULL)
		return false;
	text = fleet_scrollback(engine_fleet(c->engine), r->vm->id, port != NULL ? port : "console");
	if (text == NULL)
		return fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Set platform.console=true (or platform.hvm_serial=pty) and start it again.",
		    "vm '%s' has no such console", r->vm->name);
	return call_answer_bytes(c, "text/plain; charset=utf-8", text);
}
