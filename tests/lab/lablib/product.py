# SPDX-License-Identifier: Apache-2.0
"""Plimsoll in a lab host: its daemon, and plim. From the build folder, which is at the same path there.

The daemon has the folders of an installed one, /var/lib/plimsoll and so on, which in a lab host are its own.
"""
import json
import os
import pathlib
import shlex
import signal
import time

from .errors import LabError, LabTimeout

ROOT = pathlib.Path(__file__).resolve().parents[3]
LOG = "/var/log/plimsolld.%d.log"
PAYLOAD = "/run/payload/payload.elf"
READY_TIMEOUT = 300.0  # the probe runs two guests before the daemon is ready; machines differ by a factor of five
END_TIMEOUT = 60.0
COMMAND_TIMEOUT = 180.0
WORDS_MAX = 4000
# Ends with 0 when the daemon said that it is ready, with 1 when it has ended.
AWAIT_READY = "while ! grep -qs ' ready on ' {log}; do kill -0 {pid} || exit 1; sleep 0.1; done"


def build_folder():
    """Meson's: $PLIMSOLL_BUILD, else build/ in the repository."""
    return pathlib.Path(os.environ.get("PLIMSOLL_BUILD") or ROOT / "build").resolve()


def wait_for(condition, timeout, what):
    """Look until condition() answers something true, and return that; the pause only spares the processor."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "not within %g s: %s" % (timeout, what)
        time.sleep(0.05)


class Product:
    """The part of a Host that runs Plimsoll."""

    plimsolld = None  # the session.Command of the running daemon
    plimsolld_pid = None
    plimsolld_starts = 0

    def plimsolld_start(self, *options, timeout=READY_TIMEOUT, restart=False):
        """Start the daemon; returns when its API answers. Raises LabError with its log if it ends before.

        With restart=True a daemon that fails is started again, as systemd does; its pid is then that of a shell.
        """
        self.plimsolld_starts += 1
        words = [str(build_folder() / "src/daemon/plimsolld"), *map(str, options)]
        run = 'until "$@" >>$log 2>&1; do sleep 1; done' if restart else 'exec "$@" >$log 2>&1'
        script = "log=$1; shift; echo $$; " + run
        self.plimsolld = self.popen(["/bin/sh", "-c", script, "sh", self.plimsolld_log(), *words])
        # The first line is all that it prints here.
        self.plimsolld_pid = int(next(self.plimsolld.read(time.monotonic() + timeout))[1])
        try:
            ready = self.run(["/bin/sh", "-c", AWAIT_READY.format(log=self.plimsolld_log(),
                                                                  pid=self.plimsolld_pid)], timeout)
        except LabTimeout:
            raise LabTimeout("plimsolld was not ready after %g s; %s" % (timeout, self.plimsolld_said())) from None
        if ready.status != 0:
            raise LabError("plimsolld ended before it was ready; %s" % self.plimsolld_said())

    def payload(self):
        """The payload guest, where QEMU's user can reach it: the build folder may be in a home, closed to others."""
        self.sh("install -D -m 644 %s %s" % (shlex.quote(str(build_folder() / "guest/payload/payload.elf")), PAYLOAD))
        return PAYLOAD

    def plimsolld_stop(self):
        """End it as systemd does; guests run on. Raises LabError unless it ends with 0."""
        self.plimsolld_signal(signal.SIGTERM)
        status = self.plimsolld.wait(END_TIMEOUT).status
        if status != 0:
            raise LabError("plimsolld ended with %d; %s" % (status, self.plimsolld_said()))

    def plimsolld_clear(self):
        """End its guests, end it, and leave the host as one that never had Plimsoll."""
        for vm in self.plim("vm", "list"):
            if vm["runtime"]["state"] == "running":
                self.plim_ok("vm", "kill", vm["name"])
        self.plimsolld_stop()
        self.sh("rm -rf /var/lib/plimsoll/* /run/plimsoll /run/payload /var/log/*")

    def plimsolld_kill(self):
        """kill -9 of the daemon alone; guests run on. Returns when it is gone."""
        self.plimsolld_signal(signal.SIGKILL)
        self.plimsolld.wait(END_TIMEOUT)

    def plimsolld_signal(self, number):
        self.sh("kill -%d %d" % (number, self.plimsolld_pid))

    def plimsolld_log(self):
        """The path, in the host, of what the daemon of the last start prints."""
        return LOG % self.plimsolld_starts

    def plimsolld_said(self):
        return "it said last:\n" + self.run(["tail", "-c", str(WORDS_MAX), self.plimsolld_log()]).text

    def plim_run(self, *words, timeout=COMMAND_TIMEOUT, stdin=b""):
        """Run plim and return its Result, whatever its status. LabTimeout tells what it and the daemon had said."""
        try:
            return self.run([str(build_folder() / "src/cli/plim"), *map(str, words)], timeout, stdin=stdin)
        except LabTimeout as late:
            said = (late.stdout + late.stderr).decode(errors="replace")
            raise LabTimeout("%s\n%s\n%s" % (late, said, self.plimsolld_said()), late.stdout, late.stderr) from None

    def plim_ok(self, *words, timeout=COMMAND_TIMEOUT):
        """Run a plim that must succeed; what it printed. Else LabError, with what the daemon said too."""
        done = self.plim_run(*words, timeout=timeout)
        if done.status != 0:
            raise LabError("plim %s ended with %d\n%s%s\n%s" % (" ".join(map(str, words)), done.status, done.text,
                                                             done.stderr.decode(errors="replace"),
                                                             self.plimsolld_said()))
        return done.text

    def plim(self, noun, verb, *words, timeout=COMMAND_TIMEOUT):
        """A plim command that prints objects (list, show, explain, ...): the parsed JSON."""
        return json.loads(self.plim_ok(noun, verb, "-o", "json", *words, timeout=timeout))
