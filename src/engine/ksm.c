/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/ksm.h"

#include "base/fd.h"
#include "base/str.h"

#include <fcntl.h>
#include <string.h>

#define FILE_MAX 64
/* What `run` says: stop; scan; stop and part what was merged. */
#define RUN_SCAN 1
#define RUN_PART 2

KsmMode ksm_mode_of(const Json *host_settings)
{
	const char *text = json_str(host_settings, "ksm");

	if (g_strcmp0(text, "on") == 0)
		return KSM_ON;
	return g_strcmp0(text, "off") == 0 ? KSM_OFF : KSM_AUTO;
}

static bool read_number(const char *dir, const char *name, uint64_t *ret)
{
	g_autofree char *path = g_build_filename(dir, name, NULL),
			*text = file_read_virtual(path, FILE_MAX, NULL, NULL);

	return text != NULL && parse_uint(g_strstrip(text), 0, UINT64_MAX, ret, NULL);
}

static uint64_t pages(const char *dir, const char *name)
{
	uint64_t n = 0;

	if (!read_number(dir, name, &n) || n > UINT64_MAX / (uint64_t)getpagesize())
		return 0;
	return n * (uint64_t)getpagesize();
}

static bool has_ksm(const char *dir, GError **err)
{
	uint64_t run;

	if (read_number(dir, "run", &run))
		return true;
	return fail_advice(err, ERR_UNSUPPORTED,
			   "Boot a kernel that has KSM (CONFIG_KSM), or leave the host at ksm=auto.",
			   "this host's kernel can't merge equal pages: there is no %s/run", dir);
}

/* Parting needs the memory that merging saved: without it the kernel would kill guests. */
static bool has_room(const char *dir, uint64_t available, GError **err)
{
	uint64_t need = pages(dir, "pages_sharing");
	g_autofree char *need_text = print_size(need), *free_text = print_size(available);

	if (need <= available)
		return true;
	fail_advice(err, ERR_NO_SPACE, "Stop guests or move them away first, then try again.",
		    "parting the merged pages needs %s, and the host has %s available", need_text, free_text);
	err_detail(err, "needed", json_integer((json_int_t)need));
	return err_detail(err, "available", json_integer((json_int_t)available));
}

static bool write_run(const char *dir, int value, GError **err)
{
	g_autofree char *path = g_build_filename(dir, "run", NULL), *text = g_strdup_printf("%d\n", value);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd >= 0 ? fd_write_all(fd, text, strlen(text)) : -errno;

	if (r == -EACCES || r == -EPERM || r == -EROFS)
		return fail_advice(err, ERR_UNSUPPORTED,
				   "Run the daemon as root and where /sys can be written.",
				   "can't write '%s': %s", path, g_strerror(-r));
	return r == 0 || fail_errno(err, -r, "can't write '%s'", path);
}

bool ksm_apply(const char *dir, KsmMode mode, uint64_t available, GError **err)
{
	uint64_t run;

	if (mode == KSM_AUTO)
		return true;
	if (!has_ksm(dir, err))
		return false;
	if (mode == KSM_ON)
		return write_run(dir, RUN_SCAN, err);
	/* Nothing to part, nothing to stop: no write, so that a kernel without the right is no obstacle. */
	if (read_number(dir, "run", &run) && run != RUN_SCAN && pages(dir, "pages_sharing") == 0)
		return true;
	return has_room(dir, available, err) && write_run(dir, RUN_PART, err);
}

Json *ksm_status(const char *dir)
{
	uint64_t run, scans = 0;
	Json *j;

	if (!read_number(dir, "run", &run))
		return json_null();
	read_number(dir, "full_scans", &scans);
	j = json_object();
	json_put_bool(j, "running", run == RUN_SCAN);
	json_put_uint(j, "shared", pages(dir, "pages_shared"));
	/* Of each group of equal pages one stays; this counts the others. */
	json_put_uint(j, "saved", pages(dir, "pages_sharing"));
	json_put_uint(j, "scans", scans);
	return j;
}
