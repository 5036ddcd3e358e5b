#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many guests a host carries with the same level of service, with fixed and with dynamic memory.

    density.py BUILD [--duty PERCENT] [--json FILE] [--trace FILE]

Each guest is an Apache that most of the time has little to do, and once in a period a peak, for a share (the duty) of it. The
peaks of the guests are spread over the period as evenly as can be (guest n begins at n times the golden ratio of it): the
figure depends on that, on the duty, and on how fast a peak rises: here within half of it. First one guest is measured alone,
for one such peak, with room to spare, and then with what it needed there and 20 percent on top: the kernel of a larger guest
keeps more for itself. The latency of both together is what the bound is made of. What it needs then and 20 percent on top is
the fixed memory, and memory.max of the dynamic guests. Then guests are added one by one, each number of them for one period,
until the host refuses one, a request fails, a guest swaps or kills, or the 99th percentile of the latency is above the bound.
What a host with dynamic guests refuses while many have their peak it may have room for a moment later: it is asked again for a
period.

Where the machine is a guest itself, its host may take its CPUs away, and what is slow then says nothing of memory. A level in
which it took more than 5 percent of them and in which nothing but the latency was bad is measured again, three times at most.
Each is told.

The budget of the host is what a whole number of fixed guests take, so that none of it is left over with them. It is for the
guests' own memory and what QEMU takes beside it under KVM: the code that TCG translates is left out.

