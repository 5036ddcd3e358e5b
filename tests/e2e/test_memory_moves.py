# SPDX-License-Identifier: Apache-2.0
"""Guests that have grown, by virtio-mem and by DIMMs, keep what they have: over a move, a restart of the daemon, suspension.

QEMU 7.2 loses writes of a guest that moves under TCG unless its RAM is no multiple of 256 KiB (docs/payload.md), and what is
plugged is one: what is compared was written before the move and is only read after it.
"""
import pathlib
import shutil
import tempfile

import pytest

from linux_guest import linux_guest
from moving import assert_clean
from pool import Pool
from test_memory import MIB, await_decision, balance, decision, has_reported, run

START = 256 * MIB + 64 * 1024
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


def fill(host, name, number):
    """48 MiB more that it needs; it has room for them, and its buffer, afterwards."""
    run(host, name, f"dd if=/dev/urandom of=/run/piece bs=1M count=1 2>/dev/null; cat $(yes /run/piece | head -n 48) >/full/{number}")
    await_decision(host, name, lambda d: has_reported(d) and d["need"] > (number + 1) * 48 * MIB and d["size"] >= d["need"] * 1.1,
                   f"room for {number + 1} files")


def grow(host, name):
    """Files until it had more memory plugged in; how many there are."""
    before, number = decision(host, name).get("plugged", 0), len(run(host, name, "ls /full").split())
    while decision(host, name).get("plugged", 0) <= before:
        fill(host, name, number)
        number += 1
        assert number < 12, balance(host, name)["trail"]
    return number


def sums(host, name):
    return run(host, name, "sha256sum /full/*")


def total(host, name):
    return int(run(host, name, "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) * 1024


def moved(here, there, name):
    """It has over there what it had here."""
    content, before = sums(here, name), decision(here, name)
    assert "moved in" in here.ok("vm", "migrate", name, there.name)
    after = await_decision(there, name, has_reported, f"report on {there.name}")
    # It may have grown or shrunk a step meanwhile.
    assert after["plugged"] > 0 and abs(after["size"] - before["size"]) <= 128 * MIB, (before, after)
    assert (after["base"], after["method"]) == (before["base"], before["method"])
    assert sums(there, name) == content


def dimms(host, name):
    """Of the command line with which it would be taken up elsewhere."""
    return [row["part"] for row in host.get(f"/v1/vms/{name}/explain")["arguments"] if row["part"].startswith("pc-dimm,")]


def test_a_guest_that_grew_by_virtio_mem_moves_and_goes_on_to_shrink(two):
    a, b = two.hosts
    started(a, "mem")
    grow(a, "mem")
    assert "by virtio-mem" in a.ok("vm", "memory", "mem", "--why")
    moved(a, b, "mem")
    run(b, "mem", "rm /full/*")
    await_decision(b, "mem", lambda d: d["plugged"] == 0 and d["size"] <= START, "all given back")
    b.ok("vm", "kill", "mem")


def test_a_guest_without_virtio_mem_grows_by_dimms_and_keeps_them(two):
    a, b = two.hosts
    first = started(a, "dimm")
    assert first["plugged"] == 0 and first["method"] == "dimm"
    small = total(a, "dimm")
    grow(a, "dimm")
    plugged = await_decision(a, "dimm", lambda d: d["plugged"] > 0, "a DIMM")["plugged"]
    assert plugged % (128 * MIB) == 0 and total(a, "dimm") > small + 96 * MIB, "the guest uses what was plugged"
    assert "by dimm" in a.ok("vm", "memory", "dimm", "--why")
    content = sums(a, "dimm")
    # A daemon that begins anew finds it so.
    a.kill9()
    a.start()
    again = await_decision(a, "dimm", has_reported, "report to the new daemon")
    assert again["plugged"] == plugged and len(dimms(a, "dimm")) == plugged // (128 * MIB), "recorded"
    # So does a QEMU that takes it up.
    a.ok("vm", "suspend", "dimm")
    a.ok("vm", "start", "dimm")
    assert await_decision(a, "dimm", has_reported, "report after it was suspended")["plugged"] >= plugged
    assert sums(a, "dimm") == content
    moved(a, b, "dimm")
    grow(b, "dimm")
    more = decision(b, "dimm")["plugged"]
    assert more > plugged and more % (128 * MIB) == 0
    run(b, "dimm", "rm /full/*")
    now = await_decision(b, "dimm", lambda d: d["size"] < START, "memory given back")
    assert now["plugged"] == more and now["ballooned"] > 0, "DIMMs stay, and the balloon takes what is in them"
    b.ok("vm", "kill", "dimm")
    assert_clean(b)
    b.ok("vm", "start", "dimm")
    assert decision(b, "dimm").get("plugged", 0) == 0 and dimms(b, "dimm") == [], "a cold start begins with memory.start"
