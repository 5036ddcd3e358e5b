# SPDX-License-Identifier: Apache-2.0
"""What is asked of backups, without a guest: plans, bad input, repositories that are none."""
import json

import pytest


@pytest.fixture
def web(sim, tmp_path):
    sim.ok("vm", "create", "web", "--disk", "1GiB")
    sim.ok("vm", "start", "web")
    return sim


def backup(sim, **body):
    return sim.api("POST", "/v1/vms/web/actions/backup", body)


def test_a_plan_says_what_it_would_do(web, tmp_path):
    words = web.ok("backup", "create", "web", "--to", tmp_path, "--dry-run")
    assert words == "BACKUP_PREPARE web\nBACKUP_COPY web\nBACKUP_SEAL web\nBACKUP_SETTLE web\n"
    assert list(tmp_path.iterdir()) == []


def test_a_backup_goes_on_without_an_agent_and_says_why_it_is_full(web, tmp_path):
    ran = web.plim("backup", "create", "web", "--to", tmp_path, "--incremental")
    assert ran.status == 0 and "full backup" in ran.out and "no backup of it yet" in ran.err
    web.wait_idle("web")


@pytest.mark.parametrize("body, word", [
    ({"repository": "relative"}, "absolute path"), ({"repository": "/nowhere/at/all"}, "no folder"), ({"repository": "/etc/passwd"}, "no folder"),
    ({"repository": 1}, "a text"), ({}, "no repository"), ({"repository": "/tmp", "freeze_budget": 1}, "freeze_budget"),
    ({"repository": "/tmp", "freeze_budget": "5s"}, "a number"), ({"repository": "/tmp", "freeze_budget": 61000000}, "freeze_budget"),
    ({"repository": "/tmp", "bandwidth": 100}, "bandwidth"), ({"repository": "/tmp", "incremental": "yes"}, "true or false"),
    ({"repository": "/tmp", "more": 1}, "more")])
def test_a_wish_that_makes_no_sense_is_refused(web, body, word):
    answer = backup(web, **body)
    assert answer.status in (400, 404) and word in answer.body["message"]
    assert web.runtime("web")["operation"] is None


def test_of_a_vm_that_is_off_a_qemu_without_a_machine_has_the_disks(web, tmp_path):
    web.ok("vm", "kill", "web")
    words = web.ok("backup", "create", "web", "--to", tmp_path, "--dry-run").split("\n")
    assert words == ["DISK_CHECK root", "RUN_DIR_MAKE web", "QEMU_SPAWN web", "BACKUP_PREPARE web", "BACKUP_COPY web", "BACKUP_SEAL web",
                     "BACKUP_SETTLE web", "QEMU_QUIT web", "RUN_DIR_REMOVE web", ""]
    world = web.world()
    web.ok("backup", "create", "web", "--to", tmp_path)
    assert not [r for r in web.world() if r.startswith(("qemu", "run"))] and web.runtime("web")["state"] == "stopped"
    assert set(world) < set(web.world()), "the backup, and nothing else"


def test_a_guest_that_is_suspended_or_busy_is_refused_with_the_next_step(web, tmp_path):
    web.ok("vm", "suspend", "web")
    ran = web.plim("backup", "create", "web", "--to", tmp_path)
    assert ran.status == 6 and "plim vm start web" in ran.err
    web.ok("vm", "start", "web")
    web.order(delay_ms={"BACKUP_COPY": 60000})
    op = backup(web, repository=str(tmp_path)).body
    assert web.plim("vm", "stop", "web").status == 15
    web.ok("operation", "cancel", op["id"])
    assert web.wait_operation(op["id"])["status"] == "cancelled"
    assert web.runtime("web")["operation"] is None and not [r for r in web.world() if "backup" in r or "bitmap" in r]


def test_a_host_has_a_repository_of_its_own(web, tmp_path):
    missing = web.plim("backup", "list")
    assert missing.status == 2 and "backup.repository" in missing.err
    web.ok("host", "set", "testhost", f"backup.repository={tmp_path}")
    assert web.get("/v1/backups") == {"repository": str(tmp_path), "backups": [], "broken": []}
    web.ok("backup", "create", "web")


