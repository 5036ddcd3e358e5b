# SPDX-License-Identifier: Apache-2.0
"""What tests ask of a QEMU past the daemon."""
import json
import socket


class Monitor:
    """QEMU's second monitor, which is for tools."""

    def __init__(self, daemon, name):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(180)
        self.sock.connect(str(daemon.run / "vms" / daemon.vm(name)["id"] / "qmp2.sock"))
        self.lines = self.sock.makefile()
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            line = json.loads(self.lines.readline())
            if "event" not in line:
                return line["return"]
