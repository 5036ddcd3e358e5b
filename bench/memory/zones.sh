#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of the guests of zones.py: it fills its memory with files, which the kernel can't drop, then its kernel's
# with names of files, never faster than memory comes, and then removes all. `zone` is of the kernel's command line.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
rm -rf /modules
echo "$zone" >/sys/devices/system/memory/auto_online_blocks
mkdir /full
mount -t tmpfs -o size=8g,nr_inodes=0 full /full
available() { sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo; }
while true; do
	echo "available $(available)"
	sleep 0.2
done &
room() { while [ "$(available)" -lt 65536 ]; do sleep 0.1; done; }
dd if=/dev/urandom of=/piece bs=1M count=1 2>/dev/null
number=0
while [ $number -lt 10 ]; do
	room
	cat $(yes /piece | head -n 32) >/full/$number
	number=$((number + 1))
done
# Files without content: an inode and a name of each is the kernel's own.
number=0
while [ $number -lt 200 ]; do
	room
	mkdir /full/names-$number
	for name in $(seq 1000); do : >/full/names-$number/$name; done
	number=$((number + 1))
done
echo "guest: full"
rm -r /full/*
echo "guest: all given back"
while :; do sleep 100000; done
