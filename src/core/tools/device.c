/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tools/device.h"

#include <string.h>

#define REDHAT 0x1af4
/* PCI's number of a device of virtio 1.0 is this and virtio's. */
#define PCI_MODERN 0x1040

static const struct {
	unsigned number, pci;
	const char *name, *qemu;
} table[_TOOLS_DEVICE_MAX] = {
#define X(key, n, p, text, q) [TOOLS_DEVICE_##key] = { n, p, text, q },
	TOOLS_DEVICE_TABLE(X)
#undef X
};

const char *tools_device_name(ToolsDevice d)
{
	g_assert(d < _TOOLS_DEVICE_MAX);
	return table[d].name;
}

/* "virtio-net-pci,id=..." or "virtio-net-pci" */
static bool is_of(const char *value, const char *qemu)
{
	size_t n = strlen(qemu);

	return strncmp(value, qemu, n) == 0 && (value[n] == ',' || value[n] == '\0');
}

uint32_t tools_devices_offered(const Json *arguments)
{
	uint32_t bits = 0;
	const Json *arg;
	size_t i;

	json_array_foreach(arguments, i, arg)
	{
		const char *value = json_str(arg, "value");

		for (ToolsDevice d = 0; d < _TOOLS_DEVICE_MAX; d++)
			if (g_strcmp0(json_str(arg, "option"), "-device") == 0 && value != NULL &&
			    is_of(value, table[d].qemu))
				bits |= TOOLS_DEVICE_BIT(d);
	}
	return bits;
}

bool tools_channel_offered(const Json *arguments)
{
	const Json *arg;
	size_t i;

	json_array_foreach(arguments, i, arg)
	{
		const char *value = json_str(arg, "value");

		if (value != NULL && is_of(value, "virtserialport") &&
		    strstr(value, "name=org.qemu.guest_agent.0") != NULL)
			return true;
	}
	return false;
}

static Json *driver_new(ToolsDevice d, const char *driver, const char *version)
{
	Json *j = json_object();

	json_put_str(j, "device", table[d].name);
	json_put(j, "driver", driver != NULL ? json_text_or_escaped(driver) : json_null());
	json_put(j, "version", version != NULL ? json_text_or_escaped(version) : json_null());
	return j;
}

/* The value of a line KEY=VALUE, or NULL. Caller frees. */
static char *line_value(char *const *lines, const char *key)
{
	for (; *lines != NULL; lines++)
		if (g_str_has_prefix(*lines, key))
			return g_strdup(*lines + strlen(key));
	return NULL;
}

/* MODALIAS=virtio:d00000005v00001AF4 */
static bool device_of_alias(const char *alias, ToolsDevice *ret)
{
	uint64_t number;

	if (alias == NULL || !g_str_has_prefix(alias, "virtio:d"))
		return false;
	number = g_ascii_strtoull(alias + strlen("virtio:d"), NULL, 16);
	for (ToolsDevice d = 0; d < _TOOLS_DEVICE_MAX; d++)
		if (table[d].number == number) {
			*ret = d;
			return true;
		}
	return false;
}

Json *tools_driver_of_uevent(const char *text, size_t len)
{
	g_autofree char *copy = g_strndup(text, len);
	g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);
	g_autofree char *alias = line_value(lines, "MODALIAS="), *driver = line_value(lines, "DRIVER=");
	ToolsDevice d;

	return device_of_alias(alias, &d) ? driver_new(d, driver, NULL) : NULL;
}

static bool device_of_pci(const Json *id, ToolsDevice *ret)
{
	uint64_t device = json_uint(id, "device-id", 0);

	if (json_uint(id, "vendor-id", 0) != REDHAT || device == 0)
		return false;
	for (ToolsDevice d = 0; d < _TOOLS_DEVICE_MAX; d++)
		if (device == table[d].pci || device == PCI_MODERN + table[d].number) {
			*ret = d;
			return true;
		}
	return false;
}

Json *tools_drivers_of_devices(const Json *devices)
{
	Json *list = json_array();
	const Json *x;
	size_t i;
	ToolsDevice d;

	json_array_foreach(devices, i, x) if (device_of_pci(json_obj(x, "id"), &d)) json_array_append_new(
	    list, driver_new(d, json_str(x, "driver-name"), json_str(x, "driver-version")));
	return list;
}

ToolsDriven tools_is_driven(const Json *drivers, ToolsDevice d)
{
	const Json *x;
	size_t i;

	if (!json_is_array(drivers))
		return TOOLS_DRIVEN_UNKNOWN;
	json_array_foreach(drivers, i, x) if (g_strcmp0(json_str(x, "device"), table[d].name) == 0 &&
					      json_str(x, "driver") != NULL) return TOOLS_DRIVEN;
	return TOOLS_NOT_DRIVEN;
}

bool tools_all_driven(const Json *drivers)
{
	const Json *x;
	size_t i;

	json_array_foreach(drivers, i, x) if (json_str(x, "driver") == NULL) return false;
	return drivers != NULL;
}
