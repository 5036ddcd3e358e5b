# SPDX-License-Identifier: Apache-2.0
"""What one start and one kill may cost, counted and not timed: a slow machine changes none of it.

bench/start has the times. Whoever raises a number here says in the commit what it buys.
"""
import contextlib
import os
import re
import signal
import subprocess

import pytest

from daemon import PAYLOAD, PLIM, PLIMSOLLD, until

# Commits to the store: the begin, the two steps of a start that are told or change what a crash leads to, the end,
# the event. Syncs: of the begin when a step leaves something on disk (a file is opened to QEMU), and of the end; a
# kill syncs its begin, while QEMU quits, and not its end. Commands to QEMU, which takes a third of a millisecond over
# each: capabilities, the features of the CPU, cont, the chardevs behind that; when this CPU is made for the first time,
# its vendor and six numbers too.
LIMITS = {
    "start": {"commits": 5, "syncs": 2, "commands": 4, "programs": 1, "requests": 1},
    "kill": {"commits": 3, "syncs": 1, "commands": 1, "programs": 0, "requests": 1},
}
NEW_CPU = 7
# What others do by chance at the same time, a checkpoint of the store say, is counted too, and not each time. On a slow
# machine there is more of it; it ends with the first rounds that show the limits kept.
TRIES = 12
# Shared libraries that plim loads, the loader and the kernel's own left out: each costs every command some 50 us.
LIBRARIES = 8


def is_traced(pid):
    """All of its threads that live; some are for a moment only."""
    def is_free(task):
        try:
            return "TracerPid:\t0\n" in open(f"/proc/{pid}/task/{task}/status", encoding="ascii").read()
        except (FileNotFoundError, ProcessLookupError):
            return False
    return not any(map(is_free, os.listdir(f"/proc/{pid}/task")))


@contextlib.contextmanager
def traced(pid, path):
    """Afterwards the system calls of the process that cost, and of what it started, are in the file."""
    calls = "trace=fdatasync,fsync,sync_file_range,sendmsg,sendto,execve"
    with subprocess.Popen(["strace", "-f", "-q", "-s", "100", "-e", calls, "-o", path, "-p", str(pid)]) as strace:
        try:
            until(lambda: is_traced(pid), "strace that has begun")
            yield
        finally:
            strace.send_signal(signal.SIGINT)


def cost_of(daemon, verb, path):
    before = daemon.get("/v1")["revision"]
    with traced(daemon.process.pid, path):
        ran = daemon.plim("vm", verb, "a", "--debug")
        after = daemon.get("/v1")["revision"]
    assert ran.status == 0, ran
    calls = path.read_text(errors="replace")
    return {
        "commits": after - before,
        "syncs": len(re.findall(r"\b(?:fdatasync|fsync|sync_file_range)\(", calls)),
        "commands": len(re.findall(r'"\{\\"execute\\"', calls)),
        "programs": len(re.findall(r"\bexecve\(", calls)),
        "requests": len(re.findall(r"^> [A-Z]+ /", ran.err, re.M)),
    }


def least(rounds, verb):
    return {what: min(r[verb][what] for r in rounds) for what in LIMITS[verb]}


def is_kept(verb, cost):
    return all(cost[what] <= limit for what, limit in LIMITS[verb].items())


def test_a_start_and_a_kill_cost_no_more_than_is_known(daemon, tmp_path):
    daemon.wait_event("host.cpu-found")  # the last of what a new daemon does by itself
    daemon.ok("vm", "create", "a", "--memory", "16MiB", "--kernel", str(PAYLOAD), "--nic", "none")
    first = {verb: cost_of(daemon, verb, tmp_path / verb) for verb in LIMITS}
    assert first["start"]["commands"] <= LIMITS["start"]["commands"] + NEW_CPU, first
    rounds = []
    while len(rounds) < TRIES and not (rounds and all(is_kept(verb, least(rounds, verb)) for verb in LIMITS)):
        rounds.append({verb: cost_of(daemon, verb, tmp_path / verb) for verb in LIMITS})
    for verb, limits in LIMITS.items():
        cost = least(rounds, verb)
        assert cost["commits"] > 0 and cost["commands"] > 0, f"nothing was counted: {cost}"
        assert is_kept(verb, cost), f"{verb}: {cost}, limits {limits}"


@pytest.mark.parametrize("program", [PLIM, PLIMSOLLD])
def test_only_the_daemon_loads_libcurl(program):
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
    libraries = [line.split()[0] for line in done.stdout.splitlines() if "=>" in line]
    assert ("curl" in done.stdout) == (program == PLIMSOLLD)
    assert program == PLIMSOLLD or len(libraries) <= LIBRARIES, libraries
