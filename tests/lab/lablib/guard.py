# SPDX-License-Identifier: Apache-2.0
"""The lab's side of its guard, which guardian.py describes: starts processes that can't outlive the lab."""
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading

from .errors import LabError
from .guardian import MESSAGE_MAX

ANSWER_TIMEOUT = 60.0  # it only forks and kills, so this is for a machine that hardly moves
GUARDIAN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guardian.py")


class Guard:
    """The lab's side. Thread-safe."""

    def __init__(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-E", "-s", GUARDIAN, str(theirs.fileno())]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            pass_fds=[theirs.fileno()], start_new_session=True)
        ours.settimeout(ANSWER_TIMEOUT)
        self.socket = ours
        self.lock = threading.Lock()
        hello = ours.recv(MESSAGE_MAX)
        if not hello:
            raise LabError("the lab's guard did not start")
        self.folder = json.loads(hello)["folder"]

    def spawn(self, argv, log):
        return Child(self, self.ask({"spawn": argv, "log": log})["pid"])

    def ask(self, request):
        with self.lock:
            self.socket.send(json.dumps(request).encode())
            answer = json.loads(self.socket.recv(MESSAGE_MAX))
        if "error" in answer:
            raise OSError(answer["error"])
        return answer

    def close(self):
        """When it returns, every process has ended and the folder is gone."""
        self.socket.close()
        try:
            self.process.wait(ANSWER_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise LabError("the lab in %s did not end within %g s" % (self.folder, ANSWER_TIMEOUT)) from None


class Child:
    """A process of the guard's. `status` is None until it has ended."""

    def __init__(self, guard, pid):
        self.guard = guard
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.status = None
        self.lock = threading.Lock()

    def fileno(self):
        """Readable once the process has ended."""
        return self.pidfd

    def signal(self, number):
        if self.status is None:
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, timeout):
        """The exit status, negative for a signal; None if it still runs after `timeout` seconds."""
        with self.lock:
            if self.status is None and select.select([self.pidfd], [], [], timeout)[0]:
                self.status = self.guard.ask({"reap": self.pid})["status"]
                os.close(self.pidfd)
            return self.status
