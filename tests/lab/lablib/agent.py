# SPDX-License-Identifier: Apache-2.0
"""The first process of a lab host: runs commands for the outer machine and sends back what they print.

It speaks wire.py over the virtio port PORT and reaps every orphan. A command may leave processes behind, such
as a daemon: they live on, and what they print later is thrown away. SIGNAL 9 is the exception, it ends all of
them. Kept to few imports: this is an emulated machine, and the modules come over 9p.
"""
import errno
import fcntl
import os
import select
import signal
import struct
import termios

import wire

PORT = "org.plimsoll.lab"
CGROUPS = "/sys/fs/cgroup/lab"
CHUNK = 65536
OUTGOING_MAX = 1 << 20  # while the outer machine is this far behind, commands wait in their write()
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh", "LANG": "C.UTF-8", "TERM": "dumb",
    "LAB_HOST": os.environ.get("lab_name", ""),
}


class Command:
    def __init__(self, channel, pid, stdin, outputs, cgroup):
        self.channel = channel
        self.pid = pid
        self.stdin = stdin  # descriptor, or None once closed
        self.feed = bytearray()  # what stdin has yet to take
        self.feed_ended = False
        self.outputs = outputs  # descriptor -> STDOUT or STDERR
        self.cgroup = cgroup


def child_exec(argv, env, cwd, cgroup, stdio):
    """In the new process: become the command, or say on its stderr why not, with the statuses a shell has."""
    try:
        os.setsid()
        with open(cgroup + "/cgroup.procs", "w") as procs:
            procs.write("0")
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(cwd)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(2, b"lab: cannot run %s in %s: %s\n" % (argv[0], cwd, os.fsencode(error.strerror)))
        os._exit(127 if error.errno == errno.ENOENT else 126)
    finally:
        os._exit(126)


class Agent:
    def __init__(self, port):
        self.port = port
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.commands = {}  # channel -> Command, until its EXIT is sent
        self.leftovers = set()  # outputs of ended commands that a process they left behind still holds
        self.wake, wake_write = os.pipe()
        for fd in (port, self.wake, wake_write):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda number, where: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        os.makedirs(CGROUPS, exist_ok=True)

    def serve(self):
        """Returns when the outer machine has gone."""
        self.send(0, wire.HELLO)
        while True:
            outputs = {fd: command for command in self.commands.values() for fd in command.outputs}
            feeds = {command.stdin: command for command in self.commands.values()
                     if command.stdin is not None and (command.feed or command.feed_ended)}
            full = len(self.outgoing) > OUTGOING_MAX
            readable, writable, _ = select.select(
                [self.port, self.wake, *self.leftovers, *([] if full else outputs)],
                [*feeds, *([self.port] if self.outgoing else [])], [])
            for fd in readable:
                if fd in outputs:
                    self.forward(outputs[fd], fd, CHUNK)
                elif fd in self.leftovers and not os.read(fd, CHUNK):
                    self.leftovers.discard(fd)
                    os.close(fd)
                elif fd == self.wake:
                    os.read(fd, CHUNK)
            for fd in writable:
                if fd in feeds:
                    self.feed(feeds[fd])
            if self.port in readable and not self.receive():
                return
            self.reap()
            if self.outgoing:
                self.flush()

    def send(self, channel, kind, payload=b""):
        self.outgoing += wire.frame(channel, kind, payload)

    def flush(self):
        try:
            del self.outgoing[:os.write(self.port, self.outgoing[:CHUNK])]
        except BlockingIOError:
            pass

    def receive(self):
        try:
            data = os.read(self.port, CHUNK)
        except BlockingIOError:
            return True
        self.incoming += data
        for channel, kind, payload in wire.take_frames(self.incoming):
            command = self.commands.get(channel)
            if kind == wire.RUN:
                self.run(channel, payload)
            elif command and kind == wire.STDIN:
                command.feed += payload
                command.feed_ended = command.feed_ended or not payload
            elif command and kind == wire.SIGNAL:
                self.signal(command, int(payload))
        return bool(data)

    def run(self, channel, payload):
        argv, env, cwd = wire.run_unpack(payload)
        env = {**{os.fsencode(key): os.fsencode(value) for key, value in ENVIRONMENT.items()}, **env}
        cgroup = "%s/%d" % (CGROUPS, channel)
        os.makedirs(cgroup, exist_ok=True)
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            child_exec(argv, env, cwd, cgroup, (in_read, out_write, err_write))
        for fd in (in_read, out_write, err_write):
            os.close(fd)
        os.set_blocking(in_write, False)
        outputs = {out_read: wire.STDOUT, err_read: wire.STDERR}
        self.commands[channel] = Command(channel, pid, in_write, outputs, cgroup)

    def feed(self, command):
        try:
            del command.feed[:os.write(command.stdin, command.feed[:CHUNK])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            command.feed.clear()
            command.feed_ended = True
        if command.feed_ended and not command.feed:
            os.close(command.stdin)
            command.stdin = None

    def forward(self, command, fd, size):
        data = os.read(fd, size)
        if data:
            self.send(command.channel, command.outputs[fd], data)
        else:
            del command.outputs[fd]
            os.close(fd)

    def signal(self, command, number):
        try:
            if number == signal.SIGKILL:
                with open(command.cgroup + "/cgroup.kill", "w") as kill:
                    kill.write("1")
            os.killpg(command.pid, number)
        except ProcessLookupError:
            pass

    def reap(self):
        by_pid = {command.pid: command for command in self.commands.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                self.finish(by_pid[pid], os.waitstatus_to_exitcode(status))

    def finish(self, command, status):
        """Send what the command had printed by its end, then its status."""
        for fd in list(command.outputs):
            size = bytearray(4)
            fcntl.ioctl(fd, termios.FIONREAD, size)
            waiting = struct.unpack("i", size)[0]
            if waiting:
                self.forward(command, fd, waiting)
            self.leftovers.add(fd)
        if command.stdin is not None:
            os.close(command.stdin)
        self.send(command.channel, wire.EXIT, b"%d" % status)
        del self.commands[command.channel]
        try:
            os.rmdir(command.cgroup)
        except OSError:
            pass  # it left a daemon behind


def port_open():
    ports = "/sys/class/virtio-ports"
    for name in os.listdir(ports):
        with open("%s/%s/name" % (ports, name)) as file:
            if file.read().strip() == PORT:
                return os.open("/dev/" + name, os.O_RDWR | os.O_CLOEXEC)
    raise SystemExit("lab: no virtio port " + PORT)


if __name__ == "__main__":
    Agent(port_open()).serve()