With --trace each guest has a line of JSON there each second: its clients, their slowest answer of that second, and what the
daemon decided and why.
"""
import argparse
import asyncio
import json
import math
import pathlib
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import ends  # noqa: E402  (found by the line above)
from load import leave, summary  # noqa: E402
from rig import Daemon, machine  # noqa: E402
from server import MIB, Server, system  # noqa: E402

GOLDEN = 0.618034
RAMP_UP, RAMP_DOWN = 0.5, 0.1  # of a peak
BUFFER = 1.2
ROOMY = 1024 * MIB
KVM_OVERHEAD = 28 * MIB  # docs/density.md: a QEMU with one vcpu and no display
BLOCK = 16 * MIB
STOLEN, TRIES = 5, 3  # percent
LOOK = 1  # seconds between two looks of the daemon: peaks last seconds here, and hours elsewhere


def clients_at(share, options):
    """How many a guest has, `share` of a period after its peak began."""
    at = share / (options.duty / 100)
    if at >= 1:
        return options.quiet
    full = min(1.0, at / RAMP_UP, (1 - at) / RAMP_DOWN)
    return options.quiet + round((options.peak - options.quiet) * full)


class Stolen:
    """The share of this machine's CPUs that its own host took since this was made, percent."""

    def __init__(self):
        self.begin = self.look()

    @staticmethod
    def look():
        ticks = [int(n) for n in pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        return ticks[7], sum(ticks)

    def percent(self):
        taken, all_of_them = (b - a for a, b in zip(self.begin, self.look()))
        return 100 * taken / max(1, all_of_them)


class Host:
    """A daemon, its budget, and the guests on it."""

    def __init__(self, daemon, settings, options):
        self.daemon, self.settings, self.options = daemon, settings, options
        self.files = system(daemon)
        self.id = daemon.get("/v1/hosts")[0]["id"]
        self.servers, self.tasks, self.overhead, self.most = [], [], 0, 0

    def limits(self):
        return self.daemon.call("GET", f"/v1/hosts/{self.id}/limits")["memory"]

    def set_budget(self):
        """Half of what is not kept may be promised, so that what others take of this machine is not counted."""
        guests = len(self.servers) + 1
        limit = self.options.budget * MIB + guests * max(0, self.overhead - KVM_OVERHEAD)
        self.daemon.call("PATCH", f"/v1/hosts/{self.id}", {"settings": {
            "memory.overcommit": 50, "memory.reserve": self.limits()["total"] - 2 * limit}})

    def start(self, server):
        """The refusal, or None."""
        deadline = time.monotonic() + (self.options.period if "memory.max" in self.settings else 0)
        while True:
            try:
                return server.start()
            except SystemExit as refusal:
                if '"limit"' not in str(refusal):
                    raise
                if time.monotonic() > deadline:
                    return "refused: " + re.search(r'"message":"([^"]+)"', str(refusal))[1]
            time.sleep(1)

    def add(self):
        """One more guest; the refusal, or None."""
        name = f"guest{len(self.servers)}"
        server = Server(self.daemon, self.files, name, self.settings, self.options.think)
        server.clients.path = f"/app?{self.options.mib}"
        if self.servers:
            self.set_budget()
        refusal = self.start(server)
        if refusal:
            return refusal
        if not self.servers:
            self.overhead = self.limits()["claimed"] - self.settings["memory.start"]
        self.servers.append(server)
        return None

    async def live(self, server, phase):
        while True:
            share = (time.monotonic() / self.options.period - phase) % 1
            server.clients.set(clients_at(share, self.options))
            await asyncio.sleep(0.5)

    async def begin(self):
        """The last one added gets its clients."""
        server = self.servers[-1]
        await server.ready()
        self.tasks.append(asyncio.ensure_future(self.live(server, (len(self.servers) - 1) * GOLDEN)))

    async def end(self):
        await leave(self.tasks)
        for server in self.servers:
            await server.clients.end()

    async def statuses(self):
        """Of each guest; of one that did not answer the error."""
        return await asyncio.gather(*(s.status() for s in self.servers), return_exceptions=True)

    def trace(self, server, told):
        now = time.monotonic()
        took = [seconds or 0 for at, seconds in server.clients.seen[-100:] if at > now - 1]
        row = {"t": round(now, 1), "guests": len(self.servers), "guest": server.name, "clients": len(server.clients.tasks),
               "slowest_ms": round(max(took, default=0) * 1000)}
        print(json.dumps({**row, **(told["decision"] or {}), "host": told["host"]}), file=self.options.trace, flush=True)

    def held(self):
        """What all guests have, MiB."""
        most = 0
        for server in self.servers:
            told = self.daemon.get(f"/v1/vms/{server.name}/balance")
            most += told["memory"]
            if self.options.trace:
                self.trace(server, told)
        return most // MIB

    async def watch(self):
        """Keeps the most that they have had, MiB."""
        while True:
            self.most = max(self.most, await asyncio.to_thread(self.held))
            await asyncio.sleep(1)

    async def level(self):
        """One period with the guests that there are."""
        before, begin, stolen = await self.statuses(), time.monotonic(), Stolen()
        self.most = 0
        for server in self.servers:
            server.clients.seen.clear()
        await asyncio.sleep(self.options.period)
        seconds, stolen = time.monotonic() - begin, stolen.percent()
        seen = [one for server in self.servers for one in server.clients.seen]
        after = await self.statuses()
        told = [(a, b) for a, b in zip(before, after) if isinstance(a, dict) and isinstance(b, dict)]
        return {"guests": len(self.servers), **summary(seen, seconds), "most_mib": self.most, "stolen": stolen,
                "silent": len(after) - len(told),
                "swapped_pages": sum(b["swap_out"] - a["swap_out"] for a, b in told),
                "oom_kills": sum(b["oom_kills"] - a["oom_kills"] for a, b in told)}


def broken(row, bound):
    """What is wrong with a level, or None."""
    checks = ((row["silent"], f"{row['silent']} guests did not answer"), (row["failed"], f"{row['failed']} requests failed"), (row["oom_kills"], f"{row['oom_kills']} processes were killed"),
              (row["swapped_pages"], f"guests swapped {row['swapped_pages']} pages out"),
              (row["p99_ms"] is None or row["p99_ms"] > bound, f"p99 is {row['p99_ms'] or 0:.0f} ms, the bound {bound:.0f}"))
    return next((words for bad, words in checks if bad), None)


def disturbed(row):
    """Nothing but the latency can be bad, and not by its memory."""
    return row["stolen"] > STOLEN and not broken(row, math.inf)


def with_buffer(need):
    return -(-int(need * BUFFER) // BLOCK) * BLOCK


async def alone(daemon, size, options):
    """(what it needs in a peak, what its clients saw while that rises, lasts and ends, seconds) of a guest with that size."""
    host = Host(daemon, {"memory.start": size}, options)
    host.add()
    server, need = host.servers[0], 0
    await server.ready()
    begin, lasts = time.monotonic(), options.period * options.duty / 100
    while time.monotonic() < begin + lasts:
        server.clients.set(clients_at((time.monotonic() - begin) / options.period, options))
        status = await server.status()
        need = max(need, size - status["available"] * 1024)
        await asyncio.sleep(0.5)
    seconds = time.monotonic() - begin
    await server.clients.end()
    return need, server.clients.seen, seconds


async def fill(daemon, way, settings, bound, options):
    """The levels, and why there is no more."""
    host, rows, bad, refusal = Host(daemon, settings, options), [], None, None
    host.tasks.append(asyncio.ensure_future(host.watch()))
    while not bad and not refusal and len(host.servers) < options.most:
        refusal = await asyncio.to_thread(host.add)
        if not refusal:
            await host.begin()
        # Of a host that refuses so soon what it has is measured.
        if (rows if refusal else len(host.servers) < options.begin) or not host.servers:
            continue
        for _ in range(TRIES):
            row = await host.level()
            bad = row["broken"] = broken(row, bound)
            rows.append(row)
            print(f"{way:>8} {row['guests']:>6} {row['per_second']:>7.1f} {row['p50_ms'] or 0:>7.0f} {row['p99_ms'] or 0:>7.0f} "
                  f"{row['most_mib']:>9} {row['swapped_pages']:>8} {row['stolen']:>7.1f}  {bad or 'good'}", flush=True)
            if not bad or not disturbed(row):
                break
    await host.end()
    return rows, bad or refusal or "no more were asked for"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--full", type=int, default=5, help="guests with fixed memory that the host has room for, and not a MiB more")
    p.add_argument("--duty", type=int, default=25, help="percent of the period that a peak takes")
    p.add_argument("--period", type=int, default=180, help="seconds")
    p.add_argument("--quiet", type=int, default=1, help="clients of a guest between its peaks")
    p.add_argument("--peak", type=int, default=24, help="clients of a guest at its peak")
    p.add_argument("--mib", type=int, default=20, help="of each worker's application")
    p.add_argument("--think", type=float, default=2.0, help="seconds between a client's requests")
    p.add_argument("--bound", type=float, default=10, help="times the 99th percentile of one guest alone")
    p.add_argument("--min", type=int, default=256, help="MiB, of the dynamic guests")
    p.add_argument("--start", type=int, default=256, help="MiB, of the dynamic guests")
    p.add_argument("--begin", type=int, default=7, help="guests of the first level that is measured")
    p.add_argument("--most", type=int, default=20, help="guests")
    p.add_argument("--ways", default="fixed,dynamic")
    p.add_argument("--method", default="balloon", help="memory.method of the dynamic guests")
    p.add_argument("--buffer", type=int, default=25, help="memory.buffer of the dynamic guests, percent")
    p.add_argument("--json", help="write the figures here")
    p.add_argument("--trace", type=argparse.FileType("w", encoding="utf-8"), help="write what the daemon decided here")
    options = p.parse_args()
    print(machine(), flush=True)
    size, all_seen, all_seconds = ROOMY, [], 0
    for _ in range(2):
        stolen = Stolen()
        with Daemon(options.build) as daemon:
            need, seen, seconds = asyncio.run(alone(daemon, size, options))
        row = summary(seen, seconds)
        print(f"alone with {size // MIB} MiB: needs {need // MIB} MiB at its peak, {row['per_second']:.1f} /s, "
              f"p50 {row['p50_ms']:.0f} ms, p99 {row['p99_ms']:.0f} ms, CPU stolen {stolen.percent():.1f} %", flush=True)
        size, all_seen, all_seconds = with_buffer(need), all_seen + seen, all_seconds + seconds
    row = summary(all_seen, all_seconds)
    bound = row["p99_ms"] * options.bound
    options.budget = options.full * (size + KVM_OVERHEAD) // MIB
    print(f"fixed memory: {size // MIB} MiB; bound: p99 of {bound:.0f} ms; budget {options.budget} MiB; duty {options.duty} % of "
          f"{options.period} s")
    ways = {"fixed": {"memory.start": size},
            "dynamic": {"memory.start": options.start * MIB, "memory.min": options.min * MIB, "memory.max": size,
                        "memory.method": options.method, "memory.buffer": options.buffer}}
    print("     way guests      /s  p50 ms  p99 ms  most MiB  swapped  stolen")
    results = {}
    for way in options.ways.split(","):
        with Daemon(options.build, arguments=("--memory-sample", str(LOOK))) as daemon:
            rows, why = asyncio.run(fill(daemon, way, ways[way], bound, options))
        good = max((r["guests"] for r in rows if not r["broken"]), default=0)
        results[way] = {"rows": rows, "why": why, "guests": good}
        print(f"{way}: {good} guests; then: {why}", flush=True)
    if len(results) == 2 and results["fixed"]["guests"]:
        print(f"dynamic / fixed: {results['dynamic']['guests'] / results['fixed']['guests']:.2f}")
    print(machine())
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"alone": {"need": need, **row}, **results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    ends.run(main)
