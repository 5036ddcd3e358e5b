# SPDX-License-Identifier: Apache-2.0
"""
A guest that writes all the time is backed up: what is restored has exactly what was written until its moment. And
whatever goes wrong meanwhile, the guest is not left frozen, nor anything that looks like a backup.
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from daemon import Daemon, until
from linux_guest import ext4_disk, linux_guest

BOOT = 90
SIZE = 48 << 20
INCREMENTS = int(os.environ.get("BACKUP_INCREMENTS", "5"))
STEP = 20  # lines between two writes to the second disk


class Guest:
    def __init__(self, daemon, folder):
        self.daemon, self.folder = daemon, folder

    def run(self, text):
        """A shell command in the guest, through its agent."""
        body = {"command": ["/bin/sh", "-c", text], "timeout": 60000000}
        answer = self.daemon.api("POST", "/v1/vms/g/agent/exec", body)
        assert answer.status == 200 and answer.body["exitcode"] == 0, answer
        return answer.body["stdout"]

    def line(self):
        """How far the journal is."""
        return int(self.run("tail -n 1 /data/journal").split()[0])

    def writes(self):
        """It goes on: not frozen."""
        def more():
            try:
                return self.line()
            except AssertionError:
                return None
        first = until(more, "answer of the guest")
        until(lambda: (more() or 0) > first + 5, "another line in the journal")

    def said(self):
        answer = self.daemon.api("GET", "/v1/vms/g/console/log?port=serial")
        return answer.body.decode(errors="replace") if isinstance(answer.body, bytes) else ""

    def stands(self):
        """Until it has told for a while of no line that was written."""
        def quiet():
            before = self.said()
            time.sleep(0.7)
            return self.said() == before
        until(quiet, "freeze of the guest")

    def monitor(self, *commands):
        """QEMU's second monitor: sends them all and waits for the last answer."""
        path = self.daemon.run / "vms" / self.daemon.vm("g")["id"] / "qmp2.sock"
        with socket.socket(socket.AF_UNIX) as s, s.makefile("rw") as f:
            s.settimeout(120)
            s.connect(str(path))
            f.readline()
            for name, args in (("qmp_capabilities", {}), *commands):
                f.write(json.dumps({"execute": name, "arguments": args}) + "\n")
            f.flush()
            answers = 0
            while answers <= len(commands):
                answers += "return" in json.loads(f.readline())

    def blocks(self):
        path = self.daemon.run / "vms" / self.daemon.vm("g")["id"] / "qmp2.sock"
        with socket.socket(socket.AF_UNIX) as s, s.makefile("rw") as f:
            s.settimeout(120)
            s.connect(str(path))
            f.readline()
            for name in ("qmp_capabilities", "query-block", "query-named-block-nodes", "query-jobs"):
                f.write(json.dumps({"execute": name}) + "\n")
            f.flush()
            answers = []
            while len(answers) < 4:
                line = json.loads(f.readline())
                if "return" in line:
                    answers.append(line["return"])
        return answers[1:]

    def bitmaps(self):
        root, data = (b["inserted"] for b in self.blocks()[0])
        assert (root["node-name"], data["node-name"]) == ("disk-root", "disk-data"), "the guest is on its own disks"
        names = [sorted(b["name"] for b in d.get("dirty-bitmaps", [])) for d in (root, data)]
        assert names[0] == names[1]
        return names[0]

    def is_clean(self, bitmaps):
        _, nodes, jobs = self.blocks()
        assert self.bitmaps() == bitmaps and jobs == []
        assert not [n["node-name"] for n in nodes if n["node-name"][:3] in ("bt-", "bo-", "bf-", "bv-")]

    def hold_in_the_freeze(self, repo, seconds, *args):
        """A backup that is held up for so long when the guest's file systems stand still: the running plim."""
        self.run("touch /run/wait")
        before = self.said().count("hook waits")
        plim = self.daemon.begin("backup", "create", "g", "--to", repo, *args)
        until(lambda: self.said().count("hook waits") > before, "hook in the guest")
        hold = {"command-line": f'qemu-io disk-root-file "sleep {seconds * 1000}"'}
        thread = threading.Thread(target=self.monitor, args=(("inject-nmi", {}), ("human-monitor-command", hold)))
        thread.start()
        return plim, thread


