#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server whose sessions grow, with fixed and with dynamic memory: requests in a second, and their latency.

    memory.py BUILD [--svg FILE] [--json FILE]

The experiment of docs/benchmarks.md#memory. Both guests are the same Linux with the same swap space and begin with the same memory;
one has memory.min and memory.max. A step adds a session, then requests are served in turn, each of which reads a whole session.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent.parent / "tests/lab"))

from lablib.linux import guest_files  # noqa: E402  (found by the lines above)
from rig import Daemon, machine  # noqa: E402

MIB = 1 << 20
START = 384 * MIB
WAYS = {"fixed": {}, "dynamic": {"memory.min": 256 * MIB, "memory.max": 2048 * MIB}}
MODULES = "virtio_pci virtio_console virtio_blk virtio_balloon virtio_mem".split()
LINE = re.compile(r"bench step (\d+) served (\d+) in (\d+) total (\d+) swapped (\d+)")
PATIENCE = 1800


def served(text):
    """Of each step what the guest told."""
    return [{"sessions": int(n), "per_second": int(count) * 100 / int(hundredths),
             "latency_ms": int(hundredths) * 10 / int(count), "total_kib": int(total), "swapped_kib": int(swapped)}
            for n, count, hundredths, total, swapped in LINE.findall(text)]


def measure(daemon, way, settings, options):
    init = (HERE / "server.sh").read_text(encoding="utf-8")
    kernel, initrd = (shutil.copy(file, daemon.dir) for file in guest_files(init, MODULES, {}))
    for file in (kernel, initrd):
        os.chmod(file, 0o644)
    disk = os.path.join(daemon.dir, f"swap-{way}.raw")
    with open(disk, "wb") as file:
        file.truncate(2 << 30)
    os.chmod(disk, 0o666)
    words = f"quiet steps={options.steps} session={options.session} seconds={options.seconds}"
    daemon.create(way, {"memory.start": START, "boot.kernel": kernel, "boot.initrd": initrd, "boot.cmdline": words, **settings},
                  disks=[{"name": "swap", "path": disk, "format": "raw"}], nics=[])
    daemon.call("POST", f"/v1/vms/{way}/actions/start?wait=600")
    deadline = time.monotonic() + PATIENCE
    while True:
        text = daemon.text(f"/v1/vms/{way}/console/log")
        if "bench end" in text:
            return served(text)
        if time.monotonic() > deadline:
            sys.exit(f"the guest did not end within {PATIENCE} s: {text[-500:]}")
        time.sleep(1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--steps", type=int, default=30)
    p.add_argument("--session", type=int, default=16, help="MiB of each")
    p.add_argument("--seconds", type=int, default=3, help="of each step")
    p.add_argument("--svg", help="write the picture here")
    p.add_argument("--json", help="write the figures here")
    options = p.parse_args()
    results = {}
    print(machine())
    for way, settings in WAYS.items():
        with Daemon(options.build) as daemon:
            results[way] = measure(daemon, way, settings, options)
    print(f"{'MiB of sessions':>15} " + " ".join(f"{way + ' /s':>12} {'ms':>8} {'MiB':>6} {'swapped':>8}" for way in results))
    for rows in zip(*results.values()):
        print(f"{rows[0]['sessions'] * options.session:>15} " + " ".join(
            f"{r['per_second']:>12.1f} {r['latency_ms']:>8.0f} {r['total_kib'] // 1024:>6} {r['swapped_kib'] // 1024:>8}" for r in rows))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    if options.svg:
        from chart import draw  # pylint: disable=import-outside-toplevel
        pathlib.Path(options.svg).write_text(draw(results, options.session), encoding="utf-8")


if __name__ == "__main__":
    main()
