#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print what a QEMU answers to query-qmp-schema, for tests/data/qmp-schema/VERSION.json.

    tools/record-qmp-schema.py qemu-system-x86_64 > tests/data/qmp-schema/7.2.json
"""
import json
import subprocess
import sys


def call(qemu, command):
    qemu.stdin.write(json.dumps({"execute": command}) + "\n")
    qemu.stdin.flush()
    while True:
        message = json.loads(qemu.stdout.readline())
        if "event" not in message:
            return message["return"]


def main():
    args = [sys.argv[1], "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
        qemu.stdout.readline()
        call(qemu, "qmp_capabilities")
        schema = call(qemu, "query-qmp-schema")
        call(qemu, "quit")
    # One entity a line: a new version shows as a readable difference.
    print("[\n" + ",\n".join(json.dumps(entity, separators=(",", ":")) for entity in schema) + "\n]")


main()
