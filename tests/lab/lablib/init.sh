#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of a lab host: puts a private writable layer over the outer machine's root file system and
# hands over to the agent. The kernel passes the lab_* words of its command line as environment variables.
# A failure ends this script: a kernel panic, on which QEMU exits and the lab shows the console's last lines.
set -e
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

cat /modules/order ${lab_disk:+/modules/order.disk} | while read -r module; do
	# Not fatal: kvm-amd does not load in a host whose CPU lacks svm, and a test may want just such a host.
	insmod "/modules/$module" || echo "lab: module $module did not load"
done

# The root: the outer machine's below, read-only; above, what this host writes, in memory or on its own disk.
mkdir -p /lower /layer /new
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=mmap hostroot /lower
if [ -n "$lab_disk" ]; then
	mount -t ext4 "$lab_disk" /layer
else
	mount -t tmpfs -o mode=0755,size=75% layer /layer
fi
mkdir -p /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work root /new

# What must not show through from the outer machine: its processes' state, its Plimsoll, its logs.
mount -t tmpfs -o mode=0755 run /new/run
mkdir -p /new/run/lock /new/run/lab
cp -r /lab/. /new/run/lab
for own in /var/lib/plimsoll /var/log; do
	mkdir -p "/layer/own$own" "/new$own"
	mount --bind "/layer/own$own" "/new$own"
done

mount --move /proc /new/proc
mount --move /sys /new/sys
mount --move /dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o gid=5,mode=0620,ptmxmode=0666 devpts /new/dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
mount -t debugfs debugfs /new/sys/kernel/debug
ln -s /proc/self/fd /new/dev/fd
ln -s /proc/self/fd/0 /new/dev/stdin
ln -s /proc/self/fd/1 /new/dev/stdout
ln -s /proc/self/fd/2 /new/dev/stderr
for node in kvm vhost-net; do
	if [ -e "/new/dev/$node" ] && grep -q "^kvm:" /new/etc/group; then
		chroot /new chgrp kvm "/dev/$node"
		chmod 0660 "/new/dev/$node"
	fi
done

# Who this host is.
hostname "$lab_name"
echo "$lab_name" >/new/etc/hostname
rm -f /new/etc/machine-id
echo "$lab_machine_id" >/new/etc/machine-id
{
	echo "127.0.0.1 localhost"
	echo "::1 localhost"
	echo "$lab_hosts" | tr ',=' '\n '
} >/new/etc/hosts
ip link set lo up
if [ -n "$lab_address" ]; then
	ip address add "$lab_address" dev eth0
	ip link set eth0 up
fi

exec switch_root /new /usr/bin/python3 -E -s -S -B /run/lab/agent.py
