/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/agent_ops.h"
#include "base/time.h"
#include "core/tools/device.h"

#include <arpa/inet.h>

/* An agent's own bound of one read is 48 MB; ours makes lines of 1.4 MB. */
#define READ_CHUNK (UINT64_C(1) << 20)
/* Asking whether a program has ended: soon at first, then seldom. */
#define EXEC_PAUSE_FIRST UINT64_C(10000)
#define EXEC_PAUSE_LAST UINT64_C(1000000)
/* To say whether a program has ended: an agent that takes longer answers no more. */
#define EXEC_ANSWER UINT64_C(60000000)
/* For closing a file after the caller's time is over. */
#define CLOSE_TIMEOUT UINT64_C(5000000)

static uint64_t time_left(uint64_t deadline)
{
	uint64_t now = time_monotonic();

	return deadline > now ? deadline - now : 1;
}

static char *cut_text(const char *text)
{
	return g_utf8_strlen(text, -1) > AGENT_TEXT_MAX ? g_utf8_substring(text, 0, AGENT_TEXT_MAX)
							: g_strdup(text);
}

static void put_cut(Json *obj, const char *key, const char *text)
{
	g_autofree char *s = cut_text(text);

	json_put_str(obj, key, s);
}

bool agent_ping(Agent *a, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *reply = agent_call(a, "guest-ping", NULL, timeout, err);

	return reply != NULL;
}

Json *agent_info(Agent *a, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *reply = agent_call(a, "guest-info", NULL, timeout, err);
	Json *info, *names, *disabled, *c;
	size_t i;

	if (reply == NULL)
		return NULL;
	info = json_object();
	names = json_array();
	disabled = json_array();
	put_cut(info, "version", json_str(reply, "version"));
	json_array_foreach(json_arr(reply, "supported_commands"), i, c)
	{
		g_autofree char *name = cut_text(json_str(c, "name"));
		Json *list = json_bool(c, "enabled", false) ? names : disabled;

		if (json_array_size(list) < AGENT_COMMANDS_MAX)
			json_array_append_new(list, json_text_or_escaped(name));
	}
	json_put(info, "commands", names);
	json_put(info, "disabled", disabled);
	return info;
}

Json *agent_osinfo(Agent *a, uint64_t timeout, GError **err)
{
	static const char *const keys[] = {
		"id",      "name",       "pretty-name", "version",        "version-id",
		"variant", "variant-id", "machine",     "kernel-release", "kernel-version"
	};
	_cleanup_json_ Json *reply = agent_call(a, "guest-get-osinfo", NULL, timeout, err);
	Json *info;

	if (reply == NULL)
		return NULL;
	info = json_object();
	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		if (json_str(reply, keys[i]) != NULL)
			put_cut(info, keys[i], json_str(reply, keys[i]));
	return info;
}

char *agent_host_name(Agent *a, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *reply = agent_call(a, "guest-get-host-name", NULL, timeout, err);

	return reply != NULL ? cut_text(json_str(reply, "host-name")) : NULL;
}

/* "ipv4" or "ipv6" for an address that others can use; NULL for what is none. */
static const char *family_of(const char *address)
{
	struct in6_addr six;
	struct in_addr four;

	if (inet_pton(AF_INET, address, &four) == 1) {
		uint32_t n = ntohl(four.s_addr);

		return n == 0 || n >> 24 == 127 || n >> 16 == 0xa9fe ? NULL : "ipv4";
	}
	if (inet_pton(AF_INET6, address, &six) != 1)
		return NULL;
	return IN6_IS_ADDR_UNSPECIFIED(&six) || IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_LINKLOCAL(&six)
		   ? NULL
		   : "ipv6";
}

static void add_addresses(Json *all, const Json *interface)
{
	const char *mac = json_str(interface, "hardware-address");
	size_t i;
	Json *x;

	json_array_foreach(json_arr(interface, "ip-addresses"), i, x)
	{
		const char *address = json_str(x, "ip-address"), *family = family_of(address);
		int64_t prefix = json_int(x, "prefix", -1);
		Json *j;

		if (i >= AGENT_ADDRESSES_MAX)
			return;
		if (family == NULL || prefix < 0 || prefix > 128)
			continue;
		j = json_object();
		put_cut(j, "interface", json_str(interface, "name"));
		put_cut(j, "mac", mac != NULL ? mac : "");
		json_put_str(j, "address", address);
		json_put_int(j, "prefix", prefix);
		json_put_str(j, "family", family);
		json_array_append_new(all, j);
	}
}

Json *agent_addresses(Agent *a, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *reply = agent_call(a, "guest-network-get-interfaces", NULL, timeout, err);
	Json *all, *x;
	size_t i;

	if (reply == NULL)
		return NULL;
	all = json_array();
	json_array_foreach(reply, i, x)
	{
		if (i < AGENT_INTERFACES_MAX)
			add_addresses(all, x);
	}
	return all;
}

