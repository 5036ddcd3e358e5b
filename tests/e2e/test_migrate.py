# SPDX-License-Identifier: Apache-2.0
"""Guests move between real daemons with real QEMUs: a pool on loopback, its records in a real etcd.

The guests are those of moving.py. Whatever goes wrong, the guest is whole and on one host, and the other host is clean.
The hosts are the same for all cases: each takes its guests away again, and leaves daemons that run.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from daemon import PAYLOAD, PLIM, until
from moving import CRAWL, MEMORY, WRITES, assert_clean, begin, good_lines, hold, is_clean, lines, qemus, qmp, send_all
from own_mounts import OWN_MOUNTS
from pool import Pool

class Shared:
    """The pool that the cases share; a new one when a case left it as nobody can use it."""

    def __init__(self):
        self.pool = None

    def get(self):
        if self.pool is None:
            self.pool = Pool(engine="qemu")
            self.pool.start(2)
        return self.pool

    def tidy(self):
        """Of the guests nothing is left, and every daemon runs."""
        try:
            for host in self.pool.hosts:
                if host.process.poll() is not None:
                    host.start()
            a = self.pool[0]
            for name in [vm["name"] for vm in a.get("/v1/vms")]:
                until(lambda name=name: a.wait_idle(name) and a.plim("vm", "kill", name).status in (0, 6), f"end of {name}")
                a.ok("vm", "delete", name)
            for host in self.pool.hosts:
                until(lambda host=host: is_clean(host) and not host.guests(), f"{host.name} is clean")
        except BaseException:
            self.close()
            raise

    def close(self):
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.close()


@pytest.fixture(scope="module")
def shared():
    made = Shared()
    yield made
    made.close()


@pytest.fixture
def two(shared):
    """Two hosts in a pool, with QEMU."""
    yield shared.get()
    shared.tidy()


USERFAULTFD = pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd")


@pytest.fixture
def userfaultfd():
    """Sets whether QEMU's user may take page faults itself, and puts back what was."""
    before = USERFAULTFD.read_text(encoding="ascii")

    def allow(value):
        try:
            USERFAULTFD.write_text(value, encoding="ascii")
        except OSError as error:
            pytest.skip(f"sysctl can't be set here: {error}")
    yield allow
    USERFAULTFD.write_text(before, encoding="ascii")


def created(host, name, *more, job=WRITES):
    host.ok("vm", "create", name, "--memory", MEMORY, "--kernel", PAYLOAD, "--nic", "none", "--cmdline", job, "--set",
            "platform.hvm_serial=pty", *more, "--host", host.name)


def started(host, name, *more, job=WRITES):
    created(host, name, *more, job=job)
    host.ok("vm", "start", name, "--host", host.name)
    lines(host, name, 1)


def ids(pool):
    return {name: h["id"] for name, h in pool.status().items()}


def where(pool, name):
    host = pool[0].runtime(name)["host"]
    return next(h for h in pool.hosts if ids(pool)[h.name] == host)


def assert_only_guest(host, runtime):
    """A daemon that has just begun runs QEMUs of its own for a moment, to look at the CPU."""
    until(lambda: qemus(host) == [runtime["pid"]], f"no other QEMU on {host.name}")


def assert_stayed(pool, name, here, there):
    runtime = until(lambda: next((r for r in [here.runtime(name)] if r["operation"] is None), None), "end of the operation")
    assert runtime["state"] == "running" and runtime["host"] == ids(pool)[here.name]
    lines(here, name, 1)
    assert_only_guest(here, runtime)
    assert_clean(there)


# It works


def test_a_writing_guest_moves_there_and_back(two):
    a, b = two.hosts
    started(a, "g")
    ident = a.vm("g")["id"]
    for here, there in ((a, b), (b, a)):
        out = here.ok("vm", "migrate", "g", there.name)
        assert re.search(r"g moved in .*; it stood still for .*; .* went over in \d+ rounds", out), out
        runtime = here.wait_idle("g")  # it wrote the end of the move
        assert runtime["host"] == ids(two)[there.name] and runtime["state"] == "running" and runtime["operation"] is None
        assert runtime["pid"] == qemus(there)[0]
        told = runtime["migration"]
        assert told["from"] == ids(two)[here.name] and told["to"] == ids(two)[there.name]
        assert 0 < told["downtime"] < told["total"] and told["rounds"] >= 1 and told["bytes"] > 1 << 20
        lines(there, "g", 1)
        assert_clean(here)
    until(lambda: len([e for e in a.events("vm.migrated") if e["object"]["id"] == ident]) == 2, "events of both moves")
    move = [o for o in a.get("/v1/operations") if o["kind"] == "vm.migrate" and o["target"]["id"] == ident][0]
    assert move["result"]["downtime"] > 0 and move["status"] == "done"
    a.ok("vm", "kill", "g")


