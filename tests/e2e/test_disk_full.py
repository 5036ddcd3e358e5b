# SPDX-License-Identifier: Apache-2.0
"""A guest whose disk finds no room on the host: it is paused, not broken, and goes on when there is room."""
import pathlib
import subprocess
import tempfile

import pytest

from daemon import PAYLOAD, Daemon, until
from own_mounts import OWN_MOUNTS

# Mounts a small tmpfs over the folder, says so and waits for the end of its input.
HOLD = 'mount -t tmpfs -o size=1m,mode=755 small "$0" && echo ready && read end'


class SmallDisk:
    """A folder with little room, that only processes started by `prefix` see: two daemons one after the other, say."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-small-"))
        self.folder.chmod(0o755)
        self.holder = subprocess.Popen([*OWN_MOUNTS, "sh", "-c", HOLD, self.folder], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        self.ready = self.holder.stdout.readline() == "ready\n"
        self.prefix = ["nsenter", "--target", str(self.holder.pid), "--mount", "--root"]

    def run(self, script):
        return subprocess.run([*self.prefix, "sh", "-euc", f"cd {self.folder}; {script}"], capture_output=True, text=True,
                              check=True, timeout=180).stdout

    def fill(self):
        self.run("dd if=/dev/zero of=filler bs=4k 2>/dev/null || true")

    def close(self):
        self.holder.communicate()
        self.folder.rmdir()


@pytest.fixture
def small():
    s = SmallDisk()
    try:
        if not s.ready:
            pytest.skip("no mounts of one's own here")
        yield s
    finally:
        s.close()


@pytest.fixture
def daemon(small):
    d = Daemon("qemu")
    d.prefix = small.prefix
    d.start()
    try:
        yield d
    finally:
        d.close()


def make_writer(daemon, small, *more):
    """A guest that writes its first sector ten times a second, on a disk of which the host has stored nothing yet."""
    small.run("truncate -s 64M disk.raw && chmod 666 disk.raw")
    daemon.ok("vm", "create", "a", "--memory", "16MiB", "--kernel", PAYLOAD, "--nic", "none", "--cmdline",
              "job=write:10 out=serial", "--disk", small.folder / "disk.raw", "machine=pc", "platform.hvm_serial=pty", *more)


def paused(daemon):
    runtime = daemon.wait_state("a", "paused")
    assert runtime["reason"] == "disk 'root' found no room on the host" and runtime["operation"] is None
    return runtime


def stops(daemon):
    return [e for e in daemon.events("vm.disk-stopped")]


def written(small):
    return small.run("head -c 6 disk.raw") == "writer"


def test_a_guest_without_room_is_paused_and_goes_on_when_there_is_room(daemon, small):
    make_writer(daemon, small)
    small.fill()
    daemon.ok("vm", "start", "a")
    runtime = paused(daemon)
    event = stops(daemon)[0]
    assert event["severity"] == "error" and "`plim vm resume a`" in event["message"]
    assert event["details"] == {"disk": "root", "no_space": True, "size": 64 << 20, "folder": str(small.folder), "holds": 0,
                                "free": 0, "total": 1 << 20}

    # Still no room: it tries again, and is paused again.
    daemon.ok("vm", "resume", "a")
    until(lambda: len(stops(daemon)) == 2, "second stop")
    assert paused(daemon)["pid"] == runtime["pid"]

    small.run("rm filler")
    daemon.ok("vm", "resume", "a")
    until(lambda: written(small), "write of the guest")
    assert daemon.runtime("a")["state"] == "running"
    assert len(stops(daemon)) == 2


def test_a_guest_that_stopped_while_no_daemon_looked_is_recorded_as_paused(daemon, small):
    make_writer(daemon, small)
    daemon.ok("vm", "start", "a")
    until(lambda: written(small), "write of the guest")
    daemon.kill9()
    small.fill()
    # The page that the guest wrote is taken from it; it may be faster than the filler, so until it has none.
    small.run("""while [ "$(stat -c %b disk.raw)" != 0 ]; do
        fallocate --punch-hole --offset 0 --length 4096 disk.raw
        dd if=/dev/zero bs=4k >> filler 2>/dev/null || true
    done""")
    daemon.start()
    paused(daemon)
    small.run("rm filler")
    daemon.ok("vm", "resume", "a")
    until(lambda: written(small), "write of the guest")


def test_who_wants_errors_reported_gets_them(daemon, small):
    make_writer(daemon, small, "disk.error_policy=report")
    small.fill()
    daemon.ok("vm", "start", "a")
    event = daemon.wait_event("vm.disk-error", "a")[0]
    assert "disk 'root'" in event["message"] and event["details"]["action"] == "report"
    until(lambda: "a write failed" in daemon.ok("vm", "console", "a", "--serial", "--log"), "last words of the payload")
    assert stops(daemon) == []


def test_a_policy_that_loses_writes_is_not_offered(daemon, small):
    small.run("truncate -s 1M disk.raw")
    daemon.ok("vm", "create", "a", "--kernel", PAYLOAD)
    ran = daemon.plim("vm", "set", "a", "disk.error_policy=ignore")
    assert ran.status == 2 and "enospace, stop, report" in ran.err
