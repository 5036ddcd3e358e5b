# SPDX-License-Identifier: Apache-2.0
"""Several daemons on loopback, and an etcd of a test's own: a pool."""

import contextlib
import itertools
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile

import pytest

from daemon import Daemon, until


# Below those that the kernel gives to who asks for any.
PORTS = range(10000, 32768)
next_port = itertools.count(os.getpid() * 31)
taken = []  # sockets whose names say so to the other workers and runs, as long as this process lives


def is_ours(port):
    """Nobody else was given it, and nobody listens there."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0plimsoll-test-port-{port}")
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("", port))
    except OSError:
        mark.close()
        return False
    taken.append(mark)
    return True


def free_port():
    """One that is given to no other test, at any time, of any run on this machine that goes on now."""
    return next(port for port in (PORTS[n % len(PORTS)] for n in itertools.islice(next_port, len(PORTS))) if is_ours(port))


class Etcd:
    """
    One member. Without TLS, for tests of what stands above the store; with an Authority (certs.py) it has a
    certificate of that, and wants one. `args` are further options of etcd.
    """

    def __init__(self, sync=False, authority=None, args=(), address="127.0.0.1", prefix=()):
        self.sync, self.args, self.admin = sync, [*args], []
        self.prefix = prefix  # words before its own: what it is run by
        if shutil.which("etcd") is None:
            pytest.skip("there is no program etcd")
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="plim-etcd-"))
        self.origin = f"{'https' if authority else 'http'}://{address}"
        self.choose_ports()
        if authority is not None:
            cert, key = authority.sign("etcd", "serverAuth,clientAuth", "127.0.0.1")
            self.args += ["--cert-file", cert, "--key-file", key, "--trusted-ca-file", authority.ca, "--client-cert-auth"]
            admin, admin_key = authority.sign("etcdctl")
            self.admin += ["--cacert", authority.ca, "--cert", admin, "--key", admin_key]
        self.process = None

    def choose_ports(self):
        self.port, self.peer = free_port(), free_port()
        self.url = f"{self.origin}:{self.port}"

    def start(self):
        """Its ports are its own from the first start on; until then another program may take one."""
        tries = 1 if (self.base / "data").exists() else 3
        while True:
            self.spawn()
            until(lambda: self.process.poll() is not None or self.answers(), "answer of etcd")
            if self.process.poll() is None:
                return
            tries -= 1
            assert tries > 0, f"etcd ended with {self.process.returncode}: {(self.base / 'log').read_text()[-2000:]}"
            shutil.rmtree(self.base / "data", ignore_errors=True)
            self.choose_ports()

    def spawn(self):
        peer = f"http://127.0.0.1:{self.peer}"
        with open(self.base / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, "etcd", "--name", "e0", "--data-dir", self.base / "data", "--listen-client-urls", self.url,
                 "--advertise-client-urls", self.url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                 "--initial-cluster", f"e0={peer}", *([] if self.sync else ["--unsafe-no-fsync"]), *self.args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    # etcdctl's own patience is some seconds, which a busy machine may need.
    def ctl(self, *words, check=True, patience="110s"):
        done = subprocess.run([*self.prefix, "etcdctl", "--endpoints", self.url, "--dial-timeout", patience,
                               "--command-timeout", patience, *self.admin, *words],
                              env=dict(os.environ, ETCDCTL_API="3"), capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, f"etcdctl {words}: {done.stderr}"
        return done

    def answers(self):
        return self.ctl("endpoint", "health", check=False, patience="5s").returncode == 0

    def demand_logins(self):
        """From now on users have passwords: root, `plimsoll` who may use what is below /pools/, and `reader` of the same."""
        self.ctl("user", "add", "root:rootpass")
        self.ctl("user", "grant-role", "root", "root")
        for user, right in (("plimsoll", "readwrite"), ("reader", "read")):
            self.ctl("role", "add", user)
            self.ctl("role", "grant-permission", user, "--prefix=true", right, "/pools/")
            self.ctl("user", "add", f"{user}:{user}pass")
            self.ctl("user", "grant-role", user, user)
        self.ctl("auth", "enable")
        self.admin += ["--user", "root:rootpass"]

    def keys(self):
        done = self.ctl("get", "", "--prefix", "--keys-only")
        return [k for k in done.stdout.splitlines() if "/plimsoll/v1/" in k]

    def get(self, key):
        return self.ctl("get", key, "--print-value-only").stdout

    def put(self, key, value):
        self.ctl("put", key, value)

    def revoke(self, key):
        """The lease that the key is bound to."""
        item, = json.loads(self.ctl("get", key, "-w", "json").stdout)["kvs"]
        self.ctl("lease", "revoke", f"{item['lease']:x}")

    def remaining(self, key):
        """Seconds that are left of the lease that the key is bound to."""
        item, = json.loads(self.ctl("get", key, "-w", "json").stdout)["kvs"]
        return json.loads(self.ctl("lease", "timetolive", f"{item['lease']:x}", "-w", "json").stdout)["ttl"]

    def signal(self, signo):
        self.process.send_signal(signo)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self):
        self.stop()
        shutil.rmtree(self.base)


class Pool:
    """Hosts h0, h1, ...; h0 makes the pool, the others join it."""

    # The lease is the product's own: of a shorter one a busy machine takes the renewal. Whose test waits for its end
    # says so, or takes it away (lose()).
    def __init__(self, engine="sim", joined=True, lease="30", args=(), own_etcd=False, sync=False, etcd=None, prefixes=None):
        # Members of etcd have fixed ports: each host of each pool has an address of its own.
        self.own_etcd, self.net = own_etcd, f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
        if own_etcd and shutil.which("etcd") is None:
            pytest.skip("there is no program etcd")
        self.engine, self.joined, self.args = engine, joined, ("--lease", lease, *args)
        self.sync, self.etcd, self.hosts = sync, etcd, []
        self.prefixes = prefixes or {}  # name of a host: words before its daemon's

    def __getitem__(self, i):
        return self.hosts[i]

    def start(self, n):
        if not self.own_etcd and self.etcd is None:
            self.etcd = Etcd(self.sync)
            self.etcd.start()
        for _ in range(n):
            self.add()
        if self.joined:
            self.init()
            for host in self.hosts[1:]:
                self.join(host)

    def add(self, name=None):
        host = Daemon(self.engine, name=name or f"h{len(self.hosts)}", args=self.args)
        host.address = f"{self.net}.{len(self.hosts) + 1}:7443" if self.own_etcd else f"127.0.0.1:{free_port()}"
        host.prefix = self.prefixes.get(host.name, ())
        self.hosts.append(host)
        host.start()
        return host

    def init(self, host=None, *more):
        host = host or self.hosts[0]
        etcd = ("--etcd", self.etcd.url) if self.etcd else ()
        return host.ok("pool", "init", "--name", "lab", "--address", host.address, *etcd, *more)

    def token(self, member=None):
        return (member or self.hosts[0]).ok("pool", "token").strip()

    def join(self, host, token=None):
        return host.ok("pool", "join", "--token", token or self.token(), "--address", host.address)

    def status(self, host=None):
        return {h["name"]: h for h in (host or self.hosts[0]).get("/v1/pool")["hosts"]}

    def wait_status(self, name, state, host=None):
        return until(lambda: self.status(host).get(name, {}).get("state") == state, f"{name} is {state}")

    def lose(self, lost, seen_by):
        """That host lives no more, and its lease ends now: nobody waits for what is left of its time."""
        ident = self.status(seen_by)[lost.name]["id"]
        key = next((k for k in self.etcd.keys() if k.endswith(f"/leases/hosts/{ident}")), None)
        if key is not None:
            with contextlib.suppress(KeyError, AssertionError):  # its time was over in this moment
                self.etcd.revoke(key)
        self.wait_status(lost.name, "offline", seen_by)

    def close(self, failed=False):
        """All of them, also when one does not end as it should."""
        with contextlib.ExitStack() as stack:
            if self.etcd is not None:
                stack.callback(self.etcd.close)
                if self.etcd.process is None:
                    self.etcd.start()
            for host in reversed(self.hosts):
                stack.callback(self.close_host, host)

    def close_host(self, host):
        # Such a daemon may be about to begin anew, and stops talking to us for a moment.
        if self.own_etcd and host.process.poll() is None:
            host.kill9()
        host.close()
