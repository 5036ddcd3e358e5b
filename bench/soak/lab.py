#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""plim soak migrate under KVM: a payload guest between two lab hosts with unlike CPUs (docs/lab.md).

    bench/soak/lab.py [--build build] [--trips 20] [--seed N]

Prints what plim prints and ends with its status: 0 when nothing was wrong.
"""
import argparse
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import ends  # noqa: E402  (found by the line above)

CREATE = ("vm", "create", "test1", "--kernel", "/run/payload/payload.elf", "--cmdline", "out=serial job=soak:4:8", "--memory",
          "32MiB", "--nic", "none", "platform.hvm_serial=pty", "--host", "host1")
HOUR = 3600.0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--trips", default=20, type=int)
    parser.add_argument("--seed", default=1, type=int)
    args = parser.parse_args()
    os.environ["PLIMSOLL_BUILD"] = str(args.build.resolve())
    sys.path.insert(0, str(ROOT / "tests/lab"))
    from lablib import Lab, wait_for  # the build must be named before
    from pool_tour import ETCD, HOSTS, SEEN_TIMEOUT, TIMEOUT, prepared
    with Lab(*HOSTS[:2]) as lab:
        prepared(lab)
        one, two = lab["host1"], lab["host2"]
        one.plim_ok("pool", "init", "--address", "10.77.0.1", "--etcd", ETCD, timeout=TIMEOUT)
        token = one.plim_ok("pool", "token").split()[0]
        two.plim_ok("pool", "join", "--token", token, timeout=TIMEOUT)
        one.plim_ok(*CREATE)
        one.plim_ok("vm", "start", "test1", "--host", "host1", timeout=TIMEOUT)
        wait_for(lambda: "\nsoak " in one.plim_ok("vm", "console", "test1", "--serial", "--log"), SEEN_TIMEOUT, "a line of it")
        assert one.plim("vm", "show", "test1")["runtime"]["accel"] == "kvm"
        done = one.plim_run("soak", "migrate", "test1", "--between", "host1,host2", "--count", str(args.trips), "--seed",
                            str(args.seed), "--margin", "10s", timeout=HOUR)
    print(done.text, end="")
    print(done.stderr.decode(errors="replace"), end="", file=sys.stderr)
    sys.exit(done.status)


ends.run(main)
