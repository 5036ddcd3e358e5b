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
