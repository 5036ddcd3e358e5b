# SPDX-License-Identifier: Apache-2.0
"""A host is lost for good in the middle of a move: what the other one has of the guest is kept, or given back to the host.

Every case has a pool of its own, as it ends with a host less. The guests are those of moving.py.
"""
import json
import os
import pathlib
import signal
import time

import pytest

from daemon import PAYLOAD, until
from moving import CRAWL, MEMORY, assert_clean, begin, hasten, is_clean, lines, qemus, qmp, send_all

PATIENCE = 300
LARGE = "out=serial job=dirty:40:12"
SMALL = "out=serial job=dirty:1:1"


DISK = ("--disk", "name=root,size=8MiB")


def started(host, name, job, *more):
    host.ok("vm", "create", name, "--memory", MEMORY, "--kernel", PAYLOAD, "--nic", "none", "--cmdline", job, "--set",
            "platform.hvm_serial=pty", "--set", "restart=never", "--host", host.name, *more)
    host.ok("vm", "start", name, "--host", host.name)
    lines(host, name, 1)


def volume_of(host, name):
    (disk,) = host.vm(name)["disks"]
    return next(v for v in host.get("/v1/volumes") if v["id"] == disk["volume"])


def die(host, *pids):
    host.kill9()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def host_ids(pool):
    return {h["name"]: h["id"] for h in pool[0].get("/v1/pool")["hosts"]}


def change(etcd, end, **members):
    """Of the one record whose key ends so."""
    key = next(k for k in etcd.keys() if k.endswith(end))
    etcd.put(key, json.dumps(json.loads(etcd.get(key)) | members))


def record(etcd, end):
    """The one whose key ends so, or None."""
    key = next((k for k in etcd.keys() if k.endswith(end)), None)
    return json.loads(etcd.get(key)) if key else None


def reception_of(pool):
    """The record of the one operation that receives a guest."""
    found = [json.loads(pool.etcd.get(k)) for k in pool.etcd.keys() if "/operations/" in k]
    return next((o for o in found if o["kind"] == "vm.receive"), None)


def all_sent(pool, *more):
    """A guest of h0 that h1 may run, whose QEMU has not read the last of it: the QEMUs here and there."""
    a, b = pool.hosts[:2]
    started(a, "g", SMALL, *more)
    begin(a, "g", b, "--downtime", "2s", bandwidth=CRAWL)
    # An eviction of h0 frees a guest of which that is not on record, and one of h1 gives it back.
    until(lambda: reception_of(pool)["facts"].get("promise_taken"), "promise", PATIENCE)
    (there,) = qemus(b)
    os.kill(there, signal.SIGSTOP)
    send_all(a, "g")
    return a.runtime("g")["pid"], there


def move_of(host):
    return next(o["id"] for o in host.get("/v1/operations") if o["kind"] == "vm.migrate" and not o["finished_at"])


def evict(host, name):
    until(lambda: host.plim("pool", "evict", name).status == 0, f"eviction of {name}", PATIENCE)


@pytest.mark.parametrize("ends", [False, True], ids=["waits", "ends"])
def test_what_waits_for_a_guest_of_a_lost_host_is_given_back(make_pool, ends):
    pool = make_pool(2, engine="qemu", lease="15")  # which is waited for
    a, b = pool.hosts
    started(a, "g", LARGE, *DISK)
    # While its disk is copied, its QEMU over there does not end with the one here.
    begin(a, "g", b, bandwidth=CRAWL)
    (there,) = qemus(b)
    die(a, *qemus(a))
    if ends:  # because the stream broke off, before anybody knows that the host is lost
        os.kill(there, signal.SIGKILL)
    pool.lose(a, b)
    # The other host stays dead all the while.
    until(lambda: is_clean(b) and qemus(b) == [], "h1 is clean", PATIENCE)
    assert not pathlib.Path(f"/proc/{there}").exists()
    (received,) = [o for o in b.get("/v1/operations") if o["kind"] == "vm.receive"]
    received = b.wait_operation(received["id"])
    assert received["status"] == "failed" and "h0 was lost" in received["error"]["message"], received
    assert "plim pool evict h0" in received["error"]["advice"]
    a.start()
    until(lambda: a.runtime("g")["operation"] is None and a.runtime("g")["state"] in ("stopped", "crashed"), "end of the move",
          PATIENCE)
    a.ok("vm", "start", "g")
    lines(a, "g", 1)
    assert_clean(b)


