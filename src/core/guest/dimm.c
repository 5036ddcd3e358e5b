/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/dimm.h"
#include "core/guest/argv-impl.h"
#include "core/guest/cd.h"

#include <inttypes.h>
#include <string.h>

#define MEMORY_WORDS "memory-backend-ram,id=dimm"
#define DEVICE_WORDS "pc-dimm,"

static uint64_t whole(uint64_t bytes, uint64_t piece)
{
	return (bytes + piece - 1) / piece * piece;
}

uint64_t dimm_next(uint64_t region, uint64_t plugged, uint64_t wanted)
{
	uint64_t piece = MAX(whole(region / DIMM_SLOTS, DIMM_PIECE), DIMM_PIECE), aim = MIN(wanted, region);

	return aim > plugged ? MIN(whole(aim - plugged, piece), region - plugged) : 0;
}

uint64_t dimm_list_sum(const Json *sizes)
{
	const Json *size;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach((Json *)sizes, i, size) sum += (uint64_t)json_integer_value(size);
	return sum;
}

bool dimm_list_check(const Json *sizes, uint64_t region, GError **err)
{
	const Json *size;
	uint64_t sum = 0;
	size_t i;

	if (sizes != NULL && !json_is_null(sizes) &&
	    (!json_is_array(sizes) || json_array_size(sizes) > DIMM_SLOTS))
		return fail(err, ERR_INVALID, "a record's DIMMs make no sense");
	json_array_foreach((Json *)sizes, i, size)
	{
		uint64_t bytes = json_integer_value(size) > 0 ? (uint64_t)json_integer_value(size) : 0;

		if (bytes == 0 || bytes % DIMM_PIECE != 0 || bytes > region || sum > region - bytes)
			return fail(err, ERR_INVALID, "a record's DIMM %zu makes no sense", i);
		sum += bytes;
	}
	return true;
}

char *dimm_id(size_t n)
{
	return g_strdup_printf("dimm%zu", n);
}

char *dimm_memory_id(size_t n)
{
	return g_strdup_printf("dimm%zu-memory", n);
}

static uint64_t size_of(const Json *devices, const char *id)
{
	const Json *device, *data;
	size_t i;

	json_array_foreach((Json *)devices, i, device)
	{
		data = json_obj(device, "data");
		if (g_strcmp0(json_str(device, "type"), "dimm") == 0 &&
		    g_strcmp0(json_str(data, "id"), id) == 0)
			return json_uint(data, "size", 0);
	}
	return 0;
}

Json *dimm_list_of(const Json *devices, size_t *ret_free)
{
	Json *sizes = json_array();

	*ret_free = DIMM_SLOTS;
	for (size_t n = 0; n < DIMM_SLOTS; n++) {
		g_autofree char *id = dimm_id(n);
		uint64_t size = size_of(devices, id);

		if (size > 0)
			json_array_append_new(sizes, json_integer((json_int_t)size));
		else
			*ret_free = MIN(*ret_free, n);
	}
	return sizes;
}

static void add_dimm(ArgvBuilder *b, size_t n, uint64_t size)
{
	g_autofree char *id = dimm_id(n), *memory = dimm_memory_id(n);

	arg_begin(b, "-object");
	arg_default(b, "memory.max", "It has grown by this much.",
		    "memory-backend-ram,id=%s,size=%" PRIu64 "M,reserve=off", memory, size >> 20);
	arg_begin(b, "-device");
	arg_default(b, "memory.method", "Its system has no driver for virtio-mem.",
		    DEVICE_WORDS "id=%s,memdev=%s", id, memory);
}

void argv_add_dimms(ArgvBuilder *b, const Json *sizes)
{
	const Json *size;
	size_t i;

	json_array_foreach((Json *)sizes, i, size) add_dimm(b, i, (uint64_t)json_integer_value(size));
}

static bool is_of_dimm(const Json *arg)
{
	const char *value = json_str(arg, "value");

	return value != NULL &&
	       (g_str_has_prefix(value, MEMORY_WORDS) || g_str_has_prefix(value, DEVICE_WORDS));
}

Json *dimm_arguments(const Json *arguments, const Json *sizes)
{
	g_autoptr(Argv) argv = argv_dimms(sizes);
	_cleanup_json_ Json *dimms = argv_to_json(argv);
	size_t at = cd_arguments_begin(arguments), i;
	Json *list = json_array(), *arg;

	json_array_foreach((Json *)arguments, i, arg)
	{
		if (i == at)
			json_array_extend(list, dimms);
		if (!is_of_dimm(arg))
			json_array_append(list, arg);
	}
	if (at == json_array_size(arguments))
		json_array_extend(list, dimms);
	return list;
}
