# SPDX-License-Identifier: Apache-2.0
"""Hosts form a pool, and leave it: daemons with simulated guests on loopback, records in a real etcd."""
import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import threading

import pytest

from certs import Authority
from daemon import PAYLOAD, until
from pool import free_port

KERNEL = ("--kernel", PAYLOAD, "--nic", "none")


def make_vm(host, name, *more):
    host.ok("vm", "create", name, *KERNEL, *more)
    return host.vm(name)["id"]


def test_a_host_becomes_a_pool_with_all_it_has(make_pool):
    p = make_pool(1, joined=False)
    host = p[0]
    ident = make_vm(host, "web1", "--disk", "1GiB")
    host.ok("vm", "start", "web1")
    before = host.vm("web1")
    pid = host.process.pid
    p.init()
    assert host.process.pid == pid and host.process.poll() is None, "the same process, begun anew"
    after = host.vm("web1")
    assert after["id"] == ident and after["runtime"]["state"] == "running"
    assert after["settings"] == before["settings"]
    pool = host.get("/v1/pool")
    assert pool["name"] == "lab" and [h["state"] for h in pool["hosts"]] == ["online"]
    assert pool["hosts"][0]["vms"] == 1
    assert host.get("/v1")["pool"]["id"] == pool["id"]
    assert host.events("vm.created") and host.wait_event("pool.created")
    assert any(k.endswith(f"/vms/{ident}/config") for k in p.etcd.keys())


def test_no_client_notices_a_daemon_that_begins_anew(make_pool):
    p = make_pool(1, joined=False)
    host = p[0]
    answers, failures, done = [], [], threading.Event()

    def ask():
        while not done.is_set():
            ran = host.plim("vm", "list", "-o", "json")
            (failures if ran.status else answers).append(ran)
    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        p.init()
        begun = host.wait_event("pool.created")
        before = len(answers)
        until(lambda: failures or len(answers) > before + 4, "answers of the new daemon")
    finally:
        done.set()
        for client in clients:
            client.join()
    assert begun and not failures, failures[0]


def test_an_init_can_be_tried_out(make_pool):
    p = make_pool(1, joined=False)
    host = p[0]
    make_vm(host, "web1")
    before, files = p.etcd.keys(), sorted(os.listdir(host.state))

    def attempt(*more):
        return host.plim("pool", "init", "--dry-run", "--name", "lab", "--address", host.address, *more)
    ran = attempt("--etcd", p.etcd.url)
    assert ran.status == 0 and f"the pool lab, reached at {host.address}, with web1" in ran.out and p.etcd.url in ran.out, ran
    assert "an etcd of its own" in attempt().out
    for more, words in ((("--etcd", "http://127.0.0.1:1"), "127.0.0.1:1"), (("--etcd", "ftp://x"), "address of an etcd"),
                        (("--etcd", p.etcd.url, "--etcd-ca", "/nowhere"), "/nowhere")):
        ran = attempt(*more)
        assert ran.status != 0 and words in ran.err and len(ran.err.splitlines()) >= 2, ran
    assert host.get("/v1")["pool"] is None and sorted(os.listdir(host.state)) == files and p.etcd.keys() == before
    assert not list(host.run.glob("pool-trial-*"))
    p.init()
    assert attempt().status == 6, "it is in one"


