#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tour of a pool: three lab hosts with unlike CPUs, from `plim pool init` to the last member that leaves.

    PLIMSOLL_BUILD=/path/to/build tests/lab/pool_tour.py [docs/tour-pool.md]

plays it and writes the page, with what every command really printed. test_pool_story.py plays the same and holds
the tour to its promises.
"""
import dataclasses
import pathlib
import re
import sys

from guest import guest_leaves
from lablib import HostSpec, Lab, LabError, build_folder, wait_for

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/tour-pool.md"
# Processors of 2021, 2019 and 2008: the last has no AVX2, no AVX, no SSE4.
HOSTS = (HostSpec("host1", cpu="EPYC-Milan,+svm,+npt", memory="1536M"),
         HostSpec("host2", cpu="EPYC-Rome,+svm,+npt", memory="1536M"),
         HostSpec("host3", cpu="Opteron_G3,+svm,+npt", memory="1536M"))
ETCD = "http://10.77.0.1:2379"
ETCD_COMMAND = ("exec etcd --name e --data-dir /dev/shm/etcd --listen-client-urls {0} --advertise-client-urls {0} "
                "--unsafe-no-fsync --heartbeat-interval 500 --election-timeout 5000 >/var/log/etcd.log 2>&1")
GUEST = "web1"
CREATE = ("plim vm create web1 --kernel %s --cmdline 'job=report out=serial' --memory 16MiB --nic none "
          "property.os_type=linux platform.hvm_serial=pty")
DATABASE = ("plim vm create db1 --kernel %s --cmdline 'job=write:10' --memory 16MiB --nic none "
            "--disk name=data,size=8MiB,format=raw property.os_type=linux machine=pc")
WRITTEN = "head -n 1 /var/lib/plimsoll/volumes/*"
# Against a hang; a slow machine takes five times what a quick one does.
TIMEOUT = 600.0
SEEN_TIMEOUT = 300.0


@dataclasses.dataclass
class Do:
    """A command on a host. `TOKEN` in it is what the last `plim pool token` printed."""
    host: str
    command: str
    status: int = 0


@dataclasses.dataclass
class Seen(Do):
    """A command that is repeated until a word is in what it prints; only the last time is shown."""
    word: str = ""


@dataclasses.dataclass
class Ask:
    """The guest is asked what its CPUID shows now; for the tests, and a sentence in the page."""
    name: str


@dataclasses.dataclass
class Copy:
    """A file goes from one host to another, as with scp."""
    source: str
    target: str
    path: str


@dataclasses.dataclass
class Await:
    """Wait until a host tells an event of that type that names all these words."""
    host: str
    kind: str
    words: tuple


@dataclasses.dataclass
class Chapter:
    name: str
    title: str
    text: str
    steps: tuple


CHAPTERS = (
    Chapter("pool", "Two hosts", """\
host1 becomes a pool of one. Its records move into etcd: here one that was there already, for the sake of emulated hosts,
where each TLS handshake takes seconds; without `--etcd` the daemon runs a member itself. host2 joins with a token that is
good once; certificates and CPU levels come by themselves.""", (
        Do("host1", "plim pool init --name rack1 --address 10.77.0.1 --etcd " + ETCD),
        Do("host1", "plim pool token"),
        Do("host2", "plim pool join --token TOKEN"),
        Await("host1", "pool.level-changed", ("host2",)),
        Do("host1", "plim pool status"),
    )),
    Chapter("start", "A guest with AVX2", """\
The guest starts with what both hosts have: its pin. The guest of this tour is the payload (payload.md), which tells at
every NMI what CPUID shows to its code.""", (
        Do("host1", CREATE % "/run/payload/payload.elf"),
        Do("host1", "plim vm start web1 --host host1"),
        Do("host1", "plim vm show web1"),
        Ask("at its start"),
    )),
    Chapter("what-if", "What would happen if", """\
Before an older host is taken in, the pool says what that would cost: which features, and which guests.""", (
        Do("host3", "plim host cpu --export >/run/host3.json"),
        Copy("host3", "host1", "/run/host3.json"),
        Do("host1", "plim pool what-if join /run/host3.json"),
    )),
    Chapter("weaker", "An older host joins", """\
