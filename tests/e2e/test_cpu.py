# SPDX-License-Identifier: Apache-2.0
"""CPU records, masks, the level and pins, on the simulated engine and with real guests under TCG."""
import json
import re

from daemon import PAYLOAD, until

KERNEL = ("--kernel", PAYLOAD, "--nic", "none")


def cpu(d):
    return d.get("/v1/hosts/testhost/cpu")


def default(d):
    return set(cpu(d)["guests"]["tcg"]["default"])


def level(d):
    """The features of the level, by the names that the host's own record gives its default set: a pool of one."""
    level, record = d.get("/v1/level"), cpu(d)["record"]
    assert level["tcg"]["set"] == record["tcg"]["default"]["set"]
    return level


def order_cpu(d, **orders):
    d.order(cpu={"tcg": orders})
    d.ok("host", "probe")


def test_the_record_of_a_host_is_its_level_in_a_pool_of_one(sim):
    seen = cpu(sim)
    assert seen["guests"]["kvm"] is None and seen["reasons"]["kvm"] == "simulated host"
    assert "avx2" in seen["guests"]["tcg"]["default"] and "svm" not in seen["guests"]["tcg"]["default"]
    assert [h["feature"] for h in seen["guests"]["tcg"]["hidden"]] == ["svm", "npt"]
    assert level(sim)["tcg"]["lost"] == [] and level(sim)["cause"]["name"] == "testhost"
    assert sim.get("/v1/hosts/testhost")["cpu_features"] == {"kvm": None, "tcg": len(default(sim))}
    exported = json.loads(sim.ok("host", "cpu", "--export"))
    assert exported == seen["record"] and exported["format"] == "plimsoll-host-record"


def test_an_exported_record_is_what_the_offline_tools_read(sim, tmp_path):
    record = tmp_path / "host.json"
    record.write_text(sim.ok("host", "cpu", "--export"))
    computed = json.loads(sim.ok("cpu", "level", record, "--guest", "tcg", "-o", "json"))
    assert set(computed["features"]) == default(sim)


def test_a_host_that_lost_a_feature_tells_its_name_and_lowers_the_level_once(sim):
    before = default(sim)
    order_cpu(sim, without=["avx2"])
    assert before - default(sim) == {"avx2", "vaes"}
    changed, = sim.events("host.cpu-changed")
    assert "avx2" in changed["details"]["removed"] and changed["details"]["added"] == []
    lowered = sim.events("pool.level-changed")[-1]
    assert "avx2" in lowered["details"]["tcg"]["removed"] and lowered["object"]["name"] == "testhost"
    assert "avx2" in lowered["message"] and "testhost changed" in lowered["message"]
    seen = len(sim.events())
    sim.ok("host", "probe")
    assert [e["type"] for e in sim.events()[seen:] if "level" in e["type"] or "cpu" in e["type"]] == []
    level(sim)


def test_a_host_too_busy_to_be_probed_has_the_cpu_it_had(sim):
    before, told = cpu(sim), len(sim.events("pool.level-changed"))
    order_cpu(sim, fail="no guest came through in time")
    assert cpu(sim) == before and len(sim.events("pool.level-changed")) == told
    sim.ok("vm", "create", "a", *KERNEL)
    sim.ok("vm", "start", "a")
    assert sim.vm("a")["cpu"]["set"] == before["record"]["tcg"]["default"]["set"]


def test_a_host_that_was_never_probed_starts_guests_without_a_pin_and_says_so(make_daemon):
    d = make_daemon("sim", start=False)
    d.order(cpu={"tcg": {"fail": "no guest came through in time"}})
    d.start()
    assert "no guest came through" in d.wait_event("host.cpu-unknown")[0]["message"]
    d.ok("vm", "create", "a", *KERNEL)
    assert "no guest came through" in json.dumps(d.get("/v1/vms/a/explain")["could_not"])
    refused = d.plim("vm", "set", "a", "cpu.features=-avx2")
    assert refused.status != 0 and "host probe" in refused.err
    d.ok("vm", "start", "a")
    assert d.vm("a")["cpu"] is None and [a["part"] for a in argument(d, "a")] == ["max"]


def test_a_restart_of_the_daemon_changes_no_level(sim):
    before, told = sim.get("/v1/level"), len(sim.events("pool.level-changed"))
    sim.restart()
    until(lambda: sim.api("GET", "/v1/hosts/testhost/cpu").status == 200, "the record")
    assert sim.get("/v1/level") == before and len(sim.events("pool.level-changed")) == told


