/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors in a QEMU command line. Pure.
 *
 * Who builds a command line (core/guest) cannot know descriptor numbers. It
 * writes `@fd:NAME@` where QEMU wants one, and the launcher puts the number in:
 *
 *     -chardev socket,id=qmp,fd=@fd:qmp@,server=on,wait=off
 *     -netdev tap,id=net0,fds=@fd:net0-0@:@fd:net0-1@
 *
 * NAME is [a-z0-9-]+. A name that the caller of vmm_launch() brings no
 * descriptor for is a unix socket: NAME.sock in the vm's run folder, made and
 * listening before QEMU begins.
 */
#pragma once

#include "base/err.h"

/* The names used, each once, in order. NULL and ERR_INVALID for what is no placeholder but begins like one.
 */
GPtrArray *vmm_argv_names(const char *const *argv, GError **err);

/* The number of the name, as `data` knows it. */
typedef int (*VmmArgvFunc)(const char *name, void *data);
/* The command line with numbers. g_strfreev(). `argv` passed vmm_argv_names(). */
char **vmm_argv_expand(const char *const *argv, VmmArgvFunc func, void *data);
