# SPDX-License-Identifier: Apache-2.0
"""The payload guest under a real QEMU: what it reports, and that each of its jobs does what docs/payload.md says."""
import json
import mmap
import os
import struct
import subprocess
import time

import pytest
from qemu_guest import DEADLINE, PAYLOAD, Guest

MACHINES = ["pc", "q35", "microvm"]
REPORT_JSON = os.environ["PAYLOAD_REPORT_JSON"]
DEBUG_EXIT = ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
PAGE = 4096
MIB = 1 << 20
# QEMU's own clock: an instruction takes 32 ns of it and a halted CPU no time of ours. What a job does in a second of the
# guest's is then the same on a host that has other things to do.
VIRTUAL_CLOCK = ("-icount", "shift=5,sleep=off")


def report(guest):
    """What our own parser makes of the console so far."""
    text = "".join(line + "\n" for line in guest.console.lines)
    parsed = subprocess.run([REPORT_JSON], input=text, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, f"{parsed.stderr}\n{text}"
    return json.loads(parsed.stdout)


def leaves(r):
    return {(leaf, subleaf): dict(zip(("EAX", "EBX", "ECX", "EDX"), regs)) for leaf, subleaf, *regs in r["cpuid"]}


def text_of(*registers):
    return struct.pack(f"<{len(registers)}I", *registers).decode().rstrip("\0")


def cpu_path(guest):
    return guest.command("query-cpus-fast")[0]["qom-path"]


def test_elf_is_small():
    assert os.path.getsize(PAYLOAD) < 64 * 1024


@pytest.mark.parametrize("machine", MACHINES)
def test_report_is_complete(machine):
    with Guest("idle", machine) as guest:
        guest.line("job idle")
        r = report(guest)
        assert r["starts"] == 1 and r["ready"] and r["error"] == ""
        assert r["tsc_source"] == "pit"
        assert 7 * MIB < r["memory"] <= 8 * MIB
        assert any(line.startswith("cmdline job=idle") for line in guest.console.lines)
        seen = leaves(r)
        for base in (0, 0x40000000, 0x80000000):
            last = seen[base, 0]["EAX"]
            assert last >= base and all((leaf, 0) in seen for leaf in range(base, last + 1))
        assert text_of(*(seen[0x40000000, 0][x] for x in ("EBX", "ECX", "EDX"))) == "TCGTCGTCGTCG"


# What QEMU was told to show and what the guest sees may differ in what the guest itself switched on (OSXSAVE,
# OSPKE), which QEMU adds to its words when the leaf is read.
DYNAMIC = {(1, 0, "ECX"): 1 << 27, (7, 0, "ECX"): 1 << 4}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("cpu", ["qemu64", "max", "qemu64,+avx2,+avx,+xsave,+xsaveopt,+bmi2", "EPYC", "Skylake-Client-v1"])
def test_every_feature_word_agrees_with_qemu(machine, cpu):
    with Guest("idle", machine, cpu=cpu) as guest:
        guest.line("job idle")
        seen = leaves(report(guest))
        path = cpu_path(guest)
        compared = 0
        for word in guest.command("qom-get", path=path, property="feature-words"):
            leaf, register = word["cpuid-input-eax"], word["cpuid-register"]
            subleaf = word.get("cpuid-input-ecx", 0)
            if (leaf, subleaf) not in seen:
                continue  # above the model's last leaf: no guest can see it
            ignore = DYNAMIC.get((leaf, subleaf, register), 0)
            value = seen[leaf, subleaf][register]
            assert (word["features"] ^ value) & ~ignore == 0, (
                f"leaf {leaf:#x}.{subleaf} {register}: QEMU {word['features']:#x}, guest {value:#x}")
            compared += 1
        assert compared >= 8


@pytest.mark.parametrize("cpu", ["qemu64", "max", "EPYC"])
def test_name_and_levels_agree_with_qemu(cpu):
    with Guest("idle", cpu=cpu) as guest:
        guest.line("job idle")
        seen = leaves(report(guest))

        def said(name):
            return guest.command("qom-get", path=cpu_path(guest), property=name)
        assert text_of(*(seen[0, 0][x] for x in ("EBX", "EDX", "ECX"))) == said("vendor")
        name = text_of(*(seen[leaf, 0][x] for leaf in range(0x80000002, 0x80000005) for x in ("EAX", "EBX", "ECX", "EDX")))
        assert name == said("model-id")
        version = seen[1, 0]["EAX"]
        family = (version >> 8 & 15) + (version >> 20 & 0xFF)
        assert (family, version & 15) == (said("family"), said("stepping"))


def test_xcr0_is_what_can_be_switched_on():
    with Guest("idle", cpu="max") as guest:
        guest.line("job idle")
        r = report(guest)
        mask = leaves(r)[0xD, 0]
        assert r["xcr0"] == mask["EDX"] << 32 | mask["EAX"] and r["xcr0"] & 7 == 7
        assert leaves(r)[1, 0]["ECX"] & 1 << 27, "OSXSAVE is on"
    with Guest("idle", cpu="max,-xsave") as guest:
        guest.line("job idle")
        r = report(guest)
        assert r["has_xcr0"] and r["xcr0"] == 0
    with Guest("idle", cpu="max", options="xsave=off") as guest:
        guest.line("job idle")
        r = report(guest)
        assert not r["has_xcr0"] and not leaves(r)[1, 0]["ECX"] & 1 << 27


def test_xsave_that_tcg_cannot_switch_on_is_not_tried():
    """Under TCG the instruction would be repeated for ever; CPUID and xcr0 then contradict each other, as they should."""
    with Guest("idle", cpu="qemu64,+xsave") as guest:
        guest.line("job idle")
        r = report(guest)
        assert leaves(r)[1, 0]["ECX"] & 1 << 26 and r["xcr0"] == 0


def test_two_clocks_give_one_rate():
    rates = {}
    for machine in ("q35", "microvm", "microvm,pit=off"):
        with Guest("idle", machine, extra=VIRTUAL_CLOCK) as guest:
            guest.line("job idle")
            r = report(guest)
            rates[r["tsc_source"]] = r["tsc_khz"]
    assert set(rates) == {"pit", "lapic"}
    assert abs(rates["pit"] - rates["lapic"]) < rates["pit"] / 100, rates


def test_time_is_the_hosts_time():
    """Of a guest whose seconds are longer or shorter than ours no line comes when it should. On a busy host some do not."""
    with Guest(",".join(["sleep:1s", "sleep:500ms"] * 50)) as guest:
        guest.line("job sleep:1s")
        second = half = False
        while not (second and half):
            start = time.monotonic()
            guest.line("job sleep:500ms")
            between = time.monotonic()
            guest.line("job sleep:1s")
            second = second or 0.9 < between - start < 1.4
            half = half or 0.4 < time.monotonic() - between < 0.8


@pytest.mark.parametrize("machine", MACHINES)
def test_report_on_the_serial_port(machine):
    with Guest("burn:1000", machine, console="serial", options="out=serial") as guest:
        guest.line("done")
        r = report(guest)
        assert r["ready"] and r["done"] and r["burns"] == 1


@pytest.mark.parametrize("machine", MACHINES)
def test_two_mib_are_enough(machine):
    """With less, QEMU's own firmware does not come through."""
    with Guest("exit:5", machine, memory="2", extra=DEBUG_EXIT) as guest:
        assert guest.ended() == 5 << 1 | 1


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("code", [0, 3, 127])
def test_exit_gives_the_code(machine, code):
    with Guest(f"exit:{code}", machine, extra=DEBUG_EXIT) as guest:
        assert guest.ended() == code << 1 | 1


@pytest.mark.parametrize("machine", MACHINES)
def test_poweroff_is_a_guest_shutdown(machine):
    with Guest("poweroff", machine) as guest:
        assert guest.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        assert guest.ended() == 0
        assert not report(guest)["error"]


@pytest.mark.parametrize("machine", MACHINES)
def test_power_button_ends_acpi(machine):
    with Guest("acpi", machine) as guest:
        guest.line("ready")
        guest.command("system_powerdown")
        assert guest.event("SHUTDOWN")["reason"] == "guest-shutdown"
        assert guest.ended() == 0
        assert guest.console.lines[-1] == "button"


def test_button_that_is_not_there_is_an_error():
    with Guest("acpi", "microvm,acpi=off") as guest:
        assert guest.line("error") == ["error", "no", "power", "button"]


@pytest.mark.parametrize("machine", MACHINES)
def test_reboot_is_counted_and_seen(machine):
    """SeaBIOS answers a reset with one or two of its own before it boots; qboot does not."""
    with Guest("reboot:2,exit:1", machine, extra=DEBUG_EXIT) as guest:
        assert guest.ended() == 3
        assert report(guest)["starts"] == 3
        resets = [e for e in guest.events if e["event"] == "RESET"]
        assert all(e["data"] == {"guest": True, "reason": "guest-reset"} for e in resets)
        assert len(resets) == 2 if machine == "microvm" else len(resets) >= 2


def test_reboot_without_a_number_ends_a_no_reboot_qemu():
    with Guest("reboot", extra=["-no-reboot"]) as guest:
        assert guest.event("SHUTDOWN")["reason"] == "guest-reset"
        assert guest.ended() == 0


@pytest.mark.parametrize("machine", MACHINES)
def test_panic_is_seen(machine):
    with Guest("panic", machine, extra=["-device", "pvpanic"]) as guest:
        assert guest.event("GUEST_PANICKED")["action"] == "poweroff"
        assert guest.event("SHUTDOWN")["reason"] == "guest-panic"


def test_devices_that_are_not_there_are_an_error():
    with Guest("panic") as guest:
        assert "pvpanic" in guest.line("error")
    with Guest("exit:1") as guest:
        assert "isa-debug-exit" in guest.line("error")


@pytest.mark.parametrize("machine", MACHINES)
def test_nmi_is_seen(machine):
    with Guest("idle", machine) as guest:
        guest.line("job idle")
        for n in ("1", "2"):
            guest.command("inject-nmi")
            assert guest.line("nmi") == ["nmi", n]


def test_a_writer_tells_who_and_how_often(tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB))
    drive = ["-drive", f"file={disk},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d"]
    with Guest("write:100", "pc", extra=drive) as guest:
        guest.line("job write")

        def words(past):
            end = time.monotonic() + DEADLINE
            while (said := disk.read_bytes()[:512].rstrip(b"\0").decode().split())[2:] <= past:
                assert time.monotonic() < end, said
                time.sleep(0.005)
            return said
        first = words([])
        later = words(first[2:])
        assert first[:2] == later[:2] and first[0] == "writer" and len(first[1]) == len(first[2]) == 16
    with Guest("write:100", "q35", extra=drive[:2] + ["-device", "virtio-blk-pci,drive=d,disable-legacy=on"]) as guest:
        assert "no transitional virtio disk" in " ".join(guest.line("error"))


