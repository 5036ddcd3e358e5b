# SPDX-License-Identifier: Apache-2.0
"""plim vm wakeups and plim host wakeups with real QEMUs: who keeps a guest busy, and what bad guests do to the count."""
import json
import re
import select
import socket
import threading

import pytest

from daemon import PAYLOAD, Daemon, until
from monitor import Monitor


@pytest.fixture
def watchful(request):
    """A daemon that looks at its guests each second."""
    d = Daemon("qemu", args=("--sample", "1"))
    request.addfinalizer(d.close)
    d.start()
    return d


def started(daemon, name, job, *more):
    daemon.ok("vm", "create", name, "--memory", "16MiB", "--kernel", str(PAYLOAD), "--nic", "none",
              "--cmdline", f"out=serial job={job}", "--set", "platform.hvm_serial=pty", *more)
    daemon.ok("vm", "start", name)
    until(lambda: "\nready" in daemon.ok("vm", "console", name, "--serial", "--log"), "guest that is ready")
    return daemon.runtime(name)["pid"]


def counted(daemon, name, seconds=2, intervals=1):
    return json.loads(daemon.ok("vm", "wakeups", name, "--seconds", seconds, "--intervals", intervals, "-o", "json"))


def source(report, name):
    """Its events of all intervals."""
    return sum(s["timer"] + s["read"] + s["write"] for i in report["intervals"] for s in i["sources"] if s["source"] == name)


