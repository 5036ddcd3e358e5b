/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the steps around QEMU need of the executor's engine, which they do not
 * know: whoever makes the Engine defines this. Borrowed for the time of the step.
 */
#pragma once

#include "engine/exec.h"
#include "engine/grant.h"

struct grant_host step_grant_host(const StepContext *ctx);
