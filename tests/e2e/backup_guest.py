# SPDX-License-Identifier: Apache-2.0
"""
A guest that writes a numbered journal and other files on two disks all the time, what a backup of it must have, and
several backups in a row. For tests, and for bench/backup.
"""
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time

from daemon import Daemon, until
from linux_guest import ext4_disk, linux_guest

BOOT = 300
SIZE = 48 << 20
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
        """How far the journal is: the lines that are whole."""
        return int(self.run("wc -l < /data/journal"))

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
            time.sleep(3)  # it tells of a line some ten times a second, and on a slow host of one in a second
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


@contextlib.contextmanager
def started_guest(folder):
    """One that runs and writes, on a daemon of its own."""
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
        until(lambda: daemon.agent_answers("g"), "agent of the guest", BOOT)
        made = Guest(daemon, folder)
        made.writes()
        yield made
    finally:
        daemon.close()


def created(guest, repo, *args):
    """With the largest budget: how soon its file systems stand still is a matter of the host that it runs on."""
    body = {"repository": str(repo), "freeze_budget": 60000000} | dict(args)
    op = guest.daemon.api("POST", "/v1/vms/g/actions/backup", body).body
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
    subprocess.run(["qemu-img", "convert", "-O", "raw", guest.daemon.get(f"/v1/volumes/{ident}")["path"], raw], check=True, timeout=180)
    return raw


def lines_of(guest, vm, clean):
    """How many lines the journal has in a vm that is off; fsck finds its file system whole, and the other disk is as far."""
    raw = raw_of(guest, vm, "root")
    check = subprocess.run(["e2fsck", "-fn" if clean else "-fy", raw], capture_output=True, text=True, timeout=180, check=False)
    assert check.returncode in ((0,) if clean else (0, 1)), check.stdout
    journal = subprocess.run(["debugfs", "-R", "cat /journal", raw], capture_output=True, text=True, timeout=180, check=True).stdout
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


def several(guest, repo, increments):
    """So many incremental backups in a row behind a full one: what each of them said, and how far the journal was before and after it."""
    made, seen = [], []
    for i in range(increments + 1):
        before = guest.line()
        result = created(guest, repo, ("incremental", i > 0))
        after = guest.line()
        assert result["kind"] == ("incremental" if i else "full") and result["warning"] is None
        assert result["consistency"] == "file-system" and result["note"] is None and result["freeze"] > 0
        assert result["parent"] == (made[-1]["backup"] if i else None)
        made.append(result)
        seen.append((before, after))
    return made, seen


def check_several(guest, repo, made, seen):
    """Each of them is restored: its file systems are whole, and its journal is a prefix that ends within its backup."""
    for i, (result, (before, after)) in enumerate(zip(made, seen)):
        assert before <= content(guest, repo, result["backup"], f"r{i}", True) <= after