@pytest.fixture(scope="module")
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-backup-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def guest(folder):
    """Shared by all tests here: each leaves it running, thawed, with no backup under way."""
    kernel, initrd = linux_guest(folder, script="backup_guest.sh")
    disk = folder / "disk.raw"
    ext4_disk(disk, SIZE)
    daemon = Daemon("qemu")
    try:
        daemon.start()
        daemon.ok("image", "import", disk, "--name", "empty", "--source-format", "raw")
        daemon.ok("vm", "create", "g", "--memory", "128MiB", "--kernel", kernel, "--initrd", initrd, "--cmdline",
                  "console=ttyS0 quiet no_timer_check mitigations=off panic=1", "--disk", "name=root,image=empty", "--disk", "name=data,size=16MiB",
                  "--nic", "none", "--set", "platform.hvm_serial=pty")
        daemon.ok("vm", "start", "g")
        until(lambda: daemon.get("/v1/vms/g/agent")["connected"], "agent of the guest", BOOT)
        made = Guest(daemon, folder)
        made.writes()
        yield made
    finally:
        daemon.close()


@pytest.fixture
def repo():
    """A folder that goes before the guest's own."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-repo-"))
    yield path
    shutil.rmtree(path)


def created(guest, repo, *args):
    op = guest.daemon.api("POST", "/v1/vms/g/actions/backup", {"repository": str(repo)} | dict(args)).body
    end = guest.daemon.wait_operation(op["id"])
    assert end["status"] == "done", end
    return end["result"]


def listed(guest, repo):
    answer = guest.daemon.get(f"/v1/backups?repository={repo}")
    assert answer["broken"] == []
    return answer["backups"]


def folders(repo):
    return sorted(p.name for vm in repo.iterdir() for p in vm.iterdir())


def raw_of(guest, vm, disk):
    """The content of a disk of a vm that is off."""
    ident = next(d["volume"] for d in guest.daemon.vm(vm)["disks"] if d["name"] == disk)
    raw = guest.folder / f"{vm}-{disk}.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", guest.daemon.get(f"/v1/volumes/{ident}")["path"], raw], check=True, timeout=60)
    return raw


def lines_of(guest, vm, clean):
    """How many lines the journal has in a vm that is off; fsck finds its file system whole, and the other disk is as far."""
    raw = raw_of(guest, vm, "root")
    check = subprocess.run(["e2fsck", "-fn" if clean else "-fy", raw], capture_output=True, text=True, timeout=60, check=False)
    assert check.returncode in ((0,) if clean else (0, 1)), check.stdout
    journal = subprocess.run(["debugfs", "-R", "cat /journal", raw], capture_output=True, text=True, timeout=60, check=True).stdout
    raw.unlink()
    lines = journal.split("\n")[:-1]
    assert lines == [f"{n} {n * 40503 % 65521}" for n in range(1, len(lines) + 1)], "a prefix of what was written"
    second = raw_of(guest, vm, "data")
    number = int(second.read_bytes()[:16].strip(b"\0\n") or b"0")
    second.unlink()
    assert number + STEP >= len(lines) and (not clean or number <= len(lines) + STEP), "one moment on both disks"
    return len(lines)


def content(guest, repo, backup, name, clean):
    """The same of a vm that is restored from that backup."""
    guest.daemon.ok("backup", "restore", backup, "--from", repo, "--name", name)
    lines = lines_of(guest, name, clean)
    guest.daemon.ok("vm", "delete", name)
    return lines


def test_each_of_several_increments_has_exactly_what_was_written_until_then(guest, repo):
    made, seen = [], []
    for i in range(INCREMENTS + 1):
        before = guest.line()
        result = created(guest, repo, ("incremental", i > 0))
        after = guest.line()
        assert result["kind"] == ("incremental" if i else "full") and result["warning"] is None
        assert result["consistency"] == "file-system" and result["note"] is None and 0 < result["freeze"] < 5000000
        assert result["parent"] == (made[-1]["backup"] if i else None)
        made.append(result)
        seen.append((before, after))
    print("frozen, ms:", sorted(r["freeze"] // 1000 for r in made))
    assert [b["id"] for b in listed(guest, repo)] == [r["backup"] for r in reversed(made)]
    assert guest.bitmaps() == [f"plim-{made[-1]['backup']}"], "one bitmap a repository"
    guest.is_clean([f"plim-{made[-1]['backup']}"])
    assert guest.daemon.wait_event("vm.backed-up", "g")
    for i, (result, (before, after)) in enumerate(zip(made, seen)):
        assert before <= content(guest, repo, result["backup"], f"r{i}", True) <= after
    assert guest.daemon.ok("backup", "verify", made[-1]["backup"], "--from", repo).endswith("is what was written\n")
    words = guest.daemon.ok("backup", "list", repo)
    assert words.count("incremental") == INCREMENTS and words.count("file-system") == INCREMENTS + 1
    refused = guest.daemon.plim("backup", "delete", made[0]["backup"], "--from", repo)
    assert refused.status == 5 and f"{made[1]['backup']} rests on it" in refused.err
    assert guest.daemon.ok("backup", "prune", "--from", repo, "--keep-last", 1) == "nothing had to be deleted\n"
    guest.daemon.ok("backup", "delete", made[-1]["backup"], "--from", repo)
    lost = created(guest, repo, ("incremental", True))
    assert lost["kind"] == "full" and "bitmap of disk 'root'" in lost["warning"] and "is lost" in lost["warning"]


def test_a_file_that_was_changed_is_found_by_name_and_not_restored(guest, repo):
    backup = created(guest, repo)["backup"]
    file = next(repo.glob("*/*/data.qcow2"))
    with open(file, "r+b") as f:
        f.seek(-4096, os.SEEK_END)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))
    for args in (("verify", backup), ("restore", backup, "--name", "no")):
        ran = guest.daemon.plim("backup", *args, "--from", repo)
        assert ran.status == 2 and str(file) in ran.err and "not what was written" in ran.err
    assert guest.daemon.plim("vm", "show", "no").status == 4
    running = guest.daemon.plim("backup", "restore", backup, "--from", repo, "--over", "g")
    assert running.status == 6 and "plim vm stop" in running.err
    (file.parent / "manifest.json").write_text("{}")
    assert guest.daemon.get(f"/v1/backups?repository={repo}")["broken"][0]["path"] == str(file.parent)


def test_a_hook_that_hangs_costs_the_freeze_and_not_the_guest(guest, repo):
    guest.run("touch /run/hang")
    began = time.monotonic()
    result = created(guest, repo, ("freeze_budget", 1000000))
    assert result["consistency"] == "crash" and result["note"] and time.monotonic() - began < 60
    assert guest.daemon.wait_event("vm.freeze-failed", "g")
    # It froze when the hook came to its end, later than anybody waited for.
    assert guest.daemon.wait_event("vm.thawed", "g")
    guest.writes()
    assert content(guest, repo, result["backup"], "r", False) > 0


def test_a_freeze_that_lasts_too_long_is_ended_and_told(guest, repo):
    thawed = len(guest.daemon.events("vm.thawed"))
    plim, thread = guest.hold_in_the_freeze(repo, 6, "--freeze-budget", "3s")
    out, err = plim.communicate(timeout=120)
    thread.join()
    assert plim.returncode == 0 and listed(guest, repo)[0]["consistency"] == "crash", out + err
    assert "the freeze was over after 3 s" in out or "in time" in out  # on a slow machine the freeze did not even come
    until(lambda: len(guest.daemon.events("vm.thawed")) > thawed, "event of the thaw")
    guest.writes()


def test_an_agent_that_is_killed_in_the_freeze_is_asked_again_when_it_is_back(guest, repo):
    guest.run("touch /run/kill")
    plim, thread = guest.hold_in_the_freeze(repo, 7, "--freeze-budget", "60s")
    out, err = plim.communicate(timeout=120)
    thread.join()
    assert plim.returncode == 0 and "at rest" in out, out + err
    guest.writes()
    assert content(guest, repo, listed(guest, repo)[0]["id"], "r", True) > 0


def test_a_daemon_that_is_killed_in_the_freeze_thaws_when_it_is_back(guest, repo):
    before = guest.bitmaps()
    plim, thread = guest.hold_in_the_freeze(repo, 7, "--freeze-budget", "60s")
    guest.stands()
    guest.daemon.kill9()
    plim.communicate(timeout=60)
    thread.join()
    guest.daemon.start()
    guest.daemon.wait_idle("g")
    guest.writes()
    assert guest.daemon.wait_event("vm.thawed", "g")
    guest.is_clean(before)
    assert folders(repo) == []
    assert created(guest, repo)["consistency"] == "file-system"


@pytest.fixture
def small():
    """A repository with little room."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", path], check=True, timeout=60)
    yield path
    subprocess.run(["umount", path], check=True, timeout=60)
    path.rmdir()


