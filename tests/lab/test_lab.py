# SPDX-License-Identifier: Apache-2.0
"""What the lab promises to the tests that use it."""
import concurrent.futures
import hashlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from guest import guest_leaves, guest_run
from lablib import HostSpec, Lab, LabError, LabTimeout, wait_for, wire

LAB = pathlib.Path(__file__).resolve().parent / "lab.py"
CPUID_7_EBX_AVX2 = 1 << 5
KVM_CHECK_EXTENSION = 0xAE03
KVM_CAP_HYPERV = 44


# Commands


def test_status_and_both_outputs_come_back(lab):
    done = lab["a"].run(["/bin/sh", "-c", r"printf 'out\000\377'; printf err >&2; exit 7"])
    assert (done.status, done.stdout, done.stderr) == (7, b"out\0\xff", b"err")


def test_death_by_signal_is_told_from_an_exit(lab):
    assert lab["a"].run(["/bin/sh", "-c", "kill -SEGV $$"]).status == -signal.SIGSEGV
    assert lab["a"].run(["/bin/sh", "-c", "exit 139"]).status == 139


def test_input_and_output_are_whole_and_in_order(lab):
    data = random.Random(1).randbytes(3_000_000)
    done = lab["a"].run(["cat"], stdin=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("argv, cwd, status, reason", [
    (["no-such-program"], "/", 127, "No such file"),
    (["/etc/passwd"], "/", 126, "Permission denied"),
    (["true"], "/no/such/folder", 127, "/no/such/folder"),
])
def test_command_that_cannot_run_says_why(lab, argv, cwd, status, reason):
    done = lab["a"].run(argv, cwd=cwd)
    assert done.status == status
    assert reason in done.stderr.decode()


def test_environment_and_folder_are_the_ones_asked_for(lab):
    script = "echo $COLOUR $LAB_HOST; pwd"
    done = lab["a"].run(["/bin/sh", "-c", script], env={"COLOUR": "däisy=1"}, cwd="/usr/lib")
    assert done.text == "däisy=1 a\n/usr/lib\n"


def test_hung_command_is_killed_with_all_it_started(lab):
    started = time.monotonic()
    with pytest.raises(LabTimeout) as caught:
        lab["a"].run(["/bin/sh", "-c", "echo begun; setsid sleep 4242 & trap '' TERM; sleep 4242"], timeout=20)
    assert 20 <= time.monotonic() - started < 600  # it sleeps for longer
    assert caught.value.stdout == b"begun\n"
    survivors = lab["a"].run(["/bin/sh", "-c", "grep -lszx '424[2]' /proc/[0-9]*/cmdline"])
    assert (survivors.status, survivors.stdout) == (1, b"")


def test_commands_run_side_by_side(lab):
    """Each waits for the other through a fifo, so they end only if both run at once."""
    lab["a"].sh("mkfifo /run/ping /run/pong")
    first = lab["a"].popen(["/bin/sh", "-c", "echo 1 >/run/ping; cat /run/pong"])
    second = lab["a"].popen(["/bin/sh", "-c", "cat /run/ping; echo 2 >/run/pong"])
    assert [first.wait(20).stdout, second.wait(20).stdout] == [b"2\n", b"1\n"]
    lab["a"].sh("rm /run/ping /run/pong")


def test_daemon_left_behind_lives_on(lab):
    pid = lab["a"].sh("sleep 300 & echo $!").strip()
    assert lab["a"].run(["cat", "/proc/%s/comm" % pid]).text == "sleep\n"
    lab["a"].sh("kill " + pid)


# Hosts


def test_hosts_talk_over_their_network(lab):
    """b listens, says so, and a sends it a file's worth of bytes by name."""
    server = ("import hashlib,socket\n"
              "s = socket.create_server(('', 4000)); print('ready', flush=True); c = s.accept()[0]\n"
              "print(hashlib.sha256(b''.join(iter(lambda: c.recv(65536), b''))).hexdigest(), end='')")
    client = "import socket,sys; socket.create_connection(('b', 4000), 20).sendall(sys.stdin.buffer.read())"
    data = random.Random(2).randbytes(500_000)
    listening = lab["b"].popen(["python3", "-c", server])
    assert next(listening.read(time.monotonic() + 20)) == (wire.STDOUT, b"ready\n")
    lab["a"].run(["python3", "-c", client], stdin=data).check()
    assert listening.wait(20).text == hashlib.sha256(data).hexdigest()


def test_unplugged_host_is_out_of_reach_until_plugged_in(lab):
    ping = ["busybox", "ping", "-c1", "-W2", lab["b"].address]
    lab["b"].link(False)
    try:
        assert lab["a"].run(ping).status == 1
    finally:
        lab["b"].link(True)
    wait_for(lambda: lab["a"].run(ping).status == 0, 20, "an answer from b")


def test_hosts_have_the_cpu_asked_for(lab):
    def flags_of(host):
        return set(re.search(r"^flags\s*: (.*)", host.sh("cat /proc/cpuinfo"), re.MULTILINE).group(1).split())

    flags = {host.name: flags_of(host) for host in lab}
    assert "avx2" in flags["a"] and "avx2" not in flags["b"]
    assert flags["a"] - flags["b"] == {"avx2"}


def test_writes_stay_in_the_host_that_made_them(lab, tmp_path):
    shared = tmp_path / "file"
    shared.write_text("outer\n")
    assert lab["a"].sh("cat %s; echo a >>%s; cat %s" % (shared, shared, shared)) == "outer\nouter\na\n"
    assert lab["b"].sh("cat %s" % shared) == "outer\n"
    assert shared.read_text() == "outer\n"


def test_outer_state_does_not_show_through(lab):
    see = "echo $(hostname) $(cat /etc/machine-id) $(ls /run /var/log /var/lib/plimsoll)"
    a, b = lab["a"].sh(see).split(), lab["b"].sh(see).split()
    assert a[0] == "a" and b[0] == "b"
    assert re.fullmatch("[0-9a-f]{32}", a[1]) and a[1] != b[1]
    assert a[2:] == ["/run:", "lab", "lock", "/var/lib/plimsoll:", "/var/log:"]


def test_killed_host_is_told_with_its_end(boots):
    with Lab(HostSpec("a", cpu="max,-svm", disk="1G")) as lab:
        host = lab["a"]
        assert not host.run(["test", "-e", "/dev/kvm"]).status == 0, "no svm, no KVM"

        host.sh("echo kept >/var/lib/plimsoll/state; sync; echo lost >/dev/shm/state")
        command = host.popen(["sleep", "100"])
        host.process.signal(signal.SIGKILL)
        with pytest.raises(LabError, match="status -9"):
            command.wait(20)

        host.start()
        host.wait_up()
        assert host.sh("cat /var/lib/plimsoll/state; ls /dev/shm") == "kept\n"


# KVM


def test_kvm_is_not_the_kind_that_only_emulates(lab):
    ask = "import fcntl,os; print(fcntl.ioctl(os.open('/dev/kvm', os.O_RDWR), %d, %d))"
    assert lab["a"].run(["python3", "-c", ask % (KVM_CHECK_EXTENSION, KVM_CAP_HYPERV)]).check().text == "1\n"


def test_guest_under_kvm_sees_its_hosts_cpu(lab, payload):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        texts = pool.map(lambda host: guest_run(host, payload), lab)
    leaves = {host.name: guest_leaves(text) for host, text in zip(lab, texts)}
    assert leaves["a"][7, 0]["ebx"] & CPUID_7_EBX_AVX2
    assert leaves["b"][7, 0]["ebx"] == leaves["a"][7, 0]["ebx"] & ~CPUID_7_EBX_AVX2


# The command line, and how it ends


def test_commands_of_several_processes_share_a_lab(boots):
    def lab(*words, **more):
        return subprocess.run([sys.executable, LAB, *words], capture_output=True, timeout=120, **more)

    up = lab("up", "--detach", "--lifetime", "300", "--host", "one", "--mem", "1G")
    assert up.returncode == 0, up.stderr
    folder = up.stdout.decode().split()[-1]
    try:
        script = "hostname; cat; echo err >&2; exit 9"
        done = lab("exec", "--lab", folder, "one", "--", "/bin/sh", "-c", script, input=b"in")
        assert (done.returncode, done.stdout, done.stderr) == (9, b"one\nin", b"err\n")
        done = lab("exec", "--lab", folder, "--timeout", "1", "one", "--", "sleep", "100")
        assert done.returncode == 124 and b"was killed" in done.stderr
        done = lab("exec", "--lab", folder, "two", "--", "true")
        assert done.returncode == 125 and b"is that a host of it?" in done.stderr
    finally:
        assert lab("down", "--lab", folder).returncode == 0
    assert not os.path.exists(folder)


def descendants(pid):
    """{pid: command line} of all processes below one."""
    below = {}
    for task in pathlib.Path("/proc/%d/task" % pid).glob("*/children"):
        try:
            for child in map(int, task.read_text().split()):
                below[child] = pathlib.Path("/proc/%d/cmdline" % child).read_text()
                below.update(descendants(child))
        except OSError:
            pass  # it ended meanwhile
    return below


def heed_interrupts():
    """A shell that starts a program in the background has it, and all below it, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_lab_leaves_nothing(boots, number):
    lab = subprocess.Popen([sys.executable, LAB, "run", "--host", "a", "--host", "b", "--", "sleep", "100"],
                           stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=heed_interrupts)
    try:
        def all_started():
            below = descendants(lab.pid)
            machines = [line for line in below.values() if line.startswith("qemu")]
            return below if len(machines) == 3 else None  # two hosts and the hub
        below = wait_for(all_started, 90, "the QEMUs of the lab")
        folder = re.search(r"path=(/[^,\0]*/plimsoll-lab-[^/,\0]+)/", "".join(below.values())).group(1)
        assert os.path.isdir(folder)
    finally:
        lab.send_signal(number)
        lab.wait(90)
    wait_for(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in below), 20, "the end of %s" % below)
    assert not os.path.exists(folder)


@pytest.mark.parametrize("words, reason", [
    (["--host", "Bad_Name"], "is no host name"),
    (["--host", "a", "--host", "a"], "name of its own"),
    (["--mem", "lots"], "is no size"),
    (["--smp", "0"], "1 to 64"),
    (["--cpu", "nonesuch"], "unable to find CPU model 'nonesuch'"),
    (["--env", "novalue"], "NAME=VALUE"),
])
def test_bad_input_is_refused_with_a_reason(boots, words, reason):
    done = subprocess.run([sys.executable, LAB, "run", *words, "--", "true"], capture_output=True, timeout=60)
    assert done.returncode == 125
    assert reason in done.stderr.decode()


def test_frames_survive_any_cut():
    sent = [(1, wire.RUN, b"x"), (2, wire.STDOUT, b""), (3, wire.STDERR, bytes(70000))]
    stream = b"".join(wire.frame(*frame) for frame in sent)
    rng = random.Random(3)
    buffer, got = bytearray(), []
    while stream:
        cut = rng.randrange(1, 5000)
        buffer += stream[:cut]
        stream = stream[cut:]
        got += wire.take_frames(buffer)
    assert got == sent and not buffer
    with pytest.raises(wire.ProtocolError):
        wire.take_frames(bytearray(wire.HEADER.pack(1, 99, 0)))
    with pytest.raises(wire.ProtocolError):
        wire.take_frames(bytearray(wire.HEADER.pack(1, wire.STDOUT, wire.PAYLOAD_MAX + 1)))
