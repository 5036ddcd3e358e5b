/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu_pid.h"
#include "base/fd.h"
#include "base/str.h"

#include <string.h>

#define PID_TEXT_MAX 64
#define ARGUMENTS_MAX (1 << 20)

bool qemu_pid_read(const char *dir, pid_t *ret, GError **err)
{
	g_autofree char *path = g_strdup_printf("%s/qemu.pid", dir), *text = NULL;
	g_autoptr(GError) e = NULL;
	uint64_t pid;

	text = file_read(path, PID_TEXT_MAX, NULL, &e);
	if (text == NULL && err_code(e) != ERR_NOT_FOUND)
		g_propagate_error(err, g_steal_pointer(&e));
	/* Empty when the daemon died before the process was made. */
	if (text == NULL || !parse_uint(g_strchomp(text), 1, G_MAXINT, &pid, NULL))
		return false;
	*ret = (pid_t)pid;
	return true;
}

bool qemu_pid_is(pid_t pid, const char *uuid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	size_t len = 0;
	g_autofree char *words = file_read_virtual(path, ARGUMENTS_MAX, &len, NULL);

	for (size_t at = 0; words != NULL && at < len; at += strlen(words + at) + 1)
		if (g_str_equal(words + at, uuid))
			return true;
	return false;
}

pid_t qemu_pid_of(const char *run, const char *vm_id)
{
	g_autofree char *dir = g_build_filename(run, "vms", vm_id, NULL);
	pid_t pid;

	return qemu_pid_read(dir, &pid, NULL) && qemu_pid_is(pid, vm_id) ? pid : 0;
}