def test_a_repository_that_is_full_or_read_only_costs_the_guest_nothing(guest, repo, small):
    first = created(guest, repo)
    before = guest.bitmaps()
    full = guest.daemon.plim("backup", "create", "g", "--to", small)
    assert full.status == 11 and "is full" in full.err and "plim backup prune" in full.err
    guest.is_clean(before)
    assert folders(small) == [] and guest.daemon.runtime("g")["state"] == "running"
    subprocess.run(["mount", "-o", "remount,ro", small], check=True, timeout=60)
    denied = guest.daemon.plim("backup", "create", "g", "--to", small)
    assert denied.status != 0 and "must be able to write" in denied.err
    subprocess.run(["mount", "-o", "remount,rw", small], check=True, timeout=60)
    guest.is_clean(before)
    guest.writes()
    assert created(guest, repo, ("incremental", True))["parent"] == first["backup"]


def test_a_cancelled_backup_leaves_nothing(guest, repo):
    before = guest.bitmaps()
    op = guest.daemon.api("POST", "/v1/vms/g/actions/backup", {"repository": str(repo), "bandwidth": 65536}).body
    until(lambda: guest.daemon.get(f"/v1/operations/{op['id']}")["result"].get("consistency"), "copy")
    guest.daemon.ok("operation", "cancel", op["id"])
    assert guest.daemon.wait_operation(op["id"])["status"] == "cancelled"
    guest.is_clean(before)
    assert folders(repo) == []
    guest.writes()


