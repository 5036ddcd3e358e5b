/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/guest_online.h"
#include "engine/agent_ops.h"

#define FILE_OF_KERNEL "/sys/devices/system/memory/auto_online_blocks"
#define FILE_MAX 64
#define TIMEOUT (UINT64_C(5) * 1000000)
/*
 * Not online_movable: the kernel may keep nothing of its own there, and one that began small and is full of
 * its programs' memory runs out of its own, and panics with more than 100 MiB available (docs/memory.md).
 */
#define WANTED "echo online >" FILE_OF_KERNEL

bool guest_online(Agent *a, MemoryOnline *ret, GError **err)
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
	*ret = memory_online_of(text, len);
	if (*ret != MEMORY_ONLINE_OFFLINE)
		return true;
	if (!agent_exec(a, &order, TIMEOUT, &done, err))
		return false;
	if (!done.has_code || done.code != 0)
		return fail(err, ERR_AGENT, "the guest may not change " FILE_OF_KERNEL);
	*ret = MEMORY_ONLINE_ANY;
	return true;
}
