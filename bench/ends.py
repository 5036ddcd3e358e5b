# SPDX-License-Identifier: Apache-2.0
"""What a bench has started ends with it, however it ends.

run(main) has main() run in a child of this process, to which all that main() starts falls when its parents have ended
(PR_SET_CHILD_SUBREAPER): daemons, QEMUs, etcd, and the namespaces and mounts that live by them. At SIGHUP, SIGINT and
SIGTERM main() is left by SystemExit, so that every `with` and `finally` does its work; it has PATIENCE seconds for that.
What still runs when the child has ended is told to end, and then killed.
"""
import ctypes
import os
import pathlib
import signal
import sys
import time

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
PATIENCE = 120  # seconds
# What is done to processes that are left, and for how long they have then.
WAYS = ((0, 5.0), (signal.SIGTERM, 15.0), (signal.SIGKILL, 60.0))
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option, value):
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def leave(number, _):
    """A second signal does not cut the end short."""
    for other in SIGNALS:
        signal.signal(other, lambda *_: None)
    sys.exit(128 + number)


def parents():
    """{pid: its parent's} of all processes."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            text = (entry / "stat").read_text(errors="replace") if entry.name.isdigit() else ""
        except OSError:
            continue  # it has ended
        if text:
            found[int(entry.name)] = int(text.rpartition(")")[2].split()[1])
    return found


def descendants():
    parent, found, new = parents(), set(), {os.getpid()}
    while new:
        new = {pid for pid, above in parent.items() if above in new} - found
        found |= new
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


def send(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def end_descendants():
    for number, patience in WAYS:
        deadline = time.monotonic() + patience
        send(descendants(), number)
        while (left := descendants()) and time.monotonic() < deadline:
            time.sleep(0.05)
            reap()
            if number == signal.SIGKILL:
                send(left, number)
    if left:
        print(f"these processes of the bench did not end: {sorted(left)}", file=sys.stderr)


def handle(function):
    """From now on; what came while they were blocked comes now."""
    for number in SIGNALS:
        signal.signal(number, function)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def await_child(child):
    """Its exit status, as a shell says it."""
    def pass_on(*_):
        send([child], signal.SIGTERM)
        signal.alarm(PATIENCE)

    signal.signal(signal.SIGALRM, lambda *_: send([child], signal.SIGKILL))
    handle(pass_on)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            break
    for number in (*SIGNALS, signal.SIGALRM):
        signal.signal(number, lambda *_: None)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def run(main):
    """Returns in the child, when main() has; the process that was called ends here, with the child's status."""
    guard = os.getpid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    sys.stdout.flush()
    # A guard that is told to end before it listens would leave the child alone with all that main() starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    child = os.fork()
    if child > 0:
        status = await_child(child)
        end_descendants()
        os._exit(status)
    handle(leave)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != guard:
        sys.exit(1)
    main()
