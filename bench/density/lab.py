#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who wakes QEMU while a guest idles: the same Linux guest with QEMU's default devices, with those that virt-install
gives to libvirt, and with Plimsoll's profile.

    bench/density/lab.py [--accel kvm|tcg] [--seconds 30] [--intervals 3] [--settle 20] [--json FILE]

Under kvm (the default) in a host of the lab (docs/lab.md), where KVM is real; under tcg on this machine. The guest is
tests/lab/lablib/linux.py. The counts are QEMU's own, taken by count.py beside this file, the same way for all.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/lab"), str(ROOT / "bench")]

import ends  # noqa: E402  (found by the line above)
from lablib import HostSpec, Lab, build_folder, wait_for  # noqa: E402
from lablib.linux import guest_files  # noqa: E402

COUNT = ROOT / "bench/density/count.py"
MEMORY = 256
QUIET = "quiet loglevel=3 panic=-1"
BOOT_TIMEOUT = 900

# "qemu -m 256 -kernel ... disk" and nothing else that changes a device; what it says goes to a file.
DEFAULTS = ("-machine pc -m {memory} -kernel {kernel} -initrd {initrd} -drive file={disk},format=raw "
            "-display none -serial file:{out}")
# What virt-install 4.1 --osinfo debian12 --import writes, as libvirt 9.0 hands it to QEMU, without the paths.
LIBVIRT = ("-machine pc-q35-7.2,usb=off,vmport=off,hpet=off -nodefaults -no-user-config -m {memory} "
           "-rtc base=utc,driftfix=slew -global ICH9-LPC.disable_s3=1 -global ICH9-LPC.disable_s4=1 "
           "-kernel {kernel} -initrd {initrd} {ports} "
           "-device qemu-xhci,p2=15,p3=15,id=usb,bus=pci.2,addr=0x0 "
           "-device virtio-serial-pci,id=virtio-serial0,bus=pci.3,addr=0x0 "
           "-blockdev driver=file,filename={disk},node-name=f,discard=unmap "
           "-blockdev driver=raw,file=f,node-name=d -device virtio-blk-pci,bus=pci.4,addr=0x0,drive=d,bootindex=1 "
           "-netdev {net} -device virtio-net-pci,netdev=n,bus=pci.1,addr=0x0 "
           "-chardev file,id=s,path={out} -device isa-serial,chardev=s,index=0 "
           "-chardev socket,id=a,path={agent},server=on,wait=off "
           "-device virtserialport,bus=virtio-serial0.0,nr=1,chardev=a,name=org.qemu.guest_agent.0 "
           "-device usb-tablet,bus=usb.0,port=1 -vnc unix:{vnc} -device virtio-vga,max_outputs=1,bus=pcie.0,addr=0x1 "
           "-global ICH9-LPC.noreboot=off -watchdog-action reset "
           "-device virtio-balloon-pci,bus=pci.5,addr=0x0 -object rng-random,id=r,filename=/dev/urandom "
           "-device virtio-rng-pci,rng=r,bus=pci.6,addr=0x0 -display none")
PORTS = " ".join("-device pcie-root-port,port=%d,chassis=%d,id=pci.%d,bus=pcie.0,%saddr=0x2.%d" %
                 (16 + n, n + 1, n + 1, "multifunction=on," if n == 0 else "", n) for n in range(7))


class Here:
    """This machine, with the words of a lab host that are used below."""

    def __init__(self):
        sys.path.insert(0, str(ROOT / "bench"))
        from rig import Daemon
        self.daemon = Daemon(str(build_folder()))
        self.children = []

    def __enter__(self):
        self.daemon.__enter__()
        return self

    def __exit__(self, *words):
        for child in self.children:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self.daemon.__exit__(*words)

    def sh(self, script, timeout=60):
        return subprocess.run(["/bin/sh", "-ec", script], check=True, text=True, stdout=subprocess.PIPE,
                              timeout=timeout).stdout

    def popen(self, argv):
        self.children.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                              start_new_session=True))

    def plim_ok(self, *words, timeout=60):
        return subprocess.run([self.daemon.plim, *map(str, words)], check=True, text=True, stdout=subprocess.PIPE,
                              timeout=timeout, env=dict(os.environ, PLIMSOLL_SOCKET=self.daemon.socket)).stdout

    def plim(self, noun, verb, *words):
        return json.loads(self.plim_ok(noun, verb, "-o", "json", *words))


def console_of(host, name, folder):
    if name == "plimsoll":
        return host.plim_ok("vm", "console", "plimsoll", "--log")
    return host.sh("cat %s/%s.out 2>/dev/null || true" % (folder, name))


def start_plain(host, name, line, folder, files, accel, net):
    """A QEMU that nobody stands beside. Its monitor is at folder/name.qmp."""
    words = line.format(memory=MEMORY, ports=PORTS, out="%s/%s.out" % (folder, name), net=net, **files,
                        agent="%s/%s.agent" % (folder, name), vnc="%s/%s.vnc" % (folder, name)).split()
    append = "console=tty0 console=ttyS0 " + QUIET
    argv = ["qemu-system-x86_64", "-accel", accel, "-cpu", "host" if accel == "kvm" else "max", *words,
            "-append", append, "-qmp", "unix:%s/%s.qmp,server=on,wait=off" % (folder, name),
            "-pidfile", "%s/%s.pid" % (folder, name), "-name", "bench-" + name + ",debug-threads=on"]
    # Its words, and that it ended, are in files.
    host.popen(["/bin/sh", "-c", '"$@" 2>"$0.err"; echo "it ended with $?" >>"$0.end"', "%s/%s" % (folder, name), *argv])


