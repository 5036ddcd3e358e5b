/* SPDX-License-Identifier: Apache-2.0 */
/* The registers of ACPI's fixed hardware, from the FADT. No AML is run. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct acpi_register {
	bool memory; /* else an I/O port */
	uint64_t at; /* 0: there is none */
};

struct acpi {
	uint16_t pm1_event, pm1_control; /* ports; 0: there are none */
	uint16_t sci;                    /* line of the I/O APIC */
	struct acpi_register reset, sleep_control;
	uint8_t reset_value;
};

/*
 * Find the tables from the RSDP at `rsdp`, or when that is 0 by looking where a BIOS leaves it.
 * False when there are none; *ret is untouched then.
 */
bool acpi_find(uint64_t rsdp, struct acpi *ret);
void acpi_register_write(const struct acpi_register *r, uint8_t value);
