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
BOOT = 300
NO_PORT = ("--set", "platform.cdrom_port=false")
# The guest's package manager: one that works, one that ends well and changes nothing, one that fails.
PACKAGES = b"""#!/bin/sh
echo run >>/run/packages
grep -q lazy /run/mood 2>/dev/null && exit 0
grep -q broken /run/mood 2>/dev/null && { echo 'no space left on device' >&2; exit 100; }
mv /bin/qemu-ga.new "$(command -v qemu-ga)"
kill $(pidof qemu-ga)
"""
# The disk of tools, and what runs its setup in a guest: Linux plays the part of a system that has no packages.
SETUP = """#!/bin/sh
echo disk >>/run/packages
grep -q broken /run/mood 2>/dev/null && { echo 'the setup failed' >&2; exit 7; }
while grep -q slow /run/mood 2>/dev/null; do sleep 0.2; done
cp "${0%/*}/qemu-ga" /bin/qemu-ga.new
mv /bin/qemu-ga.new "$(command -v qemu-ga)"
kill $(pidof qemu-ga)
"""
FROM_DISK = ("mkdir -p /cd; until mount -t iso9660 -o ro /dev/sr0 /cd 2>/dev/null; do sleep 0.2; done; /cd/setup; status=$?; "
             "grep -q holds /run/mood 2>/dev/null || umount /cd; exit $status")


