# SPDX-License-Identifier: Apache-2.0
"""A daemon of the benches' own: its folders, its API, its end. A bench that has one is run by ends.py."""
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
READY_DEADLINE = 60


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """plimsolld on folders of its own. Leaving ends its guests, then it, then the folders."""

    def __init__(self, build, run=None, arguments=()):
        """`run` is where the folder of sockets is made: on an installed host /run, which is in memory."""
        self.arguments = arguments
        self.plim = os.path.join(build, "src/cli/plim")
        self.program = os.path.join(build, "src/daemon/plimsolld")
        self.dir = tempfile.mkdtemp(prefix="plimsoll-bench.")
        os.chmod(self.dir, 0o755)  # QEMU's user reads the kernel here
        self.kernel = shutil.copy(os.path.join(build, "guest/payload/payload.elf"), self.dir)
        self.run = tempfile.mkdtemp(prefix="plimsoll-bench.", dir=run) if run else os.path.join(self.dir, "run")
        if run:
            os.chmod(self.run, 0o755)
        self.socket = os.path.join(self.run, "api.sock")
        self.process = None

    def __enter__(self):
        self.begin()
        return self

    def restart(self):
        """Until it is ready again, its guests taken up."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.begin()

    def begin(self):
        folders = ["--state", os.path.join(self.dir, "state"), "--run", self.run, "--log", os.path.join(self.dir, "log")]
        with open(os.path.join(self.dir, "daemon.log"), "ab") as log:
            self.process = subprocess.Popen([self.program, *folders, *self.arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        try:
            self.wait_ready()
        except BaseException:
            self.end_daemon()
            raise

    def __exit__(self, *_):
        try:
            for vm in self.get("/v1/vms"):
                if vm["runtime"]["state"] != "stopped":
                    self.call("POST", f"/v1/vms/{vm['id']}/actions/kill?wait=60")
        finally:
            self.end_daemon()

    def wait_ready(self):
        deadline = time.monotonic() + READY_DEADLINE
        while True:
            try:
                return self.get("/v1")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    with open(os.path.join(self.dir, "daemon.log"), encoding="utf-8") as log:
                        raise SystemExit("the daemon is not ready: " + log.read()) from None
                time.sleep(0.02)

    def end_daemon(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        for folder in {self.dir, self.run}:
            shutil.rmtree(folder, ignore_errors=folder != self.dir)

    def call(self, method, path, body=None, connection=None):
        """One exchange; every refusal ends the bench."""
        c = connection or UnixConnection(self.socket)
        c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = c.getresponse()
        text = answer.read()
        if connection is None:
            c.close()
        value = json.loads(text) if text else None
        if answer.status >= 400 or isinstance(value, dict) and value.get("status") in ("failed", "cancelled"):
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return value

    def get(self, path):
        value = self.call("GET", path)
        return value["items"] if isinstance(value, dict) and "items" in value else value

    def text(self, path):
        c = UnixConnection(self.socket)
        c.request("GET", path)
        answer = c.getresponse()
        text = answer.read().decode()
        c.close()
        if answer.status != 200:
            raise SystemExit(f"GET {path}: {answer.status} {text}")
        return text

    def create(self, name, settings=None, **more):
        self.call("POST", "/v1/vms?wait=60", {
            "name": name, "settings": {"memory.start": 16 << 20, "boot.kernel": self.kernel, **(settings or {})},
            "nics": [{"network": "none"}], **more})


def memory_folder():
    """Where files lie in memory, as in /run of an installed host."""
    return next((f for f in ("/run", "/dev/shm") if file_system(f) == "tmpfs"), None)


def file_system(path):
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True).stdout.strip()


def milliseconds(seconds):
    return f"{statistics.median(seconds) * 1000:.1f}"


def machine():
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(f.readline().split()[1]) / 2**20
    return f"{os.cpu_count()} CPUs, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}"
