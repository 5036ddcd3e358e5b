# SPDX-License-Identifier: Apache-2.0
"""A vm with the Apache of apache.py: made, started, reached from the host, with a swap disk as slow as a hard disk."""
import asyncio
import contextlib
import json
import os
import shutil
import socket
import time

import apache
from load import Clients

MIB = 1 << 20
SWAP = 1 << 30
# A hard disk of 10000 turns a minute.
DISK = {"iops": 300, "bps": 100 * MIB}
BOOT_PATIENCE = 300.0
NAMES = {"MemTotal": "total", "MemAvailable": "available", "pswpin": "swap_in", "pswpout": "swap_out", "oom_kill": "oom_kills",
         "SwapFree": "swap_free", "SwapTotal": "swap_total"}


class Monitor:
    """QEMU's second monitor, which is for tools."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.lines.readline()
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise SystemExit(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def system(daemon):
    """(kernel, initrd) where QEMU's user can read them."""
    files = [shutil.copy(file, daemon.dir) for file in apache.image()]
    for file in files:
        os.chmod(file, 0o644)
    return files


class Server:
    """`settings` are those of its memory; `think` seconds are between a client's requests."""

    def __init__(self, daemon, files, name, settings, think):
        self.daemon, self.name = daemon, name
        disk = os.path.join(daemon.dir, f"swap-{name}.raw")
        with open(disk, "wb") as file:
            file.truncate(SWAP)
        os.chmod(disk, 0o666)
        daemon.create(name, {**settings, "boot.kernel": files[0], "boot.initrd": files[1], "boot.cmdline": "quiet no_timer_check"},
                      disks=[{"name": "swap", "path": disk, "format": "raw"}], nics=[{"network": "user"}])
        self.port = free_port()
        self.told = None  # its last status
        self.clients = Clients(self.port, "/app", think, name)

    def start(self):
        """Its Apache may not be there yet."""
        self.daemon.call("POST", f"/v1/vms/{self.name}/actions/start?wait=600")
        vm = self.daemon.get(f"/v1/vms/{self.name}")
        monitor = Monitor(os.path.join(self.daemon.run, "vms", vm["id"], "qmp2.sock"))
        swap = next(d["qdev"] for d in monitor.call("query-block") if "swap" in d.get("qdev", ""))
        monitor.call("block_set_io_throttle", id=swap, bps=DISK["bps"], bps_rd=0, bps_wr=0, iops=DISK["iops"], iops_rd=0, iops_wr=0)
        card = f"net-{vm['nics'][0]['name']}"
        told = monitor.call("human-monitor-command", **{"command-line": f"hostfwd_add {card} tcp:127.0.0.1:{self.port}-:80"})
        if told.strip():
            raise SystemExit(f"hostfwd_add: {told}")

    async def ready(self):
        deadline = time.monotonic() + BOOT_PATIENCE
        while True:
            try:
                return await self.status()
            except (OSError, EOFError, asyncio.TimeoutError):
                if time.monotonic() > deadline:
                    raise SystemExit(f"no Apache in {self.name}: " + self.daemon.text(f"/v1/vms/{self.name}/console/log")) from None
                await asyncio.sleep(0.2)

    async def status(self):
        """What its kernel says; sizes in KiB, swap_in and swap_out in pages."""
        told = (await self.clients.ask("/status")).decode()
        found = dict(line.split() for line in told.splitlines())
        self.told = {name: int(found[key]) for key, name in NAMES.items()}
        return self.told

    async def keep_asking(self):
        """Its status each second; one that thrashes answers late, and `told` is what it said last."""
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError):
                await self.status()
            await asyncio.sleep(1)
