# SPDX-License-Identifier: Apache-2.0
"""A host is cut off from its pool with its member of etcd, while guests run: none runs twice, none is lost.

Each guest writes all the time into its disk who it is (the job `write` of docs/payload.md). The disks lie where all
hosts see them. An observer, that knows no daemon, reads nothing but the disks: a guest that ran twice would show as two
writers in turn. It also sees when a guest wrote last, so that a lease can be held against it.
"""
import json
import os
import shutil
import signal
import threading
import time

import pytest

from cables import CabledHost, Cables
from daemon import PAYLOAD, until

NAMES = ("h0", "h1", "h2")
LEASE = 25  # s; a guard, or the observer, may come five seconds late and nobody has taken over
WRITES_HZ = 50
LOOK = 0.002  # s between two looks; a writer that writes once a look or less often is not missed


class Observer:
    """Reads the disks. `seen` of a disk: [writer, its first and last number, when they were seen]."""

    def __init__(self, disks):
        self.disks = {name: os.open(path, os.O_RDONLY) for name, path in disks.items()}
        self.seen = {name: [] for name in disks}
        self.wrong = []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self):
        while not self.ending.wait(LOOK):
            for name, fd in self.disks.items():
                words = os.pread(fd, 512, 0).rstrip(b"\0").split()
                if len(words) == 3 and words[0] == b"writer":
                    self.take(name, words[1].decode(), int(words[2], 16))

    def take(self, name, writer, number):
        runs, now = self.seen[name], time.monotonic()
        if not runs or runs[-1][0] != writer:
            if any(run[0] == writer for run in runs):
                self.wrong.append(f"{name}: {writer} writes again at {number}, after {runs[-1]}")
            runs.append([writer, number, number, now, now])
        elif number < runs[-1][2]:
            self.wrong.append(f"{name}: {writer} goes back from {runs[-1][2]} to {number}")
        elif number > runs[-1][2]:
            runs[-1][2], runs[-1][4] = number, now

    def last(self, name):
        """(writer, number, when) of the last write that was seen."""
        run = self.seen[name][-1]
        return run[0], run[2], run[4]

    def alive(self, name, deadline=300):
        """Wait for a write from now on, and return its writer."""
        until(lambda: self.seen[name], f"first write of {name}", deadline)
        before = self.last(name)
        until(lambda: self.last(name)[:2] != before[:2], f"write of {name}", deadline)
        return self.last(name)[0]

    def close(self):
        self.ending.set()
        self.thread.join()
        for fd in self.disks.values():
            os.close(fd)


@pytest.fixture
def cables():
    made = Cables(NAMES)
    yield made
    made.close()


@pytest.fixture
def hosts(cables, folder):
    """A pool of three hosts with three voters; the guest w0 runs on h0, and so on."""
    if shutil.which("etcd") is None:
        pytest.skip("there is no program etcd")
    made = {}
    try:
        for name in NAMES:
            made[name] = CabledHost(cables, name, ("--lease", str(LEASE)))
            made[name].start()
        made["h0"].ok("pool", "init", "--address", made["h0"].address)
        for name in NAMES[1:]:
            made[name].ok("pool", "join", "--token", made["h0"].ok("pool", "token").strip(), "--address",
                          made[name].address)
        for name in NAMES:
            until(lambda name=name: is_complete(made[name], cables), f"three voters, known to {name}", 300)
        wait_anew(made.values())
        yield made
    finally:
        for name in NAMES:
            cables.heal(name)
        end_all(made.values())


@pytest.fixture
def observer(hosts, folder):
    disks = {}
    for number, name in enumerate(NAMES):
        guest = f"w{number}"
        disks[guest] = folder / guest
        disks[guest].write_bytes(bytes(1 << 20))
        hosts[name].ok("vm", "create", guest, "--kernel", PAYLOAD, "--nic", "none", "--memory", "16MiB", "--cmdline",
                       f"job=write:{WRITES_HZ}", "--disk", f"name=root,path={disks[guest]},format=raw", "machine=pc")
        hosts[name].ok("vm", "start", guest, "--host", name)
    watching = Observer(disks)
    yield watching
    watching.close()


def members(host):
    """As the host knows them; nothing while its daemon begins anew."""
    try:
        return {h["name"]: h for h in host.get("/v1/pool")["hosts"]}
    except (OSError, AssertionError):
        return {}


def end_all(hosts):
    """First the guests, then the daemons, while all members of etcd live; those go at last."""
    try:
        for host in hosts:
            for guest in host.processes():
                if guest in host.guests():
                    os.kill(guest, signal.SIGKILL)
        for host in hosts:
            if host.process.poll() is None:
                host.process.kill()
                host.process.wait()
    finally:
        for host in hosts:
            host.close()


