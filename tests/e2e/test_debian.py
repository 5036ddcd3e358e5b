# SPDX-License-Identifier: Apache-2.0
"""What needs a real Linux guest with its agent. The tests share one, in order, and leave it running."""
import re
import shutil
import subprocess

import pytest

from daemon import PAYLOAD, until
from debian import Debian
from guest_tour import OPTIONS, PAGE, Tour, commands


@pytest.fixture(scope="module")
def debian():
    guest = Debian(*OPTIONS)
    yield guest
    guest.close()


def counted(debian):
    """NMIs by the guest's own file, as an administrator reads it there."""
    line = debian.run("grep NMI: /proc/interrupts")
    return sum(map(int, re.findall(r"\s(\d+)(?=\s)", line)))


def test_the_count_of_nmis_before_and_after_is_told(debian):
    before = counted(debian)
    words = debian.daemon.ok("vm", "nmi", "deb")
    assert words == f"deb got an NMI; it counted {before} before and {before + 1} after\n"
    assert counted(debian) == before + 1
    answer = debian.daemon.api("POST", "/v1/vms/deb/actions/nmi")
    assert answer.status == 200 and answer.body == {"before": before + 1, "after": before + 2, "note": None, "evidence": None}


def test_a_guest_without_an_agent_gets_its_nmi_and_we_say_so(debian):
    daemon = debian.daemon
    daemon.ok("vm", "create", "tiny", "--memory", "16MiB", "--kernel", PAYLOAD, "--nic", "none", "--cmdline", "job=idle")
    daemon.ok("vm", "start", "tiny")
    ran = daemon.plim("vm", "nmi", "tiny")
    assert ran.status == 0 and ran.out == "tiny got an NMI\n" and "no agent" in ran.err
    daemon.ok("vm", "kill", "tiny")
    ran = daemon.plim("vm", "nmi", "tiny")
    assert ran.status == 6 and "plim vm start tiny" in ran.err
    daemon.ok("vm", "delete", "tiny")


# ---- a disk that grows ----

MIB = 1 << 20
# Writes for as long as the file "go" is there, and counts what it wrote.
WORKLOAD = """
touch /srv/go
nohup sh -c 'n=0; while [ -e /srv/go ]; do
    dd if=/dev/zero of=/srv/block bs=64k count=16 conv=fsync && n=$((n + 1)) && echo $n >/srv/count
done' >/dev/null 2>/srv/errors &
"""


def df(debian, place):
    """(size, used) in bytes, as df tells in the guest."""
    return tuple(map(int, debian.run(f"df -B1 --output=size,used {place} | tail -n 1").split()))


def virtual_size(volume):
    done = subprocess.run(["qemu-img", "info", "-U", "--output=json", volume["path"]], capture_output=True, text=True, check=True)
    return int(re.search(r'"virtual-size": (\d+)', done.stdout)[1])


def written(debian):
    return int(debian.run("cat /srv/count 2>/dev/null || echo 0"))


def test_a_disk_grows_with_its_file_system_under_a_workload(debian):
    debian.run("udevadm settle --timeout 100; mkfs.ext4 -q /dev/vdb && mount /dev/vdb /srv")
    before = df(debian, "/srv")
    debian.run(WORKLOAD)
    words = debian.daemon.ok("disk", "grow", "deb", "data", "512MiB")
    assert words.startswith("disk data of deb had 256 MiB and has 512 MiB\nin the guest: resize2fs /dev/vdb: ")
    after, count = df(debian, "/srv"), written(debian)
    assert before[0] < 256 * MIB and before[0] * 19 < after[0] * 10 < 5120 * MIB
    until(lambda: written(debian) > count, "more writes of the workload")
    debian.run("rm /srv/go")
    assert debian.run("grep -v records /srv/errors | grep -v copied || true") == ""
    volume = next(v for v in debian.daemon.get("/v1/volumes") if v["size"] == 512 * MIB)
    assert virtual_size(volume) == 512 * MIB and volume["status"] == "ready"