def test_a_host_is_chosen_when_none_is_named_and_any_host_can_be_asked(two):
    a, b = two.hosts
    started(a, "g")
    b.ok("vm", "migrate", "g")
    assert a.runtime("g")["host"] == ids(two)["h1"]
    a.ok("vm", "pause", "g")
    a.ok("vm", "migrate", "g", "h0")
    assert a.runtime("g")["state"] == "paused", "a guest that stood still stands still over there"
    before = good_lines(a, "g")
    a.ok("vm", "resume", "g")
    lines(a, "g", 1)
    assert before == 0


def monitor(host, name, command):
    """One command of QEMU's own console."""
    answer = qmp(host, name, "human-monitor-command", **{"command-line": command})
    assert not re.search("(?i)error|not found|failed", answer), answer


def write(host, name, pattern, at):
    monitor(host, name, f'qemu-io -d /machine/peripheral/disk-root/virtio-backend "write -P {pattern} {at} 64k"')


def content(path):
    done = subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", path, "/dev/stdout"], capture_output=True, check=False)
    if done.returncode != 0:  # a pipe is no file that can be cut
        raw = f"{path}.raw"
        subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", path, raw], check=True)
        data = open(raw, "rb").read()
        os.unlink(raw)
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha256(done.stdout).hexdigest()


