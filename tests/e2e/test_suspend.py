# SPDX-License-Identifier: Apache-2.0
"""
Guests are suspended to disk and taken up again, with real QEMUs. The guests write memory all the time and check what
they wrote: whatever goes wrong, they go on where they were, or are started cold because somebody said so.
"""
import os
import re
import subprocess

import pytest

from daemon import PAYLOAD, until

WRITES = "out=serial job=dirty:40:12"


def started(daemon, name="g", job=WRITES, *more):
    daemon.ok("vm", "create", name, "--memory", "32640KiB", "--kernel", PAYLOAD, "--nic", "none", "--cmdline", job,
              "--set", "platform.hvm_serial=pty", *more)
    daemon.ok("vm", "start", name)
    if "dirty" in job:
        until(lambda: beats(daemon, name), "a line of the guest")


def said(daemon, name="g"):
    answer = daemon.api("GET", f"/v1/vms/{name}/console/log?port=serial")
    return answer.body.decode(errors="replace") if isinstance(answer.body, bytes) else ""


def beats(daemon, name="g"):
    """(pages, ns) of each line of `dirty`; none may tell of a bad page."""
    text = said(daemon, name)
    found = re.findall(r"^dirty (\d+) (\d+) (\d+)\r?$", text, re.M)
    assert "error" not in text and all(bad == "0" for _, _, bad in found), text
    return [(int(pages), int(ns)) for pages, ns, _ in found]


def state_file(daemon, name="g"):
    return daemon.state / "vms" / daemon.vm(name)["id"] / "state"


def suspended(daemon, name="g"):
    daemon.ok("vm", "suspend", name)
    runtime = daemon.runtime(name)
    assert runtime["state"] == "suspended" and runtime.get("pid") is None and runtime["operation"] is None
    until(lambda: not daemon.guests(), "end of QEMU")
    file = state_file(daemon, name)
    assert file.stat().st_size == runtime["saved"]["bytes"] > 0 and file.stat().st_mode & 0o77 == 0
    return file


def test_a_guest_is_suspended_and_goes_on_where_it_was(daemon):
    started(daemon)
    pin, pages = daemon.vm("g")["cpu"], max(p for p, _ in beats(daemon))
    file = suspended(daemon)
    assert daemon.wait_event("vm.suspended", "g")
    for verb in ("pause", "stop", "resume", "reset", "reboot"):
        ran = daemon.plim("vm", verb, "g")
        assert ran.status == 6 and "suspended" in ran.err, (verb, ran)
    assert "plim vm start" in daemon.plim("vm", "resume", "g").err
    # It outlives the daemon, and is not started by itself.
    daemon.kill9()
    daemon.start()
    assert daemon.runtime("g")["state"] == "suspended" and file.exists()
    assert daemon.ok("vm", "set", "g", "platform.usb=true", "restart=never").splitlines() == \
        ["applied now: restart", "at the next start: platform.usb"]
    plan = daemon.ok("vm", "start", "g", "--dry-run")
    assert plan.index("STATE_LOAD") < plan.index("STATE_RUN") and "STATE_REMOVE" not in plan
    daemon.ok("vm", "start", "g")
    runtime = daemon.runtime("g")
    assert runtime["state"] == "running" and runtime["pid"] and not file.exists() and runtime.get("saved") is None
    until(lambda: beats(daemon), "a line of the guest")
    assert max(p for p, _ in beats(daemon)) > pages, "it counts on"
    assert "ready" not in said(daemon), "it did not boot again"
    assert daemon.vm("g")["cpu"] == pin
    # And once more, from what was taken up.
    suspended(daemon)
    daemon.ok("vm", "start", "g")
    until(lambda: beats(daemon), "a line of the guest")
    daemon.ok("vm", "kill", "g")


def test_a_paused_guest_is_paused_again(daemon):
    started(daemon)
    daemon.ok("vm", "pause", "g")
    suspended(daemon)
    daemon.ok("vm", "start", "g")
    assert daemon.runtime("g")["state"] == "paused"
    daemon.ok("vm", "resume", "g")
    until(lambda: beats(daemon), "a line of the guest")
    daemon.ok("vm", "kill", "g")


