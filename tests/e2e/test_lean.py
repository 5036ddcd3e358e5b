# SPDX-License-Identifier: Apache-2.0
"""Guests that cost no more than they need: memory beside their own, told as it is; and nobody wakes an idle one."""
import pathlib
import re
import socket
import struct
import time

from daemon import DEADLINE, PAYLOAD, until

MIB = 1 << 20
MEMORY = 64 * MIB
QUIET = 10.0  # what polls does so more often
REST = 4.0  # a QEMU that is not woken for so long rests, and does not only wait for a processor


def start(daemon, name, job="idle", *settings):
    daemon.ok("vm", "create", name, "--memory", MEMORY, "--kernel", str(PAYLOAD), "--nic", "none",
              "--cmdline", f"job={job}", *settings)
    daemon.ok("vm", "start", name)
    return daemon.runtime(name)["pid"]


def memory(daemon, name):
    return daemon.get(f"/v1/vms/{name}/memory")


def pss(pid):
    """What the kernel says of the whole process, in bytes."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(n) for n in re.findall(r"^(?:Swap)?Pss: +(\d+) kB$", text, re.M)) * 1024


def page_tables(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"^VmPTE:\s+(\d+) kB$", text, re.M)[1]) * 1024


def test_overhead_is_all_that_is_not_the_guests_memory(daemon):
    pid = start(daemon, "a", "dirty:200:40")  # for ever: on a slow host it is not through with all pages in any time
    until(lambda: memory(daemon, "a")["guest"]["resident"] >= 40 * MIB, "the guest's pages")

    def agreed():
        now = memory(daemon, "a")
        return now if abs(now["total"] - pss(pid) - page_tables(pid)) < 4 * MIB else None
    # Other QEMUs begin and end meanwhile, between the two looks too, and share its program.
    counted = until(agreed, "total that is what the kernel says")
    assert counted["guest"]["size"] == MEMORY and counted["guest"]["resident"] <= MEMORY
    assert counted["overhead"] == sum(counted["parts"].values())
    assert counted["total"] == counted["guest"]["resident"] + counted["overhead"]
    assert 5 * MIB < counted["overhead"] < 60 * MIB
    assert counted["parts"]["program"] > MIB and counted["parts"]["heap"] > MIB
    assert counted["parts"]["translated"] > 0, "under TCG guest code is translated"


def test_show_and_list_tell_it_when_asked(daemon):
    start(daemon, "a")
    daemon.ok("vm", "create", "off", "--memory", MEMORY, "--kernel", str(PAYLOAD), "--nic", "none")
    listed = {vm["name"]: vm["memory"] for vm in daemon.get("/v1/vms?memory=true")}
    assert listed["off"] is None and listed["a"]["guest"]["size"] == MEMORY
    assert all("memory" not in vm for vm in daemon.get("/v1/vms"))
    assert re.search(r"overhead", daemon.ok("vm", "show", "a"))
    head, *rows = daemon.ok("vm", "list", "--memory").splitlines()
    assert head.split() == ["NAME", "STATE", "MEMORY", "RESIDENT", "MERGED", "OVERHEAD", "TOTAL"]
    assert sorted(row.split()[0] for row in rows) == ["a", "off"]


def test_memory_of_a_guest_that_is_off_is_refused_with_advice(daemon):
    daemon.ok("vm", "create", "off", "--memory", MEMORY, "--kernel", str(PAYLOAD), "--nic", "none")
    answer = daemon.api("GET", "/v1/vms/off/memory")
    assert answer.status == 409 and "does not run" in answer.body["message"] and answer.body["advice"]
    assert daemon.api("GET", "/v1/vms?memory=perhaps").status == 400


def flags_of_ram(pid):
    """The kernel's flags of the guest's RAM."""
    text = pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    found = re.findall(rf"^Size: +{MEMORY // 1024} kB\n(?:[A-Z]\w+: .*\n)*?VmFlags: (.* dd .*)\n", text, re.M)
    assert len(found) == 1, text
    return found[0].split()


def test_pages_are_offered_for_merging_only_when_it_was_asked_for(daemon):
    assert "mg" not in flags_of_ram(start(daemon, "plain"))
    assert "mg" in flags_of_ram(start(daemon, "merged", "idle", "memory.merge=true"))


def test_merging_on_the_host_takes_three_words(daemon):
    name = daemon.get("/v1/hosts")[0]["name"]
    ran = daemon.plim("host", "set", name, "ksm=perhaps")
    assert ran.status == 2 and "auto, on, off" in ran.err
    before = daemon.get(f"/v1/hosts/{name}")["ksm"]
    daemon.ok("host", "set", name, "ksm=auto")
    after = daemon.get(f"/v1/hosts/{name}")["ksm"]
    assert before is None or before["running"] == after["running"], "auto leaves it as it is"


def switches(pid):
    """How often each thread was put to sleep, and so woken: {thread: count}."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text(encoding="utf-8")
        found[task.name] = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.M)[1])
    return found


def woken(pid, seconds, meanwhile=lambda: None):
    """Wake-ups of all threads of a process over some seconds, after `meanwhile` was done."""
    before = switches(pid)
    meanwhile()
    time.sleep(seconds)
    return sum(switches(pid).values()) - sum(before.values())


