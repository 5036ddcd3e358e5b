# SPDX-License-Identifier: Apache-2.0
"""plim tools: what guests' agents are, told once when they drift, and a rollout that stops at the first that does not come back."""
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from daemon import Daemon, until
from linux_guest import ext4_disk, linux_guest

NAMES = ("web1", "web2", "web3")
BOOT = 180
# The guest's package manager: one that works, one that ends well and changes nothing, one that fails.
PACKAGES = b"""#!/bin/sh
echo run >>/run/packages
grep -q lazy /run/mood 2>/dev/null && exit 0
grep -q broken /run/mood 2>/dev/null && { echo 'no space left on device' >&2; exit 100; }
mv /bin/qemu-ga.new "$(command -v qemu-ga)"
kill $(pidof qemu-ga)
"""


def agent_version():
    """Of this machine's, which the guests have too."""
    told = subprocess.run(["qemu-ga", "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    return re.search(r"(\d+\.\d+\.\d+)", told)[1]


def newer():
    """What the other agent says it is: as long as the version that stands in its place."""
    return "9" + agent_version()[1:]


def newer_agent(program):
    old = agent_version().encode() + b"\0"
    content = pathlib.Path(program).read_bytes()
    assert old in content
    return content.replace(old, newer().encode() + b"\0")


@pytest.fixture(scope="module")
def guests():
    """A daemon, and three Linux guests whose agents answer."""
    program = shutil.which("qemu-ga")
    if program is None:
        pytest.skip("qemu-ga is not installed")
    daemon = Daemon("qemu")
    folder = daemon.base / "files"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        kernel, initrd = linux_guest(folder, {"/bin/qemu-ga.new": newer_agent(program), "/bin/packages": PACKAGES})
        daemon.start()
        daemon.ok("host", "set", "testhost", f"tools.version={agent_version()}")
        for name in NAMES:
            disk = folder / f"{name}.raw"
            ext4_disk(disk, 8 << 20)
            daemon.ok("vm", "create", name, "--memory", "128MiB", "--kernel", kernel, "--initrd", initrd, "--cmdline",
                      "console=ttyS0 quiet no_timer_check mitigations=off panic=1 address=10.0.2.15/24", "--disk",
                      f"name=root,path={disk},format=raw", "--set", "property.os_type=linux")
            daemon.ok("vm", "start", name)
        until(lambda: all(tools(daemon, name)["drivers"] for name in NAMES), "word of all guests' tools", BOOT)
        yield daemon
    finally:
        daemon.close()


def tools(daemon, name):
    return daemon.get(f"/v1/vms/{name}/tools")


def run(daemon, name, script):
    """A shell's output in the guest."""
    return daemon.ok("vm", "exec", name, "--", "/bin/sh", "-euc", script)


def told(daemon):
    """[(vm, version, expected)] of the events of drift."""
    events = daemon.events("vm.tools-old")
    return [(e["object"]["name"], e["details"]["version"], e["details"]["expected"]) for e in events]


def rollout(daemon, *args):
    """(status, result) of a rollout with the guests' package manager."""
    ran = daemon.plim("tools", "rollout", "--command", "/bin/packages", "--answer-within", "60s", *args, "-o", "json")
    return ran.status, json.loads(ran.out), ran.err


def test_what_a_guest_s_tools_are_and_cost_is_read_once_and_told(guests):
    seen = tools(guests, "web1")
    assert seen["agent"]["state"] == "connected" and seen["agent"]["version"] == agent_version()
    assert {"guest-exec", "guest-ping"} <= set(seen["agent"]["commands"])
    assert {"exec", "files", "clock", "freeze"} <= set(seen["can"])
    drivers = {d["device"]: d["driver"] for d in seen["drivers"]}
    assert drivers["virtio-blk"] == "virtio_blk" and drivers["virtio-serial"] == "virtio_console"
    # The lab's initrd has no module for the balloon: what its kernel tells is what is judged.
    there = run(guests, "web1", "ls /sys/bus/virtio/drivers").split()
    assert ("balloon" in seen["can"]) == ("virtio_balloon" in there)
    assert ("balloon" in [c["capability"] for c in seen["cannot"]]) == ("virtio_balloon" not in there)
    words = guests.ok("tools", "show", "web1")
    assert f"its agent {agent_version()} came" in words and "virtio-blk: virtio_blk" in words
    table = guests.ok("tools", "status", "--filter", "os_type=linux", "--sort", "name:desc")
    assert re.search(r"(?s)^NAME .*^web3 .*^web2 .*^web1 ", table, re.M), table
    assert guests.ok("tools", "status", "--filter", "os_type=windows", "--no-headers") == ""


def test_drift_is_told_once_for_each_pair_of_versions(guests):
    version = agent_version()
    guests.ok("host", "set", "testhost", "tools.version=99")
    until(lambda: len(told(guests)) >= 3, "events of all guests")
    assert sorted(told(guests)) == [(name, version, "99") for name in NAMES]
    guests.ok("host", "set", "testhost", f"tools.version={version}")
    assert {tools(guests, name)["drift"] for name in NAMES} == {"current"}
    guests.ok("host", "set", "testhost", "tools.version=99")
    # A daemon that begins anew hears them again.
    before = tools(guests, "web1")["agent"]["seen_at"]
    guests.restart()
    until(lambda: tools(guests, "web1")["agent"]["seen_at"] != before, "word of web1's tools")
    guests.ok("host", "set", "testhost", "tools.version=98")
    until(lambda: len(told(guests)) >= 6, "events of all guests")
    assert sorted(told(guests))[::2] == [(name, version, "98") for name in NAMES] and len(told(guests)) == 6
    assert tools(guests, "web1")["drift"] == "older"


def test_a_rollout_stops_at_the_first_guest_that_does_not_come_to_its_version(guests):
    guests.ok("host", "set", "testhost", f"tools.version={newer()}")
    run(guests, "web2", "echo broken >/run/mood")
    plan = guests.ok("tools", "rollout", "--command", "/bin/packages", "--wave", "50%", "--dry-run")
    assert re.search(r"wave 1 of 2\n  web1 on testhost: from .*\n  web2 .*\nwave 2 of 2\n  web3 ", plan), plan
    assert run(guests, "web1", "ls /run") == run(guests, "web3", "ls /run"), "a plan does nothing"
    status, result, err = rollout(guests, "--wave", "1")
    assert status == 17 and result["status"] == "stopped", result
    assert [d["name"] for d in result["done"]] == ["web1"] and result["done"][0]["to"] == newer(), result
    assert [f["name"] for f in result["failed"]] == ["web2"] and result["not_begun"] == ["web3"]
    assert "failed with 100: no space left on device" in err and "goes on with those that are not upgraded" in err
    assert run(guests, "web3", "cat /run/packages 2>/dev/null || echo untouched") == "untouched\n"
    until(lambda: tools(guests, "web1")["agent"]["version"] == newer(), "word of web1's new agent")
    assert tools(guests, "web1")["drift"] == "current" and tools(guests, "web3")["drift"] == "older"


def test_the_same_command_goes_on_with_those_that_are_left(guests):
    guests.ok("vm", "pause", "web3")
    run(guests, "web2", "echo lazy >/run/mood")
    status, result, err = rollout(guests, "--answer-within", "500ms")
    assert status == 17 and f"its agent is {agent_version()} still after 500 ms" in err and result["done"] == []
    reasons = {s["name"]: s["reason"] for s in result["skipped"]}
    assert reasons == {"web1": f"its agent is {newer()} already", "web3": "it is paused"}
    guests.ok("vm", "resume", "web3")
    run(guests, "web2", "echo broken >/run/mood")
    status, result, err = rollout(guests, "--max-failures", "1", "--rest", "100ms")
    assert status == 17 and result["status"] == "failed" and [d["name"] for d in result["done"]] == ["web3"]
    run(guests, "web2", "rm /run/mood")
    words = guests.ok("tools", "rollout", "--command", "/bin/packages")
    assert re.search(rf"wave 1 of 1\nweb2: from \S+ to {newer()} in .*\ndone: 1 upgraded, 0 failed, 2 left alone", words), words
    assert guests.ok("tools", "rollout", "--command", "/bin/packages").endswith(
        "done: 0 upgraded, 0 failed, 3 left alone, 0 not begun\n")


def test_a_guest_that_is_off_shows_what_was_seen_last(guests):
    until(lambda: tools(guests, "web3")["agent"]["version"] == newer(), "word of web3's new agent")
    guests.ok("vm", "kill", "web3")
    seen = tools(guests, "web3")
    assert seen["state"] == "stopped" and seen["agent"]["state"] == "gone" and seen["agent"]["version"] == newer()
    assert seen["agent"]["seen_at"] and "was heard last" in guests.ok("tools", "show", "web3")
    guests.ok("vm", "delete", "web3")
    assert [g["name"] for g in guests.get("/v1/tools")] == ["web1", "web2"]


# ---- without guests ----

def test_guests_that_were_never_heard_lack_what_hangs_on_an_agent(sim):
    sim.ok("vm", "create", "a", "--nic", "none")
    sim.ok("vm", "create", "b", "--nic", "none", "--set", "agent=false", "--set", "property.os_type=windows")
    for name in ("a", "b"):
        sim.ok("vm", "start", name)
    a, b = sim.get("/v1/tools")
    assert a["agent"] == {"state": "none", "version": None, "seen_at": None, "commands": [], "disabled": []}
    assert a["drift"] == "none" and "exec" in [c["capability"] for c in a["cannot"]] and "balloon" in a["unknown"]
    assert "Install qemu-guest-agent" in a["cannot"][0]["advice"] and "plim vm set b agent=true" in b["cannot"][0]["advice"]
    assert a["expected"] == "7.2.0" and b["expected"] is None, "Windows' agents are numbered on their own"
    sim.ok("host", "set", "testhost", "tools.windows_version=109.0")
    assert tools(sim, "b")["expected"] == "109.0"
    words = sim.ok("tools", "rollout")
    assert "a: left alone, no agent has ever answered" in sim.ok("tools", "rollout", "--dry-run")
    assert words == "done: 0 upgraded, 0 failed, 2 left alone, 0 not begun\n"
    assert told(sim) == []


def test_what_makes_no_sense_is_refused_with_advice(sim):
    sim.ok("vm", "create", "a", "--nic", "none")
    for args, advice in ((("tools", "rollout", "--wave", "0%"), "10%"), (("tools", "rollout", "--wave", "some"), "10%"),
                         (("tools", "rollout", "--version", "newest"), "7.2"), (("tools", "rollout", "--rest", "x"), ""),
                         (("tools", "rollout", "--max-failures", "-1"), ""),
                         (("host", "set", "testhost", "tools.version=newest"), "7.2"),
                         (("tools", "status", "--filter", "drift"), "")):
        ran = sim.plim(*args)
        assert ran.status == 2 and advice in ran.err, (args, ran)
    assert sim.plim("tools", "show", "nobody").status == 4
    assert sim.get("/v1/hosts/testhost")["settings"] == {}


def test_every_host_of_a_pool_tells_of_all_guests(make_pool):
    pool = make_pool(2)
    for n, host in enumerate(pool.hosts):
        host.ok("vm", "create", f"g{n}", "--nic", "none", "--host", host.name)
        host.ok("vm", "start", f"g{n}", "--host", host.name)
    for host in pool.hosts:
        seen = until(lambda host=host: [g for g in host.get("/v1/tools") if g["state"] == "running"][1:] and host.get("/v1/tools"),
                     "both guests")
        assert {g["name"]: g["host"] for g in seen} == {f"g{n}": h.name for n, h in enumerate(pool.hosts)}
