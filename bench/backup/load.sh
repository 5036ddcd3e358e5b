#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of the guest of backup.py: load.c writes to a file on its disk, and the guest agent.
set -e
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module" 2> /dev/null || true; done </modules/order
rm -rf /modules
mkdir -p /run /data /var
mount -t tmpfs run /run
mount -t ext4 /dev/vda /data
/bin/load /data/written "$written" > /run/report &
for port in /sys/class/virtio-ports/*; do
	[ "$(cat "$port/name")" != org.qemu.guest_agent.0 ] || agent=/dev/${port##*/}
done
while true; do
	qemu-ga -m virtio-serial -p "$agent" -f /run/agent.pid -t /run || true
	sleep 0.2
done
