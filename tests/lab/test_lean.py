# SPDX-License-Identifier: Apache-2.0
"""Under real KVM an idle Linux guest wakes nobody, and its host gets back what it does not need."""
import pytest

from lablib import wait_for
from lablib.linux import guest_files

MIB = 1 << 20
FILL = 128  # MiB that the guest writes and removes
SLOW = 300.0  # a loaded machine boots a guest in a guest in minutes
KSM = "/sys/kernel/mm/ksm"


@pytest.fixture(scope="module")
def host(lab, build):
    """A lab host on which the daemon runs; afterwards the host is as it was."""
    host = lab["a"]
    host.plimsolld_start()
    yield host
    host.plimsolld_clear()
    host.sh("echo 2 >%s/run; rm -rf /run/linux" % KSM)


@pytest.fixture(scope="module")
def linux(host):
    """A Linux guest with a disk and a console; it fills some of its memory and frees it again."""
    host.sh("install -D -m 644 %s /run/linux/vmlinux; install -m 644 %s /run/linux/initrd" % guest_files())
    host.plim_ok("vm", "create", "linux", "--memory", "256MiB", "--kernel", "/run/linux/vmlinux", "--nic", "none",
                 "boot.initrd=/run/linux/initrd", "--cmdline", "console=hvc0 quiet fill=%d" % FILL, "--disk", "size=64MiB",
                 "property.os_type=linux", "accel=kvm")
    host.plim_ok("vm", "start", "linux", timeout=SLOW)
    return host


def said(host):
    return host.plim_ok("vm", "console", "linux", "--log")


def memory(host):
    """What the kernel gives QEMU now, and gave it at most: MiB. The moment of the most may be over before anybody looks."""
    pid = host.plim("vm", "show", "linux")["runtime"]["pid"]
    words = host.sh("grep -E '^Vm(HWM|RSS):' /proc/%d/status" % pid).split()
    return int(words[words.index("VmRSS:") + 1]) // 1024, int(words[words.index("VmHWM:") + 1]) // 1024


def test_memory_that_a_guest_frees_goes_back_to_the_host(linux):
    wait_for(lambda: "guest freed" in said(linux), SLOW, "end of the files in the guest's memory")
    most = memory(linux)[1]
    assert most > FILL
    wait_for(lambda: memory(linux)[0] < most - FILL * 3 // 4, SLOW, "the guest's free pages")
    assert linux.plim("vm", "show", "linux")["memory"]["guest"]["resident"] < (most - FILL * 3 // 4) * MIB


def test_an_idle_linux_guest_wakes_no_emulated_device(linux):
    wait_for(lambda: "guest freed" in said(linux), SLOW, "rest of the guest")

    def counted():
        last = linux.plim("vm", "wakeups", "linux", "--seconds", "5", timeout=SLOW)["intervals"][-1]
        return [last[kind] for kind in ("timer", "read", "write")] == [0, 0, 0]

    wait_for(counted, SLOW, "five seconds without a timer, a read or a write")


def test_equal_pages_are_merged_when_host_and_guests_are_set_to_it(host):
    for name in ("one", "two"):
        host.plim_ok("vm", "create", name, "--memory", "32MiB", "--nic", "none", "--kernel", host.payload(),
                     "memory.merge=true", "accel=kvm")
        host.plim_ok("vm", "start", name, timeout=SLOW)
    name = host.plim("host", "list")[0]["name"]
    assert host.plim("host", "show")["ksm"]["saved"] == 0
    host.plim_ok("host", "set", name, "ksm=on")
    assert host.sh("cat %s/run" % KSM) == "1\n"
    wait_for(lambda: host.plim("host", "show")["ksm"]["saved"] > 0, SLOW, "merged pages")
    host.plim_ok("host", "set", name, "ksm=off")
    shown = host.plim("host", "show")["ksm"]
    assert shown["running"] is False and shown["saved"] == 0
