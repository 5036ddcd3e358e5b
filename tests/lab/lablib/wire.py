# SPDX-License-Identifier: Apache-2.0
"""The protocol between the outer machine and the agent of a lab host.

A frame is a header (channel, kind, length; big-endian) and `length` bytes. Channel 0 is the host itself; a
command has one of its own, chosen by the outer side. Both sides import this file, so there is no version.

Kind      way     payload
HELLO     <-      empty: the host is up (channel 0)
RUN       ->      see run_pack()
STDIN     ->      bytes for the command's stdin; empty closes it
PULSE     ->      empty: nothing is to be done (channel 0; see Session)
SIGNAL    ->      the number in decimal; 9 goes to everything the command started, others to its process group
STDOUT    <-      bytes
STDERR    <-      bytes
EXIT      <-      the exit status in decimal, negative for a signal as in subprocess; the last frame
"""
import struct

HEADER = struct.Struct(">IBI")
PAYLOAD_MAX = 1 << 20
HELLO, RUN, STDIN, PULSE, SIGNAL, STDOUT, STDERR, EXIT = range(8)


class ProtocolError(Exception):
    pass


def frame(channel, kind, payload=b""):
    return HEADER.pack(channel, kind, len(payload)) + payload


def take_frames(buffer):
    """Remove every complete frame from the bytearray and return them as (channel, kind, payload)."""
    frames = []
    while len(buffer) >= HEADER.size:
        channel, kind, length = HEADER.unpack_from(buffer)
        if kind > EXIT or length > PAYLOAD_MAX:
            raise ProtocolError("not a frame: kind %d, length %d" % (kind, length))
        if len(buffer) < HEADER.size + length:
            break
        frames.append((channel, kind, bytes(buffer[HEADER.size:HEADER.size + length])))
        del buffer[:HEADER.size + length]
    return frames


def run_pack(argv, env, cwd):
    """A command as NUL-separated words: the folder, the number of arguments, those, NAME=VALUE pairs."""
    words = [cwd, str(len(argv)), *argv, *("%s=%s" % pair for pair in env.items())]
    packed = [word.encode("utf-8", "surrogateescape") for word in words]
    if not argv or any(b"\0" in word for word in packed):
        raise ValueError("a command needs at least one word, and none of them may hold a NUL")
    payload = b"\0".join(packed)
    if len(payload) > PAYLOAD_MAX:
        raise ValueError("the command line is longer than %d bytes" % PAYLOAD_MAX)
    return payload


def run_unpack(payload):
    cwd, count, *words = payload.split(b"\0")
    argc = int(count)
    return words[:argc], dict(word.split(b"=", 1) for word in words[argc:]), cwd
