# SPDX-License-Identifier: Apache-2.0
"""A QEMU that runs the payload guest, for tests: its console by lines, its monitor, its end.

Everything is waited for with a deadline and nothing is polled: console, monitor and process are descriptors.
"""
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import time

QEMU = os.environ.get("QEMU", "qemu-system-x86_64")
PAYLOAD = os.environ.get("PAYLOAD_ELF", "payload.elf")
DEADLINE = 180.0
PR_SET_PDEATHSIG = 1


class Late(AssertionError):
    """A deadline passed; the message says for what, and what was there instead."""


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Lines:
    """What arrives at a descriptor, cut at newlines."""

    def __init__(self, fd):
        self.fd = fd
        self.rest = b""
        self.lines = []
        self.ended = False

    def read(self):
        try:
            data = os.read(self.fd, 65536)
        except ConnectionResetError:  # a socket whose other end went away with something unread
            data = b""
        self.ended = not data
        *whole, self.rest = (self.rest + data).split(b"\n")
        self.lines += [line.decode("ascii", "backslashreplace").rstrip("\r") for line in whole]


class Guest:
    def __init__(self, job="", machine="q35", accel="tcg", memory="8", cpu=None, extra=(), console="debugcon", options=""):
        ours, theirs = socket.socketpair()
        argv = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", f"{machine},accel={accel}",
                "-m", memory, "-kernel", PAYLOAD, "-append", f"{options} job={job}".strip(),
                "-chardev", "stdio,id=console,signal=off",
                "-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control",
                *(["-cpu", cpu] if cpu else []), *extra]
        argv += {"debugcon": ["-device", "isa-debugcon,iobase=0xe9,chardev=console"],
                 "serial": ["-serial", "chardev:console"]}[console]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        pass_fds=[theirs.fileno()], preexec_fn=die_with_parent)
        theirs.close()
        self.socket = ours
        self.console = Lines(self.process.stdout.fileno())
        self.words = Lines(self.process.stderr.fileno())
        self.monitor = Lines(ours.fileno())
        self.seen = 0           # lines of the console that were waited for
        self.events = []
        self.replies = []
        self.taken = 0          # lines of the monitor that were sorted
        try:
            self.command("qmp_capabilities")
        except Late as e:
            self.close()
            raise AssertionError(f"QEMU did not start: {self.words.lines}") from e

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        self.socket.close()

    def until(self, what, check, deadline=DEADLINE):
        """Read what arrives until check() answers something, and return it."""
        end = time.monotonic() + deadline
        while True:
            self.sort()
            answer = check()
            if answer is not None:
                return answer
            sources = [s for s in (self.console, self.words, self.monitor) if not s.ended]
            fds = [s.fd for s in sources]
            ready = select.select(fds, [], [], max(0.0, end - time.monotonic()))[0] if fds else []
            if not ready:
                raise Late(f"no {what}; console {self.console.lines[-5:]}, events {self.events}, "
                           f"{'QEMU runs' if sources else 'QEMU ended'}, stderr {self.words.lines}")
            for source in sources:
                if source.fd in ready:
                    source.read()

    def sort(self):
        for line in self.monitor.lines[self.taken:]:
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
            elif "QMP" not in message:
                self.replies.append(message)
        self.taken = len(self.monitor.lines)

    def command(self, name, **arguments):
        before = len(self.replies)
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        reply = self.until(f"reply to {name}", lambda: self.replies[before] if len(self.replies) > before else None)
        assert "return" in reply, reply
        return reply["return"]

    def line(self, start, deadline=DEADLINE):
        """The next line of the console that begins with `start`, as its words."""
        def check():
            for i in range(self.seen, len(self.console.lines)):
                if self.console.lines[i].startswith(start):
                    self.seen = i + 1
                    return self.console.lines[i].split(" ")
            return None
        return self.until(f"line '{start}'", check, deadline)

    def console_now(self):
        """All lines that QEMU wrote before this was called."""
        while not self.console.ended and select.select([self.console.fd], [], [], 0)[0]:
            self.console.read()
        return self.console.lines

    def event(self, name, deadline=DEADLINE):
        """The first event of that name."""
        return self.until(f"event {name}",
                          lambda: next((e.get("data", {}) for e in self.events if e["event"] == name), None), deadline)

    def event_count(self, name):
        return sum(e["event"] == name for e in self.events)

    def ended(self, deadline=DEADLINE):
        """QEMU's exit status."""
        self.until("end of QEMU", lambda: True if self.console.ended and self.words.ended else None, deadline)
        return self.process.wait(timeout=deadline)

    def cpu_seconds(self):
        """User and system time of QEMU so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wakeups(self):
        """How often a thread of QEMU was waiting and went on."""
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                with open(f"/proc/{self.process.pid}/task/{task}/status", encoding="ascii") as f:
                    total += sum(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt_switches"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread that has ended meanwhile
        return total
