/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where devices sit on a guest's PCI bus. Pure.
 *
 * The same table for q35 and pc, so that it can be learnt once. A device's
 * place follows from what it is and from its slot in the vm's configuration,
 * never from what else the vm has: Windows wants a driver, Linux may rename
 * eth0, when something moves. Numbers are never given to something else.
 *
 *   bus 0   0x00        host bridge (QEMU)
 *           0x01        PIIX3 with IDE and power management on pc (QEMU); free on q35
 *           0x02        video
 *           0x03        virtio-serial: console, agent
 *           0x04        balloon
 *           0x05        random numbers
 *           0x06        virtio-scsi
 *           0x07        SATA: CD drives, SATA disks
 *           0x08        USB (xHCI)
 *           0x09        bridge to bus 1
 *           0x0a        pointer (virtio tablet)
 *           0x0b        more memory (virtio-mem)
 *           0x0c        port on q35 behind which a CD drive's controller is plugged
 *           0x0d-0x14   nics 0 to 7
 *           0x15-0x1d   virtio disks 0 to 8
 *           0x1e        cloud-init's seed
 *           0x1f        ICH9 on q35 (QEMU); free on pc
 *   bus 1   0x01-0x0f   virtio disks 9 to 23; the bridge is there when one of them is
 *
 * Guests name virtio disks in the order of addresses, bus 0 first: the seed
 * stands behind the disks so that the first disk is /dev/vda with and without it.
 *
 *   SCSI    target = slot, LUN 0; target 24 is a CD drive that was plugged in
 *   SATA    port = slot, 0 to 3; port 4 is the seed's CD, port 5 the user's
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	ADDRESS_VIDEO = 0x02,
	ADDRESS_VIRTIO_SERIAL = 0x03,
	ADDRESS_BALLOON = 0x04,
	ADDRESS_RNG = 0x05,
	ADDRESS_SCSI = 0x06,
	ADDRESS_SATA = 0x07,
	ADDRESS_USB = 0x08,
	ADDRESS_BRIDGE = 0x09,
	ADDRESS_POINTER = 0x0a,
	ADDRESS_VIRTIO_MEM = 0x0b,
	ADDRESS_CD_PORT = 0x0c,
	ADDRESS_NIC_FIRST = 0x0d,
	ADDRESS_DISK_FIRST = 0x15,
	ADDRESS_DISK_LAST = 0x1d,
	ADDRESS_SEED = 0x1e,
};

#define SATA_DISKS_MAX 4
#define SATA_PORT_SEED 4
#define SATA_PORT_CDROM 5
#define SCSI_TARGET_CDROM 24

struct pci_address {
	unsigned bus; /* 0, or 1 behind the bridge */
	unsigned slot;
};

struct pci_address address_of_nic(unsigned slot);
struct pci_address address_of_disk(unsigned slot);
