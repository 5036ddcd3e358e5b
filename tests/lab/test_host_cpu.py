# SPDX-License-Identifier: Apache-2.0
"""What two unlike KVM hosts find of their CPUs, and that a guest's code sees exactly the pin it was started with."""
import json
import re

import pytest

from lablib import wait_for

# One boot of a guest takes seconds in the lab, and a first probe is two of them for each type of guest.
PROBE_TIMEOUT = 240.0
REPORT_TIMEOUT = 120.0
DUMP = "/tmp/guest.cpuid"


@pytest.fixture(scope="module")
def hosts(lab, build):
    """Lab hosts that run the daemon and have been probed; afterwards they are as they were."""
    names = ("a", "b")
    for name in names:
        lab[name].plimsolld_start()
    for name in names:
        wait_for(lambda: "kvm guests can have" in probed(lab[name]), PROBE_TIMEOUT, "the probe of " + name)
    yield {name: lab[name] for name in names}
    for name in names:
        lab[name].plimsolld_clear()
        lab[name].sh("rm -rf " + DUMP)


def probed(host):
    return "\n".join(event["message"] for event in host.plim("event", "list") if event["type"] == "host.cpu-found")


def kvm(host):
    return host.plim("host", "cpu")["guests"]["kvm"]


def started(host, name, *settings):
    host.plim_ok("vm", "create", name, "--memory", "16MiB", "--nic", "none", "--kernel", host.payload(),
                 "--cmdline", "job=idle out=serial", "platform.hvm_serial=pty", *settings)
    host.plim_ok("vm", "start", name, timeout=PROBE_TIMEOUT)
    return host.plim("vm", "show", name)


def given(host, name):
    """The features that the pin of the vm names, and the numbers beside them."""
    parts = [a["part"] for a in host.plim("vm", "explain", name)["arguments"] if a["argument"] == "-cpu"]
    text = ",".join(parts)
    assert text.startswith("base,") and ",enforce," in text
    return set(re.findall(r"([a-z0-9.-]+)=on", text)), dict(re.findall(r"(family|model|stepping|phys-bits)=(\d+)", text))


def seen(host, name):
    """What guest code reads of its CPU, decoded as the dump of any CPU is."""
    def report():
        text = host.plim_ok("vm", "console", name, "--serial", "--log").replace("\r\n", "\n")
        return text if "\nready\n" in text else None
    lines = re.findall(r"^cpuid (.*)$", wait_for(report, REPORT_TIMEOUT, "the report of " + name), re.MULTILINE)
    host.run(["/bin/sh", "-c", "cat >" + DUMP], stdin="\n".join([*lines, ""]).encode())
    return host.plim("cpu", "decode", DUMP)


def test_unlike_hosts_have_unlike_records(hosts):
    a, b = kvm(hosts["a"]), kvm(hosts["b"])
    assert "avx2" in a["default"] and "avx2" in a["max"] and "avx" in b["default"]
    assert "avx2" not in b["max"] and not set(b["max"]) - set(a["max"])
    assert a["vendor"] == b["vendor"] == "AuthenticAMD"
    # The parent that is hidden takes its children along, and nested virtualisation is not given by itself.
    assert "vaes" not in b["max"] and "svm" in a["max"] and "svm" not in a["default"]


def test_guest_code_sees_the_pin_bit_by_bit(hosts):
    for name, host in hosts.items():
        vm = started(host, "exact")
        features, numbers = given(host, "exact")
        assert vm["runtime"]["accel"] == "kvm" and features == set(kvm(host)["default"])
        cpu = seen(host, "exact")
        assert set(cpu["raw_features"]) == features and cpu["dropped"] == [], name
        assert {key: str(cpu[key.replace("-", "_")]) for key in numbers} == numbers


def test_a_lowered_pin_and_a_mask_reach_guest_code_too(hosts):
    host = hosts["a"]
    before = set(kvm(host)["default"])
    vm = started(host, "lower", "cpu.features=-avx")
    features, _ = given(host, "lower")
    assert {"avx", "avx2", "fma"} <= before - features and set(seen(host, "lower")["raw_features"]) == features
    host.plim_ok("host", "cpu", "mask", "sse4.2", "kvm-steal-time")
    try:
        masked, _ = given_anew(host, "masked")
        assert {"sse4.2", "kvm-steal-time"} <= before - masked
        assert set(seen(host, "masked")["raw_features"]) == masked
        kept = host.plim("vm", "show", "lower")["cpu"]
        assert kept["set"] == vm["cpu"]["set"] and "sse4.2" in kept["loses"]
    finally:
        host.plim_ok("host", "cpu", "unmask", "sse4.2", "kvm-steal-time")
    assert set(kvm(host)["default"]) == before


def given_anew(host, name):
    started(host, name)
    return given(host, name)


def test_a_record_goes_to_the_offline_tools_and_names_what_the_pool_would_lose(hosts):
    for name, host in hosts.items():
        record = host.plim_ok("host", "cpu", "--export")
        hosts["a"].run(["/bin/sh", "-c", f"cat >/tmp/{name}.json"], stdin=record.encode())
    level = json.loads(hosts["a"].plim_ok("cpu", "level", "-o", "json", "/tmp/a.json", "/tmp/b.json"))
    assert set(level["features"]) == set(kvm(hosts["b"])["default"])
    assert "avx2" in {lost["name"] for lost in level["lost"]}
    hosts["a"].sh("rm /tmp/a.json /tmp/b.json")
