# SPDX-License-Identifier: Apache-2.0
"""Lab and Host: KVM hosts as QEMU machines, on a network of their own.

A lab host is a QEMU machine under TCG, whose emulated SVM makes it a real KVM host for what runs in it. It
boots this machine's own root file system, read-only, with a writable layer of its own above.
"""
import dataclasses
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import time

from .errors import LabError, LabTimeout, Unavailable
from .guard import Guard
from .kernel import boot_files, tool
from .product import Product
from .session import Session
from .tsc import tsc_khz

QEMU = "qemu-system-x86_64"
BOOT_TIMEOUT = 300.0
CONNECT_TIMEOUT = 60.0  # for QEMU to be started and to connect back
END_TIMEOUT = 1.0  # from the loss of the connection to the end of the process, which then is most likely
NETWORK = "10.77.0."
MTU = 9000  # without offloads the network's speed follows the size of its frames: 1.5 times that of 1500
HOSTS_MAX = 16
WORDS_MAX = 2000  # how much of a console goes into an error
NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
SIZE = re.compile(r"[0-9]{1,6}[MG]")
# no_timer_check: on a busy machine the timer interrupt comes late, and the kernel would panic.
KERNEL_WORDS = ("console=ttyS0 quiet panic=-1 rdinit=/init tsc=reliable nowatchdog no_timer_check net.ifnames=0 "
                "cgroup_no_v1=all audit=0")


@dataclasses.dataclass
class HostSpec:
    """What a lab host is made of.

    cpu   what QEMU's -cpu takes. Without svm there is no /dev/kvm in it; VMX is not emulated, so all are AMD.
    disk  a size: what the host writes goes to a disk of its own and survives power_cut(); None: to memory.
    """
    name: str
    cpu: str = "max"
    memory: str = "2G"
    smp: int = 1
    disk: str = None

    def check(self):
        if not NAME.fullmatch(self.name):
            raise LabError("'%s' is no host name: up to 32 small letters, digits and dashes" % self.name)
        for size in (self.memory, self.disk):
            if size is not None and not SIZE.fullmatch(size):
                raise LabError("'%s' is no size: a number and M or G, as in 2G" % size)
        if not 1 <= self.smp <= 64:
            raise LabError("%d processors: a host has 1 to 64" % self.smp)


class Lab:
    """Hosts that run until the lab is closed; leave it to `with`. However the process ends, nothing stays."""

    def __init__(self, *specs, boot_timeout=BOOT_TIMEOUT):
        self.boot_timeout = boot_timeout
        for spec in specs:
            spec.check()
        names = [spec.name for spec in specs]
        if not 1 <= len(specs) <= HOSTS_MAX or len(set(names)) != len(names):
            raise LabError("a lab has 1 to %d hosts, each with a name of its own" % HOSTS_MAX)
        if shutil.which(QEMU) is None:
            raise Unavailable("%s is missing: install the package qemu-system-x86" % QEMU)
        self.kernel, self.initrd = boot_files()
        self.guard = Guard()
        self.hosts = {spec.name: Host(self, spec, number) for number, spec in enumerate(specs, 1)}
        self.hub = Hub(self, names) if len(specs) > 1 else None

    def __enter__(self):
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception):
        self.close()

    def __getitem__(self, name):
        try:
            return self.hosts[name]
        except KeyError:
            raise LabError("no lab host '%s'; there are %s" % (name, ", ".join(self.hosts))) from None

    def __iter__(self):
        return iter(self.hosts.values())

    def boot(self):
        """Start all hosts at once; returns when each takes commands."""
        if self.hub:
            self.hub.start()
        for host in self:
            host.start()
        for host in self:
            host.wait_up()

    def close(self):
        self.guard.close()
        for host in self:
            host.session_close()

    def path(self, name):
        """Of a file in the lab's folder, which goes with the lab."""
        return os.path.join(self.guard.folder, name)


