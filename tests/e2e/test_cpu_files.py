# SPDX-License-Identifier: Apache-2.0
"""plim cpu on files: what it says, its exit statuses, and what it refuses. No daemon runs."""
import json
import os
import pathlib
import subprocess

import pytest
import yaml

from daemon import PLIM, ROOT

CORPUS = pathlib.Path(os.environ.get("PLIMSOLL_CPU_CORPUS", ROOT / "../shared/cpu-corpus"))
INTEL, AMD, IOTEL = "756e6547 6c65746e 49656e69", "68747541 444d4163 69746e65", "756e6547 6c65746f 49656e69"
# 1.ecx: sse3, ssse3, sse4.1, sse4.2, xsave, avx. 7.ebx: avx2. 1.edx of any processor of this century.
OLD, NEW, AVX2 = 0x00180201, 0x14180201, 0x00000020
MOVED, CANNOT_MOVE = 0, 3


def dump(vendor=INTEL, ecx=NEW, ebx=AVX2, level=0xD, phys_bits=46, more=""):
    return (f"# cpuid-dump 1\n{0:08x} 00000000 {level:08x} {vendor}\n"
            f"00000001 00000000 00050654 00100800 {ecx:08x} bfebfbff\n"
            f"00000007 00000000 00000000 {ebx:08x} 00000000 00000000\n"
            "80000000 00000000 80000008 00000000 00000000 00000000\n"
            "80000001 00000000 00000000 00000000 00000001 20100800\n"
            f"80000008 00000000 {phys_bits:08x} 00000000 00000000 00000000\n{more}")


def host_set(names, vendor="GenuineIntel"):
    """A set of a host record: plim says what the names are as text."""
    text = run("explain", names[0], "-o", "json")
    assert text.returncode == 0, text.stderr
    words = [0] * 64
    for name in names:
        f = json.loads(run("explain", name, "-o", "json").stdout)
        words[f["word"]] |= 1 << f["bit"]
    return {"set": "v1-" + "-".join(f"{w:08x}" for w in words), "vendor": vendor, "family": 6, "model": 85,
            "stepping": 4, "level": 13, "xlevel": 0x80000008, "phys_bits": 46}


def host_record(name="host1", **changes):
    kvm = {"max": host_set(["fpu", "tsc", "svm", "hypervisor"]), "default": host_set(["fpu", "tsc", "hypervisor"])}
    return {"format": "plimsoll-host-record", "version": 1, "host": name, "date": "2026-11-21T09:30:00Z",
            "qemu": {"version": "7.2.22", "machines": ["pc-q35-7.2"]}, "kvm": kvm, "tcg": None, **changes}


def run(*args):
    env = dict(os.environ, PLIMSOLL_SOCKET="/nonexistent/api.sock")
    return subprocess.run([PLIM, "cpu", *map(str, args)], capture_output=True, text=True, env=env, timeout=180)


