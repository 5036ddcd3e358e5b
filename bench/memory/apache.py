# SPDX-License-Identifier: Apache-2.0
"""The guest of bench/memory: Debian's kernel, busybox, and Debian's Apache with an application in its workers.

The packages are fetched by apt, which checks their signatures, and unpacked into the lab's cache; nothing is installed.
"""
import glob
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests/lab"))

from lablib import kernel  # noqa: E402  (found by the line above)
from lablib.linux import guest_files  # noqa: E402

PACKAGES = ("apache2-bin", "libapr1", "libaprutil1", "liblua5.3-0")
MODULES = "virtio_pci virtio_net virtio_console virtio_blk virtio_balloon virtio_mem".split()
APACHE_MODULES = ("mod_mpm_prefork", "mod_authz_core", "mod_lua")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PASSWD = b"root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33:www-data:/srv:/bin/false\n"
GROUP = b"root:x:0:\nwww-data:x:33:\n"


def unpacked():
    """The folder with the packages' files, fetched at the first time."""
    kernel.boot_files()
    with kernel.cache_locked() as cache:
        tree = os.path.join(cache, "apache")
        if not os.path.exists(tree):
            with kernel.scratch(cache) as work:
                kernel.tool(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *PACKAGES], cwd=work)
                for deb in glob.glob(os.path.join(work, "*.deb")):
                    kernel.tool(["dpkg", "-x", deb, os.path.join(work, "tree")])
                os.rename(os.path.join(work, "tree"), tree)
    return tree


def libraries(program, tree):
    """{path in the guest: file} of all that a program or module loads."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True,
                          env={**os.environ, "LD_LIBRARY_PATH": os.path.join(tree, LIBRARIES)}).stdout
    missing = re.findall(r"(\S+) => not found", told)
    if missing:
        sys.exit(f"Debian's Apache needs {', '.join(missing)}, which this machine does not have: install the packages of "
                 "tools/packages.list")
    found = re.findall(r"(/\S+) \(0x", told)
    return {path.removeprefix(tree).lstrip("/"): path for path in found}


def image():
    """(kernel, initrd)."""
    tree = unpacked()
    files = {"usr/sbin/apache2": f"{tree}/usr/sbin/apache2"}
    files.update({f"usr/lib/apache2/modules/{name}.so": f"{tree}/usr/lib/apache2/modules/{name}.so" for name in APACHE_MODULES})
    for path in list(files.values()):
        files.update(libraries(path, tree))
    programs = {path: pathlib.Path(source).read_bytes() for path, source in files.items()}
    programs.update({f"srv/{name}": (HERE / name).read_bytes() for name in ("apache.conf", "app.lua")})
    programs.update({"etc/passwd": PASSWD, "etc/group": GROUP})
    return guest_files((HERE / "guest.sh").read_text(encoding="utf-8"), MODULES, programs)