def test_a_mask_takes_what_needs_it_along_and_gives_it_back(sim):
    before = default(sim)
    assert "avx2" in sim.ok("host", "cpu", "mask", "avx", "--dry-run") and default(sim) == before
    said = sim.ok("host", "cpu", "mask", "avx")
    gone = before - default(sim)
    assert "avx" in gone and all(name in said for name in gone) and {"avx2", "fma", "f16c"} <= gone
    assert cpu(sim)["mask"]["features"] == ["avx"] and cpu(sim)["record"]["masked"] == ["avx"]
    sim.restart()
    assert before - default(sim) == gone
    sim.ok("host", "cpu", "unmask", "avx")
    assert default(sim) == before and cpu(sim)["mask"] is None
    assert [e["details"]["masked"] for e in sim.events("host.cpu-masked")] == [["avx"], []]


def test_a_bad_mask_is_refused_and_changes_nothing(sim):
    before = cpu(sim)
    for body, status, word in [({}, 400, "features"), ({"features": ["avx99"]}, 404, "avx99"),
                               ({"features": ["hypervisor"]}, 400, "hypervisor"), ({"features": [7]}, 400, ""),
                               ({"features": []}, 400, ""), ({"feature": ["avx"]}, 400, "feature")]:
        answer = sim.api("POST", "/v1/hosts/testhost/cpu/actions/mask", body)
        assert answer.status == status and word in answer.body["message"] and answer.body["code"], (body, answer)
    assert sim.plim("host", "cpu", "mask").status != 0
    assert cpu(sim) == before


def argument(d, name):
    explained = d.get(f"/v1/vms/{name}/explain")
    return [a for a in explained["arguments"] if a["argument"] == "-cpu"]


def features_of(d, name):
    text = ",".join(a["part"] for a in argument(d, name))
    return set(re.findall(r"([a-z0-9.-]+)=on", text)), text


def test_a_vm_starts_with_the_level_and_its_own_settings_lower_it(sim):
    sim.ok("vm", "create", "a", *KERNEL)
    features, text = features_of(sim, "a")
    assert features == default(sim) and text.startswith("base,vendor=AuthenticAMD,family=15") and ",enforce," in text
    assert {a["source"] for a in argument(sim, "a")} == {"pool", "default"}
    sim.ok("vm", "set", "a", "cpu.features=-avx")
    assert default(sim) - features_of(sim, "a")[0] >= {"avx", "avx2", "fma"}
    assert "vm" in {a["source"] for a in argument(sim, "a")}
    sim.ok("vm", "set", "a", "cpu.features=auto", "cpu.level=x86-64-v2")
    assert features_of(sim, "a")[0] & {"avx", "bmi1", "movbe"} == set() and "sse4.2" in features_of(sim, "a")[0]
    sim.ok("vm", "unset", "a", "cpu.level", "cpu.features")
    some = sim.get("/v1/level")["tcg"]["set"]
    sim.ok("vm", "set", "a", f"cpu.level={some}")
    assert features_of(sim, "a")[0] == default(sim)


def test_what_no_guest_gets_unasked_is_given_when_asked(sim):
    sim.ok("vm", "create", "a", *KERNEL)
    sim.ok("vm", "set", "a", "cpu.features=+svm")
    assert features_of(sim, "a")[0] == default(sim) | {"svm", "npt"}
    sim.ok("vm", "set", "a", "cpu.features=+svm,-npt,-avx2")
    assert features_of(sim, "a")[0] >= {"svm", "avx"} and not features_of(sim, "a")[0] & {"npt", "avx2"}
    # A host that lost it refuses the start, by name.
    order_cpu(sim, without=["svm"])
    refused = sim.plim("vm", "start", "a")
    assert refused.status != 0 and "svm" in refused.err and sim.runtime("a")["state"] == "stopped"


def test_more_than_the_level_is_refused_with_names_and_a_way_out(sim):
    sim.ok("vm", "create", "a", *KERNEL)
    for setting, word in [("cpu.features=+avx512f", "avx512f"), ("cpu.level=x86-64-v4", "avx512f"),
                          ("cpu.features=+vmx", "vmx"), ("cpu.features=+invtsc", "invtsc"), ("cpu.features=avx2", "neither"),
                          ("cpu.features=-avx99", "avx99"), ("cpu.level=v2-0", "cpu.level"),
                          ("cpu.level=v1-zz", "cpu.level")]:
        ran = sim.plim("vm", "set", "a", setting)
        assert ran.status != 0 and word in ran.err and len(ran.err.splitlines()) >= 2, (setting, ran)
    sim.ok("vm", "set", "a", "cpu.features=-avx2")
    assert "cpu.model" in sim.plim("vm", "set", "a", "cpu.model=max").err
    # The level falls below what the vm was set to: the start says so.
    sim.ok("vm", "set", "a", "cpu.features=+avx2")
    order_cpu(sim, without=["avx2"])
    refused = sim.plim("vm", "start", "a")
    assert refused.status != 0 and "avx2" in refused.err and sim.runtime("a")["state"] == "stopped"


