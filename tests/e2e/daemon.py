# SPDX-License-Identifier: Apache-2.0
"""A plimsolld of a test's own: its folders, its socket, its processes, its end."""
import atexit
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from contract import Contract
from witness import Witness

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("PLIMSOLL_BUILD", ROOT / "build")).resolve()
PLIM = BUILD / "src/cli/plim"
PLIMSOLLD = BUILD / "src/daemon/plimsolld"
DEADLINE = 180.0
CONTRACT = Contract()


def open_copy(path):
    """A copy that QEMU's user can reach: the build folder may be in a home that nobody else may pass."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-files-"))
    atexit.register(shutil.rmtree, folder)
    folder.chmod(0o755)
    copy = folder / path.name
    shutil.copyfile(path, copy)
    copy.chmod(0o644)
    return copy


PAYLOAD = open_copy(BUILD / "guest/payload/payload.elf")


def until(check, what, deadline=DEADLINE):
    """Look until check() answers something true, and return that; the pause only spares the processor."""
    end = time.monotonic() + deadline
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < end, f"in {deadline:.0f} s: no {what}"
        time.sleep(0.02)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    """Of one request: status, headers (small letters), body as JSON or bytes."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"Answer({self.status}, {self.body})"


class Ran:
    """Of one run of plim."""

    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __iter__(self):
        return iter((self.status, self.out, self.err))

    def __repr__(self):
        return f"Ran({self.status}, {self.out!r}, {self.err!r})"


