#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""As many idle guests as the memory takes, three ways: QEMU's defaults, libvirt with virt-install's devices, ours.

For each way: start them all, let them boot, then look for some intervals at what nobody asked for: how often the
threads of QEMU were woken, their CPU, the host's load, and the memory that QEMU takes beside its guest's. Guests are
the payload (it sleeps) and, fewer of them, Debian's kernel with a busybox that sleeps. A picture of it is --svg.
"""
import argparse
import concurrent.futures
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(HERE, "../../tests/lab")]

import ends  # noqa: E402  (found by the line above)
import libvirt  # noqa: E402
import picture  # noqa: E402
import rig  # noqa: E402

MIB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")
STARTERS = 4
SPARE = 3 << 30  # left to the host
LISTS = 100
CALM_LOOK, BOOT_DEADLINE = 5, 240
THREADS = {"CPU": "vcpu", "worker": "worker"}  # by the beginning of the name; the first thread is the main loop


# ---- what /proc says

def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def available():
    return int(re.search(r"MemAvailable:\s+(\d+)", read("/proc/meminfo"))[1]) * 1024


def cpu_of(pid):
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def kind_of(pid, thread, name):
    if thread == str(pid):
        return "main"
    return next((kind for prefix, kind in THREADS.items() if name.startswith(prefix)), "other")


def wakeups_of(pid):
    """{kind of thread: how often it went to sleep by itself, and so was woken}."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        text = read(f"/proc/{pid}/task/{thread}/status")
        kind = kind_of(pid, thread, re.search(r"Name:\s+(.*)", text)[1])
        found[kind] = found.get(kind, 0) + int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", text)[1])
    return found


def memory_of(pid, ram):
    """(PSS in all, PSS of the guest's memory): the mapping that is as large as it, and of several the fullest."""
    total, guest, size = 0, 0, 0
    for line in read(f"/proc/{pid}/smaps").splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if head:
            size = int(head[2], 16) - int(head[1], 16)
        elif line.startswith("Pss:"):
            pss = int(line.split()[1]) * 1024
            total += pss
            guest = max(guest, pss) if size == ram else guest
    return total, guest


