# SPDX-License-Identifier: Apache-2.0
"""The command lines that core/guest writes, under real KVM: QEMU and the kernel take every argument, and
guest code sees the enlightenments that the command line names, or none.

What is replaced: sockets of the daemon by nothing, the kernel by the payload, whose output and exit code
need two devices more.
"""
import os
import subprocess

import pytest

from guest import DEBUG_EXIT, GUEST_TIMEOUT, guest_leaves, signature
from test_hyperv_profile import ADVICE, ALWAYS, ENLIGHTENMENTS, FEATURES

EXTENDED_MASKS = 1 << 11
# Not in the other test's table, for their bits overlap.
FLUSH = {"hv-tlbflush": {(ADVICE, "eax"): 1 << 2 | EXTENDED_MASKS},
         "hv-ipi": {(ADVICE, "eax"): 1 << 10 | EXTENDED_MASKS}}


@pytest.fixture(scope="module")
def argv_of(build, payload):
    tool = build / "tests/guest/print_argv"
    if not tool.exists():
        pytest.skip("%s is not built" % tool)
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

    def argv_of(name):
        done = subprocess.run([tool, name], env=dict(os.environ, G_TEST_SRCDIR=tests), check=True,
                              capture_output=True, text=True)
        words = [line for line in done.stdout.splitlines() if not line.startswith("#")]  # TAP's comments
        return list(adapted(words, str(payload)))
    return argv_of


def adapted(words, payload):
    for word in words:
        if word == "-S":
            continue
        if word.startswith("socket,id=") and "fd=@fd:" in word:
            word = "null,id=" + word.split(",")[1].removeprefix("id=")
        yield payload if word == "/payload" else word
    yield from ("-debugcon", "stdio", "-device", DEBUG_EXIT)


def run(host, argv):
    done = host.run(argv, timeout=GUEST_TIMEOUT)
    assert done.status == 3 << 1 | 1, done
    return guest_leaves(done.text)


def flags_of(argv):
    return [flag for flag in argv[argv.index("-cpu") + 1].split(",") if flag.startswith("hv-")]


def expected(flags):
    registers = {(leaf, name): 0 for leaf in (FEATURES, ADVICE) for name in ("eax", "ebx", "ecx", "edx")}
    for bits in (ALWAYS, *({**ENLIGHTENMENTS, **FLUSH}[flag] for flag in flags)):
        for place, mask in bits.items():
            registers[place] |= mask
    return registers


@pytest.mark.parametrize("name", ["payload-windows", "payload-windows-pc"])
def test_a_windows_guest_sees_what_its_command_line_names(lab, argv_of, name):
    argv = argv_of(name)
    flags = flags_of(argv)
    leaves = run(lab["a"], argv)
    assert "kvm-pit.lost_tick_policy=delay" in argv
    assert set(flags) == {*ENLIGHTENMENTS, *FLUSH}
    assert signature(leaves[0x40000000, 0]) == b"Microsoft Hv"
    assert {(leaf, register): leaves[leaf, 0][register] for leaf, register in expected(flags)} == expected(flags)


def test_a_linux_guest_sees_kvm(lab, argv_of):
    argv = argv_of("payload-linux")
    leaves = run(lab["a"], argv)
    assert flags_of(argv) == []
    assert signature(leaves[0x40000000, 0]) == b"KVMKVMKVM\0\0\0"
    assert not any(signature(registers) == b"Microsoft Hv" for registers in leaves.values())