def ok(*args):
    done = run(*args, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(status, *args):
    """What it says; nothing on the standard output, and an advice on the last line."""
    done = run(*args)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("plim: ") and len(lines) >= 2, done.stderr
    return done.stderr


@pytest.fixture
def file(tmp_path):
    def make(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else
                         (content if isinstance(content, str) else json.dumps(content)).encode())
        return path
    return make


# ---- decode ----


def test_decode_tells_all_of_a_cpu(file):
    d = ok("decode", file("a.cpuid", dump()))
    assert list(d) == ["vendor", "family", "model", "stepping", "phys_bits", "level", "xlevel", "raw_features",
                       "features", "dropped"]
    assert (d["vendor"], d["family"], d["model"], d["stepping"]) == ("GenuineIntel", 6, 0x55, 4)
    assert (d["phys_bits"], d["level"], d["xlevel"]) == (46, 13, 0x80000008)
    assert {"avx2", "sse4.2", "lahf-lm"} <= set(d["features"])
    assert d["dropped"] == []


def test_decode_names_what_is_dropped_and_why(file):
    d = ok("decode", file("a.cpuid", dump(ecx=OLD)))
    assert "avx2" in d["raw_features"] and "avx2" not in d["features"]
    assert d["dropped"] == [{"name": "avx2", "because": "avx"}]


def test_decode_reads_the_output_of_cpuid(file):
    raw = "".join(f"CPU {n}:\n   0x00000000 0x00: eax=0x0000000d ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
                  f"   0x00000001 0x00: eax=0x000506e3 ebx=0x0{n}100800 ecx=0x{ecx} edx=0xbfebfbff\n"
                  for n, ecx in enumerate(["00000201", "00000001"]))
    path = file("host.txt", raw)
    assert ok("decode", path)["features"].count("pni") == 1
    done = run("decode", path)
    assert "ssse3" not in done.stdout
    assert "only some of the 2 CPUs of host have ssse3" in done.stderr


def test_every_format_shows_the_same(file):
    path = file("a.cpuid", dump())
    as_json = ok("decode", path)
    assert yaml.safe_load(run("decode", path, "-o", "yaml").stdout) == as_json
    assert run("decode", path, "-o", "name").stdout.startswith("v1-bfebfbff-")
    assert refused(2, "decode", path, "-o", "xml")


def test_a_set_printed_is_a_set_read(file):
    a, b = file("a.cpuid", dump()), file("b.cpuid", dump())
    text = run("level", a, "-o", "name").stdout.strip()
    assert run("check", "--vm", text, "--host", b).returncode == MOVED
    as_list = file("level.json", run("level", a, "-o", "json").stdout)
    assert run("check", "--vm", as_list, "--host", b).returncode == MOVED


# ---- level ----


def test_level_says_who_costs_what(file):
    files = [file("a.cpuid", dump()), file("b.cpuid", dump(ecx=OLD)), file("c.cpuid", dump(ebx=0, phys_bits=39))]
    level = ok("level", *files)
    assert list(level) == ["features", "lost", "sole", "scalars"]
    assert "sse4.2" in level["features"] and "avx" not in level["features"]
    lost = {x["name"]: x["hosts"] for x in level["lost"]}
    assert lost == {"avx": ["b"], "avx2": ["b", "c"], "xsave": ["b"]}
    assert level["sole"] == {"a": [], "b": ["avx", "xsave"], "c": []}
    assert level["scalars"]["phys_bits"] == 39
    assert level == ok("level", *reversed(files)) | {"sole": level["sole"]}


def test_sets_differ_by_what_guests_get(file):
    path = file("a.cpuid", dump(ecx=NEW | 1 << 5 | 1 << 15))  # vmx: opt-in, pdcm: never
    raw, most, dflt = (set(ok("level", path, "--set", s)["features"]) for s in ("raw", "max", "default"))
    assert raw == most and {"vmx", "pdcm"} <= raw
    assert not {"vmx", "pdcm"} & dflt
    assert dflt - raw == {"hypervisor"}
    assert refused(2, "level", path, "--set", "best")


def test_a_mix_of_vendors_is_refused_with_each_level(file):
    files = [file("a.cpuid", dump()), file("b.cpuid", dump(vendor=AMD)), file("c.cpuid", dump(vendor=IOTEL))]
    done = run("level", *files, "-o", "json")
    assert done.returncode == 7
    j = json.loads(done.stdout)
    assert j["error"]["code"] == "unsupported" and j["error"]["advice"]
    assert [(v["vendor"], v["hosts"]) for v in j["vendors"]] == [
        ("GenuineIntel", ["a"]), ("AuthenticAMD", ["b"]), ("GenuineIotel", ["c"])]
    assert "avx2" in j["vendors"][0]["features"] and "avx2" in j["vendors"][1]["features"]
    assert "GenuineIotel" in j["vendors"][2]["error"]["message"]
    for vendor in ("GenuineIntel: a", "AuthenticAMD: b", "GenuineIotel: c"):
        assert vendor in done.stderr
    assert run("level", *files, "--guest", "tcg").returncode == 0


def test_a_garbage_vendor_has_no_level(file):
    assert "GenuineIotel" in refused(7, "level", file("a.cpuid", dump(vendor=IOTEL)))
    assert ok("decode", file("a.cpuid", dump(vendor=IOTEL)))["vendor"] == "GenuineIotel"


def test_files_of_one_name_stay_apart(file, tmp_path):
    (tmp_path / "other").mkdir()
    a, b = file("a.cpuid", dump()), file("other/a.cpuid", dump(ecx=OLD))
    assert ok("level", a, b)["sole"] == {"a": [], str(b): ["avx", "avx2", "xsave"]}


# ---- remove ----


def test_remove_takes_what_needs_it_too(file):
    r = ok("remove", file("a.cpuid", dump()), "xsave", "sse4_2")
    assert list(r) == ["features", "also_dropped"]
    assert r["also_dropped"] == ["avx", "avx2"]
    assert not {"xsave", "sse4.2", "avx", "avx2"} & set(r["features"])
    assert "fpu" in r["features"]


def test_remove_of_no_feature_is_refused(file):
    assert "avx512f" in refused(4, "remove", file("a.cpuid", dump()), "avx512foo")


# ---- check ----


def test_check_names_all_that_is_missing(file):
    new, old = file("new.cpuid", dump(phys_bits=46)), file("old.cpuid", dump(ecx=OLD, phys_bits=39, level=7))
    done = run("check", "--vm", new, "--host", old, "-o", "json")
    assert done.returncode == CANNOT_MOVE
    j = json.loads(done.stdout)
    assert j["verdict"] == "refuse" and j["missing"] == ["avx", "avx2", "xsave"]
    assert {r["code"] for r in j["reasons"]} == {"features", "phys-bits", "level"}
    assert all(r["message"] for r in j["reasons"])
    back = run("check", "--vm", old, "--host", new, "-o", "json")
    assert back.returncode == MOVED
    assert json.loads(back.stdout) == {"verdict": "ok", "missing": [], "reasons": []}


def test_check_needs_one_vendor_only_with_kvm(file):
    a, b = file("a.cpuid", dump()), file("b.cpuid", dump(vendor=AMD))
    done = run("check", "--vm", a, "--host", b, "-o", "json")
    assert done.returncode == CANNOT_MOVE
    assert [r["code"] for r in json.loads(done.stdout)["reasons"]] == ["vendor"]
    assert run("check", "--vm", a, "--host", b, "--guest", "tcg").returncode == MOVED


def test_check_takes_names_and_sets(file):
    old = file("old.cpuid", dump(ecx=OLD))
    assert run("check", "--vm", "sse4.2,lahf_lm", "--host", old).returncode == MOVED
    done = run("check", "--vm", "sse4.2,avx2", "--host", old)
    assert done.returncode == CANNOT_MOVE and "avx2" in done.stdout
    assert run("check", "--vm", "v1-00000001", "--host", old).returncode == MOVED


def test_an_empty_guest_can_go_nowhere(file):
    done = run("check", "--vm", "v1-00000000", "--host", file("a.cpuid", dump()), "-o", "json")
    assert done.returncode == CANNOT_MOVE
    assert [r["code"] for r in json.loads(done.stdout)["reasons"]] == ["no-pin"]


@pytest.mark.parametrize("vm", ["v1-", "v1-1", "v1-0000000g", "v1-00000001-", "avx9", "v1-" + "-".join(["00000000"] * 300)])
def test_malformed_sets_are_refused(file, vm):
    assert run("check", "--vm", vm, "--host", file("a.cpuid", dump())).returncode in (2, 4)


def test_a_set_of_a_newer_version_is_refused(file):
    text = "v1-" + "-".join(["00000001"] * 65)
    assert "does not know" in refused(7, "check", "--vm", text, "--host", file("a.cpuid", dump()))


def test_check_needs_both_sides(file):
    assert "--vm" in refused(2, "check", "--host", file("a.cpuid", dump()))


# ---- host records ----


def test_a_host_record_is_a_host(file):
    a, b = file("a.json", host_record()), file("b.json", host_record("host2"))
    assert ok("level", a, b)["sole"] == {"host1": [], "host2": []}
    assert "svm" in ok("level", a, b, "--set", "max")["features"]
    assert run("check", "--vm", a, "--host", b).returncode == MOVED
    assert "no guests with tcg" in refused(4, "level", a, "--guest", "tcg")
    assert "no raw set" in refused(4, "level", a, "--set", "raw")


def test_a_host_without_such_guests_takes_none(file):
    done = run("check", "--vm", "fpu", "--host", file("a.json", host_record()), "--guest", "tcg", "-o", "json")
    assert done.returncode == CANNOT_MOVE
    assert [r["code"] for r in json.loads(done.stdout)["reasons"]] == ["no-set"]


def test_a_mask_is_told_as_the_reason(file):
    kvm = {"max": host_set(["fpu"]), "default": host_set(["fpu"])}
    masked = file("b.json", host_record("host2", kvm=kvm, masked=["tsc"]))
    done = run("check", "--vm", "fpu,tsc", "--host", masked)
    assert done.returncode == CANNOT_MOVE and "hidden by an admin's mask" in done.stdout


def test_a_newer_host_record_is_refused_with_advice(file):
    assert "Update Plimsoll" in refused(7, "decode", file("a.json", host_record(version=2)))


@pytest.mark.parametrize("change", [
    {"host": None}, {"host": "../x"}, {"kvm": {"max": None}}, {"kvm": {"max": {"set": "v1-1"}, "default": {}}},
    {"format": "other"}, {"date": "now"}, {"version": "1"}, {"masked": ["nothing"]}])
def test_broken_host_records_are_refused(file, change):
    assert run("decode", file("a.json", host_record(**change))).returncode in (2, 4)


# ---- files that are none ----


@pytest.mark.parametrize("content", [
    b"", b"\n\n", b"\x7fELF\x02\x01\x01\x00\x00", b"hello\n", b"{", b"[]", b'{"features": ["nothing"]}',
    dump().encode()[:60], dump(more="hello\n").encode(), dump(more="00000001 0 0 0 0 0\n").encode(),
    b"\xff" * 1000, dump().replace("0000000d", "0000000x").encode()])
def test_files_that_say_nothing_are_refused(file, content):
    path = file("bad.cpuid", content)
    for verb in (["decode", path], ["level", path], ["remove", path, "avx"], ["check", "--vm", "avx", "--host", path]):
        done = run(*verb)
        assert done.returncode in (2, 4), done
        assert done.stdout == "" and "bad.cpuid" in done.stderr


def test_folders_and_absent_files_are_refused(tmp_path):
    assert "regular file" in refused(2, "decode", tmp_path)
    assert "No such file" in refused(4, "decode", tmp_path / "absent")


def test_stale_leaves_are_not_features(file):
    more = "80000021 00000000 ffffffff 00000000 00000000 00000000\n00000007 00000001 ffffffff 0 0 ffffffff\n"
    d = ok("decode", file("a.cpuid", dump(more=more)))
    assert not {"auto-ibrs", "avx-vnni", "amx-fp16"} & set(d["raw_features"])


# ---- explain ----


def test_explain_says_where_and_why():
    j = ok("explain", "SSE4_1")
    assert j["name"] == "sse4.1" and j["place"] == "CPUID 00000001.0 ecx bit 19"
    assert [p["name"] for p in j["needs"]] == ["ssse3"] and j["falls_with_it"] == ["sse4.2"]
    rtm = run("explain", "rtm").stdout
    assert "asked for" in rtm and "TAA" in rtm


# ---- real processors ----


@pytest.fixture
def dumps():
    found = sorted((CORPUS / "dumps").glob("*.cpuid"))
    if not found:
        pytest.skip("there is no corpus of CPUs (PLIMSOLL_CPU_CORPUS names its folder)")
    return found


def test_the_level_of_many_vendors_is_refused_and_told(dumps):
    done = run("level", *dumps, "-o", "json")
    assert done.returncode == 7
    vendors = json.loads(done.stdout)["vendors"]
    assert sum(len(v["hosts"]) for v in vendors) == len(dumps)
    assert all(("features" in v) != ("error" in v) for v in vendors)


def test_the_level_of_real_processors_is_what_all_have(dumps):
    intel = [d for d in dumps if "-intel-" in d.name][:12]
    level = ok("level", *intel, "--set", "raw")
    sets = [set(ok("decode", d)["features"]) for d in intel]
    assert set(level["features"]) == set.intersection(*sets)
    union = set.union(*sets)
    assert {x["name"] for x in level["lost"]} == union - set(level["features"])
    for x in level["lost"]:
        assert x["hosts"] == sorted(d.stem for d, s in zip(intel, sets) if x["name"] not in s)
