#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tour of a guest: one Debian with its own agent and drivers, and what its host does for it.

    PLIMSOLL_BUILD=/path/to/build tests/e2e/guest_tour.py [docs/tour-guest.md]

plays it and writes the page, with what every command really printed. test_debian.py plays the same on the guest that it
has, and holds the tour to its promises.
"""
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from daemon import PLIM, ROOT, until
from debian import Debian

PAGE = ROOT / "docs/tour-guest.md"
# What the guest is created with. The tour's disk is its own.
OPTIONS = ("--memory", "512MiB", "--vcpus", "2", "--disk", "name=data,size=256MiB,format=raw", "--disk",
           "name=tour,size=64MiB,format=raw", "memory.min=384MiB", "memory.max=1GiB", "memory.low_mmio_gap=3584MiB", "memory.high_mmio_gap=64GiB")
TIMEOUT = 300.0


@dataclasses.dataclass
class Do:
    """A command, how it ends, and what must be in what it prints; `again`: it is repeated until that is there."""
    command: str
    match: str = ""
    status: int = 0
    again: bool = False


def guest(script, match="", again=False):
    """A shell's words in the guest."""
    return Do(f"plim vm exec deb --timeout 4min -- /bin/sh -c '{script}'", match, 0, again)


@dataclasses.dataclass
class Chapter:
    title: str
    text: str
    steps: tuple


WRITER = "cd /mnt; (while [ ! -e stop ]; do date >last && sync; done) >/dev/null 2>&1 &"

CHAPTERS = (
    Chapter("Memory that follows need", """\
It was created with `memory.start=512MiB`, `memory.min=384MiB` and `memory.max=1GiB`. What it holds in memory grows, and so does
its memory.""", (
        guest("free -m"),
        guest("mount -o remount,size=600m /dev/shm; head -c 350M /dev/zero >/dev/shm/filled; ls -sh /dev/shm/filled", "35.M"),
        Do("plim vm memory deb --why | tail -n 6", r"\bgrew\b", 0, True),
        Do("plim vm memory deb"),
        guest("free -m; rm /dev/shm/filled"),
    )),
    Chapter("Backups while it runs", """\
Its file systems are frozen for a moment, all disks are held at that moment, and the copy is made afterwards; the second one holds only
what was written since.""", (
        Do('mkdir backup && plim backup create deb --to "$PWD/backup"', "deb"),
        guest("head -c 5M /dev/urandom >/root/new && sync"),
        Do('plim backup create deb --to "$PWD/backup" --incremental', "deb"),
        Do('plim backup list "$PWD/backup"', "incremental"),
    )),
    Chapter("A disk grows under its file system", """\
The guest writes into the disk all the while. Its agent grows the file system; a disk does not shrink.""", (
        guest("until [ -b /dev/vdc ]; do sleep 1; done; mkfs.ext4 -q /dev/vdc && mount /dev/vdc /mnt"),
        guest(WRITER),
        guest("df -h /mnt", r"\b5\dM\b"),
        Do("plim disk grow deb tour 192MiB", "had 64 MiB and has 192 MiB"),
        guest("df -h /mnt", r"\b1[678]\dM\b"),
        Do("plim disk grow deb tour 64MiB", "only grow", 2),
        guest("touch /mnt/stop; sync; ls /mnt", "last"),
    )),
    Chapter("Evidence, and a dump of its memory", """\
What a host keeps by itself when a guest panics can be asked for at any time (evidence.md). The guest goes on after its memory
was written. makedumpfile finds the kernel's log in it, as crash does; what it says of the version is about its own age.""", (
        Do("plim evidence take deb", "deb-"),
        Do("plim evidence list --no-headers", "request"),
        Do("plim vm dump deb --to deb.kdump", "stood still"),
        Do("ls -sh deb.kdump && makedumpfile --dump-dmesg deb.kdump deb.log", "log is saved to deb.log"),
        Do("grep -E 'Linux version|EXT4-fs .vdc' deb.log | cut -c 1-120", r"(?s)Linux version 6.*EXT4-fs"),
        guest("test -e /mnt/stop && echo it goes on", "it goes on"),
    )),
    Chapter("An interrupt that can't be masked", """\
The guest's own count is told before and after.""", (
        Do("plim vm nmi deb", r"counted (\d+) before and"),
        guest("grep NMI: /proc/interrupts", "Non-maskable"),
    )),
    Chapter("The gap for PCI devices", """\
The guest was created with `memory.low_mmio_gap=3584MiB` and `memory.high_mmio_gap=64GiB`. Its kernel tells where the windows of
its root bus are: the low one begins at 512 MiB, 3584 MiB below 4 GiB, the high one is 64 GiB long. What the machine can't do is refused.""", (
        guest("dmesg | grep \"root bus resource .mem\"", r"mem 0x20000000-0x[0-9a-f]+ window"),
        Do("plim vm set deb memory=4GiB memory.max=8GiB memory.low_mmio_gap=1GiB", "can't be 1GiB on q35", 7),
    )),
    Chapter("Its console", """\
What the guest printed on its virtio console is kept, so that it can be read afterwards: its kernel's words about the NMI.
`plim vm console` talks to it, `plim vm console --web` in a browser (console.md).""", (
        Do("plim vm console deb --log | grep -A 1 'NMI received' | tail -n 2", "NMI received", 0, True),
    )),
    Chapter("Its tools", """\
What its agent and drivers are, and what that lets the host do. Its agent came before some drivers were loaded; it is asked
again half a minute later. A host that expects another version tells once, and a rollout says what it would do.""", (
        Do("plim tools show deb", "balloon, ?.*random|can: .*balloon", 0, True),
        Do("plim host set testhost tools.version=99", "was changed"),
        Do("plim tools status", "older"),
        Do("plim event list --no-headers | grep vm.tools-old", "expects 99"),
        Do("plim tools rollout --dry-run", "install --only-upgrade qemu-guest-agent"),
        Do("plim host unset testhost tools.version"),
    )),
)