def test_the_root_disk_grows_with_its_partition(debian):
    before = df(debian, "/")
    words = debian.daemon.ok("vm", "disk", "grow", "deb", "root", "3GiB", "--overcommit")
    assert "in the guest: growpart /dev/vda 1: CHANGED" in words and "resize2fs /dev/vda1" in words
    after = df(debian, "/")
    assert after[0] - before[0] > 900 * MIB and re.search(r"in the guest: / had 1\.\d GiB and has 2\.\d GiB", words)
    # Again: nothing to do, and no harm.
    again = debian.daemon.ok("vm", "disk", "grow", "deb", "root", "3GiB", "--overcommit")
    assert "NOCHANGE" in again and df(debian, "/")[0] == after[0]


def test_what_can_not_be_grown_is_refused_with_numbers_or_advice(debian):
    daemon = debian.daemon
    smaller = daemon.plim("vm", "disk", "grow", "deb", "data", "300MiB")
    assert smaller.status == 2 and "only grow" in smaller.err
    assert daemon.plim("vm", "disk", "grow", "deb", "none", "1GiB").status == 4
    assert daemon.plim("vm", "disk", "grow", "deb", "data", "1EiB").status == 2
    beyond = daemon.plim("vm", "disk", "grow", "deb", "data", "15TiB")
    assert beyond.status == 11 and re.search(r"[\d.]+ TiB are needed, [\d.]+ GiB can be used", beyond.err)
    assert "--overcommit" in beyond.err
    assert daemon.vm("deb")["runtime"]["operation"] is None
    debian.run("umount /srv")
    unmounted = daemon.plim("vm", "disk", "grow", "deb", "data", "600MiB")
    assert unmounted.status == 0 and "is not mounted" in unmounted.err and "Mount it in the guest" in unmounted.err
    debian.run("mount /dev/vdb /srv")
    assert "has 5" in daemon.ok("vm", "disk", "grow", "deb", "data", "600MiB")


def test_the_guest_s_part_may_be_left_out(debian):
    before = df(debian, "/srv")
    words = debian.daemon.ok("vm", "disk", "grow", "deb", "data", "700MiB", "--no-filesystem")
    assert words == "disk data of deb had 600 MiB and has 700 MiB\n" and df(debian, "/srv")[0] == before[0]
    assert int(debian.run("blockdev --getsize64 /dev/vdb")) == 700 * MIB


# ---- guest tools ----

def tools(debian):
    return debian.daemon.get("/v1/vms/deb/tools")


def test_what_its_tools_can_is_told_when_its_drivers_are_loaded(debian):
    until(lambda: "balloon" in tools(debian)["can"], "driver of the balloon")
    seen = tools(debian)
    assert seen["cannot"] == [] and seen["os"]["id"] == "debian"
    assert {d["device"]: d["driver"] for d in seen["drivers"]}["virtio-blk"] == "virtio_blk"
    plan = debian.daemon.ok("tools", "rollout", "--version", "99", "--dry-run")
    assert "apt-get -q -y install --only-upgrade qemu-guest-agent" in plan


def test_an_upgrade_that_restarts_the_agent_is_not_ended_with_it(debian):
    before = tools(debian)["agent"]["seen_at"]
    ran = debian.daemon.plim("tools", "rollout", "--version", "99", "--answer-within", "1s", "--command",
                             "systemctl restart qemu-guest-agent; echo it went on >/run/upgraded")
    assert ran.status == 17 and "1 of 1 guests failed" in ran.err, "an agent that stays what it was passes no gate"
    until(lambda: debian.daemon.plim("vm", "exec", "deb", "--", "cat", "/run/upgraded").out == "it went on\n", "end of the upgrade")
    until(lambda: tools(debian)["agent"]["seen_at"] != before, "word of the agent that came after it")


# ---- the tour ----

def test_the_tour_goes_as_its_page_says(debian, tmp_path):
    if shutil.which("makedumpfile") is None:
        pytest.skip("the package makedumpfile is not installed")
    told = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in told if line.startswith("$ ")] == commands(), "run tests/e2e/guest_tour.py, which writes the page"
    Tour(debian, tmp_path).play()