def viewer(monitor):
    """A VNC client that has said hello and stays: its socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        line = json.dumps({"execute": "getfd", "arguments": {"fdname": "viewer"}}).encode()
        socket.send_fds(monitor.sock, [line], [theirs.fileno()])
        assert json.loads(monitor.lines.readline()) == {"return": {}}
    monitor.ask("add_client", protocol="vnc", fdname="viewer", skipauth=True)
    ours.settimeout(60)
    ours.recv(12)
    ours.sendall(b"RFB 003.008\n")
    ours.recv(ours.recv(1)[0])
    ours.sendall(b"\1")
    ours.recv(4)
    ours.sendall(b"\1")
    assert len(ours.recv(24)) == 24
    return ours


def is_traced(monitor):
    return monitor.ask("trace-event-get-state", name="memory_region_ops_read")[0]["state"] == "enabled"


def test_an_idle_guest_wakes_nobody_and_what_cannot_be_counted_is_said(daemon):
    started(daemon, "a", "idle")
    report = counted(daemon, "a", 2, 2)
    assert report["state"] == "done" and report["reason"] is None and len(report["intervals"]) == 2
    for i in report["intervals"]:
        assert i["read"] == 0 and i["write"] == 0 and not i["sampled"], i
        assert i["timer"] is not None and i["exits"] is None and i["duration"] >= 2000000
        assert {"main", "CPU 0/TCG"} <= {t["name"] for t in i["threads"]}
    assert {"exits", "halts"} == {c["count"] for c in report["could_not"]}
    assert all("KVM" in c["reason"] for c in report["could_not"])
    assert not is_traced(Monitor(daemon, "a"))
    table = daemon.ok("vm", "wakeups", "a", "--follow", "--by", "device")
    assert re.search(r"^001 ", table, re.M) and "could not be counted" in table


def test_the_guests_own_timer_is_named(daemon):
    started(daemon, "a", "tick:50")
    until(lambda: source(counted(daemon, "a", 3), "apic-timer") > 0, "tick of the guest")


def test_who_looks_at_the_display_is_named(daemon):
    started(daemon, "a", "idle", "--set", "platform.video=std", "--set", "platform.vnc=true")
    assert source(counted(daemon, "a", 2), "display-refresh") == 0
    with viewer(Monitor(daemon, "a")):
        until(lambda: source(counted(daemon, "a", 5), "display-refresh") > 0, "refresh of the display")


def test_a_guest_that_spins_has_its_time_shown_and_no_events(daemon):
    started(daemon, "a", "burn:3600s")

    def spun():
        """In two seconds a busy host may give it nothing."""
        i = counted(daemon, "a")["intervals"][0]
        assert i["read"] + i["write"] == 0
        return i["vcpu_cpu"] > 100000
    until(spun, "time of the guest's vcpu")


def test_a_flood_of_reads_is_sampled_and_named_and_hurts_nobody(daemon):
    started(daemon, "a", "flood")

    def flooded():
        """More than can be looked at one by one, as soon as the host has the time for it."""
        report = counted(daemon, "a", 3)
        i = report["intervals"][0]
        return (report, i) if i["sampled"] and i["read"] > 10000 else None
    report, i = until(flooded, "flood that is sampled")
    assert source(report, "rtc") > 0.9 * (i["read"] + i["write"])
    assert i["timer"] is not None
    assert not is_traced(Monitor(daemon, "a"))
    log = next((daemon.log / "vms").glob("*.log"))
    assert log.stat().st_size < 100000
    assert daemon.runtime("a")["state"] == "running"


def test_a_guest_that_ends_meanwhile_leaves_a_partial_answer(daemon):
    started(daemon, "a", "idle")
    watch = daemon.begin("vm", "wakeups", "a", "--seconds", "3", "--intervals", "400", "-o", "json")
    until(lambda: daemon.get("/v1/vms/a/wakeups")["intervals"], "first interval")
    daemon.ok("vm", "kill", "a")
    out, err = watch.communicate(timeout=300)
    report = json.loads(out)
    assert watch.returncode == 0 and report["state"] == "ended", err
    assert "QEMU ended here" in report["reason"] and 1 < len(report["intervals"]) < 400


@pytest.mark.parametrize("verb, told", [("kill", "was stopped: killed on request"), ("suspend", "was suspended to disk")])
def test_how_a_guest_left_is_told(daemon, verb, told):
    started(daemon, "a", "idle")
    watch = daemon.begin("vm", "wakeups", "a", "--seconds", "1", "--intervals", "900", "-o", "json")
    until(lambda: daemon.get("/v1/vms/a/wakeups")["intervals"], "first interval")
    daemon.ok("vm", verb, "a")
    report = json.loads(watch.communicate(timeout=300)[0])
    assert report["state"] == "ended" and "QEMU ended here" in report["reason"], report["reason"]
    until(lambda: told in daemon.get("/v1/vms/a/wakeups")["reason"], f"word that it {told}")


def test_a_pause_is_told_with_its_length(daemon):
    started(daemon, "a", "tick:50")
    assert daemon.api("POST", "/v1/vms/a/wakeups", {"seconds": 1, "intervals": 900}).status == 202
    until(lambda: daemon.get("/v1/vms/a/wakeups")["intervals"], "first interval")
    daemon.ok("vm", "pause", "a")
    still = until(lambda: [i for i in daemon.get("/v1/vms/a/wakeups")["intervals"] if i["paused"] == i["duration"]], "whole interval")
    assert still[0]["vcpu_cpu"] == 0 and still[0]["read"] == 0
    daemon.ok("vm", "resume", "a")
    until(lambda: daemon.get("/v1/vms/a/wakeups")["intervals"][-1]["paused"] == 0, "interval in which it runs")
    daemon.ok("vm", "wakeups", "a", "--stop")
    assert "stood still for" in daemon.get("/v1/vms/a/wakeups")["reason"]


def test_an_interrupt_ends_the_count_and_shows_it(daemon):
    started(daemon, "a", "idle")
    monitor = Monitor(daemon, "a")
    watch = daemon.begin("vm", "wakeups", "a", "--seconds", "600")
    until(lambda: is_traced(monitor), "trace of QEMU")
    watch.terminate()
    out, err = watch.communicate(timeout=300)
    assert watch.returncode == 0 and "it was stopped" in out, err
    assert not is_traced(monitor)


def test_a_daemon_that_is_killed_meanwhile_leaves_nothing_switched_on(daemon):
    started(daemon, "a", "flood")
    monitor = Monitor(daemon, "a")
    assert daemon.api("POST", "/v1/vms/a/wakeups", {"seconds": 600}).status == 202
    until(lambda: is_traced(monitor), "trace of QEMU")
    daemon.kill9()
    daemon.start()
    until(lambda: not is_traced(monitor), "QEMU without a trace")
    assert daemon.get("/v1/vms/a/wakeups")["state"] == "none"
    assert counted(daemon, "a", 1)["intervals"][0]["read"] > 0


def test_what_cannot_be_done_is_refused_with_advice(daemon):
    started(daemon, "a", "idle")
    assert daemon.api("POST", "/v1/vms/a/wakeups", {"seconds": 60}).status == 202
    for body, status in (({"seconds": 1}, 409), ({"seconds": 0}, 400), ({"intervals": 1001}, 400), ({"hours": 1}, 400),
                         ({"seconds": "5"}, 400)):
        assert daemon.api("POST", "/v1/vms/a/wakeups", body).status == status, body
    ran = daemon.plim("vm", "wakeups", "a", "--by", "colour")
    assert ran.status == 2 and "--by device" in ran.err
    daemon.ok("vm", "wakeups", "a", "--stop")
    daemon.ok("vm", "kill", "a")
    ran = daemon.plim("vm", "wakeups", "a")
    assert ran.status != 0 and "Start the vm first" in ran.err


def host_guest(daemon, name):
    report = daemon.get("/v1/hosts/testhost/wakeups")
    return next((g for g in report["guests"] if g["name"] == name and g["duration"] > 0), None)


def test_the_host_ranks_its_guests_and_tells_metrics(watchful):
    started(watchful, "busy", "burn:3600s")
    started(watchful, "lazy", "idle")

    def ranked():
        """A sample of a host that was busy elsewhere has no time of anybody."""
        busy, lazy = host_guest(watchful, "busy"), host_guest(watchful, "lazy")
        return busy and lazy and busy["vcpu_cpu"] > lazy["vcpu_cpu"] and not busy["idle"]
    until(ranked, "samples of both")
    # A sample that reaches into the start of a guest has all the wakeups of that in it.
    until(lambda: re.search(r"^busy .*\n(.*\n)*lazy ", watchful.ok("host", "wakeups"), re.M), "busy before lazy")
    text = watchful.api("GET", "/metrics").body.decode()
    for line in (r'plimsoll_vm_wakeups_total\{vm="[^"]+",name="busy",thread="main"\} \d+',
                 r'plimsoll_vm_cpu_seconds_total\{vm="[^"]+",name="busy",thread="vcpu"\} [\d.]+',
                 r"process_cpu_seconds_total [\d.]+", r"process_resident_memory_bytes \d+"):
        assert re.search(line, text), (line, text)


class Poker:
    """Wakes QEMU's main loop by its second monitor, as a tool that polls would."""

    def __init__(self, monitor):
        self.monitor = monitor
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ending.wait(0.01):
            self.monitor.ask("query-name")

    def stop(self):
        self.ending.set()
        self.thread.join()


