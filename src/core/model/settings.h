/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of a vm: one table of dotted keys.
 *
 * A vm stores only what somebody set; everything else follows from the image's
 * properties, the host and the default, and core/guest/profile says which.
 * The table drives parsing, validation, `plim vm set`, completion, the manual
 * page and what `plim vm show` calls pending. Keys are never renamed.
 *
 * The platform keys of XenServer work by their names (`platform.usb`, ...).
 * Pure.
 */
#pragma once

#include "base/err.h"

typedef enum SettingType {
	SETTING_BOOL,
	SETTING_INT,
	SETTING_SIZE,     /* bytes */
	SETTING_DURATION, /* microseconds in records, "30s" when typed */
	SETTING_ENUM,
	SETTING_TEXT,
	SETTING_PATH, /* absolute path on the host */
} SettingType;

typedef enum SettingApplies {
	APPLIES_NOW,   /* also to a vm that runs */
	APPLIES_START, /* at the next start */
} SettingApplies;

typedef struct Setting {
	const char *key;
	SettingType type;
	SettingApplies applies;
	int64_t min, max;          /* SETTING_INT, SIZE, DURATION */
	const char *const *values; /* SETTING_ENUM, NULL-terminated */
	const char *dflt;          /* as people read it; "auto" when the profile decides */
	const char *help;          /* one sentence */
} Setting;

extern const Setting settings[];
extern const size_t n_settings;
/* The same of a host: what an admin sets on it. */
extern const Setting host_settings[];
extern const size_t n_host_settings;

/* NULL when there is none of that name. `memory` is short for memory.start: store under the key that is
 * found. */
const Setting *setting_find(const char *key);
/* "bool", "int", ...: for the reference page and the API. */
const char *setting_type_name(SettingType type);

/*
 * A value as typed ("2GiB", "true") or as in JSON, to the JSON that is stored.
 * ERR_INVALID with advice that names the allowed values or range; an unknown
 * key's advice names the nearest known ones. New references.
 */
Json *setting_parse(const char *key, const char *text, GError **err);
Json *setting_check(const char *key, const Json *value, GError **err);

/* Check a whole object of settings; null values (meaning: unset) are allowed. */
bool settings_check(const Json *obj, GError **err);
/* Check `from` and copy it over `into` under the table's own keys; null unsets. Nothing changes on failure.
 */
bool settings_merge(Json *into, const Json *from, GError **err);
/*
 * What holds: the value in `stored` (an object of settings; may be NULL), else
 * the default of the table. NULL when the profile decides ("auto") or there is
 * none. New reference.
 */
Json *setting_effective(const Json *stored, const char *key);
/* The same two for the settings of a host. */
bool host_settings_merge(Json *into, const Json *from, GError **err);
Json *host_setting_effective(const Json *stored, const char *key);
/* A stored value as people read it. Caller frees. */
char *setting_print(const Setting *s, const Json *value);
