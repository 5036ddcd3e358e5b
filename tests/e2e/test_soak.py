# SPDX-License-Identifier: Apache-2.0
"""plim soak: payloads that watch themselves go round between two real daemons, and what is wrong is found."""
import json
import os
import re
import signal

import pytest

from daemon import PAYLOAD, until

MEMORY = "8064KiB"  # no multiple of 256 KiB: docs/payload.md
RAM, PAGE = 8064 << 10, 4096
WATCH = "soak:2:2:20"
# What a guest may stand still besides its downtime. Its vcpu waits for a processor that somebody else has, too.
MARGIN = ("--margin", "30s")


@pytest.fixture
def two(make_pool):
    return make_pool(2, engine="qemu", lease="30")


def started(host, name, job=WATCH):
    host.ok("vm", "create", name, "--memory", MEMORY, "--kernel", PAYLOAD, "--nic", "none", "--cmdline",
            f"out=serial job={job}", "--set", "platform.hvm_serial=pty", "--set", "restart=never", "--host", host.name)
    host.ok("vm", "start", name, "--host", host.name)
    until(lambda: beats(host, name), f"first line of {name}")


def beats(host, name):
    answer = host.api("GET", f"/v1/vms/{name}/console/log?port=serial")
    text = answer.body.decode(errors="replace") if isinstance(answer.body, bytes) else ""
    return [int(n) for n in re.findall(r"^soak (\d+) .* [0-9a-f]{16}\r?$", text, re.M)]


def soak(host, *args):
    """A soak to its end."""
    process = host.begin("soak", "migrate", *args, "--between", "h0,h1", *MARGIN, "-o", "json")
    out, err = process.communicate(timeout=900)
    try:
        return process.returncode, json.loads(out), err
    except ValueError:
        raise AssertionError(f"{process.returncode} {out} {err}") from None


