# SPDX-License-Identifier: Apache-2.0
"""The kernel and the first root file system of lab hosts, made once and kept in a cache.

The kernel is Debian's generic one (the cloud kernel has no 9p), fetched by package name through apt, which
checks its signature; it is unpacked, never installed. The cache holds the newest version fetched, as

    linux-image-VERSION.deb      what apt fetched
    boot-VERSION-HASH/vmlinux    the kernel, unpacked when that can be, so that no boot has to
    boot-VERSION-HASH/vmlinuz    the same as it comes, for guests that load it themselves
    boot-VERSION-HASH/initrd     busybox, the modules below, init.sh, the agent
"""
import contextlib
import fcntl
import glob
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tempfile
import time

from .cpio import Archive
from .errors import Unavailable

PACKAGE = "linux-image-amd64"
TOOL_TIMEOUT = 300.0
BOOT_KEPT = 7 * 86400.0
BUSYBOX = "/bin/busybox"
HERE = os.path.dirname(os.path.abspath(__file__))
# Lists that init.sh loads: what gets at the root, then what makes it a KVM host, then what its tests use. The last
# one is for guests alone (tests/e2e/memory_guest.sh).
# Each module's dependencies are read from the module and loaded before it.
MODULES = {
    "order": ("virtio_pci 9pnet_virtio 9p overlay virtio_console virtio_net kvm-amd "
              "tun bridge veth vhost_net").split(),
    "order.disk": "virtio_blk crc32c_generic ext4".split(),
}


def cache_dir():
    given = os.environ.get("PLIMSOLL_CACHE")
    usual = os.path.join(os.environ.get("XDG_CACHE_HOME") or "/var/cache", "plimsoll")
    return os.path.join(given or usual, "lab")


