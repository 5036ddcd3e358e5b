/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the record of each guest's tools, and tells once when they drift.
 *
 * A guest is asked when its agent opens the port, and never else: an inventory
 * that polls would wake every guest of the pool. (An agent may be up before its
 * guest has loaded all drivers: then it is asked again, a few times.) So the record of a guest that is
 * off says what was seen last, and when. The event vm.tools-old is written in one
 * transaction with the note that it was: once for each version of the guest beside
 * each version that its host expects. Worker threads.
 */
#pragma once

#include "engine/agent.h"
#include "engine/engine.h"

/*
 * The agent is there, and told `info` of itself (agent_info()). Asks it the rest.
 * False when a device has no driver, or nobody could tell.
 */
bool tools_heard(Engine *e, const char *vm_id, Agent *a, const Json *info);
/* It went away: from now on the record is of the past. */
void tools_gone(Engine *e, const char *vm_id);
/* This host expects another version than before: its guests are judged anew, without being asked. */
void tools_review(Engine *e);