def test_three_hosts_share_their_records(pool):
    assert {n: h["state"] for n, h in pool.status().items()} == {"h0": "online", "h1": "online", "h2": "online"}
    make_vm(pool[1], "web1")
    for host in pool.hosts:
        assert host.vm("web1")["runtime"]["state"] == "stopped"
        assert sorted(h["name"] for h in host.get("/v1/hosts")) == ["h0", "h1", "h2"]
    numbers = [int(e["id"], 16) for e in pool[2].events()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


# Joining


def test_a_joining_host_brings_its_own_vms(make_pool):
    p = make_pool(2, joined=False)
    p.init()
    mine = make_vm(p[1], "mine", "--disk", "1GiB")
    p[1].ok("vm", "start", "mine")
    pid = p[1].process.pid
    p.join(p[1])
    assert p[1].process.pid == pid
    for host in p.hosts:
        assert host.vm("mine")["id"] == mine and host.vm("mine")["runtime"]["state"] == "running"
    ids = {h["name"]: h["id"] for h in p.status().values()}
    assert p[0].vm("mine")["runtime"]["host"] == ids["h1"]
    assert [v["host"] for v in p[0].get("/v1/volumes")] == [ids["h1"]]
    assert p[0].wait_event("host.joined", "h1")


def test_a_clash_of_names_is_refused_before_anything_changes(make_pool):
    p = make_pool(2, joined=False)
    p.init()
    make_vm(p[0], "web1")
    make_vm(p[1], "web1")
    before = p.etcd.keys()
    ran = p[1].plim("pool", "join", "--token", p.token(), "--address", p[1].address)
    assert ran.status == 5 and "vm 'web1'" in ran.err and "Rename" in ran.err
    assert p[1].get("/v1")["pool"] is None and p[1].vm("web1")
    assert not (p[1].state / "pool.joining.json").exists() and not (p[1].state / "pool").exists()
    left = [k for k in p.etcd.keys() if k not in before and "/pool-tokens/" not in k and "/events/" not in k]
    assert left == []
    p[1].ok("vm", "rename", "web1", "web2")
    p.join(p[1])
    assert sorted(v["name"] for v in p[0].get("/v1/vms")) == ["web1", "web2"]


def test_a_join_can_be_tried_out(make_pool):
    p = make_pool(2, joined=False)
    p.init()
    make_vm(p[0], "web1")
    make_vm(p[1], "web1")
    token = p.token()
    before = p.etcd.keys()

    def attempt(token):
        return p[1].plim("pool", "join", "--token", token, "--address", p[1].address, "--dry-run")
    ran = attempt(token)
    assert ran.status == 5 and "vm 'web1'" in ran.err, ran
    p[1].ok("vm", "delete", "web1")
    ran = attempt(token)
    assert ran.status == 0 and "would let this host in" in ran.out, ran
    assert attempt(token[:-1]).status in (2, 3, 18)
    assert p[1].get("/v1")["pool"] is None and not (p[1].state / "pool").exists()
    assert not (p[1].state / "pool.joining.json").exists()
    assert [k for k in p.etcd.keys() if k not in before] == [] and list(p.status()) == ["h0"]
    p.join(p[1], token)
    assert attempt(token).status == 6, "it is in one"


def test_a_token_is_good_once(make_pool):
    p = make_pool(3, joined=False)
    p.init()
    token = p.token()
    p.join(p[1], token)
    ran = p[2].plim("pool", "join", "--token", token, "--address", p[2].address)
    assert ran.status == 14 and "was used already, by host 'h1'" in ran.err and "pool token" in ran.err
    assert p[2].get("/v1")["pool"] is None


def test_bad_tokens_are_refused_clearly(make_pool):
    p = make_pool(2, joined=False)
    p.init()
    good = p.token()
    scheme, secret, print_, url = good.split(".")
    bad = {"": 2, "words": 2, good + ".x": 2, f"plj9.{secret}.{print_}.{url}": 2, f"{scheme}.AAAA.{print_}.{url}": 3,
           f"{scheme}.{secret}.{'0' * 64}.{url}": 3, "x" * 2000: 2, f"{scheme}.{secret}.{print_}.": 2}
    for token, status in bad.items():
        ran = p[1].plim("pool", "join", "--token", token, "--address", p[1].address)
        assert ran.status == status, (token[:80], ran)
        assert len(ran.err.splitlines()) == 2, ran
    ran = p[1].plim("pool", "join", "https://127.0.0.1:1", "--token", good, "--address", p[1].address)
    assert ran.status == 18 and "nobody answers" in ran.err
    assert p[1].get("/v1")["pool"] is None
    p[1].ok("pool", "join", f"https://{p[0].address}", "--token", good, "--address", p[1].address)


def test_a_token_can_be_read_from_a_file_or_the_standard_input(make_pool, tmp_path):
    p = make_pool(3, joined=False)
    p.init()
    where = ("--address", p[1].address)
    ran = p[1].plim("pool", "join", "--token-file", tmp_path / "none", *where)
    assert ran.status == 4 and "none" in ran.err
    ran = p[1].plim("pool", "join", "--token", "plj1.x", "--token-file", "-", *where, stdin="plj1.x\n")
    assert ran.status == 2 and "both" in ran.err
    assert p[1].plim("pool", "join", "--token-file", "-", *where, stdin="\n").status == 2
    (tmp_path / "token").write_text(p.token() + "\n")
    p[1].ok("pool", "join", "--token-file", tmp_path / "token", *where)
    ran = p[2].plim("pool", "join", "--token-file", "-", "--address", p[2].address, stdin=p.token() + "\n")
    assert ran.status == 0, ran
    assert sorted(p.status()) == ["h0", "h1", "h2"]


def test_an_old_token_has_expired(make_pool):
    p = make_pool(2, joined=False)
    p.init()
    token = p[0].api("POST", "/v1/pool/tokens", {"life": 1}).body["token"]
    ran = p[1].plim("pool", "join", "--token", token, "--address", p[1].address)
    assert ran.status == 14 and "expired at" in ran.err, ran
    assert p[0].plim("pool", "token", "--life", "30d").status == 2


def test_two_hosts_that_join_at_once_both_succeed(make_pool):
    p = make_pool(3, joined=False)
    p.init()
    tokens = [p.token(), p.token()]
    both = [p[i + 1].begin("pool", "join", "--token", tokens[i], "--address", p[i + 1].address) for i in range(2)]
    for ran in both:
        out, err = ran.communicate(timeout=300)
        assert ran.returncode == 0, (out, err)
    assert sorted(p.status()) == ["h0", "h1", "h2"]


def test_one_token_and_two_hosts_at_once_let_one_in(make_pool):
    p = make_pool(3, joined=False)
    p.init()
    token = p.token()
    both = [p[i].begin("pool", "join", "--token", token, "--address", p[i].address) for i in (1, 2)]
    ends = []
    for ran in both:
        _, err = ran.communicate(timeout=300)
        ends.append((ran.returncode, err))
    assert sorted(e[0] for e in ends) == [0, 14], ends
    assert len(p.status()) == 2


def test_a_host_of_the_same_name_is_refused(make_pool):
    p = make_pool(1, joined=False)
    p.init()
    other = p.add(name="h0")
    ran = other.plim("pool", "join", "--token", p.token(), "--address", other.address)
    assert ran.status == 5 and "another host called 'h0'" in ran.err


def test_what_is_in_no_pool_says_so(make_pool):
    p = make_pool(1, joined=False)
    for words in (["status"], ["token"], ["leave"], ["evict", "h0"]):
        ran = p[0].plim("pool", *words)
        assert ran.status == 6 and "not in a pool" in ran.err and "pool init" in ran.err, words
    p.init()
    assert p[0].plim("pool", "init", "--etcd", p.etcd.url, "--address", p[0].address).status == 6


def test_an_etcd_that_is_not_there_leaves_the_host_as_it_was(make_pool):
    p = make_pool(1, joined=False)
    make_vm(p[0], "web1")
    ran = p[0].plim("pool", "init", "--address", p[0].address, "--etcd", "http://127.0.0.1:1")
    assert ran.status == 18 and ran.err.count("\n") >= 1, ran
    assert p[0].plim("pool", "init", "--address", "0.0.0.0", "--etcd", p.etcd.url).status == 2
    assert p[0].plim("pool", "init", "--address", p[0].address, "--etcd", "words").status == 2
    assert p[0].get("/v1")["pool"] is None and not (p[0].state / "pool").exists()
    p[0].ok("vm", "start", "web1")


# Killed in the middle


def test_a_join_that_was_killed_is_undone_at_the_next_start(make_pool):
    p = make_pool(2, joined=False)
    p.init()
    make_vm(p[1], "mine")
    before = set(p.etcd.keys())
    ran = p[1].begin("pool", "join", "--token", p.token(), "--address", p[1].address)
    until(lambda: (p[1].state / "pool.joining.json").exists() or (p[1].state / "pool.json").exists(), "file of the join")
    p[1].kill9()
    p[1].start()
    ran.communicate(timeout=300)
    if p[1].get("/v1")["pool"] is None:
        left = [k for k in set(p.etcd.keys()) - before if "/pool-tokens/" not in k and "/events/" not in k]
        assert left == [] and p[1].wait_event("host.join-undone")
        p.join(p[1])
    assert p[0].vm("mine")["id"] == p[1].vm("mine")["id"]
    assert p.status()["h1"]["state"] == "online"


class Relay:
    """
    Between daemons and their etcd. The answer to the first request in which `lost` is found, once that was set, gets lost;
    so does all behind it until mend(). Not before it has come: a request whose client is gone may be none.
    """

    def __init__(self, port):
        self.etcd, self.port, self.lost, self.victim, self.is_cut, self.open = port, 0, None, None, False, set()
        self.listen()
        self.url = f"http://127.0.0.1:{self.port}"

    def listen(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        with listener, contextlib.suppress(OSError):  # that of a listener that was shut
            while True:
                ours, _ = listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self.etcd))
                self.open |= {ours, theirs}
                for pair in ((ours, theirs, True), (theirs, ours, False)):
                    threading.Thread(target=self.pass_on, args=pair, daemon=True).start()

    def pass_on(self, source, to, is_request):
        seen = b""
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if is_request and self.lost:
                    seen += piece
                    if self.lost(seen):
                        self.lost, self.victim = None, to
                elif source is self.victim:
                    self.is_cut = True
                    break
                to.sendall(piece)
        if self.is_cut and not is_request:
            self.cut()
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        for end in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.is_cut = False
        self.listen()

    close = cut