def test_a_guest_that_an_evicted_host_had_not_taken_in_goes_on_where_it_is(make_pool):
    pool = make_pool(2, engine="qemu")
    a, b = pool.hosts
    here, there = all_sent(pool)
    ident = move_of(a)
    die(b, there)
    pool.lose(b, a)
    assert a.get(f"/v1/operations/{ident}")["finished_at"] is None, "nobody may guess"
    evict(a, "h1")
    ended = until(lambda: next((o for o in [a.get(f"/v1/operations/{ident}")] if o["finished_at"]), None), "end of the move",
                  PATIENCE)
    assert ended["status"] == "failed", ended
    runtime = a.runtime("g")
    assert runtime["state"] == "running" and runtime["pid"] == here and qemus(a) == [here], runtime
    lines(a, "g", 1)
    a.ok("vm", "kill", "g")
    a.ok("vm", "start", "g")
    lines(a, "g", 1)


def test_a_guest_that_may_have_written_elsewhere_is_not_run_as_it_was(make_pool):
    """An evicted host had all of it, and both hosts see its disk: nobody knows what it has written."""
    pool = make_pool(2, engine="qemu")
    a, b = pool.hosts
    disk = a.base / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    _, there = all_sent(pool, "--disk", f"name=root,path={disk},format=raw")
    ident = move_of(a)
    die(b, there)
    pool.lose(b, a)
    assert a.get(f"/v1/operations/{ident}")["finished_at"] is None, "nobody may guess"
    evict(a, "h1")
    until(lambda: a.get(f"/v1/operations/{ident}")["finished_at"], "end of the move", PATIENCE)
    runtime = until(lambda: next((r for r in [a.runtime("g")] if r["operation"] is None and r["state"] == "crashed"), None), "crash",
                    PATIENCE)
    assert runtime["host"] == host_ids(pool)["h0"] and qemus(a) == [], runtime
    a.ok("vm", "start", "g")
    lines(a, "g", 1)


def test_a_guest_that_was_sent_by_a_host_that_is_lost_goes_on(make_pool):
    """It is promised: who evicts the host that sent it gives it to the one that has all of it."""
    pool = make_pool(2, engine="qemu")
    a, b = pool.hosts
    here, there = all_sent(pool)
    theirs = host_ids(pool)["h1"]
    die(a, here)
    pool.lose(a, b)
    evict(b, "h0")
    os.kill(there, signal.SIGCONT)
    runtime = until(lambda: next((r for r in [b.runtime("g")] if r["operation"] is None), None), "end of the reception", PATIENCE)
    assert runtime["state"] == "running" and runtime["pid"] == there and runtime["host"] == theirs, runtime
    lines(b, "g", 1)
    b.ok("vm", "kill", "g")
    b.ok("vm", "start", "g")


def test_a_guest_that_ran_and_died_there_is_not_run_as_it_left(make_pool):
    """It was the other host's for a moment, and both hosts see its disk."""
    pool = make_pool(2, engine="qemu")
    a, b = pool.hosts
    disk = a.base / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    started(a, "g", SMALL, "--disk", f"name=root,path={disk},format=raw")
    begin(a, "g", b, bandwidth=CRAWL)
    (there,), theirs, vm = qemus(b), host_ids(pool)["h1"], a.vm("g")["id"]
    # No daemon here says that all was sent: the one over there waits for that word after the guest is its own.
    os.kill(a.process.pid, signal.SIGSTOP)
    qmp(a, "g", "migrate-set-parameters", vm=vm, **{"downtime-limit": 2000})
    hasten(a, "g", vm=vm)
    # Asked where it is known first: the reception ends some seconds later.
    until(lambda: b.runtime("g")["host"] == theirs, "change of the owner", PATIENCE)
    die(b, there)
    a.kill9()
    received = reception_of(pool)
    assert received["finished_at"] is None and "gave_up" not in received["facts"], received
    b.start()
    a.start()
    runtime = until(lambda: next((r for r in [a.runtime("g")] if r["operation"] is None and r["state"] == "crashed"), None), "crash",
                    PATIENCE)
    assert runtime["host"] == theirs and "gave_up" not in reception_of(pool)["facts"], runtime
    until(lambda: qemus(a) == [] == qemus(b), "end of both QEMUs")
    b.ok("vm", "start", "g")
    lines(b, "g", 1)


