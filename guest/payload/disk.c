/* SPDX-License-Identifier: Apache-2.0 */
#include "disk.h"
#include "str.h"
#include "x86.h"

#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define PCI_ENABLE 0x80000000u
#define PCI_FUNCTIONS 0x10000u /* buses, slots and functions: 16 bits of the address */
#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO_MASTER 0x5u
#define PCI_BAR0 0x10
#define VIRTIO_BLK 0x10011af4u /* device and vendor, transitional */

#define REG_GUEST_FEATURES 0x04
#define REG_QUEUE_PFN 0x08
#define REG_QUEUE_SIZE 0x0c
#define REG_QUEUE_SELECT 0x0e
#define REG_QUEUE_NOTIFY 0x10
#define REG_STATUS 0x12
#define STATUS_READY 0x7 /* acknowledged, has a driver, driver ok */

#define QUEUE_MAX 256
#define PAGE 4096u
#define DESC_NEXT 1
#define DESC_DEVICE_WRITES 2
#define AVAIL_NO_INTERRUPT 1
#define BLK_OUT 1
#define BLK_OK 0

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct ring { /* of avail; that of used begins alike */
	uint16_t flags, idx, entry[];
};

static uint8_t queue[3 * PAGE] __attribute__((aligned(PAGE)));
static uint16_t io, size;

static void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static uint32_t inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static uint32_t pci_read(uint32_t function, uint8_t at)
{
	outl(PCI_ADDRESS, PCI_ENABLE | function << 8 | at);
	return inl(PCI_DATA);
}

/* The port of its registers, or 0. */
static uint16_t find(void)
{
	for (uint32_t f = 0; f < PCI_FUNCTIONS; f++) {
		uint32_t bar;

		if (pci_read(f, 0) != VIRTIO_BLK)
			continue;
		bar = pci_read(f, PCI_BAR0);
		if ((bar & 1) == 0 || (bar & 0xfffc) == 0)
			continue;
		(void)pci_read(f, PCI_COMMAND);
		outl(PCI_DATA, PCI_COMMAND_IO_MASTER);
		return (uint16_t)(bar & 0xfffc);
	}
	return 0;
}

static volatile struct desc *descs(void)
{
	return (volatile struct desc *)queue;
}

static volatile struct ring *avail(void)
{
	return (volatile struct ring *)(queue + sizeof(struct desc) * size);
}

/* On the page behind the avail ring with its 3 words beside the entries. */
static volatile struct ring *used(void)
{
	uint32_t end = (uint32_t)sizeof(struct desc) * size + 2 * (3 + (uint32_t)size);

	return (volatile struct ring *)(queue + (end + PAGE - 1) / PAGE * PAGE);
}

bool disk_open(void)
{
	io = find();
	if (io == 0)
		return false;
	outb(io + REG_STATUS, 0);
	outb(io + REG_STATUS, STATUS_READY & 3);
	outl(io + REG_GUEST_FEATURES, 0);
	outw(io + REG_QUEUE_SELECT, 0);
	size = inw(io + REG_QUEUE_SIZE);
	if (size < 3 || size > QUEUE_MAX)
		return false;
	avail()->flags = AVAIL_NO_INTERRUPT;
	outl(io + REG_QUEUE_PFN, (uint32_t)((uintptr_t)queue / PAGE));
	outb(io + REG_STATUS, STATUS_READY);
	return true;
}

static void describe(unsigned n, const volatile void *what, uint32_t len, uint16_t flags)
{
	descs()[n].addr = (uintptr_t)what;
	descs()[n].len = len;
	descs()[n].flags = flags;
	descs()[n].next = (uint16_t)(n + 1);
}

bool disk_write(uint64_t at, const uint8_t sector[DISK_SECTOR])
{
	static volatile struct {
		uint32_t type, zero;
		uint64_t sector;
	} head;
	static volatile uint8_t status;
	uint16_t next = (uint16_t)(avail()->idx + 1);

	head.type = BLK_OUT;
	head.sector = at;
	status = 0xff;
	describe(0, &head, sizeof head, DESC_NEXT);
	describe(1, sector, DISK_SECTOR, DESC_NEXT);
	describe(2, &status, 1, DESC_DEVICE_WRITES);
	avail()->entry[(uint16_t)(next - 1) % size] = 0;
	__asm__ volatile("" : : : "memory");
	avail()->idx = next;
	__asm__ volatile("mfence" : : : "memory");
	outw(io + REG_QUEUE_NOTIFY, 0);
	while (used()->idx != next)
		__asm__ volatile("pause" : : : "memory");
	return status == BLK_OK;
}
