# SPDX-License-Identifier: Apache-2.0
"""A payload guest (guest/payload) in a lab host, and what its code saw."""
import re

GUEST_TIMEOUT = 180.0
DEBUG_EXIT = "isa-debug-exit,iobase=0xf4,iosize=4"
REGISTERS = ("eax", "ebx", "ecx", "edx")


def guest_run(host, payload, cpu="host", accel="kvm"):
    """Boot the payload in the host; returns what it printed until it ended itself with the code asked for."""
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-m", "64",
            "-machine", "q35", "-accel", accel, "-cpu", cpu, "-kernel", str(payload), "-append", "job=exit:3",
            "-debugcon", "stdio", "-device", DEBUG_EXIT]
    done = host.run(argv, timeout=GUEST_TIMEOUT)
    assert done.status == 3 << 1 | 1, done  # isa-debug-exit makes QEMU end with (code << 1) | 1
    return done.text


def guest_leaves(text):
    """The CPUID that the guest's code read: {(leaf, subleaf): {"eax": N, ...}}."""
    leaves = {}
    for words in re.findall(r"^cpuid((?: [0-9a-f]{8}){6})$", text, re.MULTILINE):
        leaf, subleaf, *values = (int(word, 16) for word in words.split())
        leaves[leaf, subleaf] = dict(zip(REGISTERS, values))
    return leaves


def signature(registers):
    """The twelve letters that a vendor or hypervisor leaf spells in EBX, ECX and EDX."""
    return b"".join(registers[name].to_bytes(4, "little") for name in ("ebx", "ecx", "edx"))