def crash(daemon):
    os.kill(daemon.runtime("g")["pid"], 9)
    daemon.wait_state("g", "crashed", "stopped")
    daemon.wait_idle("g")


def test_bitmaps_outlive_the_end_of_a_guest_and_not_a_crash_and_disks_come_back(guest, repo):
    daemon = guest.daemon
    before = guest.line()
    first = created(guest, repo)
    after = guest.line()
    daemon.ok("vm", "pause", "g")
    paused = created(guest, repo, ("incremental", True))
    assert paused["consistency"] == "crash" and "paused" in paused["note"] and paused["parent"] == first["backup"]
    assert daemon.runtime("g")["state"] == "paused"
    daemon.ok("vm", "kill", "g")  # QEMU writes its bitmaps as it ends
    daemon.ok("vm", "start", "g")
    again = created(guest, repo, ("incremental", True))  # the guest may not be up yet: that is none of a backup's business
    assert again["kind"] == "incremental" and again["parent"] == paused["backup"]
    daemon.ok("vm", "kill", "g")
    daemon.ok("vm", "start", "g")
    crash(daemon)
    daemon.ok("vm", "start", "g")
    crashed = created(guest, repo, ("incremental", True))
    assert crashed["kind"] == "full" and "is not whole" in crashed["warning"]
    assert guest.bitmaps() == [f"plim-{crashed['backup']}"]
    daemon.ok("vm", "kill", "g")
    daemon.ok("vm", "start", "g")
    crash(daemon)
    # With a bitmap that is not whole QEMU would not make a disk larger.
    daemon.ok("volume", "grow", "g-data", "17MiB")
    daemon.ok("vm", "start", "g")
    daemon.ok("vm", "disk", "grow", "g", "root", "49MiB", "--no-filesystem")
    larger = created(guest, repo, ("incremental", True))
    assert larger["kind"] == "full" and "another size" in larger["warning"]
    daemon.ok("vm", "kill", "g")
    daemon.ok("backup", "restore", first["backup"], "--from", repo, "--over", "g")
    assert before <= lines_of(guest, "g", True) <= after
