/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest's tools said of themselves when they were heard last: the record
 * tools/ID of a vm. Pure.
 *
 * {seen_at, host, agent: {version, commands: [NAME], disabled: [NAME]},
 *  os: {id, name, ...} | null, drivers: [{device, driver, version}] | null,
 *  told: [TEXT]}
 *
 * All of it is the guest's word: texts are cut, lists end, names that no agent
 * has are left out, so that the record of a guest that lies stays below
 * TOOLS_RECORD_MAX bytes. `drivers` is null where nobody could tell. `told`
 * remembers of which pairs of versions an event was written.
 */
#pragma once

#include "base/err.h"
#include "core/tools/device.h"

#define TOOLS_COMMANDS_MAX 256
#define TOOLS_NAME_MAX 64
#define TOOLS_TEXT_MAX 128
#define TOOLS_DRIVERS_MAX 64
#define TOOLS_TOLD_MAX 8
#define TOOLS_RECORD_MAX (UINT64_C(128) << 10)

struct tools_heard {
	const char *now, *host; /* the host's id */
	const Json *info;       /* {version, commands, disabled} as agent_info() has it */
	const Json *os;         /* as agent_osinfo() has it; NULL: not known */
	const Json *drivers;    /* of tools_drivers_*(); NULL: not known */
};

/* A record of what was heard, with what `before` (may be NULL) had been told. New reference. */
Json *tools_record_new(const struct tools_heard *h, const Json *before);

/* Does the agent say that it runs in Windows? */
bool tools_record_is_windows(const Json *record);

/*
 * Has an event told of this guest's version beside the host's `expected`?
 * tools_record_tell() remembers it, the last TOOLS_TOLD_MAX of them: a guest that
 * goes to and fro between hosts of two versions is told of once for each.
 */
bool tools_record_was_told(const Json *record, const char *expected);
void tools_record_tell(Json *record, const char *expected);
