# SPDX-License-Identifier: Apache-2.0
"""Guests that have grown, by virtio-mem and by DIMMs, keep what they have: over a move and a restart of the daemon.

QEMU 7.2 loses writes of a guest that moves under TCG unless its RAM is no multiple of 256 KiB (docs/payload.md), and what is
plugged is one: what is compared was written before the move and is only read after it.
"""
import pathlib
import re
import shutil
import tempfile

import pytest

from daemon import until
from linux_guest import linux_guest
from pool import Pool
from test_memory import MIB, PATIENCE, await_decision, balance, decision, has_reported, run

START = 256 * MIB + 64 * 1024
PIECE = 32  # MiB; a guest at rest has more than that of its buffer free
GROWS = ("memory.min=192MiB", "memory.max=1GiB", "memory.buffer=40")


@pytest.fixture(scope="module")
def two():
    """Two hosts, and of one system two guests for the first of them: one has virtio-mem's driver, the other has not."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plim-memory-moves-"))
    folder.chmod(0o755)
    pool = Pool(engine="qemu", args=("--memory-sample", "1"))
    try:
        kernel, initrd = linux_guest(folder, script="memory_guest.sh")
        pool.start(2)
        host = pool[0]
        for name, drivers, method in (("mem", "virtio_balloon|virtio_mem", "auto"), ("dimm", "virtio_balloon", "dimm")):
            host.ok("vm", "create", name, "--memory", START, *GROWS, f"memory.method={method}", "--kernel", kernel, "--initrd", initrd,
                    "--nic", "none", "--cmdline", f"quiet no_timer_check drivers={drivers}", "--host", host.name)
        yield pool
    finally:
        pool.close()
        shutil.rmtree(folder)


def started(host, name):
    host.ok("vm", "start", name, "--host", host.name)
    return await_decision(host, name, has_reported, "first report")


def room(host, name):
    """What could be had without swapping, as its kernel sees it now."""
    return int(run(host, name, "sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) * 1024


def fill(host, name, number):
    """A piece more that it needs, as soon as it has room for that: a guest that ran out of memory would stop at random."""
    until(lambda: room(host, name) >= (PIECE + 4) * MIB, f"room for {number + 1} files", PATIENCE)
    run(host, name, f"dd if=/dev/urandom of=/run/piece bs=1M count=1 2>/dev/null; cat $(yes /run/piece | head -n {PIECE}) >/full/{number}")


def grow(host, name):
    """Files until it had more memory plugged in; how many there are."""
    before, number = decision(host, name).get("plugged", 0), len(run(host, name, "ls /full").split())
    while decision(host, name).get("plugged", 0) <= before:
        fill(host, name, number)
        number += 1
        assert number < 16, balance(host, name)["trail"]
    return number


def at_rest(host, name):
    """It has what it was asked to take."""
    return await_decision(host, name, lambda d: has_reported(d) and d["verdict"] in ("rest", "calm"), f"rest of {name}")


def sums(host, name):
    return run(host, name, "sha256sum /full/*")


def total(host, name):
    return int(run(host, name, "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) * 1024


def moved(here, there, name):
    """It has over there what it had here."""
    content, before = sums(here, name), at_rest(here, name)
    assert "moved in" in here.ok("vm", "migrate", name, there.name)
    after = await_decision(there, name, has_reported, f"report on {there.name}")
    # What virtio-mem plugged may have become more or less meanwhile; DIMMs never become less.
    assert after["plugged"] >= (before["plugged"] if before["method"] == "dimm" else 2 * MIB), (before, after)
    assert (after["base"], after["method"]) == (before["base"], before["method"])
    assert sums(there, name) == content


def dimms(host, name):
    """Their sizes, of the command line with which it would be taken up elsewhere."""
    parts = [row["part"] for row in host.get(f"/v1/vms/{name}/explain")["arguments"]]
    sizes = [int(m[1]) * MIB for m in (re.match(r"memory-backend-ram,id=dimm\d+-memory,size=(\d+)M", part) for part in parts) if m]
    assert len(sizes) == sum(part.startswith("pc-dimm,") for part in parts), parts
    return sizes


def await_recorded(host, name):
    """What is plugged in is what is recorded: a DIMM comes first, and is recorded then."""
    until(lambda: sum(dimms(host, name)) == decision(host, name).get("plugged"), f"record of the DIMMs of {name}", PATIENCE)


@pytest.fixture(scope="module")
def over_there(two):
    """The guest with virtio-mem has grown, moved, and needs no more of it: what it gives back takes a while."""
    a, b = two.hosts
    started(a, "mem")
    grow(a, "mem")
    assert "by virtio-mem" in a.ok("vm", "memory", "mem", "--why")
    moved(a, b, "mem")
    run(b, "mem", "rm /full/*")
    return b


def test_a_guest_that_grew_by_virtio_mem_moves(over_there):
    assert over_there.runtime("mem")["state"] == "running"


def test_a_guest_without_virtio_mem_grows_by_dimms_and_keeps_them(two):
    a, b = two.hosts
    first = started(a, "dimm")
    assert first["plugged"] == 0 and first["method"] == "dimm"
    small = total(a, "dimm")
    grow(a, "dimm")
    plugged = at_rest(a, "dimm")["plugged"]
    assert plugged > 0 and plugged % (128 * MIB) == 0
    until(lambda: total(a, "dimm") > small + 96 * MIB, "use of what was plugged", PATIENCE)
    assert "by dimm" in a.ok("vm", "memory", "dimm", "--why")
    # A daemon that begins anew finds it so.
    a.kill9()
    a.start()
    again = await_decision(a, "dimm", has_reported, "report to the new daemon")
    assert again["plugged"] >= plugged
    await_recorded(a, "dimm")
    # So does a QEMU that takes it up elsewhere.
    moved(a, b, "dimm")
    grow(b, "dimm")
    more = decision(b, "dimm")["plugged"]
    assert more > plugged and more % (128 * MIB) == 0
    run(b, "dimm", "rm /full/*")
    # Each DIMM has cost the kernel some of what it had at first: how far it shrinks depends on how many there are.
    now = await_decision(b, "dimm", lambda d: d["size"] <= START + 32 * MIB, "memory given back")
    assert now["plugged"] >= more, "DIMMs stay, and the balloon takes what is in them"
    b.ok("vm", "kill", "dimm")
    b.ok("vm", "start", "dimm")
    # A cold start begins with memory.start; what is told at first may still be of the QEMU before.
    await_decision(b, "dimm", lambda d: has_reported(d) and d["plugged"] == 0, "start without a DIMM")
    assert not dimms(b, "dimm")


def test_a_guest_that_moved_goes_on_to_shrink(over_there):
    await_decision(over_there, "mem", lambda d: d["plugged"] <= 64 * MIB and d["size"] <= START, "all given back")
    over_there.ok("vm", "kill", "mem")
