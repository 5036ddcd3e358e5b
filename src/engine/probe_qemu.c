/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One conversation with a QEMU without a machine. All commands are sent at
 * once, `quit` as the last: QEMU ends by itself even if we die meanwhile.
 */
#include "base/fd.h"
#include "base/time.h"
#include "engine/probe-impl.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

/* Half a second; on a host that is emulated and busy ten and more. */
#define TIMEOUT UINT64_C(60000000)
#define FILES_MAX 256
/* All that it says; 7.2 prints 20 KiB. */
#define ANSWER_MAX (4u << 20)

#define HELLO "{\"execute\": \"qmp_capabilities\"}\n"
#define GOODBYE "{\"execute\": \"quit\"}\n"

static const char ask_machines[] = "{\"execute\": \"query-machines\", \"id\": \"machines\"}\n";

/* What came until the end of the stream, or what went wrong. */
static bool listen_to_end(int fd, GString *text, GError **err)
{
	uint64_t end = time_monotonic() + TIMEOUT, now;

	while ((now = time_monotonic()) < end) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char buf[8192];
		ssize_t n;

		if (poll(&p, 1, (int)((end - now) / 1000) + 1) <= 0)
			continue;
		n = read(fd, buf, sizeof buf);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return true;
		if (n < 0 && errno != EINTR)
			return fail_errno(err, errno, "can't hear QEMU");
		if (n > 0)
			g_string_append_len(text, buf, n);
		if (text->len > ANSWER_MAX)
			return fail(err, ERR_QEMU, "QEMU says more than can be true");
	}
	return fail(err, ERR_QEMU, "QEMU did not answer in %u s", (unsigned)(TIMEOUT / 1000000));
}

/* It was asked to quit, or is not wanted any more. */
static void end_process(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	struct process_end end;

	if (poll(&p, 1, 1000) != 1)
		pidfd_signal(pidfd, SIGKILL);
	while (!process_ended(pidfd, &end))
		poll(&p, 1, -1);
}

/* Takes `theirs`. */
static bool converse(const Probe *p, const char *machine, const char *commands, int ours, int theirs,
		     GString *text, GError **err)
{
	_cleanup_close_ int end = theirs;
	g_autofree char *chardev = g_strdup_printf("socket,id=qmp,fd=%d", theirs);
	const char *const argv[] = {
		p->facts->qemu, "-M",       machine, "-nodefaults", "-no-user-config",          "-display",
		"none",         "-chardev", chardev, "-mon",        "chardev=qmp,mode=control", NULL
	};
	_cleanup_close_ int null = open("/dev/null", O_WRONLY | O_CLOEXEC), pidfd = -EBADF;
	struct spawn s = { .argv = argv,
			   .keep = &theirs,
			   .n_keep = 1,
			   .output = null,
			   .user = p->user,
			   .max_files = FILES_MAX,
			   .ends_with_us = true };
	int r = fd_write_all(ours, commands, strlen(commands));
	pid_t pid;
	bool ok;

	if (r < 0)
		return fail_errno(err, -r, "can't talk to QEMU");
	if (!spawn_process(&s, &pid, &pidfd, err))
		return false;
	close(fd_take(&end)); /* so that QEMU's end is the end of the stream */
	ok = listen_to_end(ours, text, err);
	if (!ok)
		pidfd_signal(pidfd, SIGKILL);
	end_process(pidfd);
	return ok;
}

static void take_version(HostFacts *h, const Json *greeting)
{
	const Json *v = json_obj(json_obj(greeting, "version"), "qemu");

	if (v != NULL)
		h->qemu_version = g_strdup_printf("%d.%d.%d", (int)json_int(v, "major", 0),
						  (int)json_int(v, "minor", 0), (int)json_int(v, "micro", 0));
}

static void take_machines(HostFacts *h, const Json *list)
{
	const Json *m;
	size_t i;

	json_array_foreach(list, i, m) if (json_str(m, "name") != NULL)
	    host_facts_add_machine(h, json_str(m, "name"), json_str(m, "alias"));
}

static bool take_answers(HostFacts *h, const char *text, GError **err)
{
	g_auto(GStrv) line = g_strsplit(text, "\n", -1);

	for (size_t i = 0; line[i] != NULL; i++) {
		size_t len = strlen(line[i]);
		_cleanup_json_ Json *j = len > 0 ? json_parse_wide(line[i], len, NULL) : NULL;

		if (json_obj(j, "QMP") != NULL)
			take_version(h, json_obj(j, "QMP"));
		else if (g_strcmp0(json_str(j, "id"), "machines") == 0)
			take_machines(h, json_arr(j, "return"));
	}
	if (h->qemu_version == NULL || h->machine->len == 0)
		return fail(err, ERR_QEMU, "'%s' did not say what machines it has", h->qemu);
	return true;
}

bool probe_ask(const Probe *p, const char *machine, const char *question, GString *ret_text, GError **err)
{
	g_autofree char *commands = g_strconcat(HELLO, question, GOODBYE, NULL);
	_cleanup_close_ int ours = -EBADF;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return fail_errno(err, errno, "can't make a pair of sockets");
	ours = pair[0];
	return converse(p, machine, commands, ours, pair[1], ret_text, err) ||
	       err_advise(err, "Run `%s -M none -version`: it must work as the user that QEMU runs as.",
			  p->facts->qemu);
}

bool probe_qemu(Probe *p, GError **err)
{
	g_autoptr(GString) text = g_string_new(NULL);

	return probe_ask(p, "none", ask_machines, text, err) && take_answers(p->facts, text->str, err);
}
