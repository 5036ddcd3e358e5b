# SPDX-License-Identifier: Apache-2.0
"""The hardware that an operating system wants, as guest code sees it under real KVM: the Hyper-V interface
with exactly the enlightenments asked for in a guest for Windows, none of it in one for Linux.

Bits: Hyper-V Top Level Functional Specification, chapter 2 (feature and interface discovery).
"""
import pytest

from guest import guest_leaves, guest_run, signature

INTERFACE = 0x31237648  # "Hv#1"
LEAVES = range(0x40000000, 0x40000006)
FEATURES, ADVICE = 0x40000003, 0x40000004
# What QEMU shows with any hv-* flag: the hypercall page; that virtual processors may be added.
ALWAYS = {(FEATURES, "eax"): 1 << 5, (FEATURES, "edx"): 1 << 3}
# Flag of QEMU -> (leaf, register) -> bits it adds.
ENLIGHTENMENTS = {
    "hv-relaxed": {(ADVICE, "eax"): 1 << 5},
    "hv-vapic": {(FEATURES, "eax"): 1 << 4, (ADVICE, "eax"): 1 << 3},
    "hv-spinlocks=0x1fff": {(ADVICE, "ebx"): 0x1fff},
    "hv-time": {(FEATURES, "eax"): 1 << 1 | 1 << 9},
    "hv-vpindex": {(FEATURES, "eax"): 1 << 6},
    "hv-runtime": {(FEATURES, "eax"): 1 << 0},
    "hv-synic": {(FEATURES, "eax"): 1 << 2, (FEATURES, "ebx"): 1 << 4 | 1 << 5},  # may post, may signal
    "hv-stimer": {(FEATURES, "eax"): 1 << 3},
    "hv-reset": {(FEATURES, "eax"): 1 << 7},
    "hv-frequencies": {(FEATURES, "eax"): 1 << 11, (FEATURES, "edx"): 1 << 8},
}
WINDOWS = ["hv-relaxed", "hv-vapic", "hv-spinlocks=0x1fff", "hv-time"]


def guest_start(host, payload, os_type, flags):
    """Run a guest with the hardware of `os_type`, enlightened by `flags`; returns what it printed."""
    return guest_run(host, payload, cpu=",".join(["host", *(flags if os_type == "windows" else [])]))


def expected(flags):
    """All registers of FEATURES and ADVICE."""
    registers = {(leaf, name): 0 for leaf in (FEATURES, ADVICE) for name in ("eax", "ebx", "ecx", "edx")}
    if "hv-spinlocks=0x1fff" not in flags:
        registers[ADVICE, "ebx"] = 0xffffffff  # never notify the hypervisor of a long spin
    for bits in (ALWAYS, *(ENLIGHTENMENTS[flag] for flag in flags)):
        for place, mask in bits.items():
            registers[place] |= mask
    return registers


@pytest.mark.parametrize("flags", [WINDOWS, list(ENLIGHTENMENTS)], ids=["windows", "all"])
def test_windows_guest_sees_exactly_the_enlightenments_asked_for(lab, payload, flags):
    leaves = guest_leaves(guest_start(lab["a"], payload, "windows", flags))
    assert leaves[0x40000000, 0]["eax"] == LEAVES[-1]
    assert signature(leaves[0x40000000, 0]) == b"Microsoft Hv"
    assert leaves[0x40000001, 0] == {"eax": INTERFACE, "ebx": 0, "ecx": 0, "edx": 0}
    assert {(leaf, name): leaves[leaf, 0][name] for leaf, name in expected(flags)} == expected(flags)
    assert (0x40000002, 0) in leaves and (0x40000005, 0) in leaves
    assert signature(leaves[0x40000100, 0]) == b"KVMKVMKVM\0\0\0", "KVM's own interface moves aside"


def test_linux_guest_sees_no_hyperv(lab, payload):
    leaves = guest_leaves(guest_start(lab["a"], payload, "linux", WINDOWS))
    assert signature(leaves[0x40000000, 0]) == b"KVMKVMKVM\0\0\0"
    assert [leaf for leaf, _ in leaves if leaf in LEAVES] == [0x40000000, 0x40000001]
    assert leaves[0x40000001, 0]["eax"] != INTERFACE
    assert not any(signature(registers) == b"Microsoft Hv" for registers in leaves.values())
