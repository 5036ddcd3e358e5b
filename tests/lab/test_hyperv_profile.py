# SPDX-License-Identifier: Apache-2.0
"""Guests that Plimsoll runs under real KVM, and what their code sees: the Hyper-V interface with exactly the
enlightenments asked for in a guest for Windows, none of it in one for Linux.

Bits: Hyper-V Top Level Functional Specification, chapter 2 (feature and interface discovery).
"""
import pytest

from guest import guest_leaves, signature
from lablib import wait_for

INTERFACE = 0x31237648  # "Hv#1"
LEAVES = range(0x40000000, 0x40000006)
FEATURES, ADVICE = 0x40000003, 0x40000004
REPORT_TIMEOUT = 180.0
# What QEMU shows with any hv-* flag: the hypercall page; that virtual processors may be added.
ALWAYS = {(FEATURES, "eax"): 1 << 5, (FEATURES, "edx"): 1 << 3}
EXTENDED_MASKS = 1 << 11
# Flag of QEMU -> (leaf, register) -> bits it adds. EXTENDED_MASKS comes with either of two flags.
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
    "hv-tlbflush": {(ADVICE, "eax"): 1 << 2 | EXTENDED_MASKS},
    "hv-ipi": {(ADVICE, "eax"): 1 << 10 | EXTENDED_MASKS},
}
WINDOWS = ("property.os_type=windows",)
LINUX = ("property.os_type=linux",)
CHOSEN = ["hv-relaxed", "hv-vapic", "hv-spinlocks=0x1fff", "hv-time"]


@pytest.fixture(scope="module")
def host(lab, build):
    """A lab host on which the daemon runs; afterwards the host is as it was."""
    host = lab["a"]
    host.plimsolld_start()
    yield host
    host.plimsolld_clear()


def make(host, payload, name, *settings):
    host.plim_ok("vm", "create", name, "--memory", "16MiB", "--nic", "none", "--kernel", payload,
                 "--cmdline", "job=idle out=serial", "platform.hvm_serial=pty", *settings)


def said(host, name):
    return host.plim_ok("vm", "console", name, "--serial", "--log").replace("\r\n", "\n")


def leaves_of(host, name):
    """The CPUID that the guest's code read, once it has told all of it."""
    wait_for(lambda: "\nready\n" in said(host, name), REPORT_TIMEOUT, "the report of " + name)
    return guest_leaves(said(host, name))


@pytest.fixture(scope="module")
def guests(host):
    """All guests at once: what each was started with, and what its code saw."""
    wanted = {"windows": WINDOWS, "windows-pc": (*WINDOWS, "machine=pc"), "windows-off": (*WINDOWS, "hyperv=off"),
              "linux": LINUX, "linux-chosen": (*LINUX, "cpu.model=" + ",".join(["host", *CHOSEN]))}
    payload = host.payload()
    for name, settings in wanted.items():
        make(host, payload, name, *settings)
    host.plim_ok("vm", "start", *wanted, timeout=120)
    return {name: (host.plim("vm", "explain", name)["arguments"], leaves_of(host, name)) for name in wanted}


def flags_of(arguments):
    return [part["part"] for part in arguments if part["argument"] == "-cpu" and part["part"].startswith("hv-")]


def expected(flags):
    """All registers of FEATURES and ADVICE."""
    registers = {(leaf, name): 0 for leaf in (FEATURES, ADVICE) for name in ("eax", "ebx", "ecx", "edx")}
    if "hv-spinlocks=0x1fff" not in flags:
        registers[ADVICE, "ebx"] = 0xffffffff  # never notify the hypervisor of a long spin
    for bits in (ALWAYS, *(ENLIGHTENMENTS[flag] for flag in flags)):
        for place, mask in bits.items():
            registers[place] |= mask
    return registers


def assert_enlightened(leaves, flags):
    assert leaves[0x40000000, 0]["eax"] == LEAVES[-1]
    assert signature(leaves[0x40000000, 0]) == b"Microsoft Hv"
    assert leaves[0x40000001, 0] == {"eax": INTERFACE, "ebx": 0, "ecx": 0, "edx": 0}
    assert {(leaf, name): leaves[leaf, 0][name] for leaf, name in expected(flags)} == expected(flags)
    assert (0x40000002, 0) in leaves and (0x40000005, 0) in leaves
    assert signature(leaves[0x40000100, 0]) == b"KVMKVMKVM\0\0\0", "KVM's own interface moves aside"


def assert_plain(leaves):
    assert signature(leaves[0x40000000, 0]) == b"KVMKVMKVM\0\0\0"
    assert [leaf for leaf, _ in leaves if leaf in LEAVES] == [0x40000000, 0x40000001]
    assert leaves[0x40000001, 0]["eax"] != INTERFACE
    assert not any(signature(registers) == b"Microsoft Hv" for registers in leaves.values())


def test_the_probe_finds_that_kvm_works(host, guests):
    facts = host.plim("host", "show")
    assert facts["accelerators"]["kvm"] == {"works": True, "reason": None}
    assert facts["accel"] == "auto" and facts["run_as"] == "plimsoll-qemu"
    assert {host.plim("vm", "show", name)["runtime"]["accel"] for name in guests} == {"kvm"}


@pytest.mark.parametrize("name", ["windows", "windows-pc"])
def test_windows_guest_sees_exactly_the_enlightenments_asked_for(guests, name):
    arguments, leaves = guests[name]
    assert set(flags_of(arguments)) == set(ENLIGHTENMENTS)
    assert_enlightened(leaves, flags_of(arguments))


def test_chosen_enlightenments_are_seen_and_no_others(guests):
    assert_enlightened(guests["linux-chosen"][1], CHOSEN)


@pytest.mark.parametrize("name", ["linux", "windows-off"])
def test_guest_without_enlightenments_sees_no_hyperv(guests, name):
    arguments, leaves = guests[name]
    assert flags_of(arguments) == []
    assert_plain(leaves)


def test_explain_names_each_enlightenment_with_its_cause(host, guests):
    arguments, _ = guests["windows"]
    rows = {row["part"]: row for row in arguments if row["part"].startswith("hv-")}
    assert {(row["source"], row["key"], row["value"]) for row in rows.values()} == {("image", "os_type", "windows")}
    assert all(row["note"] for row in rows.values())
    text = host.plim_ok("vm", "explain", "windows")
    assert all(any(flag in line and "os_type=windows" in line for line in text.splitlines()) for flag in rows)


def test_guests_outlive_a_kill_of_the_daemon(host, guests):
    before = {name: host.plim("vm", "show", name)["runtime"] for name in guests}
    host.plimsolld_kill()
    host.sh("kill -0 " + " ".join(str(runtime["pid"]) for runtime in before.values()))
    host.plimsolld_start()
    after = {vm["name"]: vm["runtime"] for vm in host.plim("vm", "list")}
    kept = ("state", "pid", "started_at", "accel")
    assert {name: [after[name][key] for key in kept] for name in guests} == \
        {name: [before[name][key] for key in kept] for name in guests}
    adopted = {event["object"]["name"] for event in host.plim("event", "list") if event["type"] == "vm.adopted"}
    assert adopted == set(guests)
    host.plim_ok("vm", "nmi", "windows")
    wait_for(lambda: "\nnmi 1\n" in said(host, "windows"), REPORT_TIMEOUT, "a word of the adopted guest")
