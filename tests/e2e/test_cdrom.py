# SPDX-License-Identifier: Apache-2.0
"""CDs that come and go while a guest runs, and what each device of a Linux guest costs while nobody uses it.

One guest with drivers for all of them serves the whole file: it boots once.
"""
import hashlib
import pathlib
import shutil
import tempfile

import pytest

from daemon import PAYLOAD, Daemon, until
from linux_guest import linux_guest
from test_wakeups import Monitor, counted, source

BOOT = 240
SECTOR = 2048


def cd_image(path, seed):
    """A file that no other CD is equal to; its sha256."""
    data = hashlib.sha256(seed.encode()).digest() * (64 * SECTOR // 32)
    path.write_bytes(data)
    path.chmod(0o644)
    return hashlib.sha256(data).hexdigest()


class Guest:
    name = "g"

    def __init__(self, daemon, folder):
        self.daemon, self.folder = daemon, folder
        kernel, initrd = linux_guest(folder, script="device_guest.sh")
        daemon.ok("vm", "create", "g", "--memory", "192MiB", "--kernel", kernel, "--initrd", initrd, "--nic", "none", "--cmdline",
                  "console=ttyS0 quiet no_timer_check mitigations=off panic=1", "--set", "platform.hvm_serial=pty",
                  "--set", "platform.hpet=true", "--set", "platform.usb_tablet=true", "--set", "restart=never",
                  # The daemon's own look at a guest that costs much is in the way of those that are asked for here.
                  "--set", "idle.wakeups=0", "--set", "idle.cpu=0")
        daemon.ok("vm", "start", "g")
        until(lambda: daemon.agent_answers("g"), "agent of the guest", BOOT)

    def sh(self, script):
        return self.daemon.ok("vm", "exec", "g", "--timeout", "120s", "--", "/bin/sh", "-euc", script).strip()

    def has_cd(self):
        return self.sh("ls /sys/block | grep -c sr0 || true") == "1"

    def sha256(self):
        """Of what is in the drive. Empty when there is none, or when it goes meanwhile."""
        return self.sh("sha256sum /dev/sr0 2>/dev/null || true")[:64]

    def grants(self):
        """QEMU runs as a user who is given what it opens."""
        return self.daemon.get("/v1/hosts/testhost")["run_as"] is not None

    def cd(self):
        return self.daemon.get("/v1/vms/g/cdrom")


@pytest.fixture(scope="module")
def guest():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plim-cds-"))
    folder.chmod(0o755)
    d = Daemon("qemu")
    try:
        d.start()
        yield Guest(d, folder)
    finally:
        d.close()
        shutil.rmtree(folder)


def until_counted(daemon, seconds, check, what):
    """A report for which that holds: the guest may get no processor in all of those seconds, or finish what was before them."""
    reports = []

    def look():
        reports.append(counted(daemon, "g", seconds))
        return reports[-1] if check(reports[-1]) else None
    try:
        return until(look, what)
    except AssertionError as error:
        raise AssertionError(f"{error}: {reports[-1]}") from None


def until_none(daemon, seconds, *sources):
    """
    In a report of a guest that ran. (The watchdog of its clock, on the HPET, is no sign of that: a kernel that got no
    processor for a while trusts that clock no more, and looks at it no more.)
    """
    def quiet(report):
        return sum(i["vcpu_cpu"] for i in report["intervals"]) > 5000 and not any(source(report, s) for s in sources)
    until_counted(daemon, seconds, quiet, f"{seconds} s without {', '.join(sources)}")


AWAKE = "for power in /sys/bus/usb/devices/*/power/control; do echo on > $power; done"
OPEN = """
for name in /sys/class/input/event*/device/name; do
    if grep -q Tablet $name; then exec 9< /dev/input/$(echo $name | cut -d/ -f5); sleep 1000 > /dev/null 2>&1 & fi
done"""


def test_an_hpet_is_named_though_it_is_only_the_watchdog_of_the_clock(guest):
    def named(report):
        return source(report, "hpet") > 0 and any(a["setting"] == "platform.hpet=false" for a in report["advice"])
    until_counted(guest.daemon, 3, named, "advice about the HPET")


def test_our_usb_tablet_wakes_nobody_though_it_is_open_and_may_not_sleep(guest):
    guest.sh(AWAKE + OPEN)
    until_none(guest.daemon, 3, "usb", "usb-uhci")


def test_a_usb_tablet_on_an_old_controller_is_named(guest):
    """Our profiles have no such controller: one is plugged in behind the daemon's back, as QEMU's -usb would have it."""
    monitor = Monitor(guest.daemon, "g")
    monitor.ask("device_add", driver="piix3-usb-uhci", id="old", bus="cd-port")
    monitor.ask("device_add", driver="usb-tablet", id="oldtablet", bus="old.0")
    until(lambda: guest.sh("cat /sys/bus/usb/devices/*/product || true").count("Tablet") == 2, "old tablet in the guest")
    guest.sh(AWAKE + OPEN)
    report = until_counted(guest.daemon, 3, lambda r: source(r, "usb-uhci") > 1000, "thousands of events of the old controller")
    assert "platform.usb_tablet=false" in report["advice"][0]["setting"], report["advice"]
    monitor.ask("device_del", id="old")
    until(lambda: "old" not in [d["name"] for d in monitor.ask("qom-list", path="/machine/peripheral")], "end of the controller")


def test_a_cd_is_read_while_it_is_in_and_nothing_is_left_of_it(guest):
    iso = guest.folder / "tools.iso"
    digest = cd_image(iso, "tools")
    assert not guest.has_cd() and guest.cd()["drive"] == "none"
    guest.daemon.ok("vm", "cdrom", "insert", "g", iso)
    until(guest.has_cd, "CD drive in the guest")
    assert guest.sha256() == digest
    assert guest.cd() == {"drive": "scsi", "path": str(iso), "image": None, "at_next_start": None}
    assert str(iso) in guest.daemon.ok("vm", "explain", "g")
    assert guest.daemon.runtime("g")["pending"] == []
    guest.daemon.ok("vm", "cdrom", "eject", "g")
    until(lambda: not guest.has_cd(), "guest without a CD drive")
    assert guest.cd()["drive"] == "none" and guest.daemon.runtime("g")["pending"] == []


def test_a_guest_that_uses_its_cd_keeps_it_unless_force_is_used(guest):
    iso = guest.folder / "used.iso"
    digest = cd_image(iso, "used")
    guest.daemon.ok("vm", "cdrom", "insert", "g", iso)
    until(guest.has_cd, "CD drive in the guest")
    guest.sh("exec 9< /dev/sr0; sleep 1000 > /dev/null 2>&1 & echo $! > /run/user")  # it is open before this returns
    ran = guest.daemon.plim("vm", "cdrom", "eject", "g")
    assert ran.status == 15 and "has locked the CD drive" in ran.err and "plim vm cdrom eject g --force" in ran.err, ran
    assert guest.sha256() == digest and guest.cd()["path"] == str(iso)
    guest.daemon.ok("vm", "cdrom", "eject", "g", "--force")
    until(lambda: not guest.has_cd(), "guest without a CD drive")
    guest.sh("kill $(cat /run/user)")


def test_another_cd_takes_the_place_of_the_first(guest):
    first, second = guest.folder / "one.iso", guest.folder / "two,2.iso"
    cd_image(first, "one")
    digest = cd_image(second, "two")
    guest.daemon.ok("vm", "cdrom", "insert", "g", first)
    assert guest.daemon.ok("vm", "cdrom", "insert", "g", second, "--dry-run").split("\n")[:-1] == \
        [*(["DISK_GRANT cdrom"] if guest.grants() else []), "CD_EJECT cdrom", "CD_INSERT cdrom",
         *(["DISK_REVOKE cdrom"] if guest.grants() else [])]
    guest.daemon.ok("vm", "cdrom", "insert", "g", second)
    until(lambda: guest.sha256() == digest, "content of the second CD in the guest")
    guest.daemon.ok("vm", "cdrom", "eject", "g")
    until(lambda: not guest.has_cd(), "guest without a CD drive")


def test_an_image_of_the_store_is_read_and_can_not_be_deleted_meanwhile(guest):
    iso = guest.folder / "store.iso"
    digest = cd_image(iso, "store")
    guest.daemon.ok("image", "import", iso, "--name", "tools", "--source-format", "raw")
    guest.daemon.ok("vm", "cdrom", "insert", "g", "tools")
    until(guest.has_cd, "CD drive in the guest")
    assert guest.sha256() == digest and guest.cd()["image"]["name"] == "tools"
    ran = guest.daemon.plim("image", "delete", "tools")
    assert ran.status == 5 and "g" in ran.err, ran
    guest.daemon.ok("vm", "cdrom", "eject", "g")
    until(lambda: not guest.has_cd(), "guest without a CD drive")
    guest.daemon.ok("image", "delete", "tools")


def test_a_cd_that_is_polled_is_named_and_nothing_is_when_it_is_ejected(guest):
    """A stock distribution polls each drive that is there every 2 s: udev has it done, which this guest has not."""
    iso = guest.folder / "polled.iso"
    cd_image(iso, "polled")
    guest.daemon.ok("vm", "cdrom", "insert", "g", iso)
    until(guest.has_cd, "CD drive in the guest")
    guest.sh("echo 500 > /sys/block/sr0/events_poll_msecs")
    report = until_counted(guest.daemon, 4, lambda r: source(r, "cdrom") >= 4, "a poll each half a second")
    assert any(a["source"] == "cdrom" and "plim vm cdrom eject" in a["text"] for a in report["advice"]), report["advice"]
    guest.daemon.ok("vm", "cdrom", "eject", "g")
    until(lambda: not guest.has_cd(), "guest without a CD drive")
    until_none(guest.daemon, 4, "cdrom", "sata", "ide", "virtio-scsi", "pci")


def inserted(daemon, name):
    """The file in the CD drive of the QEMU that runs; None: there is a drive, and it is empty; False: there is none."""
    drives = [b for b in Monitor(daemon, name).ask("query-block") if b.get("qdev", "").split("/")[-1] in ("cd", "cdrom")]
    return drives[0].get("inserted", {}).get("file") if drives else False


def payload(daemon, name, *more):
    daemon.ok("vm", "create", name, "--memory", "16MiB", "--kernel", str(PAYLOAD), "--nic", "none", "--cmdline", "out=serial job=idle",
              *more)


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_an_inserted_cd_is_there_again_after_a_restart(guest, machine):
    daemon, iso = guest.daemon, guest.folder / "again.iso"
    cd_image(iso, "again")
    payload(daemon, "r", "--set", f"machine={machine}")
    daemon.ok("vm", "start", "r")
    daemon.ok("vm", "cdrom", "insert", "r", iso)
    assert inserted(daemon, "r") == str(iso)
    daemon.ok("vm", "kill", "r")
    assert daemon.get("/v1/vms/r/cdrom")["path"] == str(iso) and str(iso) in daemon.ok("vm", "explain", "r")
    daemon.ok("vm", "start", "r")
    assert inserted(daemon, "r") == str(iso) and daemon.runtime("r")["pending"] == []
    daemon.ok("vm", "cdrom", "eject", "r")
    assert inserted(daemon, "r") is False
    daemon.ok("vm", "kill", "r")
    daemon.ok("vm", "start", "r")
    assert inserted(daemon, "r") is False
    daemon.ok("vm", "kill", "r")
    daemon.ok("vm", "delete", "r")


def test_a_drive_that_is_there_for_good_has_its_medium_changed(guest):
    daemon, first, second = guest.daemon, guest.folder / "installer.iso", guest.folder / "drivers.iso"
    for path in (first, second):
        cd_image(path, path.name)
    payload(daemon, "f", "--set", f"platform.cdrom={first}", "--set", "property.os_type=windows")
    daemon.ok("vm", "start", "f")
    assert inserted(daemon, "f") == str(first) and daemon.get("/v1/vms/f/cdrom")["drive"] == "sata"
    daemon.ok("vm", "cdrom", "insert", "f", second)
    assert inserted(daemon, "f") == str(second) and daemon.runtime("f")["pending"] == []
    daemon.ok("vm", "cdrom", "eject", "f")
    assert inserted(daemon, "f") is None and daemon.get("/v1/vms/f/cdrom")["path"] is None
    daemon.ok("vm", "kill", "f")
    daemon.ok("vm", "start", "f")
    assert inserted(daemon, "f") is None, "it was ejected, and is not back"
    daemon.ok("vm", "set", "f", f"platform.cdrom={second}")
    assert daemon.get("/v1/vms/f/cdrom")["at_next_start"]["path"] == str(second)
    daemon.ok("vm", "kill", "f")
    daemon.ok("vm", "delete", "f")


def test_a_daemon_that_is_killed_while_a_cd_goes_in_leaves_all_or_nothing(guest):
    daemon, iso = guest.daemon, guest.folder / "killed.iso"
    cd_image(iso, "killed")
    payload(daemon, "k")
    daemon.ok("vm", "start", "k")
    answer = daemon.api("PUT", "/v1/vms/k/cdrom", {"path": str(iso)})
    assert answer.status == 202, answer
    daemon.kill9()
    daemon.start()
    daemon.wait_operation(answer.body["id"])
    daemon.wait_idle("k")
    there = daemon.get("/v1/vms/k/cdrom")["path"]
    assert inserted(daemon, "k") == (there or False)
    daemon.ok("vm", "kill", "k")
    daemon.ok("vm", "delete", "k")


# Without QEMU


@pytest.fixture
def web(sim):
    sim.ok("vm", "create", "web", "--nic", "none")
    return sim


def test_the_plan_is_shown_and_nothing_is_done(web):
    web.ok("vm", "start", "web")
    assert web.ok("vm", "cdrom", "insert", "web", "/srv/tools.iso", "--dry-run") == "CD_INSERT cdrom\n"
    assert web.vm("web")["cdrom"] is None and web.get("/v1/vms/web/cdrom")["drive"] == "none"
    web.ok("vm", "cdrom", "insert", "web", "/srv/tools.iso")
    assert web.ok("vm", "cdrom", "eject", "web", "--dry-run") == "CD_EJECT cdrom\n"
    assert "/srv/tools.iso" in web.ok("vm", "cdrom", "show", "web")


def test_a_vm_that_is_off_gets_its_cd_at_its_start(web):
    assert web.ok("vm", "cdrom", "insert", "web", "/srv/tools.iso", "--dry-run") == ""
    web.ok("vm", "cdrom", "insert", "web", "/srv/tools.iso")
    assert "/srv/tools.iso" in web.ok("vm", "explain", "web")
    web.ok("vm", "start", "web")
    assert web.runtime("web")["pending"] == []
    web.ok("vm", "kill", "web")
    web.ok("vm", "cdrom", "eject", "web")
    assert "/srv/tools.iso" not in web.ok("vm", "explain", "web")


def test_an_eject_that_fails_leaves_the_cd_in(web):
    web.ok("vm", "start", "web")
    web.ok("vm", "cdrom", "insert", "web", "/srv/tools.iso")
    web.order(fail={"CD_EJECT": "the guest has locked the CD drive"})
    ran = web.plim("vm", "cdrom", "eject", "web")
    assert ran.status != 0 and "has locked" in ran.err
    assert web.vm("web")["cdrom"]["path"] == "/srv/tools.iso"
    assert any("cd:" in r for r in web.world())


@pytest.mark.parametrize("words, status, advice", [
    (("insert", "web", "nosuchimage"), 4, "plim image list"),
    (("eject", "web"), 6, "plim vm cdrom show"),
    (("insert", "nosuch", "/srv/a.iso"), 4, "nosuch"),
    (("insert", "web"), 2, "plim vm cdrom insert"),
])
def test_what_makes_no_sense_is_refused_with_advice(web, words, status, advice):
    ran = web.plim("vm", "cdrom", *words)
    assert ran.status == status and advice in ran.err, ran


@pytest.mark.parametrize("body", [{}, {"image": "a", "path": "/b"}, {"path": "b.iso"}, {"path": "/b\nc"}, {"path": "/@fd:qmp@"},
                                  {"path": "/b", "force": 1}, {"path": 5}, {"drive": "sata"}])
def test_a_body_that_makes_no_sense_is_refused(web, body):
    answer = web.api("PUT", "/v1/vms/web/cdrom", body)
    assert answer.status == 400, answer


def test_windows_takes_no_drive_while_it_runs_and_finds_one_when_it_starts(web):
    web.ok("vm", "create", "win", "--nic", "none", "--set", "property.os_type=windows")
    web.ok("vm", "start", "win")
    ran = web.plim("vm", "cdrom", "insert", "win", "/srv/drivers.iso")
    assert ran.status != 0 and "plim vm stop win" in ran.err, ran
    web.ok("vm", "kill", "win")
    web.ok("vm", "cdrom", "insert", "win", "/srv/drivers.iso")
    assert web.get("/v1/vms/win/cdrom")["drive"] == "sata"
    web.ok("vm", "start", "win")
    web.ok("vm", "cdrom", "eject", "win")
    assert web.get("/v1/vms/win/cdrom")["at_next_start"]["drive"] == "none"
