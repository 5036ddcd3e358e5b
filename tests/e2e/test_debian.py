# SPDX-License-Identifier: Apache-2.0
"""What needs a real Linux guest with its agent. The tests share one, in order, and leave it running."""
import re

import pytest

from daemon import PAYLOAD
from debian import Debian


@pytest.fixture(scope="module")
def debian():
    guest = Debian("--memory", "512MiB", "--vcpus", "2")
    yield guest
    guest.close()


def counted(debian):
    """NMIs by the guest's own file, as an administrator reads it there."""
    line = debian.run("grep NMI: /proc/interrupts")
    return sum(map(int, re.findall(r"\s(\d+)(?=\s)", line)))


def test_the_count_of_nmis_before_and_after_is_told(debian):
    before = counted(debian)
    words = debian.daemon.ok("vm", "nmi", "deb")
    assert words == f"deb got an NMI; it counted {before} before and {before + 1} after\n"
    assert counted(debian) == before + 1
    answer = debian.daemon.api("POST", "/v1/vms/deb/actions/nmi")
    assert answer.status == 200 and answer.body == {"before": before + 1, "after": before + 2, "note": None}


def test_a_guest_without_an_agent_gets_its_nmi_and_we_say_so(debian):
    daemon = debian.daemon
    daemon.ok("vm", "create", "tiny", "--memory", "16MiB", "--kernel", PAYLOAD, "--nic", "none", "--cmdline", "job=idle")
    daemon.ok("vm", "start", "tiny")
    ran = daemon.plim("vm", "nmi", "tiny")
    assert ran.status == 0 and ran.out == "tiny got an NMI\n" and "no agent" in ran.err
    daemon.ok("vm", "kill", "tiny")
    ran = daemon.plim("vm", "nmi", "tiny")
    assert ran.status == 6 and "plim vm start tiny" in ran.err
    daemon.ok("vm", "delete", "tiny")