# Real guests


def started(daemon, name, job, *settings):
    daemon.ok("vm", "create", name, "--memory", "16MiB", *KERNEL, "--cmdline", f"job={job}")
    if settings:
        daemon.ok("vm", "set", name, *settings)
    daemon.ok("vm", "start", name)
    return daemon.vm(name)


def given(vm):
    """The features on the command line of the vm's QEMU."""
    words = open(f"/proc/{vm['runtime']['pid']}/cmdline", "rb").read().decode().split("\0")
    return set(re.findall(r"([a-z0-9.-]+)=on", words[words.index("-cpu") + 1]))


def test_a_running_guest_keeps_its_pin_and_a_power_cycle_takes_the_level(daemon):
    before = started(daemon, "a", "idle")
    assert before["cpu"]["guest"] == "tcg" and before["cpu"]["gains"] == before["cpu"]["loses"] == []
    assert given(before) == default(daemon) and before["cpu"]["features"] == len(given(before))
    daemon.ok("host", "cpu", "mask", "avx2")
    lost = set(daemon.vm("a")["cpu"]["loses"])
    assert "avx2" in lost and daemon.vm("a")["cpu"]["set"] == before["cpu"]["set"]
    daemon.kill9()
    daemon.start()
    daemon.wait_event("vm.adopted", "a")
    until(lambda: set(daemon.vm("a")["cpu"]["loses"]) == lost, "the same difference")
    assert daemon.runtime("a")["pid"] == before["runtime"]["pid"]
    daemon.ok("vm", "kill", "a")
    assert daemon.vm("a")["cpu"] is None
    daemon.ok("vm", "start", "a")
    assert given(daemon.vm("a")) == default(daemon) and not given(daemon.vm("a")) & lost
    assert daemon.vm("a")["cpu"]["loses"] == []


def test_a_guest_has_the_opt_in_feature_that_it_was_given(daemon):
    tcg = until(lambda: (daemon.api("GET", "/v1/hosts/testhost/cpu").body.get("guests") or {}).get("tcg"), "CPU of the host")
    assert "svm" in {h["feature"] for h in tcg["hidden"]}
    vm = started(daemon, "nested", "idle", "cpu.features=+svm")
    assert {"svm", "npt"} <= given(vm) and vm["cpu"]["gains"] == []
    assert "svm" not in given(started(daemon, "plain", "idle"))
    daemon.ok("vm", "kill", "nested", "plain")


def test_a_guest_that_reboots_takes_the_level_when_it_is_set_to(daemon):
    started(daemon, "keeps", "sleep:2s,reboot")
    first = started(daemon, "follows", "sleep:2s,reboot", "cpu.relevel=reboot")
    daemon.ok("host", "cpu", "mask", "avx2")
    told, = daemon.wait_event("vm.releveled", "follows")
    assert "avx2" in told["details"]["loses"] and told["details"]["gains"] == []
    daemon.wait_idle("follows")
    after = daemon.vm("follows")
    assert after["runtime"]["state"] == "running" and after["runtime"]["pid"] != first["runtime"]["pid"]
    assert after["cpu"]["loses"] == [] and "avx2" not in given(after)
    operation, = [o for o in daemon.get("/v1/operations") if o["kind"] == "vm.relevel"]
    assert operation["status"] == "done"
    # It reboots on and on, and has the level: nothing more is done; the other one keeps what it has.
    reboots = len(daemon.events("vm.rebooted"))
    until(lambda: len([e for e in daemon.events("vm.rebooted")[reboots:]
                       if e["object"]["name"] == "follows"]) >= 1, "another reboot")
    until(lambda: [e for e in daemon.events("vm.rebooted") if e["object"]["name"] == "keeps"], "a reboot of the other")
    assert len(daemon.events("vm.releveled")) == 1 and daemon.runtime("follows")["state"] == "running"
    assert "avx2" in daemon.vm("keeps")["cpu"]["loses"] and "avx2" in given(daemon.vm("keeps"))
    assert daemon.runtime("follows")["pid"] == after["runtime"]["pid"]
