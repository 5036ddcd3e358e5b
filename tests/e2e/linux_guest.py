# SPDX-License-Identifier: Apache-2.0
"""A Linux guest of few MiB, from this machine's own packages: the lab's kernel, busybox, bash and the guest agent."""
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lab"))

from lablib.cpio import Archive  # noqa: E402  (found by the line above)
from lablib.errors import Unavailable  # noqa: E402
from lablib.kernel import boot_files  # noqa: E402

PROGRAMS = ("bash", "qemu-ga")


def libraries(path):
    told = subprocess.run(["ldd", path], capture_output=True, text=True, check=True, timeout=180).stdout
    return re.findall(r"(/\S+) \(0x", told)


def layer(script, extra):
    """
    What lies over the lab's own initrd: of two files of a name the kernel keeps the later. `script` is its first program,
    `extra`: {path: bytes} of programs.
    """
    found = [shutil.which(name, path="/bin:/usr/bin:/usr/sbin") for name in PROGRAMS]
    if None in found:
        pytest.skip(f"not all of these are installed: {', '.join(PROGRAMS)}")
    files = {path: path for path in found} | {path: path for program in found for path in libraries(program)}
    archive = Archive()
    folders = {str(parent) for path in files for parent in pathlib.Path(path).parents} - {"/"}
    for folder in sorted(folders | {"/var"}):
        archive.folder(folder[1:])
    for path in files:
        archive.file(path[1:], pathlib.Path(path).read_bytes(), 0o755)
    for path, content in extra.items():
        archive.file(path[1:], content, 0o755)
    archive.file("init", (HERE / script).read_bytes(), 0o755)
    return archive.bytes()


def linux_guest(folder, extra=None, script="linux_guest.sh"):
    """(kernel, initrd) in that folder, for QEMU's user to read; `extra`: {path: bytes} of further programs."""
    try:
        kernel, initrd = map(pathlib.Path, boot_files())
    except Unavailable as error:
        pytest.skip(str(error))
    made = folder / "vmlinux", folder / "initrd"
    shutil.copyfile(kernel, made[0])
    made[1].write_bytes(initrd.read_bytes() + layer(script, extra or {}))
    for path in made:
        path.chmod(0o644)
    return made


def ext4_disk(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True, capture_output=True, timeout=180)
