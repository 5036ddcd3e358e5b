# SPDX-License-Identifier: Apache-2.0
"""The network breaks in the middle of moves: each guest runs on exactly one host, and the other one is clean.

Two hosts in network namespaces, and a switch between them that an etcd of its own sits on: the link between the hosts can
be cut while both reach the records, and a host can be cut off from all. The guests are those of moving.py.
"""
import os
import re
import signal
import subprocess

import pytest

from cables import Cables, cabled_pool, run
from daemon import PAYLOAD, until
from moving import MEMORY, assert_clean, begin, hold, is_clean, lines, qemu_of, qemus, send_all

NAMES = ("h0", "h1")
LEASE = 15  # s
SMALL = "out=serial job=dirty:1:1"
LARGE = "out=serial job=dirty:40:12"
PATIENCE = 300
# What may be on its way between two QEMUs: all of a guest that is small.
BUFFER = 8 << 20


@pytest.fixture(scope="module")
def cables():
    made = Cables(NAMES, bridges=True)
    try:
        for name in NAMES:
            for end in ("tcp_wmem", "tcp_rmem"):
                run(*made.prefix(name), "sh", "-c", f"echo 4096 {BUFFER} {BUFFER} > /proc/sys/net/ipv4/{end}")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def hosts(cables):
    with cabled_pool(cables, LEASE) as made:
        yield made


@pytest.fixture
def guests(hosts):
    """guests(name=job): each runs on h0, with a card on br0; they end with the test."""
    a, b = hosts
    names = []

    def make(**jobs):
        for name, job in jobs.items():
            names.append(name)
            a.ok("vm", "create", name, "--memory", MEMORY, "--kernel", PAYLOAD, "--cmdline", job, "--nic", "bridge:br0", "--set",
                 "platform.hvm_serial=pty", "--set", "restart=never", "--host", "h0")
            a.ok("vm", "start", name, "--host", "h0")
        for name in names:
            lines(a, name, 1)
    yield make
    for name in names:
        until(lambda name=name: a.plim("vm", "kill", name).status in (0, 6), f"end of {name}")
        a.ok("vm", "delete", name)
    for host in (a, b):
        assert_clean(host)


def taps(host, cables):
    """Of guests, on that host. Not from /sys, which is the one of the namespace that mounted it."""
    done = subprocess.run([*cables.prefix(host.name), "ip", "-o", "link"], capture_output=True, text=True, check=True, timeout=60)
    return re.findall(r"^\d+: (pl[^:@]+)", done.stdout, re.M)


def ident_of(host):
    return next(h["id"] for h in host.get("/v1/pool")["hosts"] if h["name"] == host.name)


def unsent(host, cables):
    """Bytes that wait in connections of that host."""
    done = subprocess.run([*cables.prefix(host.name), "cat", "/proc/net/tcp"], capture_output=True, text=True, check=True, timeout=60)
    return sum(int(line.split()[4].split(":")[0], 16) for line in done.stdout.splitlines()[1:] if line.split()[3] != "0A")


def all_sent(cables, host, *names):
    """
    Of guests that are held over there: all of them is in the other host's kernel. From then on that host counts the
    seconds until it thinks that the rest does not come, so what takes time is done before.
    """
    for name in names:
        send_all(host, name)
    until(lambda: unsent(host, cables) == 0, f"all of {', '.join(names)} over there")


def runs_on(host, other, name):
    """On that host, and nothing of it on the other one."""
    runtime = until(lambda: next((r for r in [host.runtime(name)] if r["operation"] is None), None),
                    f"end of the operations of {name}", PATIENCE)
    assert runtime["state"] == "running" and runtime["host"] == ident_of(host), (name, runtime)
    ident = host.vm(name)["id"]
    assert runtime["pid"] == qemu_of(host, ident)
    until(lambda: qemu_of(other, ident) is None, f"end of {name} on {other.name}")
    lines(host, name, 1)


