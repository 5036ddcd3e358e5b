# SPDX-License-Identifier: Apache-2.0
"""The daemon and plim end to end with real QEMUs; the guests are the payload (docs/payload.md)."""
import os
import pathlib
import re
import signal
import subprocess
import shutil

import pytest

from daemon import PAYLOAD, until

RUNNING = 10


def make(daemon, name, job="idle", *more):
    daemon.ok("vm", "create", name, "--memory", "16MiB", "--kernel", str(PAYLOAD), "--nic", "none",
              "--cmdline", f"job={job}", *more)


def started(daemon, name, job="idle", *more):
    make(daemon, name, job, *more)
    daemon.ok("vm", "start", name)
    return daemon.runtime(name)


def test_start_runs_the_plan_of_the_dry_run_and_kill_ends_it(daemon):
    make(daemon, "a")
    promised = daemon.ok("vm", "start", "a", "--dry-run")
    daemon.ok("vm", "start", "a")
    ran = [o for o in daemon.get("/v1/operations") if o["kind"] == "vm.start"][0]
    assert "".join(f"{s['step']} {s['target']}\n" for s in ran["plan"]) == promised
    pid = daemon.runtime("a")["pid"]
    assert os.path.exists(f"/proc/{pid}")
    daemon.ok("vm", "kill", "a")
    assert daemon.runtime("a")["state"] == "stopped"
    assert not os.path.exists(f"/proc/{pid}")


def test_a_guest_with_a_power_button_shuts_down(daemon):
    started(daemon, "a", "acpi")
    daemon.ok("vm", "stop", "a", "--patience", "5min")
    assert daemon.runtime("a")["state"] == "stopped"


def test_a_guest_that_never_answers_is_told_of_and_can_be_forced(daemon):
    started(daemon, "a")
    ran = daemon.plim("vm", "stop", "a", "--patience", "1s")
    assert ran.status == 8 and re.search(r"did not shut down in time \(no agent, power button pressed \dx\)", ran.err)
    assert "--force" in ran.err
    assert daemon.runtime("a")["state"] == "running"
    ident = daemon.ok("vm", "stop", "a", "--patience", "120s", "--no-wait").strip()
    # Pressed again after 1 s, then 2 s: a guest that boots loses a press without a trace.
    until(lambda: re.search(r"power button pressed [3-9]x", daemon.get(f"/v1/operations/{ident}")["stage"] or ""),
          "third press of the button")
    daemon.ok("operation", "cancel", ident)
    daemon.wait_idle("a")
    daemon.ok("vm", "stop", "a", "--patience", "1s", "--force")
    assert daemon.runtime("a")["state"] == "stopped"


def test_pause_resume_reset_nmi_and_rename(daemon):
    pid = started(daemon, "a", "idle")["pid"]
    daemon.ok("vm", "pause", "a")
    assert daemon.runtime("a")["state"] == "paused"
    daemon.ok("vm", "resume", "a")
    daemon.ok("vm", "reset", "a")
    daemon.ok("vm", "nmi", "a")
    daemon.ok("vm", "rename", "a", "b")
    assert daemon.runtime("b") ["state"] == "running" and daemon.runtime("b")["pid"] == pid
    daemon.ok("vm", "kill", "b")


def test_a_guest_that_powers_itself_off_is_seen(daemon):
    make(daemon, "a", "poweroff")
    daemon.ok("vm", "start", "a")
    assert "powered itself off" in daemon.wait_state("a", "stopped")["reason"]
    daemon.wait_event("vm.stopped", "a")


def test_a_panic_is_recorded_as_one(daemon):
    make(daemon, "a", "panic")
    daemon.ok("vm", "start", "a")
    assert "panicked" in daemon.wait_state("a", "crashed")["reason"]
    daemon.wait_event("vm.panicked", "a")


