# SPDX-License-Identifier: Apache-2.0
"""A Linux guest with a screen, a keyboard and a pointer: Debian's kernel and busybox.

On its first screen is a shell. On its virtio console it says how large the screen is, what `say` of the shell is
given, and what the pointer does.
"""
from linux_guest import made_guest

MODULES = "virtio_pci virtio_console virtio_input bochs i8042 atkbd evdev".split()
# A line of od: sixteen bytes of time, then type, code and value of one event.
INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
echo 0 >/proc/sys/kernel/printk
for name in /sys/class/input/event*/device/name; do
        case "$(cat "$name")" in
        *Tablet*)
                event=${name%/device/name}
                while event=$(dd bs=24 count=1 2>/dev/null | od -An -v -w24 -t d4); do echo "event $event"; done \\
                        <"/dev/input/${event##*/}" >/dev/hvc0 &
                ;;
        esac
done
echo "screen $(cat /sys/class/graphics/fb0/virtual_size)" >/dev/hvc0
while :; do setsid sh -c 'exec sh -i </dev/tty1 >/dev/tty1 2>&1'; done
"""


def screen_guest(folder):
    """(kernel, initrd) in that folder, for QEMU's user to read."""
    return made_guest(folder, INIT, MODULES, {"bin/say": b"#!/bin/sh\necho \"$*\" >/dev/hvc0\n"})
