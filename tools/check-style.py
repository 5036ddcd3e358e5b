#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Refuse what CODING_STYLE limits. There is no list of exceptions.

    tools/check-style.py text|functions|format [ROOT]

text       licence line, a header's first comment and #pragma once, length of files, white space
functions  length and complexity of functions, by pmccabe
format     clang-format; exits with 77 (skipped) where that is missing or another version

Generated files (*.gen.c, *.gen.h) are exempt, and so are the inputs and recordings of tests.
"""
import pathlib
import re
import shutil
import subprocess
import sys

MAX_FILE = 1500
MAX_FUNCTION = 100
MAX_COMPLEXITY = 25
CLANG_FORMAT = 14  # the version of Debian 12; others format otherwise

TREES = [".ci", "src", "guest", "tests", "bench", "tools"]
DATA = {"data", "corpus", "__pycache__", "node_modules"}
C = {".c", ".h"}
SCRIPTS = {".py", ".sh"}
MESON = {"meson.build", "meson_options.txt"}
SPDX = "SPDX-License-Identifier: Apache-2.0"


def kind(file):
    """"c", "asm", "script" or None: what rules there are for it."""
    if ".gen." in file.name:
        return None
    if file.suffix in C:
        return "c"
    if file.suffix in (".S", ".ld"):
        return "asm"
    if file.suffix in SCRIPTS or file.name in MESON:
        return "script"
    return "script" if file.suffix == "" and file.read_bytes()[:2] == b"#!" else None


def sources(root):
    found = [f for f in root.glob("*") if f.is_file()]
    for tree in TREES:
        found += [f for f in (root / tree).rglob("*") if f.is_file()]
    return sorted(f for f in found if kind(f) and not DATA & set(f.relative_to(root).parts))


def licensed(file, lines):
    if kind(file) == "script":
        return any(line == f"# {SPDX}" for line in lines[:2])  # behind #!
    return bool(lines) and lines[0] == f"/* {SPDX} */"


def header_problems(lines):
    """A header says what it is before it says anything else."""
    code = [n for n, line in enumerate(lines) if line.startswith("#")]
    if not code or lines[code[0]] != "#pragma once":
        yield 1, "a header begins with a comment and #pragma once"
    comment = "\n".join(lines[1 : code[0] if code else len(lines)]).strip()
    if not (comment.startswith("/*") and comment.endswith("*/") and len(comment) > 20):
        yield 2, "a header's first comment says what the module is"


def text_problems(file):
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError:
        yield 1, "is not UTF-8"
        return
    lines = text.split("\n")
    if not licensed(file, lines):
        yield 1, f"lacks its first line, '{SPDX}'"
    if lines[-1] != "" or (len(lines) > 1 and lines[-2] == ""):
        yield len(lines), "ends with exactly one newline"
    if len(lines) - 1 > MAX_FILE:
        yield len(lines), f"has {len(lines) - 1} lines; at most {MAX_FILE}"
    for n, line in enumerate(lines, 1):
        if re.search(r"\s$", line):
            yield n, "trailing white space"
    if file.suffix == ".h":
        yield from header_problems(lines)


def check_text(root, files):
    return [f"{f.relative_to(root)}:{n}: {what}" for f in files for n, what in text_problems(f)]


def check_functions(root, files):
    """pmccabe prints: complexity (modified, traditional), statements, first line, lines, file(line): name."""
    if shutil.which("pmccabe") is None:
        return ["pmccabe is not installed (see tools/packages.list)"]
    c = [str(f.relative_to(root)) for f in files if f.suffix == ".c"]
    out = subprocess.run(["pmccabe", *c], cwd=root, check=True, text=True, stdout=subprocess.PIPE).stdout
    bad, n = [], 0
    for line in out.splitlines():
        _, complexity, _, _, length, where = line.split("\t", 5)
        n += 1
        if int(length) > MAX_FUNCTION:
            bad.append(f"{where} has {length} lines; at most {MAX_FUNCTION}")
        if int(complexity) > MAX_COMPLEXITY:
            bad.append(f"{where} has complexity {complexity}; at most {MAX_COMPLEXITY}")
    return bad if n or not c else ["pmccabe found no function"]


def check_format(root, files):
    if shutil.which("clang-format") is None:
        print("clang-format is not installed")
        sys.exit(77)
    version = subprocess.run(["clang-format", "--version"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    if not re.search(rf"\bversion {CLANG_FORMAT}\.", version):
        print(f"clang-format {CLANG_FORMAT} is needed: {version.strip()}")
        sys.exit(77)
    c = [str(f.relative_to(root)) for f in files if f.suffix in C]
    run = subprocess.run(["clang-format", "--dry-run", "-Werror", *c], cwd=root, text=True, check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    bad = [line for line in run.stdout.splitlines() if ": error: " in line]
    return bad or ([run.stdout] if run.returncode != 0 else [])


CHECKS = {"text": check_text, "functions": check_functions, "format": check_format}


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in CHECKS:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).resolve().parent.parent
    files = sources(root)
    if not files:
        sys.exit(f"no sources in {root}")
    bad = CHECKS[sys.argv[1]](root, files)
    print("\n".join(bad) if bad else f"{len(files)} files are fine")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