def is_complete(host, cables):
    """All vote, and the daemon has begun anew with the addresses of all."""
    known = members(host)
    return [known[name]["etcd"] for name in NAMES if name in known] == ["voter"] * 3 and \
        all(cables.address(name) in json.loads((host.state / "pool.json").read_text())["store"] for name in NAMES)


def state(host, name):
    return members(host).get(name, {}).get("state")


def wait_anew(hosts):
    """The file is written before the daemon begins anew."""
    until(lambda: all(h.times_said("ready on") > h.times_said("beginning anew") for h in hosts), "all daemons", 300)


def is_alone(host):
    """In no pool any more; its daemon may begin anew just now."""
    try:
        return host.get("/v1")["pool"] is None
    except (OSError, AssertionError):
        return False


def is_locked_out(host, guest, where):
    """A start is refused, for this reason in the end: daemons begin anew when a member of etcd has gone."""
    ran = host.plim("vm", "start", guest, "--host", where)
    assert ran.status != 0, ran
    return "lock" in ran.err


def cut_off(cables, hosts, observer, name, guest):
    """Pull its cable; its guest must have stopped before anybody may believe it dead."""
    cables.cut(name)
    since = time.monotonic()
    until(lambda: state(hosts["h0"], name) == "offline", f"{name} is offline")
    _, number, when = observer.last(guest)
    assert when < since + LEASE, f"{guest} wrote {when - since:.1f} s after the cut"
    time_of_rest = time.monotonic()
    until(lambda: time.monotonic() > time_of_rest + 1, "a second")
    assert observer.last(guest)[1] == number, f"{guest} is held"


def test_a_cut_off_hosts_guests_are_held_and_go_on(cables, hosts, observer):
    writers = {guest: observer.alive(guest) for guest in observer.disks}
    cut_off(cables, hosts, observer, "h2", "w2")
    held = observer.last("w2")
    # The others have two of three votes: they live on, and change records.
    assert {guest: observer.alive(guest) for guest in ("w0", "w1")} == {g: writers[g] for g in ("w0", "w1")}
    until(lambda: hosts["h0"].plim("vm", "set", "w0", "vcpus=2").status == 0, "change without h2")
    assert hosts["h2"].plim("vm", "kill", "w0").status != 0, "h2 can do nothing to the others"
    cables.heal("h2")
    assert observer.alive("w2") == held[0] == writers["w2"], "it is the same guest, not a new start"
    until(lambda: state(hosts["h0"], "h2") == "online", "h2 is back", 300)
    until(lambda: any("1 of them go on" in e["message"] for e in hosts["h0"].wait_event("host.fenced", "h2")), "its fence")
    for guest in observer.disks:
        assert observer.alive(guest) == writers[guest]
        assert len(observer.seen[guest]) == 1, observer.seen[guest]
    assert observer.wrong == []


def test_a_held_guest_is_not_started_a_second_time(cables, hosts, observer):
    writers = {guest: observer.alive(guest) for guest in observer.disks}
    assert hosts["h0"].plim("pool", "evict", "h1").status == 6, "it is alive"
    cut_off(cables, hosts, observer, "h1", "w1")
    until(lambda: hosts["h0"].plim("pool", "evict", "h1").status == 0, "eviction of h1")
    # The QEMU that is held has its disk locked yet: on such storage nobody can start the guest a second time.
    until(lambda: is_locked_out(hosts["h0"], "w1", "h2"), "refusal of a second start")
    for guest in ("w0", "w2"):
        assert observer.alive(guest) == writers[guest]
    assert [run[0] for run in observer.seen["w1"]] == [writers["w1"]]
    # The host comes back, with a member of etcd that the others took out: it ends the guest, and is on its own.
    cables.heal("h1")
    until(lambda: is_alone(hosts["h1"]), "h1 knows that it was evicted", 300)
    assert "its guests were ended" in hosts["h1"].wait_event("host.evicted", "h1")[0]["message"]
    until(lambda: not hosts["h1"].processes(), "end of its guests, of their guard and of its etcd")
    until(lambda: hosts["h0"].plim("vm", "start", "w1", "--host", "h2").status == 0, "start of w1 on h2")
    until(lambda: observer.last("w1")[0] != writers["w1"], "first write of w1 on h2")
    second = observer.alive("w1")
    assert [run[0] for run in observer.seen["w1"]] == [writers["w1"], second] and second != writers["w1"]
    assert observer.wrong == []
