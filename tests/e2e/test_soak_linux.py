# SPDX-License-Identifier: Apache-2.0
"""plim soak with a Linux guest on a bridge: its files, in memory and on disk, and a TCP connection that no move breaks.

The hosts are network namespaces with a switch between them; plim, the other end of the connection, is beside the switch. The
disk lies where both hosts see it.
"""
import json
import os
import subprocess

import pytest

from cables import HUB, NETWORK, CabledHost, Cables
from daemon import PLIM, until
from linux_guest import ext4_disk, linux_guest
from pool import Etcd

NAMES = ("h0", "h1")
MEMORY = "163712KiB"  # no multiple of 256 KiB: docs/payload.md
BOOT = 180
TRIPS = int(os.environ.get("SOAK_LINUX_TRIPS", "2"))  # two to three seconds of processor time a move


@pytest.fixture
def cables():
    made = Cables(NAMES, bridges=True)
    yield made
    made.close()


@pytest.fixture
def hosts(cables):
    etcd, made = Etcd(address=HUB, prefix=cables.prefix("hub")), []
    try:
        etcd.start()
        for name in NAMES:
            made.append(CabledHost(cables, name, ("--lease", "30")))
            made[-1].start()
        a, b = made
        a.ok("pool", "init", "--address", a.address, "--etcd", etcd.url)
        b.ok("pool", "join", "--token", a.ok("pool", "token").strip(), "--address", b.address)
        yield made
    finally:
        for host in made:
            host.close()
        etcd.close()


@pytest.fixture
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
    until(lambda: a.get("/v1/vms/web/agent")["connected"], "agent of the guest", BOOT)
    return "web"


def soak(cables, host, *args):
    """plim beside the switch: (status, what it printed as JSON, stderr)."""
    env = dict(os.environ, PLIMSOLL_SOCKET=str(host.socket), LC_ALL="C.UTF-8")
    done = subprocess.run([*cables.prefix("hub"), PLIM, "soak", "migrate", *map(str, args), "--between", "h0,h1", "-o", "json"],
                          env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def test_files_and_a_tcp_connection_go_round_with_a_linux_guest(cables, hosts, linux, folder):
    status, told, err = soak(cables, hosts[0], linux, "--count", TRIPS, "--seed", 3, "--flow", HUB, "--margin", "10s", "--check",
                             "test -e /var/tmp/plim-soak.fresh")
    assert status == 0, err
    assert told["trips"] == TRIPS and told["moves"] == 2 * TRIPS and told["deviation"] is None
    last = told["guests"][0]["last"]
    assert told["guests"][0]["watched_by"] == "agent"
    assert last["checked"] == 3 and last["bad"] == 0 and last["flow"] > 8 and last["broken"] == 0
    assert hosts[0].runtime(linux)["migration"]["disk_bytes"] == 0, "the disk is shared, not copied"
