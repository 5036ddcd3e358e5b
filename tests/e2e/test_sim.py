# SPDX-License-Identifier: Apache-2.0
"""The daemon and plim on the simulated engine: records, plans, operations, events, crashes."""
import csv
import http.server
import io
import json
import os
import pathlib
import shutil
import socketserver
import subprocess
import threading
import unicodedata

import pytest
import yaml

from daemon import PAYLOAD, PLIM, Daemon, UnixConnection, until

KERNEL = ("--kernel", PAYLOAD, "--nic", "none")
GIB = 1 << 30


def make_vm(d, name, *more):
    d.ok("vm", "create", name, *KERNEL, *more)
    return d.vm(name)["id"]


def plan_text(operation):
    return "".join(f"{step['step']} {step['target']}\n" for step in operation["plan"])


def last_operation(d, kind):
    return next(o for o in d.get("/v1/operations") if o["kind"] == kind)


# Records


def test_a_vm_is_made_read_changed_and_deleted(sim):
    ident = make_vm(sim, "web1", "--memory", "1GiB", "--vcpus", "2", "--disk", "10GiB", "--description", "front")
    vm = sim.vm("web1")
    assert vm["settings"]["memory.start"] == GIB and vm["settings"]["vcpus"] == 2
    assert vm["description"] == "front" and vm["runtime"]["state"] == "stopped"
    assert [v["size"] for v in sim.get("/v1/volumes")] == [10 * GIB]
    assert sim.vm(ident) == vm == sim.vm(ident[:8])

    sim.ok("vm", "set", "web1", "vcpus=3", "property.os_distro=debian")
    assert sim.vm("web1")["settings"]["vcpus"] == 3 and sim.vm("web1")["properties"]["os_distro"] == "debian"
    sim.ok("vm", "unset", "web1", "vcpus")
    assert "vcpus" not in sim.vm("web1")["settings"]

    sim.ok("vm", "rename", "web1", "web2")
    assert sim.api("GET", "/v1/vms/web1").status == 404
    assert sim.vm("web2")["id"] == ident
    sim.ok("vm", "delete", "web2")
    assert sim.get("/v1/vms") == [] and sim.get("/v1/volumes") == [] and sim.world() == []
    make_vm(sim, "web2")


def test_a_volume_is_made_used_and_deleted(sim):
    sim.ok("volume", "create", "data", "--size", "2GiB")
    assert sim.get("/v1/volumes/data")["size"] == 2 * GIB
    make_vm(sim, "db", "--disk", "volume=data")
    assert sim.plim("volume", "delete", "data").status == 5
    assert sim.get("/v1/volumes/data")["vm"] == sim.vm("db")["id"]
    sim.ok("vm", "delete", "--keep-disks", "db")
    assert sim.get("/v1/volumes/data")["vm"] is None
    sim.ok("volume", "delete", "data")
    assert sim.get("/v1/volumes") == [] and sim.world() == []


@pytest.mark.parametrize("verb,before", [("start", []), ("stop", ["start"]), ("kill", ["start"]), ("delete", [])])
def test_a_dry_run_changes_nothing_and_is_what_the_request_then_runs(sim, verb, before):
    make_vm(sim, "a", "--disk", "1GiB")
    for earlier in before:
        sim.ok("vm", earlier, "a")
    then = sim.vm("a"), sim.world(), len(sim.get("/v1/operations")), len(sim.events())
    promised = sim.ok("vm", verb, "--dry-run", "a")
    assert (sim.vm("a"), sim.world(), len(sim.get("/v1/operations")), len(sim.events())) == then
    sim.ok("vm", verb, "a")
    assert plan_text(last_operation(sim, f"vm.{verb}")) == promised != ""


