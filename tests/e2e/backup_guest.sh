#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of a guest that is backed up: a journal on its disk that always grows, files that come and go, and
# the guest agent with a hook that does what the test asks for by files in /run.
set -e
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
rm -rf /modules
mkdir -p /run /data /var
mount -t tmpfs run /run
mount -t ext4 /dev/vda /data

# run/hang: the hook holds everybody up for some seconds. run/wait: it says so, and waits for an NMI; run/kill: then the
# agent is killed when the file system stands still.
cat > /run/hook <<'END'
#!/bin/busybox sh
nmis() {
	set -- $(grep NMI: /proc/interrupts)
	echo "$2"
}
kill_when_frozen() {
	while true; do
		touch /data/probe &
		probe=$!
		sleep 1.5
		# The agent sleeps again: it has answered that all stands still.
		! kill -0 "$probe" || ! grep -q '^State:.S' "/proc/$(cat /run/agent.pid)/status" || break
	done
	kill -9 "$(cat /run/agent.pid)"
}
[ "$1" = freeze ] || exit 0
if [ -e /run/hang ]; then
	rm /run/hang
	sleep 8
fi
if [ -e /run/wait ]; then
	rm /run/wait
	before=$(nmis)
	echo "hook waits" > /dev/ttyS0
	while [ "$(nmis)" = "$before" ]; do sleep 0.05; done
	if [ -e /run/kill ]; then
		rm /run/kill
		kill_when_frozen > /dev/null 2>&1 &
	fi
fi
exit 0
END
chmod 755 /run/hook

for port in /sys/class/virtio-ports/*; do
	[ "$(cat "$port/name")" != org.qemu.guest_agent.0 ] || agent=/dev/${port##*/}
done
while true; do
	rm -f /run/agent.pid
	qemu-ga -m virtio-serial -p "$agent" -f /run/agent.pid -t /run -F/run/hook || true
	sleep 0.2
done &

# A line: its number, and that number in another form. Every so often files are written, and others go.
n=0
while true; do
	n=$((n + 1))
	echo "$n $(((n * 40503) % 65521))"
	[ $((n % 20)) != 0 ] || {
		dd if=/dev/urandom of="/data/file$((n / 20 % 4))" bs=32k count=6 2> /dev/null
		rm -f "/data/file$(((n / 20 + 2) % 4))"
		echo "line $n" > /dev/ttyS0
		echo "$n" | dd of=/dev/vdb bs=16 conv=sync,fsync 2> /dev/null
		sleep 0.05
	}
done >> /data/journal
