# SPDX-License-Identifier: Apache-2.0
"""What a vm is made of, as people set it and read it, on the simulated engine."""
import concurrent.futures

from daemon import PAYLOAD

MIB = 1 << 20
KERNEL = ("--kernel", PAYLOAD, "--nic", "none")


def listed(d):
    """The line of the only vm in `plim vm list`, without its aligning spaces."""
    return " ".join(d.ok("vm", "list", "--no-headers").split())


def test_the_list_shows_what_a_vm_has_where_nothing_was_set(sim):
    sim.ok("vm", "create", "a", *KERNEL)
    assert listed(sim).startswith("a stopped 1 512 MiB ")
    assert sim.vm("a")["effective"] == {"vcpus": 1, "memory.start": 512 * MIB}
    sim.ok("vm", "set", "a", "vcpus=2", "memory=1GiB")
    assert listed(sim).startswith("a stopped 2 1 GiB ")


def test_what_a_running_guest_has_is_shown_until_its_next_start(sim):
    sim.ok("vm", "create", "a", *KERNEL, "--memory", "256MiB")
    sim.ok("vm", "start", "a")
    sim.ok("vm", "set", "a", "memory=1GiB", "vcpus=4")
    assert sim.vm("a")["effective"] == {"vcpus": 1, "memory.start": 256 * MIB}
    assert listed(sim).startswith("a running 1 256 MiB ")
    assert sim.ok("vm", "list", "--filter", "runtime.vcpus=1", "-o", "name") == "a\n"
    sim.ok("vm", "kill", "a")
    assert listed(sim).startswith("a stopped 4 1 GiB ")
    assert sim.runtime("a")["vcpus"] is None


def devices(d, name):
    """Arguments of QEMU for network cards."""
    return [a["part"] for a in d.get(f"/v1/vms/{name}/explain")["arguments"] if a["argument"] in ("-netdev", "-device")
            and "net" in a["part"]]


def test_no_card_is_no_card(sim):
    sim.ok("vm", "create", "a", "--kernel", PAYLOAD, "--nic", "none")
    assert sim.vm("a")["nics"] == [] and devices(sim, "a") == []
    sim.ok("vm", "create", "b", "--kernel", PAYLOAD)
    assert [n["network"] for n in sim.vm("b")["nics"]] == ["user"] and len(devices(sim, "b")) == 2
    ran = sim.plim("vm", "create", "c", "--kernel", PAYLOAD, "--nic", "none", "--nic", "user")
    assert ran.status == 2 and "goes alone" in ran.err and len(sim.get("/v1/vms")) == 2


def test_a_card_without_a_network_is_not_there_and_keeps_its_address(sim):
    sim.ok("vm", "create", "a", "--kernel", PAYLOAD)
    card = sim.vm("a")["nics"][0]
    assert sim.api("PATCH", "/v1/vms/a", {"nics": [{**card, "network": "none"}]}).status == 200
    assert devices(sim, "a") == [] and "<interface" not in sim.ok("vm", "export", "a")
    assert sim.api("PATCH", "/v1/vms/a", {"nics": [{**card, "network": "user"}]}).status == 200
    assert any(card["mac"] in d for d in [a["part"] for a in sim.get("/v1/vms/a/explain")["arguments"]])


def test_changes_at_the_same_moment_all_succeed(sim):
    """Each merges into what the others left; only a caller who named a revision is refused."""
    sim.ok("vm", "create", "a", "--kernel", PAYLOAD, "--nic", "none")

    def change(key):
        return [sim.api("PATCH", "/v1/vms/a", {"properties": {f"{key}{i}": "x"}}).status for i in range(20)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        statuses = [s for done in pool.map(change, "pqrs") for s in done]
    assert set(statuses) == {200} and len(sim.vm("a")["properties"]) == 80


def test_a_guest_that_its_host_could_not_start_again_is_explained(sim):
    sim.ok("vm", "create", "a", "--kernel", PAYLOAD, "--nic", "none")
    sim.ok("vm", "start", "a")
    before = sim.get("/v1/vms/a/explain")
    assert before["blocked"] is None
    sim.order(no_accel="the module is gone")
    sim.ok("host", "probe")
    now = sim.get("/v1/vms/a/explain")
    assert now["arguments"] == before["arguments"] and now["pending"] == []
    assert "no accelerator works" in now["blocked"]["message"] and now["blocked"]["advice"]
    shown = sim.ok("vm", "explain", "a")
    assert "could not be started again" in shown and "plim host show" in shown
    sim.ok("vm", "kill", "a")
    stopped = sim.api("GET", "/v1/vms/a/explain")
    assert stopped.status >= 400 and stopped.body == {**now["blocked"], "details": stopped.body["details"]}
    assert sim.plim("vm", "start", "a").status != 0


def test_an_export_names_its_format(sim):
    sim.ok("vm", "create", "a", "--kernel", PAYLOAD)
    xml = sim.ok("vm", "export", "a", "--format", "libvirt-xml")
    assert xml.startswith("<domain") and xml == sim.ok("vm", "export", "a")
    ran = sim.plim("vm", "export", "a", "--format", "vmx")
    assert ran.status == 2 and "libvirt-xml" in ran.err