def is_ready(host, name, folder):
    if name != "plimsoll":
        end = host.sh("cat %s/%s.end %s/%s.err 2>/dev/null || true" % (folder, name, folder, name))
        if "it ended with" in end:
            raise SystemExit("QEMU %s: %s" % (name, end))
    return "guest ready" in console_of(host, name, folder)


def start_ours(host, files, nic):
    host.plim_ok("vm", "create", "plimsoll", "--memory", "%dMiB" % MEMORY, "--kernel", files["kernel"],
                 "boot.initrd=" + files["initrd"], "--cmdline", "console=hvc0 " + QUIET, "--nic", nic,
                 "--disk", "size=64MiB", "property.os_type=linux")
    host.plim_ok("vm", "start", "plimsoll", timeout=180)


def qemus(host, folder, run):
    words = ["%s=%s=%s/%s.qmp" % (n, host.sh("cat %s/%s.pid" % (folder, n)).strip(), folder, n) for n in ("qemu", "libvirt")]
    vm = host.plim("vm", "show", "plimsoll")
    return [*words, "plimsoll=%d=%s/vms/%s/qmp2.sock" % (vm["runtime"]["pid"], run, vm["id"])]


def measure(host, options, folder, run, net, nic):
    kernel, initrd = guest_files()
    host.sh("mkdir -p %s; cp %s %s/vmlinux; cp %s %s/initrd; truncate -s 64M %s/disk; chmod -R a+rX %s; chmod 644 %s/*" %
            (folder, kernel, folder, initrd, folder, folder, folder, folder))
    files = {"kernel": folder + "/vmlinux", "initrd": folder + "/initrd", "disk": folder + "/disk"}
    host.sh("cp %s/disk %s/disk2" % (folder, folder))
    # One after the other: a host of the lab is slow, and a start has a deadline.
    starts = {"plimsoll": lambda: start_ours(host, files, nic),
              "qemu": lambda: start_plain(host, "qemu", DEFAULTS, folder, files, options.accel, net),
              "libvirt": lambda: start_plain(host, "libvirt", LIBVIRT, folder, dict(files, disk=folder + "/disk2"),
                                             options.accel, net)}
    for name, start in starts.items():
        start()
        wait_for(lambda: is_ready(host, name, folder), BOOT_TIMEOUT, "boot of " + name)
    time.sleep(options.settle)
    text = host.sh("python3 %s --seconds %g --intervals %d %s" % (COUNT, options.seconds, options.intervals,
                                                                 " ".join(qemus(host, folder, run))),
                   timeout=120 + options.intervals * (options.seconds + 60))
    return json.loads(text)


def bridge(host):
    """A network that nobody else is on. Returns the plain QEMUs' netdev, with vhost as libvirt has it."""
    host.sh("ip link add br0 type bridge; ip link set br0 up; ip tuntap add dev tap0 mode tap vnet_hdr; "
            "ip link set tap0 master br0 up")
    return "tap,id=n,ifname=tap0,script=no,downscript=no,vhost=on"


def in_lab(options):
    with Lab(HostSpec("a", memory="3G", smp=2)) as lab:
        host = lab["a"]
        host.plimsolld_start(timeout=240, restart=True)  # QEMU may be slow to say its version
        wait_for(lambda: "kvm guests can have" in host.plim_ok("event", "list"), 240, "the probe of CPUs")
        return measure(host, options, "/run/bench", "/run/plimsoll", bridge(host), "bridge:br0")


def on_this_machine(options):
    with Here() as here:
        folder = tempfile.mkdtemp(prefix="plimsoll-lab-bench.")
        try:
            os.chmod(folder, 0o755)
            return measure(here, options, folder, here.daemon.run, "user,id=n", "user")
        finally:
            shutil.rmtree(folder)


COLUMNS = ("timer", "read", "write", "main_wakeups", "wakeups", "cpu", "exits", "halts")
TITLES = {"qemu": "QEMU's defaults", "libvirt": "libvirt's devices", "plimsoll": "Plimsoll"}


def print_tables(result, seconds):
    for name, intervals in result.items():
        print("\n%s, per %g s\n" % (TITLES[name], seconds))
        print("| interval | timer | read | write | main thread woken | all threads woken | CPU s | exits | halts |")
        print("|---" * 9 + "|")
        for number, row in enumerate(intervals):
            cells = ["-" if row[c] is None else "{:,}".format(row[c]) for c in COLUMNS]
            print("| %03d | %s |" % (number, " | ".join(cells)))
        last = sorted(intervals[-1]["devices"].items(), key=lambda d: -sum(d[1].values()))
        named = ["%s %d reads, %d writes" % (d, c["read"], c["write"]) for d, c in last if sum(c.values())]
        print("\nIn the last interval: " + ("; ".join(named) or "no device was read or written") + ".")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accel", choices=("kvm", "tcg"), default="kvm")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--intervals", type=int, default=3)
    parser.add_argument("--settle", type=float, default=20, help="seconds after the boot before anything is counted")
    parser.add_argument("--json", help="write the counts to this file too")
    options = parser.parse_args()
    result = (in_lab if options.accel == "kvm" else on_this_machine)(options)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1))
    print_tables(result, options.seconds)


if __name__ == "__main__":
    ends.run(main)
