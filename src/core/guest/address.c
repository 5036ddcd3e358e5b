/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/address.h"

struct pci_address address_of_nic(unsigned slot)
{
	return (struct pci_address){ .bus = 0, .slot = ADDRESS_NIC_FIRST + slot };
}

struct pci_address address_of_disk(unsigned slot)
{
	const unsigned on_bus_0 = ADDRESS_DISK_LAST - ADDRESS_DISK_FIRST + 1;

	if (slot < on_bus_0)
		return (struct pci_address){ .bus = 0, .slot = ADDRESS_DISK_FIRST + slot };
	return (struct pci_address){ .bus = 1, .slot = 1 + slot - on_bus_0 };
}
