# SPDX-License-Identifier: Apache-2.0
"""The story of a pool of unlike hosts under real KVM: pool_tour.py plays it once, and here is what must have happened.

Tests follow the story. One that finds its chapter unplayed fails with what broke the tour off.
"""
import re

import pytest

from guest import REGISTERS
from lablib import Lab
from pool_tour import CHAPTERS, GUEST, HOSTS, PAGE, WRITTEN, commands, prepared

CPUID_7_EBX_AVX2 = 1 << 5
LEVEL = "pool.level-changed"


@pytest.fixture(scope="module")
def tour(boots, build):
    with Lab(*HOSTS) as lab:
        tour = prepared(lab)
        try:
            tour.play()
        except Exception as error:  # what came before is tested, the rest fails with it
            tour.failure = error
        yield tour


def of(tour, kept, key):
    if key not in kept:
        pytest.fail("the tour did not come to '%s': %s" % (key, tour.failure))
    return kept[key]


def said(tour, chapter, command):
    """What the first such command of the chapter printed."""
    steps = next(each.steps for each in CHAPTERS if each.name == chapter)
    number = next(i for i, step in enumerate(steps) if getattr(step, "command", "").startswith(command))
    return of(tour, tour.said, (chapter, number))


def levels(tour, chapter):
    return [e["message"] for e in of(tour, tour.events, chapter) if e["type"] == LEVEL]


def has_avx2(leaves):
    return leaves[7, 0]["ebx"] & CPUID_7_EBX_AVX2 != 0 if (7, 0) in leaves else False


def test_two_hosts_are_a_pool(tour):
    status = said(tour, "pool", "plim pool status")
    assert [line.split()[:2] for line in sorted(status.splitlines()) if "online" in line] == \
        [["host1", "online"], ["host2", "online"]]
    assert "host2 joined" in levels(tour, "pool")[-1]


def test_no_host_is_told_lost_in_the_story(tour):
    assert tour.failure is None
    assert not [e["message"] for e in of(tour, tour.events, "leave") if e["type"] in ("host.lost", "host.fenced")]


def test_the_guest_starts_with_avx2(tour):
    assert has_avx2(of(tour, tour.cpuid, "at its start"))
    assert of(tour, tour.vms, "start")["runtime"]["accel"] == "kvm"


def test_a_weaker_host_lowers_the_level_and_is_named(tour):
    told = levels(tour, "weaker")[-1]
    assert "kvm guests lose" in told and "host3 joined" in told
    event = [e for e in of(tour, tour.events, "weaker") if e["type"] == LEVEL][-1]
    assert "avx2" in str(event), "the features are named"


def test_the_running_guest_is_left_alone(tour):
    before, after = of(tour, tour.vms, "start"), of(tour, tour.vms, "weaker")
    kept = ("pid", "started_at", "state", "host")
    assert [after["runtime"][k] for k in kept] == [before["runtime"][k] for k in kept]
    assert of(tour, tour.cpuid, "after host3 joined") == of(tour, tour.cpuid, "at its start")
    assert "avx2" in said(tour, "weaker", "plim vm show"), "what a power cycle would take from it"


def test_a_move_to_the_weaker_host_is_refused_by_name(tour):
    assert "avx2" in said(tour, "refused", "plim vm migrate")


def test_explain_move_names_blockers_and_the_way_out(tour):
    text = said(tour, "refused", "plim vm explain-move")
    by_host = dict(zip(("host1", "host2", "host3"), ("it is there", "yes", "no")))
    for host, answer in by_host.items():
        assert "%s: %s" % (host, answer) in text, text
    assert "avx2" in text.split("host3: no")[1].split("\nhost")[0]


@pytest.mark.parametrize("name, like", [("on host2", "at its start"), ("on host1 again", "at its start"),
                                        ("on host3", "after the power cycle"),
                                        ("on host2 with the lower level", "after the power cycle"),
                                        ("at the end", "after the power cycle")])
def test_guest_code_sees_the_same_cpu_after_a_move(tour, name, like):
    now, before = of(tour, tour.cpuid, name), of(tour, tour.cpuid, like)
    assert len(now) > 10 and all(set(registers) == set(REGISTERS) for registers in now.values())
    assert now == before


def test_moves_keep_the_guest_running(tour):
    for chapter in ("moves", "cycle", "evacuate"):
        assert of(tour, tour.vms, chapter)["runtime"]["state"] == "running"
    assert "it stood still for" in said(tour, "moves", "plim vm migrate")


def writer(text):
    """(which start of the guest, its count) as the job `write` leaves them on the disk."""
    found = re.search(r"^writer ([0-9a-f]{16}) ([0-9a-f]{16})$", text, re.MULTILINE)
    assert found, text
    return found[1], int(found[2], 16)


def test_a_disk_moves_along_while_its_guest_writes(tour):
    steps = next(each.steps for each in CHAPTERS if each.name == "disk")
    looks = [i for i, step in enumerate(steps) if step.command == WRITTEN]
    (start, before), (same, after) = (writer(of(tour, tour.said, ("disk", i))) for i in looks)
    assert start == same and after > before, "the same guest wrote on"
    assert said(tour, "disk", "ls ") == "", "nothing of it stays behind"


def test_a_power_cycle_gives_the_level(tour):
    assert not has_avx2(of(tour, tour.cpuid, "after the power cycle"))
    text = said(tour, "cycle", "plim vm explain-move")
    assert "host2: yes" in text and "host3: yes" in text, text


def test_a_host_is_emptied_and_filled_again(tour):
    away, back = said(tour, "evacuate", "plim host evacuate host2"), said(tour, "evacuate", "plim host evacuate host2 --re")
    assert "%s: to host" % GUEST in away and "%s moved in" % GUEST in away
    assert "%s: to host2" % GUEST in back and "%s moved in" % GUEST in back


def test_the_level_rises_when_the_weaker_host_leaves(tour):
    told = levels(tour, "leave")[-1]
    assert "gain" in told and "host3 left" in told, told
    assert "host3" not in said(tour, "leave", "plim pool status")


def test_the_page_shows_the_commands_of_the_tour():
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith(("host1#", "host2#", "host3#"))]
    assert shown == commands()
