# SPDX-License-Identifier: Apache-2.0
"""Guests that cost no more than they need: memory beside their own, told as it is; and nobody wakes an idle one."""
import pathlib
import re
import time

from daemon import PAYLOAD, until

MIB = 1 << 20
MEMORY = 64 * MIB
QUIET = 10.0  # what polls does so more often


def start(daemon, name, job="idle", *settings):
    daemon.ok("vm", "create", name, "--memory", MEMORY, "--kernel", str(PAYLOAD), "--nic", "none",
              "--cmdline", f"job={job}", *settings)
    daemon.ok("vm", "start", name)
    return daemon.runtime(name)["pid"]


def memory(daemon, name):
    return daemon.get(f"/v1/vms/{name}/memory")


def pss(pid):
    """What the kernel says of the whole process, in bytes."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(n) for n in re.findall(r"^(?:Swap)?Pss: +(\d+) kB$", text, re.M)) * 1024


def page_tables(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"^VmPTE:\s+(\d+) kB$", text, re.M)[1]) * 1024


def test_overhead_is_all_that_is_not_the_guests_memory(daemon):
    pid = start(daemon, "a", "dirty:200:40:1s,idle")
    until(lambda: memory(daemon, "a")["guest"]["resident"] >= 40 * MIB, "the guest's pages")
    counted = memory(daemon, "a")
    assert counted["guest"]["size"] == MEMORY and counted["guest"]["resident"] <= MEMORY
    assert counted["overhead"] == sum(counted["parts"].values())
    assert counted["total"] == counted["guest"]["resident"] + counted["overhead"]
    assert abs(counted["total"] - pss(pid) - page_tables(pid)) < 4 * MIB, "other QEMUs begin and end meanwhile"
    assert 5 * MIB < counted["overhead"] < 60 * MIB
    assert counted["parts"]["program"] > MIB and counted["parts"]["heap"] > MIB
    assert counted["parts"]["translated"] > 0, "under TCG guest code is translated"


def test_show_and_list_tell_it_when_asked(daemon):
    start(daemon, "a")
    daemon.ok("vm", "create", "off", "--memory", MEMORY, "--kernel", str(PAYLOAD), "--nic", "none")
    listed = {vm["name"]: vm["memory"] for vm in daemon.get("/v1/vms?memory=true")}
    assert listed["off"] is None and listed["a"]["guest"]["size"] == MEMORY
    assert all("memory" not in vm for vm in daemon.get("/v1/vms"))
    assert re.search(r"overhead", daemon.ok("vm", "show", "a"))
    head, *rows = daemon.ok("vm", "list", "--memory").splitlines()
    assert head.split() == ["NAME", "STATE", "MEMORY", "RESIDENT", "MERGED", "OVERHEAD", "TOTAL"]
    assert sorted(row.split()[0] for row in rows) == ["a", "off"]


def test_memory_of_a_guest_that_is_off_is_refused_with_advice(daemon):
    daemon.ok("vm", "create", "off", "--memory", MEMORY, "--kernel", str(PAYLOAD), "--nic", "none")
    answer = daemon.api("GET", "/v1/vms/off/memory")
    assert answer.status == 409 and "does not run" in answer.body["message"] and answer.body["advice"]
    assert daemon.api("GET", "/v1/vms?memory=perhaps").status == 400


def flags_of_ram(pid):
    """The kernel's flags of the guest's RAM."""
    text = pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    found = re.findall(rf"^Size: +{MEMORY // 1024} kB\n(?:[A-Z]\w+: .*\n)*?VmFlags: (.* dd .*)\n", text, re.M)
    assert len(found) == 1, text
    return found[0].split()


def test_pages_are_offered_for_merging_only_when_it_was_asked_for(daemon):
    assert "mg" not in flags_of_ram(start(daemon, "plain"))
    assert "mg" in flags_of_ram(start(daemon, "merged", "idle", "memory.merge=true"))


def switches(pid):
    """How often each thread was put to sleep, and so woken: {thread: count}."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text(encoding="utf-8")
        found[task.name] = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.M)[1])
    return found


def woken(pid, seconds, meanwhile=lambda: None):
    """Wake-ups of all threads of a process over some seconds, after `meanwhile` was done."""
    before = switches(pid)
    meanwhile()
    time.sleep(seconds)
    return sum(switches(pid).values()) - sum(before.values())


def test_neither_the_daemon_nor_those_who_look_wake_an_idle_guest(daemon):
    pid = start(daemon, "a")

    def look():
        for path in ("/v1/vms", "/v1/vms?memory=true", "/v1/vms/a", "/v1/vms/a/memory", "/metrics", "/v1/events"):
            daemon.get(path)
        daemon.ok("vm", "list")

    # QEMU itself has things to finish after a start.
    until(lambda: woken(pid, 1.0) == 0, "rest of an idle guest")
    assert woken(pid, QUIET, look) == 0
