# SPDX-License-Identifier: Apache-2.0
"""Evidence of guests that went wrong, and dumps of their memory: the payload where it will do, and a real Linux kernel."""
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from daemon import PAYLOAD, Daemon, until
from linux_guest import ext4_disk, linux_guest, vmlinuz
from monitor import Monitor
from own_mounts import OWN_MOUNTS

PARTS = {"registers.txt", "qemu.json", "statistics.json", "console.txt", "serial.txt", "qemu.log", "vm.json"}
# As the guest's driver of pvpanic would write it.
PANICKED, CRASH_LOADED = "o /b 0x505 1", "o /b 0x505 2"
BOOT = 300
# A crash kernel boots, compresses, sends and reboots, all emulated.
SELF_DUMP = 600
CRASHED = "Kernel panic - not syncing: sysrq triggered crash"
NMI_PANIC = "Kernel panic - not syncing: NMI: Not continuing"


def make(daemon, job, memory="16MiB", *more):
    daemon.ok("vm", "create", "a", "--memory", memory, "--kernel", PAYLOAD, "--nic", "none", "--cmdline",
              f"job={job} out=serial", "machine=pc", "platform.hvm_serial=pty", *more)


def start(daemon, job, memory="16MiB", *more):
    make(daemon, job, memory, *more)
    daemon.ok("vm", "start", "a")


def evidence(daemon):
    return json.loads(daemon.ok("evidence", "list", "-o", "json"))


def kept(daemon, cause):
    return until(lambda: [e for e in evidence(daemon) if e["cause"] == cause], f"evidence of {cause}")[0]


def export(daemon, bundle, folder):
    """The files of a bundle, as bytes, through the API as plim asks it."""
    daemon.ok("evidence", "export", bundle["id"], folder)
    return {f["name"]: (folder / f["name"]).read_bytes() for f in bundle["files"]}


def left(daemon):
    folder = daemon.state / "evidence"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_a_panic_leaves_a_bundle_with_the_memory(daemon, tmp_path):
    start(daemon, "panic")
    assert "panicked" in daemon.wait_state("a", "crashed")["reason"]
    bundle = kept(daemon, "panic")
    files = export(daemon, bundle, tmp_path)
    assert PARTS <= set(files) and {m["name"] for m in bundle["missing"]} <= {"screen.png", "host-kernel.log"}
    assert b"RIP=" in files["registers.txt"]
    assert json.loads(files["qemu.json"])["query-status"]["status"] == "guest-panicked"
    assert bundle["dump"]["format"] == "kdump-zlib" and files["memory.kdump"].startswith(b"KDUMP   ")
    assert bundle["dump"]["still"] == 0 and bundle["bytes"] == sum(len(data) for data in files.values())
    told = daemon.wait_event("vm.evidence", "a")[0]
    assert told["details"]["evidence"] == bundle["id"] and bundle["id"] in told["message"]
    daemon.ok("evidence", "delete", bundle["id"])
    assert evidence(daemon) == [] and left(daemon) == []


def test_no_more_is_kept_than_the_settings_say(daemon):
    daemon.ok("host", "set", "evidence.keep=2", "evidence.dump=none")
    make(daemon, "panic")
    for n in range(1, 4):
        daemon.ok("vm", "start", "a")
        daemon.wait_state("a", "crashed")
        daemon.wait_idle("a")
        assert len(evidence(daemon)) == min(n, 2)
    assert all(e["dump"] is None for e in evidence(daemon))
    daemon.ok("vm", "set", "a", "evidence.dump=elf")
    daemon.ok("vm", "start", "a")
    daemon.wait_state("a", "crashed")
    daemon.wait_idle("a")
    assert evidence(daemon)[0]["dump"]["format"] == "elf", "the vm's own setting comes first"
    daemon.ok("host", "set", "evidence.quota=1MiB")
    daemon.ok("vm", "start", "a")
    daemon.wait_state("a", "crashed")
    daemon.wait_idle("a")
    newest = evidence(daemon)
    assert len(newest) == 1 and newest[0]["dump"] is None
    assert "all evidence may have 1 MiB" in next(m["reason"] for m in newest[0]["missing"] if m["name"] == "memory.elf")


def test_the_death_of_qemu_leaves_what_is_outside_of_it(daemon, tmp_path):
    start(daemon, "idle")
    os.kill(daemon.runtime("a")["pid"], signal.SIGKILL)
    daemon.wait_state("a", "crashed")
    bundle = kept(daemon, "qemu-death")
    files = export(daemon, bundle, tmp_path)
    assert {"qemu.log", "vm.json"} <= set(files) and bundle["details"]["signal"] == 9
    assert {m["name"]: m["reason"] for m in bundle["missing"]}["registers.txt"] == "QEMU has ended"


