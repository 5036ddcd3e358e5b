# SPDX-License-Identifier: Apache-2.0
"""
A guest that writes all the time is backed up: what is restored has exactly what was written until its moment. And
whatever goes wrong meanwhile, the guest is not left frozen, nor anything that looks like a backup.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from backup_guest import check_several, content, created, folders, lines_of, listed, raw_of, several, started_guest
from daemon import DEADLINE, until

INCREMENTS = 5
# s; a guest on a slow host is to stand still, and its agent to be killed and back, before this is over.
HOLD = 15


@pytest.fixture(scope="module")
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-backup-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def guest(folder):
    """Shared by all tests here: each leaves it running, thawed, with no backup under way."""
    with started_guest(folder) as made:
        yield made


@pytest.fixture
def repo():
    """A folder that goes before the guest's own."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-repo-"))
    yield path
    shutil.rmtree(path)


def test_each_of_several_increments_has_exactly_what_was_written_until_then(guest, repo):
    made, seen = several(guest, repo, INCREMENTS)
    assert [b["id"] for b in listed(guest, repo)] == [r["backup"] for r in reversed(made)]
    assert guest.bitmaps() == [f"plim-{made[-1]['backup']}"], "one bitmap a repository"
    guest.is_clean([f"plim-{made[-1]['backup']}"])
    assert guest.daemon.wait_event("vm.backed-up", "g")
    check_several(guest, repo, made, seen)
    assert guest.daemon.ok("backup", "verify", made[-1]["backup"], "--from", repo).endswith("is what was written\n")
    words = guest.daemon.ok("backup", "list", repo)
    assert words.count("incremental") == INCREMENTS and words.count("file-system") == INCREMENTS + 1
    refused = guest.daemon.plim("backup", "delete", made[0]["backup"], "--from", repo)
    assert refused.status == 5 and f"{made[1]['backup']} rests on it" in refused.err
    assert guest.daemon.ok("backup", "prune", "--from", repo, "--keep-last", 1) == "nothing had to be deleted\n"
    guest.daemon.ok("backup", "delete", made[-1]["backup"], "--from", repo)
    lost = created(guest, repo, ("incremental", True))
    assert lost["kind"] == "full" and "bitmap of disk 'root'" in lost["warning"] and "is lost" in lost["warning"]


def test_a_copy_of_a_backup_boots_alone_and_its_agent_answers(guest, repo):
    """Of an encrypted one: nothing in the guest that boots has to do with its key."""
    daemon = guest.daemon
    key = guest.folder / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    backup = created(guest, repo, ("key_file", str(key)))["backup"]
    files = {p: (p.stat().st_mtime_ns, p.stat().st_mode, p.stat().st_uid) for p in repo.glob("*/*/*")}
    before = sorted(daemon.guests())
    words = daemon.ok("backup", "verify", backup, "--from", repo, "--boot", "--key-file", key)
    assert "what was written" in words and "its agent answered after" in words
    assert [vm["name"] for vm in daemon.get("/v1/vms")] == ["g"]
    until(lambda: sorted(daemon.guests()) == before, "end of the copy and of what showed it the backup")
    body = {"repository": str(repo), "boot": True, "key_file": str(key)}
    op = daemon.api("POST", f"/v1/backups/{backup}/actions/verify", body | {"boot_timeout": 1000000}).body
    error = daemon.wait_operation(op["id"])["error"]
    assert "no agent answered in the restored copy of 'g' within 1 s" in error["message"] and "console" in error["details"]
    # The daemon dies while the copy boots: the next one ends it.
    op = daemon.api("POST", f"/v1/backups/{backup}/actions/verify", body).body
    until(lambda: "restored guest" in (daemon.get(f"/v1/operations/{op['id']}")["stage"] or ""), "boot of the copy")
    daemon.kill9()
    daemon.start()
    daemon.wait_operation(op["id"])
    until(lambda: sorted(daemon.guests()) == before, "end of the copy and of what showed it the backup")
    assert not list((daemon.run / "backups").iterdir()) and not (daemon.state / "vms" / op["id"]).exists()
    assert {p: (p.stat().st_mtime_ns, p.stat().st_mode, p.stat().st_uid) for p in repo.glob("*/*/*")} == files
    assert daemon.ok("backup", "verify", backup, "--from", repo, "--key-file", key).endswith("is what was written\n")
    guest.writes()


