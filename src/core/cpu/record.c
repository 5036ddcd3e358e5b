/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/record.h"
#include "base/str.h"
#include "base/time.h"

#include <inttypes.h>
#include <string.h>

static const char advice_export[] = "Export it again with `plim host cpu --export`.";

void host_record_done(struct host_record *r)
{
	g_free(r->host);
	g_free(r->date);
	g_free(r->qemu_version);
	g_strfreev(r->machines);
	json_unref(r->digest);
	memset(r, 0, sizeof(*r));
}

static Json *sets_to_json(const struct guest_sets *g)
{
	Json *j;

	if (!g->there)
		return json_null();
	j = json_object();
	json_put(j, "max", featureset_to_json(&g->max));
	json_put(j, "default", featureset_to_json(&g->dflt));
	return j;
}

Json *host_record_to_json(const struct host_record *r)
{
	static const char *const no_machines[] = { NULL };
	Json *j = json_object(), *qemu = json_object();

	json_put_str(j, "format", HOST_RECORD_FORMAT);
	json_put_uint(j, "version", HOST_RECORD_VERSION);
	json_put_str(j, "host", r->host);
	json_put_str(j, "date", r->date);
	json_put_str(qemu, "version", r->qemu_version);
	json_put(qemu, "machines",
		 json_of_strv(r->machines != NULL ? (const char *const *)r->machines : no_machines));
	json_put(j, "qemu", qemu);
	if (r->digest != NULL)
		json_put(j, "digest", json_deep_copy(r->digest));
	for (int t = 0; t < GUEST_TYPES; t++)
		json_put(j, guest_type_name((GuestType)t), sets_to_json(&r->guest[t]));
	if (r->has_raw)
		json_put(j, "raw", featureset_to_json(&r->raw));
	json_put(j, "masked", cpu_bits_names_json(&r->masked));
	return j;
}

static bool check_version(const Json *j, GError **err)
{
	uint64_t version = json_uint(j, "version", 0);

	if (g_strcmp0(json_str(j, "format"), HOST_RECORD_FORMAT) != 0)
		return fail_advice(err, ERR_INVALID, advice_export, "this is no host record");
	if (version > HOST_RECORD_VERSION)
		return fail_advice(
		    err, ERR_UNSUPPORTED, "Update Plimsoll here, or export it with this version.",
		    "the host record is of version %" PRIu64 ", and this program reads up to version %d",
		    version, HOST_RECORD_VERSION);
	if (version < 1)
		return fail_advice(err, ERR_INVALID, advice_export, "the host record has no version");
	return true;
}

static bool is_closed(const struct featureset *s)
{
	struct cpu_bits closed = s->has;

	return !cpu_bits_close(&closed, CLOSE_HARD, NULL);
}

static bool read_set(const Json *j, const char *key, struct featureset *ret, GError **err)
{
	if (!json_is_object(json_object_get(j, key)))
		return fail_advice(err, ERR_INVALID, advice_export, "it has no set '%s'", key);
	if (!featureset_of_json(json_object_get(j, key), ret, err)) {
		g_prefix_error(err, "set '%s': ", key);
		return false;
	}
	return true;
}

static bool read_sets(const Json *j, const char *type, struct guest_sets *ret, GError **err)
{
	const Json *sets = json_object_get(j, type);

	if (sets == NULL || json_is_null(sets))
		return true;
	if (!read_set(sets, "max", &ret->max, err) || !read_set(sets, "default", &ret->dflt, err)) {
		g_prefix_error(err, "%s: ", type);
		return false;
	}
	if (!is_closed(&ret->max) || !is_closed(&ret->dflt))
		return fail_advice(err, ERR_INVALID, advice_export,
				   "%s: a set holds features that need others, which it lacks", type);
	if (!cpu_bits_subset(&ret->dflt.has, &ret->max.has))
		return fail_advice(err, ERR_INVALID, advice_export,
				   "%s: the default set is not within the max set", type);
	ret->there = true;
	return true;
}

static bool read_machines(const Json *qemu, struct host_record *r, GError **err)
{
	const Json *machines = json_arr(qemu, "machines");

	if (json_array_size(machines) > HOST_RECORD_MACHINES_MAX)
		return fail(err, ERR_LIMIT, "the host record names more than %d machine types",
			    HOST_RECORD_MACHINES_MAX);
	r->machines = json_strv(machines);
	r->qemu_version = g_strdup(json_str(qemu, "version"));
	return true;
}

static bool read_head(const Json *j, struct host_record *r, GError **err)
{
	const char *host = json_str(j, "host"), *date = json_str(j, "date");
	uint64_t when;

	if (host == NULL)
		return fail_advice(err, ERR_INVALID, advice_export, "it names no host");
	if (!name_check("host", host, err))
		return false;
	if (date != NULL && !time_parse(date, &when))
		return fail_advice(err, ERR_INVALID, advice_export, "its date is none");
	r->host = g_strdup(host);
	r->date = g_strdup(date);
	if (json_obj(j, "digest") != NULL)
		r->digest = json_deep_copy(json_obj(j, "digest"));
	return read_machines(json_obj(j, "qemu"), r, err);
}

static bool read_record(const Json *j, struct host_record *r, GError **err)
{
	if (!check_version(j, err) || !read_head(j, r, err))
		return false;
	for (int t = 0; t < GUEST_TYPES; t++)
		if (!read_sets(j, guest_type_name((GuestType)t), &r->guest[t], err))
			return false;
	if (json_object_get(j, "masked") != NULL &&
	    !cpu_bits_of_json(json_object_get(j, "masked"), &r->masked, err))
		return false;
	if (!json_is_object(json_object_get(j, "raw")))
		return true;
	r->has_raw = true;
	return read_set(j, "raw", &r->raw, err);
}

bool host_record_of_json(const Json *j, struct host_record *ret, GError **err)
{
	_cleanup_host_record_ struct host_record r = { 0 };

	if (!read_record(j, &r, err))
		return false;
	*ret = r;
	memset(&r, 0, sizeof(r));
	return true;
}

bool host_record_parse(const char *text, size_t len, struct host_record *ret, GError **err)
{
	_cleanup_json_ Json *j = NULL;

	if (len > HOST_RECORD_TEXT_MAX)
		return fail(err, ERR_LIMIT, "the host record is larger than %u bytes", HOST_RECORD_TEXT_MAX);
	j = json_parse(text, len, err);
	return j != NULL && host_record_of_json(j, ret, err);
}

bool host_record_set(const struct host_record *r, GuestType type, SetKind kind, struct featureset *ret,
		     GError **err)
{
	const struct guest_sets *g = &r->guest[type];

	if (kind == SET_RAW) {
		if (!r->has_raw)
			return fail_advice(err, ERR_NOT_FOUND, "Use its max or default set.",
					   "the record of %s holds no raw set", r->host);
		*ret = r->raw;
		return true;
	}
	if (!g->there)
		return fail_advice(err, ERR_NOT_FOUND, "Choose the other guest type with --guest.",
				   "%s runs no guests with %s", r->host, guest_type_name(type));
	*ret = kind == SET_MAX ? g->max : g->dflt;
	return true;
}

bool host_record_knows_machine(const struct host_record *r, const char *machine)
{
	return g_strv_contains((const char *const *)r->machines, machine);
}
