#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A page in the tree is what a program makes of its table.

check-page.py [--write] PROGRAM PAGE"""
import subprocess
import sys


def main():
    write = sys.argv[1] == "--write"
    program, page = sys.argv[1 + write:3 + write]
    made = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    if write:
        with open(page, "w", encoding="utf-8") as f:
            f.write(made)
    elif open(page, encoding="utf-8").read() != made:
        sys.exit(f"{page} is out of date: tools/check-page.py --write {program} {page}")


if __name__ == "__main__":
    main()
