# SPDX-License-Identifier: Apache-2.0
"""plim soak with a Linux guest on a bridge: its files, in memory and on disk, and a TCP connection that no move breaks.

The hosts are network namespaces with a switch between them; plim, the other end of the connection, is beside the switch. The
disk lies where both hosts see it.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from cables import HUB, NETWORK, Cables, cabled_pool, run
from daemon import PLIM, until
from linux_guest import ext4_disk, linux_guest
from moving import CRAWL, hasten, qemus, qmp

NAMES = ("h0", "h1")
MEMORY = "163712KiB"  # no multiple of 256 KiB: docs/payload.md
BOOT = 300
TRIPS = int(os.environ.get("SOAK_LINUX_TRIPS", "2"))  # two to three seconds of processor time a move


@pytest.fixture(scope="module")
def cables():
    made = Cables(NAMES, bridges=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hosts(cables):
    with cabled_pool(cables, 30) as made:
        yield made


@pytest.fixture(scope="module")
def folder():
    """Seen by all hosts under one path, and QEMU's user may pass it."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="plim-shared-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def linux(hosts, folder):
    """A guest with a disk on shared storage and a card on br0, whose agent answers."""
    kernel, initrd = linux_guest(folder)
    disk = folder / "disk.raw"
    ext4_disk(disk, 32 << 20)
    a = hosts[0]
    a.ok("vm", "create", "web", "--memory", MEMORY, "--kernel", kernel, "--initrd", initrd, "--cmdline",
         f"console=ttyS0 quiet no_timer_check mitigations=off panic=1 address={NETWORK}99/24", "--disk", f"name=root,path={disk},format=raw", "--nic",
         "bridge:br0", "--set", "platform.hvm_serial=pty", "--set", "restart=never", "--host", a.name)
    a.ok("vm", "start", "web", "--host", a.name)
    until(lambda: a.agent_answers("web"), "agent of the guest", BOOT)
    return "web"


def soak(cables, host, *args):
    """plim beside the switch: (status, what it printed as JSON, stderr)."""
    env = dict(os.environ, PLIMSOLL_SOCKET=str(host.socket), LC_ALL="C.UTF-8")
    done = subprocess.run([*cables.prefix("hub"), PLIM, "soak", "migrate", *map(str, args), "--between", "h0,h1", "-o", "json"],
                          env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def test_files_and_a_tcp_connection_go_round_with_a_linux_guest(cables, hosts, linux, folder):
    status, told, err = soak(cables, hosts[0], linux, "--count", TRIPS, "--seed", 3, "--flow", HUB, "--margin", "30s", "--check",
                             "test -e /var/tmp/plim-soak.fresh")
    assert status == 0, err
    assert told["trips"] == TRIPS and told["moves"] == 2 * TRIPS and told["deviation"] is None
    last = told["guests"][0]["last"]
    assert told["guests"][0]["watched_by"] == "agent"
    assert last["checked"] == 3 and last["bad"] == 0 and last["flow"] > 8 and last["broken"] == 0
    assert hosts[0].runtime(linux)["migration"]["disk_bytes"] == 0, "the disk is shared, not copied"


# The clock

STANDS = 6  # s for which the guest stands still: far more than its clock may be wrong


def pass_time(seconds):
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end, "time passes")


def offset(host, vm):
    """How many seconds the guest's clock is ahead of this machine's, give or take one: half is the answer's way."""
    def asked():
        before = time.time()
        answer = host.api("POST", f"/v1/vms/{vm}/agent/exec", {"command": ["/bin/date", "+%s"]})
        after = time.time()
        assert answer.status == 200, answer
        return (int(answer.body["stdout"]) + 0.5 - (before + after) / 2,) if after - before < 1 else None
    ahead, = until(asked, "answer within a second")
    return ahead


def assert_kept(host, vm, before):
    """It did not stand still for its clock."""
    assert abs(offset(host, vm) - before) < 2  # each is right to a second


def test_the_clock_is_right_after_a_move_that_took_long(cables, hosts, linux):
    here = next(h for h in hosts if qemus(h))
    there = next(h for h in hosts if h is not here)
    before = offset(here, linux)
    # So that all of it may be on its way while its QEMU over there does nothing.
    for host, end in ((here, "tcp_wmem"), (there, "tcp_rmem")):
        run(*cables.prefix(host.name), "sh", "-c", f"echo 4096 {1 << 28} {1 << 28} > /proc/sys/net/ipv4/{end}")
    ident = here.ok("vm", "migrate", linux, there.name, "--bandwidth", CRAWL, "--no-wait").strip()
    until(lambda: here.get(f"/v1/operations/{ident}")["result"].get("progress"), "memory on its way")
    pid, = qemus(there)
    os.kill(pid, signal.SIGSTOP)
    try:
        hasten(here, linux)
        until(lambda: qmp(here, linux, "query-migrate")["status"] == "completed", "end of the sending")
        pass_time(STANDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    ended = here.wait_operation(ident)
    assert ended["status"] == "done" and ended["result"].get("clock_set", 0) >= STANDS * 1000000, (ended["result"], there.said())
    assert_kept(there, linux, before)


def test_the_clock_is_right_after_a_suspension(hosts, linux):
    host = next(h for h in hosts if qemus(h))
    before = offset(host, linux)
    host.ok("vm", "suspend", linux)
    pass_time(STANDS)
    plan = host.ok("vm", "start", linux, "--dry-run")
    assert plan.index("STATE_RUN") < plan.index("CLOCK_RESTORE"), plan
    host.ok("vm", "start", linux)
    start, = [o for o in host.get("/v1/operations") if o["kind"] == "vm.start" and "clock_set" in o["result"]]
    assert start["result"]["clock_set"] >= STANDS * 1000000, start
    assert_kept(host, linux, before)