def qemus(uuids_of):
    """Pids of QEMU whose command line has one of the words."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            words = read(f"/proc/{entry}/cmdline").split("\0") if entry.isdigit() else [""]
        except OSError:
            continue
        if "qemu-system" in words[0]:
            found.update({word: int(entry) for word in words if word in uuids_of})
    return found


def look(pids):
    """One look at all: wakeups by thread, CPU. What ended is no longer counted, and told by the caller."""
    seen = {}
    for pid in pids:
        try:
            seen[pid] = (wakeups_of(pid), cpu_of(pid))
        except OSError:
            continue
    return seen


def difference(before, after):
    """Means for each guest."""
    both = [pid for pid in after if pid in before]
    kinds = {k: sum(after[p][0].get(k, 0) - before[p][0].get(k, 0) for p in both) / len(both)
             for k in ("main", "vcpu", "worker", "other")}
    return kinds, sum(after[p][1] - before[p][1] for p in both) / len(both)


# ---- the ways: start(i), stop_all(); pids() after the start

class Guest:
    def __init__(self, name, kernel, ram, initrd=None, cmdline=""):
        self.name, self.kernel, self.ram, self.initrd, self.cmdline = name, kernel, ram, initrd, cmdline


class Plain:
    """`qemu-system-x86_64 -m SIZE`, and nothing but what boots the guest."""
    title = "QEMU's defaults"

    def __init__(self, folder, accel):
        self.dir, self.accel, self.started = folder, accel, []

    def start(self, guest, i):
        uuid = f"00000000-0000-4000-8000-{i:012d}"
        boot = ["-kernel", guest.kernel] + (["-initrd", guest.initrd] if guest.initrd else [])
        boot += ["-append", guest.cmdline] if guest.cmdline else []
        subprocess.run(["qemu-system-x86_64", "-m", f"{guest.ram // MIB}", "-accel", self.accel, "-uuid", uuid, "-display", "none",
                        "-name", "debug-threads=on",
                        "-daemonize", *boot], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.started.append(uuid)

    def pids(self):
        return list(qemus(set(self.started)).values())

    def stop_all(self):
        for pid in self.pids():
            os.kill(pid, 15)
        self.started = []

    def keeper(self):
        return None


# What `virt-install --osinfo detect=on,require=off --import` of virt-manager 4.1 asks libvirt for, with the guest's
# kernel in place of a disk, and without its card on a bridge, which a bench has no business to make; ours gets none either.
DOMAIN = """<domain type='{type}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{name}</name><uuid>{uuid}</uuid><memory unit='b'>{ram}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel>{initrd}<cmdline>{cmdline}</cmdline></os>
<features><acpi/><apic/><vmport state='off'/></features>
<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>
<on_crash>destroy</on_crash>
<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='usb' model='qemu-xhci' ports='15'/><controller type='pci' model='pcie-root'/>{ports}
<serial type='pty'/><console type='pty'/>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<input type='tablet' bus='usb'/><graphics type='vnc' port='-1'/>
<sound model='ich9'/><video><model type='virtio'/></video>
<memballoon model='virtio'><stats period='5'/></memballoon>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
</devices></domain>"""


class Virt:
    title = "libvirt, virt-install's devices"

    def __init__(self, virt, accel):
        self.virt, self.accel, self.started = virt, accel, {}

    def start(self, guest, i):
        uuid, name = f"00000000-0000-4000-9000-{i:012d}", f"density-{i}"
        path = self.virt.dir / f"{name}.xml"
        path.write_text(DOMAIN.format(
            type="kvm" if self.accel == "kvm" else "qemu", name=name, uuid=uuid, ram=guest.ram, kernel=guest.kernel,
            initrd=f"<initrd>{guest.initrd}</initrd>" if guest.initrd else "", cmdline=guest.cmdline,
            ports="<controller type='pci' model='pcie-root-port'/>" * 14))
        done = self.virt.ask("create", str(path))
        if done.returncode != 0:
            raise SystemExit("libvirt does not start the guest: " + done.stderr)
        self.started[uuid] = name

    def pids(self):
        return list(qemus(set(self.started)).values())

    def stop_all(self):
        with concurrent.futures.ThreadPoolExecutor(STARTERS) as pool:
            list(pool.map(lambda name: self.virt.ask("destroy", name), self.started.values()))
        self.started = {}

    def keeper(self):
        own = [int(e) for e in os.listdir("/proc") if e.isdigit() and comm(e) == "libvirtd"]
        return max(own, key=cpu_of) if own else None


def comm(pid):
    try:
        return read(f"/proc/{pid}/comm").strip()
    except OSError:
        return ""


class Ours:
    title = "Plimsoll"

    def __init__(self, daemon):
        self.daemon, self.names = daemon, []

    def prepare(self, guest, i):
        """Made before the clock runs, so that a start is a start."""
        settings = {"memory.start": guest.ram, "boot.kernel": guest.kernel}
        settings.update({"boot.initrd": guest.initrd} if guest.initrd else {})
        settings.update({"boot.cmdline": guest.cmdline} if guest.cmdline else {})
        self.daemon.create(f"density-{i}", settings)

    def start(self, _guest, i):
        self.daemon.call("POST", f"/v1/vms/density-{i}/actions/start?wait=600")
        self.names.append(f"density-{i}")

    def pids(self):
        return [vm["runtime"]["pid"] for vm in self.daemon.get("/v1/vms") if vm["runtime"]["state"] == "running"]

    def stop_all(self):
        subprocess.run([self.daemon.plim, "vm", "kill", "--all"], check=True, stdout=subprocess.DEVNULL,
                       env=dict(os.environ, PLIMSOLL_SOCKET=self.daemon.socket))
        subprocess.run([self.daemon.plim, "vm", "delete", *self.names], check=True, stdout=subprocess.DEVNULL,
                       env=dict(os.environ, PLIMSOLL_SOCKET=self.daemon.socket))
        self.names = []

    def keeper(self):
        return self.daemon.process.pid


# ---- one way

def start_all(way, guest, n):
    """How many were started, and how long it took. The memory of others on the machine is left alone."""
    def one(i):
        if available() < SPARE:
            return 0
        way.start(guest, i)
        return 1
    if hasattr(way, "prepare"):
        with concurrent.futures.ThreadPoolExecutor(STARTERS) as pool:
            list(pool.map(lambda i: way.prepare(guest, i), range(n)))
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(STARTERS) as pool:
        return sum(pool.map(one, range(n))), time.monotonic() - begin


def keeper_of(way):
    pid = way.keeper()
    if pid is None:
        return None
    values = dict(re.findall(r"(?m)^(Rss|Pss):\s+(\d+)", read(f"/proc/{pid}/smaps_rollup")))
    return {"rss": int(values["Rss"]) * 1024, "pss": int(values["Pss"]) * 1024, "threads": len(os.listdir(f"/proc/{pid}/task")),
            "files": len(os.listdir(f"/proc/{pid}/fd"))}


def calm(pids, since):
    """Wait until the guests have booted: they use less than a fortieth of a CPU each, or it takes too long."""
    deadline, before = time.monotonic() + BOOT_DEADLINE, since
    while time.monotonic() < deadline:
        time.sleep(CALM_LOOK)
        after = look(pids)
        if difference(before, after)[1] < CALM_LOOK / 40:
            return
        before = after


def watch(way, pids, options):
    """The seed's table: interval 000 is the boot, the others are idle."""
    rows, before, keeper = [], look(pids), way.keeper()
    for n in range(options.intervals + 1):
        cpu, begin = cpu_of(keeper) if keeper else 0, time.monotonic()
        time.sleep(options.seconds)  # the thing measured
        if n == 0:
            calm(pids, look(pids))
        after = look(pids)
        kinds, used = difference(before, after)
        rows.append({"interval": n, **kinds, "cpu": used, "load": os.getloadavg()[0],
                     "keeper_cpu": (cpu_of(keeper) - cpu) / (time.monotonic() - begin) if keeper else None})
        print(f"{n:03}{kinds['main']:12,.0f}{kinds['vcpu']:12,.0f}{kinds['worker'] + kinds['other']:12,.0f}"
              f"{used * 1000:12,.1f}{rows[-1]['load']:8.1f}", flush=True)
        before = after
    return rows


