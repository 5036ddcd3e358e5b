# SPDX-License-Identifier: Apache-2.0
"""Hosts with a network between them, whose cables can be pulled: each in a network namespace of its own."""
import contextlib
import itertools
import os
import subprocess

import pytest

from daemon import Daemon
from pool import Etcd

NETWORK = "10.79.0."
HUB = NETWORK + "254"
_tags = itertools.count()


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


class Cables:
    """
    A bridge in a namespace of its own, "hub", with a port to each host. Nothing outside of them sees it. With `bridges`
    each host has a bridge br0 for its guests, and the hub the address HUB, which they reach.
    """

    def __init__(self, names, bridges=False):
        self.names = names
        self.tag = f"plim-{os.getpid()}-{next(_tags)}-"
        self.made = []
        try:
            self.space("hub")
        except (AssertionError, OSError) as error:
            self.close()
            pytest.skip(f"no network namespaces here: {error}")
        self.ip("hub", "link", "add", "bridge", "type", "bridge")
        self.ip("hub", "link", "set", "bridge", "up")
        for number, name in enumerate(names, 1):
            self.space(name)
            self.ip("hub", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", self.tag + name)
            self.ip(name, "link", "set", "eth0", "up")
            if bridges:
                self.ip(name, "link", "add", "br0", "type", "bridge")
                self.ip(name, "link", "set", "eth0", "master", "br0")
                self.ip(name, "link", "set", "br0", "up")
            self.ip(name, "address", "add", f"{NETWORK}{number}/24", "dev", "br0" if bridges else "eth0")
            self.ip("hub", "link", "set", name, "up", "master", "bridge")
        if bridges:
            self.ip("hub", "address", "add", f"{HUB}/24", "dev", "bridge")

    def space(self, name):
        run("ip", "netns", "add", self.tag + name)
        self.made.append(self.tag + name)
        self.ip(name, "link", "set", "lo", "up")

    def ip(self, name, *words):
        """Not `ip -n`, which mounts /sys anew and so can't be used in a chroot."""
        run(*self.prefix(name), "ip", *words)

    def address(self, name):
        return NETWORK + str(self.names.index(name) + 1)

    def prefix(self, name):
        """Words before a command that runs in that host."""
        return ("nsenter", f"--net=/run/netns/{self.tag}{name}")

    def cut(self, name):
        """The host itself sees no loss of carrier."""
        self.ip("hub", "link", "set", name, "nomaster")

    def heal(self, name):
        self.ip("hub", "link", "set", name, "master", "bridge")

    def part(self, *names):
        """These reach the hub and all others, but not each other."""
        for name in names:
            self.ip("hub", "link", "set", name, "type", "bridge_slave", "isolated", "on")

    def join(self, *names):
        for name in names:
            self.ip("hub", "link", "set", name, "type", "bridge_slave", "isolated", "off")

    def close(self):
        for space in self.made:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False, timeout=120)


class CabledHost(Daemon):
    def __init__(self, cables, name, args):
        super().__init__("qemu", name=name, args=args)
        self.address = cables.address(name) + ":7443"
        self.prefix = cables.prefix(name)


@contextlib.contextmanager
def cabled_pool(cables, lease):
    """Those hosts as one pool, its records in an etcd that sits on the hub."""
    etcd, made = Etcd(address=HUB, prefix=cables.prefix("hub")), []
    try:
        etcd.start()
        for name in cables.names:
            made.append(CabledHost(cables, name, ("--lease", str(lease))))
            made[-1].start()
        first, *others = made
        first.ok("pool", "init", "--address", first.address, "--etcd", etcd.url)
        for host in others:
            host.ok("pool", "join", "--token", first.ok("pool", "token").strip(), "--address", host.address)
        yield made
    finally:
        for name in cables.names:
            cables.join(name)
            cables.heal(name)
        for host in made:
            host.close()
        etcd.close()
