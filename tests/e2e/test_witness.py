# SPDX-License-Identifier: Apache-2.0
"""Every exchange of these tests is held against openapi.yaml; this shows that a wrong one would be told."""
import json
import socket
import threading

import pytest

from daemon import CONTRACT, PAYLOAD, UnixConnection
from witness import Witness, read_request


@pytest.fixture
def lying_daemon(tmp_path):
    """Answers each request with the bytes that it is told; a client of it, and its witness."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "daemon.sock"))
    listener.listen()
    answers = []

    def serve():
        for answer in answers:
            client = listener.accept()[0]
            with client.makefile("rb") as stream:
                read_request(stream)
            client.sendall(answer)
            client.close()

    witness = Witness(tmp_path / "witness.sock", tmp_path / "daemon.sock", CONTRACT)

    def ask(answer, method, path, body=None):
        answers.append(answer)
        thread = threading.Thread(target=serve)
        thread.start()
        connection = UnixConnection(tmp_path / "witness.sock", 180)
        connection.request(method, path, body)
        connection.getresponse().read()
        connection.close()
        thread.join()
        answers.clear()
        witness.check()

    yield ask
    witness.close()
    listener.close()


def answer(status, body, kind="application/json"):
    data = body.encode()
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


VM = {"name": "a", "nics": []}


@pytest.mark.parametrize("said, method, path, body, told", [
    (answer(200, '{"vms": []}'), "GET", "/v1/vms", None, "not as openapi.yaml describes it"),
    (answer(200, "[]", "text/plain"), "GET", "/v1/vms", None, "are described"),
    (answer(201, "[]"), "GET", "/v1/vms", None, "status is not described"),
    (answer(200, "[]"), "GET", "/v1/wms", None, "no such route"),
    (answer(404, '{"why": 1}'), "GET", "/v1/vms/a", None, "not as openapi.yaml describes it"),
    (answer(200, "[]"), "GET", "/v1/vms?colour=red", None, "['colour']"),
    (answer(200, "[]"), "GET", "/v1/vms", '{"a": 1}', "took a body"),
    (answer(200, 'id: 1\nevent: vm\ndata: {"x": 1}\n\n', "text/event-stream"), "GET", "/v1/events", None, "describes it"),
    (answer(200, "{"), "GET", "/v1", None, "GET /v1"),
])
def test_an_exchange_that_is_not_described_is_told(lying_daemon, said, method, path, body, told):
    with pytest.raises(AssertionError) as caught:
        lying_daemon(said, method, path, body)
    assert told in str(caught.value)


def test_a_described_exchange_passes(lying_daemon):
    lying_daemon(answer(200, "[]"), "GET", "/v1/vms?sort=name", None)


def test_plim_is_seen_with_all_it_asks(sim):
    sim.ok("vm", "create", "a", "--kernel", PAYLOAD, "--nic", "none")
    sim.ok("vm", "list")
    sim.witness.check()
    seen = [(method, target.partition("?")[0], status) for method, target, status in sim.witness.exchanges]
    assert ("POST", "/v1/vms", 202) in seen and ("GET", "/v1/vms", 200) in seen


def test_a_request_that_was_taken_and_is_not_described_is_told():
    good = json.dumps(VM).encode()
    CONTRACT.judge_request("POST", "/v1/vms", {"dry_run": ["true"]}, good)
    for query, body in (({}, b""), ({}, b'{"colour": 1}'), ({"colour": ["red"]}, good)):
        with pytest.raises(AssertionError):
            CONTRACT.judge_request("POST", "/v1/vms", query, body)