def test_a_panic_is_held_to_be_looked_at_if_the_policy_says_so(daemon):
    for name, job in ("early", "panic"), ("late", "sleep:1s,panic"):
        pid = started(daemon, name, job, "on_panic=pause", "evidence.dump=none")["pid"]
        assert len(daemon.wait_event("vm.panicked", name)) == 1
        runtime = daemon.wait_idle(name)
        assert runtime["state"] == "paused" and "panicked" in runtime["reason"] and runtime["pid"] == pid
        # Its evidence may have been begun just now.
        until(lambda name=name: daemon.plim("vm", "kill", name).status == 0, f"end of {name}")
        assert daemon.runtime(name)["state"] == "stopped"


def test_a_killed_qemu_is_seen_and_started_again_if_the_policy_says_so(daemon):
    pid = started(daemon, "a", "idle", "restart=on-failure")["pid"]
    os.kill(pid, signal.SIGKILL)

    def runs_again():
        runtime = daemon.runtime("a")
        return runtime["state"] == "running" and runtime["pid"] != pid
    until(runs_again, "restart")
    daemon.wait_event("vm.crashed", "a")
    daemon.wait_event("vm.restarted", "a")
    assert daemon.wait_idle("a")["restarts"] == 1
    daemon.ok("vm", "kill", "a")


def runs(daemon, name):
    runtime = daemon.runtime(name)
    return runtime if runtime["state"] == "running" else None


def crashed(daemon, name, times, behind=""):
    """
    What its record says when it has crashed so often in a row, or more often: the next start is some seconds away, and behind
    that time. The pauses grow: one that was missed is followed by a longer one.
    """
    runtime, n = {"state": None}, 0
    while n < times or runtime["state"] != "crashed" or runtime["restart_at"] <= behind:
        pid, n = until(lambda: runs(daemon, name), f"start {n} of {name}")["pid"], n + 1
        os.kill(pid, signal.SIGKILL)
        runtime = until(lambda: (now := daemon.runtime(name))["pid"] != pid and now["operation"] is None and now,
                        f"end {n} of {name}")
    return runtime


def started_by_itself(daemon, name):
    return len([e for e in daemon.events("vm.restarted") if e["object"]["name"] == name])


def test_a_restart_that_is_due_outlives_the_daemon(daemon):
    started(daemon, "a", "idle", "restart=on-failure")
    then = crashed(daemon, "a", 4)
    daemon.kill9()
    daemon.start()
    until(lambda: runs(daemon, "a"), "restart after a restart of the daemon")
    after = daemon.wait_idle("a")
    assert after["started_at"] >= then["restart_at"] > then["since"] and after["restart_at"] is None
    daemon.restart()
    again = daemon.wait_idle("a")
    assert (again["pid"], again["restarts"]) == (after["pid"], then["restarts"])
    assert started_by_itself(daemon, "a") == then["restarts"]
    daemon.ok("vm", "kill", "a")


def test_a_restart_that_the_end_of_the_daemon_undid_is_made_by_the_next_one(daemon):
    started(daemon, "a", "idle", "restart=on-failure")
    for n in range(3):
        pid, tries = until(lambda: runs(daemon, "a"), f"start {n}")["pid"], started_by_itself(daemon, "a")
        os.kill(pid, signal.SIGKILL)
        until(lambda: started_by_itself(daemon, "a") > tries, f"restart {n}")
        daemon.kill9()
        daemon.start()
    until(lambda: runs(daemon, "a"), "restart by the last daemon")
    assert daemon.wait_idle("a")["restarts"] == 3
    daemon.ok("vm", "kill", "a")