def test_a_change_of_an_older_revision_is_refused_and_changes_nothing(sim):
    make_vm(sim, "a")
    etag = sim.api("GET", "/v1/vms/a").headers["etag"]
    changed = sim.api("PATCH", "/v1/vms/a", {"description": "first"}, {"If-Match": etag})
    assert changed.status == 200
    late = sim.api("PATCH", "/v1/vms/a", {"description": "second"}, {"If-Match": etag})
    assert late.status == 412 and late.body["code"] == "precondition"
    assert sim.vm("a")["description"] == "first"
    assert sim.api("GET", "/v1/vms/a").headers["etag"] != etag
    assert sim.api("DELETE", "/v1/vms/a", None, {"If-Match": etag}).status == 412
    assert sim.vm("a")["name"] == "a"


WRONG = {
    "unknown key": {"name": "x", "colour": "red"},
    "unknown setting": {"name": "x", "settings": {"vcpu": 2}},
    "name that is no text": {"name": 5},
    "no name": {"description": "nameless"},
    "empty name": {"name": ""},
    "name with a slash": {"name": "a/b"},
    "name that climbs": {"name": "../x"},
    "long name": {"name": "x" * 64},
    "name of another vm": {"name": "taken"},
    "settings that are a list": {"name": "x", "settings": []},
    "vcpus that are text": {"name": "x", "settings": {"vcpus": "many"}},
    "no vcpus": {"name": "x", "settings": {"vcpus": 0}},
    "too many vcpus": {"name": "x", "settings": {"vcpus": 100000}},
    "too little memory": {"name": "x", "settings": {"memory.start": 1}},
    "too much memory": {"name": "x", "settings": {"memory.start": 1 << 60}},
    "negative memory": {"name": "x", "settings": {"memory.start": -GIB}},
    "unknown accelerator": {"name": "x", "settings": {"accel": "magic"}},
    "disk without size": {"name": "x", "disks": [{"size": 0}]},
    "disk of an enormous size": {"name": "x", "disks": [{"size": 1 << 62}]},
    "disk of negative size": {"name": "x", "disks": [{"size": -1}]},
    "disk of a volume that is not there": {"name": "x", "disks": [{"volume": "nowhere"}]},
    "disk with an unknown key": {"name": "x", "disks": [{"size": GIB, "speed": "fast"}]},
    "nic of an unknown network": {"name": "x", "nics": [{"network": "moon"}]},
    "nic with a wrong mac": {"name": "x", "nics": [{"network": "user", "mac": "zz"}]},
    "image that is not there": {"name": "x", "image": "nowhere"},
    "cloud_init with an unknown key": {"name": "x", "cloud_init": {"shoes": 2}},
}


@pytest.fixture(scope="module")
def patient():
    """One daemon for all bad requests: none may leave anything behind."""
    d = Daemon("sim")
    try:
        d.start()
        make_vm(d, "taken")
        yield d
    finally:
        d.close()


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_bad_vm_is_refused_with_advice_and_leaves_nothing(patient, body):
    body = {"settings": {}, "nics": [], **body}
    if isinstance(body["settings"], dict):
        body["settings"] = {"boot.kernel": str(PAYLOAD), **body["settings"]}
    then = patient.get("/v1/vms"), patient.get("/v1/volumes"), patient.world(), len(patient.get("/v1/operations"))
    answer = patient.api("POST", "/v1/vms", body)
    assert 400 <= answer.status < 500, answer
    assert answer.body["message"] and answer.body["advice"], answer
    assert (patient.get("/v1/vms"), patient.get("/v1/volumes"), patient.world(), len(patient.get("/v1/operations"))) == then


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"name": "x"', b"\xff\xfe", b'{"name": "\\u0000"}', b"[" * 5000])
def test_a_body_that_is_no_object_is_refused(patient, raw):
    answer = patient.api("POST", "/v1/vms", raw)
    assert answer.status == 400 and answer.body["code"] == "invalid", answer
    assert [v["name"] for v in patient.get("/v1/vms")] == ["taken"]