def lines_shown(uri, folder):
    """The journal on the disk of that address, read through a file that FUSE makes of it."""
    file, point = folder / "shown.raw", folder / "point"
    file.touch()
    point.mkdir()
    path = uri.split("socket=")[1]
    node = f"driver=nbd,node-name=n,server.type=unix,server.path={path},export=root,read-only=on"
    pid = folder / "look.pid"
    subprocess.run(["qemu-storage-daemon", "--daemonize", "--pidfile", pid, "--blockdev", node, "--export",
                    f"type=fuse,id=f,node-name=n,mountpoint={file}"], check=True, timeout=120)
    try:
        subprocess.run(["mount", "-o", "ro,noload,loop", file, point], check=True, timeout=120)
        try:
            return (point / "journal").read_text().count("\n")
        finally:
            subprocess.run(["umount", point], check=True, timeout=120)
    finally:
        os.kill(int(pid.read_text()), 15)
        # Not by stat(): while its server goes, that fails.
        until(lambda: str(file) not in pathlib.Path("/proc/self/mountinfo").read_text(), "end of the file that FUSE made")
        file.unlink()
        point.rmdir()


def test_a_backup_is_looked_into_without_a_restore(guest, repo):
    daemon = guest.daemon
    first = created(guest, repo)
    before = guest.line()
    backup = created(guest, repo, ("incremental", True))["backup"]
    after = guest.line()
    qemus = sorted(daemon.guests())
    words = daemon.ok("backup", "mount", backup, "--from", repo)
    uri = re.search(r"root, 48 MiB: (nbd\S+)", words).group(1)
    assert daemon.plim("backup", "mount", backup, "--from", repo).status == 5, "it is mounted already"
    daemon.kill9()
    daemon.start()
    mount, = daemon.get("/v1/backup-mounts")
    assert mount["backup"] == backup and mount["state"] == "shown" and mount["vm"]["name"] == "g"
    assert [d["uri"] for d in mount["disks"]] == [uri, uri.replace("/root?", "/data?")]
    for more, command, works in (([], "write 0 512", False), (["-r"], "read 0 512", True)):
        ran = subprocess.run(["qemu-io", *more, "-f", "raw", "-c", command, uri], capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode == 0) == works and ("denied" in ran.stderr) != works, ran
    if os.path.exists("/dev/fuse") and "\tfuse\n" in pathlib.Path("/proc/filesystems").read_text():
        assert before <= lines_shown(uri, guest.folder) <= after
    pid = int((pathlib.Path(mount["dir"]) / "server.pid").read_text())
    os.kill(pid, 9)
    until(lambda: daemon.get("/v1/backup-mounts")[0]["state"] == "ended", "end of the server")
    assert "shown no more" in daemon.ok("backup", "unmount", backup[:20])
    assert daemon.get("/v1/backup-mounts") == []
    assert daemon.plim("backup", "unmount", backup).status == 4
    file = next(repo.glob(f"*/{first['backup']}/root.qcow2"))
    file.rename(f"{file}.away")
    lost = daemon.plim("backup", "mount", backup, "--from", repo)
    assert lost.status != 0 and str(file) in lost.err and daemon.get("/v1/backup-mounts") == []
    assert not list((daemon.run / "backups").iterdir())
    until(lambda: sorted(daemon.guests()) == qemus, "end of all that read there")


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
    result = created(guest, repo, ("freeze_budget", 1000000))
    assert result["consistency"] == "crash" and result["note"]
    assert guest.daemon.wait_event("vm.freeze-failed", "g")
    # It froze when the hook came to its end, later than anybody waited for.
    assert guest.daemon.wait_event("vm.thawed", "g")
    guest.writes()
    assert content(guest, repo, result["backup"], "r", False) > 0


def test_a_freeze_that_lasts_too_long_is_ended_and_told(guest, repo):
    thawed = len(guest.daemon.events("vm.thawed"))
    plim, thread = guest.hold_in_the_freeze(repo, 12, "--freeze-budget", "3s")
    out, err = plim.communicate(timeout=DEADLINE)
    thread.join()
    assert plim.returncode == 0 and listed(guest, repo)[0]["consistency"] == "crash", out + err
    assert "the freeze was over after 3 s" in out or "in time" in out  # on a slow machine the freeze did not even come
    until(lambda: len(guest.daemon.events("vm.thawed")) > thawed, "event of the thaw")
    guest.writes()


