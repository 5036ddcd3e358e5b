# SPDX-License-Identifier: Apache-2.0
"""Stands between clients and a daemon, passes every byte on, and has openapi.yaml judge what it saw."""
import http.client
import io
import json
import socket
import threading
import urllib.parse

PIECE = 65536
QUIET_TIMEOUT = 180.0
EVENTS = "text/event-stream"
CHANGE = {"$ref": "#/components/schemas/Change"}


class Recorded:
    """Bytes that were sent, in the clothes of a socket for http.client."""

    def __init__(self, data):
        self.file = io.BytesIO(data)

    def makefile(self, *_):
        return self.file


class Witness:
    """Listens at `path`; whoever connects talks to the daemon at `daemon`."""

    def __init__(self, path, daemon, contract):
        self.path, self.daemon, self.contract = str(path), str(daemon), contract
        self.exchanges = []  # (method, target, status), all that were judged
        self.wrong = []  # what openapi.yaml does not say, in words
        self.quiet = threading.Condition()
        self.open = 0  # connections
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:  # closed
                return
            with self.quiet:
                self.open += 1
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        """One connection to its end, and the judgement of it."""
        daemon = socket.socket(socket.AF_UNIX)
        asked, answered = bytearray(), bytearray()
        try:
            daemon.connect(self.daemon)
            up = threading.Thread(target=pump, args=(client, daemon, asked), daemon=True)
            up.start()
            pump(daemon, client, answered)
            up.join()
            self.judge(bytes(asked), bytes(answered))
        except (FileNotFoundError, ConnectionRefusedError):
            pass  # no daemon: there was no exchange
        except Exception as error:  # whatever it is, it must not go unnoticed in a thread
            self.wrong.append(f"{error}")
        finally:
            daemon.close()
            client.close()
            with self.quiet:
                self.open -= 1
                self.quiet.notify_all()

    def judge(self, asked, answered):
        requests, answers = io.BytesIO(asked), Recorded(answered)
        while (request := read_request(requests)) is not None:
            method, target, body = request
            response = http.client.HTTPResponse(answers, method=method)
            try:
                response.begin()
                data = response.read() if response.status != 101 else b""
            except http.client.IncompleteRead as part:
                if not response.headers.get("Content-Type", "").startswith(EVENTS):
                    return
                data = part.partial  # a stream ends when its client has seen enough
            except (http.client.HTTPException, ConnectionError):
                return  # broken off: the daemon was killed
            self.judge_exchange(method, target, body, response, data)
            if response.status == 101 or response.will_close:
                return

    def judge_exchange(self, method, target, body, response, data):
        path, _, query = target.partition("?")
        kind = (response.headers.get("Content-Type") or "").split(";")[0]
        self.exchanges.append((method, target, response.status))
        if path == "/" or path.startswith("/web/"):
            return  # pages are no part of the API
        try:
            if kind == "application/json":
                data = json.loads(data)
            if kind == EVENTS:
                for change in changes_of(data):
                    self.contract.check(f"{method} {target}", CHANGE, change)
            self.contract.judge(method, path, response.status, kind, data)
            if response.status < 400:
                self.contract.judge_request(method, path, urllib.parse.parse_qs(query, keep_blank_values=True), body)
        except (AssertionError, ValueError) as error:
            self.wrong.append(f"{method} {target}: {error}")

    def check(self):
        """Once all who talked have hung up: everything was as openapi.yaml says."""
        with self.quiet:
            assert self.quiet.wait_for(lambda: self.open == 0, QUIET_TIMEOUT), "somebody still talks to the daemon"
        wrong, self.wrong = self.wrong, []
        assert not wrong, "\n".join(wrong)

    def close(self):
        shut(self.listener)
        self.listener.close()
        self.acceptor.join()
        self.check()


def pump(source, target, record):
    """Pass on what comes until it ends; then the other side ends too. No client of ours closes one half only."""
    try:
        while data := source.recv(PIECE):
            record += data
            target.sendall(data)
    except OSError:
        pass  # one of them has gone
    shut(source)
    shut(target)


def shut(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has gone


def changes_of(stream):
    """What whole events of a text/event-stream carry."""
    for event in stream.decode().split("\n\n")[:-1]:
        for line in event.split("\n"):
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def read_request(stream):
    """(method, target, body) or None at the end."""
    line = stream.readline()
    if not line:
        return None
    method, target, _ = line.decode("ascii").split(" ")
    headers = http.client.parse_headers(stream)
    return method, target, stream.read(int(headers.get("Content-Length") or 0))
