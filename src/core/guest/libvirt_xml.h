/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The libvirt domain that is the same guest: `vm export --format libvirt-xml`.
 * Pure.
 *
 * The same profile as in argv.h, in libvirt's words: same devices at the same
 * addresses, same clock and enlightenments. What libvirt has no word for is
 * left out: its q35 always has a SATA controller and a TCO watchdog, and
 * sockets of monitors are its own.
 */
#pragma once

#include "core/guest/profile.h"

/* `disk_path` as for argv_of(). Caller frees. */
char *libvirt_xml_of(const Profile *p, const Vm *vm, const HostFacts *host, const char *const *disk_path);
