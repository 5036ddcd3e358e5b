#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Live migration: what Plimsoll costs beside bare QEMU driven by a minimal script.

    bench/migrate/migrate.py [--build build] [--runs 10] [--trips 0] [-o json]

A payload guest of 512 MiB with the same machine, processor and devices everywhere (bare QEMU gets them from Plimsoll's own command
line), idle and busy (it writes 30 MiB/s into 24 MiB and checks what it wrote), and idle with a disk that both hosts see, moves
between two QEMUs on one machine. By turns: bare, with the same encryption bare, and by Plimsoll (two daemons in a pool, records in an etcd that
syncs to disk). Downtime is from QEMU's STOP over here to its RESUME over there; Plimsoll's is what it records itself of the same two
events, one way of an answer between the daemons guessed as half of both. Total is from the command to send until that RESUME, both
QEMUs being up.
--trips N adds N moves of one busy small guest there and back, after each of which all it wrote is looked at.
"""
import argparse
import json
import os
import pathlib
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import ends  # noqa: E402  (found by the line above)

MEMORY = "524160"  # KiB; no multiple of 256: see docs/payload.md
SMALL = "32640"
# Of Plimsoll's command line for the guest what is left out: its control, its sandbox, and what tells of the vm's identity. The
# hardware stays: each device is state to save and to load while the guest stands still.
LEFT_OUT = {"-name", "-uuid", "-sandbox", "-msg", "-incoming", "-append", "-mon", "-chardev"}
JOBS = {"idle": "out=serial job=idle", "busy": "out=serial job=dirty:30:24", "idle, with a disk": "out=serial job=idle"}
WITH_DISK = {"idle, with a disk"}
DISK_SIZE = 64 << 20
WARM_UP = 3.0
DEADLINE = 120


class Qmp:
    def __init__(self, path):
        end = time.monotonic() + DEADLINE
        self.sock = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.sock.connect(path)
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.002)
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self.events = []
        self("qmp_capabilities")

    def read(self):
        message = json.loads(self.file.readline())
        if "event" in message:
            stamp = message["timestamp"]
            self.events.append((message["event"], message.get("data", {}), stamp["seconds"] * 10**6 + stamp["microseconds"]))
        return message

    def __call__(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            message = self.read()
            if "event" not in message:
                return message["return"]

    def wait(self, name, **data):
        """The time of the event, in microseconds."""
        while True:
            for event, args, at in self.events:
                if event == name and all(args.get(k) == v for k, v in data.items()):
                    return at
            self.read()


def disk_file(path):
    with open(path, "wb") as file:
        file.truncate(DISK_SIZE)
    return path


def hardware(pid):
    """The words of a QEMU of Plimsoll's that say what its guest is made of, its character devices leading nowhere."""
    words = iter(pathlib.Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0"))
    kept = [next(words)]
    for word in words:
        if word == "-S":
            continue
        value = next(words) if word not in ("-nodefaults", "-no-user-config") else None
        if word == "-chardev":
            name = re.search("id=([^,]+)", value).group(1)
            kept += ["-chardev", f"null,id={name}"]
        elif word not in LEFT_OUT:
            kept += [word] if value is None else [word, value]
    return kept


def bare_qemu(folder, name, words, job, *more):
    sock = f"{folder}/{name}.qmp"
    process = subprocess.Popen([*words, "-append", job, "-qmp", f"unix:{sock},server=on,wait=off", *more])
    return process, Qmp(sock)


def bare(words, job, tls):
    """(downtime, total) in us of one migration by a minimal script."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "keys.psk").write_text(f"qemu:{secrets.token_hex(32)}\n")
        source, a = bare_qemu(folder, "a", words, job)
        time.sleep(WARM_UP)
        target, b = bare_qemu(folder, "b", words, job, "-incoming", "defer")
        try:
            for q, end in ((a, "client"), (b, "server")):
                q("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
                q("migrate-set-parameters", **{"max-bandwidth": 0})
                if tls:
                    q("object-add", **{"qom-type": "tls-creds-psk", "id": "k", "dir": folder, "endpoint": end})
                    q("migrate-set-parameters", **{"tls-creds": "k"})
            b("migrate-incoming", uri="tcp:127.0.0.1:0")
            port = b("query-migrate")["socket-address"][0]["port"]
            began = time.time() * 10**6
            a("migrate", uri=f"tcp:127.0.0.1:{port}")
            a.wait("MIGRATION", status="completed")
            resumed = b.wait("RESUME")
            return resumed - a.wait("STOP"), resumed - began
        finally:
            for process in (source, target):
                process.kill()
                process.wait()


class Ours:
    """A pool of two hosts with one guest."""

    def __init__(self, build):
        os.environ["PLIMSOLL_BUILD"] = str(build)
        sys.path.insert(0, str(ROOT / "tests/e2e"))
        from pool import Pool  # reads the folder of the build when it is imported
        from daemon import PAYLOAD
        self.payload = PAYLOAD
        self.pool = Pool(engine="qemu", sync=True)

    def make(self, name, job, memory, *more):
        host = self.pool[0]
        host.ok("vm", "create", name, "--memory", f"{memory}KiB", "--kernel", self.payload, "--nic", "none", "--cmdline", job,
                "--set", "platform.hvm_serial=pty", "--host", "h0", *more)
        host.ok("vm", "start", name, "--host", "h0")
        time.sleep(WARM_UP)

    def move(self, name):
        host = self.pool[0]
        here = host.runtime(name)["host"]
        to = next(h for h in host.get("/v1/hosts") if h["id"] != here)["name"]
        host.ok("vm", "migrate", name, to)
        told = host.runtime(name)["migration"]
        return told["downtime"], told["total"]

    def bad(self, name):
        """Lines of the guest that tell of lost writes, and how many there are at all."""
        here = self.pool[0].runtime(name)["host"]
        host = next(h for h in self.pool.hosts if h.get("/v1")["host"]["id"] == here)
        text = host.api("GET", f"/v1/vms/{name}/console/log?port=serial").body.decode(errors="replace")
        lines = re.findall(r"^dirty \d+ \d+ (\d+)\r?$", text, re.M)
        return sum(int(n) for n in lines) + len(re.findall("error", text)), len(lines)

    def close(self):
        self.pool.close()


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def compare(ours, job, runs):
    name, folder = job.split(",")[0] + str(len(job)), ours.pool[0].base
    own, other = disk_file(folder / "own.raw"), disk_file(folder / "other.raw")
    ours.make(name, JOBS[job], MEMORY, *(["--disk", f"name=root,path={own},format=raw"] if job in WITH_DISK else []))
    # A file of its own: QEMU locks what it writes to.
    words = [w.replace(str(own), str(other)) for w in hardware(ours.pool[0].runtime(name)["pid"])]
    rows = {"bare": [], "bare, encrypted": [], "plimsoll": []}
    for _ in range(runs):
        rows["bare"].append(bare(words, JOBS[job], False))
        rows["bare, encrypted"].append(bare(words, JOBS[job], True))
        rows["plimsoll"].append(ours.move(name))
    ours.pool[0].ok("vm", "kill", name)
    return {who: {"downtime": summary([d for d, _ in r]), "total": summary([t for _, t in r])} for who, r in rows.items()}


def print_table(job, rows):
    print(f"\n{job} guest of 512 MiB            downtime ms (min-max)      total ms (min-max)")
    for who, r in rows.items():
        cells = ["{:8.1f} ({:.1f}-{:.1f})".format(*(r[what][k] / 1000 for k in ("median", "min", "max"))) for what in ("downtime", "total")]
        print(f"{who:20} {cells[0]:>28} {cells[1]:>28}")
    for base in ("bare", "bare, encrypted"):
        ratios = [rows["plimsoll"][what]["median"] / rows[base][what]["median"] for what in ("downtime", "total")]
        print(f"plimsoll / {base:20} downtime {ratios[0]:5.2f}   total {ratios[1]:5.2f}")


def trips(ours, n):
    ours.make("trips", "out=serial job=dirty:40:12", SMALL)
    times = []
    for i in range(n):
        times.append(ours.move("trips")[0])
        if i % 10 == 9:
            time.sleep(1.2)  # the guest tells of itself once a second
            bad, lines = ours.bad("trips")
            assert bad == 0 and lines > 0, f"move {i + 1}: {bad} writes were lost, {lines} lines"
    ours.pool[0].ok("vm", "kill", "trips")
    return summary(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--runs", default=10, type=int)
    parser.add_argument("--trips", default=0, type=int)
    parser.add_argument("-o", choices=("table", "json"), default="table")
    args = parser.parse_args()
    ours = Ours(args.build.resolve())
    try:
        ours.pool.start(2)
        results = {job: compare(ours, job, args.runs) for job in JOBS} if args.runs else {}
        if args.trips:
            results["trips"] = trips(ours, args.trips)
    finally:
        ours.close()
    if args.o == "json":
        print(json.dumps(results, indent=2))
        return
    for job in (j for j in JOBS if j in results):
        print_table(job, results[job])
    if args.trips:
        t = results["trips"]
        print(f"\n{t['n']} moves of a busy guest of 32 MiB, no write lost: downtime {t['median'] / 1000:.1f} ms "
              f"({t['min'] / 1000:.1f}-{t['max'] / 1000:.1f})")


ends.run(main)