@pytest.mark.parametrize("size", [0, -1, 1 << 62, "big", None, 1.5])
def test_a_volume_of_a_wrong_size_is_refused(patient, size):
    answer = patient.api("POST", "/v1/volumes", {"name": "v", "size": size})
    assert 400 <= answer.status < 500 and answer.body["advice"], answer
    assert patient.get("/v1/volumes") == [] and not any(r.startswith("volume:") for r in patient.world())


def test_what_is_not_there_is_not_found(patient):
    for path in ("/v1/vms/no", "/v1/images/no", "/v1/volumes/no", "/v1/hosts/no", "/v1/operations/no", "/v1/nothing", "/nothing"):
        answer = patient.api("GET", path)
        assert answer.status == 404 and answer.body["code"] == "not-found", (path, answer)


# plim


def test_exit_statuses_name_the_kind_of_error(patient):
    assert patient.plim("vm", "show", "no").status == 4
    assert patient.plim("vm", "create", "taken", *KERNEL).status == 5
    assert patient.plim("vm", "resume", "taken").status == 6
    assert patient.plim("vm", "fly", "taken").status == 2
    assert patient.plim("vm", "show", "--colour").status == 2
    assert patient.plim("--version").status == 0 or patient.plim("version").status == 0
    alone = patient.plim("vm", "list", "--socket", patient.run / "nobody.sock")
    assert alone.status == 18
    assert ("systemctl start plimsolld" in alone.err) == pathlib.Path("/run/systemd/system").is_dir()
    assert "plimsolld" in alone.err and "--socket" in alone.err


def test_every_output_format_holds_the_same_objects(sim):
    make_vm(sim, "a", "--disk", "1GiB", "--description", 'quotes ", commas\nand: lines # \'yes\'')
    make_vm(sim, "no", "--description", "null")
    sim.ok("volume", "create", "data", "--size", "1GiB")
    for noun in ("vm", "volume", "host", "operation", "event", "image"):
        objects = json.loads(sim.ok(noun, "list", "-o", "json"))
        assert yaml.safe_load(sim.ok(noun, "list", "-o", "yaml")) == objects
        rows = list(csv.reader(io.StringIO(sim.ok(noun, "list", "-o", "csv"))))
        assert len(rows) == len(objects) + 1 and len({len(r) for r in rows}) == 1
        if noun in ("vm", "volume", "host"):
            assert sorted(sim.ok(noun, "list", "-o", "name").split()) == sorted(o["name"] for o in objects)
        assert len(sim.ok(noun, "list", "--no-headers").splitlines()) >= len(objects)
    shown = json.loads(sim.ok("vm", "show", "a", "-o", "json"))
    assert shown == yaml.safe_load(sim.ok("vm", "show", "a", "-o", "yaml")) == sim.vm("a") | {"memory": None}
    assert "a" in sim.ok("vm", "show", "a")
    assert sim.plim("vm", "list", "-o", "xml").status == 2


class Parrot(http.server.BaseHTTPRequestHandler):
    """A daemon that passes on whatever a guest says, in every place."""
    words = "a\x9b2Jb\x7fc\x85d\x1b]0;e\u00e9\u20ac"

    def do_GET(self):
        one = {key: self.words for key in ("id", "name", "description", "state", "host", self.words)}
        body = json.dumps([one] if self.path.split("?")[0] == "/v1/vms" else one, ensure_ascii=False).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass


def test_no_output_format_sends_control_characters_to_a_terminal(tmp_path):
    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
    with Server(str(tmp_path / "sock"), Parrot) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for output in ("json", "yaml", "csv", "table"):
            done = subprocess.run([PLIM, "vm", "list", "-o", output, "--socket", tmp_path / "sock"], capture_output=True,
                                  check=False, timeout=180)
            assert done.returncode == 0, done.stderr
            text = done.stdout.decode()
            raw = [hex(ord(c)) for c in text if c not in "\r\n" and unicodedata.category(c) == "Cc"]
            assert "\u20ac" in text and not raw, (output, raw)
            if output in ("json", "yaml"):
                assert yaml.safe_load(text)[0][Parrot.words] == Parrot.words
        server.shutdown()


