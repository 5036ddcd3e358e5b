/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the payload guest (guest/payload) under a QEMU that is shut in,
 * as the user that QEMU runs as on this host: what the probes do, again and
 * again. Nothing of it stays behind but the file that payload_place() made,
 * which is its caller's to unlink. Blocks; for worker threads.
 */
#pragma once

#include "core/host/payload_report.h"
#include "engine/probe-impl.h"

struct payload_try {
	const char *payload; /* as payload_place() has put it */
	Accel accel;
	const char *cpu; /* the value of -cpu */
	const char *cmdline;
	uint64_t timeout;
};

typedef struct PayloadRun {
	struct payload_report *report; /* NULL when what came is no report */
	bool late;                     /* ended by us */
	char *why;  /* the last thing that QEMU said, or the bound; NULL when it ended well */
	char *said; /* all of QEMU's own words (its last 4 KiB) */
} PayloadRun;

void payload_run(const Probe *p, const struct payload_try *how, PayloadRun *ret);
void payload_run_clear(PayloadRun *r);

/* The payload of the build that runs, the installed one, or PLIMSOLL_PAYLOAD. Caller frees. */
char *payload_read(size_t *ret_len, GError **err);
/*
 * Put it into the run folder, whose way everybody may pass: QEMU's user may
 * not reach a build folder or a home. The path; caller unlinks and frees.
 */
char *payload_place(const Folders *f, const char *payload, size_t len, GError **err);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(PayloadRun, payload_run_clear)