def folder(repo, manifest, vm="11111111-1111-4111-8111-111111111111", ident="20261121T093000Z-1a2b3c4d"):
    made = repo / vm / ident
    made.mkdir(parents=True)
    (made / "manifest.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    return made


def manifest(**changes):
    return {"format": "plimsoll-backup", "version": 1, "id": "20261121T093000Z-1a2b3c4d", "created_at": "2026-11-21T09:30:00Z",
            "consistency": "crash", "freeze": 0, "vm": {"id": "11111111-1111-4111-8111-111111111111", "name": "old", "created_at":
            "2026-11-21T09:30:00Z", "disks": [{"name": "root", "path": "/x.qcow2"}]},
            "disks": [{"name": "root", "file": "root.qcow2", "size": 1048576, "bytes": 1, "sha512": "0" * 128}]} | changes


@pytest.mark.parametrize("text", ["", "[]", "{}", manifest(version=2), manifest(id="20261121T093000Z-ffffffff"), manifest(disks=[]),
                                  manifest(disks=[{"name": "root", "file": "../../x", "size": 1, "bytes": 1, "sha512": "0" * 128}])])
def test_a_manifest_that_can_not_be_used_is_told_and_costs_the_others_nothing(sim, tmp_path, text):
    bad = folder(tmp_path, text)
    folder(tmp_path, manifest(vm=manifest()["vm"] | {"id": "22222222-2222-4222-8222-222222222222"}), "22222222-2222-4222-8222-222222222222")
    answer = sim.get(f"/v1/backups?repository={tmp_path}")
    assert [b["path"] for b in answer["broken"]] == [str(bad)] and len(answer["backups"]) == 1
    assert str(bad) in sim.plim("backup", "list", tmp_path).err


def test_only_what_is_there_is_verified_restored_or_deleted(sim, tmp_path):
    folder(tmp_path, manifest())
    child = manifest(id="20261122T093000Z-1a2b3c4d", parent="20261121T093000Z-1a2b3c4d", created_at="2026-11-22T09:30:00Z")
    folder(tmp_path, child, ident=child["id"])
    orphan = manifest(id="20261123T093000Z-1a2b3c4d", parent="20261101T093000Z-1a2b3c4d", created_at="2026-11-23T09:30:00Z")
    folder(tmp_path, orphan, ident=orphan["id"])
    for args, status, word in ((("verify", "20261130"), 4, "no backup"), (("verify", "2026"), 5, "several"), (("verify", "20261123"), 5, "is not there"),
                               (("restore", "20261122", "--name", "/x"), 2, "/x"), (("restore", "20261122", "--over", "none"), 4, "none"),
                               (("restore", "20261122", "--over", "a", "--name", "b"), 2, "not both"), (("delete", "20261121"), 5, "rests on it"),
                               (("prune",), 2, "--keep-last"), (("prune", "--keep-last", "x"), 2, "keep-last")):
        ran = sim.plim("backup", *args, "--from", tmp_path)
        assert ran.status == status and word in ran.err, (args, ran)
    assert sim.ok("backup", "prune", "--from", tmp_path, "--keep-last", 1, "--dry-run").split() == [
        "BACKUP_DELETE", "20261122T093000Z-1a2b3c4d", "BACKUP_DELETE", "20261121T093000Z-1a2b3c4d"]
    assert sim.ok("backup", "restore", "20261122", "--from", tmp_path, "--dry-run") == "VM_DIR_MAKE old\nVOLUME_RESTORE old-root\n"
    sim.ok("backup", "verify", "20261122", "--from", tmp_path)


@pytest.mark.parametrize("body, word", [({"boot": 1}, "true or false"), ({"boot_timeout": 5000000}, "none was asked for"),
                                        ({"boot": True, "boot_timeout": 10}, "boot_timeout"), ({"boot": True, "boot_timeout": "5m"}, "a number")])
def test_a_boot_that_makes_no_sense_is_refused(sim, tmp_path, body, word):
    answer = sim.api("POST", "/v1/backups/20261121T093000Z-1a2b3c4d/actions/verify", {"repository": str(tmp_path)} | body)
    assert answer.status == 400 and word in answer.body["message"]
