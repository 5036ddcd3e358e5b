#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a backup holds a guest up, and what its guest notices of it beside libvirt's.

    backup.py BUILD [--increments N] [--rounds N] [--content MIB] [--json FILE]

1. Incremental backups in a row of a guest that writes a numbered journal (tests/e2e/backup_guest.py): each one is
   restored, must pass fsck and have exactly what was written until its moment. Their freezes, as a histogram.
2. A guest that writes 64 KiB at random places all the time says how often it could, and how long one write took at
   most: before, in, and behind a full and an incremental backup, by plim and by `virsh backup-begin`, in turns. The
   same guest, machine and disk: libvirt's domain is `plim vm export`. Both freeze its file systems.
"""
import argparse
import base64
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "tests/e2e"), str(HERE.parent.parent / "tests/lab")]

import ends  # noqa: E402  (found by the line above)
import libvirt  # noqa: E402
from rig import machine  # noqa: E402

MIB = 1 << 20
WRITTEN = 64  # MiB of the file that is written to
CALM = 10  # seconds before each backup, for comparison
LOOK = 0.25
PATIENCE = 900
KINDS = ("full", "incremental")


# ---- 1: freezes ----

BOUNDS = (50, 75, 100, 125, 150, 200, 300, 500, 1000, 2000, 5000)


def histogram(values, width=40):
    """Lines; bounds in milliseconds, those below the least and above the most left out."""
    rows = [(bound, sum(1 for v in values if low < v <= bound)) for low, bound in zip((-1, *BOUNDS), BOUNDS)]
    full = [i for i, (_, n) in enumerate(rows) if n > 0]
    scale = min(1, width / max(n for _, n in rows))
    return [f"  up to {bound:5d} ms {n:4d} {'#' * round(n * scale)}" for bound, n in rows[full[0]:full[-1] + 1]]


def freezes(folder, increments):
    """In milliseconds, of a full one and so many incremental ones, all of them restored and looked at."""
    import backup_guest  # of the build that was named
    repo = folder / "repo"
    repo.mkdir()
    with backup_guest.started_guest(folder) as guest:
        made, seen = backup_guest.several(guest, repo, increments)
        backup_guest.check_several(guest, repo, made, seen)
    shutil.rmtree(repo)
    return [r["freeze"] // 1000 for r in made]


# ---- 2: what the guest notices ----

class Plim:
    """The guest under plimsolld."""
    name = "plim"

    def __init__(self, bench):
        self.bench = bench
        self.repo = bench.folder / "repository"

    def begin(self):
        self.repo.mkdir()
        self.bench.fresh_disk()
        self.bench.daemon.ok("vm", "start", "bench")

    def run(self, text):
        body = {"command": ["/bin/sh", "-c", text], "timeout": 60000000}
        answer = self.bench.daemon.api("POST", "/v1/vms/bench/agent/exec", body)
        return answer.body["stdout"] if answer.status == 200 else None

    def backup(self, kind):
        """What plimsolld says the freeze took, ms."""
        body = {"repository": str(self.repo), "incremental": kind == "incremental"}
        op = self.bench.daemon.api("POST", "/v1/vms/bench/actions/backup", body).body
        while op["status"] not in ("done", "failed", "cancelled"):
            time.sleep(LOOK)
            op = self.bench.daemon.get(f"/v1/operations/{op['id']}")
        if op["status"] != "done" or op["result"]["kind"] != kind or op["result"]["consistency"] != "file-system":
            sys.exit(f"plim's backup: {op}")
        return op["result"]["freeze"] / 1000

    def end(self):
        self.bench.daemon.ok("vm", "kill", "bench")
        shutil.rmtree(self.repo)


class Virsh:
    """The same guest under libvirtd."""
    name = "libvirt"

    def __init__(self, bench, virt):
        self.bench, self.virt, self.n = bench, virt, 0
        self.target = bench.folder / "target"

    def ask(self, *words):
        done = self.virt.ask(*words)
        if done.returncode != 0:
            sys.exit(f"virsh {' '.join(words)}: {done.stderr}")
        return done.stdout

    def begin(self):
        self.target.mkdir(mode=0o777)
        self.target.chmod(0o777)
        self.bench.fresh_disk()
        self.virt.define(self.bench.domain)
        self.ask("start", "bench")

    def agent(self, command, **arguments):
        text = json.dumps({"execute": command, "arguments": arguments})
        done = self.virt.ask("qemu-agent-command", "bench", text)
        return json.loads(done.stdout)["return"] if done.returncode == 0 else None

    def run(self, text):
        began = self.agent("guest-exec", path="/bin/sh", arg=["-c", text], **{"capture-output": True})
        while began is not None:
            status = self.agent("guest-exec-status", pid=began["pid"])
            if status is None or status["exited"]:
                return base64.b64decode((status or {}).get("out-data", "")).decode()
            time.sleep(0.05)
        return None

    def write(self, name, text):
        path = self.target / name
        path.write_text(text)
        return path

    def backup(self, kind):
        """Freeze, begin, thaw in one virsh. What was frozen for how long it does not say."""
        self.n += 1
        target = self.target / f"{self.n}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", target, str(self.bench.size)], check=True)
        target.chmod(0o666)
        since = f"<incremental>c{self.n - 1}</incremental>" if kind == "incremental" else ""
        disk = f"<disk name='vda' type='file'><target file='{target}'/><driver type='qcow2'/></disk>"
        wish = self.write("wish.xml", f"<domainbackup mode='push'>{since}<disks>{disk}</disks></domainbackup>")
        mark = self.write("mark.xml", f"<domaincheckpoint><name>c{self.n}</name></domaincheckpoint>")
        self.ask(f"domfsfreeze bench; backup-begin bench {wish} {mark} --reuse-external; domfsthaw bench")
        while "None" not in self.ask("domjobinfo", "bench"):
            time.sleep(LOOK)
        told = self.ask("domjobinfo", "bench", "--completed")
        if "Completed" not in told:
            sys.exit(f"libvirt's backup: {told}")

    def end(self):
        self.ask("destroy", "bench")
        self.ask("undefine", "bench", "--checkpoints-metadata")
        shutil.rmtree(self.target)


class Bench:
    def __init__(self, daemon, folder, options):
        from linux_guest import ext4_disk, linux_guest, MODULES  # of the build that was named
        self.daemon, self.folder, self.options = daemon, folder, options
        self.size = (options.content + WRITTEN + 64) * MIB
        MODULES["load.sh"] = MODULES["backup_guest.sh"]
        load = pathlib.Path(options.build, "bench/bench_backup_load").read_bytes()
        kernel, initrd = linux_guest(folder, {"/bin/load": load}, HERE / "load.sh")
        self.make_disk(ext4_disk)
        daemon.ok("vm", "create", "bench", "--memory", "192MiB", "--kernel", kernel, "--initrd", initrd, "--cmdline",
                  f"quiet no_timer_check mitigations=off panic=1 written={WRITTEN}", "--nic", "none",
                  "--disk", f"name=root,path={self.disk},format=qcow2")
        self.domain = daemon.api("GET", "/v1/vms/bench/export?format=libvirt-xml").body.decode()

    def make_disk(self, ext4_disk):
        """Files that nobody writes, and one that is written all the time: both are there, for all ways the same."""
        files = self.folder / "files"
        files.mkdir()
        for name, size in (("still", self.options.content), ("written", WRITTEN)):
            with open(files / name, "wb") as f:
                for _ in range(size):
                    f.write(os.urandom(MIB))
        raw = self.folder / "disk.raw"
        ext4_disk(raw, self.size, files)
        shutil.rmtree(files)
        self.original, self.disk = self.folder / "original.qcow2", self.folder / "disk.qcow2"
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, self.original], check=True)
        raw.unlink()
        self.fresh_disk()

    def fresh_disk(self):
        shutil.copyfile(self.original, self.disk)
        self.disk.chmod(0o666)

    def wait_for(self, what, text):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = text()
            if answer:
                return answer
            time.sleep(LOOK)
        sys.exit(f"no {what} within {PATIENCE} s")

    def uptime(self, way):
        return float(self.wait_for("answer of the guest", lambda: way.run("cat /proc/uptime")).split()[0]) * 1000

    def report(self, way, since):
        """[(uptime ms, writes, longest us)], all of it since then."""
        text = self.wait_for("report", lambda: way.run("cat /run/report"))
        lines = [tuple(map(int, line.split())) for line in text.split("\n")[:-1]]
        return [line for line in lines if line[0] > since]

    def measure(self, way, kind):
        """{calm, busy: writes a second; stall: the longest write in the backup, calm_stall; seconds; frozen}."""
        begin = self.uptime(way)
        time.sleep(CALM)
        asked = self.uptime(way)
        frozen = way.backup(kind)
        done = self.uptime(way)
        lines = self.report(way, begin)
        calm = [line for line in lines if line[0] <= asked]
        busy = [line for line in lines if asked < line[0] <= done + 100]
        return {"kind": kind, "seconds": (done - asked) / 1000,
                "calm": sum(n for _, n, _ in calm) / (asked - begin) * 1000, "busy": sum(n for _, n, _ in busy) / (done - asked) * 1000,
                "calm_stall": max(s for _, _, s in calm) / 1000, "stall": max(s for _, _, s in busy) / 1000, "frozen": frozen}

    def round(self, way):
        way.begin()
        self.wait_for("report", lambda: (way.run("wc -l < /run/report") or "").strip() not in ("", "0"))
        found = [self.measure(way, kind) for kind in KINDS]
        way.end()
        return found


def print_table(found):
    print(f"\n{'':22}{'backup s':>10}{'writes/s before':>17}{'in it':>8}{'kept':>7}{'longest write ms, before':>26}{'in it':>8}{'least':>8}{'most':>8}")
    for kind in KINDS:
        for way, all_of_it in found.items():
            f = [m for m in all_of_it if m["kind"] == kind]

            def median(name):
                return statistics.median(m[name] for m in f)
            kept = statistics.median(m["busy"] / m["calm"] for m in f)
            print(f"{kind + ', ' + way:22}{median('seconds'):10.1f}{median('calm'):17.0f}{median('busy'):8.0f}{kept:7.0%}"
                  f"{median('calm_stall'):26.0f}{median('stall'):8.0f}{min(m['stall'] for m in f):8.0f}{max(m['stall'] for m in f):8.0f}")
    told = [m["frozen"] for m in found["plim"]]
    print(f"frozen, as plim says: median {statistics.median(told):.0f} ms, at most {max(told):.0f} ms")


def compare(folder, options):
    from daemon import Daemon  # of the build that was named
    daemon = Daemon("qemu")
    try:
        daemon.start()
        bench = Bench(daemon, folder, options)
        ways = [Plim(bench)]
        if not libvirt.installed():
            print("libvirt is not installed: only plim is measured")
            return rounds(bench, ways, options)
        host = daemon.get("/v1/hosts")[0]
        with libvirt.Libvirt(folder / "libvirt", host.get("run_as") or "root", True) as virt:
            return rounds(bench, [*ways, Virsh(bench, virt)], options)
    finally:
        daemon.close()


def rounds(bench, ways, options):
    found = {way.name: [] for way in ways}
    for i in range(options.rounds):
        for way in ways[i % len(ways):] + ways[:i % len(ways)]:
            found[way.name] += bench.round(way)
            print(f"round {i + 1}, {way.name}: " + json.dumps(found[way.name][-2:]), flush=True)
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--increments", type=int, default=20, help="of part 1; 0 leaves it out")
    p.add_argument("--rounds", type=int, default=3, help="of part 2; 0 leaves it out")
    p.add_argument("--content", type=int, default=256, help="MiB of files on the guest's disk")
    p.add_argument("--json", help="what was measured")
    options = p.parse_args()
    os.environ["PLIMSOLL_BUILD"] = options.build
    print(machine(), flush=True)
    result = {}
    with tempfile.TemporaryDirectory(prefix="plimsoll-bench.") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        if options.increments > 0:
            result["freezes"] = freezes(folder, options.increments)
            print(f"{len(result['freezes'])} backups, each restored, clean, and with exactly the lines until its moment; frozen "
                  f"for {statistics.median(result['freezes']):.0f} ms in the median:", *histogram(result["freezes"]), sep="\n", flush=True)
        if options.rounds > 0:
            result["noticed"] = compare(folder, options)
            print_table(result["noticed"])
    print(f"\nat the end: {machine()}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    ends.run(main)
