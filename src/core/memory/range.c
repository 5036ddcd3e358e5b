/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memory/range.h"
#include "base/str.h"
#include "core/model/settings.h"

static const char *const method_names[_MEMORY_METHOD_MAX] = {
#define X(key, name) [MEMORY_##key] = name,
	MEMORY_METHOD_TABLE(X)
#undef X
};

const char *memory_method_name(MemoryMethod m)
{
	g_assert(m < _MEMORY_METHOD_MAX);
	return method_names[m];
}

MemoryMethod memory_method_of(const char *name)
{
	for (MemoryMethod m = 0; name != NULL && m < _MEMORY_METHOD_MAX; m++)
		if (g_str_equal(method_names[m], name))
			return m;
	return MEMORY_FIXED;
}

/* 0: nobody said. */
static uint64_t number_of(const Json *own, const char *key)
{
	_cleanup_json_ Json *v = setting_effective(own, key);

	return v != NULL ? (uint64_t)json_integer_value(v) : 0;
}

/* `larger` is set to less than `smaller`; whichever the reader wants to keep, the other one is named. */
static bool refuse(const char *smaller, uint64_t is, const char *larger, uint64_t than, GError **err)
{
	g_autofree char *a = print_size(is), *b = print_size(than);

	fail(err, ERR_INVALID, "%s is %s, and %s is only %s", smaller, a, larger, b);
	err_detail(err, smaller, json_integer((json_int_t)is));
	err_detail(err, larger, json_integer((json_int_t)than));
	return err_advise(
	    err,
	    "memory.min <= memory.start <= memory.max must hold: set %s to %s or less, or %s to "
	    "%s or more.",
	    smaller, b, larger, a);
}

static bool check_balloon(const Json *own, GError **err)
{
	_cleanup_json_ Json *balloon = setting_effective(own, "platform.balloon");

	return json_is_true(balloon) ||
	       fail_advice(
		   err, ERR_INVALID,
		   "Set platform.balloon=true, or unset memory.min and memory.max: the memory is fixed then.",
		   "memory.min and memory.max need the balloon, and platform.balloon is false");
}

bool memory_range_of(const Json *own, struct memory_range *ret, GError **err)
{
	uint64_t min = number_of(own, "memory.min"), max = number_of(own, "memory.max");
	struct memory_range r = {
		.start = number_of(own, "memory.start"),
		.buffer = (unsigned)number_of(own, "memory.buffer"),
		.weight = (unsigned)number_of(own, "memory.weight"),
	};

	if (min > r.start)
		return refuse("memory.min", min, "memory.start", r.start, err);
	if (max > 0 && max < r.start)
		return refuse("memory.start", r.start, "memory.max", max, err);
	r.max = max > 0 ? max : r.start;
	r.min = min;
	if (min == 0)
		r.min = max > 0 ? MIN(MAX(r.start / 2, RANGE_MIN_LEAST), r.start) : r.start;
	if (memory_range_moves(&r) && !check_balloon(own, err))
		return false;
	*ret = r;
	return true;
}

bool memory_range_moves(const struct memory_range *r)
{
	return r->min < r->max;
}