def makes_member(name):
    """Is that host's record, as one of a member, in what is sent to etcd?"""
    words = re.compile(rb'"([A-Za-z0-9+/=]{64,})"')

    def look(sent):
        values = [base64.b64decode(value) for value in words.findall(sent)]
        return any(b'"state":"member"' in value and f'"name":"{name}"'.encode() in value for value in values)
    return look


def test_a_join_whose_end_is_not_known_is_found_out_by_the_next_start(make_pool):
    p = make_pool(2, joined=False)
    file = p[1].state / "pool.joining.json"
    with contextlib.closing(Relay(p.etcd.port)) as relay:
        p[0].ok("pool", "init", "--name", "lab", "--address", p[0].address, "--etcd", relay.url)
        make_vm(p[1], "mine")
        words = ("pool", "join", "--token", p.token(), "--address", p[1].address)
        relay.lost = makes_member("h1")
        ran = p[1].plim(*words)
        assert ran.status in (8, 10, 18) and "begins anew, and asks the pool's store" in ran.err, ran
        assert relay.is_cut and file.exists()
        # Refused at once, or carried out by the daemon that found out: the end of the join must not forget it.
        late, again = p[1].begin("vm", "create", "late", *KERNEL), p[1].begin(*words)
        until(lambda: "etcd is waited for" in p[1].said(), "wait of a daemon that can't ask")
        assert file.exists()
        relay.mend()
        until(p[1].is_ready, "API of the daemon")
        for ran in (late, again):
            ran.communicate(timeout=180)
        assert again.returncode != 0
        p.wait_status("h1", "online")
        assert p[0].plim("vm", "show", "late").status == (4 if late.returncode else 0)
        assert not file.exists() and p[1].get("/v1")["pool"]["name"] == "lab"
        assert p[0].vm("mine")["id"] == p[1].vm("mine")["id"]
        p.wait_status("h1", "online")
        for host in reversed(p.hosts):  # while their store is there
            host.stop()


# Passing on


def test_any_daemon_takes_any_request(pool):
    ident = make_vm(pool[0], "web1", "--disk", "1GiB")
    pool[2].ok("vm", "start", "web1")
    home = pool.status()["h0"]["id"]
    # h1 took no part: its copy may be a moment behind. Its disk is on h0.
    until(lambda: (pool[1].runtime("web1")["state"], pool[1].runtime("web1")["host"]) == ("running", home), "web1 on h0")
    pool[1].ok("vm", "pause", "web1")
    pool[2].ok("vm", "resume", "web1")
    op = next(o for o in pool[2].get("/v1/operations") if o["kind"] == "vm.resume")
    assert op["host"] == home and op["user"] == "root"
    ran = pool[1].plim("vm", "start", "web1")
    assert ran.status == 6 and "h0: vm 'web1' is running" in ran.err, ran
    pool[1].ok("vm", "kill", "web1")
    pool[2].ok("vm", "delete", ident)
    assert pool[0].get("/v1/vms") == [] and pool[0].world() == []


def test_a_vm_starts_where_it_is_asked_to(pool):
    make_vm(pool[0], "roam")
    ids = {n: h["id"] for n, h in pool.status().items()}
    for name in ("h2", "h1"):
        pool[0].ok("vm", "start", "roam", "--host", name)
        assert pool[0].vm("roam")["runtime"]["host"] == ids[name]
        pool[0].ok("vm", "kill", "roam")
    make_vm(pool[0], "bound", "--disk", "1GiB")
    ran = pool[1].plim("vm", "start", "bound", "--host", "h1")
    assert ran.status == 5 and "h1 does not have the files of its disks" in ran.err, ran
    assert pool[1].plim("vm", "start", "bound", "--host", "h9").status == 4


