# SPDX-License-Identifier: Apache-2.0
"""A host is lost for good in the middle of a move: what the other one has of the guest is kept, or given back to the host.

Every case has a pool of its own, as it ends with a host less. The guests are those of moving.py.
"""
import json
import os
import pathlib
import signal

from daemon import PAYLOAD, until
from moving import MEMORY, assert_clean, begin, is_clean, lines, qemus

PATIENCE = 120
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


def evict(host, name):
    until(lambda: host.plim("pool", "evict", name).status == 0, f"eviction of {name}", PATIENCE)


def test_what_waits_for_a_guest_of_a_lost_host_is_given_back(make_pool):
    pool = make_pool(2, engine="qemu")
    a, b = pool.hosts
    started(a, "g", LARGE, *DISK)
    begin(a, "g", b)
    (there,) = qemus(b)
    die(a, *qemus(a))
    pool.wait_status("h0", "offline", b)
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
    started(a, "g", SMALL)
    ident = begin(a, "g", b, "--downtime", "2s")
    (here,), (there,) = qemus(a), qemus(b)
    # It waits in the network when its owner changes.
    os.kill(there, signal.SIGSTOP)
    until(lambda: a.runtime("g")["host"] == host_ids(pool)["h1"], "change of the owner", PATIENCE)
    die(b, there)
    pool.wait_status("h1", "offline", a)
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
    die(b, *qemus(b))
    die(a, *qemus(a))
    change(pool.etcd, f"/vms/{vm}/runtime", host=theirs, operation=reception)
    change(pool.etcd, f"/volumes/{volume}", host=theirs, path=str(b.state / "volumes" / disk.name))
    a.start()
    pool.wait_status("h1", "offline", a)
    assert a.get(f"/v1/operations/{ident}")["finished_at"] is None and disk.exists(), "nobody may guess"
    evict(a, "h1")
    until(lambda: a.get(f"/v1/operations/{ident}")["finished_at"], "end of the move", PATIENCE)
    until(lambda: a.wait_idle("g"), "end of all operations")
    assert disk.exists() and volume_of(a, "g")["path"] == str(disk)
    assert a.runtime("g")["state"] == "stopped"
    a.ok("vm", "start", "g")
    lines(a, "g", 1)