class Daemon:
    prefix = ()  # words before the daemon's: what it is run by

    def __init__(self, engine, name="testhost", args=()):
        self.engine, self.name, self.args = engine, name, args
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-"))
        self.base.chmod(0o711)
        self.state, self.run, self.log = self.base / "state", self.base / "run", self.base / "log"
        for folder in (self.state, self.run, self.log):
            folder.mkdir(mode=0o711)
            folder.chmod(0o711)
        self.witness = Witness(self.base / "witness.sock", self.run / "api.sock", CONTRACT)
        self.socket = self.base / "witness.sock"
        self.words = self.base / "daemon.log"
        self.process = None

    def spawn(self, *more):
        with open(self.words, "ab") as words:
            return subprocess.Popen([*self.prefix, PLIMSOLLD, "--state", self.state, "--run", self.run, "--log", self.log,
                                     "--name", self.name, "--engine", self.engine, *map(str, self.args), *more],
                                    stdin=subprocess.DEVNULL, stdout=words, stderr=words)

    def start(self):
        self.process = self.spawn()
        until(self.is_ready, f"API of the daemon; it said: {self.said()}")

    def is_ready(self):
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}: {self.said()}"
        try:
            return self.api("GET", "/v1").status == 200
        except ConnectionError:
            return False

    def said(self):
        return self.words.read_text(errors="replace")[-4000:] if self.words.exists() else ""

    def times_said(self, words):
        """In all it has said, of which said() is the end."""
        return self.words.read_text(errors="replace").count(words)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(DEADLINE)
        assert status == 0, f"the daemon ended with {status}: {self.said()}"

    def restart(self):
        self.stop()
        self.start()

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def api(self, method, path, body=None, headers=None):
        """One exchange. As all that goes through the witness, openapi.yaml judges it; close() tells the verdict."""
        connection = UnixConnection(self.socket, DEADLINE * 2)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        headers = dict(headers or {})
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        fields = {k.lower(): v for k, v in response.getheaders()}
        kind = fields.get("content-type", "").split(";")[0]
        return Answer(response.status, fields, json.loads(raw) if kind == "application/json" else raw)

    def get(self, path):
        answer = self.api("GET", path)
        assert answer.status == 200, answer
        return answer.body

    def plim(self, *args, stdin=None):
        env = dict(os.environ, PLIMSOLL_SOCKET=str(self.socket), LC_ALL="C.UTF-8")
        return Ran(subprocess.run([PLIM, *map(str, args)], env=env, input=stdin, stdin=None if stdin else subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=DEADLINE * 2, check=False))

    def begin(self, *args):
        """plim in the background: Popen."""
        env = dict(os.environ, PLIMSOLL_SOCKET=str(self.socket), LC_ALL="C.UTF-8")
        return subprocess.Popen([PLIM, *map(str, args)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def ok(self, *args):
        """A run of plim that must succeed; its output."""
        ran = self.plim(*args)
        assert ran.status == 0, f"plim {' '.join(map(str, args))}: {ran.status}\n{ran.out}{ran.err}\n{self.said()}"
        return ran.out

    def vm(self, name):
        return self.get(f"/v1/vms/{name}")

    def runtime(self, name):
        return self.vm(name)["runtime"]

    def wait_state(self, name, *states, deadline=DEADLINE):
        def check():
            runtime = self.runtime(name)
            return runtime if runtime["state"] in states else None
        return until(check, f"{name} in {states}", deadline)

    def wait_idle(self, name):
        """No operation holds the vm any more."""
        def check():
            runtime = self.runtime(name)
            return runtime if runtime["operation"] is None else None
        return until(check, f"end of the operation of {name}")

    def agent_answers(self, name):
        """The guest's. A request that it lets run into its deadline, as it may while the guest boots, says: not yet."""
        answer = self.api("GET", f"/v1/vms/{name}/agent")
        return answer.status == 200 and answer.body["connected"]

    def events(self, kind=None):
        return [e for e in self.get("/v1/events?limit=10000") if kind in (None, e["type"])]

    def wait_event(self, kind, name=None, deadline=DEADLINE):
        def check():
            return [e for e in self.events(kind) if name is None or (e["object"] or {}).get("name") == name]
        return until(check, f"event {kind}", deadline)

    def wait_operation(self, ident):
        return until(lambda: next((o for o in [self.get(f"/v1/operations/{ident}")]
                                   if o["status"] in ("done", "failed", "cancelled")), None), f"end of operation {ident}")

    def order(self, **orders):
        """What the simulated engine does from now on."""
        fresh = self.run / "sim-orders.new"
        fresh.write_text(json.dumps(orders))
        fresh.rename(self.run / "sim-orders.json")

    def delayed(self):
        """The step that was delayed last, as order() told."""
        path = self.run / "sim-orders.json.delayed"
        return path.read_text() if path.exists() else None

    def world(self):
        """The resources of the simulated host."""
        for path in (self.run / "sim-world.json", self.state / "sim-world.json"):
            if path.exists():
                return sorted(json.loads(path.read_text()))
        return []

    def processes(self):
        """
        Pids whose command line names a folder of ours, and QEMUs that have an open file in one: they get their files as
        descriptors, and a guest without files of its own has no folder. The daemon does not count.
        """
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if self.process and entry.name == str(self.process.pid):
                continue
            if str(self.base).encode() in words or (b"qemu-system" in words and self.has_open(entry)):
                found.append(int(entry.name))
        return found

    def has_open(self, entry):
        try:
            return any(os.readlink(fd).startswith(str(self.base)) for fd in (entry / "fd").iterdir())
        except OSError:
            return False

    def guests(self):
        """Of those the guests with what stands around them: a member of etcd and the guard live on, and shall."""
        def runs_on(pid):
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                return True
            return pathlib.Path(os.fsdecode(words[0])).name == "etcd" or b"--guard" in words
        return [pid for pid in self.processes() if not runs_on(pid)]

    def close(self):
        """End everything; what does not end is told after it was ended by force."""
        left = []
        try:
            if self.process is not None and self.process.poll() is None:
                for vm in self.api("GET", "/v1/vms").body:
                    if vm["runtime"]["state"] in ("running", "paused"):
                        self.plim("vm", "kill", vm["id"])
                self.stop()
                try:
                    until(lambda: not self.guests(), "end of the guests")
                except AssertionError:
                    left = [pathlib.Path(f"/proc/{p}/cmdline").read_bytes().replace(b"\0", b" ")[:300] for p in self.guests()]
        finally:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process is not None and self.process.poll() is None:
                self.kill9()
            shutil.rmtree(self.base)
            self.witness.close()
        assert not left, f"processes {left} outlived their vms"