def test_report_tells_cpuid_again_at_each_nmi():
    with Guest("report") as guest:
        guest.line("job report")
        told = []
        for n in ("1", "2"):
            guest.command("inject-nmi")
            guest.line("reported " + n)
            lines = guest.console.lines
            told.append(lines[lines.index("nmi " + n) + 1:lines.index("reported " + n)])
        assert told[0] == told[1] and len(told[0]) > 10
        assert all(line.startswith("cpuid ") for line in told[0])
        assert len(report(guest)["cpuid"]) == len(told[0])


@pytest.mark.parametrize("job,line", [
    ("jump", "error unknown job"),
    ("burn", "error bad argument"),
    ("burn:-1", "error bad argument"),
    ("burn:1x", "error bad argument"),
    ("burn:99999999999999999999", "error bad argument"),
    ("exit:128", "error bad argument"),
    ("tick:0", "error bad argument"),
    ("dirty:1:0", "error bad argument"),
    ("dirty:1", "error bad argument"),
    ("dirty:1:8", "error not that much memory to dirty"),
])
def test_job_that_cannot_be_done_is_an_error(job, line):
    with Guest(job + ",burn:1") as guest:
        guest.line("error")
        assert guest.console.lines[-1] == line
        assert report(guest)["burns"] == 0, "nothing comes after it"


