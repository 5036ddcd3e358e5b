#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of a small Linux guest that has drivers for CD drives and USB, and a guest agent that is asked to use them.
set -e
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

while read -r module; do
	insmod "/modules/$module"
done < /modules/order
rm -rf /modules
mkdir -p /run /tmp /var/run
mount -t tmpfs run /run

for port in /sys/class/virtio-ports/*; do
	[ "$(cat "$port/name")" != org.qemu.guest_agent.0 ] || agent=/dev/${port##*/}
done
while true; do
	qemu-ga -m virtio-serial -p "$agent" -f /run/agent.pid -t /run || true
	sleep 1
done
