# SPDX-License-Identifier: Apache-2.0
"""For tests that mount something of their own over a folder of the host; tests/own_mounts.h is the same in C."""

# What is put before a command so that it runs with mounts of its own, of which the host sees nothing. In a chroot "/"
# is no mount most of the time and can't be made private: then its tree is mounted once more, on /proc which can, and
# becomes the root.
OWN_MOUNTS = ["unshare", "-m", "--propagation", "unchanged", "sh", "-euc", """
if mount --make-rprivate / 2>/dev/null; then exec "$@"; fi
mount --make-rprivate /proc
mount --rbind / /proc
mount --make-rprivate /proc
exec chroot /proc sh -c 'cd "$1"; shift; exec "$@"' sh "$PWD" "$@"
""", "sh"]
