# SPDX-License-Identifier: Apache-2.0
"""What becomes of a guest that grows by virtio-mem, by the zone that its kernel puts new memory into.

    zones.py [--rounds N]

QEMU by itself, a Linux of 256 MiB, 768 MiB to plug in, 64 MiB each time less than 100 are available. With online_movable the
kernel may keep nothing of its own in the new memory, with online it may. The guest takes 320 MiB for files and then some 200 MiB for the names
of 200,000 more, and waits before each piece of 32 or 1 MiB while less than 64 are available. How many guests came through, and what of the 768 MiB
was still plugged in 20 s after the guest had removed all its files and was asked for all of it.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from server import Monitor

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tests" / "lab")]

import ends  # noqa: E402  (found by the line above)
from lablib.linux import guest_files  # noqa: E402

MIB = 1 << 20
START_KIB = 256 * 1024
MOST, STEP, WANTED = 768, 64, 100  # MiB
SILENCE = 60.0  # seconds without a word of a guest that tells something five times in one
PLUG = "/machine/peripheral/plug"


def command(folder, zone):
    kernel, initrd = guest_files((HERE / "zones.sh").read_text(encoding="utf-8"), ["virtio_pci", "virtio_balloon", "virtio_mem"])
    return ["qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", "max", "-m", f"size={START_KIB}K,maxmem=3G,slots=1", "-nodefaults",
            "-display", "none", "-no-reboot", "-kernel", kernel, "-initrd", initrd,
            "-append", f"console=ttyS0 no_timer_check quiet loglevel=1 zone={zone}", "-serial", f"file:{folder}/serial",
            "-qmp", f"unix:{folder}/qmp,server=on,wait=off", "-object", f"memory-backend-ram,id=plugged,size={MOST}M,reserve=off",
            "-device", "virtio-mem-pci,id=plug,memdev=plugged,block-size=2M,requested-size=0",
            "-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on"]


class Guest:
    def __init__(self, folder, zone):
        self.process = subprocess.Popen(command(folder, zone))
        self.serial = pathlib.Path(folder, "serial")
        socket = os.path.join(folder, "qmp")
        while not os.path.exists(socket):
            if self.process.poll() is not None:
                raise SystemExit("QEMU did not begin")
            time.sleep(0.05)
        self.monitor = Monitor(socket)
        self.asked, self.heard, self.heard_at = 0, 0, time.monotonic()

    def plugged(self):
        return self.monitor.call("qom-get", path=PLUG, property="size") // MIB

    def ask(self, mib):
        self.asked = mib
        self.monitor.call("qom-set", path=PLUG, property="requested-size", value=mib * MIB)

    def text(self):
        text = self.serial.read_text(errors="replace") if self.serial.exists() else ""
        if len(text) != self.heard:
            self.heard, self.heard_at = len(text), time.monotonic()
        return text

    def end_of_growth(self):
        """None while it grows."""
        text = self.text()
        if "all given back" in text:
            return "came through"
        if "Kernel panic" in text:
            return "panicked"
        if time.monotonic() - self.heard_at > SILENCE:
            return "hung"
        told = re.findall(r"available (\d+)\n", text.replace("\r", ""))
        if told and int(told[-1]) < WANTED * 1024 and self.plugged() >= self.asked < MOST:
            self.ask(self.asked + STEP)
        return None

    def run(self):
        end = None
        while end is None:
            time.sleep(0.5)
            end = self.end_of_growth()
        if end != "came through":
            return end, None
        self.ask(0)
        time.sleep(20)
        return end, self.plugged()

    def close(self):
        self.process.kill()
        self.process.wait()


def measure(zone):
    with tempfile.TemporaryDirectory(prefix="plim-zones-") as folder:
        guest = Guest(folder, zone)
        try:
            return guest.run()
        finally:
            guest.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=6)
    args = p.parse_args()
    ended = {zone: [] for zone in ("online_movable", "online")}
    for _ in range(args.rounds):
        for zone, how_ended in ended.items():
            how_ended.append(measure(zone))
    print(f"{'new memory':>16} {'guests':>7} {'came through':>13} {'panicked':>9} {'hung':>5}  MiB not given back")
    for zone, how_ended in ended.items():
        count = {how: sum(end == how for end, _ in how_ended) for how in ("came through", "panicked", "hung")}
        left = ", ".join(str(rest) for _, rest in how_ended if rest is not None)
        print(f"{zone:>16} {len(how_ended):>7} {count['came through']:>13} {count['panicked']:>9} {count['hung']:>5}  {left}")


if __name__ == "__main__":
    ends.run(main)
