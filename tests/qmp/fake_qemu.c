/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process in the place of QEMU, for what a real one can't be made to do:
 *
 *     fake_qemu MODE FD UUID ...     FD is the monitor's listening socket
 *
 *     silent   never greets, ignores SIGTERM
 *     serve    answers every command with {}; "stop" hangs up, "quit" ends it,
 *              "inject-nmi" opens the agent's port, "system_reset" closes it
 *     talk     the same, after 3 MiB on stderr
 *     warn     the same, after a warning, a note and a word on stderr
 *     die      says why, and exits with 3
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char greeting[] = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

static void answer(int fd, const char *line, const char *uuid)
{
	const char *id = strstr(line, "\"id\":");
	int n = id != NULL ? atoi(id + 5) : 0;

	if (strstr(line, "query-uuid") != NULL)
		dprintf(fd, "{\"return\": {\"UUID\": \"%s\"}, \"id\": %d}\r\n", uuid, n);
	else
		dprintf(fd, "{\"return\": {}, \"id\": %d}\r\n", n);
}

static void tell_port(int fd, const char *open)
{
	dprintf(
	    fd,
	    "{\"event\": \"VSERPORT_CHANGE\", \"data\": {\"id\": \"agent0\", \"open\": %s}, \"timestamp\": "
	    "{\"seconds\": 1700000000, \"microseconds\": 5}}\r\n",
	    open);
}

static void serve(int fd, const char *uuid)
{
	FILE *f = fdopen(fd, "r");
	char line[4096];

	if (f == NULL)
		return;
	dprintf(fd, "%s", greeting);
	while (fgets(line, sizeof line, f) != NULL && strstr(line, "\"stop\"") == NULL) {
		if (strstr(line, "\"inject-nmi\"") != NULL)
			tell_port(fd, "true");
		if (strstr(line, "\"system_reset\"") != NULL)
			tell_port(fd, "false");
		answer(fd, line, uuid);
		if (strstr(line, "\"quit\"") != NULL)
			exit(0);
	}
	fclose(f);
}

static void warn(void)
{
	fprintf(stderr, "fake_qemu: warning: hub 0 is not connected to host network\n"
			"fake_qemu: info: it has one peer\nfake_qemu: a word: warning: none\n");
}

static void talk(void)
{
	for (unsigned i = 0; i < 3 * 1024 * 16; i++)
		fprintf(stderr, "%07u: a guest made me say this, over and over again ....\n", i);
}

int main(int argc, char **argv)
{
	int listener = argc >= 4 ? atoi(argv[2]) : -1, fd;

	if (listener < 0)
		return 2;
	if (strcmp(argv[1], "silent") == 0) {
		signal(SIGTERM, SIG_IGN);
		fprintf(stderr, "I say nothing to anybody\n");
		for (;;)
			pause();
	}
	if (strcmp(argv[1], "die") == 0) {
		fprintf(stderr, "first line\nI can't\tgo on: \"sda\" is missing\n");
		return 3;
	}
	if (strcmp(argv[1], "talk") == 0)
		talk();
	if (strcmp(argv[1], "warn") == 0)
		warn();
	while ((fd = accept(listener, NULL, NULL)) >= 0)
		serve(fd, argv[3]);
	return 1;
}