def agent_version():
    """Of this machine's, which the guests have too."""
    told = subprocess.run(["qemu-ga", "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    return re.search(r"(\d+\.\d+\.\d+)", told)[1]


def newer():
    """What the other agent says it is: as long as the version that stands in its place."""
    return "8" + agent_version()[1:]


def newest():
    """The same of the one on the disk."""
    return "9" + agent_version()[1:]


def agent_that_is(version):
    old = agent_version().encode() + b"\0"
    content = pathlib.Path(shutil.which("qemu-ga")).read_bytes()
    assert old in content
    return content.replace(old, version.encode() + b"\0")


def tools_disk(folder):
    content = folder / "tools"
    content.mkdir()
    (content / "setup").write_text(SETUP)
    (content / "qemu-ga").write_bytes(agent_that_is(newest()))
    for program in content.iterdir():
        program.chmod(0o755)
    for name in ("tools.iso", "other.iso"):
        subprocess.run(["genisoimage", "-quiet", "-r", "-o", folder / name, content], check=True, timeout=120)
        (folder / name).chmod(0o644)


@pytest.fixture(scope="module")
def guests():
    """A daemon, and three Linux guests whose agents answer."""
    if None in (shutil.which("qemu-ga"), shutil.which("genisoimage")):
        pytest.skip("qemu-ga or genisoimage is not installed")
    daemon = Daemon("qemu")
    folder = daemon.base / "files"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        kernel, initrd = linux_guest(folder, {"/bin/qemu-ga.new": agent_that_is(newer()), "/bin/packages": PACKAGES})
        tools_disk(folder)
        daemon.start()
        daemon.ok("host", "set", "testhost", f"tools.version={agent_version()}")
        for name in NAMES:
            disk = folder / f"{name}.raw"
            ext4_disk(disk, 8 << 20)
            daemon.ok("vm", "create", name, "--memory", "128MiB", "--kernel", kernel, "--initrd", initrd, "--cmdline",
                      "console=ttyS0 quiet no_timer_check mitigations=off panic=1 address=10.0.2.15/24", "--disk",
                      f"name=root,path={disk},format=raw", "--set", "property.os_type=linux", *(NO_PORT if name == "web2" else ()))
            daemon.ok("vm", "start", name)
        until(lambda: all(tools(daemon, name)["drivers"] for name in NAMES), "word of all guests' tools", BOOT)
        yield daemon
    finally:
        daemon.close()


def tools(daemon, name):
    return daemon.get(f"/v1/vms/{name}/tools")


def run(daemon, name, script):
    """A shell's output in the guest."""
    return daemon.ok("vm", "exec", name, "--timeout", "300s", "--", "/bin/sh", "-euc", script)


def told(daemon):
    """[(vm, version, expected)] of the events of drift."""
    events = daemon.events("vm.tools-old")
    return [(e["object"]["name"], e["details"]["version"], e["details"]["expected"]) for e in events]


def rollout(daemon, *args):
    """(status, result) of a rollout with the guests' package manager."""
    ran = daemon.plim("tools", "rollout", "--command", "/bin/packages", "--answer-within", "300s", *args, "-o", "json")
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
    status, result, err = rollout(guests, "--answer-within", "10s")
    assert status == 17 and f"its agent is {agent_version()} still after 10 s" in err and result["done"] == []
    reasons = {s["name"]: s["reason"] for s in result["skipped"]}
    assert reasons == {"web1": f"its agent is {newer()} already", "web3": "it is paused"}
    guests.ok("vm", "resume", "web3")
    run(guests, "web2", "echo broken >/run/mood")
    status, result, err = rollout(guests, "--max-failures", "1", "--rest", "100ms")
    assert status == 17 and result["status"] == "failed" and [d["name"] for d in result["done"]] == ["web3"]
    # The rollout asked the agent itself; the next one goes by what is on record.
    until(lambda: tools(guests, "web3")["agent"]["version"] == newer(), "word of web3's new agent")
    run(guests, "web2", "rm /run/mood")
    words = guests.ok("tools", "rollout", "--command", "/bin/packages")
    assert re.search(rf"wave 1 of 1\nweb2: from \S+ to {newer()} in .*\ndone: 1 upgraded, 0 failed, 2 left alone", words), words
    assert guests.ok("tools", "rollout", "--command", "/bin/packages").endswith(
        "done: 0 upgraded, 0 failed, 3 left alone, 0 not begun\n")


def disk_options(daemon):
    return "--image", daemon.base / "files" / "tools.iso", "--command", FROM_DISK, "--answer-within", "300s"


def content(daemon, name):
    path = daemon.get(f"/v1/vms/{name}/cdrom")["path"]
    return path and pathlib.Path(path).name


def test_a_guest_that_can_not_take_the_disk_is_left_alone(guests):
    guests.ok("host", "set", "testhost", f"tools.version={newest()}")
    guests.ok("vm", "cdrom", "insert", "web3", guests.base / "files" / "other.iso")
    plan = guests.ok("tools", "rollout", *disk_options(guests), "--dry-run")
    assert re.search(r"web2: left alone, the guest of 'web2' has no CD drive, and takes none.* `plim vm stop web2`", plan), plan
    assert re.search(r"web3: left alone, in its CD drive is '.*other.iso'; take it out with `plim vm cdrom eject`", plan), plan
    assert re.search(rf"wave 1 of 1\n  web1 on testhost: from {newer()} to {newest()}, with the disk: mkdir", plan), plan
    assert [content(guests, name) for name in NAMES] == [None, None, "other.iso"], "a plan does nothing"
    guests.ok("vm", "cdrom", "eject", "web3")
    ran = guests.plim("tools", "rollout", "--image", "nosuchdisk")
    assert ran.status == 4 and "nosuchdisk" in ran.err, ran


def test_the_first_guest_whose_setup_fails_stops_the_rollout_and_gives_its_disk_back(guests):
    run(guests, "web1", "echo broken >/run/mood")
    ran = guests.plim("tools", "rollout", *disk_options(guests), "--wave", "1", "-o", "json")
    result = json.loads(ran.out)
    assert ran.status == 17 and "failed with 7: the setup failed" in ran.err and result["status"] == "stopped", ran
    assert [f["name"] for f in result["failed"]] == ["web1"] and result["not_begun"] == ["web3"] and result["done"] == []
    assert "disk_left" not in result["failed"][0] or result["failed"][0]["disk_left"] is None, result
    assert [content(guests, name) for name in NAMES] == [None] * 3
    assert "disk" not in run(guests, "web3", "cat /run/packages")


def test_a_rollout_goes_on_when_its_daemon_was_killed_and_tells_of_a_disk_that_a_guest_holds(guests):
    # What the setups of earlier tests left there would tell of one that has not begun.
    run(guests, "web1", "echo slow >/run/mood; : >/run/packages")
    run(guests, "web3", "echo holds >/run/mood")
    begun = guests.begin("tools", "rollout", *disk_options(guests), "-o", "json")
    until(lambda: run(guests, "web1", "tail -n 1 /run/packages") == "disk\n" and content(guests, "web1"), "setup in web1")
    guests.kill9()
    guests.start()
    until(lambda: guests.agent_answers("web1"), "agent of web1")
    run(guests, "web1", "rm /run/mood")
    out, err = begun.communicate(timeout=300)
    result = json.loads(out)
    assert begun.returncode == 0 and [d["name"] for d in result["done"]] == ["web1", "web3"], (result, err)
    assert {d["to"] for d in result["done"]} == {newest()}
    assert [s["name"] for s in result["skipped"]] == ["web2"]
    first, second = (d.get("disk_left") for d in result["done"])
    assert first is None and "has locked the CD drive" in second and "plim vm cdrom eject web3 --force" in second, result
    assert [content(guests, name) for name in NAMES] == [None, None, "tools.iso"]
    guests.ok("vm", "cdrom", "eject", "web3", "--force")


def test_a_guest_that_is_off_shows_what_was_seen_last(guests):
    until(lambda: tools(guests, "web3")["agent"]["version"] == newest(), "word of web3's new agent")
    guests.ok("vm", "kill", "web3")
    seen = tools(guests, "web3")
    assert seen["state"] == "stopped" and seen["agent"]["state"] == "gone" and seen["agent"]["version"] == newest()
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


def test_a_daemon_that_ends_waits_for_no_program_of_a_guest(guests):
    with guests.begin("vm", "exec", "web1", "--timeout", "20min", "--", "sleep", "1200") as plim:
        until(lambda: guests.ok("vm", "exec", "web1", "--", "sh", "-c", "ps | grep 'sleep [1]200' || true"), "the program")
        guests.restart()
        said = plim.communicate(timeout=60)[1]
    assert plim.returncode != 0 and "not waited for" in said, said
    until(lambda: guests.agent_answers("web1"), "its agent")
    guests.ok("vm", "exec", "web1", "--", "sh", "-c", 'kill $(pidof sleep)')


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
