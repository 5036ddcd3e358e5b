/* SPDX-License-Identifier: Apache-2.0 */
#include "api/vm_view.h"
#include "core/model/settings.h"
#include "core/model/vm_state.h"

/* Settings that a running vm follows at once are never pending. */
static bool waits_for_start(const char *key)
{
	const Setting *s = setting_find(key);

	return s == NULL || s->applies == APPLIES_START;
}

static void add_changed(Json *out, const char *prefix, const Json *was, const Json *is)
{
	const char *key;
	Json *v;

	json_object_foreach((Json *)is, key,
			    v) if (waits_for_start(key) && !json_equal(v, json_object_get(was, key)))
	    json_array_append_new(out, json_sprintf("%s%s", prefix, key));
	json_object_foreach((Json *)was, key, v) if (waits_for_start(key) && json_object_get(is, key) == NULL)
	    json_array_append_new(out, json_sprintf("%s%s", prefix, key));
}

/* {name: device}, so that devices are compared by name and not by place. */
static Json *by_name(const Json *list)
{
	Json *out = json_object(), *item;
	size_t i;

	json_array_foreach((Json *)list, i, item) if (json_str(item, "name") != NULL)
	    json_object_set(out, json_str(item, "name"), item);
	return out;
}

/* What was inserted; a drive that was emptied is as one that nobody filled, unless it is there for good. */
static const Json *medium_of(const Json *config)
{
	const Json *cd = json_object_get(config, "cdrom");
	bool fixed = json_object_get(json_object_get(config, "settings"), "platform.cdrom") != NULL;

	return fixed || json_str(cd, "path") != NULL || json_obj(cd, "image") != NULL ? cd : NULL;
}

static bool same_medium(const Json *was, const Json *is)
{
	const Json *a = medium_of(was), *b = medium_of(is);

	return (json_is_object(a) ? a : NULL) == (json_is_object(b) ? b : NULL) ||
	       (json_is_object(a) && json_equal(a, b));
}

Json *vm_differences(const Json *was, const Json *is)
{
	static const struct {
		const char *member, *prefix;
	} lists[] = { { "disks", "disk." }, { "nics", "nic." } };
	Json *out = json_array();

	add_changed(out, "", json_object_get(was, "settings"), json_object_get(is, "settings"));
	add_changed(out, "property.", json_object_get(was, "properties"), json_object_get(is, "properties"));
	for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
		_cleanup_json_ Json *a = by_name(json_object_get(was, lists[i].member));
		_cleanup_json_ Json *b = by_name(json_object_get(is, lists[i].member));

		add_changed(out, lists[i].prefix, a, b);
	}
	if (!json_equal(json_object_get(was, "cloud_init"), json_object_get(is, "cloud_init")))
		json_array_append_new(out, json_string("cloud_init"));
	if (!same_medium(was, is))
		json_array_append_new(out, json_string("cdrom"));
	return out;
}

/* What the running guest has, else what a start would give it. */
static Json *effective(const Json *config, const Json *runtime)
{
	static const struct {
		const char *setting, *member;
	} told[] = { { "vcpus", "vcpus" }, { "memory.start", "memory" } };
	Json *j = json_object();

	for (size_t i = 0; i < G_N_ELEMENTS(told); i++) {
		const Json *now = json_object_get(runtime, told[i].member);

		json_put(j, told[i].setting,
			 json_is_integer(now)
			     ? json_deep_copy(now)
			     : setting_effective(json_object_get(config, "settings"), told[i].setting));
	}
	return j;
}

Json *vm_view(const Json *config, const Json *runtime, const Json *applied, int64_t revision)
{
	VmState state = vm_runtime_state(runtime);
	Json *j = json_copy((Json *)config), *r = json_copy((Json *)runtime);

	if ((state == VM_RUNNING || state == VM_PAUSED) && applied != NULL)
		json_put(r, "pending", vm_differences(json_object_get(applied, "config"), config));
	json_put(j, "runtime", r);
	json_put(j, "effective", effective(config, runtime));
	json_put_int(j, "revision", revision);
	return j;
}
