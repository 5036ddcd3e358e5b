# SPDX-License-Identifier: Apache-2.0
"""Linux guests of few MiB, from this machine's own packages: Debian's kernel, busybox, and what a test wants in it."""
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lab"))

from lablib.errors import Unavailable  # noqa: E402  (found by the line above)
from lablib.kernel import boot_files  # noqa: E402
from lablib.linux import guest_files  # noqa: E402

# By the first program of the guest.
MODULES = {
    "linux_guest.sh": ("virtio_pci virtio_net virtio_console virtio_blk crc32c_generic ext4 qemu_fw_cfg pvpanic_mmio "
                       "virtio_scsi sr_mod isofs").split(),
    "backup_guest.sh": "virtio_pci virtio_console virtio_blk crc32c_generic ext4".split(),
    "device_guest.sh": "virtio_pci virtio_console virtio_scsi sr_mod ahci xhci_pci uhci_hcd usbhid hid_generic evdev".split(),
    "memory_guest.sh": "virtio_pci virtio_console virtio_balloon virtio_mem".split(),
}
PROGRAMS = ("bash", "qemu-ga")


def libraries(path):
    told = subprocess.run(["ldd", path], capture_output=True, text=True, check=True, timeout=180).stdout
    return re.findall(r"(/\S+) \(0x", told)


def made_guest(folder, init, modules, programs):
    """(kernel, initrd) in that folder, for QEMU's user to read; `programs`: {path: bytes}."""
    try:
        files = guest_files(init, modules, programs)
    except Unavailable as error:
        pytest.skip(str(error))
    made = folder / "vmlinux", folder / "initrd"
    for source, target in zip(files, made):
        shutil.copyfile(source, target)
        target.chmod(0o644)
    return made


def linux_guest(folder, extra=None, script="linux_guest.sh", names=()):
    """One with bash, the guest agent, and more `names` of this machine's programs.

    `extra`: {path: bytes} of programs that are not this machine's; `script`: its first one.
    """
    names = (*PROGRAMS, *names)
    found = [shutil.which(name, path="/bin:/usr/bin:/usr/sbin:/sbin") for name in names]
    if None in found:
        pytest.skip(f"not all of these are installed: {', '.join(names)}")
    paths = [*found, *(path for program in found for path in libraries(program))]
    programs = {path[1:]: pathlib.Path(path).read_bytes() for path in paths}
    programs.update({path[1:]: content for path, content in (extra or {}).items()})
    return made_guest(folder, (HERE / script).read_text(encoding="utf-8"), MODULES[pathlib.Path(script).name], programs)


def vmlinuz():
    """The path of their kernel as it comes, for guests that load it themselves."""
    return pathlib.Path(boot_files()[0]).with_name("vmlinuz")


def ext4_disk(path, size, files=None):
    """`files`: a folder whose content it has."""
    with open(path, "wb") as file:
        file.truncate(size)
    content = ["-d", files] if files else []
    subprocess.run(["mke2fs", "-q", "-t", "ext4", *content, path], check=True, capture_output=True, timeout=180)