host3 has no AVX2. It is accepted: only guests that start from now on do without. The one that runs keeps what it has.""",
            (
        Do("host1", "plim pool token"),
        Do("host3", "plim pool join --token TOKEN"),
        Await("host1", "pool.level-changed", ("host3",)),
        Do("host1", "plim pool status"),
        Do("host1", "plim event list --no-headers | grep pool.level-changed"),
        Do("host1", "plim vm show web1"),
        Ask("after host3 joined"),
    )),
    Chapter("refused", "A move that is refused", """\
The guest found AVX2 when it booted and would crash on host3. So nothing moves, and plim says what is in the way.""", (
        Do("host1", "plim vm migrate web1 host3", 7),
        Do("host1", "plim vm explain-move web1"),
    )),
    Chapter("moves", "Moves between hosts that have it", """\
There and back. The guest is asked for its CPUID before and after: it is the same, bit by bit.""", (
        Do("host1", "plim vm migrate web1 host2"),
        Ask("on host2"),
        Do("host1", "plim vm migrate web1 host1"),
        Ask("on host1 again"),
    )),
    Chapter("disk", "A guest with a disk that only its host sees", """\
It writes into its disk, ten times a second, which of its starts it is and a count. Each host has storage of its own here, so
the disk is copied while the guest writes on, and what the first host had is gone afterwards.""", (
        Do("host1", DATABASE % "/run/payload/payload.elf"),
        Do("host1", "plim vm start db1 --host host1"),
        Seen("host1", WRITTEN, word="writer"),
        Do("host1", "plim vm migrate db1 host2"),
        Do("host2", WRITTEN),
        Do("host1", "ls /var/lib/plimsoll/volumes"),
        Do("host1", "plim vm kill db1"),
        Do("host1", "plim vm delete db1"),
    )),
    Chapter("cycle", "After a power cycle it goes everywhere", """\
At its next cold start the guest takes the pool's level.""", (
        Do("host1", "plim vm kill web1"),
        Do("host1", "plim vm start web1 --host host1"),
        Ask("after the power cycle"),
        Do("host1", "plim vm explain-move web1"),
        Do("host1", "plim vm migrate web1 host3"),
        Ask("on host3"),
        Do("host1", "plim vm migrate web1 host2"),
        Ask("on host2 with the lower level"),
    )),
    Chapter("evacuate", "A host is emptied", """\
All guests of a host leave it, for its maintenance, and come back.""", (
        Do("host1", "plim host evacuate host2"),
        Do("host1", "plim host evacuate host2 --return"),
        Do("host1", "plim vm migrate web1 host1"),
        Ask("at the end"),
    )),
    Chapter("leave", "The older host leaves", """\
First asked, then done: the level goes up again. Or host3 gets the CPU of host2: that can be asked too, with its record.""", (
        Do("host1", "plim pool what-if leave host3"),
        Do("host1", "plim pool what-if disable popcnt"),
        Do("host1", "plim host cpu host2 --export | sed s/host2/host3/ >/run/new.json"),
        Do("host1", "plim pool what-if upgrade /run/new.json"),
        Do("host3", "plim pool leave"),
        Await("host1", "pool.level-changed", ("left",)),
        Do("host1", "plim pool status"),
        Do("host1", "plim event list --no-headers | grep pool.level-changed"),
    )),
)


