# SPDX-License-Identifier: Apache-2.0
"""Disks and network cards that a vm gets and loses, volumes that grow, images that are read again."""
import pytest

from daemon import PAYLOAD, until

GIB = 1 << 30


@pytest.fixture
def web(sim):
    sim.ok("vm", "create", "web", "--kernel", PAYLOAD, "--disk", "1GiB")
    return sim


def names(d, kind="disks"):
    return [x["name"] for x in d.vm("web")[kind]]


def test_a_disk_is_added_listed_and_removed(web):
    web.ok("vm", "disk", "add", "web", "2GiB")
    web.ok("vm", "disk", "add", "web", "name=logs,size=3GiB,bus=virtio-scsi")
    assert names(web) == ["root", "data1", "logs"]
    assert [d["slot"] for d in web.vm("web")["disks"]] == [0, 1, 2]
    assert {v["name"]: (v["size"], v["vm"]) for v in web.get("/v1/volumes")} == \
        {f"web-{n}": (s * GIB, web.vm("web")["id"]) for n, s in (("root", 1), ("data1", 2), ("logs", 3))}
    listed = web.ok("vm", "disk", "list", "web")
    assert "web-logs" in listed and "3 GiB" in listed and "virtio-scsi" in listed and "next start" not in listed
    web.ok("vm", "disk", "remove", "web", "data1")
    assert names(web) == ["root", "logs"] and web.get("/v1/volumes/web-data1")["vm"] is None
    web.ok("vm", "disk", "remove", "web", "logs", "--delete-volume")
    assert names(web) == ["root"] and sorted(v["name"] for v in web.get("/v1/volumes")) == ["web-data1", "web-root"]
    assert len([r for r in web.world() if r.startswith("volume:")]) == 2


def test_a_volume_and_a_file_can_be_disks(web, tmp_path):
    (tmp_path / "x.raw").write_bytes(b"\0" * 4096)
    web.ok("volume", "create", "data", "--size", "2GiB")
    web.ok("vm", "disk", "add", "web", "volume=data,name=data")
    web.ok("vm", "disk", "add", "web", tmp_path / "x.raw")
    assert web.get("/v1/volumes/data")["vm"] == web.vm("web")["id"]
    assert web.vm("web")["disks"][2]["path"] == str(tmp_path / "x.raw") and web.vm("web")["disks"][2]["format"] == "raw"
    web.ok("vm", "create", "other", "--kernel", PAYLOAD)
    ran = web.plim("vm", "disk", "add", "other", "volume=data")
    assert ran.status == 5 and "plim volume list" in ran.err


def test_devices_of_a_running_guest_come_and_go_at_its_next_start(web):
    web.ok("vm", "start", "web")
    assert web.ok("vm", "disk", "add", "web", "2GiB").splitlines() == ["web got a disk", "at the next start: disk.data1"]
    assert web.ok("vm", "nic", "add", "web", "user").splitlines() == ["web got a network card", "at the next start: nic.net1"]
    assert "at the next start" in web.ok("vm", "disk", "list", "web").splitlines()[2]
    assert "at the next start" in web.ok("vm", "nic", "list", "web").splitlines()[2]
    pending = " ".join(p["will_be"] or "" for p in web.get("/v1/vms/web/explain")["pending"])
    assert "disk-data1" in pending and "nic-net1" in pending
    # What the guest has not got can go; what it uses can't.
    web.ok("vm", "disk", "remove", "web", "data1", "--delete-volume")
    ran = web.plim("vm", "disk", "remove", "web", "root")
    assert ran.status == 6 and "plim vm stop web" in ran.err and names(web) == ["root"]
    assert web.ok("vm", "nic", "remove", "web", "net0").splitlines() == \
        ["web lost network card net0", "at the next start: nic.net0"]
    web.ok("vm", "kill", "web")
    web.ok("vm", "disk", "remove", "web", "root")
    assert names(web) == [] and names(web, "nics") == ["net1"]


def test_a_card_gets_an_address_a_name_and_a_slot_of_its_own(web):
    web.ok("vm", "nic", "add", "web", "network=bridge:br0,model=e1000e")
    web.ok("vm", "nic", "add", "web", "name=lan,network=user,mac=52:54:00:00:00:07")
    nics = web.vm("web")["nics"]
    assert [(n["name"], n["network"], n["model"], n["slot"]) for n in nics] == \
        [("net0", "user", "auto", 0), ("net1", "bridge:br0", "e1000e", 1), ("lan", "user", "auto", 2)]
    assert nics[2]["mac"] == "52:54:00:00:00:07" and len({n["mac"] for n in nics}) == 3
    assert "52:54:00:00:00:07" in web.ok("vm", "nic", "list", "web")


def test_dry_runs_change_nothing(web):
    then = web.vm("web"), web.get("/v1/volumes"), web.world()
    assert web.ok("vm", "disk", "add", "web", "1GiB", "--dry-run") == "VOLUME_CREATE web-data1\n"
    assert web.ok("vm", "disk", "remove", "web", "root", "--delete-volume", "--dry-run") == "VOLUME_DELETE web-root\n"
    web.ok("vm", "nic", "add", "web", "user", "--dry-run")
    web.ok("vm", "nic", "remove", "web", "net0", "--dry-run")
    assert web.ok("volume", "grow", "web-root", "2GiB", "--dry-run") == "VOLUME_GROW web-root\n"
    assert (web.vm("web"), web.get("/v1/volumes"), web.world()) == then


