#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts what wakes QEMUs, with QEMU's own means and none of Plimsoll's, whoever started them.

    count.py --seconds 30 --intervals 3 NAME=PID=QMP_SOCKET ...

Per interval and QEMU, as JSON: reads and writes of emulated devices by region (trace events memory_region_ops_*),
timers (each callback of a timer locks its list again, and the lock profiler counts that), wakeups and CPU time of its
threads (/proc), exits and halts of the vcpus (query-stats, KVM only). Nobody asks QEMU anything during an interval.
"""
import argparse
import collections
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time

EVENTS = ("memory_region_ops_read", "memory_region_ops_write")
# Where timerlist_run_timers() locks behind a callback, by version of QEMU.
TIMER_SITE = {"7.2": "util/qemu-timer.c:577"}
# With -msg timestamp=on a line begins with thread, time and a colon.
ACCESS = re.compile(r"^(?:[0-9@.]+:)?memory_region_ops_(read|write) .* name '([^']*)'", re.M)
TICK = os.sysconf("SC_CLK_TCK")


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise SystemExit("%s: %s" % (command, answer["error"]["desc"]))
            if "return" in answer:
                return answer["return"]

    def human(self, line):
        return self.ask("human-monitor-command", **{"command-line": line})


def threads(pid):
    """{thread: (name, wakeups, seconds of CPU)}"""
    found = {}
    for tid in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/status" % (pid, tid), encoding="utf-8") as file:
                status = file.read()
            with open("/proc/%d/task/%s/stat" % (pid, tid), encoding="utf-8") as file:
                stat = file.read().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        wakeups = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])
        name = "main" if tid == str(pid) else re.search(r"^Name:\s+(.*)", status, re.M)[1]
        found[tid] = (name, wakeups, (int(stat[11]) + int(stat[12])) / TICK)
    return found


class Counter:
    def __init__(self, name, pid, path):
        self.name, self.pid, self.qmp = name, pid, Qmp(path)
        version = self.qmp.ask("query-version")["qemu"]
        self.site = TIMER_SITE.get("%d.%d" % (version["major"], version["minor"]))
        # QEMU may be somebody else, who may not open a stranger's file in /tmp itself (fs.protected_regular).
        self.folder = tempfile.mkdtemp(prefix="count.", dir="/tmp")
        os.chmod(self.folder, 0o777)
        self.log = os.path.join(self.folder, "trace")
        said = self.qmp.human("logfile " + self.log).strip()
        if said:
            raise SystemExit("%s can't trace: %s" % (name, said))
        self.qmp.human("sync-profile on")
        for event in EVENTS:
            self.qmp.ask("trace-event-set-state", name=event, enable=True)

    def kvm(self):
        total = collections.Counter()
        for vcpu in self.qmp.ask("query-stats", target="vcpu"):
            for stat in vcpu.get("stats", ()):
                if stat["name"] in ("exits", "halt_exits"):
                    total[stat["name"]] += stat["value"]
        return total

    def timers(self):
        if self.site is None:
            return None
        counts = [line.split() for line in self.qmp.human("info sync-profile 5000").splitlines() if self.site in line]
        return sum(int(words[words.index(self.site) + 2]) for words in counts)

    def begin(self):
        self.stats, self.fired = self.kvm(), self.timers()
        self.place = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        self.before = threads(self.pid)

    def end(self):
        after = threads(self.pid)
        found = []
        if os.path.exists(self.log):  # it is made with its first line
            with open(self.log, encoding="utf-8", errors="replace") as log:
                log.seek(self.place)
                found = ACCESS.findall(log.read())
        fired, stats = self.timers(), self.kvm()
        by = collections.defaultdict(lambda: {"wakeups": 0, "cpu": 0.0})
        for tid, (name, wakeups, cpu) in after.items():
            old = self.before.get(tid, (name, 0, 0.0))
            by[name]["wakeups"] += wakeups - old[1]
            by[name]["cpu"] = round(by[name]["cpu"] + cpu - old[2], 2)
        devices = collections.defaultdict(lambda: {"read": 0, "write": 0})
        for kind, device in found:
            devices[device][kind] += 1
        return {"timer": fired - self.fired if fired is not None else None,
                "read": sum(kind == "read" for kind, _ in found), "write": sum(kind == "write" for kind, _ in found),
                "main_wakeups": by["main"]["wakeups"], "wakeups": sum(t["wakeups"] for t in by.values()),
                "cpu": round(sum(t["cpu"] for t in by.values()), 2),
                "exits": stats["exits"] - self.stats["exits"] if stats else None,
                "halts": stats["halt_exits"] - self.stats["halt_exits"] if stats else None,
                "devices": devices, "threads": by}

    def close(self):
        for event in EVENTS:
            self.qmp.ask("trace-event-set-state", name=event, enable=False)
        self.qmp.human("sync-profile off")
        self.qmp.human("logfile /dev/null")
        shutil.rmtree(self.folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--intervals", type=int, default=1)
    parser.add_argument("qemu", nargs="+", metavar="NAME=PID=QMP_SOCKET")
    options = parser.parse_args()
    counters = []
    for word in options.qemu:
        name, pid, path = word.split("=", 2)
        counters.append(Counter(name, int(pid), path))
    try:
        result = {counter.name: [] for counter in counters}
        for _ in range(options.intervals):
            for counter in counters:
                counter.begin()
            time.sleep(options.seconds)
            for counter in counters:
                result[counter.name].append(counter.end())
        json.dump(result, sys.stdout)
    finally:
        for counter in counters:
            counter.close()


if __name__ == "__main__":
    main()