def test_a_slow_operation_is_waited_for_and_cancelled_from_afar(pool):
    pool[0].order(delay_ms={"QEMU_SPAWN": 600000})
    make_vm(pool[0], "slow", "--disk", "1GiB")
    answer = pool[1].api("POST", "/v1/vms/slow/actions/start")
    assert answer.status == 202
    assert pool[2].api("POST", f"/v1/operations/{answer.body['id']}/actions/cancel").status == 202
    assert pool[1].wait_operation(answer.body["id"])["status"] == "cancelled"


def test_a_daemon_that_ends_waits_for_no_other_host(pool):
    pool[0].order(delay_ms={"QEMU_SPAWN": 600000})
    make_vm(pool[0], "slow", "--disk", "1GiB")
    answers = []
    client = threading.Thread(target=lambda: answers.append(pool[1].api("POST", "/v1/vms/slow/actions/start?wait=60")))
    client.start()
    until(lambda: pool[0].delayed() == "QEMU_SPAWN", "begin of the start")
    pool[1].stop()
    client.join()
    answer, = answers
    assert answer.status == 503 and "the daemon is stopping" in answer.body["message"] and answer.body["advice"], answer
    begun, = [o for o in pool[0].get("/v1/operations") if o["kind"] == "vm.start"]
    assert begun["status"] == "running", "who ended did not wait for it, and it goes on"
    pool[1].start()
    assert pool[2].api("POST", f"/v1/operations/{begun['id']}/actions/cancel").status == 202
    assert pool[1].wait_operation(begun["id"])["status"] == "cancelled"


# Leaving


def test_a_host_leaves_with_its_vms(pool):
    make_vm(pool[1], "mine", "--disk", "1GiB")
    make_vm(pool[0], "theirs", "--disk", "1GiB")
    pool[1].ok("vm", "start", "mine")
    pid = pool[1].process.pid
    before = pool.etcd.keys()
    assert "would leave the pool lab, with mine" in pool[1].ok("pool", "leave", "--dry-run")
    assert pool.etcd.keys() == before and pool[1].get("/v1")["pool"]
    out = pool[1].ok("pool", "leave")
    assert "with 1 vms" in out and pool[1].process.pid == pid
    assert [v["name"] for v in pool[1].get("/v1/vms")] == ["mine"]
    assert pool[1].vm("mine")["runtime"]["state"] == "running"
    assert [v["name"] for v in pool[0].get("/v1/vms")] == ["theirs"]
    assert sorted(pool.status()) == ["h0", "h2"]
    assert not (pool[1].state / "pool").exists()
    pool[1].restart()
    pool[1].ok("vm", "kill", "mine")
    pool.join(pool[1])
    assert sorted(v["name"] for v in pool[2].get("/v1/vms")) == ["mine", "theirs"]


def guards_of(host):
    """Process ids; of the fence whose file is gone, too."""
    return [entry.name for entry in pathlib.Path("/proc").glob("[0-9]*") if is_guard(entry) and host.has_open(entry)]


