#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Build twice (plain, and with ASan and UBSan) and run all tests; the last line counts them.

Unit, store and fuzz-corpus suites run in the sanitized build; what starts
real QEMU processes and guests runs in the plain one.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
SANITIZED = ["unit", "store", "fuzz"]
OPTIONS = {
    "build": ["-Dbuildtype=debugoptimized"],
    "build-asan": ["-Dbuildtype=debug", "-Doptimization=1", "-Db_sanitize=address,undefined", "-Db_lundef=false"],
}
# Python tests, each a folder with its time limit in seconds. Limits are for what hangs: they leave a machine room that
# is several times slower than ours, as does the factor for the limits of meson's tests.
PYTEST = {"tests/e2e": 4200, "tests/lab": 3000}
# Most of what e2e does is wait for guests, so two files at a time; the lab's hosts take all the CPU there is.
SIDE_BY_SIDE = {"tests/e2e": ["-n", "2", "--dist", "loadfile"]}
SLOWER = 5


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.notes = []

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped


def build(name):
    folder = ROOT / name
    if not (folder / "build.ninja").exists():
        subprocess.run(["meson", "setup", str(folder), str(ROOT), *OPTIONS[name]], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", str(folder)], check=True, stdout=subprocess.DEVNULL)


def count_tap(text):
    """Subtests of one TAP output: passed, failed, skipped with their reasons."""
    passed = failed = 0
    skips = []
    for line in text.splitlines():
        m = re.match(r"(not )?ok\b[^#]*(?:#\s*(SKIP|TODO)\b\s*(.*))?", line, re.I)
        if not m:
            continue
        if m[2] and m[2].upper() == "SKIP":
            skips.append((line.split("#")[0].strip(), m[3]))
        elif m[1]:
            failed += 1
        else:
            passed += 1
    return passed, failed, skips


def read_meson_log(folder, tally):
    for line in (folder / "meson-logs" / "testlog.json").read_text().splitlines():
        t = json.loads(line)
        passed, failed, skips = count_tap(t.get("stdout") or "")
        bad = t["result"] not in ("OK", "SKIP", "EXPECTEDFAIL")
        if passed + failed + len(skips) == 0:
            passed, failed, skips = int(t["result"] == "OK"), int(bad), [(t["name"], "")] if t["result"] == "SKIP" else []
        elif bad and failed == 0:
            failed = 1
        tally.add(passed, failed, len(skips))
        tally.notes += [f"skipped: {t['name']}: {name} {why}".rstrip() for name, why in skips]
        if bad:
            tally.notes.append(f"FAILED: {t['name']} ({t['result']})")
            print((t.get("stdout") or "")[-4000:], (t.get("stderr") or "")[-4000:], sep="\n")


def run_meson(name, suites, exclude, tally):
    folder = ROOT / name
    cmd = ["meson", "test", "-C", str(folder), "--no-rebuild", "--print-errorlogs", "--timeout-multiplier", str(SLOWER)]
    for s in suites:
        cmd += ["--suite", s]
    for s in exclude:
        cmd += ["--no-suite", s]
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:abort_on_error=1", UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    subprocess.run(cmd, env=env, stdin=subprocess.DEVNULL)
    read_meson_log(folder, tally)


def read_junit(path, what, tally):
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        total, bad = int(suite.get("tests")), int(suite.get("failures")) + int(suite.get("errors"))
        skipped = int(suite.get("skipped"))
        tally.add(total - bad - skipped, bad, skipped)
        for case in suite.iter("testcase"):
            for skip in case.iter("skipped"):
                tally.notes.append(f"skipped: {what}: {case.get('name')}: {skip.get('message')}")
            if any(case.iter(k) and list(case.iter(k)) for k in ("failure", "error")):
                tally.notes.append(f"FAILED: {what}: {case.get('name')}")


def wait_or_end(process, limit):
    """Whether it ended by itself. Else it gets a minute to tell what it has and to take down what its tests have started."""
    for seconds, end in ((limit, lambda: process.send_signal(signal.SIGINT)), (60, process.kill)):
        try:
            process.wait(seconds)
            return seconds == limit
        except subprocess.TimeoutExpired:
            end()
        except BaseException:
            process.kill()
            raise
    return False


def run_pytest(folder, limit, tally):
    if not any((ROOT / folder).glob("test_*.py")):
        return
    report = ROOT / "build" / f"{folder.replace('/', '-')}.xml"
    report.unlink(missing_ok=True)
    env = dict(os.environ, PLIMSOLL_BUILD=str(ROOT / "build"), PYTHONDONTWRITEBYTECODE="1")
    cmd = [sys.executable, "-m", "pytest", "-q", "-x" if os.environ.get("PLIMSOLL_FAIL_FAST") else "-q",
           "-p", "no:cacheprovider", "--durations=15", f"--junitxml={report}",
           *SIDE_BY_SIDE.get(folder, []), folder]
    with subprocess.Popen(cmd, cwd=ROOT, env=env, stdin=subprocess.DEVNULL) as pytest:
        in_time = wait_or_end(pytest, limit)
    if not in_time:
        tally.notes.append(f"FAILED: {folder} took longer than {limit} s")
        tally.add(0, 1, 0)
    if report.exists():
        read_junit(report, folder, tally)
    elif not any(n.startswith(f"FAILED: {folder}") for n in tally.notes):
        tally.notes.append(f"FAILED: {folder} left no report")
        tally.add(0, 1, 0)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("part", nargs="*", choices=["unit", "qemu", "e2e", "lab", []], help="only these parts; all of them when none is named")
    args = p.parse_args()
    parts = set(args.part or ["unit", "qemu", "e2e", "lab"])
    tally = Tally()
    started = time.monotonic()

    build("build")
    if "unit" in parts:
        build("build-asan")
        run_meson("build-asan", SANITIZED, [], tally)
    if "qemu" in parts:
        run_meson("build", [], SANITIZED, tally)
    for folder, limit in PYTEST.items():
        if folder.split("/")[1] in parts:
            run_pytest(folder, limit, tally)
    for note in tally.notes:
        print(note)
    print(f"took {time.monotonic() - started:.0f} s", flush=True)
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped", flush=True)
    sys.exit(1 if tally.failed or not tally.passed else 0)


if __name__ == "__main__":
    main()
