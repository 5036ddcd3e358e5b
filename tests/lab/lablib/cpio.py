# SPDX-License-Identifier: Apache-2.0
"""Writes a cpio archive in the "newc" form that the kernel unpacks as its first root file system."""
import stat


class Archive:
    """Entries are added in order; a file's folder must come before it."""

    def __init__(self):
        self.parts = []
        self.count = 0

    def folder(self, name):
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name, data, mode=0o644):
        self._entry(name, stat.S_IFREG | mode, data)

    def console(self):
        """/dev/console, without which the first program has no stderr."""
        self._entry("dev/console", stat.S_IFCHR | 0o600, b"", device=(5, 1))

    def bytes(self):
        trailer = Archive()
        trailer._entry("TRAILER!!!", 0, b"")
        return b"".join(self.parts + trailer.parts)

    def _entry(self, name, mode, data, device=(0, 0)):
        # magic, then 13 fields of 8 hex digits: inode mode uid gid links mtime size dev-major dev-minor
        # rdev-major rdev-minor name-length check; name and data are each padded to 4 bytes.
        self.count += 1
        name = name.encode() + b"\0"
        fields = (self.count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self.parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
