/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon that begins anew (execve() of itself) keeps its listening sockets,
 * so that a client which connects meanwhile waits for a moment instead of
 * being refused. They go over as systemd hands sockets to a service:
 * sd_listen_fds_with_names(3).
 */
#pragma once

#include "api/api.h"

/* What the process before this one left; none is -EBADF. Call it once, before anything opens a file. */
struct api_sockets handover_take(void);
/* Right before execve(): puts the sockets where handover_take() finds them. Takes them. */
void handover_give(const struct api_sockets *sockets);
