#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of the guests of bench/memory: Debian's Apache, with swap space on the first disk.
set -e
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
echo online >/sys/devices/system/memory/auto_online_blocks
rm -rf /modules
mkdir -p /run /tmp
mkswap /dev/vda >/dev/null
swapon /dev/vda
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
echo "guest ready" >/dev/hvc0
apache2 -f /srv/apache.conf -D FOREGROUND >/dev/hvc0 2>&1 || true
echo "guest: apache has ended" >/dev/hvc0
while :; do sleep 100000; done
