/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/payload_run.h"
#include "base/fd.h"
#include "engine/image/limited.h"

#include <string.h>

#define PAYLOAD_MAX (16u << 20)

void payload_run_clear(PayloadRun *r)
{
	g_free(r->report);
	g_free(r->why);
	g_free(r->said);
	*r = (PayloadRun){ 0 };
}

/* A program that runs from its build folder takes the payload from there. */
static char *payload_path(void)
{
	const char *told = g_getenv("PLIMSOLL_PAYLOAD");
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);

	if (told != NULL)
		return g_strdup(told);
	if (self != NULL && g_str_has_prefix(self, BUILD_ROOT "/"))
		return g_strdup(BUILD_ROOT "/guest/payload/payload.elf");
	return g_strdup(PAYLOAD_INSTALLED);
}

char *payload_read(size_t *ret_len, GError **err)
{
	g_autofree char *path = payload_path();

	return file_read(path, PAYLOAD_MAX, ret_len, err);
}

char *payload_place(const Folders *f, const char *payload, size_t len, GError **err)
{
	static gint count;
	g_autofree char *path =
	    g_strdup_printf("%s/.probe-%d-%d.elf", f->run, (int)getpid(), g_atomic_int_add(&count, 1));

	return file_write_atomic(path, payload, len, 0644, err) ? g_steal_pointer(&path) : NULL;
}

static char *last_line(const char *text)
{
	g_autofree char *copy = g_strchomp(g_strdup(text));
	const char *nl = strrchr(copy, '\n');

	return g_utf8_make_valid(nl != NULL ? nl + 1 : copy, -1);
}

static void judge_end(PayloadRun *t, const struct limited_result *r, const GError *e, uint64_t timeout)
{
	g_autofree char *said = last_line(r->err);

	if (e == NULL && r->status == 0)
		return;
	t->late = e != NULL && err_code(e) == ERR_TIMEOUT;
	if (t->late)
		t->why = g_strdup_printf("it was ended after %.1f s", (double)timeout / 1e6);
	else if (said[0] != '\0')
		t->why = g_steal_pointer(&said);
	else if (e != NULL)
		t->why = g_strdup(e->message);
	else
		t->why = g_strdup_printf("QEMU ended with status %d", r->status);
}

static void take_result(PayloadRun *t, const struct limited_result *r, const GError *e, uint64_t timeout)
{
	g_autofree struct payload_report *report = g_new0(struct payload_report, 1);

	if (payload_report_parse(r->out, strlen(r->out), report, NULL))
		t->report = g_steal_pointer(&report);
	t->said = g_strdup(r->err);
	judge_end(t, r, e, timeout);
}

/* QEMU runs with one group here: the one that opens /dev/kvm when it has it. */
static void set_user(struct limited *l, const SpawnUser *u)
{
	l->uid = u != NULL ? u->uid : LIMITED_KEEP_USER;
	l->gid = u != NULL ? (u->n_group > 0 ? u->group[0] : u->gid) : 0;
}

void payload_run(const Probe *p, const struct payload_try *how, PayloadRun *ret)
{
	const char *qemu = p->facts->qemu;
	g_autofree char *machine = g_strdup_printf("q35,accel=%s,usb=off", accel_name(how->accel)),
			*bin = g_path_get_dirname(qemu), *prefix = g_path_get_dirname(bin),
			*share = g_build_filename(prefix, "share", NULL);
	const char *const argv[] = { qemu,
				     "-M",
				     machine,
				     "-cpu",
				     how->cpu,
				     "-m",
				     "64",
				     "-nodefaults",
				     "-display",
				     "none",
				     "-no-user-config",
				     "-no-reboot",
				     "-kernel",
				     how->payload,
				     "-append",
				     how->cmdline,
				     "-chardev",
				     "stdio,id=out,signal=off",
				     "-device",
				     "isa-debugcon,chardev=out",
				     NULL };
	const char *const readable[] = { how->payload, share, NULL }, *const writable[] = { "/dev/kvm",
											    NULL };
	struct limited l = { .argv = argv,
			     .readable = readable,
			     .writable = how->accel == ACCEL_KVM ? writable : NULL,
			     .deadline = how->timeout,
			     .output_max = PAYLOAD_TEXT_MAX };
	_cleanup_limited_ struct limited_result r = { 0 };
	g_autoptr(GError) e = NULL;

	set_user(&l, p->user);
	(void)limited_run(&l, &r, &e);
	take_result(ret, &r, e, how->timeout);
}
