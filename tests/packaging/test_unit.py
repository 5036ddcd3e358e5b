# SPDX-License-Identifier: Apache-2.0
"""The service unit: systemd takes all of it, and it lets guests outlive the daemon."""
import configparser
import os
import pathlib
import re
import shutil
import subprocess

import pytest

UNIT = pathlib.Path(os.environ["UNIT"])
PLIMSOLLD = os.environ["PLIMSOLLD"]


def verify(folder, text):
    """systemd-analyze's verdict of the unit, with the daemon that was built as its program: status, words."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = folder / UNIT.name
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
                          capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def with_daemon(text):
    changed, count = re.subn(r"^ExecStart=\S+", f"ExecStart={PLIMSOLLD}", text, flags=re.MULTILINE)
    assert count == 1
    return changed


def test_systemd_takes_the_unit_without_a_word(tmp_path):
    assert verify(tmp_path, with_daemon(UNIT.read_text())) == (0, "")


@pytest.mark.parametrize("line, word", [("KilMode=process", "KilMode"), ("TimeoutStartSec=soon", "soon")])
def test_a_wrong_line_would_be_told(tmp_path, line, word):
    wrong = with_daemon(UNIT.read_text()).replace("[Service]\n", f"[Service]\n{line}\n")
    assert word in verify(tmp_path, wrong)[1]


def test_guests_and_their_sockets_outlive_the_daemon():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    assert service["KillMode"] == "process" and service["SendSIGKILL"] == "no"
    assert service["RuntimeDirectoryPreserve"] == "yes" and "PrivateTmp" not in service
    assert service["Type"] == "notify" and service["Restart"] == "on-failure"


def test_the_unit_names_only_folders_of_the_daemons_defaults():
    said = subprocess.run([PLIMSOLLD, "--help"], capture_output=True, text=True, timeout=120, check=True).stdout
    text = UNIT.read_text()
    for directive, root in (("StateDirectory", "/var/lib/"), ("RuntimeDirectory", "/run/"), ("LogsDirectory", "/var/log/")):
        name = re.search(rf"^{directive}=(\S+)$", text, re.MULTILINE).group(1)
        assert root + name in said