def test_jobs_run_in_order():
    with Guest("burn:10,tick:100:3,burn:20,verify") as guest:
        guest.line("done")
        after = guest.console.lines[guest.console.lines.index("ready") + 1:]
        assert [line.split()[0] for line in after] == [
            "job", "burn", "job", "tick", "tick", "tick", "job", "burn", "job", "verify", "done"]


def test_burn_says_how_fast_the_cpu_is():
    """The accelerator probe tells by this rate a KVM that only emulates (1 to 3 million) from a CPU that runs."""
    with Guest("burn:20000000,burn:300ms") as guest:
        iterations, ns, cycles = (int(w) for w in guest.line("burn")[1:])
        assert iterations == 20000000 and ns > 0 and cycles > 0
        r = report(guest)
        assert abs(cycles / ns - r["tsc_khz"] / 1e6) < 0.001 * cycles / ns
        assert r["rate"] == pytest.approx(2 * iterations / ns * 1e9, rel=0.001)  # an iteration has two instructions
        iterations, ns, _ = (int(w) for w in guest.line("burn")[1:])
        assert iterations > 0 and ns >= 300_000_000


def test_ticks_come_at_their_rate():
    with Guest("tick:100:300", extra=VIRTUAL_CLOCK) as guest:
        first = [int(w) for w in guest.line("tick 1 ")[1:]]
        last = [int(w) for w in guest.line("tick 300 ")[1:]]
        khz = report(guest)["tsc_khz"]
        assert 2.98 < (last[1] - first[1]) / khz / 1000 < 3.0
        numbers = [int(line.split()[1]) for line in guest.console.lines if line.startswith("tick ")]
        assert numbers == list(range(1, 301))


