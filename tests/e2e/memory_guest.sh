#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of a small Linux guest whose memory moves. The kernel passes `drivers` of its command line as an
# environment variable: those of virtio_balloon and virtio_mem that it shall have, or "none". The agent is how a test
# has it take memory: files in /full are memory that the kernel can't drop.
set -e
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

load() {
	grep -E "$1" /modules/order | while read -r module; do
		insmod "/modules/$module"
	done
}
load '^virtio(_ring|_pci.*|_console)?\.ko'
load "^(${drivers:-none})\.ko"
rm -rf /modules

mkdir -p /run /tmp /full /var/run
mount -t tmpfs run /run
mount -t tmpfs -o size=8g full /full
for port in /sys/class/virtio-ports/*; do
	[ "$(cat "$port/name")" != org.qemu.guest_agent.0 ] || agent=/dev/${port##*/}
done
while true; do
	qemu-ga -m virtio-serial -p "$agent" -f /run/agent.pid -t /run || true
	sleep 1
done