bool agent_shutdown(Agent *a, AgentShutdown how, uint64_t timeout, GError **err)
{
	static const char *const modes[] = {
		[AGENT_POWERDOWN] = "powerdown",
		[AGENT_HALT] = "halt",
		[AGENT_REBOOT] = "reboot",
	};
	Json *args = json_object();

	json_put_str(args, "mode", modes[how]);
	return agent_tell(a, "guest-shutdown", args, timeout, err);
}

/*
 * Programs
 */

void agent_exec_result_clear(AgentExecResult *r)
{
	g_clear_pointer(&r->out, g_bytes_unref);
	g_clear_pointer(&r->errors, g_bytes_unref);
	*r = (AgentExecResult){ 0 };
}

static Json *exec_args(const struct agent_exec *e)
{
	Json *args = json_object();

	json_put_str(args, "path", e->path);
	if (e->args != NULL)
		json_put(args, "arg", json_of_strv(e->args));
	if (e->env != NULL)
		json_put(args, "env", json_of_strv(e->env));
	if (e->input != NULL) {
		g_autofree char *text = g_base64_encode(e->input, e->input_len);

		json_put_str(args, "input-data", text);
	}
	json_put_bool(args, "capture-output", true);
	return args;
}

static GBytes *decode(const char *text)
{
	gsize n = 0;
	guchar *bytes = g_base64_decode(text != NULL ? text : "", &n);

	return g_bytes_new_take(bytes, n);
}

static Json *pid_args(int64_t pid)
{
	Json *args = json_object();

	json_put_int(args, "pid", pid);
	return args;
}

/* The status of a program that has ended. */
static Json *exec_wait(Agent *a, const struct agent_exec *e, int64_t pid, uint64_t deadline, GError **err)
{
	uint64_t pause = EXEC_PAUSE_FIRST;

	for (;;) {
		_cleanup_json_ Json *status = agent_call(a, "guest-exec-status", pid_args(pid),
							 MIN(time_left(deadline), EXEC_ANSWER), err);

		if (status == NULL)
			return NULL;
		if (json_bool(status, "exited", false))
			return g_steal_pointer(&status);
		if (e->ended != NULL && e->ended(e->data)) {
			fail(err, ERR_CANCELLED, "the program was not waited for");
			return NULL;
		}
		if (time_monotonic() + pause >= deadline) {
			fail_advice(err, ERR_TIMEOUT,
				    "It goes on in the guest; allow more time, or end it there.",
				    "the program has not ended in time");
			return NULL;
		}
		if (!agent_pause(a, pause, err))
			return NULL;
		pause = MIN(pause * 2, EXEC_PAUSE_LAST);
	}
}

/* Adds to the error what the caller can do about the program. */
static bool fail_exec(int64_t pid, GError **err)
{
	if (err != NULL && json_object_get(err_details(*err), "bound") != NULL)
		err_advise(err,
			   "If the program printed that much, let it write a file in the guest instead.");
	return err_detail(err, "pid", json_integer(pid));
}

bool agent_exec(Agent *a, const struct agent_exec *e, uint64_t timeout, AgentExecResult *ret, GError **err)
{
	uint64_t deadline = time_monotonic() + timeout;
	_cleanup_json_ Json *began = agent_call(a, "guest-exec", exec_args(e), timeout, err), *status = NULL;
	int64_t pid;

	if (began == NULL)
		return false;
	pid = json_int(began, "pid", 0);
	status = exec_wait(a, e, pid, deadline, err);
	if (status == NULL)
		return fail_exec(pid, err);
	*ret = (AgentExecResult){
		.pid = pid,
		.has_code = json_object_get(status, "exitcode") != NULL,
		.code = json_int(status, "exitcode", 0),
		.signal = json_int(status, "signal", 0),
		.out = decode(json_str(status, "out-data")),
		.errors = decode(json_str(status, "err-data")),
		.out_truncated = json_bool(status, "out-truncated", false),
		.errors_truncated = json_bool(status, "err-truncated", false),
	};
	return true;
}

/*
 * Files
 */

static Json *handle_args(int64_t handle)
{
	Json *args = json_object();

	json_put_int(args, "handle", handle);
	return args;
}

/* Appends one chunk. */
static bool read_chunk(Agent *a, int64_t handle, uint64_t want, uint64_t timeout, GByteArray *all,
		       bool *ret_end, GError **err)
{
	g_autofree guchar *bytes = NULL;
	_cleanup_json_ Json *reply = NULL;
	Json *args = handle_args(handle);
	gsize n = 0;

	json_put_uint(args, "count", want);
	reply = agent_call(a, "guest-file-read", args, timeout, err);
	if (reply == NULL)
		return false;
	bytes = g_base64_decode(json_str(reply, "buf-b64"), &n);
	*ret_end = json_bool(reply, "eof", false);
	if (n > want || (n == 0 && !*ret_end))
		return fail(err, ERR_AGENT, "the guest agent's answer to 'guest-file-read' makes no sense");
	g_byte_array_append(all, bytes, (guint)n);
	return true;
}