@contextlib.contextmanager
def cache_locked():
    """The folder of the cache, made and held. Raises Unavailable."""
    cache = cache_dir()
    try:
        os.makedirs(cache, exist_ok=True)
        lock = os.open(os.path.join(cache, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Unavailable("the lab's cache %s cannot be used: %s; set PLIMSOLL_CACHE to a folder of yours"
                          % (cache, error.strerror)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache
    finally:
        os.close(lock)


def boot_files(refresh=False):
    """The paths of (kernel, initrd). Raises Unavailable, with reason and way out, when they can't be had.

    The kernel is the one in the cache, whatever its age; `refresh` asks apt for a newer one.
    """
    with cache_locked() as cache:
        deb = package_cached(cache)
        if refresh or deb is None:
            deb = package_fetch(cache)
        return boot_make(cache, deb)


def package_cached(cache):
    debs = glob.glob(os.path.join(cache, "linux-image-*.deb"))
    return max(debs, key=os.path.getmtime, default=None)


def package_fetch(cache):
    name = package_resolve()
    with scratch(cache) as work:
        # apt downloads as a user of its own, which can't write here, and warns of it: spare the warning.
        tool(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name], cwd=work)
        fetched = glob.glob(os.path.join(work, "*.deb"))
        if len(fetched) != 1:
            raise Unavailable("apt-get download %s left %d files" % (name, len(fetched)))
        target = os.path.join(cache, os.path.basename(fetched[0]))
        os.utime(fetched[0])
        os.rename(fetched[0], target)
    for old in glob.glob(os.path.join(cache, "linux-image-*.deb")):
        if old != target:
            os.unlink(old)
    return target


def package_resolve():
    """PACKAGE is empty and depends on the kernel of the day."""
    depends = tool(["apt-cache", "depends", PACKAGE])
    found = re.search(r"^\s*Depends: (linux-image-\S+)", depends, re.MULTILINE)
    if not found:
        raise Unavailable("apt knows no kernel behind %s; run 'apt-get update'" % PACKAGE)
    return found.group(1)


def tool(argv, cwd=None, advice="is there a network, and was 'apt-get update' run?"):
    try:
        done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=TOOL_TIMEOUT, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("%s did not work: %s; %s" % (argv[0], error, advice)) from error
    if done.returncode != 0:
        raise Unavailable("'%s' failed: %s; %s" % (" ".join(argv), done.stderr.strip(), advice))
    return done.stdout


@contextlib.contextmanager
def scratch(cache):
    """A folder in the cache, whose lock is held: what else looks like one was left by a killed process."""
    for left in glob.glob(os.path.join(cache, "work-*")):
        shutil.rmtree(left)
    path = tempfile.mkdtemp(prefix="work-", dir=cache)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def boot_make(cache, deb):
    version = os.path.basename(deb).split("_")
    made = os.path.join(cache, "boot-%s-%s" % (version[1], recipe_hash()))
    if not os.path.isdir(made):
        with scratch(cache) as work:
            tree = os.path.join(work, "tree")
            tool(["dpkg", "-x", deb, tree])
            out = os.path.join(work, "boot")
            os.mkdir(out)
            packed = read(one(tree, "boot/vmlinuz-*"))
            write(os.path.join(out, "vmlinuz"), packed)
            write(os.path.join(out, "vmlinux"), kernel_unpack(packed))
            write(os.path.join(out, "initrd"), initrd_make(one(tree, "lib/modules/*")))
            os.rename(out, made)
    boot_prune(cache, made)
    return os.path.join(made, "vmlinux"), os.path.join(made, "initrd")


def boot_prune(cache, used):
    """Drop what no lab of the last days has used; other checkouts, whose recipe differs, may use the rest."""
    os.utime(used)
    for path in glob.glob(os.path.join(cache, "boot-*")):
        if time.time() - os.path.getmtime(path) > BOOT_KEPT:
            shutil.rmtree(path)


def recipe_hash():
    """Everything that shapes the boot files, besides the kernel package."""
    digest = hashlib.sha256()
    for path in [os.path.join(HERE, name) for name in ("kernel.py", "cpio.py", *INITRD_FILES)] + [BUSYBOX]:
        try:
            digest.update(read(path))
        except FileNotFoundError as error:
            raise Unavailable("%s is missing: install the package busybox-static" % path) from error
    return digest.hexdigest()[:16]


def one(tree, pattern):
    found = glob.glob(os.path.join(tree, pattern))
    if len(found) != 1:
        raise Unavailable("the kernel package holds %d of %s" % (len(found), pattern))
    return found[0]


def kernel_unpack(image):
    """The ELF inside a bzImage: booted through its PVH entry it spares each host the emulated unpacking."""
    start = image.find(b"\xfd7zXZ\0")
    if start < 0:
        return image
    try:
        kernel = lzma.LZMADecompressor().decompress(image[start:])
    except lzma.LZMAError:
        return image
    return kernel if kernel.startswith(b"\x7fELF") else image


INITRD_FILES = ("init.sh", "agent.py", "wire.py")


def initrd_make(modules_dir):
    archive = Archive()
    for folder in ("bin", "dev", "proc", "sys", "modules", "lab"):
        archive.folder(folder)
    archive.console()
    archive.file("bin/busybox", read(BUSYBOX), 0o755)
    archive.file("init", read(os.path.join(HERE, "init.sh")), 0o755)
    for name in ("agent.py", "wire.py"):
        archive.file("lab/" + name, read(os.path.join(HERE, name)))
    files = module_files(modules_dir)
    packed = {}
    for listing, wanted in MODULES.items():
        paths = [path for path in modules_order(files, wanted) if path not in packed]
        for path in paths:
            packed[path] = True
            archive.file("modules/" + os.path.basename(path), read(path))
        archive.file("modules/" + listing, "".join(os.path.basename(path) + "\n" for path in paths).encode())
    return archive.bytes()


def module_files(modules_dir):
    """Name, with underscores as the kernel writes it, to path."""
    return {name[:-3].replace("-", "_"): os.path.join(folder, name)
            for folder, _, names in os.walk(modules_dir) for name in names if name.endswith(".ko")}


def modules_order(files, wanted):
    """The paths of the wanted modules and of all they depend on, dependencies first."""
    ordered = {}

    def add(name):
        path = files.get(name.replace("-", "_"))
        if path is None:
            raise Unavailable("the kernel package has no module %s" % name)
        if path not in ordered:
            for dependency in module_depends(path):
                add(dependency)
            ordered[path] = True

    for name in wanted:
        add(name)
    return list(ordered)


def module_depends(path):
    """What .modinfo says: a NUL-terminated depends=A,B (a module has exactly one, maybe empty)."""
    found = re.search(rb"\0depends=([^\0]*)\0", read(path))
    return [name.decode() for name in found.group(1).split(b",") if name] if found else []


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
