/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host/limits.h"

#include <inttypes.h>

static const struct {
	const char *name, *what;
	uint64_t each, spare;
	const char *unit, *advice;
} limits[_LIMIT_MAX] = {
#define X(key, name, what, each, spare, unit, advice)                                                        \
	[LIMIT_##key] = { name, what, each, spare, unit, advice },
	LIMIT_TABLE(X)
#undef X
};

const char *limit_name(Limit l)
{
	g_assert(l < _LIMIT_MAX);
	return limits[l].name;
}

static uint64_t left_of(const struct limits_seen *seen, Limit l)
{
	const struct limit_seen *s = &seen->limit[l];
	uint64_t used = s->used + limits[l].spare;

	return s->max > used ? s->max - used : 0;
}

uint64_t limit_room(const struct limits_seen *seen, Limit l)
{
	return seen->limit[l].max == 0 ? UINT64_MAX : left_of(seen, l) / limits[l].each;
}

static bool refuse(const struct limits_seen *seen, Limit l, unsigned guests, const char *name, GError **err)
{
	const struct limit_seen *s = &seen->limit[l];

	fail(err, ERR_LIMIT,
	     "'%s' would run into the limit on %s: %" PRIu64 " of %" PRIu64 " are in use, %" PRIu64
	     " are kept free, and each guest takes %" PRIu64 " (%u being started)",
	     name, limits[l].what, s->used, s->max, limits[l].spare, limits[l].each, guests);
	err_detail(err, "limit", json_string(limits[l].name));
	err_detail(err, "used", json_integer((json_int_t)s->used));
	err_detail(err, "max", json_integer((json_int_t)s->max));
	err_detail(err, "each", json_integer((json_int_t)limits[l].each));
	return err_advise(err, "%s `plim host limits` shows all.", limits[l].advice);
}

bool limits_admit(const struct limits_seen *seen, unsigned guests, const char *name, bool direct,
		  GError **err)
{
	uint64_t least = UINT64_MAX;
	Limit nearest = 0;

	for (Limit l = 0; l < _LIMIT_MAX; l++) {
		uint64_t room = l == LIMIT_AIO && !direct ? UINT64_MAX : limit_room(seen, l);

		if (room < least) {
			least = room;
			nearest = l;
		}
	}
	return guests <= least || refuse(seen, nearest, guests, name, err);
}

Json *limits_to_json(const struct limits_seen *seen)
{
	Json *list = json_array();

	for (Limit l = 0; l < _LIMIT_MAX; l++) {
		const struct limit_seen *s = &seen->limit[l];
		Json *j = json_object();

		json_put_str(j, "name", limits[l].name);
		json_put_str(j, "what", limits[l].what);
		json_put_uint(j, "used", s->used);
		json_put(j, "max",
			 s->max > 0 ? json_integer((json_int_t)MIN(s->max, INT64_MAX)) : json_null());
		json_put_uint(j, "each", limits[l].each);
		json_put(j, "room", s->max > 0 ? json_integer((json_int_t)limit_room(seen, l)) : json_null());
		json_put_str(j, "unit", limits[l].unit);
		json_put_str(j, "advice", limits[l].advice);
		json_array_append_new(list, j);
	}
	return list;
}
