#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""plim soak migrate for long: payload guests between two daemons on this machine, records in a real etcd.

    bench/soak/soak.py [--build build] [--trips 2000] [--guests 4] [--seed N] [-o json]

Ends with the status of plim: 0 when nothing was wrong. Of a deviation the folder soak-NAME-TIME is left here.
"""
import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import ends  # noqa: E402  (found by the line above)

MEMORY = "32640KiB"  # no multiple of 256 KiB: see docs/payload.md


def start(host, name, payload):
    host.ok("vm", "create", name, "--memory", MEMORY, "--kernel", payload, "--nic", "none", "--cmdline",
            "out=serial job=soak:4:8", "--set", "platform.hvm_serial=pty", "--host", host.name)
    host.ok("vm", "start", name, "--host", host.name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--trips", default=2000, type=int)
    parser.add_argument("--guests", default=4, type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("-o", choices=("table", "json"), default="table")
    args = parser.parse_args()
    os.environ["PLIMSOLL_BUILD"] = str(args.build.resolve())
    sys.path.insert(0, str(ROOT / "tests/e2e"))
    from daemon import PAYLOAD, PLIM, until  # the build must be named before
    from pool import Pool
    pool = Pool(engine="qemu", lease="30")
    try:
        pool.start(2)
        names = [f"g{i}" for i in range(args.guests)]
        for name in names:
            start(pool[0], name, PAYLOAD)
        for name in names:
            until(lambda n=name: b"\nsoak " in (pool[0].api("GET", f"/v1/vms/{n}/console/log?port=serial").body or b""),
                  f"first line of {name}")
        words = ["soak", "migrate", *names, "--between", "h0,h1", "--count", str(args.trips)]
        words += ["--seed", str(args.seed)] if args.seed is not None else []
        words += ["-o", "json"] if args.o == "json" else []
        env = dict(os.environ, PLIMSOLL_SOCKET=str(pool[0].socket), LC_ALL="C.UTF-8")
        status = subprocess.run([PLIM, *words], env=env, stdin=subprocess.DEVNULL, check=False).returncode
    finally:
        pool.close()
    sys.exit(status)


ends.run(main)
