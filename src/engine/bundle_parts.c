/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bundle_parts.h"
#include "base/fd.h"
#include "core/model/paths.h"
#include "engine/vm_ops.h"

#include <errno.h>
#include <string.h>
#include <sys/klog.h>

/* A QEMU that is well answers at once; one that is not must not hold up the rest. */
#define ANSWER_TIME UINT64_C(10000000)
#define LOG_MAX (UINT64_C(64) << 20)
#define LOG_TAIL (UINT64_C(1) << 20)
#define KERNEL_LOG_MAX (256 << 10)
/* Of klogctl(): all that is kept, and it stays. */
#define READ_ALL 3

static GBytes *bytes_of_json(const Json *j)
{
	char *text = json_print_pretty(j);

	return g_bytes_new_take(text, strlen(text));
}

static bool may_ask(const Scene *s, GError **err)
{
	if (s->vmm == NULL)
		return fail(err, ERR_GONE, "QEMU has ended");
	return !s->silent || fail(err, ERR_TIMEOUT, "QEMU does not answer");
}

/* A QEMU that did not answer will not, most likely; each question would be waited for. */
static void note_silence(Scene *s, const GError *e)
{
	s->silent =
	    s->silent || g_error_matches(e, ERR, ERR_TIMEOUT) || g_error_matches(e, ERR, ERR_UNAVAILABLE);
}

static GBytes *take_registers(Scene *s, GError **err)
{
	g_autoptr(GError) e = NULL;
	char *text = may_ask(s, err) ? vm_registers(s->vmm, &e) : NULL;

	if (text != NULL)
		return g_bytes_new_take(text, strlen(text));
	note_silence(s, e);
	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return NULL;
}

/* {question: answer, or the error of it} */
static void ask(Scene *s, Json *all, const char *name, const char *command, Json *args)
{
	g_autoptr(GError) e = NULL;
	Json *reply =
	    may_ask(s, &e) ? qmp_call(vmm_qmp(s->vmm), command, json_ref(args), ANSWER_TIME, &e) : NULL;

	json_unref(args);
	if (reply == NULL)
		note_silence(s, e);
	json_put(all, name, reply != NULL ? reply : err_to_json(e));
}

static GBytes *take_qemu(Scene *s, GError **err)
{
	static const char *const questions[] = { "query-status", "query-cpus-fast", "query-block",
						 "query-chardev", "query-memory-size-summary" };
	_cleanup_json_ Json *all = json_object();

	if (!may_ask(s, err))
		return NULL;
	for (size_t i = 0; i < G_N_ELEMENTS(questions); i++)
		ask(s, all, questions[i], questions[i], NULL);
	return bytes_of_json(all);
}

/* What the host counted of its threads, without asking it. */
static void put_wakeups(const Scene *s, Json *all)
{
	_cleanup_json_ Json *report = engine_wakeups(s->engine);
	const Json *g;
	size_t i;

	json_array_foreach(json_arr(report, "guests"), i, g)
	{
		if (g_strcmp0(json_str(g, "id"), s->records->vm->id) == 0)
			json_put(all, "threads", json_deep_copy(g));
	}
}

static GBytes *take_statistics(Scene *s, GError **err)
{
	_cleanup_json_ Json *all = json_object();

	if (!may_ask(s, err))
		return NULL;
	put_wakeups(s, all);
	ask(s, all, "query-stats-vcpu", "query-stats", json_pack("{s:s}", "target", "vcpu"));
	ask(s, all, "query-stats-vm", "query-stats", json_pack("{s:s}", "target", "vm"));
	ask(s, all, "query-blockstats", "query-blockstats", NULL);
	return bytes_of_json(all);
}

static GBytes *take_screen(Scene *s, GError **err)
{
	return may_ask(s, err) ? vm_screenshot(s->vmm, err) : NULL;
}

static GBytes *take_port(const Scene *s, const char *port, GError **err)
{
	GBytes *text = fleet_scrollback(engine_fleet(s->engine), s->records->vm->id, port);

	if (text == NULL)
		fail(err, ERR_NOT_FOUND, "the vm has no such port");
	return text;
}

static GBytes *take_console(Scene *s, GError **err)
{
	return take_port(s, "console", err);
}

static GBytes *take_serial(Scene *s, GError **err)
{
	return take_port(s, "serial", err);
}

static GBytes *take_qemu_log(Scene *s, GError **err)
{
	g_autofree char *path = path_vm_log(&engine_facts(s->engine)->folders, s->records->vm->id);
	size_t len, from;
	g_autofree char *text = file_read(path, LOG_MAX, &len, err);

	if (text == NULL)
		return NULL;
	from = len > LOG_TAIL ? len - LOG_TAIL : 0;
	return g_bytes_new(text + from, len - from);
}

static GBytes *take_host_log(Scene *s, GError **err)
{
	g_autofree char *text = g_malloc(KERNEL_LOG_MAX);
	int n = klogctl(READ_ALL, text, KERNEL_LOG_MAX);

	(void)s;
	if (n < 0) {
		fail_errno(err, errno, "can't read the kernel's log");
		return NULL;
	}
	return g_bytes_new(text, (gsize)n);
}

static GBytes *take_records(Scene *s, GError **err)
{
	_cleanup_json_ Json *all = json_object();

	(void)err;
	json_put(all, "config", vm_to_json(s->records->vm));
	json_put(all, "runtime", json_deep_copy(s->records->runtime));
	json_put(all, "applied",
		 s->records->applied != NULL ? json_deep_copy(s->records->applied) : json_null());
	return bytes_of_json(all);
}

const EvidencePart evidence_parts[] = {
	{ "registers.txt", take_registers },
	{ "qemu.json", take_qemu },
	{ "statistics.json", take_statistics },
	{ "screen.png", take_screen },
	{ "console.txt", take_console },
	{ "serial.txt", take_serial },
	{ "qemu.log", take_qemu_log },
	{ "host-kernel.log", take_host_log },
	{ "vm.json", take_records },
};
const size_t n_evidence_parts = G_N_ELEMENTS(evidence_parts);
