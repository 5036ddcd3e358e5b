#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Refuse an #include in src/ that points up, or at a library that is not for that layer.

    tools/check-layers.py [ROOT]

The tables below are the architecture. A new library gets a line in LIBRARIES, in the change that needs it.
"""
import fnmatch
import pathlib
import re
import sys

# layer: what of ours it may include, as patterns of paths below src/
LAYERS = {
    "base": [],
    "core": ["base/err.h", "base/json.h", "base/str.h", "base/time.h"],
    "store": ["base/*"],
    "engine": ["base/*", "core/*", "store/*"],
    "api": ["base/*", "core/*", "store/*", "engine/*"],
    "daemon": ["base/*", "core/*", "store/*", "engine/*", "api/*"],
    # core/cpu too: `plim cpu` works on files without a daemon, by the same rules as the daemon. And core/soak: a soak is
    # a user of the API, which the daemon has no part in; so is a rollout of core/tools.
    "cli": ["base/*", "core/cpu/*", "core/soak/*", "core/tools/*", "api/*.gen.h"],
}

# What the row above would allow, and must not be all the same.
NEVER = {
    "api": ["engine/qmp*", "engine/net*", "store/store-*"],
    "daemon": ["store/store-*"],
    "engine": ["store/store-*"],
}

# header of a library: the files below src/ that may include it
LIBRARIES = {
    "glib.h": ["*"],
    "glib/*.h": ["*"],
    "jansson.h": ["base/json.h"],
    "systemd/sd-event.h": ["base/loop.c"],
    "systemd/sd-daemon.h": ["daemon/*"],
    "systemd/sd-bus.h": ["engine/*"],
    "sqlite3.h": ["store/*"],
    "curl/curl.h": ["store/*", "engine/*"],
    "gnutls/*.h": ["api/http_tls.c", "engine/image/hash.c", "engine/pki.c"],
    "wslay/wslay.h": ["api/http_ws.c", "base/ws.c"],
    "libmnl/*.h": ["engine/*"],
    "nftables/libnftables.h": ["engine/*"],
    "libkmod.h": ["engine/*"],
    "cpuid.h": ["engine/cpu_raw.c"],
    "elf.h": ["core/evidence/elf_head.c"],
    "archive*.h": ["engine/*"],
    "libsmartcols/libsmartcols.h": ["cli/*"],
}

# What C itself brings, without I/O, clock, randomness, errno or threads: all that core gets.
PURE = {"assert.h", "ctype.h", "float.h", "inttypes.h", "limits.h", "math.h", "stdalign.h", "stdarg.h",
        "stdbool.h", "stddef.h", "stdint.h", "stdnoreturn.h", "string.h"}

# What libc and the kernel bring beyond that.
SYSTEM = ["crypt.h", "dirent.h", "endian.h", "errno.h", "fcntl.h", "fnmatch.h", "ftw.h", "getopt.h", "glob.h",
          "grp.h", "langinfo.h", "locale.h", "netdb.h", "poll.h", "pthread.h", "pwd.h", "sched.h", "signal.h",
          "spawn.h", "stdio.h", "stdlib.h", "strings.h", "syslog.h", "termios.h", "time.h", "unistd.h",
          "wchar.h", "arpa/*.h", "asm/*.h", "linux/*.h", "net/*.h", "netinet/*.h", "sys/*.h"]

INCLUDE = re.compile(r"\s*#\s*include\b\s*(.*)")


def matches(path, patterns):
    return any(fnmatch.fnmatchcase(path, p) for p in patterns)


def ours(path, header, src):
    """What is wrong with #include "header" in path, or None."""
    layer = path.split("/")[0]
    target = header.split("/")[0]
    if ".." in header.split("/") or target not in LAYERS:
        return f'"{header}" must begin with the name of a layer'
    if not header.endswith(".gen.h") and not (src / header).is_file():
        return f'there is no "{header}"'
    if target == layer:
        return None
    if not matches(header, LAYERS[layer]) or matches(header, NEVER.get(layer, [])):
        return f'{layer} must not use "{header}"'
    return None


def foreign(path, header):
    """What is wrong with #include <header> in path, or None."""
    layer = path.split("/")[0]
    if header in PURE:
        return None
    if layer != "core" and matches(header, SYSTEM):
        return None
    allowed = [files for pattern, files in LIBRARIES.items() if fnmatch.fnmatchcase(header, pattern)]
    if any(matches(path, files) for files in allowed):
        return None
    if layer == "core":
        return f"core does nothing, so it must not use <{header}>"
    return f"{path} must not use <{header}>" if allowed else f"<{header}> is in no table of this check"


def check_line(path, line, src):
    m = INCLUDE.match(line)
    if not m:
        return None
    if q := re.match(r'"([^"]+)"', m[1]):
        return ours(path, q[1], src)
    if a := re.match(r"<([^>]+)>", m[1]):
        return foreign(path, a[1])
    return "an #include must name its file"


def check_file(file, src):
    path = file.relative_to(src).as_posix()
    if path.split("/")[0] not in LAYERS or "/" not in path:
        return [f"src/{path}: belongs to no layer"]
    text = file.read_text(encoding="utf-8").splitlines()
    found = ((n, check_line(path, line, src)) for n, line in enumerate(text, 1))
    return [f"src/{path}:{n}: {what}" for n, what in found if what]


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    src = root / "src"
    files = sorted(f for f in src.rglob("*") if f.suffix in (".c", ".h", ".S"))
    if not files:
        sys.exit(f"no sources in {src}")
    bad = [line for f in files for line in check_file(f, src)]
    print("\n".join(bad) if bad else f"{len(files)} files keep to their layers")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
