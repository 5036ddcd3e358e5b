# SPDX-License-Identifier: Apache-2.0
"""Many guests on one host: storms, memory that is not there, limits in the way, crowds that watch."""
import concurrent.futures
import http.client
import json
import os
import resource
import socket
import subprocess
import threading

from daemon import DEADLINE, PAYLOAD, PLIM, UnixConnection, until

MIB = 1 << 20


def call(d, method, path, body=None):
    """One exchange without the witness, who would read along for minutes; every refusal is an answer."""
    connection = UnixConnection(d.run / "api.sock", DEADLINE * 5)
    connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text) if text else None


def plim(d, *words):
    """The same for plim: its output."""
    done = subprocess.run([PLIM, *words], env=dict(os.environ, PLIMSOLL_SOCKET=str(d.run / "api.sock")), capture_output=True,
                          text=True, timeout=DEADLINE * 10)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_many(d, n, memory, threads=4):
    def make(i):
        status, answer = call(d, "POST", "/v1/vms?wait=600", {
            "name": f"g{i:03}", "nics": [{"network": "none"}], "settings": {"memory.start": memory, "boot.kernel": str(PAYLOAD)}})
        assert status < 300 and answer["status"] == "done", answer
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(make, range(n)))


def states(d):
    _, vms = call(d, "GET", "/v1/vms")
    return sorted(vm["runtime"]["state"] for vm in vms)


def most_at_once(operations):
    """The most of them that ran at the same time, by their own records."""
    ends = sorted([(o["started_at"], 1) for o in operations] + [(o["finished_at"], -1) for o in operations])
    most = now = 0
    for _, change in ends:
        now += change
        most = max(most, now)
    return most


def check_bound(d, n):
    bound = call(d, "GET", f"/v1/hosts/{d.name}/limits")[1]["starts"]
    starts = [o for o in call(d, "GET", "/v1/operations?filter=kind=vm.start")[1] if o["status"] == "done"]
    assert len(starts) == n and most_at_once(starts) <= bound, (len(starts), most_at_once(starts), bound)


def test_five_hundred_starts_and_stops_at_once_and_none_fails(sim):
    sim.ok("host", "set", "memory.overcommit=1000")
    make_many(sim, 500, 8 * MIB)
    said = plim(sim, "vm", "start", "--all")
    assert len(said.splitlines()) == 500
    assert states(sim) == ["running"] * 500
    check_bound(sim, 500)
    plim(sim, "vm", "stop", "--all")
    assert states(sim) == ["stopped"] * 500
    assert [e for e in sim.events() if e["severity"] == "error"] == []


def test_twenty_guests_start_at_once_and_none_fails(daemon):
    make_many(daemon, 20, 16 * MIB)
    daemon.ok("vm", "start", "--all")
    assert states(daemon) == ["running"] * 20
    check_bound(daemon, 20)
    threads = len(os.listdir(f"/proc/{daemon.process.pid}/task"))
    files = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    assert files < 40 + 20 * 6, f"{files} files for 20 guests"
    assert threads < 40, f"{threads} threads for 20 guests"
    daemon.restart()
    assert states(daemon) == ["running"] * 20 and len(daemon.events("vm.adopted")) == 20
    daemon.ok("vm", "kill", "--all")
    assert states(daemon) == ["stopped"] * 20
    until(lambda: daemon.guests() == [], "end of all guests")