class Tour:
    """One run. What the commands printed is kept by chapter and number."""

    def __init__(self, debian, folder):
        self.debian, self.folder = debian, folder
        self.said = {}

    def play(self):
        for chapter in CHAPTERS:
            for number, step in enumerate(chapter.steps):
                if step.again:
                    self.said[chapter.title, number] = until(lambda step=step: self.shows(step), step.command, TIMEOUT)
                    continue
                said = self.do(step)
                assert re.search(step.match, said), f"{step.command}: no '{step.match}' in:\n{said}"
                self.said[chapter.title, number] = said

    def shows(self, step):
        said = self.do(step)
        return said if re.search(step.match, said) else None

    def do(self, step):
        """What it printed, stdout before stderr, as it would be seen."""
        env = dict(os.environ, PLIMSOLL_SOCKET=str(self.debian.daemon.socket), LC_ALL="C.UTF-8",
                   PATH=f"{PLIM.parent}:{os.environ['PATH']}")
        done = subprocess.run(["/bin/sh", "-c", step.command], env=env, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == step.status, f"{step.command} ended with {done.returncode}, not {step.status}:\n{said}"
        return said


def commands():
    """All commands of the tour, as the page shows them."""
    return [f"$ {step.command}" for chapter in CHAPTERS for step in chapter.steps]


def page(tour):
    lines = ["# A tour of a guest", "",
             "One Debian 12 with its own kernel, virtio drivers and qemu-guest-agent, and nothing of ours in it. Everything below was",
             "printed by the commands shown, with a guest under emulation. `tests/e2e/guest_tour.py` plays the tour and writes this",
             "page; `tests/e2e/test_debian.py` plays it and checks it. What a command said on stderr stands behind what it printed.", ""]
    for chapter in CHAPTERS:
        lines += [f"## {chapter.title}", "", *chapter.text.splitlines(), "", "```"]
        for number, step in enumerate(chapter.steps):
            lines += [f"$ {step.command}", *tour.said[chapter.title, number].rstrip().splitlines()]
            if step.status != 0:
                lines.append(f"(exit status {step.status})")
        lines += ["```", ""]
    return "\n".join(lines)


def main():
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    debian = Debian(*OPTIONS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            tour = Tour(debian, folder)
            tour.play()
        target.write_text(page(tour), encoding="utf-8")
    finally:
        debian.close()


if __name__ == "__main__":
    main()