def test_guests_go_round_and_nothing_is_wrong(two):
    trips = int(os.environ.get("SOAK_TRIPS", "200"))  # 200 CPU milliseconds a move; docs/soak.md tells how long that is
    names = [f"g{i}" for i in range(4)]
    for name in names:
        started(two[0], name)
    status, told, err = soak(two[0], *names, "--count", trips, "--seed", 42, "--pause", "20ms")
    assert status == 0, err
    assert told["status"] == "done" and told["trips"] == trips and told["seed"] == 42 and told["deviation"] is None
    assert told["moves"] == told["downtime"]["count"] == told["total"]["count"] == 2 * trips
    assert sum(c["count"] for c in told["downtime"]["classes"]) == 2 * trips
    assert 0 < told["downtime"]["median"] <= told["downtime"]["max"] < told["total"]["max"]
    assert told["cancelled"] > 0
    assert all(g["last"]["bad"] == 0 and g["last"]["back"] == 0 and g["trips"] >= trips // 4 for g in told["guests"])
    print(json.dumps({k: told[k] for k in ("trips", "moves", "cancelled", "elapsed", "downtime", "total")}))
    for name in names:
        assert two[0].runtime(name)["state"] == "running"


def test_a_damaged_guest_stops_the_soak_with_evidence_of_both_sides(two, tmp_path):
    folder = tmp_path / "found"
    started(two[0], "good")
    started(two[0], "broken", "soak:1:2:20:break")
    process = two[0].begin("soak", "migrate", "good", "broken", "--between", "h0,h1", "--count", "1000", "--seed", "5",
                           "--evidence", folder, "--cancel", "0", *MARGIN)
    until(lambda: len(two[0].events("vm.migrated")) >= 4, "moves")

    def hurt():
        two[0].plim("vm", "nmi", "broken")
        return process.poll() is not None
    until(hurt, "end of the soak", 300)
    out, err = process.communicate()
    assert process.returncode == 5, (out, err)
    assert out.startswith("deviation: ") and "Downtime of" in out and "Total time of" in out
    assert "'broken' deviated in trip" in err and "not as the guest wrote them" in err and "--seed 5" in err
    assert two[0].wait_state("broken", "paused")
    assert two[0].runtime("good")["state"] == "running"
    have = set(os.listdir(folder))
    at, other = ("h0", "h1") if "h0.registers.txt" in have else ("h1", "h0")
    assert have >= {f"{at}.qemu.log", f"{other}.qemu.log", f"{at}.guest.json", f"{other}.guest.json", f"{at}.host.json",
                    f"{other}.host.json", f"{at}.registers.txt", f"{at}.dump.json", "vm.json", "console.txt", "events.json",
                    "operations.json", "move.json", "soak.json", f"{other}.registers.txt.error"}, have
    assert "RIP=" in (folder / f"{at}.registers.txt").read_text()
    assert re.search(r"^soak \d+ \d+ \d+ 0 \d+ [1-9]", (folder / "console.txt").read_text(), re.M)
    assert [p["status"] for p in json.loads((folder / f"{at}.guest.json").read_text())["processes"]] == ["paused"]
    assert json.loads((folder / f"{other}.guest.json").read_text())["processes"] == []
    assert json.loads((folder / "move.json").read_text())["result"]["downtime"] > 0
    dump = json.loads((folder / f"{at}.dump.json").read_text())
    with open(dump["path"], "rb") as core:
        assert core.read(4) == b"\x7fELF"
        assert dump["size"] == os.fstat(core.fileno()).st_size > 7 << 20
        assert os.fstat(core.fileno()).st_mode & 0o077 == 0
    found = json.loads((folder / "soak.json").read_text())
    assert found["status"] == "deviation" and found["deviation"]["vm"] == "broken"
    assert found["deviation"]["reasons"][0]["check"] == "memory"


def poke(pid):
    """Flip a bit of one of the guest's own pages, from outside: nothing in the guest, in QEMU or in a daemon is told."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as mem:
        for line in maps:
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            if end - begin != RAM:
                continue
            mem.seek(begin)
            block = mem.read(RAM)
            for at in range(0, RAM, PAGE):
                first, rest, last = block[at:at + 8], block[at + 8:at + PAGE - 8], block[at + PAGE - 8:at + PAGE]
                if any(first) and any(last) and not any(rest):  # as docs/payload.md tells
                    mem.seek(begin + at + PAGE - 8)
                    mem.write(bytes([last[0] ^ 1]))
                    return


def test_memory_that_changes_behind_the_guests_back_is_found(two, tmp_path):
    """As a page would that a migration lost."""
    folder = tmp_path / "found"
    started(two[0], "g")
    process = two[0].begin("soak", "migrate", "g", "--between", "h0,h1", "--count", "1000", "--seed", "7", "--evidence", folder,
                           *MARGIN)
    until(lambda: len(two[0].events("vm.migrated")) >= 2, "moves")

    def hurt():
        try:
            poke(two[0].runtime("g")["pid"])
        except OSError:
            pass  # that QEMU has just ended: the guest is elsewhere
        return process.poll() is not None
    until(hurt, "end of the soak", 300)
    out, err = process.communicate()
    assert process.returncode == 5 and "not as the guest wrote them" in err, (out, err)
    found = json.loads((folder / "soak.json").read_text())["deviation"]
    assert found["vm"] == "g" and "memory" in [r["check"] for r in found["reasons"]]
    for host in ("h0", "h1"):
        assert {f"{host}.guest.json", f"{host}.qemu.log", f"{host}.host.json"} <= set(os.listdir(folder))
    at = next(h for h in ("h0", "h1") if (folder / f"{h}.registers.txt").exists())
    assert "RIP=" in (folder / f"{at}.registers.txt").read_text()
    with open(json.loads((folder / f"{at}.dump.json").read_text())["path"], "rb") as core:
        assert core.read(4) == b"\x7fELF"
    assert two[0].wait_state("g", "paused")


def test_a_guest_that_starts_anew_is_found(two, tmp_path):
    started(two[0], "g")
    process = two[0].begin("soak", "migrate", "g", "--between", "h0,h1", "--count", "1000", "--evidence", tmp_path / "found",
                           "--cancel", "0", "--pause", "200ms", *MARGIN)
    until(lambda: len(two[0].events("vm.migrated")) >= 2 and beats(two[0], "g")[-1:] > [40], "moves and beats")
    reset_at = []

    def hurt():
        """Again whenever it has come as far: a guest that does so between two looks of the soak was not seen to begin anew."""
        last = beats(two[0], "g")[-1:]
        if [40] < last != reset_at and two[0].plim("vm", "reset", "g").status == 0:  # refused while it moves
            reset_at[:] = last
        return process.poll() is not None
    until(hurt, "end of the soak", 300)
    out, err = process.communicate()
    assert process.returncode == 5 and "the heartbeat was at" in err, (out, err)


def test_ctrl_c_leaves_the_guest_running_and_tells_what_was_measured(two):
    started(two[0], "g")
    process = two[0].begin("soak", "migrate", "g", "--between", "h0,h1", "--count", "100000", *MARGIN, "-o", "json")
    until(lambda: len(two[0].events("vm.migrated")) >= 3, "moves, of which plim has heard of two")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    told = json.loads(out)
    assert process.returncode == 130, err
    assert told["status"] == "interrupted" and told["moves"] >= 2 and told["deviation"] is None
    runtime = two[0].wait_idle("g")
    assert runtime["state"] == "running"
    before = beats(two[0], "g")
    until(lambda: beats(two[0], "g")[-1:] > before[-1:], "life")


@pytest.mark.parametrize("args,words", [
    (("g", "--between", "h0"), "two hosts or more"),
    (("g",), "two hosts or more"),
    (("g", "--between", "h0,h0"), "named twice"),
    (("g", "--between", "h0,h9"), "h9"),
    (("g", "g", "--between", "h0,h1"), "named twice"),
    (("none", "--between", "h0,h1"), "none"),
    (("off", "--between", "h0,h1"), "only a running guest"),
    (("mute", "--between", "h0,h1"), "watches the guest from inside"),
    (("g", "--between", "h0,h1", "--count", "0"), "0"),
    (("g", "--between", "h0,h1", "--cancel", "101"), "101"),
    (("g", "--between", "h0,h1", "--pause", "soon"), "soon"),
    (("g", "--between", "h0,h1", "--flow", "nowhere"), "no numeric address"),
    (("g", "--between", "h0,h1", "--flow", "192.0.2.1"), "can't listen on 192.0.2.1"),
    (("g", "--between", "h0,h1", "--flow", "127.0.0.1"), "watched by its console")])
def test_what_cannot_be_watched_is_refused(refusing, args, words):
    ran = refusing.plim("soak", "migrate", *args)
    assert ran.status not in (0, 1) and words in ran.err, ran


@pytest.fixture(scope="module")
def refusing():
    from pool import Pool
    p = Pool(engine="qemu")
    p.start(2)
    started(p[0], "g")
    p[0].ok("vm", "create", "off", "--memory", MEMORY, "--kernel", PAYLOAD, "--nic", "none", "--host", "h0")
    p[0].ok("vm", "create", "mute", "--memory", MEMORY, "--kernel", PAYLOAD, "--nic", "none", "--host", "h0")
    p[0].ok("vm", "start", "mute", "--host", "h0")
    yield p[0]
    p.close()
