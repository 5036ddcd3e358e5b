/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices: which of them a vm has, and which of them its guest drives.
 *
 * Pure. Two stock sources tell what a guest drives: Linux's own list of virtio
 * devices (/sys/bus/virtio/devices/virtioN/uevent, read through the agent), and
 * Windows' drivers (the agent's guest-get-devices). QEMU could be asked for the
 * status bits that drivers set, but only with commands that it calls unstable
 * and that end it with an assertion for devices which it can't decode: a status
 * is not worth a guest.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* key, virtio's number (virtio 1.2, section 5), PCI's of a transitional device, name, what QEMU's device is
 * called */
// clang-format off
#define TOOLS_DEVICE_TABLE(X)                                           \
	X(NET,     1,  0x1000, "virtio-net",     "virtio-net-pci")      \
	X(BLOCK,   2,  0x1001, "virtio-blk",     "virtio-blk-pci")      \
	X(SERIAL,  3,  0x1003, "virtio-serial",  "virtio-serial-pci")   \
	X(RNG,     4,  0x1005, "virtio-rng",     "virtio-rng-pci")      \
	X(BALLOON, 5,  0x1002, "virtio-balloon", "virtio-balloon-pci")  \
	X(SCSI,    8,  0x1004, "virtio-scsi",    "virtio-scsi-pci")     \
	X(GPU,     16, 0,      "virtio-gpu",     "virtio-vga")          \
	X(INPUT,   18, 0,      "virtio-input",   "virtio-tablet-pci")   \
	X(MEMORY,  24, 0,      "virtio-mem",     "virtio-mem-pci")
// clang-format on

typedef enum ToolsDevice {
#define X(key, number, pci, name, qemu) TOOLS_DEVICE_##key,
	TOOLS_DEVICE_TABLE(X)
#undef X
	    _TOOLS_DEVICE_MAX,
} ToolsDevice;

#define TOOLS_DEVICE_BIT(d) (UINT32_C(1) << (d))

const char *tools_device_name(ToolsDevice d);
/* Bits of the devices that are on a command line of QEMU, as argv_to_json() wrote it. NULL: none. */
uint32_t tools_devices_offered(const Json *arguments);

/* Is there an agent's channel on it? */
bool tools_channel_offered(const Json *arguments);

/* Linux: one uevent file. {device, driver, version: null}, or NULL for what is no device of the table. New
 * reference. */
Json *tools_driver_of_uevent(const char *text, size_t len);
/* Windows: the answer of guest-get-devices. [{device, driver, version}]. New reference. */
Json *tools_drivers_of_devices(const Json *devices);

typedef enum ToolsDriven { TOOLS_DRIVEN, TOOLS_NOT_DRIVEN, TOOLS_DRIVEN_UNKNOWN } ToolsDriven;
/* Of a record's `drivers`, which may be null. */
ToolsDriven tools_is_driven(const Json *drivers, ToolsDevice d);
/* Has each device of the list a driver? False of NULL. */
bool tools_all_driven(const Json *drivers);