class Tour:
    """One run of the tour. What it saw is kept by chapter, also of a tour that broke off."""

    def __init__(self, lab):
        self.lab = lab
        self.token = ""
        self.said = {}    # (chapter, number of the step) -> what the command printed
        self.cpuid = {}   # name of an Ask -> {(leaf, subleaf): registers}
        self.vms = {}     # chapter -> the guest at its end
        self.events = {}  # chapter -> all events at its end
        self.asked = 0
        self.failure = None

    def play(self):
        for chapter in CHAPTERS:
            for number, step in enumerate(chapter.steps):
                self.step(chapter, number, step)
            host = self.lab["host1"]
            self.events[chapter.name] = host.plim("event", "list")
            self.vms[chapter.name] = next((vm for vm in host.plim("vm", "list") if vm["name"] == GUEST), None)

    def step(self, chapter, number, step):
        if isinstance(step, Seen):
            self.said[chapter.name, number] = wait_for(lambda: self.shows(step), SEEN_TIMEOUT, step.word)
        elif isinstance(step, Do):
            self.said[chapter.name, number] = self.do(step)
        elif isinstance(step, Copy):
            self.copy(step)
        elif isinstance(step, Ask):
            self.cpuid[step.name] = self.ask()
        else:
            wait_for(lambda: self.told(step), SEEN_TIMEOUT, "%s of %s" % (step.kind, " ".join(step.words)))

    def shows(self, step):
        said = self.do(step)
        return said if step.word in said else None

    def do(self, step):
        """What it printed, stdout before stderr, as it would be seen."""
        host = self.lab[step.host]
        script = "PATH=$1:$PATH; %s" % step.command.replace("TOKEN", self.token)
        done = host.run(["/bin/sh", "-c", script, "sh", str(build_folder() / "src/cli")], TIMEOUT)
        said = done.text + done.stderr.decode(errors="replace")
        if done.status != step.status:
            raise LabError("%s: %s ended with %d, not %d\n%s\n%s" % (step.host, step.command, done.status, step.status,
                                                                   said, host.plimsolld_said()))
        if step.command == "plim pool token":
            self.token = done.text.strip()
        return said

    def copy(self, step):
        text = self.lab[step.source].run(["cat", step.path]).check().stdout
        self.lab[step.target].run(["/bin/sh", "-c", 'cat >"$1"', "sh", step.path], stdin=text).check()

    def told(self, step):
        return any(event["type"] == step.kind and all(word in event["message"] for word in step.words)
                   for event in self.lab[step.host].plim("event", "list"))

    def home(self):
        """The host that the guest is on."""
        host = self.lab["host1"]
        here = host.plim("vm", "show", GUEST)["runtime"]["host"]
        return next(self.lab[each["name"]] for each in host.plim("host", "list") if each["id"] == here)

    def ask(self):
        """What CPUID shows to the guest's code now."""
        host = self.home()
        wait_for(lambda: "ready" in self.console(host) or "reported" in self.console(host) or self.asked,
                 SEEN_TIMEOUT, "the guest's first words")
        before = len(re.findall("^reported", self.console(host), re.MULTILINE))
        host.plim_ok("vm", "nmi", GUEST)
        self.asked += 1

        def answer():
            reports = re.findall(r"^nmi \d+\n(.*?)^reported \d+$", self.console(host), re.MULTILINE | re.DOTALL)
            return reports[-1] if len(reports) > before else None
        return guest_leaves(wait_for(answer, SEEN_TIMEOUT, "the guest's answer to an NMI"))

    def console(self, host):
        return host.plim_ok("vm", "console", GUEST, "--serial", "--log").replace("\r\n", "\n")


def shown(step):
    return "%s# %s" % (step.host, step.command)


def commands():
    """All commands of the tour, as the page shows them."""
    return [shown(step) for chapter in CHAPTERS for step in chapter.steps if isinstance(step, Do)]


def page(tour):
    lines = ["# A tour of a pool", "",
             "Three hosts, bought over thirteen years, as one pool. Everything below was printed by the commands shown,",
             "in the lab (lab.md): hosts are machines of QEMU with the CPUs EPYC-Milan, EPYC-Rome and Opteron_G3, in which",
             "KVM is real. `tests/lab/pool_tour.py` plays the tour and writes this page; `tests/lab/test_pool_story.py` plays",
             "it and checks it. What a command said on stderr stands behind what it printed.", ""]
    for chapter in CHAPTERS:
        lines += ["## " + chapter.title, "", *chapter.text.splitlines(), "", "```"]
        for number, step in enumerate(chapter.steps):
            if isinstance(step, Do):
                lines += [shown(step), *tour.said[chapter.name, number].rstrip().splitlines()]
                if step.status != 0:
                    lines.append("(exit status %d)" % step.status)
        lines += ["```", ""]
    return "\n".join(lines)


def prepared(lab):
    """Daemons on all hosts that know their CPUs, and the guest's kernel at the same place."""
    lab["host1"].popen(["/bin/sh", "-c", ETCD_COMMAND.format(ETCD)])
    for host in lab:
        host.plimsolld_start(restart=True)
        host.payload()
    for host in lab:
        wait_for(lambda host=host: host.plim_run("host", "cpu", "--export").status == 0, SEEN_TIMEOUT,
                 "the CPU record of " + host.name)
    return Tour(lab)


def main():
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    with Lab(*HOSTS) as lab:
        tour = prepared(lab)
        tour.play()
        target.write_text(page(tour))


if __name__ == "__main__":
    main()