def is_guard(entry):
    try:
        return b"--guard" in (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def assert_own_and_unfenced(host, name, pid):
    assert host.get("/v1")["pool"] is None
    runtime = host.runtime(name)
    assert (runtime["state"], runtime["pid"]) == ("running", pid) and state_of(pid) in "RSD"
    assert not (host.run / "fence").exists()
    until(lambda: not guards_of(host), "end of the guard")


def test_no_fence_is_left_where_a_host_leaves(make_pool):
    """Its guard would stop the guests for good when the last lease is over."""
    p = make_pool(2, engine="qemu")
    make_vm(p[1], "mine")
    p[1].ok("vm", "start", "mine", "--host", "h1")
    pid = p[1].runtime("mine")["pid"]
    assert guards_of(p[1])
    p[1].ok("pool", "leave")
    assert_own_and_unfenced(p[1], "mine", pid)


def may(p, right):
    """What the pool may do with its records in etcd from now on."""
    p.etcd.ctl("role", "grant-permission", "plimsoll", "--prefix=true", right, "/pools/")


def step(host):
    return json.loads((host.state / "pool.json").read_text()).get("step")


@pytest.fixture
def leaving(make_pool, tmp_path):
    """(pool, process id): h1, where the guest `mine` runs, could not end its leave, and its daemon waits for that."""
    p = make_pool(2, joined=False, engine="qemu", lease="20")
    p.etcd.demand_logins()
    password = tmp_path / "password"
    password.write_text("plimsollpass\n")
    p.init(None, "--etcd-user", "plimsoll", "--etcd-password-file", password)
    p.join(p[1])
    make_vm(p[1], "mine")
    p[1].ok("vm", "start", "mine", "--host", "h1")
    pid = p[1].runtime("mine")["pid"]
    may(p, "read")
    # Refused before it has begun where this host's copy of the records is behind: asking how far they are is a write.
    until(lambda: p[1].plim("pool", "leave").status != 0 and step(p[1]) == "leave", "a leave that can't end")
    until(lambda: p[1].process.poll() is not None, "end of a daemon that can't end its leave")
    assert step(p[1]) == "leave" and "about to leave" in p[1].said()
    until(lambda: state_of(pid) == "T", "hold of the guest, as the lease is over")
    may(p, "readwrite")
    return p, pid


def test_a_leave_that_was_interrupted_is_ended(leaving):
    p, pid = leaving
    # It is in the pool still, where it may be changed.
    key = next(k for k in p.etcd.keys() if k.endswith("/config"))
    config = json.loads(p.etcd.get(key))
    config["settings"]["vcpus"] = 2
    p.etcd.put(key, json.dumps(config))
    p[1].start()
    assert_own_and_unfenced(p[1], "mine", pid)
    assert p[1].vm("mine")["settings"]["vcpus"] == 2
    assert sorted(p.status()) == ["h0"] and p[0].get("/v1/vms") == []


def test_what_the_pool_took_from_a_host_that_was_leaving_stays_there(leaving):
    p, pid = leaving
    p.wait_status("h1", "offline")
    p[0].ok("pool", "evict", "h1")
    p[0].ok("vm", "start", "mine")
    p[1].start()
    assert p[1].get("/v1")["pool"] is None and p[1].get("/v1/vms") == []
    until(lambda: has_ended(pid), "end of the guest that runs elsewhere now")
    assert p[0].runtime("mine")["state"] == "running"


@pytest.mark.parametrize("renamed", (False, True))
def test_a_host_that_is_out_of_the_pool_needs_it_no_more(make_pool, renamed):
    """As a daemon leaves it that was killed behind the step `left`, before or after its own store was `renamed`."""
    p = make_pool(2)
    ident, file = make_vm(p[1], "mine", "--disk", "1GiB"), p[1].state / "pool.json"
    before = json.loads(file.read_text())
    p[1].ok("pool", "leave")
    p[1].stop()
    if not renamed:
        (p[1].state / "state.db").rename(p[1].state / "state.new.db")
    file.write_text(json.dumps({**before, "step": "left"}))
    p.etcd.signal(signal.SIGSTOP)
    try:
        p[1].start()
        assert p[1].get("/v1")["pool"] is None and p[1].vm("mine")["id"] == ident
        assert not file.exists() and not (p[1].state / "state.new.db").exists()
    finally:
        p.etcd.signal(signal.SIGCONT)


def test_a_host_that_was_away_comes_back(make_pool):
    pool = make_pool(2, lease="12")  # which is waited for
    make_vm(pool[1], "mine", "--disk", "1GiB")
    pool[1].ok("vm", "start", "mine")
    pool[1].kill9()
    pool.wait_status("h1", "offline")
    assert pool[0].wait_event("host.lost", "h1")
    ran = pool[0].plim("vm", "kill", "mine")
    assert ran.status == 18 and "h1" in ran.err, ran
    pool[1].start()
    pool.wait_status("h1", "online")
    assert pool[0].wait_event("host.back", "h1")
    pool[0].ok("vm", "kill", "mine")


def test_a_dead_host_is_evicted_and_its_vms_are_free(pool):
    make_vm(pool[1], "roam")
    make_vm(pool[1], "bound", "--disk", "1GiB")
    for name in ("roam", "bound"):
        pool[1].ok("vm", "start", name, "--host", "h1")
    for more in ((), ("--dry-run",)):
        ran = pool[0].plim("pool", "evict", "h1", *more)
        assert ran.status == 6 and "is alive" in ran.err
    pool[1].kill9()
    pool.lose(pool[1], pool[0])
    out = pool[0].ok("pool", "evict", "h1", "--dry-run")
    assert "h1 would be taken out" in out and "vm roam is running there" in out and "vm bound is running there" in out
    assert "h1" in pool.status() and pool[0].vm("roam")["runtime"]["state"] == "running"
    assert not pool[0].events("vm.lost")
    out = pool[0].ok("pool", "evict", "h1")
    assert "vm roam was running there" in out and "vm bound was running there" in out
    assert sorted(pool.status()) == ["h0", "h2"]
    for name in ("roam", "bound"):
        runtime = pool[0].vm(name)["runtime"]
        assert runtime["state"] == "stopped" and "h1 was taken out of the pool" in runtime["reason"]
    pool[0].ok("vm", "start", "roam")
    ran = pool[0].plim("vm", "start", "bound")
    assert ran.status == 5 and "files of its disks" in ran.err
    # It comes back and finds that it is no member any more.
    pool[1].start()
    assert pool[1].get("/v1")["pool"] is None and pool[1].get("/v1/vms") == []
    assert pool[1].wait_event("host.evicted")
    pool.join(pool[1])
    pool[0].ok("vm", "start", "bound")
    assert pool[0].plim("pool", "evict", "h0").status == 2
    assert pool[0].plim("pool", "evict", "h9").status == 4


def test_what_one_host_has_just_made_is_found_on_every_other(pool):
    """Each host reads from a copy of its own, which is some ms behind what another one has just answered for."""
    for i in range(40):
        made, asked = pool[i % 3], pool[(i + 1) % 3]
        making = made.api("POST", "/v1/volumes", {"name": f"v{i}", "size": 1 << 20}).body["id"]
        assert asked.api("GET", f"/v1/operations/{making}").status == 200
        # The first one's name begins with that of the second one, which is the one that is meant.
        for name in (f"gate{i}-old", f"gate{i}"):
            body = {"name": name, "settings": {"boot.kernel": str(PAYLOAD)}, "nics": []}
            ident = made.api("POST", "/v1/vms?wait=60", body).body["target"]["id"]
        begun = asked.api("POST", f"/v1/vms/{ident if i % 2 else f'gate{i}'}/actions/start")
        assert begun.status == 202 and begun.body["target"]["id"] == ident, begun
    # What is nowhere is still nowhere.
    assert pool[0].api("GET", "/v1/vms/gate40").status == 404


def test_records_that_cannot_be_read_keep_no_dead_host_in_the_pool(pool):
    idents = {name: make_vm(pool[1], name) for name in ("fine", "garbled", "unreadable")}
    for name in idents:
        pool[1].ok("vm", "start", name, "--host", "h1")
    pool[1].order(delay_ms={"VOLUME_CREATE": 600000})
    making = pool[1].api("POST", "/v1/volumes", {"name": "half", "size": 1 << 20}).body["id"]
    until(lambda: pool[0].get(f"/v1/operations/{making}")["status"] == "running", "begin of the volume")
    assert [v["name"] for v in pool[0].get("/v1/volumes")] == ["half"]
    pool[1].kill9()
    pool.lose(pool[1], pool[0])
    for name, record, value in (("garbled", "config", "[1]"), ("unreadable", "runtime", "{")):
        pool.etcd.put(next(k for k in pool.etcd.keys() if k.endswith(f"/vms/{idents[name]}/{record}")), value)
    until(lambda: [vm["name"] for vm in pool[0].get("/v1/vms")] == ["fine"], "list of what can be read")
    out = pool[0].ok("pool", "evict", "h1")
    assert "vm fine was running there" in out and idents["garbled"] in out
    assert sorted(pool.status()) == ["h0", "h2"]
    assert pool[0].runtime("fine")["host"] is None and pool[0].runtime("fine")["state"] == "stopped"
    # As if it had failed by itself: nothing is left half made, and nothing is busy.
    ended = pool[0].get(f"/v1/operations/{making}")
    assert ended["status"] == "failed" and "h1 was taken out" in ended["error"]["message"], ended
    assert pool[0].get("/v1/volumes") == []
    pool[0].ok("volume", "create", "half", "--size", "1MiB")


def test_what_an_evicted_host_was_about_to_start_can_be_started(pool):
    make_vm(pool[0], "roam")
    pool[1].order(delay_ms={"QEMU_SPAWN": 600000})
    answer = pool[0].api("POST", "/v1/vms/roam/actions/start?host=h1")
    assert answer.status == 202
    pool[1].kill9()
    pool.lose(pool[1], pool[0])
    assert pool[0].vm("roam")["runtime"]["operation"] == answer.body["id"]
    pool[0].ok("pool", "evict", "h1", "--dry-run")
    assert pool[0].vm("roam")["runtime"]["operation"] == answer.body["id"], "a dry run changes nothing"
    pool[0].ok("pool", "evict", "h1")
    assert pool[0].vm("roam")["runtime"]["operation"] is None
    pool[0].ok("vm", "start", "roam", "--host", "h2")


def test_without_its_store_a_pool_begins_nothing_and_recovers(make_pool):
    p = make_pool(2, lease="12")
    make_vm(p[0], "web1", "--disk", "1GiB")
    p.etcd.signal(signal.SIGSTOP)
    try:
        ran = p[0].plim("vm", "start", "web1")
        assert ran.status in (8, 10, 18) and ran.err, ran
    finally:
        p.etcd.signal(signal.SIGCONT)
    until(lambda: p[0].plim("vm", "start", "web1").status == 0, "start after etcd is back")
    p.wait_status("h1", "online")


# Fencing, with real guests


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]


