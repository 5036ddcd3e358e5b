/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/guest_online.h"
#include "engine/agent_ops.h"

#include <string.h>

#define FILE_OF_KERNEL "/sys/devices/system/memory/auto_online_blocks"
#define FILE_MAX 64
#define TIMEOUT (UINT64_C(5) * 1000000)
#define LEFT_TO_OTHERS "offline"
/*
 * Not online_movable: the kernel may keep nothing of its own there, and one that began small and is full of
 * its programs' memory runs out of its own, and panics with more than 100 MiB available (docs/memory.md).
 */
#define WANTED "echo online >" FILE_OF_KERNEL

bool guest_online(Agent *a, GError **err)
{
	static const char *const args[] = { "-c", WANTED, NULL };
	const struct agent_exec order = { .path = "/bin/sh", .args = args };
	g_auto(AgentExecResult) done = { 0 };
	bool whole;
	g_autoptr(GBytes) now = agent_file_read(a, FILE_OF_KERNEL, FILE_MAX, TIMEOUT, &whole, err);
	gsize len;
	const char *text;

	if (now == NULL)
		return false;
	text = g_bytes_get_data(now, &len);
	if (len < strlen(LEFT_TO_OTHERS) || strncmp(text, LEFT_TO_OTHERS, strlen(LEFT_TO_OTHERS)) != 0)
		return true;
	if (!agent_exec(a, &order, TIMEOUT, &done, err))
		return false;
	return (done.has_code && done.code == 0) ||
	       fail(err, ERR_AGENT, "the guest may not change " FILE_OF_KERNEL);
}
