# SPDX-License-Identifier: Apache-2.0
"""The gap for PCI devices, as a real Linux kernel sees it: its `pci_bus` lines, 4 GiB less where the gap begins."""
import pathlib
import re
import sys

import pytest

from daemon import open_copy, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))
from lablib.errors import Unavailable  # noqa: E402  (found by the line above)
from lablib.kernel import boot_files  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30
WINDOW = re.compile(r"pci_bus 0000:00: root bus resource \[mem 0x([0-9a-f]+)-0x([0-9a-f]+) window\]")


@pytest.fixture(scope="module")
def kernel():
    try:
        return open_copy(pathlib.Path(boot_files()[0]))
    except Unavailable as error:
        pytest.skip(f"no Linux kernel: {error}")


def windows(daemon, kernel, *settings):
    """(first, last) address of each window above the first MiB of a guest that has no more than a kernel."""
    daemon.ok("vm", "create", "a", "--kernel", kernel, "--nic", "none", "--cmdline", "console=ttyS0 no_timer_check",
              "platform.hvm_serial=pty", *settings)
    daemon.ok("vm", "start", "a")
    log = until(lambda: said(daemon), "end of the kernel's boot", 300)
    daemon.ok("vm", "kill", "a")
    return [w for w in ([int(n, 16) for n in m.groups()] for m in WINDOW.finditer(log)) if w[0] >= MIB]


def said(daemon):
    log = daemon.ok("vm", "console", "a", "--serial", "--log")
    return log if "Unable to mount root fs" in log else None


@pytest.mark.parametrize("machine,memory,low,high", [
    ("q35", "1GiB", 3584 * MIB, 64 * GIB),
    ("q35", "4GiB", 2560 * MIB, 1 * GIB),
    ("pc", "3GiB", 1536 * MIB, 8 * GIB),
])
def test_the_guest_has_the_gaps_that_were_asked_for(daemon, kernel, machine, memory, low, high):
    found = windows(daemon, kernel, f"machine={machine}", f"memory={memory}", f"memory.low_mmio_gap={low}",
                    f"memory.high_mmio_gap={high}")
    assert 4 * GIB - found[0][0] == low
    assert found[-1][0] > 4 * GIB and found[-1][1] + 1 - found[-1][0] == high


def test_what_the_machine_can_not_do_is_refused_with_the_range(daemon, kernel):
    daemon.ok("vm", "create", "a", "--kernel", kernel, "--nic", "none", "memory=4GiB")
    ran = daemon.plim("vm", "set", "a", "memory.low_mmio_gap=1GiB")
    assert ran.status == 7 and "can't be 1GiB on q35" in ran.err and "2GiB to 3584MiB" in ran.err and "machine=pc" in ran.err
    daemon.ok("vm", "set", "a", "machine=pc", "memory.low_mmio_gap=1GiB")
    ran = daemon.plim("vm", "set", "a", "memory=1GiB")
    assert ran.status == 7 and "3GiB to 3584MiB" in ran.err
    assert daemon.vm("a")["settings"] == {"boot.kernel": str(kernel), "memory.start": 4 * GIB, "machine": "pc",
                                          "memory.low_mmio_gap": GIB}
