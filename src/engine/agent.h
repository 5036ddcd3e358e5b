/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest agent, a program inside the guest, and so nobody's friend: it may
 * be old, restarted at any moment, or the guest may put anything in its place.
 *
 * Calls block worker threads, one after the other, each with a deadline that
 * includes its turn. The loop only moves bytes: answers are parsed by the
 * thread that asked. The guest can make a call fail; it can't do more:
 *   - while nobody asks nothing is read, so a guest that floods waits in its
 *     own driver;
 *   - while somebody asks, a line has a bound, what is skipped has a bound, and
 *     what exceeds them ends the call and the connection, which is made again;
 *   - every answer is checked against the form in AGENT_CMD_TABLE.
 *
 * Whether an agent is there is known without asking: QEMU tells when the guest
 * opens the port. agent_set_open() is fed with that (engine/vmm.c does).
 *
 * A session is in sync after an answer that came in time; else the next call
 * begins with a sync (agent_wire.h), repeated every AGENT_SYNC_PAUSE, because
 * an agent that is just starting loses what was sent before; the call goes on
 * when the last of them is answered, for a slow agent answers each.
 *
 * States of the connection (loop's thread), and who moves it on:
 *     IDLE     nothing is read              -> SYNCING or CALLING   a call begins
 *     SYNCING  everything but the answer to
 *              a sync is skipped            -> CALLING   it came
 *     CALLING  the next unmarked line is
 *              the answer                   -> IDLE      it came
 * A deadline, a flood, a closed port or a lost socket lead back to IDLE, out of sync.
 */
#pragma once

#include "base/loop.h"

/* The longest line accepted; output of programs in the guest is bounded by it. */
#define AGENT_LINE_MAX (UINT64_C(4) << 20)
/* What may be skipped during one call. */
#define AGENT_SKIP_MAX (UINT64_C(16) << 20)
/* A request: what is sent into a guest in one call. */
#define AGENT_REQUEST_MAX (UINT64_C(1) << 20)
#define AGENT_CALLS_MAX 16
#define AGENT_SYNC_PAUSE UINT64_C(1000000)

typedef struct Agent Agent;

/* On the loop's thread: the guest opened or closed the port. */
typedef void (*AgentFunc)(bool open, void *data);

/*
 * For the agent's chardev, a unix socket that QEMU listens on. Connects at
 * once and stays so: an agent that nobody is connected to wakes its guest ten
 * times a second. Loop thread. `func` may be NULL. The caller owns a reference.
 */
Agent *agent_new(Loop *l, const char *path, AgentFunc func, void *data);
Agent *agent_ref(Agent *a);
/* From any thread; NULL is fine. Does not close. */
void agent_unref(Agent *a);
/*
 * Its calls, and later ones, fail with `why` (NULL: ERR_CANCELLED). Drops the owner's reference. Loop thread.
 * NULL is fine; returns NULL.
 */
Agent *agent_close(Agent *a, const GError *why);

/* What QEMU says of the port. Loop thread. */
void agent_set_open(Agent *a, bool open);

/* From any thread. */
bool agent_is_open(Agent *a);
/* How often the guest was asked something so far. */
uint64_t agent_calls(Agent *a);
/* Wait until the guest opens the port. ERR_TIMEOUT. Blocks; never on the loop's thread. */
bool agent_wait_open(Agent *a, uint64_t timeout, GError **err);

/*
 * One command of AGENT_CMD_TABLE; takes `args` (NULL: none). Blocks; never on
 * the loop's thread. New reference.
 *
 * ERR_AGENT: no agent is there, it went away, it refused, or answered nonsense
 * or too much (detail `bound`).
 * ERR_UNSUPPORTED: it does not have the command, or may not do it.
 * ERR_TIMEOUT; ERR_BUSY: too many calls wait; or as agent_close() says.
 */
Json *agent_call(Agent *a, const char *command, Json *args, uint64_t timeout, GError **err);
/*
 * The same for a command that is answered only when it fails (guest-shutdown):
 * true when the port closes, or when no refusal came within `timeout`.
 */
bool agent_tell(Agent *a, const char *command, Json *args, uint64_t timeout, GError **err);
/*
 * Wait without a call, but no longer than the agent is there. False when it is not: ERR_AGENT, or as
 * agent_close() says.
 */
bool agent_pause(Agent *a, uint64_t pause, GError **err);

// clang-format off
#define AGENT_CMD_TABLE(X)                                                                            \
	X("guest-ping", "{}", "{}")                                                                   \
	X("guest-info", "{}", "{version:s supported_commands:[{name:s enabled:b}]}")                  \
	X("guest-get-osinfo", "{}", "{id?:s name?:s pretty-name?:s version?:s version-id?:s "         \
				    "variant?:s variant-id?:s machine?:s kernel-release?:s "          \
				    "kernel-version?:s}")                                             \
	X("guest-get-host-name", "{}", "{host-name:s}")                                               \
	X("guest-get-time", "{}", "i")                                                                \
	X("guest-set-time", "{time?:i}", "{}")                                                        \
	X("guest-network-get-interfaces", "{}",                                                       \
	  "[{name:s hardware-address?:s "                                                             \
	  "ip-addresses?:[{ip-address:s ip-address-type:s prefix:i}]}]")                              \
	X("guest-shutdown", "{mode?:s(powerdown|halt|reboot)}", "{}")                                 \
	X("guest-exec", "{path:s arg?:[s] env?:[s] input-data?:s capture-output?:b}", "{pid:i}")      \
	X("guest-exec-status", "{pid:i}",                                                             \
	  "{exited:b exitcode?:i signal?:i out-data?:s err-data?:s out-truncated?:b "                 \
	  "err-truncated?:b}")                                                                        \
	X("guest-file-open", "{path:s mode?:s}", "i")                                                 \
	X("guest-file-read", "{handle:i count?:i}", "{count:i buf-b64:s eof:b}")                      \
	X("guest-file-close", "{handle:i}", "{}")                                                     \
	X("guest-fsfreeze-status", "{}", "s(thawed|frozen)")                                          \
	X("guest-get-devices", "{}",                                                                  \
	  "[{driver-name:s driver-version?:s id?:{vendor-id?:i device-id?:i}}]")                    \
	X("guest-fsfreeze-freeze", "{}", "i")                                                         \
	X("guest-fsfreeze-thaw", "{}", "i")
// clang-format on

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Agent, agent_unref)
