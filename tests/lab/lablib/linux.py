# SPDX-License-Identifier: Apache-2.0
"""A small Linux guest: Debian's kernel, busybox, and the drivers of everything that QEMU and libvirt put into a guest.

The same guest for every set of devices: it loads all drivers and brings up what it finds, as Debian does, and then
idles. Words of its kernel command line:

    fill=MIB    write as many MiB of files in memory, hold them, remove them; says `filled` and `freed`
    usb=on      USB devices may not sleep, as Windows and old Linux have it; else as systemd's rules have it
    poll=MS     how often the kernel asks drives for a new medium; 2000, as Debian's udev rules have it
"""
import hashlib
import os

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


def guest_files():
    """The paths of (kernel, initrd), made once and kept in the lab's cache. Raises Unavailable."""
    vmlinux, _ = kernel.boot_files()
    folder = os.path.dirname(vmlinux)
    digest = hashlib.sha256(kernel.read(__file__)).hexdigest()
    initrd = os.path.join(folder, "guest-%s" % digest[:16])
    with kernel.cache_locked() as cache:
        if not os.path.exists(initrd):
            with kernel.scratch(cache) as work:
                made = os.path.join(work, "initrd")
                kernel.write(made, initrd_make(os.path.join(work, "tree"), kernel.package_cached(cache)))
                os.rename(made, initrd)
    return vmlinux, initrd


def initrd_make(tree, deb):
    kernel.tool(["dpkg", "-x", deb, tree])
    archive = Archive()
    for folder in ("bin", "dev", "proc", "sys", "modules"):
        archive.folder(folder)
    archive.console()
    archive.file("bin/busybox", kernel.read(kernel.BUSYBOX), 0o755)
    archive.file("init", INIT.encode(), 0o755)
    files = kernel.module_files(kernel.one(tree, "lib/modules/*"))
    paths = kernel.modules_order(files, [name for name in MODULES if name in files])
    for path in paths:
        archive.file("modules/" + os.path.basename(path), kernel.read(path))
    archive.file("modules/order", "".join(os.path.basename(path) + "\n" for path in paths).encode())
    return archive.bytes()