class Host(Product):
    """One lab host. The other hosts of its lab reach it by its `address` and by its name."""

    def __init__(self, lab, spec, number):
        self.lab = lab
        self.spec = spec
        self.name = spec.name
        self.number = number
        self.address = NETWORK + str(number)
        self.process = None
        self.session = None
        self.starts = 0

    def start(self):
        """Power on. Follow with wait_up()."""
        if self.process and self.process.wait(0) is None:
            raise LabError("lab host '%s' runs already" % self.name)
        self.session_close()
        self.starts += 1
        self.console = self.lab.path("%s.console.%d" % (self.name, self.starts))
        self.log = self.lab.path("%s.qemu.%d" % (self.name, self.starts))
        disk = self.disk_make()
        with Listener(self.lab.path(self.name + ".agent")) as listener:
            self.process = self.lab.guard.spawn(self.argv(listener.path, disk), self.log)
            agent = listener.accept(self.process, self.last_words)
        self.session = Session(agent, "lab host '%s'" % self.name, self.last_words, pulse=True)

    def wait_up(self):
        """Returns when it takes commands; one that doesn't in time is powered off."""
        up = self.session.up.wait(self.lab.boot_timeout)
        if self.session.gone:
            raise LabError("lab host '%s' ended during its boot%s" % (self.name, self.last_words()))
        if not up:
            self.power_cut()
            raise LabTimeout("lab host '%s' was not up after %g s%s"
                             % (self.name, self.lab.boot_timeout, self.last_words()))

    def run(self, argv, timeout=180.0, env=None, cwd="/", stdin=b""):
        """Run a command to its end and return its Result, whatever its status.

        After `timeout` seconds it is killed with all that it started: LabTimeout, with what it had printed.
        """
        command = self.popen(argv, env, cwd)
        command.write(stdin)
        command.close_stdin()
        return command.wait(timeout)

    def sh(self, script, timeout=180.0, **more):
        """Run a shell script that has to succeed (-e), and return what it printed, as text."""
        return self.run(["/bin/sh", "-ec", script], timeout, **more).check().text

    def popen(self, argv, env=None, cwd="/"):
        """Start a command and return it running: a session.Command, with write(), read(), wait(), kill()."""
        if self.session is None:
            raise LabError("lab host '%s' is not running" % self.name)
        return self.session.start(argv, env, cwd)

    def power_cut(self):
        """As if the plug was pulled: nothing is flushed. start() and wait_up() bring it back."""
        if self.process:
            self.process.signal(signal.SIGKILL)
            self.process.wait(None)
        self.session_close()

    def freeze(self):
        """All of it stops, its clock included, until thaw(): a host that hangs."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        self.process.signal(signal.SIGCONT)

    def link(self, up):
        """Plug or unplug its network cable, at the far end: the host itself sees no loss of carrier."""
        if self.lab.hub is None:
            raise LabError("a lab of one host has no network")
        self.lab.hub.qmp("set_link", name="to-" + self.name, up=up)

    def session_close(self):
        if self.session:
            self.session.close()
            self.session = None

    def last_words(self):
        """How QEMU ended, and what it and the console said last; to end an error message with."""
        status = self.process.wait(END_TIMEOUT) if self.process else None
        said = "" if status is None else "QEMU ended with status %d\n" % status
        for path in (self.log, self.console):
            try:
                with open(path, "rb") as file:
                    said += file.read().decode(errors="replace")
            except OSError:
                pass
        return "; it said last:\n" + said[-WORDS_MAX:].strip() if said.strip() else ""

    def disk_make(self):
        if self.spec.disk is None:
            return None
        path = self.lab.path(self.name + ".disk")
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.truncate(int(self.spec.disk[:-1]) << {"M": 20, "G": 30}[self.spec.disk[-1]])
            tool(["/usr/sbin/mkfs.ext4", "-q", "-F", path], advice="the package e2fsprogs has it")
        return path

    def argv(self, agent, disk):
        words = [
            QEMU, "-name", self.name, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", "q35,accel=tcg", "-cpu", self.spec.cpu, "-smp", str(self.spec.smp),
            "-m", self.spec.memory,
            "-kernel", self.lab.kernel, "-initrd", self.lab.initrd, "-append", self.kernel_words(disk),
            "-chardev", "file,id=console,path=" + self.console, "-serial", "chardev:console",
            "-virtfs", "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-serial-pci",
            "-chardev", "socket,id=agent,path=" + agent,
            "-device", "virtserialport,chardev=agent,name=org.plimsoll.lab",
        ]
        if self.lab.hub:
            port, mac = self.lab.hub.port(self.name), "52:54:00:77:00:%02x" % self.number
            words += ["-netdev", "stream,id=lab,server=off,addr.type=unix,addr.path=" + port,
                      "-device", "virtio-net-pci,netdev=lab,romfile=,host_mtu=%d,mac=%s" % (MTU, mac)]
        if disk:
            words += ["-drive", "file=%s,format=raw,if=virtio,cache=unsafe" % disk]
        return words

    def kernel_words(self, disk):
        machine_id = hashlib.md5(b"plimsoll lab " + self.name.encode()).hexdigest()
        own = {"name": self.name, "machine_id": machine_id,
               "hosts": ",".join("%s=%s" % (host.address, host.name) for host in self.lab)}
        if self.lab.hub:
            own["address"] = self.address + "/24"
        if disk:
            own["disk"] = "/dev/vda"
        return " ".join([KERNEL_WORDS, "tsc_early_khz=%d" % tsc_khz(), *("lab_%s=%s" % pair for pair in own.items())])


class Hub:
    """The network between the hosts: a QEMU without a machine, that copies each frame to all other hosts."""

    def __init__(self, lab, names):
        self.lab = lab
        self.names = names

    def port(self, name):
        return self.lab.path(name + ".net")

    def start(self):
        words = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none",
                 "-chardev", "socket,id=qmp,path=" + self.lab.path("hub.qmp"),
                 "-mon", "chardev=qmp,mode=control"]
        for name in self.names:
            address = "addr.type=unix,addr.path=" + self.port(name)
            words += ["-netdev", "stream,id=to-%s,server=on,%s" % (name, address),
                      "-netdev", "hubport,id=port-%s,hubid=0,netdev=to-%s" % (name, name)]
        self.log = self.lab.path("hub.qemu")
        with Listener(self.lab.path("hub.qmp")) as listener:
            process = self.lab.guard.spawn(words, self.log)
            self.monitor = listener.accept(process, self.last_words).makefile("rwb")
        self.qmp("qmp_capabilities")  # once it answers, its ports are open

    def last_words(self):
        with open(self.log) as file:
            return "; it said last:\n" + file.read()[-WORDS_MAX:].strip()

    def qmp(self, command, **arguments):
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.monitor.flush()
        while True:
            line = self.monitor.readline()
            answer = json.loads(line or b'{"error": "it has gone"}')
            if "error" in answer:
                raise LabError("the lab's network: %s: %s" % (command, answer["error"]))
            if "return" in answer:
                return answer["return"]


class Listener:
    """A unix socket to which a QEMU that is about to be started connects, once."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.bind(path)
        except OSError as error:
            raise LabError("cannot listen on %s: %s" % (path, error)) from error
        self.socket.listen(1)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()
        os.unlink(self.path)

    def accept(self, process, last_words):
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while time.monotonic() < deadline:
            ready = select.select([self.socket, process], [], [], max(0.0, deadline - time.monotonic()))[0]
            if self.socket in ready:
                connection = self.socket.accept()[0]
                connection.settimeout(CONNECT_TIMEOUT)
                return connection
            if ready:
                raise LabError("QEMU ended at its start" + last_words())
        raise LabTimeout("QEMU did not connect within %g s%s" % (CONNECT_TIMEOUT, last_words()))