def wait_fenced(host, words):
    """On a busy machine the lease may have been late before that too."""
    until(lambda: any(words in e["message"] for e in host.wait_event("host.fenced", host.name)), f"event: {words}")


def test_guests_are_held_while_the_lease_is_lost(make_pool):
    p = make_pool(1, engine="qemu", lease="12")
    make_vm(p[0], "web1")
    p[0].ok("vm", "start", "web1")
    pid = p[0].runtime("web1")["pid"]
    p.etcd.signal(signal.SIGSTOP)
    until(lambda: state_of(pid) == "T", "hold of the guest")
    p.etcd.signal(signal.SIGCONT)
    until(lambda: state_of(pid) != "T", "release of the guest")
    wait_fenced(p[0], "1 of them go on")
    assert p[0].runtime("web1")["state"] == "running"


def test_guests_are_held_when_the_daemon_is_dead_too(make_pool):
    p = make_pool(1, engine="qemu", lease="12")
    make_vm(p[0], "web1")
    p[0].ok("vm", "start", "web1")
    pid = p[0].runtime("web1")["pid"]
    p[0].kill9()
    until(lambda: state_of(pid) == "T", "hold of the guest")
    p[0].start()
    until(lambda: state_of(pid) != "T", "release of the guest")
    assert p[0].runtime("web1")["state"] == "running" and p[0].wait_event("vm.adopted", "web1")


def has_ended(pid):
    try:
        return state_of(pid) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def give_away(p, ident):
    """The record of the vm names no host any more, as an eviction leaves it."""
    key = next(k for k in p.etcd.keys() if k.endswith(f"/vms/{ident}/runtime"))
    p.etcd.put(key, json.dumps(dict(json.loads(p.etcd.get(key)), host=None)))


def test_a_lease_that_went_before_its_time_ends_what_was_given_away(make_pool):
    """As after a host was frozen together with its clocks: it believes that its lease holds."""
    p = make_pool(1, engine="qemu", lease="20")
    idents = {name: make_vm(p[0], name) for name in ("ours", "theirs")}
    for name in idents:
        p[0].ok("vm", "start", name)
    pids = {name: p[0].runtime(name)["pid"] for name in idents}
    give_away(p, idents["theirs"])
    p.etcd.revoke(next(k for k in p.etcd.keys() if "/leases/hosts/" in k))
    until(lambda: has_ended(pids["theirs"]), "end of the guest that was given away")
    wait_fenced(p[0], "1 of them go on; 1 were ended")
    until(lambda: state_of(pids["ours"]) in "RSD", "release of the other guest")
    assert p[0].runtime("ours")["state"] == "running"


def test_what_was_given_away_while_the_daemon_was_dead_is_not_taken_up(make_pool):
    p = make_pool(1, engine="qemu", lease="60")
    ident = make_vm(p[0], "web1")
    p[0].ok("vm", "start", "web1")
    pid = p[0].runtime("web1")["pid"]
    p[0].kill9()
    give_away(p, ident)
    (p[0].run / "fence").unlink()  # as if it had never come in there
    p[0].start()
    assert "not its host any more" in p[0].wait_event("vm.lost", "web1")[0]["message"]
    until(lambda: has_ended(pid), "end of the guest that was given away")
    assert p[0].runtime("web1")["host"] is None, "nobody wrote into the record"