WRONG = [
    (("disk", "add", "web", "name=root,size=1GiB"), 2, "root"),
    (("disk", "add", "web", "size=0"), 2, "no content"),
    (("disk", "add", "web", "volume=nowhere"), 4, "nowhere"),
    (("disk", "add", "web", "/nowhere/at/all"), 4, "/nowhere/at/all"),
    (("disk", "add", "web", "colour=red"), 2, "colour"),
    (("disk", "remove", "web", "nosuch"), 4, "plim vm disk list web"),
    (("nic", "add", "web", "moon"), 2, "bridge:NAME"),
    (("nic", "add", "web", "name=net0,network=user"), 2, "net0"),
    (("nic", "add", "web", "network=user,mac=zz"), 2, "zz"),
    (("nic", "remove", "web", "nosuch"), 4, "plim vm nic list web"),
    (("disk", "fly", "web"), 2, "plim vm disk add"),
    (("disk",), 2, "plim vm disk add"),
]


@pytest.mark.parametrize("words,status,said", WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_what_is_wrong_is_refused_and_changes_nothing(web, words, status, said):
    then = web.vm("web"), web.get("/v1/volumes"), web.world()
    ran = web.plim("vm", *words)
    assert ran.status == status and said in ran.err + ran.out, ran
    assert (web.vm("web"), web.get("/v1/volumes"), web.world()) == then


def test_a_disk_that_can_not_be_made_leaves_nothing(web):
    then = web.vm("web"), web.get("/v1/volumes"), web.world()
    web.order(fail={"VOLUME_CREATE": "no space on the simulated device"})
    ran = web.plim("vm", "disk", "add", "web", "1GiB")
    assert ran.status == 9 and "no space" in ran.err
    runtime = web.vm("web")
    assert (runtime, web.get("/v1/volumes"), web.world()) == then and runtime["runtime"]["operation"] is None


def test_nobody_changes_the_list_of_disks_while_an_operation_does(web):
    web.order(delay_ms={"VOLUME_CREATE": 60000})
    ident = web.api("POST", "/v1/vms/web/disks", {"size": GIB}).body["id"]
    busy = web.api("PATCH", "/v1/vms/web", {"disks": []})
    assert busy.status == 409 and busy.body["code"] == "busy"
    assert web.api("PATCH", "/v1/vms/web", {"description": "changed meanwhile"}).status == 200
    assert web.api("POST", f"/v1/operations/{ident}/actions/cancel").status == 202
    assert web.wait_operation(ident)["status"] == "cancelled"
    web.order()
    web.ok("vm", "disk", "add", "web", "1GiB")
    assert names(web) == ["root", "data1"] and web.vm("web")["description"] == "changed meanwhile"


def test_a_volume_grows_while_no_guest_runs_on_it(web):
    web.ok("volume", "grow", "web-root", "2GiB")
    assert web.get("/v1/volumes/web-root")["size"] == 2 * GIB
    web.ok("volume", "grow", "web-root", "2GiB")
    smaller = web.plim("volume", "grow", "web-root", "1GiB")
    assert smaller.status == 2 and "only grow" in smaller.err
    assert web.plim("volume", "grow", "web-root", "1EiB").status == 2
    web.ok("vm", "start", "web")
    ran = web.plim("volume", "grow", "web-root", "3GiB")
    assert ran.status == 6 and "`plim vm disk grow web DISK SIZE`" in ran.err
    assert web.get("/v1/volumes/web-root") ["size"] == 2 * GIB


def test_a_disk_of_a_running_guest_grows_by_other_steps(web):
    assert web.ok("vm", "disk", "grow", "web", "root", "2GiB", "--dry-run") == "VOLUME_GROW root\n"
    web.ok("vm", "start", "web")
    assert web.ok("disk", "grow", "web", "root", "2GiB", "--dry-run") == "DISK_GROW root\nGUEST_GROW root\n"
    assert web.ok("vm", "disk", "grow", "web", "root", "2GiB", "--no-filesystem", "--dry-run") == "DISK_GROW root\n"
    assert web.ok("vm", "disk", "grow", "web", "root", "2GiB").endswith("and has 2 GiB\n")
    assert web.get("/v1/volumes/web-root")["size"] == 2 * GIB and web.runtime("web")["operation"] is None
    answer = web.api("POST", "/v1/vms/web/disks/root/actions/grow", {"size": 3 * GIB, "filesystem": 1})
    assert answer.status == 400 and "filesystem" in answer.body["message"]


def test_a_vm_does_not_start_while_its_disk_grows(web):
    web.order(delay_ms={"VOLUME_GROW": 60000})
    ident = web.api("POST", "/v1/volumes/web-root/actions/grow", {"size": 2 * GIB}).body["id"]
    until(lambda: web.get("/v1/volumes/web-root")["status"] == "growing", "growth")
    assert web.plim("vm", "start", "web").status == 15
    web.kill9()
    web.order()
    web.start()
    assert web.wait_operation(ident)["status"] == "done"
    volume = web.get("/v1/volumes/web-root")
    assert (volume["size"], volume["status"]) == (2 * GIB, "ready")
    web.ok("vm", "start", "web")


def test_completion_knows_verbs_of_two_words(web):
    def words(*typed):
        return web.ok("completion", "words", *typed).split()
    verbs = words("vm", "")
    assert verbs.count("disk") == 1 and verbs.count("nic") == 1 and "start" in verbs
    assert words("vm", "disk", "") == ["list", "add", "grow", "remove"]
    assert words("vm", "disk", "add", "") == ["web"] == words("vm", "start", "")
    assert "--delete-volume" in words("vm", "disk", "remove", "web", "--")
