/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first virtio disk, through the registers of virtio 0.9.5 (Virtual I/O
 * Device 1.1, section 4.1.4.8 and 2.6), which a transitional device has: on
 * `pc` with its PCI slots, not behind the PCI Express ports of `q35`. Polled.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DISK_SECTOR 512

/* False without such a disk. Once. */
bool disk_open(void);
/* False when the device says no. `sector` must stay where it is, below 4 GiB, as all of the payload does. */
bool disk_write(uint64_t at, const uint8_t sector[DISK_SECTOR]);
