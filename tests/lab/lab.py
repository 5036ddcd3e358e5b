#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts KVM hosts without hardware and runs commands in them; see docs/lab.md.

examples:
  lab.py run -- grep -m1 'model name' /proc/cpuinfo
  lab.py run --cpu max,-avx2 --mem 4G --smp 2 -- /bin/sh -c 'qemu-system-x86_64 -accel kvm ...'
  lab.py run --host a --host b --cpu max,-avx2 --on a -- busybox ping -c1 b
  lab.py up --detach --host a --host b; lab.py exec a -- hostname; lab.py down

exit status: the command's; 128+N if signal N ended it; 124: killed at its timeout; 125: the lab failed.
"""
import argparse
import os
import signal
import subprocess
import sys
import threading
import time

from lablib import HostSpec, Lab, LabError, LabTimeout, boot_files
from lablib import serve, wire

EXIT_TIMEOUT = 124
EXIT_LAB = 125
READY = "lab up: "


def main():
    options = parse(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, where: sys.exit(128 + number))
    try:
        return options.run(options)
    except LabTimeout as error:
        return say(error, EXIT_TIMEOUT)
    except LabError as error:
        return say(error, EXIT_LAB)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def say(error, status):
    print("lab:", error, file=sys.stderr)
    return status


def run_run(options):
    specs = specs_of(options)
    name, env = options.on or specs[0].name, env_of(options)
    with Lab(*specs, boot_timeout=options.boot_timeout) as lab:
        return run_to_end(lab[name].popen(options.command, env, options.cwd), options.timeout)


def run_up(options):
    if options.detach:
        return up_detached()
    with Lab(*specs_of(options), boot_timeout=options.boot_timeout) as lab:
        asked = serve.serve(lab, options.lifetime, lambda: print(READY + lab.guard.folder, flush=True))
    if asked:
        asked.close()
    return 0


def up_detached():
    """The same command again, in a session of its own. It talks to us until it says that it is up."""
    argv = [sys.executable, os.path.abspath(__file__), *(word for word in sys.argv[1:] if word != "--detach")]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, start_new_session=True)
    try:
        for line in child.stdout:
            if line.startswith(READY):
                sys.stdout.write(line)
                return 0
            sys.stderr.write(line)
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise


def run_exec(options):
    session = serve.attach(folder_of(options), options.name)
    return run_to_end(session.start(options.command, env_of(options), options.cwd), options.timeout)


def run_down(options):
    serve.take_down(folder_of(options))
    return 0


def run_fetch(options):
    for path in boot_files(refresh=True):
        print(path)
    return 0


def run_to_end(command, timeout):
    """Pass our stdin to the command and its output on, as it comes."""
    if sys.stdin is None or sys.stdin.isatty():
        command.close_stdin()
    else:
        threading.Thread(target=feed, args=(command,), daemon=True).start()
    sinks = {wire.STDOUT: sys.stdout.buffer, wire.STDERR: sys.stderr.buffer}
    try:
        for kind, payload in command.read(time.monotonic() + timeout):
            sinks[kind].write(payload)
            sinks[kind].flush()
    except LabTimeout:
        command.kill()
        raise LabTimeout("%r was killed: it had not ended after %g s" % (command.argv, timeout)) from None
    return command.status if command.status >= 0 else 128 - command.status


def feed(command):
    while True:
        data = os.read(0, 65536)
        if not data:
            return command.close_stdin()
        command.write(data)


def folder_of(options):
    folders = [options.lab] if options.lab else serve.labs_running()
    if len(folders) != 1:
        raise LabError("%d labs are up%s; start one with 'lab.py up', or name one with --lab"
                       % (len(folders), "".join(" " + folder for folder in folders)))
    return folders[0]


def env_of(options):
    pairs = [pair.split("=", 1) for pair in options.env]
    if any(len(pair) != 2 for pair in pairs):
        raise LabError("--env takes NAME=VALUE")
    return dict(pairs)


def specs_of(options):
    return [HostSpec(**settings) for settings in options.hosts or [{"name": "lab", **options.defaults}]]


class HostOption(argparse.Action):
    """--host begins a host; what follows is for it, what comes before any --host is for all."""

    def __call__(self, parser, options, value, flag=None):
        if self.dest == "host":
            options.hosts = (options.hosts or []) + [{"name": value, **(options.defaults or {})}]
        elif options.hosts:
            options.hosts[-1][self.dest] = value
        else:
            options.defaults = {**options.defaults, self.dest: value}


def parse(argv):
    parser = argparse.ArgumentParser(prog="lab.py", description=__doc__.splitlines()[0],
                                     epilog=__doc__.split("\n", 2)[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    hosts = argparse.ArgumentParser(add_help=False)
    hosts.set_defaults(hosts=None, defaults={})
    group = hosts.add_argument_group("hosts", "before the first --host: for all; after a --host: for it")
    group.add_argument("--host", action=HostOption, metavar="NAME", help="a host; give it again for more")
    group.add_argument("--cpu", action=HostOption, metavar="MODEL", help="as QEMU's -cpu (default: max)")
    group.add_argument("--mem", dest="memory", action=HostOption, metavar="SIZE", help="default: 2G")
    group.add_argument("--smp", action=HostOption, type=int, metavar="N", help="processors (default: 1)")
    group.add_argument("--disk", action=HostOption, metavar="SIZE", help="write to a disk, not to memory")
    group.add_argument("--boot-timeout", type=float, default=120.0, metavar="S", help="default: %(default)s")

    command = argparse.ArgumentParser(add_help=False)
    command.add_argument("--timeout", type=float, default=300.0, metavar="S",
                         help="for the command (default: %(default)s)")
    command.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    command.add_argument("--cwd", default=os.getcwd(), metavar="DIR", help="default: this one")

    running = argparse.ArgumentParser(add_help=False)
    running.add_argument("--lab", metavar="DIR", default=os.environ.get("PLIMSOLL_LAB"),
                         help="what 'up' printed (default: $PLIMSOLL_LAB, or the only lab there is)")

    verb = verbs.add_parser("run", parents=[hosts, command], usage="%(prog)s [options] -- COMMAND...",
                           help="start hosts, run one command, stop the hosts")
    verb.add_argument("--on", metavar="NAME", help="the host to run it on (default: the first)")
    verb.set_defaults(run=run_run)

    verb = verbs.add_parser("up", parents=[hosts], help="start hosts and keep them for 'exec'")
    verb.add_argument("--detach", action="store_true", help="return when they are up; else stay until Ctrl-C")
    verb.add_argument("--lifetime", type=float, default=3600.0, metavar="S",
                      help="they stop by themselves after this (default: %(default)s)")
    verb.set_defaults(run=run_up)

    verb = verbs.add_parser("exec", parents=[running, command], usage="%(prog)s [options] HOST -- COMMAND...",
                           help="run a command in a host that 'up' started")
    verb.add_argument("name", metavar="HOST")
    verb.set_defaults(run=run_exec)

    verb = verbs.add_parser("down", parents=[running], help="stop the hosts that 'up' started")
    verb.set_defaults(run=run_down)

    verb = verbs.add_parser("fetch", help="get the newest kernel into the cache, %s" % "$PLIMSOLL_CACHE/lab")
    verb.set_defaults(run=run_fetch)

    # What follows the first -- is the command's alone, its own -- included.
    cut = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:cut])
    options.command = argv[cut + 1:]
    if (options.run in (run_run, run_exec)) != bool(options.command):
        parser.error("'run' and 'exec' take a command, after --; the others take none")
    return options


if __name__ == "__main__":
    sys.exit(main())