def test_starts_beyond_the_memory_are_refused_with_numbers_and_hurt_nobody(sim):
    make_many(sim, 60, 512 * MIB)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda i: call(sim, "POST", f"/v1/vms/g{i:03}/actions/start?wait=600"), range(60)))
    refused = [a for status, a in answers if status == 429]
    started = [a for status, a in answers if status == 202]
    assert len(refused) + len(started) == 60 and all(a["status"] == "done" for a in started)
    memory = call(sim, "GET", f"/v1/hosts/{sim.name}/limits")[1]["memory"]
    need = refused[0]["details"]["needed"]
    assert len(started) == memory["limit"] // need == memory["guests"]
    assert memory["claimed"] == len(started) * need and memory["free"] < need
    for answer in refused:
        assert answer["code"] == "limit"
        assert answer["details"]["missing"] == need - answer["details"]["free"] > 0
        assert answer["details"]["total"] == 16 << 30
    assert states(sim).count("running") == len(started)

    # What one gives back another gets, also over a restart of the daemon; and the host may promise more.
    name = next(vm["name"] for vm in call(sim, "GET", "/v1/vms")[1] if vm["runtime"]["state"] == "stopped")
    running = next(vm["name"] for vm in call(sim, "GET", "/v1/vms")[1] if vm["runtime"]["state"] == "running")
    sim.restart()
    ran = sim.plim("vm", "start", name)
    assert ran.status == 16 and "no memory for" in ran.err and "over-commit" in ran.err
    assert sim.plim("vm", "start", name, "--dry-run").status == 16
    sim.ok("vm", "kill", running)
    sim.ok("vm", "start", name)
    assert sim.plim("vm", "start", running).status == 16
    sim.ok("host", "set", "memory.overcommit=150")
    sim.ok("vm", "start", running)
    sim.ok("host", "unset", "memory.overcommit")
    assert "memory.overcommit" not in sim.get(f"/v1/hosts/{sim.name}")["settings"]


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_limit_on_open_files_is_named_before_it_hurts(daemon):
    make_many(daemon, 3, 16 * MIB)
    daemon.ok("vm", "start", "g000")
    pid = daemon.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    few = open_files(pid) + 30
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, usual[1]))
    ran = daemon.plim("vm", "start", "g001")
    assert ran.status == 16 and "limit on open files of the daemon" in ran.err and f"of {few} are in use" in ran.err
    assert "LimitNOFILE" in ran.err
    assert states(daemon) == ["running", "stopped", "stopped"]
    row = next(r for r in daemon.get(f"/v1/hosts/{daemon.name}/limits")["limits"] if r["name"] == "open-files")
    assert row["max"] == few and row["room"] == 0
    resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
    daemon.ok("vm", "start", "g001", "g002")
    assert states(daemon) == ["running"] * 3


class Watcher(threading.Thread):
    """Reads a stream until it has seen the vm that is made last."""

    def __init__(self, d, since, last):
        super().__init__()
        self.connection = UnixConnection(d.run / "api.sock", DEADLINE * 5)
        self.since, self.last, self.seen, self.error = since, last, [], None
        self.connection.request("GET", f"/v1/events?since={since}", headers={"Accept": "text/event-stream"})
        self.response = self.connection.getresponse()

    def run(self):
        try:
            while True:
                line = self.response.readline()
                if line.startswith(b"data: "):
                    data = json.loads(line[6:])
                    if data["kind"] == "event":
                        self.seen.append(data["object"]["id"])
                        if (data["object"]["object"] or {}).get("name") == self.last and data["object"]["type"] == "vm.started":
                            return
                assert line, "the stream ended"
        except (OSError, AssertionError, http.client.HTTPException) as e:
            self.error = e
        finally:
            self.connection.close()


def test_a_hundred_watchers_hear_everything_and_a_slow_one_holds_nobody_up(sim):
    since = sim.get("/v1")["revision"]
    slow = socket.socket(socket.AF_UNIX)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(str(sim.run / "api.sock"))
    slow.sendall(f"GET /v1/events?since={since} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
    watchers = [Watcher(sim, since, "last") for _ in range(100)]
    for w in watchers:
        w.start()
    sim.ok("host", "set", "memory.overcommit=1000")
    make_many(sim, 30, 8 * MIB)
    sim.ok("vm", "start", "--all")
    sim.ok("vm", "create", "last", "--kernel", PAYLOAD, "--nic", "none")
    sim.ok("vm", "start", "last")
    for w in watchers:
        w.join(DEADLINE * 3)
        assert not w.is_alive() and w.error is None, w.error
    slow.close()
    told = [e["id"] for e in sim.events() if e["revision"] > since]
    told = told[:told.index(watchers[0].seen[-1]) + 1]
    assert len(told) > 60
    assert all(w.seen == told for w in watchers)