def test_completion_is_a_script_that_the_shell_takes(patient):
    script = patient.ok("completion", "bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "plim" in script and "complete" in script


ZSH = """
fpath=($1 $fpath)
compadd() { print -l -- "${(@P)2}" }
compdef() { print compdef "$@" }
words=(plim vm ''); CURRENT=3
autoload -Uz _plim
_plim
print again
words=(plim vm disk ''); CURRENT=4
_plim
print sourced
source $1/_plim
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_completion_of_zsh_offers_words_at_its_first_use(patient, tmp_path):
    (tmp_path / "_plim").write_text(patient.ok("completion", "zsh"))
    env = dict(os.environ, PATH=f"{PLIM.parent}:{os.environ['PATH']}", PLIMSOLL_SOCKET=str(patient.socket))
    done = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", str(tmp_path)], env=env, capture_output=True, text=True, check=True)
    first, _, rest = done.stdout.partition("again\n")
    assert {"start", "disk", "list"} <= set(first.split()) and "compdef" not in first
    assert rest == "list\nadd\ngrow\nremove\nsourced\ncompdef _plim plim\n"


@pytest.mark.parametrize("page", ["", "vm", "image", "volume", "host", "operation", "event"])
def test_man_pages_render_without_warnings(page):
    roff = subprocess.run([PLIM, "manual", *page.split()], capture_output=True, check=True).stdout
    done = subprocess.run(["groff", "-man", "-z", "-ww", "-Tutf8"], input=roff, capture_output=True, check=True)
    assert roff and done.stderr == b""


# Operations


def test_a_failing_step_is_undone_and_the_error_reaches_the_terminal(sim):
    make_vm(sim, "a")
    then = sim.world()
    for when in ("fail", "fail_after"):
        sim.order(**{when: {"QEMU_SPAWN": "the moon is in the wrong phase"}})
        ran = sim.plim("vm", "start", "a")
        assert ran.status == 9 and "the moon is in the wrong phase" in ran.err
        assert sim.world() == then and sim.runtime("a")["operation"] is None
        assert sim.runtime("a")["state"] in ("stopped", "crashed")
    assert last_operation(sim, "vm.start")["status"] == "failed"
    sim.order()
    sim.ok("vm", "start", "a")
    assert sim.runtime("a")["state"] == "running"


def test_a_creation_that_fails_leaves_no_vm_and_no_volume(sim):
    sim.order(fail={"VOLUME_CREATE": "no space on the simulated device"})
    ran = sim.plim("vm", "create", "a", *KERNEL, "--disk", "1GiB")
    assert ran.status == 9 and "no space" in ran.err
    assert sim.get("/v1/vms") == [] and sim.get("/v1/volumes") == [] and sim.world() == []
    sim.order()
    make_vm(sim, "a", "--disk", "1GiB")


def test_an_operation_tells_its_stage_and_can_be_cancelled(sim):
    make_vm(sim, "a")
    then = sim.world()
    sim.order(delay_ms={"QEMU_SPAWN": 600000})
    ident = sim.api("POST", "/v1/vms/a/actions/start").body["id"]
    running = until(lambda: next((o for o in [sim.get(f"/v1/operations/{ident}")] if o["stage"] == "starting QEMU"), None),
                    "stage of the start")
    assert running["status"] == "running" and running["may_cancel"] and 0 <= running["progress"] < 100
    assert sim.runtime("a")["operation"] == ident
    busy = sim.api("POST", "/v1/vms/a/actions/start")
    assert busy.status in (409, 423, 503) and busy.body["code"] in ("busy", "conflict") and busy.body["advice"], busy
    assert sim.api("POST", f"/v1/operations/{ident}/actions/cancel").status == 202
    assert sim.wait_operation(ident)["status"] == "cancelled"
    assert sim.world() == then and sim.wait_idle("a")["state"] == "stopped"
    assert sim.api("POST", f"/v1/operations/{ident}/actions/cancel").status == 409


# Events


class Stream:
    """A text/event-stream that is read as it comes."""

    cursor = -1

    def __init__(self, d, query="", headers=None):
        self.connection = UnixConnection(d.socket, 180)
        self.connection.request("GET", f"/v1/events{query}", headers={"Accept": "text/event-stream", **(headers or {})})
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()

    def next(self):
        """(revision, event, data), or None at the end; `cursor` is where a client may go on."""
        fields = {}
        while True:
            line = self.response.fp.readline() if not self.response.chunked else self.response.readline()
            if not line:
                return None
            text = line.decode().rstrip("\r\n")
            if text == "" and "data" in fields:
                data = json.loads(fields["data"])
                self.cursor = int(fields.get("id", self.cursor))
                assert ("id" in fields) == data["last"] and (not data["last"] or self.cursor == data["revision"])
                return data["revision"], fields["event"], data
            if text and not text.startswith(":"):
                key, _, value = text.partition(": ")
                fields[key] = value

    def rest(self):
        changes = []
        while (change := self.next()) is not None:
            changes.append(change)
        return changes

    def close(self):
        self.connection.close()


def test_a_stream_resumes_from_any_cursor_without_gap_or_duplicate(sim):
    start = sim.get("/v1")["revision"]
    for i in range(5):
        make_vm(sim, f"vm{i}", "--disk", "1GiB")
        sim.ok("vm", "start", f"vm{i}")
    whole = Stream(sim, f"?since={start}&follow=false").rest()
    assert len(whole) > 40
    assert [c[0] for c in whole] == sorted(c[0] for c in whole)
    assert {c[1] for c in whole} >= {"vm", "volume", "operation", "event"}
    for at in range(0, len(whole), 7):
        cursor = whole[at][0]
        expected = [c for c in whole if c[0] > cursor]
        assert Stream(sim, f"?since={cursor}&follow=false").rest() == expected
        assert Stream(sim, "?follow=false", {"Last-Event-ID": str(cursor)}).rest() == expected


def test_a_stream_that_is_cut_after_every_change_misses_nothing_and_sees_nothing_twice(sim):
    """Acts at the end of each transaction, as a client should, and is cut off at every possible place."""
    start = sim.get("/v1")["revision"]
    make_vm(sim, "a", "--disk", "1GiB")
    sim.ok("vm", "start", "a")
    whole = Stream(sim, f"?since={start}&follow=false").rest()
    assert sum(not c[2]["last"] for c in whole) > 5, "no transaction of several changes: the test would prove nothing"
    for at in range(1, len(whole)):
        first = Stream(sim, f"?since={start}")
        first.cursor = start
        heard = [first.next() for _ in range(at)]
        first.close()
        acted = [c for c in heard if c[0] <= first.cursor]
        assert acted == whole[:len(acted)] and all(not c[2]["last"] for c in heard[len(acted):])
        again = Stream(sim, "?follow=false", {"Last-Event-ID": str(first.cursor)})
        assert acted + again.rest() == whole


def test_a_stream_that_breaks_off_again_and_again_misses_nothing(sim):
    start = sim.get("/v1")["revision"]
    writer = threading.Thread(target=lambda: [make_vm(sim, f"vm{i}") for i in range(6)])
    writer.start()
    cursor, acted, made = start, [], set()
    while len(made) < 6:
        stream = Stream(sim, f"?since={cursor}")
        stream.cursor = cursor
        heard = []
        while stream.cursor == cursor:
            heard.append(stream.next())
        stream.close()
        cursor = stream.cursor
        acted += [c for c in heard if c[0] <= cursor]
        made = {c[2]["object"]["object"]["name"] for c in acted
                if c[1] == "event" and c[2]["object"]["type"] == "vm.created"}
    writer.join()
    whole = Stream(sim, f"?since={start}&follow=false").rest()
    assert acted == [c for c in whole if c[0] <= cursor]


# Crashes

CRASHES = {
    "create": (("VM_DIR_MAKE", "VOLUME_CREATE"), []),
    "start": (("RUN_DIR_MAKE", "QEMU_SPAWN", "CPU_CHECK", "QEMU_CONT"), []),
    "stop": (("GUEST_SHUTDOWN", "QEMU_QUIT", "RUN_DIR_REMOVE"), ["start"]),
    "delete": (("VOLUME_DELETE", "VM_DIR_REMOVE"), []),
}


@pytest.mark.parametrize("verb,step", [(v, s) for v, (steps, _) in CRASHES.items() for s in steps])
def test_a_daemon_killed_in_a_step_comes_back_consistent(sim, verb, step):
    if verb != "create":
        make_vm(sim, "a", "--disk", "1GiB")
    for earlier in CRASHES[verb][1]:
        sim.ok("vm", earlier, "a")
    sim.order(delay_ms={step: 600000})
    if verb == "create":
        ident = sim.ok("vm", "create", "a", *KERNEL, "--disk", "1GiB", "--no-wait").split()[-1]
    else:
        ident = sim.ok("vm", verb, "a", "--no-wait").split()[-1]
    until(lambda: sim.delayed() == step, f"operation in {step}")
    sim.kill9()
    sim.order()
    sim.start()
    operation = sim.wait_operation(ident)
    assert operation["status"] == "done" or operation["error"]["message"], operation
    recovered = sim.wait_event("operation.recovered")
    assert any("a" == (e["object"] or {}).get("name") or ident in json.dumps(e) for e in recovered)

    vms = sim.get("/v1/vms")
    volumes = sim.get("/v1/volumes")
    world = sim.world()
    assert {r for r in world if r.startswith("volume:")} == {f"volume:{v['id']}" for v in volumes}
    assert {r for r in world if r.startswith("dir:")} == {f"dir:{v['id']}" for v in vms}
    assert {r for r in world if r.startswith("qemu:")} == \
        {f"qemu:{v['id']}" for v in vms if v["runtime"]["state"] in ("running", "paused")}
    assert all(v["runtime"]["operation"] is None for v in vms)
    # It is usable: what was asked for can be asked for again.
    if not vms:
        make_vm(sim, "a", "--disk", "1GiB")
    if sim.runtime("a")["state"] == "running":
        sim.ok("vm", "kill", "a")
    sim.ok("vm", "start", "a")
    sim.ok("vm", "kill", "a")
    sim.ok("vm", "delete", "a")
    assert sim.world() == [] and sim.get("/v1/volumes") == []


def test_records_survive_a_restart_and_a_kill(sim):
    make_vm(sim, "a", "--disk", "1GiB")
    sim.ok("vm", "set", "a", "vcpus=4")
    then = sim.vm("a")
    sim.restart()
    assert sim.vm("a") == then
    sim.kill9()
    sim.start()
    assert sim.vm("a") == then


def test_a_second_daemon_on_the_same_state_is_refused(sim):
    make_vm(sim, "a")
    second = sim.spawn("--socket", sim.run / "second.sock")
    assert second.wait(180) != 0
    assert "another" in sim.said() or "already" in sim.said() or "in use" in sim.said()
    assert not (sim.run / "second.sock").exists()
    assert sim.vm("a")["name"] == "a"


def test_a_foreign_file_as_the_store_is_refused_and_left_alone(make_daemon):
    d = make_daemon("sim", start=False)
    foreign = d.state / "state.db"
    foreign.write_bytes(b"Dear diary, this is not a database.\n" * 200)
    before = foreign.read_bytes()
    process = d.spawn()
    assert process.wait(180) != 0
    assert foreign.read_bytes() == before and str(foreign) in d.said()
