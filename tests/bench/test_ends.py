# SPDX-License-Identifier: Apache-2.0
"""What a bench has started ends with it: by itself, by a word, or by force."""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
DEADLINE = 120.0
# It starts what ends at no word, in a session of its own and with a parent that is gone, as a daemon's guests are.
SCRIPT = """
import os, pathlib, signal, subprocess, sys, time
sys.path.insert(0, {bench!r})
import ends
ends.WAYS = ((0, 0.1), (signal.SIGTERM, 0.3), (signal.SIGKILL, 60.0))
{before}
folder = pathlib.Path({folder!r})
STUBBORN = "trap '' HUP INT TERM; while :; do sleep 0.1; done"

def main():
    subprocess.run(["setsid", "-f", "sh", "-c", STUBBORN, str(folder)], check=True, stderr=subprocess.DEVNULL)
    try:
        (folder / "runs").write_text(str(os.getpid()))
        {what}
    finally:
        (folder / "left").touch()

ends.run(main)
print("measured")
"""


def until(check, what):
    end = time.monotonic() + DEADLINE
    while not (answer := check()):
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.02)
    return answer


def processes(folder):
    """Pids of the bench, and of what it started: the folder is in their command lines."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if any(os.fsencode(folder) in word for word in words):
            found.append(int(entry.name))
    return found


@pytest.fixture
def bench(tmp_path):
    """bench(WHAT): one that does that, once what it starts runs; its process, and the pid of its main().

    `before` is done before it begins; then nothing is waited for.
    """
    begun = []

    def begin(what, before=""):
        script = SCRIPT.format(bench=str(BENCH), folder=str(tmp_path), what=what, before=before)
        process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        begun.append(process)
        if before:
            return process, None
        runs = tmp_path / "runs"
        pid = int(until(lambda: runs.exists() and runs.read_text(), "begin of the bench"))
        if what == WAITS:
            until(lambda: len(processes(tmp_path)) == 3, "process of the bench")
        return process, pid
    yield begin
    for process in begun:
        process.kill()
    for pid in processes(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in begun:
        process.communicate()


WAITS = "time.sleep(1000)"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_bench_that_is_told_to_end_cleans_up_and_leaves_nothing(bench, tmp_path, number):
    process, _ = bench(WAITS)
    process.send_signal(number)
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + signal.SIGTERM and "measured" not in out
    assert (tmp_path / "left").exists() and not processes(tmp_path)


# Right behind the fork the guard is told to end, before it can do anything about it.
TOLD_AT_ONCE = """
fork = os.fork
def fork_and_be_told():
    pid = fork()
    if pid > 0:
        os.kill(os.getpid(), signal.SIGTERM)
    return pid
os.fork = fork_and_be_told
"""


def test_a_bench_that_is_told_to_end_as_it_begins_leaves_nothing(bench, tmp_path):
    process, _ = bench(WAITS, TOLD_AT_ONCE)
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + signal.SIGTERM and "measured" not in out
    assert not processes(tmp_path)


def test_a_bench_that_fails_leaves_nothing(bench, tmp_path):
    process, _ = bench("sys.exit('it is broken')")
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1 and "it is broken" in said
    assert (tmp_path / "left").exists() and not processes(tmp_path)


def test_a_bench_that_is_done_leaves_nothing_and_says_what_it_measured(bench, tmp_path):
    process, _ = bench("pass")
    out, said = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, said) == (0, "measured\n", "")
    assert not processes(tmp_path)


def test_a_bench_that_is_killed_leaves_nothing(bench, tmp_path):
    process, pid = bench(WAITS)
    os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + signal.SIGKILL and not processes(tmp_path)


def test_a_bench_whose_guard_is_killed_cleans_up_by_itself(bench, tmp_path):
    process, _ = bench(WAITS)
    process.kill()
    until((tmp_path / "left").exists, "end of the bench")
