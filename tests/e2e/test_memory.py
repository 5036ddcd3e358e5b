# SPDX-License-Identifier: Apache-2.0
"""Dynamic memory: a real guest grows when it needs memory, gives back what it does not, and is never squeezed."""
import contextlib
import json
import pathlib
import re
import shutil
import tempfile
import time

import pytest

from daemon import PAYLOAD, Daemon, until
from linux_guest import linux_guest

MIB = 1 << 20
PATIENCE = 300.0
START = 384 * MIB
MOVES = ("memory.min=224MiB", "memory.max=2GiB", "memory.buffer=40")


def create(daemon, name, system, words, *settings):
    kernel, initrd = system
    daemon.ok("vm", "create", name, "--memory", START, *settings, "--kernel", kernel, "--initrd", initrd, "--nic", "none",
              "--cmdline", f"quiet no_timer_check drivers={words}")


@pytest.fixture(scope="module")
def fast():
    """A daemon that looks each second, and three guests of one system that differ in their drivers."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plim-memory-"))
    folder.chmod(0o755)
    d = Daemon("qemu", args=("--memory-sample", "1"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        system = linux_guest(folder, script="memory_guest.sh")
        d.start()
        stack.callback(d.close)
        create(d, "a", system, "virtio_balloon|virtio_mem", *MOVES)
        create(d, "silent", system, "none memhp_default_state=online_movable", *MOVES)
        create(d, "deaf", system, "none", "memory.max=1GiB", "memory.method=balloon")
        d.ok("vm", "start", "a", "silent", "deaf")
        yield d


def balance(daemon, name):
    return daemon.get(f"/v1/vms/{name}/balance")


def decision(daemon, name):
    return balance(daemon, name)["decision"] or {}


def await_decision(daemon, name, check, what):
    def look():
        now = decision(daemon, name)
        return now if now and check(now) else None
    try:
        return until(look, what, PATIENCE)
    except AssertionError as error:
        raise AssertionError(f"{error}: {balance(daemon, name)}") from None


def has_reported(now):
    return now["report"] is not None and now["need"] is not None


def run(daemon, name, script):
    """In the guest; its agent may not be there yet."""
    return until(lambda: [ran.out for ran in [daemon.plim("vm", "exec", "--timeout", "120s", name, "--", "sh", "-c", script)]
                          if ran.status == 0], f"'{script}' in the guest", PATIENCE)[0]


def take(daemon, name, number):
    """48 MiB more, which the guest's kernel can't drop; less than its buffer."""
    run(daemon, name, f"dd if=/dev/zero of=/full/{number} bs=1M count=48 2>/dev/null")


def test_a_guest_grows_with_its_need_shrinks_after_it_and_never_swaps(fast):
    first = await_decision(fast, "a", has_reported, "first report")["report"]["total"]
    for number in range(5):
        take(fast, "a", number)
        used = (number + 1) * 48 * MIB
        await_decision(fast, "a", lambda d: has_reported(d) and d["need"] > used and d["size"] >= d["need"] * 1.15,
                       f"room above {used // MIB} MiB of files")
    now = await_decision(fast, "a", lambda d: d["report"]["total"] > first + 32 * MIB, "use of what was plugged")
    assert now["size"] > START and now["plugged"] > 0, balance(fast, "a")
    # With online_movable its kernel may not use it, and ends for want of it (bench/memory/zones.py).
    assert run(fast, "a", "cat /sys/devices/system/memory/auto_online_blocks").strip() == "online"
    assert "with 40 % of buffer" in fast.ok("vm", "memory", "a", "--why")
    assert {"begun", "grew"} <= {d["verdict"] for d in balance(fast, "a")["trail"]}
    # What QEMU carries over to a file, and so to another host: the size, and all that is in it.
    fast.ok("vm", "suspend", "a")
    fast.ok("vm", "start", "a")
    again = await_decision(fast, "a", has_reported, "report after it was suspended")
    assert again["size"] >= now["size"] and again["plugged"] >= now["plugged"]
    assert run(fast, "a", "ls /full").split() == [str(n) for n in range(5)]
    run(fast, "a", "rm /full/*")
    # Of what was plugged a block stays where the kernel has something of its own; the balloon makes up for it.
    now = await_decision(fast, "a", lambda d: has_reported(d) and d["size"] < START - 16 * MIB and d["plugged"] <= 64 * MIB,
                         "all given back")
    assert now["ballooned"] > 0 and now["size"] >= 224 * MIB and now["size"] >= now["need"]
    assert now["report"]["swap_out"] in (0, None)
    assert "guest" in run(fast, "a", "echo guest"), "it lives"
    assert "shrank" in fast.ok("vm", "memory", "a", "--why")
    shown = fast.ok("vm", "memory", "a")
    assert "virtio-mem" in shown and "available" in shown
    metrics = fast.get("/metrics").decode()
    assert re.search(r'^plimsoll_vm_memory_size_bytes\{vm="[^"]+",name="a"\} \d+$', metrics, re.M)


def test_who_has_no_balloon_driver_is_left_alone_and_counted_in_full(fast):
    assert run(fast, "silent", "echo up").strip() == "up"
    now = await_decision(fast, "silent", lambda d: d["verdict"] == "silent", "word of its silence")
    assert now["size"] == now["to"] == START and now["report"] is None
    # The one that was to give back what is above its start does not: it is told of, and counted by what it has.
    fast.wait_event("vm.memory-ignored", "deaf", PATIENCE)
    await_decision(fast, "deaf", lambda d: d["to"] == 1024 * MIB, "its true size")
    assert fast.get("/v1/hosts/testhost/limits")["memory"]["claimed"] >= START + 1024 * MIB


def test_a_guest_whose_kernel_may_not_use_new_memory_is_left_so_and_told_of(fast):
    now = await_decision(fast, "silent", lambda d: d["onlines"], "word of its agent")
    assert now["onlines"] == "online_movable" and "can hang or panic" in now["warning"]
    assert run(fast, "silent", "cat /sys/devices/system/memory/auto_online_blocks").strip() == "online_movable"
    for shown in (fast.ok("vm", "memory", "silent"), fast.ok("vm", "memory", "silent", "--why")):
        assert re.search(r"^warning +its kernel .* boot it with memhp_default_state=online on", shown, re.M), shown
    # Its last entry says until when it was so, and a look may come between two questions.
    until(lambda: json.loads(fast.ok("vm", "memory", "silent", "--why", "-o", "json")) == balance(fast, "silent")["trail"],
          "the same trail")
    assert decision(fast, "a")["onlines"] == "online" and decision(fast, "a")["warning"] is None
    assert "warning" not in fast.ok("vm", "memory", "a", "--why")


def test_a_daemon_that_begins_anew_leaves_a_guest_the_size_that_it_has(fast):
    size = decision(fast, "a")["size"]
    assert size < START
    fast.restart()
    now = await_decision(fast, "a", has_reported, "report to the new daemon")
    assert abs(now["size"] - size) <= 64 * MIB
    assert balance(fast, "a")["trail"][0]["to"] < START


def switches(pid):
    return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", (task / "status").read_text(), re.M)[1])
               for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def woken_within(pid, seconds):
    before = switches(pid)
    time.sleep(seconds)
    return switches(pid) - before


def test_a_guest_with_fixed_memory_is_not_asked(fast):
    fast.ok("vm", "kill", "a", "silent", "deaf")
    fast.ok("vm", "create", "fixed", "--memory", "64MiB", "--kernel", str(PAYLOAD), "--nic", "none", "--cmdline", "job=idle")
    fast.ok("vm", "start", "fixed")
    pid = fast.runtime("fixed")["pid"]
    # For longer than it may wait for a processor: then there is nothing left of its start.
    until(lambda: woken_within(pid, 4.0) == 0, "rest of an idle guest")
    assert woken_within(pid, 5.0) == 0
    answer = balance(fast, "fixed")
    assert answer["dynamic"] is False and answer["decision"] is None and answer["memory"] == 64 * MIB
    assert "is fixed" in fast.ok("vm", "memory", "fixed") and fast.runtime("fixed")["dynamic"] is None


def test_ranges_in_the_wrong_order_are_refused_with_what_to_set(sim):
    def made(*settings):
        return sim.plim("vm", "create", "a", "--memory", "512MiB", "--kernel", str(PAYLOAD), *settings)

    for settings, word in ((("memory.min=1GiB",), "memory.min to 512 MiB or less"),
                           (("memory.max=256MiB",), "memory.max to 512 MiB or more"),
                           (("memory.min=2GiB", "memory.max=256MiB"), "memory.min"),
                           (("memory.max=1GiB", "platform.balloon=false"), "platform.balloon=true"),
                           (("memory.max=1GiB", "memory.buffer=1000"), "between 5 and 200"),
                           (("memory.max=1GiB", "memory.method=acpi"), "virtio-mem, dimm, balloon")):
        ran = made(*settings)
        assert ran.status == 2 and word in ran.err, ran
    assert made("memory.min=256MiB", "memory.max=1GiB").status == 0
    ran = sim.plim("vm", "set", "a", "memory=2GiB")
    assert ran.status == 2 and "memory.max to 2 GiB or more" in ran.err, ran
    assert sim.vm("a")["settings"]["memory.start"] == 512 * MIB, "a refused change changes nothing"
    ran = sim.plim("vm", "memory", "a")
    assert ran.status == 6 and "does not run" in ran.err


def test_explain_names_where_it_comes_from(sim):
    def causes():
        """{part of the command line: key of its cause}"""
        return {row["part"]: row["key"] for row in sim.get("/v1/vms/a/explain")["arguments"]}

    sim.ok("vm", "create", "a", "--memory", "512MiB", "memory.max=1GiB", "property.os_type=linux", "--kernel", str(PAYLOAD))
    linux = causes()
    assert linux["maxmem=1024M"] == "memory.max" and linux["size=512M"] == "memory.start"
    assert [key for part, key in linux.items() if part.startswith("virtio-mem-pci")] == ["os_type"]
    sim.ok("vm", "set", "a", "property.os_type=windows")
    windows = causes()
    assert windows["size=1024M"] == "memory.max" and not any(part.startswith("virtio-mem") for part in windows)
