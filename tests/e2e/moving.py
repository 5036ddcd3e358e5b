# SPDX-License-Identifier: Apache-2.0
"""Of guests that move between real daemons: what they say, where they are, how a move is under way.

The guests are payloads that write memory all the time and check what they wrote. Their RAM is no multiple of 256 KiB:
QEMU 7.2 loses writes under TCG otherwise (docs/payload.md).
"""
import json
import os
import pathlib
import re
import signal
import socket

from daemon import until

MEMORY = "32640KiB"
WRITES = "out=serial job=dirty:40:12"
SLOW = "2MiB"  # a second: long enough to be in the middle of it
CRAWL = "256KiB"  # a second: less than any guest of ours writes, so that the move has no end by itself


def good_lines(host, name):
    """Lines of `dirty` on the serial console of the guest, there; none may tell of a bad page."""
    answer = host.api("GET", f"/v1/vms/{name}/console/log?port=serial")
    text = answer.body.decode(errors="replace") if isinstance(answer.body, bytes) else ""
    found = re.findall(r"^dirty (\d+) (\d+) (\d+)\r?$", text, re.M)
    assert "error" not in text, text
    assert all(bad == "0" for _, _, bad in found), text
    return len(found)


def lines(host, name, more):
    want = good_lines(host, name) + more
    until(lambda: good_lines(host, name) >= want, f"life of {name} on {host.name}")


def words_of(pid):
    """Of its command line; none when it has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def qemus(host):
    """Of guests: the QEMU in which a daemon proves its CPU, some seconds after its start, has no uuid."""
    def is_guest(pid):
        words = words_of(pid).split(b"\0")
        return b"qemu-system" in words[0] and b"-uuid" in words
    return [p for p in host.processes() if is_guest(p)]


def qemu_of(host, ident):
    """The one of the vm with that id; None: there is none."""
    return next((p for p in qemus(host) if ident.encode() in words_of(p)), None)


def is_clean(host):
    """Nothing of a guest: no process, no folder, no volume."""
    return not qemus(host) and not any(os.listdir(d) for d in (host.run / "vms", host.state / "vms", host.state / "volumes"))


def assert_clean(host):
    until(lambda: is_clean(host), f"{host.name} is clean: {[os.listdir(host.state / d) for d in ('vms', 'volumes')]}")


def begin(host, name, to, *more, bandwidth=SLOW):
    """A move under way, with memory going over slowly."""
    ident = host.ok("vm", "migrate", name, to.name, "--bandwidth", bandwidth, "--no-auto-converge", *more, "--no-wait").strip()

    def goes():
        now = host.get(f"/v1/operations/{ident}")
        assert now["finished_at"] is None, f"the move ended: {now}"
        return now["result"].get("progress")
    until(goes, "memory on its way")
    return ident


def qmp(host, name, command, vm=None, **arguments):
    """What its QEMU answers, through the monitor for tools. `vm`: its id, for when no daemon can be asked."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(host.run / "vms" / (vm or host.vm(name)["id"]) / "qmp2.sock"))
        f = s.makefile("rw")
        f.readline()
        for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
            f.write(json.dumps(request) + "\n")
            f.flush()
            answer = json.loads(f.readline())
            while "event" in answer:
                answer = json.loads(f.readline())
    assert "return" in answer, answer
    return answer["return"]


def hasten(host, name, **more):
    """A move that crawls sends all it has now. `more`: as of qmp()."""
    qmp(host, name, "migrate-set-parameters", **{"max-bandwidth": 1 << 30}, **more)


def hold(host, name, to, *more):
    """
    A move under way whose QEMU over there does nothing any more: the operation, that QEMU. It crawls until then: however
    late the test comes to hold it, it has not ended.
    """
    ident = begin(host, name, to, "--downtime", "2s", *more, bandwidth=CRAWL)
    pid = qemu_of(to, host.vm(name)["id"])
    assert pid, f"no QEMU of {name} on {to.name}"
    os.kill(pid, signal.SIGSTOP)
    return ident, pid


def send_all(host, name):
    """Of a guest that is held over there: its rest waits in the network."""
    hasten(host, name)
    until(lambda: qmp(host, name, "query-migrate")["status"] == "completed", f"end of the sending of {name}")
