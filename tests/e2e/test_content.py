# SPDX-License-Identifier: Apache-2.0
"""What lies in the files of images and volumes, with the real engine."""
import json
import subprocess

import pytest

from daemon import PAYLOAD

MIB = 1 << 20


def image_file(folder, name, *args):
    path = folder / name
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *map(str, args), str(path), "64M"], check=True)
    return path


def info(path):
    done = subprocess.run(["qemu-img", "info", "-U", "--output=json", path], check=True, capture_output=True)
    return json.loads(done.stdout)


@pytest.fixture
def debian(daemon, tmp_path):
    daemon.ok("image", "import", image_file(tmp_path, "plain.qcow2"), "--name", "debian")
    return daemon


def test_an_image_is_verified_and_a_changed_one_is_found(debian):
    assert debian.ok("image", "verify", "debian") == "debian is what was imported\n"
    debian.wait_event("image.verified", "debian")
    path = debian.state / "images" / (debian.get("/v1/images/debian")["id"] + ".qcow2")
    path.chmod(0o600)
    with path.open("r+b") as f:
        f.seek(70000)
        f.write(b"rot")
    ran = debian.plim("image", "verify", "debian")
    assert ran.status == 2 and "not what was imported" in ran.err and "Import it again" in ran.err


def test_volumes_of_every_kind_grow(debian):
    debian.ok("volume", "create", "plain", "--size", "64MiB")
    debian.ok("volume", "create", "flat", "--size", "64MiB", "--disk-format", "raw")
    debian.ok("volume", "create", "over", "--image", "debian")
    for name in ("plain", "flat", "over"):
        debian.ok("volume", "grow", name, "128MiB")
        volume = debian.get(f"/v1/volumes/{name}")
        assert volume["size"] == 128 * MIB == info(volume["path"])["virtual-size"]
    assert info(debian.get("/v1/volumes/over")["path"])["backing-filename"].endswith(".qcow2")


def test_an_added_disk_is_there_at_the_next_start(debian):
    debian.ok("vm", "create", "a", "--memory", "16MiB", "--kernel", PAYLOAD, "--nic", "none", "--cmdline", "job=idle")
    debian.ok("vm", "start", "a")
    debian.ok("vm", "disk", "add", "a", "name=data,image=debian,size=80MiB")
    before = debian.ok("vm", "explain", "a").split("At the next start:")
    assert "disk-data" not in before[0] and "disk-data" in before[1]
    debian.ok("vm", "kill", "a")
    debian.ok("vm", "start", "a")
    assert "disk-data" in debian.ok("vm", "explain", "a")
    ran = debian.plim("volume", "grow", "a-data", "1GiB")
    assert ran.status == 6 and info(debian.get("/v1/volumes/a-data")["path"])["virtual-size"] == 80 * MIB
    debian.ok("vm", "kill", "a")
    debian.ok("vm", "disk", "remove", "a", "data", "--delete-volume")
    assert debian.get("/v1/volumes") == [] and list((debian.state / "volumes").iterdir()) == []


def test_a_disk_that_names_another_file_is_refused_when_it_is_chosen(daemon, tmp_path):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(b"not for guests" + bytes(4096))
    evil = image_file(tmp_path, "evil.qcow2", "-b", secret, "-F", "raw")
    external = image_file(tmp_path, "external.qcow2", "-o", f"data_file={tmp_path}/data.raw")
    plain = image_file(tmp_path, "plain.qcow2")
    for path, named in ((evil, "secret.raw"), (external, "data file")):
        ran = daemon.plim("vm", "create", "a", "--kernel", PAYLOAD, "--disk", path)
        assert ran.status == 2 and named in ran.err and "plim image import" in ran.err, ran
    assert daemon.get("/v1/vms") == []
    daemon.ok("vm", "create", "a", "--kernel", PAYLOAD, "--disk", plain)
    assert daemon.plim("vm", "disk", "add", "a", f"path={evil},format=qcow2").status == 2
    answer = daemon.api("PATCH", "/v1/vms/a", {"disks": [{**daemon.vm("a")["disks"][0], "path": str(evil)}]})
    assert answer.status == 400 and "secret.raw" in answer.body["details"]["names"]
    assert [d["path"] for d in daemon.vm("a")["disks"]] == [str(plain)]


def test_a_disk_that_names_another_file_meanwhile_is_refused_at_the_start(debian):
    """By its owner's file, or by a guest that took its QEMU over: its volume."""
    secret = debian.base / "secret.raw"
    secret.write_bytes(bytes(4096))
    mine = image_file(debian.base, "mine.qcow2")
    debian.ok("vm", "create", "a", "--memory", "16MiB", "--kernel", PAYLOAD, "--nic", "none", "--cmdline", "job=idle",
              "--disk", mine, "--disk", "image=debian")
    debian.ok("vm", "start", "a")
    debian.ok("vm", "kill", "a")
    image_file(debian.base, "mine.qcow2", "-b", secret, "-F", "raw")
    ran = debian.plim("vm", "start", "a")
    assert ran.status == 2 and "mine.qcow2" in ran.err and "secret.raw" in ran.err
    assert debian.runtime("a")["state"] == "stopped" and debian.runtime("a")["operation"] is None
    image_file(debian.base, "mine.qcow2")
    debian.ok("vm", "start", "a")
    debian.ok("vm", "kill", "a")
    volume = debian.get("/v1/volumes")[0]["path"]
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", secret, "-F", "raw", volume], check=True)
    ran = debian.plim("vm", "start", "a")
    assert ran.status == 2 and "not what it was" in ran.err and "secret.raw" in ran.err