def test_what_is_damaged_is_told_and_can_be_thrown_away(daemon):
    started(daemon)
    file = suspended(daemon)
    good = file.read_bytes()
    half = len(good) // 2
    for damaged, words in ((good[:half], "length"), (good + b"x", "length"), (b"", "length"),
                           (good[:half] + bytes([good[half] ^ 1]) + good[half + 1:], "content"), (None, "No such file")):
        file.unlink(missing_ok=True)
        if damaged is not None:
            file.write_bytes(damaged)
        ran = daemon.plim("vm", "start", "g")
        assert ran.status == 2 and words in ran.err and "--discard-state" in ran.err, ran
        assert daemon.runtime("g")["state"] == "suspended" and daemon.wait_idle("g")
        until(lambda: not daemon.guests(), "end of QEMU")
    file.write_bytes(good)
    daemon.ok("vm", "start", "g")
    until(lambda: beats(daemon), "a line of the guest")
    # Cold, because it was said so.
    file = suspended(daemon)
    daemon.ok("vm", "start", "g", "--discard-state")
    assert not file.exists() and daemon.runtime("g")["state"] == "running"
    until(lambda: "ready" in said(daemon), "boot of the guest")
    file = suspended(daemon)
    daemon.ok("vm", "kill", "g")
    assert not file.exists() and daemon.runtime("g")["state"] == "stopped"
    assert daemon.api("POST", "/v1/vms/g/actions/start?discard_state=perhaps").status == 400
    daemon.ok("vm", "start", "g", "--discard-state")
    suspended(daemon)
    daemon.ok("vm", "delete", "g")
    assert not any((daemon.state / "vms").iterdir())


def test_a_host_that_lacks_a_feature_is_told_by_name(daemon):
    until(lambda: "aes" in daemon.plim("host", "cpu", "-o", "json").out, "the CPU of the host")
    started(daemon)
    suspended(daemon)
    daemon.ok("host", "cpu", "mask", "aes")
    ran = daemon.plim("vm", "start", "g")
    assert ran.status != 0 and "aes" in ran.err and "--discard-state" in ran.err, ran
    assert daemon.runtime("g")["state"] == "suspended"
    daemon.ok("host", "cpu", "unmask", "aes")
    daemon.ok("vm", "start", "g")
    until(lambda: beats(daemon), "a line of the guest")
    daemon.ok("vm", "kill", "g")


@pytest.mark.parametrize("look", ["at once", "saving"])
def test_a_daemon_killed_in_the_middle_loses_nothing(daemon, look):
    started(daemon)
    pages = max(p for p, _ in beats(daemon))
    daemon.begin("vm", "suspend", "g", "--no-wait").wait(180)
    if look == "saving":
        until(lambda: state_file(daemon).with_suffix(".part").exists() or state_file(daemon).exists() or
              daemon.runtime("g")["operation"] is None, "the file")
    daemon.kill9()
    daemon.start()
    runtime = daemon.wait_idle("g")
    assert runtime["state"] in ("running", "suspended"), runtime
    if runtime["state"] == "suspended":
        daemon.ok("vm", "start", "g")
    assert not list(state_file(daemon).parent.glob("state*"))
    until(lambda: len(daemon.guests()) == 1, "one QEMU, when the host was probed")
    until(lambda: [p for p, _ in beats(daemon) if p > pages], "life of the guest")
    daemon.ok("vm", "kill", "g")


def test_what_can_not_be_cleaned_up_costs_no_guest(daemon):
    started(daemon)
    pages = max(p for p, _ in beats(daemon))
    busy = daemon.run / "vms" / daemon.vm("g")["id"] / "busy"
    busy.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", busy], check=False).returncode != 0:
        pytest.skip("mounting needs root")
    try:
        ran = daemon.plim("vm", "suspend", "g")
        assert ran.status != 0 and "can't remove" in ran.err, ran
        assert daemon.wait_idle("g")["state"] == "suspended" and state_file(daemon).exists(), "its QEMU had ended"
    finally:
        subprocess.run(["umount", "-l", busy], check=True)
    daemon.ok("vm", "start", "g")
    until(lambda: [p for p, _ in beats(daemon) if p > pages], "life of the guest")
    daemon.ok("vm", "kill", "g")


def test_without_room_the_guest_runs_on(daemon):
    started(daemon)
    folder = state_file(daemon).parent
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=711", "tmpfs", folder], check=False)
    if mount.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        ran = daemon.plim("vm", "suspend", "g")
        assert ran.status == 11 and "left" in ran.err and "Make room there" in ran.err, ran
        assert daemon.wait_idle("g")["state"] == "running" and os.listdir(folder) == []
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    until(lambda: len(beats(daemon)) > 1, "life of the guest")
    daemon.ok("vm", "kill", "g")