def test_a_guest_that_ends_well_leaves_nothing(daemon):
    start(daemon, "poweroff")
    daemon.wait_state("a", "stopped")
    assert daemon.wait_operation(daemon.ok("vm", "start", "a", "--no-wait").strip())["status"] == "done"
    daemon.wait_state("a", "stopped")
    assert evidence(daemon) == []


def test_evidence_is_taken_of_a_guest_that_runs_on(daemon):
    start(daemon, "idle")
    ident = daemon.ok("evidence", "take", "a").strip()
    bundle = json.loads(daemon.ok("evidence", "show", ident[:-4], "-o", "json"))
    assert bundle["id"] == ident and bundle["cause"] == "request" and bundle["dump"] is None
    said = daemon.ok("vm", "nmi", "a", "--evidence")
    assert kept(daemon, "nmi")["id"] in said
    assert daemon.runtime("a")["state"] == "running"
    files = {f["name"] for f in bundle["files"]}
    base = f"/v1/hosts/testhost/evidence/{ident}"
    assert daemon.api("GET", f"{base}/files/registers.txt?offset=2&length=3").body == \
        daemon.api("GET", f"{base}/files/registers.txt").body[2:5] != b""
    assert daemon.api("GET", f"{base}/files/registers.txt?offset=99999999").body == b""
    for path, status in ((f"{base}/files/manifest.json", 404), (f"{base}/files/..%2Fmanifest.json", 404),
                         (f"{base}/files/registers.txt?length=99999999", 400), ("/v1/hosts/testhost/evidence/..", 404),
                         ("/v1/hosts/testhost/evidence/..%2Fvms", 404)):
        assert daemon.api("GET", path).status == status, path
    assert "manifest.json" not in files


def test_what_can_not_be_is_refused_with_advice(daemon, tmp_path):
    make(daemon, "idle")
    for words, status, said in ((("vm", "dump", "a"), 6, "is stopped"), (("evidence", "take", "a"), 6, "is stopped"),
                                (("evidence", "show", "nothing"), 4, "plim evidence list"),
                                (("evidence", "delete", "../state"), 4, "plim evidence list")):
        ran = daemon.plim(*words)
        assert ran.status == status and said in ran.err, (words, ran)
    daemon.ok("vm", "start", "a")
    ran = daemon.plim("vm", "dump", "a", "--format", "vmss")
    assert ran.status == 2 and "kdump-zlib, elf or win-dmp" in ran.err
    ran = daemon.plim("vm", "dump", "a", "--format", "win-dmp")
    assert ran.status == 7 and "fwcfg" in ran.err and "--format elf" in ran.err
    there = tmp_path / "there"
    there.write_text("mine")
    ran = daemon.plim("vm", "dump", "a", "--to", there)
    assert ran.status == 5 and there.read_text() == "mine"
    assert left(daemon) == [] and daemon.runtime("a")["state"] == "running"


def test_a_guest_whose_crash_kernel_takes_over_is_let_alone(daemon):
    start(daemon, "idle")
    Monitor(daemon, "a").ask("human-monitor-command", **{"command-line": CRASH_LOADED})
    daemon.wait_event("vm.crash-kernel", "a")
    assert kept(daemon, "crash-kernel")["dump"] is None and daemon.runtime("a")["state"] == "running"


def test_what_a_killed_daemon_left_is_swept(daemon):
    left_over = daemon.state / "evidence" / ".a-20260101T000000Z"
    daemon.kill9()
    left_over.mkdir(parents=True)
    (left_over / "memory.elf").write_bytes(b"half")
    daemon.start()
    assert left(daemon) == []


def test_a_panic_that_no_daemon_saw_leaves_evidence(daemon):
    start(daemon, "idle")
    monitor = Monitor(daemon, "a")
    daemon.kill9()
    monitor.ask("human-monitor-command", **{"command-line": PANICKED})
    assert monitor.ask("query-status")["status"] == "guest-panicked"
    daemon.start()
    daemon.wait_state("a", "crashed")
    assert kept(daemon, "panic")["details"] is None


