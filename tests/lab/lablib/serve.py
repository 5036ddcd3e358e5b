# SPDX-License-Identifier: Apache-2.0
"""Lets other processes run commands in the hosts of a lab that this process keeps up.

In the lab's folder each host has a socket, hosts/NAME. Whoever connects speaks wire.py to it as if it was the
agent, with channels of its own; when it hangs up, its commands are killed. A connection to the socket `down`
asks for the end of the lab; it is closed when the lab is.
"""
import glob
import os
import selectors
import socket
import tempfile
import threading
import time

from . import wire
from .errors import LabError
from .session import CHUNK, Session

CONNECT_TIMEOUT = 10.0
DOWN_TIMEOUT = 60.0


def serve(lab, lifetime, ready):
    """Call `ready` once the sockets are there; serve until asked to end, or for `lifetime` seconds.

    Returns the connection of the one who asked, to be closed once the lab is down, or None.
    """
    deadline = time.monotonic() + lifetime
    os.mkdir(lab.path("hosts"), 0o700)
    with selectors.DefaultSelector() as selector:
        for host in lab:
            selector.register(listen(lab.path("hosts/" + host.name)), selectors.EVENT_READ, host)
        down = listen(lab.path("down"))
        selector.register(down, selectors.EVENT_READ, None)
        ready()
        while time.monotonic() < deadline:
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                connection = key.fileobj.accept()[0]
                if key.data is None:
                    return connection
                threading.Thread(target=relay, args=(key.data, connection, deadline), daemon=True).start()
    return None


def listen(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    return listener


def relay(host, client, deadline):
    """One client's frames to the agent, under channels of this process."""
    commands = {}
    sending = threading.Lock()
    buffer = bytearray()

    def send(frame):
        try:
            with sending:
                client.sendall(frame)
        except OSError:
            pass  # the client has gone; the loop below learns of it

    def pump(channel, command):
        try:
            for kind, payload in command.read(deadline):
                send(wire.frame(channel, kind, payload))
            send(wire.frame(channel, wire.EXIT, b"%d" % command.status))
        except LabError:
            client.shutdown(socket.SHUT_RDWR)

    try:
        send(wire.frame(0, wire.HELLO))
        while True:
            data = client.recv(CHUNK)
            if not data:
                return
            buffer += data
            for channel, kind, payload in wire.take_frames(buffer):
                if kind == wire.RUN:
                    commands[channel] = host.session.start_packed(payload)
                    threading.Thread(target=pump, args=(channel, commands[channel]), daemon=True).start()
                elif channel in commands:
                    commands[channel].pass_on(kind, payload)
    except (OSError, LabError, wire.ProtocolError):
        pass
    finally:
        for command in commands.values():
            command.pass_on(wire.SIGNAL, b"9")
        client.close()


def labs_running():
    """The folders of the labs that are being served on this machine and can be used by this user."""
    sockets = glob.glob(os.path.join(tempfile.gettempdir(), "plimsoll-lab-*/down"))
    return [os.path.dirname(path) for path in sockets]


def attach(folder, name):
    """A Session with a host of a lab that another process serves."""
    session = Session(dial(os.path.join(folder, "hosts", name)), "lab host '%s'" % name)
    if not session.up.wait(CONNECT_TIMEOUT) or session.gone:
        raise LabError("the lab in %s does not answer" % folder)
    return session


def take_down(folder):
    """Returns when the lab and all it used are gone."""
    with dial(os.path.join(folder, "down")) as connection:
        connection.settimeout(DOWN_TIMEOUT)
        connection.recv(1)


def dial(path):
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError as error:
        raise LabError("%s: %s; is the lab up, and is that a host of it?" % (path, error.strerror)) from error
    return connection