def test_the_link_between_two_hosts_is_cut_while_guests_move(hosts, cables, guests):
    """One guest's memory is on its way; two were sent, and the QEMU of one of them fails over there."""
    a, b = hosts
    guests(copied=LARGE, arrives=SMALL, fails=SMALL)
    (arrives, pid), (fails, failing) = hold(a, "arrives", b), hold(a, "fails", b)
    copied = begin(a, "copied", b)
    all_sent(cables, a, "arrives", "fails")
    cables.part(*NAMES)
    os.kill(failing, signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    # Neither host can ask the other; the records tell each.
    ended = until(lambda: next((o for o in [a.get(f"/v1/operations/{arrives}")] if o["status"] == "done"), None),
                  "end of the move that came through", PATIENCE)
    assert ended["result"].get("warning") is None
    ended = until(lambda: next((o for o in [a.get(f"/v1/operations/{fails}")] if o["error"]), None), "the move that failed",
                  PATIENCE)
    assert "h1" in ended["error"]["message"], ended
    runs_on(b, a, "arrives")
    ended = until(lambda: next((o for o in [a.get(f"/v1/operations/{copied}")] if o["error"]), None), "the move that was cut",
                  PATIENCE)
    assert ended["error"]["code"] in ("unavailable", "timeout") and ended["error"]["advice"], ended
    lines(a, "copied", 1)
    until(lambda: len(qemus(b)) == 1 and len(taps(b, cables)) == 1, "h1 has but the guest that moved", PATIENCE)
    cables.join(*NAMES)
    for name in ("copied", "fails"):
        runs_on(a, b, name)
    until(lambda: len(taps(a, cables)) == 2, "taps of h0")
    until(lambda: all(o["finished_at"] for o in b.get("/v1/operations") if o["kind"] == "vm.receive"), "end of all receptions")
    for name in ("copied", "fails"):
        until(lambda name=name: a.plim("vm", "migrate", name, "h1").status == 0, f"a new move of {name}", PATIENCE)
        runs_on(b, a, name)
    assert is_clean(a) and taps(a, cables) == []


@pytest.mark.parametrize("cut", NAMES)
def test_a_host_is_cut_off_from_all_while_a_guest_moves(hosts, cables, guests, cut):
    a, b = hosts
    guests(g=LARGE)
    ident = begin(a, "g", b)
    cables.cut(cut)
    other = b if cut == "h0" else a
    until(lambda: {h["name"]: h["state"] for h in other.get("/v1/pool")["hosts"]}[cut] == "offline", f"{cut} is offline", PATIENCE)
    cables.heal(cut)
    # If TCP, and the patience of both, outlived it, the move goes on.
    until(lambda: a.get(f"/v1/operations/{ident}")["status"] != "running" or a.plim("operation", "cancel", ident).status == 0,
          "the end of it", PATIENCE)
    ended = until(lambda: next((o for o in [a.get(f"/v1/operations/{ident}")] if o["finished_at"]), None),
                  "end of the move", PATIENCE)
    assert ended["status"] in ("failed", "cancelled") and ended["error"]["message"], ended
    runs_on(a, b, "g")
    assert_clean(b)
    until(lambda: taps(b, cables) == [], "h1 is clean")
    until(lambda: {h["state"] for h in other.get("/v1/pool")["hosts"]} == {"online"}, f"{cut} is back", PATIENCE)
    until(lambda: a.plim("vm", "migrate", "g", "h1").status == 0, "a new move", PATIENCE)
    runs_on(b, a, "g")


def test_the_source_is_cut_off_when_its_guests_were_sent(hosts, cables, guests):
    """One guest is there and goes on; one fails over there, and all of it is on a host that nobody reaches."""
    a, b = hosts
    guests(arrives=SMALL, fails=SMALL)
    (arrives, pid), (fails, failing) = hold(a, "arrives", b), hold(a, "fails", b)
    all_sent(cables, a, "arrives", "fails")
    cables.cut("h0")
    os.kill(failing, signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    until(lambda: b.runtime("arrives")["operation"] is None, "the guest on h1", PATIENCE)
    lines(b, "arrives", 1)
    until(lambda: {h["name"]: h["state"] for h in b.get("/v1/pool")["hosts"]}["h0"] == "offline", "h0 is offline", PATIENCE)
    runtime = b.runtime("fails")
    assert runtime["operation"] and b.plim("vm", "start", "fails", "--host", "h1").status != 0, "it may be taken back"
    cables.heal("h0")
    ended = until(lambda: next((o for o in [a.get(f"/v1/operations/{arrives}")] if o["finished_at"]), None), "end of a move", PATIENCE)
    assert ended["status"] == "done", ended
    ended = until(lambda: next((o for o in [a.get(f"/v1/operations/{fails}")] if o["finished_at"]), None), "end of a move", PATIENCE)
    assert ended["status"] == "failed", ended
    runs_on(b, a, "arrives")
    runs_on(a, b, "fails")
    until(lambda: len(qemus(a)) == len(taps(a, cables)) == 1 and len(qemus(b)) == len(taps(b, cables)) == 1, "one guest on each")