def test_how_a_guest_ended_before_the_records_say_that_it_is_there_is_told(make_pool):
    """It goes on by itself, and ends by itself, while nothing can be written."""
    pool = make_pool(2, engine="qemu")
    a, b = pool.hosts
    started(a, "g", SMALL)
    begin(a, "g", b, bandwidth=CRAWL)
    until(lambda: reception_of(pool)["facts"].get("promise_taken"), "promise", PATIENCE)
    (there,), theirs, vm = qemus(b), host_ids(pool)["h1"], a.vm("g")["id"]
    pool.etcd.signal(signal.SIGSTOP)
    qmp(a, "g", "migrate-set-parameters", vm=vm, **{"downtime-limit": 2000})
    hasten(a, "g", vm=vm)
    until(lambda: qmp(b, "g", "query-status", vm=vm)["status"] == "running", "guest over there", PATIENCE)
    qmp(b, "g", "quit", vm=vm)
    until(lambda: there not in qemus(b), "its end", PATIENCE)
    time.sleep(1)  # the daemon has heard of it, which shows nowhere
    pool.etcd.signal(signal.SIGCONT)
    runtime = until(lambda: next((r for r in [b.runtime("g")] if r["operation"] is None and r["state"] != "running"), None),
                    "end of the guest", PATIENCE)
    assert (runtime["host"], runtime["state"]) == (theirs, "stopped"), runtime
    until(lambda: any("g: QEMU was told to quit" in e["message"] for e in b.events()), "the event of its end")
    b.ok("vm", "start", "g")
    lines(b, "g", 1)


def test_a_guest_of_a_lost_host_that_did_not_come_whole_is_nobodys(make_pool):
    pool = make_pool(2, engine="qemu", lease="15")  # which is waited for
    a, b = pool.hosts
    started(a, "g", LARGE)
    begin(a, "g", b)
    die(a, *qemus(a))
    pool.lose(a, b)
    until(lambda: reception_of(pool)["finished_at"], "end of the reception", PATIENCE)
    assert record(pool.etcd, "/promise") is None
    evict(b, "h0")
    runtime = b.runtime("g")
    assert (runtime["host"], runtime["operation"], runtime["state"]) == (None, None, "stopped"), runtime
    b.ok("vm", "start", "g")
    lines(b, "g", 1)


def test_a_guest_that_two_lost_hosts_had_is_started_when_both_are_evicted(make_pool):
    """One of them may run it when it is back, for all that anybody knows."""
    pool = make_pool(3, engine="qemu", lease="15")  # of which a third is waited for
    a, b, c = pool.hosts
    here, there = all_sent(pool)
    theirs = host_ids(pool)["h1"]
    die(a, here)
    os.kill(b.process.pid, signal.SIGSTOP)
    try:
        pool.lose(b, c)
        pool.lose(a, c)
        assert "g" not in c.ok("pool", "evict", "h0", "--dry-run").split()
        evict(c, "h0")
        assert c.runtime("g")["host"] == theirs and c.wait_event("vm.move-waits")
        assert c.plim("vm", "start", "g").status != 0
        # What was held reads the last of the guest, and is the host's that has it.
    finally:
        os.kill(b.process.pid, signal.SIGCONT)
        os.kill(there, signal.SIGCONT)
    runtime = until(lambda: next((r for r in [c.runtime("g")] if r["operation"] is None), None), "end of the reception", PATIENCE)
    assert runtime["state"] == "running" and runtime["host"] == theirs and runtime["pid"] == there, runtime
    pool.wait_status("h1", "online", c)
    lines(b, "g", 1)
    die(b, there)
    pool.lose(b, c)
    evict(c, "h1")
    assert c.runtime("g")["host"] is None
    c.ok("vm", "start", "g")
    lines(c, "g", 1)


def test_the_last_disks_of_a_guest_are_never_removed(make_pool):
    """All ends when the guest has just become the other host's, which never comes back."""
    pool = make_pool(2, engine="qemu")
    a, b = pool.hosts
    started(a, "g", LARGE, *DISK)
    (disk,) = (a.state / "volumes").iterdir()
    ident = begin(a, "g", b)
    reception = next(o["id"] for o in a.get("/v1/operations") if o["kind"] == "vm.receive")
    volume, theirs, vm = volume_of(a, "g")["id"], host_ids(pool)["h1"], a.vm("g")["id"]
    until(lambda: a.get(f"/v1/operations/{ident}")["stage"] == "moving the guest", "begin of the sending", PATIENCE)
    # Neither sees the end of the other.
    for host in (a, b):
        os.kill(host.process.pid, signal.SIGSTOP)
    die(b, *qemus(b))
    die(a, *qemus(a))
    change(pool.etcd, f"/vms/{vm}/runtime", host=theirs, operation=reception)
    change(pool.etcd, f"/volumes/{volume}", host=theirs, path=str(b.state / "volumes" / disk.name))
    a.start()
    pool.lose(b, a)
    assert a.get(f"/v1/operations/{ident}")["finished_at"] is None and disk.exists(), "nobody may guess"
    evict(a, "h1")
    until(lambda: a.get(f"/v1/operations/{ident}")["finished_at"], "end of the move", PATIENCE)
    until(lambda: a.wait_idle("g"), "end of all operations")
    assert disk.exists() and volume_of(a, "g")["path"] == str(disk)
    assert a.runtime("g")["state"] == "stopped"
    a.ok("vm", "start", "g")
    lines(a, "g", 1)
