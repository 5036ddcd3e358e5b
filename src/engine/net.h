/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks of a host: taps on a bridge, through rtnetlink and /dev/net/tun.
 *
 * A tap is persistent, so that it stands before QEMU starts and is taken down
 * by a step of its own; QEMU gets open queues of it and needs no privilege.
 * All functions are idempotent and may be called from any thread.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* Descriptors that one tap may have. */
#define NET_QUEUES_MAX 16

/*
 * Make the tap `name`, multi-queue if `queues` > 1, with the bridge's MTU and an
 * address that the bridge does not take for its own, put it on `bridge` and bring it up. ERR_NOT_FOUND with
 * advice when there is no such bridge; ERR_INVALID when the name is an interface of another kind.
 */
bool net_tap_add(const char *name, const char *bridge, unsigned queues, GError **err);
/* An absent tap is fine. */
bool net_tap_del(const char *name, GError **err);

/* Open `queues` queues of a tap; `ret_fds` gets that many descriptors, O_CLOEXEC. */
bool net_tap_open(const char *name, unsigned queues, int *ret_fds, GError **err);
/* The same number of vhost-net descriptors; false without error when the host has no vhost-net. */
bool net_vhost_open(unsigned queues, int *ret_fds);

/* Names of the host's bridges, in no order. g_strfreev(). */
GStrv net_bridges(void);
