# SPDX-License-Identifier: Apache-2.0
"""What starts with its host: the daemon sees a boot id of the test's own, so that a new one is a restart of the host."""
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import uuid

import pytest

from daemon import PAYLOAD, PLIMSOLLD, Daemon, until
from own_mounts import OWN_MOUNTS

BOOT_ID = "/proc/sys/kernel/random/boot_id"

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")


class HostDaemon(Daemon):
    def __init__(self):
        super().__init__("qemu")
        self.boot_file = self.base / "boot_id"
        self.boot()

    def boot(self):
        self.boot_file.write_text(f"{uuid.uuid4()}\n")

    def spawn(self, *more):
        with open(self.words, "ab") as words:
            return subprocess.Popen([*OWN_MOUNTS, "sh", "-c", f'mount --bind "$0" {BOOT_ID} && exec "$@"', self.boot_file,
                                     PLIMSOLLD, "--state", self.state, "--run", self.run, "--log", self.log, "--name", "testhost",
                                     *more], stdin=subprocess.DEVNULL, stdout=words, stderr=words)


@pytest.fixture
def host():
    d = HostDaemon()
    try:
        d.start()
        yield d
    finally:
        d.close()


def make(d, name, *settings):
    d.ok("vm", "create", name, "--memory", "16MiB", "--kernel", PAYLOAD, "--nic", "none", "--cmdline", "job=idle", *settings)


def test_guests_start_with_their_host_and_not_with_the_daemon(host):
    make(host, "with", "autostart=true")
    make(host, "without")
    host.restart()
    # What is asked for now comes after what the daemon would have started by itself.
    host.ok("vm", "start", "without")
    host.ok("vm", "kill", "without")
    assert host.runtime("with")["state"] == "stopped" and host.runtime("with")["reason"] == "never started"
    host.stop()
    host.boot()
    host.start()
    host.wait_state("with", "running")
    assert host.runtime("without")["state"] == "stopped"


def test_guests_that_ended_with_their_host_come_back_with_it(host):
    make(host, "with", "autostart=true")
    make(host, "without")
    host.ok("vm", "start", "with", "without")
    pids = [host.runtime(n)["pid"] for n in ("with", "without")]
    host.kill9()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids), "end of the guests")
    host.boot()
    host.start()
    host.wait_state("without", "crashed")
    assert host.runtime("without")["reason"] == "it ended with its host"

    def came_back():
        now = host.runtime("with")
        return now["state"] == "running" and now["pid"] != pids[0]
    until(came_back, "guest")


def written(d, key, value):
    """What was there. The daemon must not run."""
    with contextlib.closing(sqlite3.connect(d.state / "state.db")) as db, db:
        was = db.execute("SELECT value FROM item WHERE key = ?", (key,)).fetchone()[0]
        db.execute("UPDATE item SET value = ? WHERE key = ?", (value, key))
    return was


def test_a_vm_that_is_not_understood_keeps_nobody_from_the_others(host):
    make(host, "strange", "autostart=true")
    make(host, "good", "autostart=true")
    host.ok("vm", "start", "strange", "good")
    host.ok("vm", "kill", "strange", "good")
    key = f"/plimsoll/v1/vms/{host.vm('strange')['id']}/config"
    host.stop()
    was = written(host, key, '{"of": "a newer version"}')
    host.boot()
    host.start()
    host.wait_state("good", "running")
    assert "is not looked after" in host.said()
    host.stop()
    written(host, key, was)
    host.boot()
    host.start()
    host.wait_state("strange", "running")
