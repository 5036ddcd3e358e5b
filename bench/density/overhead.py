#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What QEMU takes beside its guest's RAM, and what each part of a set of devices adds.

    bench/density/overhead.py [--build build]

One QEMU after the other, with Plimsoll's devices under tcg around the payload guest, each with one thing changed. Private
memory in KiB: what one more such guest costs.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import ends  # noqa: E402  (found by the line above)

RAM = 64
BASE = ("-nodefaults -no-user-config -display none -sandbox on -m {ram} -accel tcg -cpu max -machine "
        "q35,usb=off,vmport=off,hpet=off,smm=off,sata=off,smbus=off,dump-guest-core=off,mem-merge=off -kernel {kernel} "
        "-chardev socket,id=qmp,path={dir}/qmp,server=on,wait=off -mon chardev=qmp,mode=control "
        "-device virtio-serial-pci,max_ports=8 -chardev socket,id=console,path={dir}/console,server=on,wait=off "
        "-device virtconsole,chardev=console -device virtio-balloon-pci,free-page-reporting=on "
        "-object rng-builtin,id=random -device virtio-rng-pci,rng=random -device pvpanic")
HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_TOP_PAD_": "0"}
VARIANTS = (("Plimsoll's devices and environment", "", HEAP), ("a heap for each thread (glibc's default)", "", {}),
            ("+ virtio-scsi", "-device virtio-scsi-pci", HEAP), ("+ virtio tablet", "-device virtio-tablet-pci", HEAP),
            ("+ VGA", "-device VGA", HEAP), ("+ VGA and VNC", "-device VGA -vnc none", HEAP),
            ("+ virtio-vga", "-device virtio-vga", HEAP), ("+ xHCI and USB tablet", "-device qemu-xhci -device usb-tablet", HEAP))


def mappings(pid):
    """[(size, private, anonymous file, is a block of guest memory)] in KiB."""
    text = pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)[1:]:
        number = dict(re.findall(r"^(\w+): +(\d+) kB$", part, re.M))
        flags = re.search(r"^VmFlags: (.*)$", part, re.M)[1].split()
        yield int(number["Size"]), int(number["Private_Dirty"]) + int(number["Private_Clean"]), "dd" in flags


def private_of(extra, environment, kernel):
    with tempfile.TemporaryDirectory() as folder:
        words = BASE.format(ram=RAM, kernel=kernel, dir=folder).split() + extra.split()
        qemu = subprocess.Popen(["qemu-system-x86_64", *words], env={"PATH": os.environ["PATH"], **environment},
                                stdin=subprocess.DEVNULL)
        try:
            time.sleep(5)
            return sum(private for size, private, block in mappings(qemu.pid) if not (block and size == RAM * 1024))
        finally:
            qemu.kill()
            qemu.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=pathlib.Path(__file__).resolve().parents[2] / "build", type=pathlib.Path)
    kernel = parser.parse_args().build / "guest/payload/payload.elf"
    print("| devices | private KiB |\n|---|---|")
    for title, extra, environment in VARIANTS:
        print("| %s | %d |" % (title, private_of(extra, environment, kernel)), flush=True)


if __name__ == "__main__":
    ends.run(main)
