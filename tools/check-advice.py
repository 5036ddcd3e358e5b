#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every `plim ...` that a message, a page or a manual tells people to type must be a command, with options that it has.

check-advice.py PLIM ROOT. Commands and options are asked of the program PLIM. In strings of C, %s stands for any word."""
import pathlib
import re
import subprocess
import sys

ANY = "%s"
QUOTED = re.compile(r"`plim ([^`]*)`")
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"')
PAGES = ("README.md", "CONTRIBUTING.md", "quickstart", "docs/*.md", "man/*", "api/openapi.yaml", "guest/debian/*")
# Words of plim that are no noun and have no table.
FREE = {"help", "version", "completion", "manual"}


def ask(plim, *words):
    return subprocess.run([plim, *words], capture_output=True, text=True, check=True).stdout


def commands(plim):
    """{("vm", "disk", "add"): {"--wait", ...}}"""
    found = {}
    for line in ask(plim, "help").splitlines():
        words = re.match(r"  plim ((?:[a-z]+(?:-[a-z]+)* ?)+)", line)
        if words:
            name = tuple(words[1].split())
            found[name] = set(re.findall(r"--[a-z-]+", ask(plim, *name, "--help")))
    return found


def joined_literals(text):
    """The strings of a C file; neighbours, and those with a macro like PRIu64 between them, are one."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    pieces, end = [], -1
    for m in LITERAL.finditer(text):
        word = m[0][1:-1].replace('\\"', '"')
        if end >= 0 and re.fullmatch(r"\s*(?:[A-Z][A-Za-z0-9_]*\s*)?", text[end:m.start()]):
            pieces[-1] += word
        else:
            pieces.append(word)
        end = m.end()
    return pieces


def told(root):
    """(file, what is typed behind plim)"""
    for path in sorted((root / "src").rglob("*.[ch]")):
        for text in joined_literals(path.read_text(encoding="utf-8")):
            yield from ((path, m) for m in QUOTED.findall(text))
    for pattern in PAGES:
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                yield from ((path, m) for m in QUOTED.findall(path.read_text(encoding="utf-8", errors="replace")))


def wrong(typed, known):
    """What is wrong with it, or None."""
    words = re.sub(r"[|].*", "", typed).split()
    if not words or words[0] in FREE or words[0].isupper() or words[0].startswith("-"):
        return None
    fits = [name for name in known if len(words) >= len(name) and all(a in (ANY, b) for a, b in zip(words, name))]
    if not fits:
        return "there is no such command"
    longest = max(len(name) for name in fits)
    options = set().union(*(known[name] for name in fits if len(name) == longest))
    unknown = [w.split("=")[0] for w in words if w.startswith("--") and w != "--" and w.split("=")[0] not in options]
    return f"it has no option {', '.join(unknown)}" if unknown else None


def main():
    plim, root = sys.argv[1], pathlib.Path(sys.argv[2])
    known = commands(plim)
    count, bad = 0, []
    for path, typed in told(root):
        count += 1
        reason = wrong(typed, known)
        if reason:
            bad.append(f"{path.relative_to(root)}: `plim {typed}`: {reason}")
    if bad or count == 0:
        sys.exit("\n".join(bad) or "no advice was found: is this the right folder?")
    print(f"{count} times plim is named, each time with a command that it has")


if __name__ == "__main__":
    main()
