/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done through the guest agent, one function each. All block worker
 * threads and fail as agent_call() does. Whatever is returned was chosen by
 * the guest: types and sizes are checked, the content is the guest's.
 */
#pragma once

#include "engine/agent.h"

/* Strings of the guest longer than this are cut. */
#define AGENT_TEXT_MAX 256
#define AGENT_INTERFACES_MAX 64
#define AGENT_ADDRESSES_MAX 64
/* The most that agent_file_read() may be asked for. */
#define AGENT_FILE_MAX (UINT64_C(16) << 20)
#define AGENT_COMMANDS_MAX 256

bool agent_ping(Agent *a, uint64_t timeout, GError **err);
/* {version, commands: [names that are enabled], disabled: [names of the others]} */
Json *agent_info(Agent *a, uint64_t timeout, GError **err);
/* {id, name, pretty-name, version, version-id, machine, kernel-release, ...}: those that the agent told. */
Json *agent_osinfo(Agent *a, uint64_t timeout, GError **err);
/* Caller frees. */
char *agent_host_name(Agent *a, uint64_t timeout, GError **err);
/*
 * [{interface, mac, address, prefix, family: "ipv4"|"ipv6"}]: no loopback and no
 * link-local ones, what is no address is left out.
 */
Json *agent_addresses(Agent *a, uint64_t timeout, GError **err);

typedef enum AgentShutdown {
	AGENT_POWERDOWN,
	AGENT_HALT,
	AGENT_REBOOT,
} AgentShutdown;

/*
 * True when the agent took the order: the guest's end is seen elsewhere.
 * Returns when the agent's port closes, or after `timeout` without a refusal;
 * a few seconds are enough.
 */
bool agent_shutdown(Agent *a, AgentShutdown how, uint64_t timeout, GError **err);

struct agent_exec {
	const char *path;        /* of the program in the guest */
	const char *const *args; /* NULL: none */
	const char *const *env;  /* NULL: the agent's */
	const void *input;       /* its stdin; NULL: none */
	size_t input_len;
	bool (*ended)(
	    void *data); /* looked at now and then: true ends the wait with ERR_CANCELLED; or NULL */
	void *data;
};

typedef struct AgentExecResult {
	int64_t pid;
	bool has_code;
	int64_t code, signal; /* exit status; or the signal (Windows: exception) that ended it, 0: none */
	GBytes *out, *errors; /* never NULL */
	bool out_truncated, errors_truncated;
} AgentExecResult;

/*
 * Run a program in the guest to its end. ERR_TIMEOUT with the detail `pid`
 * when it has not ended: it goes on. ERR_AGENT when its output exceeds what
 * can be carried (AGENT_LINE_MAX in base64 each).
 */
bool agent_exec(Agent *a, const struct agent_exec *e, uint64_t timeout, AgentExecResult *ret, GError **err);
void agent_exec_result_clear(AgentExecResult *r);

/*
 * The first `max` bytes of a file in the guest, at most AGENT_FILE_MAX.
 * *ret_whole says whether that is all of it.
 */
GBytes *agent_file_read(Agent *a, const char *path, uint64_t max, uint64_t timeout, bool *ret_whole,
			GError **err);

/*
 * The virtio devices that a driver of the guest has, as core/tools/device.h tells
 * them: Windows is asked, of Linux a few files are read. NULL without an error:
 * the agent has no way to tell.
 */
Json *agent_drivers(Agent *a, const Json *info, uint64_t timeout, GError **err);

bool agent_frozen(Agent *a, uint64_t timeout, bool *ret, GError **err);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AgentExecResult, agent_exec_result_clear)
