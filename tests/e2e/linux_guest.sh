#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of a small Linux guest: its disk, its card, and the guest agent. The kernel passes `address` of its
# command line as an environment variable.
set -e
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

while read -r module; do insmod "/modules/$module"; done </modules/order
rm -rf /modules

# Without one the agent sets no clock.
mkdir -p /sbin
[ -e /sbin/hwclock ] || ln -s /bin/busybox /sbin/hwclock

mkdir -p /run /tmp /var/tmp
mount -t tmpfs run /run
mount -t ext4 /dev/vda /var/tmp
ip link set lo up
ip address add "$address" dev eth0
ip link set eth0 up

# A crash kernel has one thing to do, and the test says what.
[ ! -e /proc/vmcore ] || exec /var/tmp/dump

for port in /sys/class/virtio-ports/*; do
	[ "$(cat "$port/name")" != org.qemu.guest_agent.0 ] || agent=/dev/${port##*/}
done
while true; do
	qemu-ga -m virtio-serial -p "$agent" -f /run/agent.pid -t /run || true
	sleep 1
done
