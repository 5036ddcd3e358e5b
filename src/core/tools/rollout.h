/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan of a rollout of guest tools: which guests, in which waves, how. Pure.
 *
 * A plan is made from what `GET /v1/tools` answers, and is data: printed, it is
 * what --dry-run shows. Guests come in the order of their names, so that the same
 * guests make the same plan. Who is not upgraded is in it too, with the reason. A
 * guest that has been upgraded is current, and so not in the next plan: a rollout
 * that was broken off is taken up by making it again.
 */
#pragma once

#include "base/err.h"

/*
 * What upgrades the agent in a guest whose os-release(5) has that ID. Each takes
 * away no question and needs no terminal. To the agent's service they add what
 * not every package does by itself: that the new one is what runs.
 */
// clang-format off
#define ROLLOUT_DEBIAN "export DEBIAN_FRONTEND=noninteractive; apt-get -q update && " \
		       "apt-get -q -y install --only-upgrade qemu-guest-agent"
#define ROLLOUT_DNF    "dnf -y -q upgrade qemu-guest-agent"
#define ROLLOUT_ZYPPER "zypper --non-interactive --quiet update qemu-guest-agent"
#define ROLLOUT_TABLE(X)                              \
	X("debian",              ROLLOUT_DEBIAN)      \
	X("ubuntu",              ROLLOUT_DEBIAN)      \
	X("linuxmint",           ROLLOUT_DEBIAN)      \
	X("fedora",              ROLLOUT_DNF)         \
	X("rhel",                ROLLOUT_DNF)         \
	X("centos",              ROLLOUT_DNF)         \
	X("rocky",               ROLLOUT_DNF)         \
	X("almalinux",           ROLLOUT_DNF)         \
	X("ol",                  ROLLOUT_DNF)         \
	X("opensuse-leap",       ROLLOUT_ZYPPER)      \
	X("opensuse-tumbleweed", ROLLOUT_ZYPPER)      \
	X("sles",                ROLLOUT_ZYPPER)
// clang-format on

/*
 * In a guest with Windows that has the disk of virtio-win in a drive: nobody knows
 * which letter that gets, nor how soon, so it is looked for during a minute. The
 * lone `exit` ends with what the setup ended with. No quotes: the agent would
 * write them as no cmd.exe reads them.
 */
#define ROLLOUT_WINDOWS                                                                                       \
	"(for /l %i in (1,1,60) do @((for %d in (D E F G H I J K L M N O P Q R S T U V W X Y Z) do @if "      \
	"exist %d:\\virtio-win-guest-tools.exe (start /wait %d:\\virtio-win-guest-tools.exe /install /quiet " \
	"/norestart & exit)) & ping -n 2 127.0.0.1 >nul)) & echo no drive has virtio-win-guest-tools.exe & "  \
	"exit 1"

/* NULL: no way is known. */
const char *rollout_command_of(const char *os_id);

struct rollout_options {
	unsigned percent;    /* size of a wave, of all that are upgraded; or: */
	unsigned count;      /* guests of a wave; 0: percent */
	const char *version; /* that they shall come to; NULL: the one that its host expects of each */
	const char *command; /* for all of them; NULL: by their system */
	bool disk;           /* there is a disk of tools, for those that no package manager upgrades */
};

/* "10%" or "3". ERR_INVALID with advice. */
bool rollout_wave_parse(const char *text, struct rollout_options *ret, GError **err);

/*
 * {guests: N, waves: [[{id, name, host, os, windows, from, to, command, disk}]],
 *  skipped: [{name, reason}]}; `guests` as the API lists them. New reference.
 */
Json *rollout_plan(const Json *guests, const struct rollout_options *o);

/* Of the list that the plan is made of: that guest has no place for the disk. Where it would need one it is
 * left alone. */
void rollout_take_no_disk(Json *guests, const char *id, const char *reason);

/*
 * The words that run the guest's command through its agent. A package stops the
 * agent's service to replace it, and systemd ends with it all that the agent
 * started, the package manager in the middle of its work included: so it is run
 * as a unit of its own (plimsoll-tools), where there is systemd. New reference.
 */
Json *rollout_words(const Json *guest);

/* What the command ended with is a success. Of a setup of Windows also that it would like a restart. */
bool rollout_succeeded(const Json *guest, int64_t exitcode);

/* Does an agent's `version` (may be NULL) reach `to`? */
bool rollout_reached(const char *version, const char *to);