def test_who_starts_a_vm_or_changes_its_policy_calls_its_restart_off(daemon):
    for name in ("mine", "never", "last"):
        started(daemon, name, "idle", "restart=on-failure")
    due = crashed(daemon, "never", 3)["restart_at"]
    daemon.ok("vm", "set", "never", "restart=never")
    while daemon.wait_idle("never")["state"] != "crashed":  # that came too late
        daemon.ok("vm", "set", "never", "restart=on-failure")
        due = crashed(daemon, "never", 1)["restart_at"]
        daemon.ok("vm", "set", "never", "restart=never")
    due = max(due, crashed(daemon, "mine", 3)["restart_at"])
    while daemon.plim("vm", "start", "mine").status != 0:  # so did this
        due = max(due, crashed(daemon, "mine", 1)["restart_at"])
    daemon.ok("vm", "kill", "mine")
    before = {name: started_by_itself(daemon, name) for name in ("mine", "never")}
    # When this one runs again, theirs would have been.
    crashed(daemon, "last", 3, behind=due)
    daemon.kill9()
    daemon.start()
    until(lambda: runs(daemon, "last"), "restart of the last one")
    until(lambda: daemon.runtime("never")["restart_at"] is None, "end of a restart that nobody wants")
    assert (daemon.runtime("never")["state"], daemon.runtime("mine")["state"]) == ("crashed", "stopped")
    assert {name: started_by_itself(daemon, name) for name in ("mine", "never")} == before
    daemon.wait_idle("last")
    daemon.ok("vm", "kill", "last")


def test_a_restart_that_is_refused_for_the_moment_is_tried_again(daemon):
    """The daemon takes no operations while it waits, to found a pool, for the end of those under way."""
    started(daemon, "b")
    started(daemon, "a", "idle", "restart=on-failure")
    then = crashed(daemon, "a", 4)
    stopping = daemon.ok("vm", "stop", "b", "--patience", "10min", "--no-wait").strip()
    # Nobody listens there: no pool comes of it, and the daemon goes on as before.
    founding = daemon.begin("pool", "init", "--name", "lab", "--address", "127.0.0.1:7443", "--etcd", "http://127.0.0.1:9")
    until(lambda: daemon.times_said("which is tried again") or runs(daemon, "a"), "refusal of a restart")
    daemon.ok("operation", "cancel", stopping)
    assert founding.wait() != 0 and daemon.get("/v1")
    until(lambda: runs(daemon, "a"), "restart after the refusal")
    assert daemon.wait_idle("a")["restarts"] == then["restarts"] == started_by_itself(daemon, "a")
    daemon.ok("vm", "kill", "a", "b")


def test_ten_guests_outlive_a_kill_of_the_daemon(daemon):
    names = [f"g{i}" for i in range(RUNNING)]
    before = {n: started(daemon, n) for n in names}
    daemon.kill9()
    assert all(os.path.exists(f"/proc/{r['pid']}") for r in before.values())
    daemon.start()
    for name in names:
        after = daemon.runtime(name)
        assert (after["state"], after["pid"], after["started_at"]) == \
            ("running", before[name]["pid"], before[name]["started_at"])
        daemon.wait_event("vm.adopted", name)
    daemon.ok("vm", "kill", *names)


def test_an_end_that_no_daemon_saw_is_recorded(daemon):
    pid = started(daemon, "a")["pid"]
    daemon.kill9()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "end of QEMU")
    daemon.start()
    assert daemon.wait_state("a", "crashed")["operation"] is None
    daemon.wait_event("vm.lost", "a")


def test_the_last_words_of_a_qemu_that_dies_at_start_are_told(daemon):
    make(daemon, "a", "idle", "cpu.model=nosuchcpu")
    ran = daemon.plim("vm", "start", "a")
    assert ran.status == 9 and "nosuchcpu" in ran.err
    assert daemon.runtime("a")["state"] == "stopped"


