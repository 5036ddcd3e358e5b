/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of plans as they are done on a real host: thin bodies around the
 * modules that do the work. `engine` of the executor must be the Engine.
 */
#pragma once

#include "engine/exec.h"

extern const struct step_impl qemu_steps[_STEP_MAX];
