/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: what the command line's `job=NAME[:ARG[:ARG...]][,NAME...]` asks for, one after the other. The table
 * in job.c lists them, docs/payload.md describes them. A job that cannot be done prints `error ...` and the
 * payload idles: a test then sees why, instead of what came after.
 */
#pragma once

#include "start.h"

/* What must be in place before the host is told that we are ready. `s` must stay. */
void jobs_prepare(const struct start *s);
/* Run the jobs of `list`, print `done`, and idle. */
_Noreturn void jobs_run(struct span list);

/* Print `error WHY` and idle. */
_Noreturn void job_fail(const char *why);
/* The next argument as a number within bounds; `fallback` when there are no more. Fails the job otherwise. */
uint64_t job_number(struct span *args, uint64_t min, uint64_t max, uint64_t fallback);
/* The next argument as a duration in nanoseconds: a number with `ms` or `s`, or bare seconds. */
uint64_t job_duration(struct span *args, uint64_t fallback);
#define JOB_REQUIRED UINT64_MAX /* as `fallback`: without the argument the job fails */

void job_burn(struct span args);
void job_dirty(struct span args);
void job_verify(struct span args);
_Noreturn void job_soak(struct span args);
void job_tick(struct span args);
void job_sleep(struct span args);
void job_write(struct span args);