def measure(way, guest, n, options):
    print(f"\n{way.title}: {guest.name}; each row {options.seconds} s, woken\n     Main loop       Vcpus     Workers      CPU ms    Load")
    started, took = start_all(way, guest, n)
    pids = way.pids()
    rows = watch(way, pids, options)
    alive = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    memory = [memory_of(pid, guest.ram) for pid in alive]
    result = {"way": way.title, "guest": guest.name, "asked": n, "started": started, "alive": len(alive), "start_seconds": took,
              "pss": sum(m[0] for m in memory) / len(alive), "ram": sum(m[1] for m in memory) / len(alive),
              "rows": rows, "keeper": keeper_of(way)}
    result["overhead"] = result["pss"] - result["ram"]
    print(f"{started} of {n} started in {took:.1f} s, {len(alive)} live at the end; QEMU takes {result['overhead'] / MIB:.1f} MiB beside "
          f"{result['ram'] / MIB:.1f} MiB that its guest touched", flush=True)
    if isinstance(way, Ours):
        result.update(measure_daemon(way.daemon))
    way.stop_all()
    wait_gone(alive)
    return result


def wait_gone(pids):
    deadline = time.monotonic() + 120
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)


def measure_daemon(daemon):
    """Lists, and how long a daemon that begins anew takes until its guests are its own again."""
    connection, times = rig.UnixConnection(daemon.socket), []
    for _ in range(LISTS):
        begin = time.monotonic()
        daemon.call("GET", "/v1/vms", connection=connection)
        times.append(time.monotonic() - begin)
    connection.close()
    times.sort()
    begin = time.monotonic()
    daemon.restart()
    ready = time.monotonic() - begin
    return {"list_p50": times[LISTS // 2], "list_p99": times[LISTS * 99 // 100], "adoption": ready}


# ---- guests and the whole

def payload_guest(daemon):
    return Guest("payload, 16 MiB", daemon.kernel, 16 * MIB)


def linux_guest(folder):
    """Debian's kernel, and a busybox that mounts /proc and sleeps."""
    from lablib import cpio, kernel
    vmlinux, _ = kernel.boot_files()
    init = b"#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\nwhile :; do /bin/busybox sleep 86400; done\n"
    archive = cpio.Archive()
    for name in ("bin", "proc", "dev"):
        archive.folder(name)
    archive.console()
    with open("/bin/busybox", "rb") as f:
        archive.file("bin/busybox", f.read(), 0o755)
    archive.file("init", init, 0o755)
    path = os.path.join(folder, "initrd")
    with gzip.open(path, "wb") as f:
        f.write(archive.bytes())
    kept = shutil.copy(vmlinux, folder)
    for file in (path, kept):
        os.chmod(file, 0o644)
    return Guest("Linux, 160 MiB", kept, 160 * MIB, path, "console=ttyS0 quiet no_timer_check vt.global_cursor_default=0")


def summary(results):
    print(f"\n{'each guest, mean of the idle intervals':44}{'wakeups/30 s':>14}{'CPU ms/30 s':>13}{'all: CPUs':>10}{'load':>7}{'MiB beside':>12}{'started':>10}")
    for r in results:
        print(f"{r['way'] + ', ' + r['guest']:44}{r['wakeups']:14,.0f}{r['cpu_ms']:13,.1f}{r['cpu_ms'] * r['alive'] / 30000:10.3f}{r['load']:7.1f}{r['overhead'] / MIB:12.1f}"
              f"{r['started']:5}/{r['asked']}")
    for r in results:
        if r["keeper"]:
            idle = [row["keeper_cpu"] for row in r["rows"][1:]]
            print(f"daemon of {r['way']}, {r['started']} guests: {sum(idle) / len(idle) * 100:.2f} % of a CPU, RSS {r['keeper']['rss'] / MIB:.1f} MiB, "
                  f"PSS {r['keeper']['pss'] / MIB:.1f} MiB, {r['keeper']['threads']} threads, {r['keeper']['files']} files")
        if "adoption" in r:
            print(f"lists: p50 {r['list_p50'] * 1000:.0f} ms, p99 {r['list_p99'] * 1000:.0f} ms; "
                  f"stopped and begun anew, with all guests taken up: {r['adoption']:.1f} s")


def finish(result, seconds):
    idle, scale = result["rows"][1:], 30 / seconds
    result["wakeups"] = sum(r["main"] + r["vcpu"] + r["worker"] + r["other"] for r in idle) / len(idle) * scale
    result["cpu_ms"] = sum(r["cpu"] for r in idle) / len(idle) * 1000 * scale
    result["load"] = idle[-1]["load"]
    return result


def ways_of(options, daemon, virt, accel):
    ways = {"plain": lambda: Plain(daemon.dir, accel), "libvirt": lambda: Virt(virt, accel), "ours": lambda: Ours(daemon)}
    return [make() for name, make in ways.items() if name in options.ways and (name != "libvirt" or virt)]


def run(options, daemon, virt):
    accel = "kvm" if daemon.get("/v1/hosts")[0]["accelerators"]["kvm"]["works"] else "tcg"
    daemon.call("PATCH", f"/v1/hosts/{daemon.get('/v1')['host']}", {"settings": {"memory.overcommit": 1000}})
    guests = [(payload_guest(daemon), options.guests)]
    if options.linux:
        guests.append((linux_guest(daemon.dir), options.linux))
    return [finish(measure(way, guest, n, options), options.seconds)
            for guest, n in guests if n for way in ways_of(options, daemon, virt, accel)]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--guests", type=int, default=300, help="payload guests, each way (300)")
    p.add_argument("--linux", type=int, default=6, help="Linux guests, each way (6; 0: none)")
    p.add_argument("--seconds", type=int, default=30, help="of an interval (30)")
    p.add_argument("--intervals", type=int, default=2, help="idle ones, behind the one of the boot (2)")
    p.add_argument("--ways", default="plain,libvirt,ours")
    p.add_argument("--build", default=os.path.join(rig.ROOT, "build"))
    p.add_argument("--svg", help="write the picture here")
    p.add_argument("--json", help="write all figures here")
    p.add_argument("--install-libvirt", action="store_true", help="apt-get install " + " ".join(libvirt.PACKAGES))
    options = p.parse_args()
    if min(options.guests, options.seconds, options.intervals) < 1:
        p.error("--guests, --seconds and --intervals begin at 1")
    options.ways = options.ways.split(",")
    if options.install_libvirt and not libvirt.installed():
        libvirt.install()
    with rig.Daemon(options.build) as daemon:
        begin = rig.machine()
        print(begin)
        if "libvirt" in options.ways and libvirt.installed():
            user = daemon.get("/v1/hosts")[0].get("run_as") or "root"
            with libvirt.Libvirt(os.path.join(daemon.dir, "libvirt"), user, True) as virt:
                results = run(options, daemon, virt)
        else:
            print("libvirt is not measured" if "libvirt" not in options.ways else "libvirt is not installed: --install-libvirt")
            results = run(options, daemon, None)
    summary(results)
    print(f"at the end: {rig.machine()}")
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as f:
            f.write(picture.draw(results, begin))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    ends.run(main)
