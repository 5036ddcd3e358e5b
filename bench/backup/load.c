/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs in the guest of backup.py: writes blocks at random places of a file past
 * the page cache, one after the other, and says every 100 ms a line
 *
 *     UPTIME_MS WRITES LONGEST_US
 *
 * of the time since the line before: what a write that stands still costs is
 * in the line of the moment in which it came back.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK ((size_t)64 << 10)
#define TURN UINT64_C(100000)

static uint64_t uptime(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* A multiplicative generator: the places need not be good, only spread and the same in each run. */
static uint32_t next(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static int write_for_ever(int fd, char *block, uint32_t blocks)
{
	uint64_t writes = 0, longest = 0, last = uptime();
	uint32_t state = 42;

	for (;;) {
		uint64_t before = uptime(), after;

		memcpy(block, &before, sizeof before);
		if (pwrite(fd, block, BLOCK, (off_t)(next(&state) % blocks) * (off_t)BLOCK) !=
		    (ssize_t)BLOCK) {
			perror("write");
			return 1;
		}
		after = uptime();
		writes++;
		longest = after - before > longest ? after - before : longest;
		if (after - last < TURN)
			continue;
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", after / 1000, writes, longest);
		fflush(stdout);
		writes = longest = 0;
		last = after;
	}
}

int main(int argc, char **argv)
{
	unsigned long mib = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	void *block;
	int fd;

	if (mib < 1 || mib > 65536) {
		fprintf(stderr, "load FILE MIB\n");
		return 2;
	}
	fd = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || posix_memalign(&block, BLOCK, BLOCK) != 0) {
		perror(argv[1]);
		return 1;
	}
	memset(block, 0x5a, BLOCK);
	return write_for_ever(fd, block, (uint32_t)(mib << 4));
}
