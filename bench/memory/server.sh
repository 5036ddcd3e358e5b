#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The guest of bench/memory: a server of sessions. Each step one session more is kept in memory (a file in a tmpfs), and for
# some seconds requests are served in turn: one reads all of a session. What was served is told on the console. Words of
# the kernel's command line: steps, session (MiB), seconds.
set -e
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
echo online_movable >/sys/devices/system/memory/auto_online_blocks
rm -rf /modules
mkdir -p /full
mount -t tmpfs -o size=8g full /full
mkswap /dev/vda >/dev/null
swapon /dev/vda

# Hundredths of a second since the kernel began.
now() {
	read -r up _ </proc/uptime
	echo "${up%.*}${up#*.}"
}

of_meminfo() {
	while read -r name value _; do
		[ "$name" != "$1:" ] || echo "$value"
	done </proc/meminfo
}

echo "bench ready" >/dev/hvc0
sleep 5
step=0
while [ "$step" -lt "$steps" ]; do
	dd if=/dev/zero of="/full/$step" bs=1M count="$session" 2>/dev/null
	step=$((step + 1))
	begin=$(now) served=0 end=$(now)
	while [ $((end - begin)) -lt $((seconds * 100)) ]; do
		dd if="/full/$((served % step))" of=/dev/null bs=1M 2>/dev/null
		served=$((served + 1))
		end=$(now)
	done
	swapped=$(($(of_meminfo SwapTotal) - $(of_meminfo SwapFree)))
	echo "bench step $step served $served in $((end - begin)) total $(of_meminfo MemTotal) swapped $swapped" >/dev/hvc0
done
echo "bench end" >/dev/hvc0
while :; do sleep 100000; done
