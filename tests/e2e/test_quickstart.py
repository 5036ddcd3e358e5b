# SPDX-License-Identifier: Apache-2.0
"""./quickstart --down, in a mount namespace of its own: /run and what is installed are the test's."""
import os
import shutil
import signal
import subprocess

import pytest

from daemon import PLIM, PLIMSOLLD, ROOT
from own_mounts import OWN_MOUNTS

PREPARE = """
set -eu
mount -t tmpfs none /run
mount -t tmpfs none /usr/local/bin
mkdir /run/plimsoll
cp "$1" /usr/local/bin/plim
"""
START = """
"$2" --state "$3/state" --run /run/plimsoll --log "$3/log" --engine sim </dev/null >"$3/words" 2>&1 &
until plim host list >/dev/null 2>&1; do kill -0 $!; done
echo $! >"$3/pid"
"""
DOWN = './quickstart --down; kill -0 "$(cat "$3/pid")" && echo it lives || echo it is gone\n'

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")


def run(tmp_path, script):
    env = dict(os.environ, PATH="/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    try:
        return subprocess.run([*OWN_MOUNTS, "sh", "-c", PREPARE + script, "sh", PLIM, PLIMSOLLD, tmp_path], cwd=ROOT, env=env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=True)
    finally:
        if (tmp_path / "pid").exists():
            pid = int((tmp_path / "pid").read_text())
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGKILL)


def test_a_daemon_that_somebody_else_started_is_told_of_and_left_alone(tmp_path):
    ran = run(tmp_path, START + DOWN)
    pid = (tmp_path / "pid").read_text().strip()
    assert f"process {pid}) was not started by quickstart: it runs on" in ran.stdout and f"kill {pid}" in ran.stdout
    assert ran.stdout.endswith("it lives\n")


def test_the_daemon_that_it_started_is_stopped(tmp_path):
    ran = run(tmp_path, START + 'cp "$3/pid" /run/plimsoll/quickstart.pid\n' + DOWN)
    assert "runs on" not in ran.stdout and ran.stdout.endswith("it is gone\n")


def test_without_a_daemon_it_says_so(tmp_path):
    ran = run(tmp_path, "./quickstart --down\n")
    assert "no daemon is running" in ran.stderr
