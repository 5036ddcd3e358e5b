/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/vm_ops.h"
#include "base/fd.h"
#include "core/guest/pin.h"
#include "engine/backup/copy.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

static bool order(Vmm *v, const char *command, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), command, NULL, 0, err);

	return reply != NULL;
}

bool vm_pause(Vmm *v, GError **err)
{
	return order(v, "stop", err);
}

bool vm_resume(Vmm *v, GError **err)
{
	return order(v, "cont", err);
}

bool vm_reset(Vmm *v, GError **err)
{
	return order(v, "system_reset", err);
}

bool vm_powerdown(Vmm *v, GError **err)
{
	return order(v, "system_powerdown", err);
}

bool vm_nmi(Vmm *v, GError **err)
{
	return order(v, "inject-nmi", err);
}

char *vm_status(Vmm *v, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), "query-status", NULL, 0, err);

	return g_strdup(json_str(reply, "status"));
}

Json *vm_blocks(Vmm *v, GError **err)
{
	return qmp_call(vmm_qmp(v), "query-block", NULL, 0, err);
}

/* What the guest sees of the drive with that node; 0 when there is none. */
static uint64_t size_of_node(const Json *blocks, const char *node)
{
	const Json *b;
	size_t i;

	json_array_foreach(blocks, i, b)
	{
		const Json *inserted = json_obj(b, "inserted");

		if (g_strcmp0(json_str(inserted, "node-name"), node) == 0)
			return json_uint(json_obj(inserted, "image"), "virtual-size", 0);
	}
	return 0;
}

bool vm_disk_grow(Vmm *v, const char *disk, uint64_t size, GError **err)
{
	g_autofree char *node = g_strdup_printf("disk-%s", disk);
	_cleanup_json_ Json *blocks = vm_blocks(v, err), *args = json_object(), *reply = NULL;

	if (blocks == NULL)
		return false;
	if (size_of_node(blocks, node) >= size)
		return true;
	backup_bitmaps_remove_broken(v, blocks, disk);
	json_put_str(args, "node-name", node);
	json_put_uint(args, "size", size);
	reply = qmp_call(vmm_qmp(v), "block_resize", json_ref(args), 0, err);
	return reply != NULL;
}

/*
 * The CPU. Where its object is: the first thing that a machine makes, and
 * asking for the path would cost another turn.
 */
#define FIRST_CPU "/machine/unattached/device[0]"

/* {property: value}; NULL with the first refusal. */
static Json *collect_answers(struct qmp_ask *ask, char *const *property, size_t n, GError **err)
{
	_cleanup_json_ Json *answers = json_object();

	for (size_t i = 0; i < n; i++) {
		if (ask[i].reply == NULL) {
			g_propagate_error(err, g_steal_pointer(&ask[i].error));
			return NULL;
		}
		json_put(answers, property[i], json_incref(ask[i].reply));
	}
	return json_incref(answers);
}

bool vm_cpu_check(Vmm *v, const struct featureset *pin, bool again, GError **err)
{
	g_auto(GStrv) property = pin_questions(pin, again);
	size_t n = g_strv_length(property);
	g_autofree struct qmp_ask *ask = g_new0(struct qmp_ask, n);
	_cleanup_json_ Json *answers = NULL;

	for (size_t i = 0; i < n; i++) {
		ask[i].command = "qom-get";
		ask[i].args = json_object();
		json_put_str(ask[i].args, "path", FIRST_CPU);
		json_put_str(ask[i].args, "property", property[i]);
	}
	qmp_call_all(vmm_qmp(v), ask, n, 0);
	answers = collect_answers(ask, property, n, err);
	for (size_t i = 0; i < n; i++)
		qmp_ask_clear(&ask[i]);
	return answers != NULL && pin_check_answers(pin, answers, again, err);
}

/*
 * Screenshots. QEMU may write no file of ours, and no file of its own is
 * wanted: it gets a descriptor of a piece of memory.
 */

/* The number of the set that the descriptor is in now; -1 on failure. */
static int64_t give_fd(Vmm *v, int fd, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call_fd(vmm_qmp(v), "add-fd", NULL, fd, 0, err);

	return json_int(reply, "fdset-id", -1);
}

static void take_fd_back(Vmm *v, int64_t set)
{
	_cleanup_json_ Json *args = json_object(), *reply = NULL;

	json_put_int(args, "fdset-id", set);
	reply = qmp_call(vmm_qmp(v), "remove-fd", json_ref(args), 0, NULL);
}

static bool fail_no_display(Vmm *v, GError **err)
{
	return fail_advice(
	    err, ERR_UNSUPPORTED,
	    "Give it one with `plim vm set NAME platform.video=std` and start it anew, or use its "
	    "console.",
	    "vm '%s' has no display", vmm_name(v));
}