def test_a_console_is_reached_through_any_host(two):
    a, b = two.hosts
    created(b, "far", "--set", "platform.console=false", job="out=serial job=echo")
    b.ok("vm", "start", "far", "--host", "h1")
    until(lambda: "job echo" in a.plim("vm", "console", "far", "--serial", "--log").out, "line of the guest")
    console = subprocess.Popen([PLIM, "vm", "console", "far", "--serial"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               env=dict(os.environ, PLIMSOLL_SOCKET=str(a.socket)))
    try:
        said = b""
        for word in ("one", "two"):
            console.stdin.write(f"{word}\r".encode())
            console.stdin.flush()
            while f"echo {word}".encode() not in said:
                piece = os.read(console.stdout.fileno(), 4096)
                assert piece, said
                said += piece
        assert b"job echo" in said, "it begins with the scrollback"
        # What is typed just before leaving arrives too.
        console.stdin.write(b"last\r\x1d")
        console.stdin.flush()
        assert console.wait(180) == 0
        until(lambda: "echo last" in a.plim("vm", "console", "far", "--serial", "--log").out, "the last line")
    finally:
        console.kill()
        console.wait()
    # Errors are the other daemon's own.
    ran = a.plim("vm", "console", "far", stdin="\x1d")
    assert ran.status == 7 and "no such console" in ran.err and ran.err.startswith("plim: h1: "), ran
    # Whatever ends over there ends the console; the daemon that passed it on goes on.
    for end in ("daemon", "guest"):
        console = subprocess.Popen([PLIM, "vm", "console", "far", "--serial"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=dict(os.environ, PLIMSOLL_SOCKET=str(a.socket)))
        assert os.read(console.stdout.fileno(), 1)
        if end == "daemon":
            b.kill9()
        else:
            b.ok("vm", "kill", "far")
        console.communicate(timeout=180)
        if end == "daemon":
            b.start()
    ran = a.plim("vm", "console", "far", "--serial", stdin="\x1d")
    assert ran.status == 6 and "stopped" in ran.err, ran


def test_a_disk_moves_along_with_what_is_written_meanwhile(two):
    a, b = two.hosts
    started(a, "g", "--disk", "name=root,size=16MiB", job="out=serial job=dirty:1:1")
    path = a.get("/v1/volumes")[0]["path"]
    for i in range(8):
        write(a, "g", 17 + i, f"{i * 2}M")
    # Slow enough that the writes come before its end, also where they take seconds.
    ident = begin(a, "g", b, "--downtime", "2s", bandwidth="1MiB")
    for i in range(8):
        write(a, "g", 99 + i, f"{i * 2 + 1}M")
    ended = a.wait_operation(ident)
    assert ended["status"] == "done" and ended["result"]["disk_bytes"] >= 16 << 20, ended
    volume = a.get("/v1/volumes")[0]
    assert volume["host"] == ids(two)["h1"] and str(b.state) in volume["path"] and volume["image"] is None
    assert not os.path.exists(path)
    assert_clean(a)
    write(b, "g", 200, "3M")
    expect = bytearray(16 << 20)
    for i in range(8):
        expect[i * 2 << 20:(i * 2 << 20) + 65536] = bytes([17 + i]) * 65536
        expect[i * 2 + 1 << 20:(i * 2 + 1 << 20) + 65536] = bytes([99 + i]) * 65536
    expect[3 << 20:(3 << 20) + 65536] = bytes([200]) * 65536
    lines(b, "g", 1)
    a.ok("vm", "kill", "g")
    assert content(volume["path"]) == hashlib.sha256(expect).hexdigest()


def test_a_disk_that_both_hosts_see_is_not_copied(two, tmp_path):
    a, b = two.hosts
    folder = a.base / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    path = folder / "disk.raw"
    path.write_bytes(os.urandom(4 << 20))
    before = path.read_bytes()
    started(a, "g", "--disk", f"name=root,path={path},format=raw")
    a.ok("vm", "migrate", "g", "h1")
    assert a.runtime("g")["migration"]["disk_bytes"] == 0
    write(b, "g", 7, "0")
    assert os.listdir(folder) == ["disk.raw"], "no marker stays"
    a.ok("vm", "kill", "g")
    assert path.read_bytes() == b"\7" * 65536 + before[65536:]


def backed_up(host, repo):
    op = host.api("POST", "/v1/vms/g/actions/backup", {"repository": str(repo), "incremental": True}).body
    ended = host.wait_operation(op["id"])
    assert ended["status"] == "done", ended
    return ended["result"]


def assert_backup_is(host, repo, backup, path):
    """What is restored from it has the content of that file."""
    host.ok("backup", "restore", backup["backup"], "--from", repo, "--name", "r")
    volume = next(d["volume"] for d in host.vm("r")["disks"])
    assert content(host.get(f"/v1/volumes/{volume}")["path"]) == content(path)
    host.ok("vm", "delete", "r")


def test_increments_go_on_behind_a_move_of_a_disk_that_both_hosts_see(two, tmp_path):
    a, b = two.hosts
    folder = a.base / "seen"
    folder.mkdir()
    folder.chmod(0o755)
    path = folder / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    started(a, "g", "--disk", f"name=root,path={path},format=qcow2")
    write(a, "g", 5, "0")
    full = backed_up(a, tmp_path)
    write(a, "g", 6, "4M")
    a.ok("vm", "migrate", "g", "h1")
    write(b, "g", 7, "8M")
    more = backed_up(b, tmp_path)
    assert full["kind"] == "full" and more["kind"] == "incremental" and more["parent"] == full["backup"] and more["warning"] is None
    a.ok("vm", "kill", "g")
    assert_backup_is(b, tmp_path, more, path)


def test_a_backup_behind_a_move_that_copied_the_disk_is_full_and_says_so(two, tmp_path):
    a, b = two.hosts
    started(a, "g", "--disk", "name=root,size=16MiB")
    write(a, "g", 5, "0")
    backed_up(a, tmp_path)
    a.ok("vm", "migrate", "g", "h1")
    write(b, "g", 7, "8M")
    lost = backed_up(b, tmp_path)
    assert lost["kind"] == "full" and "the bitmap of disk 'root'" in lost["warning"] and "is lost" in lost["warning"]
    write(b, "g", 8, "9M")
    more = backed_up(b, tmp_path)
    assert more["kind"] == "incremental" and more["parent"] == lost["backup"]
    path = a.get("/v1/volumes")[0]["path"]
    a.ok("vm", "kill", "g")
    assert_backup_is(b, tmp_path, more, path)


USER = 65534  # of no other file here


@pytest.fixture
def apart(make_pool):
    """Two hosts with a user's folder of the same path that is another one on h1: (hosts, that path, the folder of h1)."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="plim-apart-"))
    base.chmod(0o755)
    here, theirs = base / "disks", base / "theirs"
    for path in (here, theirs):
        path.mkdir()
        path.chmod(0o755)
        os.chown(path, USER, USER)
    words = [*OWN_MOUNTS, "sh", "-euc", 'mount --bind "$1" "$2"; shift 2; exec "$@"', "sh", theirs, here]
    yield make_pool(2, engine="qemu", prefixes={"h1": words}).hosts, here, theirs
    shutil.rmtree(base)


def test_a_file_that_only_the_source_sees_moves_along_when_it_is_said_so(apart):
    (a, b), here, theirs = apart
    path, there = here / "disk.raw", theirs / "disk.raw"
    path.write_bytes(os.urandom(3 << 20))
    os.chown(path, USER, USER)
    before = path.read_bytes()
    started(a, "g", "--disk", f"name=root,path={path},format=raw")
    for command in (("explain-move", "g", "--to", "h1"), ("migrate", "g", "h1")):
        ran = a.plim("vm", *command)
        assert f"'{path}', which the host does not see" in ran.out + ran.err and "--disks" in ran.out + ran.err, ran
    # What is there is nobody's to replace.
    there.write_bytes(b"precious")
    for command in (("explain-move", "g", "--to", "h1"), ("migrate", "g", "h1")):
        ran = a.plim("vm", *command, "--disks")
        assert f"a file '{path}' already" in ran.out + ran.err, ran
    assert there.read_bytes() == b"precious" and os.listdir(theirs) == ["disk.raw"]
    there.unlink()
    told = a.ok("vm", "explain-move", "g", "--to", "h1", "--disks")
    assert f"its disk 'root' would be copied to {path}" in told, told
    assert [g["to"]["name"] for g in a.get("/v1/hosts/h0/evacuation?disks=true")["guests"]] == ["h1"]
    assert a.get("/v1/hosts/h0/evacuation")["stuck"] == 1
    # A move that comes to nothing leaves nothing there, and the file here.
    ident = begin(a, "g", b, "--disks")
    assert there.exists()
    a.ok("operation", "cancel", ident)
    assert a.wait_operation(ident)["status"] == "cancelled"
    until(lambda: os.listdir(theirs) == [], "nothing on h1")
    a.wait_idle("g")
    assert path.exists()
    a.ok("vm", "migrate", "g", "h1", "--disks")
    runtime = a.wait_idle("g")
    assert runtime["migration"]["disk_bytes"] == 3 << 20
    assert os.listdir(here) == [] and os.listdir(theirs) == ["disk.raw"]
    write(b, "g", 7, "0")
    lines(b, "g", 1)
    a.ok("vm", "kill", "g")
    until(lambda: there.stat().st_uid == USER, "the disk is given back to its owner")
    assert there.read_bytes() == b"\7" * 65536 + before[65536:]
    a.ok("vm", "start", "g", "--host", "h1")
    lines(b, "g", 1)


def cd_of(host, name):
    return host.get(f"/v1/vms/{name}/cdrom")["path"]


def test_a_cd_goes_along_and_is_ejected_over_there(two, folder):
    a, b = two.hosts
    iso = folder / "tools.iso"
    iso.write_bytes(b"cd" * 4096)
    iso.chmod(0o644)
    started(a, "g")
    a.ok("vm", "cdrom", "insert", "g", iso)
    a.ok("vm", "migrate", "g", "h1")
    assert where(two, "g") is b and cd_of(b, "g") == cd_of(a, "g") == str(iso)
    lines(b, "g", 1)
    b.ok("vm", "cdrom", "eject", "g")
    assert cd_of(b, "g") is None
    b.ok("vm", "migrate", "g", "h0")
    lines(a, "g", 1)
    assert b.runtime("g")["pending"] == []


def test_a_cd_that_the_other_host_has_not_is_in_the_way_and_never_lost(two, folder):
    a, b = two.hosts
    iso = folder / "image.iso"
    iso.write_bytes(b"cd" * 4096)
    started(a, "g")
    a.ok("image", "import", iso, "--name", "tools", "--source-format", "raw")
    a.ok("vm", "cdrom", "insert", "g", "tools")
    ran = a.plim("vm", "migrate", "g", "h1")
    assert ran.status != 0 and "in its CD drive" in ran.err and "plim vm cdrom eject g" in ran.err, ran
    blockers, = [m["blockers"] for m in a.get("/v1/vms/g/moves") if m["host"]["name"] == "h1"]
    assert ["plim vm cdrom eject g" in b["advice"] for b in blockers] == [True], blockers
    assert_stayed(two, "g", a, b)
    assert cd_of(a, "g") is not None
    a.ok("vm", "cdrom", "eject", "g")
    a.ok("vm", "migrate", "g", "h1")
    lines(b, "g", 1)


def test_what_was_counted_before_a_move_is_told_by_every_host(two):
    a, b = two.hosts
    started(a, "g")
    watch = a.begin("vm", "wakeups", "g", "--seconds", "1", "--intervals", "900", "-o", "json")
    until(lambda: a.get("/v1/vms/g/wakeups").get("intervals"), "first interval")
    a.ok("vm", "migrate", "g", "h1")
    out, err = watch.communicate(timeout=300)
    report = json.loads(out)
    assert watch.returncode == 0 and report["state"] == "ended", err
    assert "moved to another host" in report["reason"] and 0 < len(report["intervals"]) < 900, report["reason"]
    assert all(i["timer"] is not None and i["read"] is not None for i in report["intervals"][:-1])
    for host in (a, b):
        again = host.get("/v1/vms/g/wakeups")
        assert again["state"] == "ended" and again["started_at"] == report["started_at"], again
    there = json.loads(a.ok("vm", "wakeups", "g", "--seconds", "1", "-o", "json"))
    assert there["state"] == "done" and there["reason"] is None


# Explained


def test_what_is_in_the_way_is_said_before_anything_moves(two):
    a, b = two.hosts
    a.ok("vm", "create", "g", "--memory", MEMORY, "--kernel", PAYLOAD, "--nic", "none", "--host", "h0")
    ran = a.plim("vm", "migrate", "g", "h1")
    assert ran.status != 0 and "is stopped" in ran.err and "plim vm start g" in ran.err
    a.ok("vm", "start", "g", "--host", "h0")
    assert a.ok("vm", "explain-move", "g").count("yes,") == 1
    ran = a.plim("vm", "migrate", "g", "h0")
    assert ran.status == 2 and "runs on h0 already" in ran.err
    ran = a.plim("vm", "migrate", "g", "h9")
    assert ran.status != 0 and "h9" in ran.err
    plan = a.ok("vm", "migrate", "g", "h1", "--dry-run")
    assert plan.splitlines()[:2] == ["MIGRATE_PREPARE h1", "MIGRATE_SEND g"]
    b.kill9()
    moves = {m["host"]["name"]: m for m in a.get("/v1/vms/g/moves")}
    assert not moves["h1"]["possible"] and moves["h1"]["blockers"][0]["advice"]
    ran = a.plim("vm", "migrate", "g")
    assert ran.status == 5 and "no host that 'g' could move to" in ran.err
    b.start()


@pytest.mark.parametrize("body", [{"bandwidth": -1}, {"downtime": 0}, {"downtime": 3 * 10**9}, {"host": 5}, {"speed": 1},
                                  {"timeout": 1}, {"post_copy": "yes"}, {"disks": "all"}])
def test_senseless_wishes_are_refused(two, body):
    a = two[0]
    a.ok("vm", "create", "g", "--memory", MEMORY, "--kernel", PAYLOAD, "--nic", "none", "--host", "h0")
    answer = a.api("POST", "/v1/vms/g/actions/migrate", body)
    assert answer.status == 400 and answer.body["code"] == "invalid", answer


def test_only_hosts_may_ask_for_a_reception(two):
    answer = two[0].api("POST", "/v1/peer/receptions", {})
    assert answer.status == 403, answer


# A guest that writes faster than can be sent


def test_the_time_that_is_left_is_told_while_memory_is_copied(two):
    a, b = two.hosts
    started(a, "g", job="out=serial job=dirty:200:4")
    ident = begin(a, "g", b)
    # A busy machine may begin slowly, and be thought slow for a moment.
    until(lambda: 0 < a.get(f"/v1/operations/{ident}")["result"]["progress"]["left"] < 60 * 10**6, "time that is left")
    a.ok("operation", "cancel", ident)
    assert a.wait_operation(ident)["status"] == "cancelled"
    assert_stayed(two, "g", a, b)


def test_what_is_tried_when_a_guest_writes_faster_than_the_link(two):
    """It writes all of 4 MiB anew many times a round, which takes half a second to send."""
    a, b = two.hosts
    started(a, "g", job="out=serial job=dirty:200:4")
    limits = ("--bandwidth", "8MiB", "--downtime", "40ms")
    ident = a.ok("vm", "migrate", "g", "h1", *limits, "--no-auto-converge", "--no-wait").strip()
    operation = until(lambda: next((o for o in [a.get(f"/v1/operations/{ident}")] if o["finished_at"]), None), "end of the move", 300)
    assert operation["status"] == "failed" and operation["error"]["code"] == "busy", operation
    assert "faster" in operation["error"]["message"] and "more downtime" in operation["error"]["advice"]
    assert_stayed(two, "g", a, b)
    # Its vcpus are slowed, where that is allowed, and are as fast as before when the move has ended.
    ident = a.ok("vm", "migrate", "g", "h1", *limits, "--no-wait").strip()
    until(lambda: qmp(a, "g", "query-migrate").get("cpu-throttle-percentage", 0) > 11, "slower vcpus", 300)
    a.ok("operation", "cancel", ident)
    assert a.wait_operation(ident)["status"] == "cancelled"
    assert_stayed(two, "g", a, b)
    assert "cpu-throttle-percentage" not in qmp(a, "g", "query-migrate")
    # With the downtime that it needs it comes through, when round by round enough of that is allowed.
    a.ok("vm", "migrate", "g", "h1", "--bandwidth", "8MiB", "--downtime", "2s")
    told = a.wait_idle("g")["migration"]
    assert told["to"] == ids(two)["h1"] and told["rounds"] > 2 and told["throttled"] == 0, told
    lines(b, "g", 1)


# It does not work


def test_a_move_can_be_cancelled(two):
    a, b = two.hosts
    started(a, "g")
    ident = begin(a, "g", b)
    a.ok("operation", "cancel", ident)
    assert a.wait_operation(ident)["status"] == "cancelled"
    assert_stayed(two, "g", a, b)
    a.ok("vm", "migrate", "g", "h1")


def test_a_move_that_takes_too_long_is_given_up(two):
    a, b = two.hosts
    started(a, "g")
    ran = a.plim("vm", "migrate", "g", "h1", "--bandwidth", "1MiB", "--deadline", "2s", "--no-auto-converge")
    assert ran.status == 8 and "--deadline" in ran.err, ran
    assert_stayed(two, "g", a, b)


def test_the_other_host_dies_whole(two):
    a, b = two.hosts
    started(a, "g")
    ident = begin(a, "g", b)
    pids = qemus(b)
    b.kill9()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ended = a.wait_operation(ident)
    assert ended["status"] == "failed" and ended["error"]["advice"], ended
    b.start()
    assert_stayed(two, "g", a, b)


def test_the_other_hosts_daemon_dies(two):
    a, b = two.hosts
    started(a, "g")
    ident = begin(a, "g", b)
    b.kill9()
    assert a.wait_operation(ident)["status"] == "failed"
    b.start()
    assert_stayed(two, "g", a, b)


def test_the_other_hosts_qemu_dies(two):
    a, b = two.hosts
    started(a, "g")
    ident = begin(a, "g", b)
    os.kill(qemus(b)[0], signal.SIGKILL)
    assert a.wait_operation(ident)["status"] == "failed"
    assert_stayed(two, "g", a, b)


def test_the_other_host_dies_while_disks_are_copied(two):
    a, b = two.hosts
    started(a, "g", "--disk", "name=root,size=16MiB")
    path = a.get("/v1/volumes")[0]["path"]
    write(a, "g", 5, "1M")
    ident = begin(a, "g", b)
    pids = qemus(b)
    b.kill9()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert a.wait_operation(ident)["status"] == "failed"
    b.start()
    assert_stayed(two, "g", a, b)
    assert a.get("/v1/volumes")[0]["path"] == path
    write(a, "g", 6, "2M")


def test_the_sources_daemon_dies(two):
    a, b = two.hosts
    started(a, "g")
    begin(a, "g", b)
    a.kill9()
    a.start()
    assert_stayed(two, "g", a, b)
    assert a.wait_event("operation.recovered")


def test_the_sources_daemon_is_stopped_and_the_guest_goes_on_at_once(two):
    a, b = two.hosts
    started(a, "g")
    begin(a, "g", b)
    a.stop()
    a.start()
    assert_stayed(two, "g", a, b)


def test_the_sources_qemu_dies(two):
    a, b = two.hosts
    started(a, "g", "--set", "restart=never")
    ident = begin(a, "g", b)
    os.kill(qemus(a)[0], signal.SIGKILL)
    assert a.wait_operation(ident)["status"] == "failed"
    assert a.wait_state("g", "crashed")["host"] == ids(two)["h0"]
    assert_clean(b)
    assert not qemus(a)


def test_the_other_host_hangs(two):
    a, b = two.hosts
    started(a, "g")
    ident = begin(a, "g", b)
    pids = qemus(b) + [b.process.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: a.get(f"/v1/operations/{ident}")["status"] == "undoing" or
              a.get(f"/v1/operations/{ident}")["status"] == "failed", "the end of the patience", 300)
        lines(a, "g", 1)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert a.wait_operation(ident)["status"] == "failed"
    assert_stayed(two, "g", a, b)


def test_the_other_hosts_disk_is_full(two):
    a, b = two.hosts
    started(a, "g", "--disk", "name=root,size=32MiB")
    for i in range(16):
        write(a, "g", i + 1, f"{i * 2}M")
    volumes = b.state / "volumes"
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=711", "tmpfs", volumes], check=False)
    if mount.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        # It fits, as far as anybody can tell; then somebody else fills the room.
        ident = begin(a, "g", b, bandwidth="8MiB")
        with open(volumes / "junk", "wb", buffering=0) as junk:
            try:
                while junk.write(b"x" * 65536):
                    pass
            except OSError:
                pass
        ended = a.wait_operation(ident)
        assert ended["status"] == "failed" and ended["error"]["code"] == "no-space", ended
        # Now it does not fit, and nothing begins.
        ran = a.plim("vm", "migrate", "g", "h1")
        assert ran.status == 11 and "its disks need" in ran.err and "Make room there" in ran.err, ran
        os.unlink(volumes / "junk")
        assert_stayed(two, "g", a, b)
    finally:
        subprocess.run(["umount", "-l", volumes], check=True)
    a.ok("vm", "migrate", "g", "h1")
    lines(b, "g", 1)


# All of the guest was sent, and not all of it is there yet


def assert_moved(pool, name, here, there):
    runtime = until(lambda: next((r for r in [there.runtime(name)] if r["operation"] is None), None), "end of the operation")
    assert runtime["state"] == "running" and runtime["host"] == ids(pool)[there.name], runtime
    lines(there, name, 1)
    assert_only_guest(there, runtime)
    assert_clean(here)


BLOWS = {  # who is killed, and where the guest is afterwards
    "nobody": ((), "there"),
    "its QEMU there": (("b qemu",), "here"),
    "the other host": (("b daemon", "b qemu"), "here"),
    "the other daemon": (("b daemon",), "there"),
    "the source's daemon": (("a daemon",), "there"),
    "the source": (("a daemon", "a qemu"), "there"),
    "its QEMU here": (("a qemu",), "there"),
    "both daemons": (("a daemon", "b daemon"), "there"),
    "the source's daemon and its QEMU there": (("a daemon", "b qemu"), "here"),
    "both daemons and its QEMU there": (("a daemon", "b daemon", "b qemu"), "here"),
}


@pytest.mark.parametrize("blow", BLOWS)
def test_a_blow_between_the_sending_and_the_arrival(two, blow):
    """QEMU over there is held, so that the rest of the guest waits in the network. It is promised, and goes on there by itself."""
    killed, stays = BLOWS[blow]
    a, b = two.hosts
    started(a, "g", "--set", "restart=never", job="out=serial job=dirty:1:1")
    _, there = hold(a, "g", b)
    pids = {"a qemu": qemus(a)[0], "b qemu": there}
    try:
        send_all(a, "g")
        for what in killed:
            host = a if what[0] == "a" else b
            if what in pids:
                os.kill(pids[what], signal.SIGKILL)
            else:
                host.kill9()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids["b qemu"], signal.SIGCONT)
    for host in (a, b):
        if host.process.poll() is not None:
            host.start()
    if stays == "here":
        assert_stayed(two, "g", a, b)
    else:
        assert_moved(two, "g", a, b)
    a.ok("vm", "migrate", "g", "h1" if stays == "here" else "h0")


def hold_new_qemu(pool, host, to):
    """
    A move of "g" whose QEMU over there does nothing from its first moments on: the operation, that QEMU. Where the test
    is too late for that, the move is taken back, and begun again.
    """
    vm = host.vm("g")["id"]

    def held():
        ident = host.ok("vm", "migrate", "g", to.name, "--bandwidth", CRAWL, "--no-auto-converge", "--no-wait").strip()
        pid = until(lambda: next(iter(qemus(to)), None), f"QEMU on {to.name}")
        os.kill(pid, signal.SIGSTOP)
        in_time = False
        try:
            until(lambda: any(k.endswith(f"/vms/{vm}/promise") for k in pool.etcd.keys()), "promise")
            in_time = host.get(f"/v1/operations/{ident}")["stage"] == "preparing the other host"
        finally:
            if not in_time:
                os.kill(pid, signal.SIGCONT)
        if in_time:
            return ident, pid
        host.ok("operation", "cancel", ident)
        host.wait_operation(ident)
        assert_stayed(pool, "g", host, to)
        return None
    return until(held, "QEMU that is held")


@pytest.mark.parametrize("how", ["cancelled", "daemon killed"])
def test_a_guest_that_came_here_is_not_thought_gone(two, how):
    """Its QEMU says "completed" of the migration that brought it; it is promised, and nothing of it was sent."""
    a, b = two.hosts
    started(a, "g")
    a.ok("vm", "migrate", "g", "h1")
    assert_moved(two, "g", a, b)
    ident, pid = hold_new_qemu(two, b, a)
    vm = b.vm("g")["id"]
    try:
        assert qmp(b, "g", "query-migrate")["status"] == "completed"
        if how == "cancelled":
            b.ok("operation", "cancel", ident)
        else:
            b.kill9()
    finally:
        os.kill(pid, signal.SIGCONT)
    if how != "cancelled":
        b.start()
    assert b.wait_operation(ident)["status"] in ("cancelled", "failed")
    runtime = until(lambda: next((r for r in [b.runtime("g")] if r["operation"] is None), None), "end of the operation")
    assert runtime["state"] == "running" and runtime["host"] == ids(two)["h1"], runtime
    lines(b, "g", 1)
    assert_clean(a)
    assert not any(k.endswith("/promise") for k in two.etcd.keys())
    assert "can't undo" not in b.said() and not (b.run / "vms" / vm / "key").exists()
    b.ok("vm", "migrate", "g", "h0")
    lines(a, "g", 1)


# All of a host


def test_a_host_is_evacuated_and_gets_its_guests_back(two):
    a, b = two.hosts
    for name in ("g", "h", "i"):
        started(a, name, job="out=serial job=dirty:5:4")
    plan = a.ok("host", "evacuate", "h0", "--dry-run")
    assert sorted(plan.split("\n")[:3]) == ["g: to h1", "h: to h1", "i: to h1"]
    assert len(qemus(a)) == 3
    # The same plan for users of the API, from any daemon.
    told = b.get("/v1/hosts/h0/evacuation")
    assert told["stuck"] == 0 and told["host"]["name"] == "h0"
    assert [(g["vm"]["name"], g["to"]["name"]) for g in told["guests"]] == [("g", "h1"), ("h", "h1"), ("i", "h1")]
    assert json.loads(a.ok("host", "evacuate", "h0", "--dry-run", "-o", "json"))["guests"][0]["to"] == told["guests"][0]["to"]
    assert a.get("/v1/hosts/h1/evacuation")["guests"] == []
    assert a.api("GET", "/v1/hosts/h0/evacuation?back=perhaps").status == 400
    assert a.api("GET", "/v1/hosts/h7/evacuation").status == 404
    a.ok("host", "evacuate", "h0", "--parallel", "3")
    assert [g["to"]["name"] for g in a.get("/v1/hosts/h0/evacuation?back=true")["guests"]] == ["h0"] * 3
    assert {a.runtime(n)["host"] for n in ("g", "h", "i")} == {ids(two)["h1"]}
    assert_clean(a)
    b.ok("host", "evacuate", "h0", "--return")
    assert {a.runtime(n)["host"] for n in ("g", "h", "i")} == {ids(two)["h0"]}
    for name in ("g", "h", "i"):
        lines(a, name, 1)
    b.kill9()
    ran = a.plim("host", "evacuate", "h0")
    assert ran.status == 5 and "nothing was moved" in ran.err and "g: can't move" in ran.out, ran
    told = a.get("/v1/hosts/h0/evacuation")
    assert told["stuck"] == 3 and told["guests"][0]["to"] is None
    assert any(m["blockers"] for m in told["guests"][0]["moves"])
    b.start()


# The CPU


def test_a_guest_whose_cpu_the_other_host_cannot_give_is_refused_by_name(two):
    a, b = two.hosts
    for host in (a, b):
        until(lambda h=host: "aes" in h.plim("host", "cpu", h.name, "-o", "json").out, f"the CPU of {host.name}")
    started(a, "g")
    assert a.vm("g")["cpu"], "the guest has a pin"
    b.ok("host", "cpu", "mask", "aes")
    moves = a.ok("vm", "explain-move", "g", "--to", "h1")
    assert moves.startswith("h1: no") and "aes" in moves and "power cycle" in moves, moves
    ran = a.plim("vm", "migrate", "g", "h1")
    assert ran.status != 0 and "aes" in ran.err, ran
    assert_stayed(two, "g", a, b)
    b.ok("host", "cpu", "unmask", "aes")
    a.ok("vm", "migrate", "g", "h1")
    lines(b, "g", 1)


# Memory that follows the guest

FASTER_THAN_THE_LINK = ("--bandwidth", "8MiB", "--no-auto-converge", "--downtime", "20ms", "--post-copy")


def test_memory_follows_a_guest_that_writes_faster_than_the_link(two, userfaultfd):
    a, b = two.hosts
    userfaultfd("1")
    started(a, "g", job="out=serial job=dirty:200:4")
    a.ok("vm", "migrate", "g", b.name, *FASTER_THAN_THE_LINK)
    runtime = a.runtime("g")  # it wrote the end of the move
    assert runtime["host"] == ids(two)[b.name] and runtime["migration"]["post_copy"]
    assert runtime["migration"]["rounds"] > 2
    lines(b, "g", 3)
    assert not qemus(a) and len(qemus(b)) == 1


def test_a_host_that_may_not_take_page_faults_says_so_before_anything_moves(two, userfaultfd):
    a, b = two.hosts
    userfaultfd("0")
    started(a, "g")
    ran = a.plim("vm", "migrate", "g", b.name, "--post-copy")
    assert ran.status == 9 and "unprivileged_userfaultfd" in ran.err, ran
    assert_stayed(two, "g", a, b)


# What a guest left behind


def test_a_guest_does_not_start_in_what_it_left_behind(two):
    """It moved, and was killed over there, while the QEMU that it left does not quit: it waits, or is refused."""
    a, b = two.hosts
    started(a, "g", "--set", "restart=never", job="out=serial job=dirty:1:1")
    old = qemus(a)[0]
    ident, there = hold(a, "g", b)
    try:
        try:
            send_all(a, "g")
            os.kill(old, signal.SIGSTOP)
        finally:
            os.kill(there, signal.SIGCONT)
        until(lambda: b.runtime("g")["operation"] is None and b.runtime("g")["host"] == ids(two)[b.name], "g on the other host")
        b.ok("vm", "kill", "g")
        assert a.get(f"/v1/operations/{ident}")["status"] == "running"
        ran = a.plim("vm", "start", "g", "--host", a.name)
        assert ran.status in (0, 15), ran
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(old, signal.SIGCONT)
    a.wait_operation(ident)
    if ran.status != 0:
        a.ok("vm", "start", "g", "--host", a.name)
    runtime = a.wait_state("g", "running")
    assert runtime["host"] == ids(two)[a.name] and runtime["pid"] != old
    assert_only_guest(a, runtime)
    lines(a, "g", 1)
    # A folder for it is on the other host still, and goes with it.
    a.ok("vm", "migrate", "g", b.name)
