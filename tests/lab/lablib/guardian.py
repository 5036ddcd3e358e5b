# SPDX-License-Identifier: Apache-2.0
"""A lab's guard: the process that owns the lab's QEMUs and its folder, so that neither outlives the lab.

A lab can be ended by SIGKILL, when no code of its own runs any more. Its QEMUs are therefore children of a
second process that waits on a socket to the lab: when that closes, for whatever reason, the guard kills them,
removes the folder and ends. It is the only way of cleaning up, so every run tests it. QEMUs die even with a
killed guard (PR_SET_PDEATHSIG); only the folder would then stay.

Each request and each answer is one JSON datagram:
    {"spawn": [ARGV...], "log": PATH} -> {"pid": N}    a zombie until reaped, so a pidfd of it is never wrong
    {"reap": PID} -> {"status": N}                     asked once the pidfd says that it has ended
and either may be answered with {"error": TEXT}. The first datagram is the guard's own: {"folder": PATH}.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

MESSAGE_MAX = 1 << 17
PR_SET_PDEATHSIG = 1


def die_with_parent(parent):
    libc = ctypes.CDLL(None)

    def prepare():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return prepare


def answer(request, children):
    if "spawn" in request:
        with open(request["log"], "ab") as log:
            child = subprocess.Popen(request["spawn"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     preexec_fn=die_with_parent(os.getpid()))
        children[child.pid] = child
        return {"pid": child.pid}
    return {"status": children.pop(request["reap"]).wait()}


def main(lab):
    signal.signal(signal.SIGTERM, lambda number, where: sys.exit(1))
    folder = tempfile.mkdtemp(prefix="plimsoll-lab-")
    children = {}
    try:
        lab.send(json.dumps({"folder": folder}).encode())
        while True:
            request = lab.recv(MESSAGE_MAX)
            if not request:
                return
            try:
                reply = answer(json.loads(request), children)
            except OSError as error:
                reply = {"error": str(error)}
            lab.send(json.dumps(reply).encode())
    except (BrokenPipeError, ConnectionResetError):
        pass  # the lab has gone
    finally:
        for child in children.values():
            child.kill()
        for child in children.values():
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