def test_idle_costs_nothing():
    """Beside each other: a guest that burns, and one idle guest of each machine. No thread of those wakes up."""
    idle = []
    try:
        for machine in MACHINES:
            idle.append(Guest("idle", machine))
            idle[-1].line("job idle")
        # By the time that it got: on a host that has little for it, the window is longer.
        with Guest("burn:20000000," + ",".join(["burn:2s"] * 30)) as busy:
            busy.line("burn")
            busy_before = busy.cpu_seconds()
            before = [(g.cpu_seconds(), g.wakeups()) for g in idle]
            burnt = 0
            while burnt <= 0.1:
                busy.line("burn")
                burnt = busy.cpu_seconds() - busy_before
            for guest, (seconds, wakeups) in zip(idle, before):
                assert guest.cpu_seconds() - seconds <= max(burnt / 100, 0.02)
                assert guest.wakeups() - wakeups <= 2
    finally:
        for guest in idle:
            guest.close()


def test_dirty_keeps_its_rate():
    with Guest("dirty:40:16:3s,verify", memory="32", extra=VIRTUAL_CLOCK) as guest:
        guest.line("job verify")
        pages, ns, bad = (int(w) for w in [x for x in guest.console.lines if x.startswith("dirty")][-1].split()[1:])
        assert bad == 0
        rate = pages * PAGE / MIB / (ns / 1e9)
        assert 39.5 < rate < 40.5
        assert guest.line("verify")[1] == str(16 * MIB // PAGE)
        assert guest.line("done") and guest.console.lines[-2].endswith(" 0")


def soak_of(guest):
    """beat, ns, gap, back, pages, bad, cpu"""
    line = guest.line("soak ")
    return [int(w) for w in line[1:7]] + [line[7]]


def test_soak_counts_checks_and_sees_the_same_cpu():
    with Guest("soak:4:1:20", memory="8") as guest:
        first, last = soak_of(guest), None
        while last is None or last[0] < 25:
            last = soak_of(guest)
        assert last[0] > first[0] and last[1] > first[1] and last[2] > 0
        assert last[3] == 0 and last[5] == 0 and last[4] == MIB // PAGE
        assert last[6] == first[6] and len(last[6]) == 16


def test_soak_sees_a_damaged_page_until_it_is_written_again():
    with Guest("soak:1:4:20:break", memory="8") as guest:
        assert soak_of(guest)[5] == 0
        guest.command("inject-nmi")
        while soak_of(guest)[5] == 0:
            pass


def test_another_cpu_is_another_number_in_soak():
    seen = []
    for cpu in ("qemu64", "qemu64", "qemu64,-sse3"):
        with Guest("soak:1:1", memory="8", cpu=cpu) as guest:
            seen.append(soak_of(guest)[6])
    assert seen[0] == seen[1] != seen[2]


def test_dirty_pages_are_dirty_for_qemu():
    """
    QEMU's own measure of dirty pages agrees with the guest's: as often as not on a busy host, where the one may stand
    still while the other goes on.
    """
    with Guest("dirty:32:64", memory="128") as guest:
        pairs = []
        for _ in range(10):
            first = last = [int(w) for w in guest.line("dirty ")[1:]]
            end = time.monotonic() + 120
            guest.command("calc-dirty-rate", **{"calc-time": 2, "sample-pages": 4096})
            while (rate := guest.command("query-dirty-rate"))["status"] != "measured" or last is first:
                assert time.monotonic() < end, rate
                last = [int(w) for w in guest.line("dirty ")[1:]]
            guests = (last[0] - first[0]) * PAGE / MIB / ((last[1] - first[1]) / 1e9)
            pairs.append((rate["dirty-rate"], guests))
            if guests / 4 < rate["dirty-rate"] < guests * 2:
                break
        else:
            pytest.fail(f"MiB/s that QEMU measured, and the guest: {pairs}")


def shared_memory(path, mib):
    return ["-object", f"memory-backend-file,id=ram,size={mib}M,mem-path={path},share=on", "-machine", "memory-backend=ram"]


def test_lost_write_is_found(tmp_path):
    """One page changed behind the guest's back: verify counts it, and so does dirty when it comes by."""
    file = tmp_path / "ram"
    for seconds in (1, 4, 16):  # the longer, the busier a host may be that has to write, or to change the page, in time
        job = f"dirty:200:4:{seconds}s,tick:100:{20 * seconds},verify"
        with Guest(job, extra=shared_memory(file, 8)) as guest:
            guest.line("tick 1 ")
            with open(file, "r+b") as f, mmap.mmap(f.fileno(), 0) as ram:
                ram[3 * MIB] ^= 1
            in_time = not any(line == "job verify" for line in guest.console_now())
            verify = guest.line("verify")
        file.unlink()
        if in_time and verify[1] == str(4 * MIB // PAGE):
            break
    assert in_time and verify[1] == str(4 * MIB // PAGE) and verify[3] == "1"
    with Guest("dirty:64:4", extra=shared_memory(file, 8)) as guest:
        while int(guest.line("dirty ")[1]) < 4 * MIB // PAGE:
            pass
        with open(file, "r+b") as f, mmap.mmap(f.fileno(), 0) as ram:
            ram[3 * MIB + PAGE - 1] ^= 0x80
        # A hundred times round from here and it must be seen. What the guest said before may have to be read first.
        before = [int(line.split()[1]) for line in guest.console_now() if line.startswith("dirty ")][-1]
        pages, bad = 0, 0
        while bad == 0:
            pages, bad = (int(w) for w in guest.line("dirty ")[1:4:2])
            assert bad or pages < before + 100 * 4 * MIB // PAGE


def test_memory_above_4_gib_is_dirtied():
    with Guest("dirty:100000:4000:4s,verify", memory="5G") as guest:
        verify = guest.line("verify")
        assert verify[3] == "0" and int(verify[1]) > 0
        assert report(guest)["memory"] > 4 << 30


# QEMU under TCG loses writes to pages that stay in its translation buffer while it copies RAM in several rounds,
# but for RAM whose size is no multiple of 256 KiB (there it looks at each page by itself); KVM never does.
MIGRATES_WHOLE = "32640K"


@pytest.mark.parametrize("machine", MACHINES)
def test_pattern_survives_a_live_migration(machine, tmp_path):
    """Copied in rounds while it writes faster than the wire is; then let through."""
    wire = f"unix:{tmp_path}/wire"
    with Guest("dirty:100:8", machine, memory=MIGRATES_WHOLE) as source, \
            Guest("dirty:100:8", machine, memory=MIGRATES_WHOLE, extra=["-incoming", "defer"]) as target:
        pages = int(source.line("dirty ")[1])
        target.command("migrate-incoming", uri=wire)
        source.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        source.command("migrate-set-parameters", **{"max-bandwidth": 8 * MIB, "downtime-limit": 1})
        source.command("migrate", uri=wire)
        source.until("fourth round", lambda: True if source.event_count("MIGRATION_PASS") >= 4 else None)
        source.command("migrate-set-parameters", **{"max-bandwidth": 1024 * MIB, "downtime-limit": 1000})
        target.event("RESUME")
        here = [int(w) for w in target.line("dirty ")[1:]]
        there = [int(w) for w in target.line("dirty ")[1:]]
        assert here[0] > pages and here[1] > 1_000_000_000, "it goes on, it does not start again"
        assert there[0] > here[0] and here[2] == there[2] == 0, (source.console.lines[-3:], target.console.lines[-3:])


@pytest.mark.parametrize("machine", ["q35", "microvm"])
def test_kvm_runs_the_payload(machine):
    """Also a KVM that emulates every instruction: xsave=off, and a burn that it manages."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm here")
    with Guest("burn:20000,exit:9", machine, accel="kvm", cpu="qemu64", options="xsave=off", extra=DEBUG_EXIT) as guest:
        assert guest.ended() == 19
        r = report(guest)
        base = leaves(r)[0x40000000, 0]
        assert text_of(*(base[x] for x in ("EBX", "ECX", "EDX"))) == "KVMKVMKVM"
        assert r["tsc_source"] in ("pvclock", "cpuid40000010", "cpuid15") and r["rate"] > 0