def test_a_screen_is_a_png_and_without_one_there_is_advice(daemon, tmp_path):
    started(daemon, "a", "idle", "platform.video=std")
    picture = tmp_path / "a.png"
    daemon.ok("vm", "screenshot", "a", "--to", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    started(daemon, "b")
    ran = daemon.plim("vm", "screenshot", "b")
    assert ran.status != 0 and "platform.video" in ran.err
    daemon.ok("vm", "kill", "a", "b")


def test_the_serial_port_keeps_what_the_guest_said(daemon):
    make(daemon, "a", "idle out=serial", "platform.hvm_serial=pty")
    daemon.ok("vm", "start", "a")
    until(lambda: "job idle" in daemon.plim("vm", "console", "a", "--serial", "--log").out, "line of the guest")
    attached = daemon.plim("vm", "console", "a", "--serial", stdin="\x1d")
    assert attached.status == 0 and "job idle" in attached.out
    daemon.witness.check()
    assert daemon.witness.exchanges[-1] == ("GET", "/v1/vms/a/console?port=serial", 101)
    daemon.ok("vm", "kill", "a")


def test_settings_of_a_running_vm_say_when_they_act(daemon):
    started(daemon, "a")
    assert daemon.ok("vm", "set", "a", "restart=always", "platform.usb=true").splitlines() == \
        ["applied now: restart", "at the next start: platform.usb"]
    assert daemon.runtime("a")["pending"] == ["platform.usb"]
    assert "qemu-xhci" in daemon.ok("vm", "explain", "a").split("At the next start:")[1]
    daemon.ok("vm", "kill", "a")


@pytest.mark.skipif(shutil.which("virt-xml-validate") is None, reason="libvirt-clients is not installed")
def test_the_exported_domain_is_valid(daemon, tmp_path):
    make(daemon, "a", "idle", "property.os_type=windows")
    path = tmp_path / "a.xml"
    path.write_text(daemon.ok("vm", "export", "a"))
    subprocess.run(["virt-xml-validate", str(path), "domain"], check=True, capture_output=True)


def test_files_that_can_not_be_used_are_refused_when_the_vm_is_made(daemon, tmp_path):
    for options in (["--kernel", str(tmp_path / "none")], ["--disk", str(tmp_path)], ["--kernel", str(tmp_path)]):
        ran = daemon.plim("vm", "create", "a", *options)
        assert ran.status in (2, 4) and str(tmp_path) in ran.err
    assert daemon.get("/v1/vms") == []


def image_file(folder, name, *args):
    path = pathlib.Path(folder) / name
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *args, str(path), "64M"], check=True)
    return str(path)


def test_images_are_checked_sorted_and_protected(daemon, tmp_path):
    plain = image_file(tmp_path, "plain.qcow2")
    evil = image_file(tmp_path, "evil.qcow2", "-b", "/etc/passwd", "-F", "raw", "-u")
    for source in (evil, str(tmp_path), str(tmp_path / "none")):
        ran = daemon.plim("image", "import", source, "--name", "bad")
        assert ran.status != 0 and daemon.get("/v1/images?hidden=true") == []
    daemon.ok("image", "import", plain, "--name", "old", "os_distro=debian", "release_date=2025-01-01", "recommended=true")
    daemon.ok("image", "import", plain, "--name", "new", "os_distro=debian", "release_date=2026-01-01", "recommended=true",
              "min_ram=64")
    assert daemon.ok("image", "list", "-o", "name", "--sort", "release_date:desc").split() == ["new", "old"]
    assert daemon.ok("image", "latest", "os_distro=debian", "-o", "name").strip() == "new"
    daemon.ok("image", "set", "old", "protected=true")
    assert daemon.plim("image", "delete", "old").status == 3
    assert "needs at least 64 MiB" in daemon.plim("vm", "create", "a", "--image", "new", "--memory", "32MiB").err
    daemon.ok("vm", "create", "a", "--image", "new")
    assert daemon.plim("image", "delete", "new").status == 5
    daemon.ok("vm", "clone", "a", "b")
    daemon.ok("vm", "delete", "a", "b")
    daemon.ok("image", "delete", "new")


def test_a_daemon_killed_in_an_import_leaves_nothing_of_it(daemon, tmp_path):
    big = tmp_path / "big.raw"
    with big.open("wb") as f:
        for _ in range(64):
            f.write(os.urandom(1 << 20))
    daemon.ok("image", "import", str(big), "--name", "big", "--no-wait")
    daemon.kill9()
    daemon.start()
    until(lambda: all(o["status"] in ("done", "failed") for o in daemon.get("/v1/operations")), "end of the import")
    left = [i["status"] for i in daemon.get("/v1/images?hidden=true")]
    assert left in ([], ["active"])
    if not left:
        assert os.listdir(daemon.state / "images") == []
