# SPDX-License-Identifier: Apache-2.0
"""The outer side of the conversation with a lab host's agent (wire.py): commands, their output, their end."""
import dataclasses
import os
import queue
import signal
import threading
import time

from . import wire
from .errors import LabError, LabTimeout

OUTPUT_MAX = 64 << 20  # of one command; what comes after is dropped, and its wait() fails
SEND_TIMEOUT = 30.0  # for 64 KiB to be taken by the host
KILL_GRACE = 10.0  # from SIGKILL to the agent's report, before the whole host counts as hung
CHUNK = 65536
# QEMU's TCG changes a virtual CPU's word of pending interrupts in VMRUN and #VMEXIT without a lock, so an interrupt of
# a lab host that comes at that moment can be forgotten. When it is the timer's, a host that waits for nothing else
# sleeps for ever: the next interrupt of any kind delivers both.
PULSE_INTERVAL = 1.0


@dataclasses.dataclass
class Result:
    """A command that has ended. `status` is negative for a signal, as in subprocess."""
    argv: list
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self):
        return self.stdout.decode(errors="replace")

    def check(self):
        """Returns itself; raises LabError, with what the command printed, unless it ended with 0."""
        if self.status != 0:
            raise LabError("%r ended with status %d\n%s%s" % (self.argv, self.status, self.text,
                                                             self.stderr.decode(errors="replace")))
        return self


class Command:
    """A command running in a lab host, made by Session.start(). One thread at a time reads it."""

    def __init__(self, session, channel, argv):
        self.session = session
        self.channel = channel
        self.argv = argv
        self.frames = queue.SimpleQueue()  # (kind, payload); (None, b"") when the host has gone
        self.size = 0
        self.status = None

    def write(self, data):
        for start in range(0, len(data), CHUNK):
            self.pass_on(wire.STDIN, data[start:start + CHUNK])

    def close_stdin(self):
        self.pass_on(wire.STDIN)

    def signal(self, number):
        """To the command's process group; SIGKILL to everything that it started."""
        self.pass_on(wire.SIGNAL, b"%d" % number)

    def pass_on(self, kind, payload=b""):
        if self.status is None:
            self.session.send(self.channel, kind, payload)

    def read(self, deadline):
        """Yields (wire.STDOUT or wire.STDERR, bytes) as they come, until the command has ended.

        Raises LabTimeout at `deadline` (of time.monotonic()), leaving the command as it is, and LabError when
        the host has gone or the command has printed more than OUTPUT_MAX.
        """
        while self.status is None:
            try:
                kind, payload = self.frames.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise LabTimeout("%r did not end in time" % (self.argv,)) from None
            if kind is None:
                self.frames.put((kind, payload))
                raise LabError("%s went away while it ran %r%s" % (self.session.label, self.argv,
                                                                  self.session.last_words()))
            if kind == wire.EXIT:
                self.status = int(payload)
            else:
                yield kind, payload
        if self.size > OUTPUT_MAX:
            raise LabError("%r printed more than %d bytes" % (self.argv, OUTPUT_MAX))

    def wait(self, timeout):
        """The Result. Kills the command after `timeout` seconds: LabTimeout, with what it had printed."""
        output = {wire.STDOUT: bytearray(), wire.STDERR: bytearray()}
        try:
            for kind, payload in self.read(time.monotonic() + timeout):
                output[kind] += payload
        except LabTimeout:
            self.kill(output)
            raise LabTimeout("%r was killed: it had not ended after %g s" % (self.argv, timeout),
                             bytes(output[wire.STDOUT]), bytes(output[wire.STDERR])) from None
        return Result(self.argv, self.status, bytes(output[wire.STDOUT]), bytes(output[wire.STDERR]))

    def kill(self, output=None):
        """End the command and all that it started. A host that doesn't even do that is ended as a whole."""
        try:
            self.signal(signal.SIGKILL)
            for kind, payload in self.read(time.monotonic() + KILL_GRACE):
                if output is not None:
                    output[kind] += payload
        except LabTimeout:
            self.session.close()
            raise LabError("%s did not answer for %g s and was given up%s"
                           % (self.session.label, KILL_GRACE, self.session.last_words())) from None


class Session:
    """A connection to an agent. Commands may be started and read from several threads.

    With `pulse` the host is interrupted every PULSE_INTERVAL: for the one who started it.
    """

    def __init__(self, sock, label, last_words=lambda: "", pulse=False):
        self.socket = sock
        self.label = label
        self.last_words = last_words  # gives what to add to an error when the host has gone
        self.up = threading.Event()  # set by HELLO, and when there will be none
        self.gone = False
        self.ended = threading.Event()  # set with `gone`
        self.lock = threading.Lock()
        self.commands = {}
        self.last_channel = 0
        sock.settimeout(SEND_TIMEOUT)
        self.reader = threading.Thread(target=self._read, name="lab " + label, daemon=True)
        self.reader.start()
        if pulse:
            threading.Thread(target=self._pulse, name="pulse of " + label, daemon=True).start()

    def start(self, argv, env=None, cwd="/"):
        return self.start_packed(wire.run_pack(argv, env or {}, cwd))

    def start_packed(self, payload):
        argv = [os.fsdecode(word) for word in wire.run_unpack(payload)[0]]
        with self.lock:
            self.last_channel += 1
            command = Command(self, self.last_channel, argv)
            self.commands[command.channel] = command
            if self.gone:
                command.frames.put((None, b""))
        self.send(command.channel, wire.RUN, payload)
        return command

    def send(self, channel, kind, payload=b""):
        try:
            with self.lock:
                self.socket.sendall(wire.frame(channel, kind, payload))
        except TimeoutError:
            self.close()
            raise LabError("%s has taken no input for %g s: given up" % (self.label, SEND_TIMEOUT)) from None
        except OSError:
            pass  # it has gone, which whoever reads the command gets to know

    def close(self):
        try:
            self.socket.shutdown(2)
        except OSError:
            pass
        if threading.current_thread() is not self.reader:
            self.reader.join()
        self.socket.close()

    def _pulse(self):
        self.up.wait()
        while not self.ended.wait(PULSE_INTERVAL):
            try:
                self.send(0, wire.PULSE)
            except LabError:
                return

    def _read(self):
        buffer = bytearray()
        try:
            while True:
                try:
                    data = self.socket.recv(CHUNK * 4)
                except TimeoutError:
                    continue
                if not data:
                    break
                buffer += data
                for frame in wire.take_frames(buffer):
                    self._take(*frame)
        except (OSError, wire.ProtocolError):
            pass
        with self.lock:
            self.gone = True
            self.ended.set()
            left = list(self.commands.values())
        for command in left:
            command.frames.put((None, b""))
        self.up.set()

    def _take(self, channel, kind, payload):
        if kind == wire.HELLO:
            self.up.set()
            return
        with self.lock:
            command = self.commands.get(channel)
            if command and kind == wire.EXIT:
                del self.commands[channel]
        if command:
            command.size += len(payload)
            if command.size <= OUTPUT_MAX or kind == wire.EXIT:
                command.frames.put((kind, payload))