/* One byte more than `max` is read to know whether there are more. */
static bool read_all(Agent *a, int64_t handle, uint64_t max, uint64_t deadline, GByteArray *all, GError **err)
{
	bool end = false;

	while (!end && all->len <= max) {
		uint64_t want = MIN(READ_CHUNK, max + 1 - all->len);

		if (!read_chunk(a, handle, want, time_left(deadline), all, &end, err))
			return false;
	}
	return true;
}

static Json *open_args(const char *path)
{
	Json *args = json_object();

	json_put_str(args, "path", path);
	json_put_str(args, "mode", "r");
	return args;
}

GBytes *agent_file_read(Agent *a, const char *path, uint64_t max, uint64_t timeout, bool *ret_whole,
			GError **err)
{
	uint64_t deadline = time_monotonic() + timeout;
	_cleanup_json_ Json *handle = NULL, *closed = NULL;
	g_autoptr(GByteArray) all = g_byte_array_new();
	bool ok;

	if (max > AGENT_FILE_MAX) {
		fail(err, ERR_INVALID, "no more than %d MiB of a file can be read",
		     (int)(AGENT_FILE_MAX >> 20));
		return NULL;
	}
	handle = agent_call(a, "guest-file-open", open_args(path), timeout, err);
	if (handle == NULL)
		return NULL;
	ok = read_all(a, json_integer_value(handle), max, deadline, all, err);
	/* An agent keeps what is not closed until it ends; that it can't be closed is not the caller's
	 * concern. */
	closed =
	    agent_call(a, "guest-file-close", handle_args(json_integer_value(handle)), CLOSE_TIMEOUT, NULL);
	if (!ok)
		return NULL;
	*ret_whole = all->len <= max;
	g_byte_array_set_size(all, (guint)MIN(all->len, max));
	return g_byte_array_free_to_bytes(g_steal_pointer(&all));
}

/*
 * Drivers
 */

/* Linux numbers virtio devices from 0; some that were unplugged leave gaps. */
#define VIRTIO_DEVICES_MAX 32
#define VIRTIO_GAP_MAX 2
#define UEVENT_MAX 4096

static bool has_command(const Json *info, const char *name)
{
	Json *c;
	size_t i;

	json_array_foreach(json_arr(info, "commands"), i,
			   c) if (g_str_equal(json_string_value(c), name)) return true;
	return false;
}

/* Adds the device of that number, if it is there. False when the agent does not answer any more. */
static bool read_device(Agent *a, unsigned number, uint64_t deadline, Json *list, bool *ret_there,
			GError **err)
{
	g_autofree char *path = g_strdup_printf("/sys/bus/virtio/devices/virtio%u/uevent", number);
	g_autoptr(GError) e = NULL;
	bool whole;
	g_autoptr(GBytes) text = agent_file_read(a, path, UEVENT_MAX, time_left(deadline), &whole, &e);
	Json *driver = NULL;
	const char *data;
	gsize len;

	*ret_there = text != NULL;
	if (text == NULL && (!g_error_matches(e, ERR, ERR_AGENT) || !agent_is_open(a))) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (text != NULL && (data = g_bytes_get_data(text, &len)) != NULL)
		driver = tools_driver_of_uevent(data, len);
	if (driver != NULL)
		json_array_append_new(list, driver);
	return true;
}

static Json *read_devices(Agent *a, uint64_t deadline, GError **err)
{
	Json *list = json_array();
	unsigned gap = 0;
	bool there;

	for (unsigned i = 0; i < VIRTIO_DEVICES_MAX && gap <= VIRTIO_GAP_MAX; i++) {
		if (!read_device(a, i, deadline, list, &there, err)) {
			json_unref(list);
			return NULL;
		}
		gap = there ? 0 : gap + 1;
	}
	return list;
}

/* It speaks through a virtio device itself: who finds none has not looked. Takes `list`. */
static Json *some_or_none(Json *list)
{
	if (json_array_size(list) > 0)
		return list;
	json_unref(list);
	return NULL;
}

Json *agent_drivers(Agent *a, const Json *info, uint64_t timeout, GError **err)
{
	uint64_t deadline = time_monotonic() + timeout;
	_cleanup_json_ Json *devices = NULL;

	/* Agents elsewhere than in Windows may list the command and refuse it. */
	if (has_command(info, "guest-get-devices"))
		devices = agent_call(a, "guest-get-devices", NULL, timeout, NULL);
	if (devices != NULL)
		return some_or_none(tools_drivers_of_devices(devices));
	if (!has_command(info, "guest-file-open") || !has_command(info, "guest-file-read"))
		return NULL;
	return some_or_none(read_devices(a, deadline, err));
}

bool agent_frozen(Agent *a, uint64_t timeout, bool *ret, GError **err)
{
	_cleanup_json_ Json *reply = agent_call(a, "guest-fsfreeze-status", NULL, timeout, err);

	if (reply == NULL)
		return false;
	*ret = g_strcmp0(json_string_value(reply), "frozen") == 0;
	return true;
}
