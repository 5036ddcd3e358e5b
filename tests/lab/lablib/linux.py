# SPDX-License-Identifier: Apache-2.0
"""Small Linux guests: Debian's kernel, busybox, drivers, and a first program.

The one that is made when nothing else is said is the same for every set of devices: it loads the drivers of everything
that QEMU and libvirt put into a guest and brings up what it finds, as Debian does, and then idles. Words of its kernel
command line:

    fill=MIB    write as many MiB of files in memory, hold them, remove them; says `filled` and `freed`
    usb=on      USB devices may not sleep, as Windows and old Linux have it; else as systemd's rules have it
    poll=MS     how often the kernel asks drives for a new medium; 2000, as Debian's udev rules have it
"""
import hashlib
import os
import pathlib

from . import kernel
from .cpio import Archive

MODULES = ("virtio_pci virtio_blk virtio_net virtio_console virtio_balloon virtio_rng virtio_input virtio_scsi sd_mod "
           "sr_mod ahci ata_piix ata_generic e1000 uhci_hcd ehci_pci xhci_pci usbhid hid_generic psmouse evdev "
           "virtio_gpu bochs iTCO_wdt").split()

INIT = """#!/bin/busybox sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module" 2>/dev/null; done </modules/order
echo "${poll:-2000}" >/sys/module/block/parameters/events_dfl_poll_msecs
[ "$usb" = on ] || for device in /sys/bus/usb/devices/*/power/control; do
        [ ! -e "$device" ] || echo auto >"$device"
done
ip link set lo up
for card in /sys/class/net/e*; do ip link set "${card##*/}" up; done
echo guest ready >/dev/console
if [ -n "$fill" ]; then
        mkdir /full
        mount -t tmpfs -o size=95% full /full
        dd if=/dev/zero of=/full/file bs=1M count="$fill" 2>/dev/null
        echo guest filled >/dev/console
        sleep 10
        rm /full/file
        echo guest freed >/dev/console
fi
while :; do sleep 100000; done
"""


def guest_files(init=INIT, modules=MODULES, programs=None):
    """The paths of (kernel, initrd), made once and kept in the lab's cache. Raises Unavailable.

    `init` loads what /modules/order lists; `programs`: {path: content} of further ones.
    """
    vmlinux, _ = kernel.boot_files()
    parts = {"bin/busybox": kernel.read(kernel.BUSYBOX), "init": init.encode(), **(programs or {})}
    initrd = os.path.join(os.path.dirname(vmlinux), "guest-%s" % digest_of(modules, parts))
    with kernel.cache_locked() as cache:
        if not os.path.exists(initrd):
            with kernel.scratch(cache) as work:
                made = os.path.join(work, "initrd")
                kernel.write(made, initrd_make(os.path.join(work, "tree"), kernel.package_cached(cache), modules, parts))
                os.rename(made, initrd)
    return vmlinux, initrd


def digest_of(modules, parts):
    digest = hashlib.sha256(kernel.read(__file__))
    for name, content in [("modules", " ".join(modules).encode()), *sorted(parts.items())]:
        digest.update(b"%s %d " % (name.encode(), len(content)) + content)
    return digest.hexdigest()[:16]


def initrd_make(tree, deb, modules, parts):
    kernel.tool(["dpkg", "-x", deb, tree])
    archive = Archive()
    folders = {str(parent) for path in parts for parent in pathlib.PurePath(path).parents} - {"."}
    for folder in sorted(folders | {"dev", "proc", "sys", "modules", "var"}):
        archive.folder(folder)
    archive.console()
    for path, content in parts.items():
        archive.file(path, content, 0o755)
    files = kernel.module_files(kernel.one(tree, "lib/modules/*"))
    paths = kernel.modules_order(files, [name for name in modules if name in files])
    for path in paths:
        archive.file("modules/" + os.path.basename(path), kernel.read(path))
    archive.file("modules/order", "".join(os.path.basename(path) + "\n" for path in paths).encode())
    return archive.bytes()
