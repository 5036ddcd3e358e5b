#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command beside an etcd of its own, on the loopback, in a private folder that is gone afterwards.

    tests/store/with_etcd.py COMMAND [ARGUMENT...]

"%ETCD%" in arguments and in PLIMSOLL_STORE_URLS becomes its URL, which is in PLIMSOLL_ETCD too. The folder is in
memory, or where PLIMSOLL_ETCD_DIR says. Without etcd the test is skipped.
"""
import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

DEADLINE = 120


def free_ports(n):
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in socks]
    for s in socks:
        s.close()
    return ports


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def start(folder):
    """One member; quick elections, for nobody else takes part."""
    client, peer = (f"http://127.0.0.1:{p}" for p in free_ports(2))
    log = open(folder / "log", "wb")
    proc = subprocess.Popen(
        ["etcd", "--name", "t", "--data-dir", folder / "data", "--logger", "zap", "--log-level", "warn",
         "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
         "--initial-advertise-peer-urls", peer, "--initial-cluster", f"t={peer}",
         "--heartbeat-interval", "20", "--election-timeout", "200"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
    return proc, client


def is_healthy(url):
    try:
        return b"true" in urllib.request.urlopen(url + "/health", timeout=1).read()
    except (OSError, urllib.error.URLError):
        return False


def start_healthy(folder):
    """A free port may be taken in the moment before etcd takes it: then it ends, and another one is tried."""
    end = time.monotonic() + DEADLINE
    proc, url = start(folder)
    while not is_healthy(url):
        if time.monotonic() > end:
            proc.kill()
            sys.exit(f"etcd did not start:\n{(folder / 'log').read_text()}")
        if proc.poll() is not None:
            shutil.rmtree(folder / "data", ignore_errors=True)
            proc, url = start(folder)
        time.sleep(0.01)
    return proc, url


def main():
    if shutil.which("etcd") is None:
        print("1..0 # SKIP etcd is not installed (Debian package etcd-server)")
        return 0
    # Memory where there is some: what is tested is not the disk.
    place = os.environ.get("PLIMSOLL_ETCD_DIR") or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    with tempfile.TemporaryDirectory(prefix="plimsoll-etcd-", dir=place) as name:
        proc, url = start_healthy(pathlib.Path(name))
        try:
            urls = os.environ.get("PLIMSOLL_STORE_URLS", "").replace("%ETCD%", url)
            command = [a.replace("%ETCD%", url) for a in sys.argv[1:]]
            return subprocess.call(command, env=os.environ | {"PLIMSOLL_ETCD": url, "PLIMSOLL_STORE_URLS": urls})
        finally:
            proc.kill()
            proc.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