def test_neither_the_daemon_nor_those_who_look_wake_an_idle_guest(daemon):
    pid = start(daemon, "a")

    def look():
        for path in ("/v1/vms", "/v1/vms?memory=true", "/v1/vms/a", "/v1/vms/a/memory", "/metrics", "/v1/events"):
            daemon.get(path)
        daemon.ok("vm", "list")

    # QEMU itself has things to finish after a start.
    until(lambda: woken(pid, REST) == 0, "rest of an idle guest")
    assert woken(pid, QUIET, look) == 0


class Viewer:
    """As much of VNC's protocol (RFC 6143) as it takes to look once."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(path))

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            assert more, f"the screen was closed after {data}"
            data += more
        return data

    def look(self):
        """Agree, ask for the picture and read it: width, height, bits of a pixel."""
        assert self.read(12) == b"RFB 003.008\n"
        self.socket.sendall(b"RFB 003.008\n")
        assert 1 in self.read(self.read(1)[0]), "nobody asks for a password"
        self.socket.sendall(b"\1")
        assert self.read(4) == bytes(4)
        self.socket.sendall(b"\1")
        width, height, bits, name = struct.unpack(">HHB15xI", self.read(24))
        self.read(name)
        self.socket.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        kind, rectangles = struct.unpack(">BxH", self.read(4))
        assert kind == 0 and rectangles > 0
        for _ in range(rectangles):  # all read: QEMU and plim wait for a viewer who does not
            w, h, encoding = struct.unpack(">4xHHi", self.read(12))
            assert encoding == 0, "nothing else was agreed on"
            self.read(w * h * bits // 8)
        return width, height, bits


def offered(daemon, name, path):
    """plim that offers the screen, once it does."""
    plim = daemon.begin("vm", "display", name, path)
    assert str(path) in plim.stdout.readline(), plim.communicate()
    return plim


def test_a_screen_is_shown_and_costs_next_to_nothing_when_nobody_looks(daemon):
    pid = start(daemon, "a", "idle", "platform.video=std", "platform.vnc=true")
    arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert arguments[arguments.index(b"-vnc") + 1] == b"none", "QEMU itself listens nowhere"
    path = daemon.base / "screen"
    plim = offered(daemon, "a", path)
    assert path.stat().st_mode & 0o777 == 0o600
    viewer = Viewer(path)
    width, height, bits = viewer.look()
    assert width >= 640 and height >= 400 and bits == 32
    viewer.socket.close()
    assert plim.wait(DEADLINE) == 0 and not path.exists()
    # Every 3 s QEMU looks itself; with a viewer it would be 33 times as often.
    until(lambda: woken(pid, 4.0) <= 4, "rest after the viewer left")


def test_a_display_that_nobody_can_look_at_wakes_nobody(daemon):
    pid = start(daemon, "a", "idle", "platform.video=std")
    assert b"-vnc" not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    until(lambda: woken(pid, REST) == 0, "rest of an idle guest")
    assert woken(pid, 4.0) == 0, "a VNC server would look every 3 s"


def test_two_look_at_once_and_a_viewer_goes_with_his_guest(daemon):
    start(daemon, "a", "idle", "platform.video=std", "platform.vnc=true")
    paths = [daemon.base / "one", daemon.base / "two"]
    plims = [offered(daemon, "a", path) for path in paths]
    viewers = []  # kept: a viewer whom nobody holds has gone
    for path in paths:
        viewers.append(Viewer(path))
        assert viewers[-1].look()[2] == 32
    daemon.ok("vm", "kill", "a")
    assert [plim.wait(DEADLINE) for plim in plims] == [0, 0]


def test_what_has_no_screen_and_what_is_no_socket_is_refused_with_advice(daemon, tmp_path):
    start(daemon, "a")
    plim = offered(daemon, "a", daemon.base / "screen")
    Viewer(daemon.base / "screen")
    assert plim.wait(DEADLINE) != 0
    said = plim.stderr.read()
    assert "to nobody" in said and "platform.vnc=true" in said and "platform.video=std" in said
    precious = tmp_path / "file"
    precious.write_text("kept")
    ran = daemon.plim("vm", "display", "a", precious)
    assert ran.status == 5 and "no socket" in ran.err and precious.read_text() == "kept"
    daemon.ok("vm", "kill", "a")
    answer = daemon.api("GET", "/v1/vms/a/display")
    assert answer.status == 409 and answer.body["advice"]


def explain(daemon, *settings):
    """What the next start of vm a would use, with these settings too."""
    daemon.ok("vm", "set", "a", *settings)
    return daemon.get("/v1/vms/a/explain")


def test_a_pointer_comes_with_a_screen_and_without_usb(daemon):
    daemon.ok("vm", "create", "a", "--memory", MEMORY, "--kernel", str(PAYLOAD), "--nic", "none")

    def devices(*settings):
        return [a["part"] for a in explain(daemon, *settings)["arguments"] if a["argument"] == "-device"]

    assert not any("tablet" in d for d in devices("platform.video=none"))
    assert any(d.startswith("virtio-tablet-pci") for d in devices("platform.video=std"))
    assert not any("usb" in d for d in devices("platform.video=std"))
    both = devices("platform.usb_tablet=true")
    assert any(d.startswith("usb-tablet") for d in both) and not any("virtio-tablet" in d for d in both)
    assert any("virtio-tablet" in d for d in devices("platform.tablet=virtio"))
    assert daemon.plim("vm", "set", "a", "platform.tablet=usb").status == 2
    blind = explain(daemon, "platform.vnc=true", "platform.video=none")
    assert "platform.vnc" in [c["what"] for c in blind["could_not"]]
    assert "-vnc" not in [a["argument"] for a in blind["arguments"]]