def test_an_agent_that_is_killed_in_the_freeze_is_asked_again_when_it_is_back(guest, repo):
    guest.run("touch /run/kill")
    plim, thread = guest.hold_in_the_freeze(repo, HOLD, "--freeze-budget", "60s")
    out, err = plim.communicate(timeout=DEADLINE)
    thread.join()
    assert plim.returncode == 0 and "at rest" in out, out + err
    guest.writes()
    assert content(guest, repo, listed(guest, repo)[0]["id"], "r", True) > 0


def test_a_daemon_that_is_killed_in_the_freeze_thaws_when_it_is_back(guest, repo):
    before, thawed = guest.bitmaps(), len(guest.daemon.events("vm.thawed"))
    plim, thread = guest.hold_in_the_freeze(repo, HOLD, "--freeze-budget", "60s")
    guest.stands()
    guest.daemon.kill9()
    plim.communicate(timeout=DEADLINE)
    thread.join()
    guest.daemon.start()
    guest.daemon.wait_idle("g")
    guest.writes()
    until(lambda: len(guest.daemon.events("vm.thawed")) > thawed, "event of the thaw")
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
    guest.writes()  # it stood still for a moment, and not for the copy
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


def power_off(guest):
    """The guest itself comes to its end, with all that it wrote on its disks."""
    def ended():
        if guest.daemon.runtime("g")["state"] == "stopped":
            return True
        # It does not live to answer; on a busy machine it may not have come to it in this time, and is asked again.
        guest.daemon.api("POST", "/v1/vms/g/agent/exec", {"command": ["/bin/sh", "-c", "sync; poweroff -f"], "timeout": 30000000})
        return False
    until(ended, "end of the guest", 180)
    guest.daemon.wait_idle("g")


def same_disks(guest, repo, backup):
    """What is restored from the backup is to the last byte what the vm has now."""
    guest.daemon.ok("backup", "restore", backup, "--from", repo, "--name", "r")
    for disk in ("root", "data"):
        raws = [raw_of(guest, vm, disk) for vm in ("g", "r")]
        assert subprocess.run(["cmp", *raws], check=False, timeout=60).returncode == 0
        for raw in raws:
            raw.unlink()
    guest.daemon.ok("vm", "delete", "r")


def test_a_vm_that_is_off_is_backed_up_in_full_and_by_what_changed(guest, repo):
    daemon = guest.daemon
    daemon.plim("vm", "kill", "g")  # unless it is off
    killed = created(guest, repo)
    assert killed["kind"] == "full" and killed["consistency"] == "crash" and "not known that" in killed["note"]
    same_disks(guest, repo, killed["backup"])
    daemon.ok("vm", "start", "g")
    until(lambda: daemon.agent_answers("g"), "agent of the guest")
    guest.writes()
    power_off(guest)
    words = daemon.ok("backup", "create", "g", "--to", repo, "--incremental")
    assert "had been shut down" in words
    off = listed(guest, repo)[0]
    assert off["kind"] == "incremental" and off["parent"] == killed["backup"] and off["consistency"] == "file-system"
    assert daemon.runtime("g")["state"] == "stopped" and daemon.guests() == []
    same_disks(guest, repo, off["id"])


def test_a_daemon_that_is_killed_while_it_copies_a_vm_that_is_off_leaves_nothing(guest, repo):
    daemon = guest.daemon
    daemon.plim("vm", "kill", "g")  # unless it is off
    op = daemon.api("POST", "/v1/vms/g/actions/backup", {"repository": str(repo), "bandwidth": 65536}).body
    until(lambda: daemon.get(f"/v1/operations/{op['id']}")["result"].get("consistency"), "copy")
    assert daemon.plim("vm", "start", "g").status == 15, "its disks are in use"
    daemon.kill9()
    daemon.start()
    daemon.wait_idle("g")
    until(lambda: daemon.guests() == [], "end of the QEMU that had the disks")
    assert folders(repo) == []
    again = created(guest, repo)
    assert again["consistency"] == "file-system"
    same_disks(guest, repo, again["backup"])
    # What is restored over it is not what its guest left there.
    daemon.ok("backup", "restore", again["backup"], "--from", repo, "--over", "g")
    assert created(guest, repo)["consistency"] == "crash"