class Small:
    """A daemon whose evidence is on a file system of its own, with little room."""

    HOLD = "mount -t tmpfs -o size=24m,mode=700 small evidence && echo ready && read end"

    def __init__(self):
        self.daemon = Daemon("qemu")
        (self.daemon.state / "evidence").mkdir()
        self.holder = subprocess.Popen([*OWN_MOUNTS, "sh", "-c", self.HOLD], cwd=self.daemon.state, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        self.ready = self.holder.stdout.readline() == "ready\n"
        self.daemon.prefix = ["nsenter", "--target", str(self.holder.pid), "--mount", "--root"]

    def close(self):
        try:
            self.daemon.close()
        finally:
            self.holder.communicate()


@pytest.fixture
def small():
    made = Small()
    try:
        if not made.ready:
            pytest.skip("no mounts of one's own here")
        made.daemon.start()
        yield made.daemon
    finally:
        made.close()


def test_a_dump_without_room_is_refused_and_the_guest_goes_on(small):
    start(small, "idle", "512MiB")
    ran = small.plim("vm", "dump", "a")
    assert ran.status == 11 and "may take 580 MiB" in ran.err and "MiB are free" in ran.err and "Make room" in ran.err
    assert evidence(small) == [] and small.runtime("a")["state"] == "running"
    assert json.loads(small.ok("evidence", "take", "a", "--dump", "elf") and small.ok("evidence", "list", "-o", "json"))[0][
        "missing"][-1]["name"] == "memory.elf", "what has room is kept all the same"


# Debian's own reservation for a crash kernel. The kernel tells pvpanic before it starts that one only when it is asked to.
CMDLINE = "console=ttyS0 no_timer_check mitigations=off address=10.0.2.15/24 crashkernel=128M crash_kexec_post_notifiers"
# What the crash kernel does: the dump goes to the virtio disk, and over the virtio network.
WRITE_DUMP = b"""#!/bin/busybox sh
makedumpfile -l -d 31 /proc/vmcore /var/tmp/vmcore
sync
nc 10.0.2.2 "$(cat /var/tmp/port)" </var/tmp/vmcore
umount /var/tmp
reboot -f
"""


@pytest.fixture(scope="module")
def linux():
    """A Linux guest of 512 MiB whose agent answers; it tells of panics, and where its kernel is. Tests share it, in order."""
    guest = Daemon("qemu")
    try:
        kernel, initrd = linux_guest(guest.base, names=("makedumpfile", "kexec"))
        boot = guest.base / "boot"
        boot.mkdir()
        shutil.copy(vmlinuz(), boot / "vmlinuz")
        shutil.copy(initrd, boot / "initrd")
        (boot / "dump").write_bytes(WRITE_DUMP)
        (boot / "dump").chmod(0o755)
        disk = guest.base / "disk.raw"
        ext4_disk(disk, 128 << 20, boot)
        guest.start()
        guest.ok("vm", "create", "web", "--memory", "512MiB", "--kernel", kernel, "--initrd", initrd, "--cmdline", CMDLINE, "--disk",
                 f"name=root,path={disk},format=raw", "--nic", "user", "platform.hvm_serial=pty")
        guest.ok("vm", "start", "web")
        agent_answers(guest)
        yield guest
    finally:
        guest.close()


def agent_answers(linux):
    until(lambda: linux.agent_answers("web"), "agent of the guest", BOOT)


def dmesg(dump):
    text = dump.with_suffix(".dmesg")
    done = subprocess.run(["makedumpfile", "--dump-dmesg", dump, text], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return text.read_text()


def in_guest(linux, command):
    return linux.ok("vm", "exec", "web", "--timeout", "5min", "--", "/bin/sh", "-c", command).strip()


def dump_goes(linux, status, interrupt):
    """
    With that status, when it is interrupted before it is whole, and nothing is left of it. interrupt() tells whether that
    was so: where we got no processor until it was there, there is another try.
    """
    for _ in range(5):
        ident = linux.ok("vm", "dump", "web", "--no-wait").strip()
        until(lambda ident=ident: linux.get(f"/v1/operations/{ident}")["progress"] > 0, "progress of the dump")
        in_time = interrupt(ident)
        ended = linux.wait_operation(ident)["status"]
        if in_time:
            break
        for bundle in evidence(linux):
            linux.ok("evidence", "delete", bundle["id"])
    assert ended == status
    assert left(linux) == [] and linux.runtime("web")["state"] == "running" and in_guest(linux, "echo alive") == "alive"


def test_a_linux_guest_is_dumped_and_goes_on(linux, tmp_path):
    said = linux.ok("vm", "dump", "web", "--to", tmp_path / "live")
    assert "kdump-zlib" in said and "stood still for" in said and evidence(linux) == []
    linux.ok("vm", "dump", "web", "--to", tmp_path / "elf", "--format", "elf")
    for name in ("live", "elf"):
        assert "Linux version" in dmesg(tmp_path / name)
    # What can't be compressed takes long enough to be interrupted.
    in_guest(linux, "dd if=/dev/urandom of=/tmp/x bs=1M count=64")
    dump_goes(linux, "cancelled", lambda ident: linux.plim("operation", "cancel", ident).status == 0)

    def die(_ident):
        linux.kill9()
        in_time = all(name.startswith(".") for name in left(linux))
        linux.args = ("--sample", "5")
        linux.start()
        return in_time
    dump_goes(linux, "failed", die)
    assert not linux.events("vm.hung"), "a guest that stood still for a dump does not hang"
    in_guest(linux, "rm /tmp/x")


class Receiver:
    """Takes one file over the network, from whoever comes first."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SELF_DUMP)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.take, daemon=True)
        self.bytes = b""
        self.thread.start()

    def take(self):
        with self.listener, self.listener.accept()[0] as connection:
            connection.settimeout(SELF_DUMP)
            self.bytes = b"".join(iter(lambda: connection.recv(1 << 20), b""))


# What a guest does when it gets an NMI: an order that its agent has no part in, which is to have answered before.
AT_AN_NMI = """n=$(grep NMI: /proc/interrupts)
{ while [ "$(grep NMI: /proc/interrupts)" = "$n" ]; do sleep 0.1; done; %s; } >/dev/null 2>&1 &
"""


def nmi(linux):
    """Past the daemon, which would ask the agent how many came."""
    Monitor(linux, "web").ask("inject-nmi")


def sampled(linux, seconds):
    """The daemon looks at its guests so often, and waits so long for an agent that it asks."""
    linux.args = ("--sample", str(seconds))
    linux.restart()
    agent_answers(linux)


def test_a_guest_that_writes_its_own_dump_is_left_to_do_so(linux, tmp_path):
    # The agent of a guest that is busy on a slow host takes a while to answer, and nothing may be told of it.
    sampled(linux, 5)
    network, before = Receiver(), linux.runtime("web")
    in_guest(linux, f"echo {network.port} >/var/tmp/port && cd /var/tmp && kexec -p --reuse-cmdline "
                    "--append='reset_devices nr_cpus=1' --initrd=initrd vmlinuz && sync")
    in_guest(linux, AT_AN_NMI % "echo c >/proc/sysrq-trigger")
    nmi(linux)
    linux.wait_event("vm.crash-kernel", "web")
    linux.wait_event("vm.rebooted", "web", SELF_DUMP)
    agent_answers(linux)
    assert kept(linux, "crash-kernel")["dump"] is None and len(evidence(linux)) == 1, "it is only looked at"
    after = linux.runtime("web")
    assert after["state"] == "running" and (after["pid"], after["started_at"]) == (before["pid"], before["started_at"])
    for kind in ("vm.crashed", "vm.panicked", "vm.restarted", "vm.hung", "vm.agent-silent"):
        assert not linux.events(kind), "its host had no part in it"
    network.thread.join(BOOT)
    (tmp_path / "vmcore").write_bytes(network.bytes)
    assert in_guest(linux, "sha256sum </var/tmp/vmcore").split()[0] == hashlib.sha256(network.bytes).hexdigest()
    assert CRASHED in dmesg(tmp_path / "vmcore")


# The agent stops when the first NMI comes. Then a program computes, until another one comes; then the kernel is busy with
# itself, until the next.
HANG = AT_AN_NMI % """kill -STOP $(pidof qemu-ga); n=$(grep NMI: /proc/interrupts)
while [ "$(grep NMI: /proc/interrupts)" = "$n" ]; do i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done; done
echo 1 >/proc/sys/kernel/unknown_nmi_panic; exec dd if=/dev/zero of=/dev/null bs=64M"""


def test_a_guest_without_its_agent_works_then_hangs_then_panics_and_its_dump_tells_why(linux, tmp_path):
    sampled(linux, 5)
    in_guest(linux, HANG)
    nmi(linux)
    linux.wait_event("vm.agent-silent", "web")
    assert not linux.events("vm.hung"), "it computes"
    linux.ok("vm", "nmi", "web")
    linux.wait_event("vm.hung", "web")
    assert kept(linux, "hang")["dump"] is None and linux.runtime("web")["state"] == "running"
    assert "is kept" in linux.ok("vm", "nmi", "web", "--evidence")
    assert "panicked" in linux.wait_state("web", "crashed")["reason"]
    assert len(linux.events("vm.agent-silent")) == 1, "it is told once"
    bundle = kept(linux, "panic")
    files = export(linux, bundle, tmp_path / "panic")
    # What a kernel says in an NMI comes to no console any more, when it panics there.
    assert NMI_PANIC in dmesg(tmp_path / "panic" / "memory.kdump")
    assert b"CR2=" in files["registers.txt"] and len(files["memory.kdump"]) < 256 << 20
