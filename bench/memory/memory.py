#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An Apache under growing load, with fixed and with dynamic memory: transactions in a second and their latency over time.

    memory.py BUILD [--svg FILE] [--json FILE]

The experiment of docs/memory.md. Both guests are the same Linux with the same swap space on a disk of 300 requests a second, and
begin with the same memory; one has memory.min and memory.max. Each client keeps a worker of Apache busy, and each worker has an
application of some MiB of its own. Clients come one after the other.
"""
import argparse
import asyncio
import json
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import ends  # noqa: E402  (found by the line above)
from load import summary  # noqa: E402
from rig import Daemon, machine  # noqa: E402
from server import MIB, Server, system  # noqa: E402

START = 384 * MIB
WAYS = {"fixed": {}, "dynamic": {"memory.min": 256 * MIB, "memory.max": 4096 * MIB}}


def memory_of(daemon, name):
    """What the guest has of its host, MiB."""
    return daemon.get(f"/v1/vms/{name}/balance")["memory"] // MIB


async def measure(daemon, way, settings, options):
    server = Server(daemon, system(daemon), way, {"memory.start": START, **settings}, options.think)
    await asyncio.to_thread(server.start)
    await server.ready()
    clients, rows = server.clients, []
    clients.path = f"/app?{options.mib}"
    clients.set(options.first)
    while len(clients.seen) < 2 * options.first:
        await asyncio.sleep(0.1)
    asking = asyncio.ensure_future(server.keep_asking())
    begin = time.monotonic()
    while (at := time.monotonic() - begin) < options.seconds:
        clients.set(options.first + round((options.last - options.first) * at / options.seconds))
        count = len(clients.tasks)
        clients.seen.clear()
        since = time.monotonic()
        await asyncio.sleep(options.slice)
        row = {"seconds": round(at + options.slice), "clients": count, **summary(clients.seen, time.monotonic() - since)}
        status = server.told
        row.update(memory_mib=await asyncio.to_thread(memory_of, daemon, way), total_mib=status["total"] // 1024,
                   swapped_mib=(status["swap_total"] - status["swap_free"]) // 1024, oom_kills=status["oom_kills"])
        rows.append(row)
        print(way, row, file=sys.stderr, flush=True)
    asking.cancel()
    await clients.end()
    return rows


def table(results):
    print(f"{'s':>4} {'clients':>7} " + " ".join(f"{way + ' /s':>12} {'p50 ms':>7} {'p99 ms':>7} {'MiB':>5} {'swapped':>7}" for way in results))
    for rows in zip(*results.values()):
        print(f"{rows[0]['seconds']:>4} {rows[0]['clients']:>7} " + " ".join(
            f"{r['per_second']:>12.1f} {r['p50_ms'] or 0:>7.0f} {r['p99_ms'] or 0:>7.0f} {r['memory_mib']:>5} {r['swapped_mib']:>7}"
            for r in rows))
    for way, rows in results.items():
        print(f"{way}: {sum(r['failed'] for r in rows)} requests failed, {rows[-1]['oom_kills']} processes were killed for want of memory")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--first", type=int, default=6, help="clients at the begin")
    p.add_argument("--last", type=int, default=64, help="clients at the end")
    p.add_argument("--mib", type=int, default=12, help="of each worker's application")
    p.add_argument("--think", type=float, default=2.5, help="seconds between a client's requests")
    p.add_argument("--seconds", type=int, default=110, help="for each way")
    p.add_argument("--slice", type=int, default=5, help="seconds in a row of the table")
    p.add_argument("--svg", help="write the picture here")
    p.add_argument("--json", help="write the figures here")
    options = p.parse_args()
    results = {}
    print(machine(), flush=True)
    for way, settings in WAYS.items():
        with Daemon(options.build) as daemon:
            results[way] = asyncio.run(measure(daemon, way, settings, options))
    print(machine())
    table(results)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    if options.svg:
        from chart import draw  # pylint: disable=import-outside-toplevel
        pathlib.Path(options.svg).write_text(draw(results), encoding="utf-8")


if __name__ == "__main__":
    ends.run(main)
