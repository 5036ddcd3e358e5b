/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"
#include "disk.h"
#include "job.h"
#include "str.h"
#include "x86.h"

#define WRITE_HZ_MAX 1000
#define DIGITS 16

static uint8_t sector[DISK_SECTOR];

static size_t put_hex(size_t at, uint64_t v)
{
	for (unsigned i = 0; i < DIGITS; i++)
		sector[at++] = (uint8_t) "0123456789abcdef"[v >> (60 - 4 * i) & 0xf];
	return at;
}

/* write:HZ: who writes, and for which time, into the first sector of the first disk. */
void job_write(struct span args)
{
	uint64_t hz = job_number(&args, 1, WRITE_HZ_MAX, JOB_REQUIRED), writer = rdtsc();
	size_t at;

	if (!disk_open())
		job_fail("no transitional virtio disk");
	if (!clock_ticks_start(hz))
		job_fail("no local APIC");
	for (uint64_t n = 1;; n++) {
		clock_tick_wait();
		memcpy(sector, "writer ", 7);
		at = put_hex(7, writer);
		sector[at++] = ' ';
		sector[put_hex(at, n)] = '\n';
		if (!disk_write(0, sector))
			job_fail("a write failed");
	}
}