def test_an_idle_guest_above_its_budget_is_told_once_and_told_again_when_it_keeps_it(watchful):
    started(watchful, "a", "idle")
    watchful.ok("vm", "set", "a", "idle.wakeups=5", "idle.cpu=0")
    poker = Poker(Monitor(watchful, "a"))
    try:
        told = watchful.wait_event("vm.idle-costly", "a")
        assert told[0]["details"]["wakeups"] > 5 and told[0]["details"]["budget_wakeups"] == 5
        seen = host_guest(watchful, "a")
        until(lambda: (host_guest(watchful, "a") or seen) != seen, "another sample")
        # Nobody pokes while the host does not run this test: then it keeps its budget, and may be told anew.
        words = [e["type"] for e in watchful.events() if e["type"] in ("vm.idle-costly", "vm.idle-kept")]
        assert all(one != next_one for one, next_one in zip(words, words[1:])), words
        assert len(words) <= 3, "it is not told again and again"
    finally:
        poker.stop()
    until(lambda: [e["type"] for e in watchful.events() if e["type"].startswith("vm.idle-")][-1] == "vm.idle-kept",
          "word that it keeps its budget")


def test_who_counts_comes_before_the_daemons_own_look(watchful):
    started(watchful, "a", "idle")
    monitor = Monitor(watchful, "a")
    watchful.ok("vm", "set", "a", "idle.wakeups=1", "idle.cpu=0")
    until(lambda: is_traced(monitor), "look of the daemon")  # at a guest that is woken by being asked this
    assert counted(watchful, "a")["state"] == "done"
    watchful.wait_event("vm.idle-costly", "a")


def test_one_line_sets_all_vms_and_tells_those_that_refuse(sim):
    for name in ("w1", "w2", "l1"):
        sim.ok("vm", "create", name, "--nic", "none", "--set",
               f"property.os_type={'windows' if name[0] == 'w' else 'linux'}")
    sim.ok("vm", "start", "w2")
    line = ("vm", "set", "--all", "--filter", "os_type=windows", "platform.hvm_serial=none",
            "platform.parallel=none", "platform.usb=true", "platform.usb_tablet=false")
    dry = sim.ok(*line, "--dry-run")
    assert "platform.usb" not in sim.vm("w1")["settings"]
    done = sim.ok(*line)
    assert dry == done and re.search(r"^w1: applied now: ", done, re.M), done
    assert re.search(r"^w2: at the next start: .*platform.usb\b", done, re.M), done
    assert sim.vm("w1")["settings"]["platform.usb"] is True and "platform.usb" not in sim.vm("l1")["settings"]
    ran = sim.plim("vm", "set", "--all", "platform.usb=false", "boot.initrd=/nowhere/initrd")
    assert ran.status != 0 and "3 of 3 vms were not changed: l1, w1, w2" in ran.err, ran


def test_those_who_wait_hold_up_nobody_else(daemon):
    started(daemon, "g", "idle")
    assert daemon.api("POST", "/v1/vms/g/wakeups", {"seconds": 600}).status == 202
    waiting = []
    try:
        for _ in range(40):  # more than the API has threads
            s = socket.socket(socket.AF_UNIX)
            waiting.append(s)
            s.settimeout(300)
            s.connect(str(daemon.run / "api.sock"))
            s.sendall(b"GET /v1/vms/g/wakeups?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [vm["name"] for vm in daemon.get("/v1/vms")] == ["g"]
        assert select.select(waiting, [], [], 0)[0] == [], "they wait still"
        assert daemon.api("DELETE", "/v1/vms/g/wakeups").status == 200
        for s in waiting:
            assert s.recv(12) == b"HTTP/1.1 200"
    finally:
        for s in waiting:
            s.close()
