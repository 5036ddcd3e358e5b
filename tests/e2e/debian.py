# SPDX-License-Identifier: Apache-2.0
"""A Debian guest with its agent, for tests that need a real one: about half a minute to boot, so one for a whole file."""
import pathlib
import subprocess
import time

import pytest

from daemon import ROOT, Daemon, open_copy, until

BUILD_TIME = 900
BOOT_TIME = 300.0
REST_TIME = 900.0


def image():
    """The path of Debian's image, found in the cache or built; skips where it can't be built."""
    try:
        done = subprocess.run([ROOT / "guest/debian/build-image"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=BUILD_TIME, check=False)
    except OSError as error:
        pytest.skip(f"no Debian image: {error}")
    if done.returncode != 0:
        pytest.skip(f"no Debian image: {done.stderr[-300:]}")
    return pathlib.Path(done.stdout.strip().splitlines()[-1])


class Debian:
    """One guest, "deb", on a daemon of its own; `options` are further words of vm create."""

    def __init__(self, *options):
        path = image()
        kernel, initrd = (open_copy(path.with_suffix(s)) for s in (".vmlinuz", ".initrd"))
        self.daemon = Daemon("qemu")
        try:
            self.daemon.start()
            self.daemon.ok("image", "import", path, "--name", "debian", "os_type=linux")
            self.daemon.ok("vm", "create", "deb", "--image", "debian", "--nic", "none", "--no-cloud-init", "--kernel", kernel,
                           "--initrd", initrd, "--cmdline", path.with_suffix(".cmdline").read_text().strip(), *options)
            self.daemon.ok("vm", "start", "deb")
            until(self.answers, "answer of the agent", BOOT_TIME)
            until(self.answers_soon, "a soon answer", REST_TIME)
        except BaseException:
            self.daemon.close()
            raise

    def answers(self):
        return ((self.daemon.runtime("deb").get("agent") or {}).get("connected")) or None

    def answers_soon(self):
        """Its boot goes on behind the agent's first word, and `plim vm nmi` gives it 5 s for each of its questions."""
        began = time.monotonic()
        return self.daemon.plim("vm", "exec", "deb", "--", "true").status == 0 and time.monotonic() - began < 2

    def run(self, script):
        """A shell's output in the guest."""
        return self.daemon.ok("vm", "exec", "deb", "--timeout", "120s", "--", "/bin/sh", "-euc", script)

    def close(self):
        self.daemon.close()