static bool dump_screen(Vmm *v, int64_t set, GError **err)
{
	g_autofree char *name = g_strdup_printf("/dev/fdset/%" G_GINT64_FORMAT, set);
	_cleanup_json_ Json *reply = NULL;
	g_autoptr(GError) e = NULL;
	Json *args = json_object();

	json_put_str(args, "filename", name);
	json_put_str(args, "format", "png");
	reply = qmp_call(vmm_qmp(v), "screendump", args, 0, &e);
	if (reply != NULL)
		return true;
	/* QEMU has no class of its own for "There is no console to take a screendump from". */
	if (strstr(e->message, "no console") != NULL)
		return fail_no_display(v, err);
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* A QEMU without one would take a viewer and say nothing to him for ever. */
static bool has_display(Vmm *v, GError **err)
{
	_cleanup_json_ Json *servers = qmp_call(vmm_qmp(v), "query-vnc-servers", NULL, 0, err);

	return servers != NULL &&
	       (json_array_size(servers) > 0 ||
		fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Run `plim vm set NAME platform.vnc=true`, with platform.video=std if it has no display, "
		    "and start it anew.",
		    "vm '%s' shows its screen to nobody", vmm_name(v)));
}

int vm_display_open(Vmm *v, GError **err)
{
	_cleanup_close_ int ours = -EBADF, qemus = -EBADF;
	_cleanup_json_ Json *given = NULL, *taken = NULL;
	g_autofree char *name = NULL;
	int pair[2];

	if (!has_display(v, err))
		return -EBADF;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return fail_errno(err, errno, "can't make a connection to the display"), -EBADF;
	ours = pair[0];
	qemus = pair[1];
	/* Of its own: one that comes at the same time must not take its place. */
	name = g_strdup_printf("viewer-%d", ours);
	given = qmp_call_fd(vmm_qmp(v), "getfd", json_pack("{s:s}", "fdname", name), qemus, 0, err);
	if (given == NULL)
		return -EBADF;
	taken =
	    qmp_call(vmm_qmp(v), "add_client",
		     json_pack("{s:s, s:s, s:b}", "protocol", "vnc", "fdname", name, "skipauth", 1), 0, err);
	if (taken != NULL)
		return fd_take(&ours);
	json_unref(qmp_call(vmm_qmp(v), "closefd", json_pack("{s:s}", "fdname", name), 0, NULL));
	return -EBADF;
}

static GBytes *read_picture(int fd, GError **err)
{
	static const char signature[] = "\x89PNG\r\n\x1a\n";
	g_autofree char *bytes = NULL;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size > VM_SCREENSHOT_MAX) {
		fail(err, ERR_QEMU, "QEMU made a picture that is too large");
		return NULL;
	}
	bytes = g_malloc((gsize)st.st_size + 1);
	n = pread(fd, bytes, (size_t)st.st_size, 0);
	if (n < (ssize_t)strlen(signature) || memcmp(bytes, signature, strlen(signature)) != 0) {
		fail(err, ERR_QEMU, "QEMU made a picture that is no PNG");
		return NULL;
	}
	return g_bytes_new_take(g_steal_pointer(&bytes), (gsize)n);
}

GBytes *vm_screenshot(Vmm *v, GError **err)
{
	_cleanup_close_ int fd = memfd_create("screenshot", MFD_CLOEXEC), writable = -EBADF;
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
	int64_t set;
	bool ok;

	/* QEMU looks for one with exactly the access that it wants: writing only. */
	writable = fd >= 0 ? open(path, O_WRONLY | O_CLOEXEC) : -EBADF;
	if (writable < 0) {
		fail_errno(err, errno, "can't make room for a screenshot");
		return NULL;
	}
	set = give_fd(v, writable, err);
	if (set < 0)
		return NULL;
	ok = dump_screen(v, set, err);
	take_fd_back(v, set);
	return ok ? read_picture(fd, err) : NULL;
}

char *vm_registers(Vmm *v, GError **err)
{
	_cleanup_json_ Json *reply = NULL;
	Json *args = json_object();

	json_put_str(args, "command-line", "info registers -a");
	reply = qmp_call(vmm_qmp(v), "human-monitor-command", args, 0, err);
	return reply != NULL ? g_strdup(json_string_value(reply)) : NULL;
}

bool vm_disk_requests(Vmm *v, uint64_t *ret, GError **err)
{
	static const char *const counts[] = { "rd_operations", "wr_operations", "flush_operations",
					      "unmap_operations" };
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), "query-blockstats", NULL, 0, err);
	const Json *disk;
	uint64_t sum = 0;
	size_t i;

	if (reply == NULL)
		return false;
	json_array_foreach(reply, i, disk)
	{
		for (size_t c = 0; c < G_N_ELEMENTS(counts); c++)
			sum += json_uint(json_obj(disk, "stats"), counts[c], 0);
	}
	*ret = sum;
	return true;
}

#define DUMP_FD "dump"

bool vm_dump_begin(Vmm *v, int fd, const char *format, GError **err)
{
	_cleanup_json_ Json *given =
	    qmp_call_fd(vmm_qmp(v), "getfd", json_pack("{s:s}", "fdname", DUMP_FD), fd, 0, err);
	_cleanup_json_ Json *begun = NULL;

	if (given == NULL)
		return false;
	begun = qmp_call(vmm_qmp(v), "dump-guest-memory",
			 json_pack("{s:b, s:s, s:b, s:s}", "paging", 0, "protocol", "fd:" DUMP_FD, "detach",
				   1, "format", format),
			 0, err);
	if (begun == NULL)
		json_unref(qmp_call(vmm_qmp(v), "closefd", json_pack("{s:s}", "fdname", DUMP_FD), 0, NULL));
	return begun != NULL;
}