def test_a_qemu_that_nobody_noted_is_taken_up(make_daemon):
    """Its daemon died between its start and the note of it: here the note is taken away."""
    host = make_daemon("qemu")
    ident = make_vm(host, "web1")
    host.ok("vm", "start", "web1")
    pid = host.runtime("web1")["pid"]
    host.kill9()
    with contextlib.closing(sqlite3.connect(host.state / "host.db")) as db, db:
        assert db.execute("delete from item where key = ?", (f"run/vms/{ident}",)).rowcount == 1
    host.start()
    assert host.wait_event("vm.adopted") and not host.events("vm.lost")
    host.ok("vm", "pause", "web1")
    assert host.runtime("web1")["pid"] == pid and not has_ended(pid)
    host.ok("vm", "kill", "web1")
    until(lambda: has_ended(pid), "end of the guest")


# With an etcd of its own


def voters(pool, host=None):
    try:
        return sorted(n for n, h in pool.status(host).items() if h["etcd"] == "voter")
    except OSError:  # its daemon begins anew, as the members' addresses changed
        return []


def test_a_pool_runs_its_own_etcd(make_pool):
    p = make_pool(3, own_etcd=True, lease="15")
    make_vm(p[0], "web1")
    until(lambda: voters(p) == ["h0", "h1", "h2"], "three voters", 300)
    # Any one of them may die.
    until(lambda: all(host.address.split(":")[0] in json.loads((h.state / "pool.json").read_text())["store"]
                      for host in p.hosts for h in p.hosts), "addresses of all members on all hosts")
    p[0].kill9()
    for pid in p[0].processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: p[1].plim("vm", "set", "web1", "vcpus=3").status == 0, "change without h0")
    p.wait_status("h0", "offline", p[1])
    ran = p[2].plim("pool", "leave")
    assert ran.status == 6 and "away: h0" in ran.err, ran
    p[1].ok("pool", "evict", "h0")
    assert p[2].vm("web1")["settings"]["vcpus"] == 3
    kept = until(lambda: (lambda now: now if now in (["h1"], ["h2"]) else None)(voters(p, p[1])), "one voter of two hosts", 300)
    keeps, other = (p[1], p[2]) if kept == ["h1"] else (p[2], p[1])
    # Its etcd may be choosing a leader, and either daemon be about to begin anew, as the members' addresses changed.
    for more in (("--dry-run",), ()):
        ran = until(lambda more=more: (ran := keeps.plim("pool", "leave", *more)).status != 18 and ran, "answer of its etcd")
        assert ran.status == 6 and "alone keeps" in ran.err, ran
    for host in (other, keeps):
        until(lambda host=host: host.plim("pool", "leave").status == 0 or host.get("/v1")["pool"] is None,
              f"leave of {host.name}")


def test_the_last_host_leaves_and_is_what_it_was(make_pool):
    p = make_pool(1, own_etcd=True)
    make_vm(p[0], "web1", "--disk", "1GiB")
    p[0].ok("vm", "start", "web1")
    p[0].restart()
    assert p[0].get("/v1/pool")["hosts"][0]["etcd"] == "voter"
    p[0].ok("pool", "leave")
    assert p[0].vm("web1")["runtime"]["state"] == "running"
    assert not (p[0].state / "etcd").exists() and p[0].processes() == []
    p.init()
    assert p[0].vm("web1")["runtime"]["state"] == "running"


# What if


def test_what_if_says_what_would_change_and_changes_nothing(make_pool):
    p = make_pool(2)
    make_vm(p[0], "web1")
    p[0].ok("vm", "start", "web1", "--host", "h0")
    level = p[0].get("/v1/level")
    leaves = {"kind": "leave", "host": "h0"}

    def moved():
        answer = p[1].api("POST", "/v1/pool/actions/what-if", leaves).body
        return [(v["name"], v["host"], v["must_move"]) for v in answer["vms"]]
    until(lambda: moved() == [("web1", "h0", True)], "what moves, as h1 sees it")
    out = p[1].ok("pool", "what-if", "leave", "h0")
    assert "vm web1 must move away first" in out
    out = p[0].ok("pool", "what-if", "disable", "sse2")
    assert "tcg guests lose: " in out and "sse2" in out
    record = json.loads(p[1].ok("host", "cpu", "h1", "--export"))
    record["host"] = "h9"
    file = p[0].base / "record.json"
    file.write_text(json.dumps(record))
    assert p[0].ok("pool", "what-if", "join", file).strip()
    assert p[0].plim("pool", "what-if", "upgrade", file).status == 4
    record["version"] = 99
    file.write_text(json.dumps(record))
    ran = p[0].plim("pool", "what-if", "join", file)
    assert ran.status == 7 and "version 99" in ran.err, ran
    for words in (["leave", "h7"], ["disable", "nonsense"], ["guess", "x"], ["join", "/nowhere"]):
        assert p[0].plim("pool", "what-if", *words).status in (2, 4), words
    assert p[0].get("/v1/level") == level


