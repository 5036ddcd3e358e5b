/* SPDX-License-Identifier: Apache-2.0 */
#include "acpi.h"

#include "str.h"
#include "x86.h"

/* ACPI 6.4: RSDP 5.2.5, table header 5.2.6, FADT 5.2.9, generic address 5.2.3.2. Everything is unaligned. */
#define RSDP_AREA 0xe0000u
#define RSDP_AREA_END 0x100000u
#define RSDP_REVISION 15
#define RSDP_RSDT 16
#define RSDP_XSDT 24
#define TABLE_LENGTH 4
#define TABLE_ENTRIES 36
#define FADT_SCI 46
#define FADT_PM1_EVENT 56
#define FADT_PM1_CONTROL 64
#define FADT_RESET_REGISTER 116
#define FADT_RESET_VALUE 128
#define FADT_SLEEP_CONTROL 244
#define ADDRESS_MEMORY 0
#define ADDRESS_PORT 1
#define TABLE_LENGTH_MAX 65536u
#define MAPPED_END 0x100000000u /* boot.S maps no more */

static uint64_t read_le(uint64_t at, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, (const void *)at, size);
	return v;
}

static bool table_readable(uint64_t at, uint64_t size)
{
	return at >= 4096 && at < MAPPED_END && size <= MAPPED_END - at;
}

static uint64_t rsdp_search(void)
{
	for (uint64_t at = RSDP_AREA; at < RSDP_AREA_END; at += 16)
		if (memcmp((const void *)at, "RSD PTR ", 8) == 0)
			return at;
	return 0;
}

/* Look through the RSDT or XSDT at `root`, whose entries have `size` bytes each. */
static uint64_t table_find(uint64_t root, unsigned size, const char *name)
{
	uint64_t length;

	if (!table_readable(root, TABLE_ENTRIES))
		return 0;
	length = read_le(root + TABLE_LENGTH, 4);
	if (length > TABLE_LENGTH_MAX || !table_readable(root, length))
		return 0;
	for (uint64_t at = TABLE_ENTRIES; at + size <= length; at += size) {
		uint64_t table = read_le(root + at, size);

		if (table_readable(table, TABLE_ENTRIES) && memcmp((const void *)table, name, 4) == 0)
			return table;
	}
	return 0;
}

/* A register at `field` of the FADT, if the table is long enough to have it. */
static struct acpi_register fadt_register(uint64_t fadt, uint64_t length, unsigned field)
{
	struct acpi_register r = { 0 };
	uint64_t space;

	if (length < field + 12u)
		return r;
	space = read_le(fadt + field, 1);
	if (space != ADDRESS_MEMORY && space != ADDRESS_PORT)
		return r;
	r.memory = space == ADDRESS_MEMORY;
	r.at = read_le(fadt + field + 4, 8);
	if (r.at >= (r.memory ? MAPPED_END : 0x10000u))
		r.at = 0;
	return r;
}

bool acpi_find(uint64_t rsdp, struct acpi *ret)
{
	uint64_t fadt = 0, length;

	if (rsdp == 0)
		rsdp = rsdp_search();
	if (!table_readable(rsdp, 36))
		return false;
	if (read_le(rsdp + RSDP_REVISION, 1) >= 2)
		fadt = table_find(read_le(rsdp + RSDP_XSDT, 8), 8, "FACP");
	if (fadt == 0)
		fadt = table_find(read_le(rsdp + RSDP_RSDT, 4), 4, "FACP");
	if (fadt == 0)
		return false;
	length = read_le(fadt + TABLE_LENGTH, 4);
	if (length < FADT_PM1_CONTROL + 4 || !table_readable(fadt, length))
		return false;
	*ret = (struct acpi){
		.pm1_event = (uint16_t)read_le(fadt + FADT_PM1_EVENT, 4),
		.pm1_control = (uint16_t)read_le(fadt + FADT_PM1_CONTROL, 4),
		.sci = (uint16_t)read_le(fadt + FADT_SCI, 2),
		.reset = fadt_register(fadt, length, FADT_RESET_REGISTER),
		.sleep_control = fadt_register(fadt, length, FADT_SLEEP_CONTROL),
	};
	if (length > FADT_RESET_VALUE)
		ret->reset_value = (uint8_t)read_le(fadt + FADT_RESET_VALUE, 1);
	return true;
}

void acpi_register_write(const struct acpi_register *r, uint8_t value)
{
	if (r->memory)
		mmio_write8(r->at, value);
	else
		outb((uint16_t)r->at, value);
}