def test_what_if_asks_a_host_that_is_in_no_pool(make_pool, tmp_path):
    ours, strange = Authority(tmp_path / "ca"), Authority(tmp_path / "strange")
    cert, key = ours.sign("server", "serverAuth", "127.0.0.1")
    p = make_pool(1)
    make_vm(p[0], "web1")
    p[0].ok("vm", "start", "web1")
    port = free_port()
    p.args += ("--tls-listen", f"127.0.0.1:{port}", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ours.ca)
    other = p.add("h9")
    url = f"https://127.0.0.1:{port}"
    mine, mine_key = ours.sign("admin")
    theirs, theirs_key = strange.sign("admin")
    until(lambda: other.plim("host", "cpu", "--export").status == 0, "CPU record of the new host")

    def ask(kind, *more):
        return p[0].plim("pool", "what-if", kind, url, "-o", "json", *more)
    trusted = ("--tls-ca", ours.ca, "--tls-cert", mine, "--tls-key", mine_key)
    file = tmp_path / "record.json"
    file.write_text(other.ok("host", "cpu", "--export"))
    asked = ask("join", *trusted)
    assert asked.status == 0, asked
    assert json.loads(asked.out) == json.loads(p[0].ok("pool", "what-if", "join", file, "-o", "json"))
    assert [v["gained"] for v in json.loads(asked.out)["vms"]] == [["h9"]]
    # What it takes is said.
    for more, status, words in (((), 3, "--tls-ca"), (("--tls-ca", ours.ca), 3, "--tls-cert"),
                                (("--tls-ca", strange.ca, *trusted[2:]), 3, "--tls-ca"),
                                (("--tls-ca", ours.ca, "--tls-cert", theirs, "--tls-key", theirs_key), 3, "--export"),
                                (("--tls-ca", "/nowhere.pem"), 2, "/nowhere.pem"),
                                (("--tls-ca", ours.ca, "--tls-cert", mine, "--tls-key", theirs_key), 2, "--tls-key")):
        ran = ask("join", *more)
        assert ran.status == status and words in ran.err, (more, ran)
    ran = ask("upgrade", *trusted)
    assert ran.status == 4 and "h9" in ran.err, ran
    ran = p[0].plim("pool", "what-if", "join", f"https://127.0.0.1:{free_port()}")
    assert ran.status == 18 and "nobody answers" in ran.err, ran
    for bad in ("http://127.0.0.1:1", "https://127.0.0.1", "https://"):
        assert p[0].plim("pool", "what-if", "join", bad).status == 2, bad
    both = {"kind": "join", "url": url, "record": json.loads(file.read_text())}
    assert p[0].api("POST", "/v1/pool/actions/what-if", both).status == 400
    assert p[0].plim("pool", "what-if", "join", file, *trusted).status == 2


def test_status_shows_the_level_and_what_each_host_costs(make_pool):
    p = make_pool(2)

    def known():
        pool = p[0].get("/v1/pool")
        return pool if pool["level"] and pool["level"]["tcg"] and all("tcg" in h["sole"] for h in pool["hosts"]) else None
    pool = until(known, "level of the pool")
    assert pool["level"]["tcg"]["set"].startswith("v1-")
    out = p[1].ok("pool", "status")
    assert "tcg guests: level v1-" in out and "COSTS" in out and out.count("online") == 2


# Who may do what on the pool's address


def peer_answer(asked, as_host=None, path="/v1/vms", headers=None, method="GET"):
    context = ssl.create_default_context(cafile=asked.state / "pool/ca.pem")
    if as_host:
        context.load_cert_chain(as_host.state / "pool/host.pem", as_host.state / "pool/host.key")
    address, port = asked.address.rsplit(":", 1)
    connection = http.client.HTTPSConnection(address, int(port), context=context, timeout=180)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer, json.loads(answer.read())
    finally:
        connection.close()


def ask_peer(*args, **more):
    answer, body = peer_answer(*args, **more)
    return answer.status, body


def test_only_members_are_served_on_the_pools_address(make_pool):
    p = make_pool(2)
    make_vm(p[0], "web1")
    assert ask_peer(p[0])[0] == 403 and ask_peer(p[0], path="/v1/pool/ca")[0] == 200
    assert ask_peer(p[0], headers={"Plimsoll-Role": "admin", "Plimsoll-User": "root"})[0] == 403
    status, vms = ask_peer(p[0], p[1])
    assert status == 200 and [v["name"] for v in vms] == ["web1"]
    start = "/v1/vms/web1/actions/start"
    for role, status in (("viewer", 403), ("nonsense", 403), ("operator", 202)):
        assert ask_peer(p[0], p[1], start, {"Plimsoll-Role": role, "Plimsoll-User": "anna"}, "POST")[0] == status, role
    assert next(o for o in p[0].get("/v1/operations") if o["kind"] == "vm.start")["user"] == "anna"
    console = "/v1/vms/web1/console"
    assert ask_peer(p[0], path=console)[0] == 403
    for role, status in (("viewer", 403), ("operator", 422)):
        assert ask_peer(p[0], p[1], console, {"Plimsoll-Role": role, "Plimsoll-User": "anna"})[0] == status, role
    # One that left has its certificate still, and is nobody.
    for name in ("host.pem", "host.key"):
        shutil.copy(p[1].state / "pool" / name, p[1].base / name)
    p[1].ok("pool", "leave")
    (p[1].state / "pool").mkdir()
    for name in ("host.pem", "host.key"):
        shutil.copy(p[1].base / name, p[1].state / "pool" / name)
    status, error = ask_peer(p[0], p[1])
    assert status == 403 and "not a member" in error["message"]


def test_a_host_answers_from_records_as_new_as_those_of_the_host_that_asks(pool):
    """Which says how far its copy of them is."""
    make_vm(pool[0], "g")
    key = next(k for k in pool.etcd.keys() if k.endswith("/runtime"))
    runtime = json.loads(pool.etcd.get(key))
    for i in range(20):
        words = (key, json.dumps({**runtime, "reason": f"put {i}"}))
        if i % 4 == 0:  # no copy looks there: none comes to this revision by itself
            words = ("/else", "x")
        put = json.loads(pool.etcd.ctl("put", *words, "-w", "json").stdout)["header"]["revision"]
        answer, vm = peer_answer(pool[1], pool[0], "/v1/vms/g", {"Plimsoll-Revision": str(put)})
        assert answer.status == 200 and int(answer.headers["Plimsoll-Revision"]) >= put
        assert i % 4 == 0 or vm["runtime"]["reason"] == f"put {i}"
    # What no host can have seen is not waited for; a user of this host has no copy, and is told of none.
    assert peer_answer(pool[1], pool[0], headers={"Plimsoll-Revision": str(1 << 62)})[0].status == 200
    for nonsense in ("-1", "soon", ""):
        assert peer_answer(pool[1], pool[0], headers={"Plimsoll-Revision": nonsense})[0].status == 200
    assert "plimsoll-revision" not in pool[1].api("GET", "/v1/vms/g").headers
