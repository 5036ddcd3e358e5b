# SPDX-License-Identifier: Apache-2.0
"""What api/http.h promises, over real sockets: the five proofs first, then every refusal.

HTTP_SERVER names the test server (server.c). Certificates are made with openssl for each run.
"""
import asyncio
import concurrent.futures
import hashlib
import http.client
import json
import os
import pathlib
import pwd
import resource
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
import websockets

SERVER = os.environ["HTTP_SERVER"]
CLIENT = os.environ["WS_CLIENT"]
NOBODY = pwd.getpwnam("nobody")
DEADLINE = 120.0

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def until(what, deadline=DEADLINE):
    """The value of what() as soon as it is true."""
    end = time.monotonic() + deadline
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


class Server:
    """One server process; stop() demands a clean end, which with sanitizers means no leak either."""

    running = set()

    def __init__(self, folder, **options):
        self.unix = str(folder / "api.sock")
        args = [SERVER, "--unix", self.unix]
        for key, value in options.items():
            args += ["--" + key.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.running.add(self.process)
        ready = self.process.stdout.readline().split()
        if not ready:
            self.running.remove(self.process)
            raise RuntimeError(self.process.communicate()[1])
        self.port = int(ready[1])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=DEADLINE)
        self.running.remove(self.process)
        assert self.process.returncode == 0, err
        assert err == ""

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.unix)  # blocks while the backlog is full
        sock.settimeout(DEADLINE)
        return sock

    def request(self, method, target, body=None, headers=None):
        """(status, headers, parsed body)"""
        conn = UnixConnection(self.unix)
        conn.request(method, target, body, headers or {})
        answer = conn.getresponse()
        data = answer.read()
        conn.close()
        if answer.getheader("content-type") == "application/json" and data:
            data = json.loads(data)
        return answer.status, answer.headers, data

    def get(self, target):
        status, _, body = self.request("GET", target)
        assert status == 200, body
        return body

    def stats(self):
        return self.get("/stats")

    def raw(self, data, half_close=False):
        """Send bytes, and everything that comes until the server closes."""
        with self.connect() as sock:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    def cpu(self):
        """Seconds of CPU it has used."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wakeups(self):
        """How often its threads went to sleep: an idle server does not."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
        return total

    def waits(self):
        """Does no thread of it run, or wait for a CPU to run on?"""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return all((task / "stat").read_text().rsplit(")", 1)[1].split()[0] == "S" for task in tasks)

    def rests(self, span):
        """Does it sleep through that time?"""
        until(self.waits)  # what it has to do yet, when others had the CPU, is not of that time
        before = self.wakeups()
        time.sleep(span)
        return self.wakeups() == before


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)
        self.sock.settimeout(DEADLINE)


def read_all(sock):
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def read_until(sock, mark):
    data = b""
    while mark not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def get(target, *headers, method="GET"):
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


CLOSE = "Connection: close"


@pytest.fixture(autouse=True)
def nothing_left_running():
    yield
    for process in Server.running:  # of a test that failed
        process.kill()
        process.wait()
    Server.running.clear()


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path)
    yield s
    s.stop()


# ---- certificates ----


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


def make_ca(folder, name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem")


def make_cert(folder, ca, name, purpose, subject=None):
    ext = folder / "ext"
    ext.write_text(f"extendedKeyUsage={purpose}\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", subject or f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr")
    openssl("x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/{ca}.pem", "-CAkey",
            f"{folder}/{ca}.key", "-CAcreateserial", "-days", "2", "-extfile", str(ext),
            "-out", f"{folder}/{name}.pem")


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    make_ca(folder, "ca")
    make_ca(folder, "other-ca")
    make_cert(folder, "ca", "server", "serverAuth")
    make_cert(folder, "ca", "alice", "clientAuth")
    make_cert(folder, "ca", "not-a-client", "serverAuth")
    make_cert(folder, "ca", "nameless", "clientAuth", subject="/O=nobody")
    make_cert(folder, "ca", "liar", "clientAuth", subject="/CN=liar\r\nPlimsoll-Role: admin")
    make_cert(folder, "other-ca", "mallory", "clientAuth")
    return folder


def tls_server(folder, pki, mode, **options):
    return Server(folder, tls="127.0.0.1:0", cert=pki / "server.pem", key=pki / "server.key", ca=pki / "ca.pem",
                  client_cert=mode, **options)


@pytest.fixture
def tls(tmp_path, pki):
    s = tls_server(tmp_path, pki, "required", head_us=60_000_000)  # 500 handshakes at once, on a busy machine
    yield s
    s.stop()


def tls_context(pki, name=None):
    ctx = ssl.create_default_context(cafile=pki / "ca.pem")
    if name:
        ctx.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key")
    return ctx


def tls_get(server, ctx, target):
    conn = http.client.HTTPSConnection("127.0.0.1", server.port, context=ctx, timeout=DEADLINE)
    conn.request("GET", target)
    body = json.loads(conn.getresponse().read())
    conn.close()
    return body


# ---- proof 1: mutual TLS ----


def test_right_client_certificate_is_the_identity(tls, pki):
    who = tls_get(tls, tls_context(pki, "alice"), "/whoami?group=0")
    der = ssl.PEM_cert_to_DER_cert((pki / "alice.pem").read_text())
    assert (who["kind"], who["cn"], who["sha256"]) == ("tls", "alice", hashlib.sha256(der).hexdigest())
    assert who["address"].startswith("127.0.0.1:")
    assert not who["in_group"]


@pytest.mark.parametrize("name", [None, "mallory", "not-a-client", "nameless", "liar"])
def test_other_certificates_get_no_answer(tls, pki, name):
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        tls_get(tls, tls_context(pki, name), "/whoami")
    until(lambda: tls.stats()["connections"] == 1)


def test_optional_certificate_may_be_missing_but_not_wrong(tmp_path, pki):
    server = tls_server(tmp_path, pki, "optional")
    assert tls_get(server, tls_context(pki), "/whoami")["cn"] is None
    assert tls_get(server, tls_context(pki, "alice"), "/whoami")["cn"] == "alice"
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        tls_get(server, tls_context(pki, "mallory"), "/whoami")
    server.stop()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_client_of_each_version(tls, pki, version):
    done = subprocess.run(["openssl", "s_client", version, "-connect", f"127.0.0.1:{tls.port}", "-quiet", "-CAfile",
                           pki / "ca.pem", "-verify_return_error", "-cert", pki / "alice.pem", "-key",
                           pki / "alice.key"], input=get("/whoami", CLOSE), capture_output=True, timeout=DEADLINE)
    assert b'"cn":"alice"' in done.stdout


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_tls_is_refused(tls, pki, version):
    done = subprocess.run(["openssl", "s_client", version, "-connect", f"127.0.0.1:{tls.port}", "-cipher",
                           "ALL:@SECLEVEL=0"], input=b"", capture_output=True, timeout=DEADLINE)
    assert done.returncode != 0


def test_plain_http_on_the_tls_port_gets_no_answer(tls):
    with socket.create_connection(("127.0.0.1", tls.port), DEADLINE) as sock:
        sock.sendall(get("/whoami"))
        assert b"HTTP" not in read_all(sock)


def test_curl_over_tls_uploads_and_downloads(tls, pki, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    curl = ["curl", "-sS", "--max-time", "120", "--cacert", pki / "ca.pem", "--cert", pki / "alice.pem", "--key",
            pki / "alice.key"]
    base = f"https://127.0.0.1:{tls.port}"
    up = subprocess.run([*curl, "-T", tmp_path / "file", f"{base}/upload"], capture_output=True)
    assert json.loads(up.stdout) == {"sha256": hashlib.sha256(data).hexdigest(), "length": len(data)}
    down = subprocess.run([*curl, f"{base}/download?n=3000000"], capture_output=True)
    assert down.stdout == bytes(i % 256 for i in range(3_000_000))


# ---- proof 2: WebSocket frames of 60 KB both ways, on TLS ----


def test_wss_frames_of_60_kb_both_ways(tls, pki):
    async def run():
        frame = os.urandom(60_000)
        uri = f"wss://127.0.0.1:{tls.port}/ws"
        async with websockets.connect(uri, ssl=tls_context(pki, "alice"), compression=None,
                                      open_timeout=DEADLINE, ping_timeout=DEADLINE) as ws:
            begin = time.monotonic()
            for _ in range(200):
                await ws.send(frame)
                assert await ws.recv() == frame
            print(f"60 KB wss round trip: {(time.monotonic() - begin) / 200 * 1e6:.0f} us", file=sys.stderr)

    asyncio.run(run())


def test_wss_many_frames_in_flight(tls, pki):
    async def run():
        frames = [os.urandom(60_000) for _ in range(10)]
        uri = f"wss://127.0.0.1:{tls.port}/ws"
        async with websockets.connect(uri, ssl=tls_context(pki, "alice"), compression=None,
                                      open_timeout=DEADLINE, ping_timeout=DEADLINE) as ws:
            for f in frames:
                await ws.send(f)
            assert [await ws.recv() for _ in frames] == frames

    asyncio.run(run())


# ---- proof 3: 500 subscribers ----


def test_500_subscribers_all_get_one_event(server):
    socks = []
    for _ in range(500):
        sock = server.connect()
        sock.sendall(get("/events"))
        socks.append(sock)
    for sock in socks:
        assert b"200 OK" in read_until(sock, b"\r\n\r\n")
    assert server.stats()["subscribers"] == 500
    assert server.request("POST", "/publish", b"hello")[2] == {"sent": 500}
    for sock in socks:
        assert b"data: hello\n\n" in read_until(sock, b"\n\n")
    for sock in socks:
        sock.close()
    stats = until(lambda: (s := server.stats())["subscribers"] == 0 and s)
    assert stats["streams_closed"] == 500


def test_500_subscribers_on_tls(tls, pki):
    ctx = tls_context(pki, "alice")

    async def subscribe(gate):
        async with gate:  # on a busy machine 500 handshakes at once take longer than one may
            reader, writer = await asyncio.open_connection("127.0.0.1", tls.port, ssl=ctx)
            writer.write(get("/events"))
            await reader.readuntil(b"\r\n\r\n")
        return reader, writer

    async def run():
        gate = asyncio.Semaphore(20)
        subscribers = await asyncio.gather(*[subscribe(gate) for _ in range(500)])
        assert tls.request("POST", "/publish", b"hello")[2] == {"sent": 500}
        for event in await asyncio.gather(*[reader.readuntil(b"\n\n") for reader, _ in subscribers]):
            assert b"data: hello" in event
        for _, writer in subscribers:
            writer.close()

    asyncio.run(run())


# ---- proof 4: who is on the unix socket ----


def as_nobody(path, target):
    curl = ["curl", "-sS", "--max-time", "120", "-w", "%{http_code}", "--unix-socket", path, f"http://x{target}"]
    done = subprocess.run(["setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--groups=4,24", *curl],
                          capture_output=True, text=True)
    return done.stdout


def is_root():
    return os.geteuid() == 0


def test_peer_credentials_are_the_kernels(server):
    who = server.get("/whoami?group=" + str(os.getgid()))
    assert (who["uid"], who["gid"], who["pid"]) == (os.geteuid(), os.getegid(), os.getpid())
    assert sorted(who["groups"]) == sorted(os.getgroups())
    assert who["in_group"]


@pytest.mark.skipif(not is_root(), reason="only root can become someone else")
def test_another_user_is_seen_and_refused_by_the_handler(server):
    for folder in pathlib.Path(server.unix).parents:  # pytest's folders are for their owner only
        if folder != pathlib.Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    os.chmod(server.unix, 0o666)
    who = json.loads(as_nobody(server.unix, "/whoami?group=24")[:-3])
    assert (who["uid"], who["gid"], who["groups"]) == (NOBODY.pw_uid, NOBODY.pw_gid, [4, 24])
    assert who["in_group"]
    assert not json.loads(as_nobody(server.unix, "/whoami?group=25")[:-3])["in_group"]
    answer = as_nobody(server.unix, "/root-only")
    assert answer.endswith("403") and json.loads(answer[:-3])["code"] == "denied"
    assert server.request("GET", "/root-only")[0] == 200


@pytest.mark.skipif(not is_root(), reason="only root may give the socket away")
def test_socket_is_for_root_and_its_group_only(tmp_path):
    server = Server(tmp_path, group="adm")
    st = os.stat(server.unix)
    assert oct(st.st_mode & 0o7777) == "0o660"
    assert st.st_gid == 4
    server.stop()
    assert not os.path.exists(server.unix)


def test_unknown_group_is_no_failure(tmp_path):
    server = Server(tmp_path, group="no-such-group")
    assert os.stat(server.unix).st_gid == os.getegid()
    server.stop()


# ---- proof 5: 1000 connections ----


def test_1000_connections_are_all_served(tmp_path):
    server = Server(tmp_path, connections=1100)
    socks = [server.connect() for _ in range(1000)]
    for _ in range(2):  # the second request on the same connections
        for sock in socks:
            sock.sendall(get("/fixed"))
        for sock in socks:
            assert b"200 OK" in read_until(sock, b'x"')
    assert server.stats()["connections"] == 1001
    for sock in socks:
        sock.close()
    until(lambda: server.stats()["connections"] == 1)
    server.stop()


# ---- an idle server sleeps ----


def test_idle_server_does_not_wake_up(tmp_path, pki):
    server = tls_server(tmp_path, pki, "none")
    quiet = [server.connect() for _ in range(3)]
    for sock in quiet:
        sock.sendall(get("/events"))
        read_until(sock, b"\r\n\r\n")
    gone = server.connect()
    gone.sendall(get("/events"))
    read_until(gone, b"\r\n\r\n")
    gone.close()  # what libwebsockets 4.1.6 spins on
    until(lambda: server.stats()["subscribers"] == 3)
    half = server.connect()  # closed in one direction, and more sent than is read
    half.sendall(get("/events") + get("/fixed"))
    read_until(half, b"\r\n\r\n")
    half.shutdown(socket.SHUT_WR)
    tls_get(server, tls_context(pki), "/fixed")
    until(lambda: server.stats()["connections"] == 5)
    until(lambda: server.rests(0.05))  # the last answer's connection is closed
    before = server.cpu()
    assert server.rests(1.5)
    assert server.cpu() == before
    for sock in [*quiet, half]:
        sock.close()
    server.stop()


# ---- requests ----


def test_path_and_query_are_decoded_piece_by_piece(server):
    got = server.get("/inspect/a%2Fb/%C3%A4//+?x=1&y=a+b%26&z&x=2&=e")
    assert got["segments"] == ["inspect", "a/b", "ä", "", "+"]
    assert got["path"] == "/inspect/a%2Fb/%C3%A4//+"
    assert got["query"] == [["x", "1"], ["y", "a b&"], ["z", ""], ["x", "2"], ["", "e"]]


def test_absolute_form_is_understood(server):
    assert b'"path":"/inspect"' in server.raw(get("http://host:1/inspect", CLOSE))


def test_header_names_have_no_case(server):
    assert server.request("GET", "/inspect", headers={"x-TEST": " v "})[2]["x"] == "v"


def test_answer_headers_cannot_be_injected(server):
    _, headers, _ = server.request("GET", "/inspect")
    assert headers["X-Answer"] == "a  Set-Cookie: b" and "Set-Cookie" not in headers


def test_body_arrives_whole_and_chunked(server):
    assert server.request("POST", "/inspect", b"hello")[2]["body"] == "hello"
    chunked = b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n"
    answer = server.raw(get("/inspect", "Transfer-Encoding: chunked", CLOSE, method="POST") + chunked)
    assert b'"body":"hello world"' in answer


def test_post_without_a_length_has_no_body(server):
    assert b'"length":0' in server.raw(get("/inspect", CLOSE, method="POST"))


def test_any_cut_of_the_bytes_gives_the_same_answer(server):
    request = get("/inspect?a=b", "Transfer-Encoding: chunked", CLOSE, method="PUT") + b"3\r\nabc\r\n0\r\n\r\n"
    whole = server.raw(request).split(b"\r\n\r\n")[1]
    for cut in range(1, len(request)):
        with server.connect() as sock:
            sock.sendall(request[:cut])
            sock.sendall(request[cut:])
            assert read_all(sock).split(b"\r\n\r\n")[1] == whole
    with server.connect() as sock:
        for i in range(len(request)):
            sock.sendall(request[i:i + 1])
        assert read_all(sock).split(b"\r\n\r\n")[1] == whole


def test_pipelined_requests_are_answered_in_order(server):
    targets = [f"/later?us={20000 if i == 0 else 0}" if i % 3 == 0 else f"/inspect/{i}" for i in range(30)]
    data = server.raw(b"".join(get(t) for t in targets[:-1]) + get(targets[-1], CLOSE))
    parts = data.split(b"HTTP/1.1 200 OK")[1:]
    assert len(parts) == 30
    for target, part in zip(targets, parts):
        assert (b"later" if "later" in target else f'"path":"{target}"'.encode()) in part


def test_keep_alive_and_close(server):
    with server.connect() as sock:
        for _ in range(3):
            sock.sendall(get("/fixed"))
            assert b"Connection" not in read_until(sock, b'x"')
        sock.sendall(get("/fixed", CLOSE))
        assert b"Connection: close" in read_all(sock)
    assert b"Connection: close" in server.raw(b"GET /fixed HTTP/1.0\r\n\r\n")


def test_half_closed_client_still_gets_its_answer(server):
    assert b"later" in server.raw(get("/later?us=50000"), half_close=True)


def test_head_has_the_length_but_no_body(server):
    data = server.raw(get("/fixed", CLOSE, method="HEAD"))
    assert b"Content-Length: 200" in data and data.endswith(b"\r\n\r\n")
    data = server.raw(get("/events", CLOSE, method="HEAD"))
    assert b"text/event-stream" in data and data.endswith(b"\r\n\r\n")
    assert server.stats()["subscribers"] == 0


def test_100_continue_is_sent_before_the_body(server):
    with server.connect() as sock:
        sock.sendall(get("/inspect", "Expect: 100-continue", "Content-Length: 2", CLOSE, method="POST"))
        assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hi")
        assert b'"body":"hi"' in read_all(sock)


def test_refusal_comes_before_the_body_is_sent(server):
    with server.connect() as sock:
        sock.sendall(get("/forbidden", "Expect: 100-continue", "Content-Length: 1000000", method="POST"))
        data = read_all(sock)
    assert data.startswith(b"HTTP/1.1 403") and b"100 Continue" not in data


def test_refusal_reaches_a_client_that_sends_on(server):
    body = b"x" * 900_000
    status, _, answer = server.request("POST", "/forbidden", body)
    assert (status, answer["code"]) == (403, "denied")


# ---- answers ----


def test_worker_threads_answer(server):
    assert server.get("/worker") == {"answer": "worker"}
    status, _, body = server.request("GET", "/worker-error")
    assert (status, body["code"], body["advice"]) == (502, "qemu", "Look into the log.")


def test_only_the_first_answer_counts(server):
    data = server.raw(get("/later") + get("/fixed", CLOSE))
    assert b"later" in data and b"twice" not in data and data.count(b"HTTP/1.1 ") == 2


@pytest.mark.parametrize("target", ["/forgotten", "/forgotten?worker"])
def test_forgotten_request_is_answered_500(server, target):
    status, _, body = server.request("GET", target)
    assert (status, body["code"]) == (500, "internal")


def test_request_outlives_its_client(server):
    with server.connect() as sock:
        sock.sendall(get("/held"))
        until(lambda: server.stats()["held"] == 1)
    until(lambda: server.stats()["requests_closed"] == 1)
    server.get("/release")
    assert until(lambda: (s := server.stats())["late"] == 1 and s)["connections"] == 1


def test_tls_client_that_leaves_is_noticed(tls, pki):
    sock = tls_context(pki, "alice").wrap_socket(socket.create_connection(("127.0.0.1", tls.port)),
                                                 server_hostname="localhost")
    sock.sendall(get("/held"))
    until(lambda: tls.stats()["held"] == 1)
    sock.close()
    until(lambda: tls.stats()["requests_closed"] == 1)
    tls.get("/release")
    until(lambda: tls.stats()["late"] == 1)


# ---- streams ----


@pytest.mark.parametrize("length", ["", "&length=3000000"])
def test_download_is_whole(server, length):
    assert server.get("/download?n=3000000" + length) == bytes(i % 256 for i in range(3_000_000))


def test_http_1_0_download_ends_with_the_connection(server):
    data = server.raw(b"GET /download?n=100000 HTTP/1.0\r\n\r\n")
    head, body = data.split(b"\r\n\r\n", 1)
    assert b"chunked" not in head and len(body) == 100_000


@pytest.mark.parametrize("how", ["&abort", "&length=2000000"])
def test_broken_download_is_seen_as_broken(server, how):
    with pytest.raises(http.client.IncompleteRead):
        server.get("/download?n=1000000" + how)


def test_slow_reader_of_a_stream_is_dropped(server):
    with server.connect() as sock:
        sock.sendall(get("/flood"))
        until(lambda: server.stats()["streams_closed"] == 1)
        assert 0 < len(read_all(sock)) < 3_000_000


def test_reader_that_stops_is_dropped_after_the_write_timeout(tmp_path):
    server = Server(tmp_path, write_us=200_000)
    with server.connect() as sock:
        sock.sendall(get("/download?n=100000000"))
        read_until(sock, b"\r\n\r\n")
        until(lambda: server.stats()["connections"] == 1)
        assert len(read_all(sock)) < 100_000_000
    server.stop()


# ---- uploads ----


@pytest.mark.parametrize("query", ["", "?pause"])
def test_upload_arrives_in_pieces(server, query):
    data = os.urandom(2_000_000)
    _, _, body = server.request("PUT", "/upload" + query, data)
    assert body == {"sha256": hashlib.sha256(data).hexdigest(), "length": len(data)}


def test_upload_that_breaks_off_is_told(server):
    with server.connect() as sock:
        sock.sendall(get("/upload", "Content-Length: 1000", method="PUT") + b"x" * 10)
    until(lambda: server.stats()["uploads_closed"] == 1)


def test_upload_over_its_limit_is_refused_and_told(server):
    for coding in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        answer = server.raw(get("/upload?max=999", coding, method="PUT") + b"3e8\r\n" + b"x" * 1000)
        assert answer.startswith(b"HTTP/1.1 413"), answer
    assert server.stats()["uploads_closed"] == 2


# ---- WebSockets on the unix socket ----


def ws_run(server, target, func, **options):
    async def run():
        async with websockets.unix_connect(server.unix, f"ws://localhost{target}", compression=None,
                                           open_timeout=DEADLINE, ping_timeout=DEADLINE, **options) as ws:
            return await func(ws)

    return asyncio.run(run())


def test_ws_echo_text_binary_fragments_and_subprotocol(server):
    async def talk(ws):
        assert ws.subprotocol == "echo"
        await ws.send("täxt")
        assert await ws.recv() == "täxt"
        await ws.send([b"in", b"", b"pieces"])
        assert await ws.recv() == b"inpieces"
        await ws.send(b"")
        assert await ws.recv() == b""
        await (await ws.ping())

    ws_run(server, "/ws", talk, subprotocols=["other", "echo"])
    stats = until(lambda: (s := server.stats())["ws_closed"] == 1 and s)
    assert stats["ws_code"] == 1000 and stats["ws"] == 0


def test_ws_server_says_goodbye(server):
    async def talk(ws):
        await ws.send("close")
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()
        assert (ws.close_code, ws.close_reason) == (4000, "as you said")

    ws_run(server, "/ws", talk)
    assert until(lambda: (s := server.stats())["ws_closed"] == 1 and s)["ws_code"] == 4000


def test_ws_client_that_vanishes_is_1006(server):
    with server.connect() as sock:
        sock.sendall(ws_head("/ws"))
        read_until(sock, b"\r\n\r\n")
    assert until(lambda: (s := server.stats())["ws_closed"] == 1 and s)["ws_code"] == 1006


def test_ws_message_that_is_too_big_is_1009(server):
    async def talk(ws):
        await ws.send(b"x" * 1001)
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1009

    ws_run(server, "/ws?max=1000", talk)
    until(lambda: server.stats()["ws_closed"] == 1)


def ws_messages(sock):
    """(opcode, payload) of each frame of the server, to the goodbye, which is answered."""
    rest = read_until(sock, b"\r\n\r\n").split(b"\r\n\r\n", 1)[1]

    def take(n):
        nonlocal rest
        while len(rest) < n:
            data = sock.recv(65536)
            assert data, "the server closed without a goodbye"
            rest += data
        piece, rest = rest[:n], rest[n:]
        return piece

    while True:
        opcode, length = take(2)
        if length == 126:
            length = int.from_bytes(take(2), "big")
        yield opcode & 0x0f, take(length)
        if opcode & 0x0f == 8:
            sock.sendall(b"\x88\x80\0\0\0\0")
            return


def test_ws_goodbye_comes_behind_what_was_sent_before(server):
    """More than the socket holds is on its way when the server is told to close."""
    data = [os.urandom(60000) for _ in range(12)]
    with server.connect() as sock:
        sock.sendall(ws_head("/ws") + b"".join(b"\x82\xfe\xea\x60\0\0\0\0" + piece for piece in data)
                     + b"\x81\x85\0\0\0\0close")
        until(lambda: server.stats()["ws"] == 1)
        got = list(ws_messages(sock))
    assert [payload for opcode, payload in got if opcode == 2] == data
    assert got[-1] == (8, b"\x0f\xa0as you said")
    until(lambda: server.stats()["ws_closed"] == 1)


def ws_head(target, key="dGhlIHNhbXBsZSBub25jZQ==", version="13"):
    return get(target, "Connection: keep-alive, Upgrade", "Upgrade: WebSocket", f"Sec-WebSocket-Key: {key}",
               f"Sec-WebSocket-Version: {version}")


def test_ws_handshake_is_the_rfcs_example(server):
    with server.connect() as sock:
        sock.sendall(ws_head("/ws"))
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in read_until(sock, b"\r\n\r\n")


def test_ws_frames_sent_with_the_handshake_are_not_lost(server):
    with server.connect() as sock:
        sock.sendall(ws_head("/ws") + b"\x82\x83\0\0\0\0abc")
        assert read_until(sock, b"abc").endswith(b"\x82\x03abc")


@pytest.mark.parametrize("request_bytes", [get("/ws", CLOSE), ws_head("/ws", key="short"), ws_head("/ws", version="8")])
def test_ws_only_route_refuses_others_with_426(server, request_bytes):
    with server.connect() as sock:
        sock.sendall(request_bytes)
        data = read_until(sock, b"}")
    assert data.startswith(b"HTTP/1.1 426") and b"Sec-WebSocket-Version: 13" in data


@pytest.mark.parametrize("frame", [b"\x82\x03abc", b"\xf2\x83\0\0\0\0abc", b"\x83\x80\0\0\0\0", b"\x81\x81\0\0\0\0\xff"])
def test_ws_broken_frames_end_it(server, frame):
    with server.connect() as sock:
        sock.sendall(ws_head("/ws") + frame)
        data = read_all(sock)
    assert b"\x88" in data.split(b"\r\n\r\n", 1)[1]
    until(lambda: server.stats()["ws_closed"] == 1)


def test_ws_pours_as_fast_as_the_client_takes(server):
    async def talk(ws):
        return sum([len(await ws.recv()) for _ in range(300)])

    assert ws_run(server, "/ws-pour", talk, max_size=None, close_timeout=0.1) == 300 * 65536
    until(lambda: server.stats()["ws_closed"] == 1)


def test_ws_slow_reader_is_dropped(server):
    with server.connect() as sock:
        sock.sendall(ws_head("/ws-flood"))
        assert until(lambda: (s := server.stats())["ws_closed"] == 1 and s)["ws_code"] == 1008


def test_ws_ping_is_answered_or_the_client_is_dropped(server):
    async def quiet(ws, span):
        try:
            await asyncio.sleep(2.5 * span)  # some pings
            await ws.send("still here")
            return await ws.recv() == "still here"
        except websockets.ConnectionClosed:
            return False

    # A busy machine may keep us from answering for longer than a ping waits: then with more time.
    assert any(ws_run(server, f"/ws?ping_us={span * 1000000}", lambda ws, span=span: quiet(ws, span)) for span in (1, 5, 20))
    with server.connect() as sock:
        sock.sendall(ws_head("/ws?ping_us=100000"))
        assert read_all(sock).endswith(b"\x89\x00")


# ---- the WebSocket client of the command line ----


def client(*args, stdin=b"", timeout="120s"):
    return subprocess.run([CLIENT, timeout, *map(str, args)], input=stdin, capture_output=True, timeout=DEADLINE * 2)


@pytest.mark.parametrize("size", [0, 5, 70_000, 20_000_000])
def test_client_passes_bytes_both_ways_on_the_unix_socket(server, size):
    data = os.urandom(size)
    done = client("--unix", server.unix, "/ws", stdin=data)
    assert (done.returncode, done.stderr) == (0, b"closed 4000 as you said\n")
    assert done.stdout == data


def test_client_passes_bytes_both_ways_on_tls(tls, pki):
    data = os.urandom(5_000_000)
    done = client(f"https://127.0.0.1:{tls.port}", pki / "ca.pem", pki / "alice.pem", pki / "alice.key", "/ws",
                  stdin=data)
    assert (done.returncode, done.stderr) == (0, b"closed 4000 as you said\n")
    assert done.stdout == data


def test_client_does_not_trust_another_ca(tls, pki):
    done = client(f"https://127.0.0.1:{tls.port}", pki / "other-ca.pem", pki / "alice.pem", pki / "alice.key", "/ws")
    assert done.returncode == 18 and b"unavailable: can't reach the daemon: " in done.stderr


def test_client_passes_the_servers_refusal_on(server):
    done = client("--unix", server.unix, "/forbidden")
    assert (done.returncode, done.stderr) == (3, b"denied: not here (Ask someone else.)\n")


def test_client_says_when_there_is_no_websocket(server):
    done = client("--unix", server.unix, "/fixed")
    assert done.returncode == 18 and b"refuses a WebSocket: HTTP/1.1 200 OK" in done.stderr


def test_client_says_when_nobody_listens(tmp_path):
    done = client("--unix", tmp_path / "nothing.sock", "/ws")
    assert done.returncode == 18 and b"unavailable: can't reach the daemon" in done.stderr


def one_shot_server(path, answer):
    """Answers the first client with these bytes, and goes on reading."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve():
        conn, _ = listener.accept()
        listener.close()
        read_until(conn, b"\r\n\r\n")
        conn.sendall(answer)
        if not answer.endswith(b"|close"):
            read_all(conn)
        conn.close()

    threading.Thread(target=serve, daemon=True).start()


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


LIES = {
    "silence": (b"", 8, b"timeout: the daemon did not answer in time"),
    "goodbye": (b"|close", 18, b"the server closed the connection"),
    "endless": (b"x" * 20000, 18, b"too long"),
    "wrong key": (SWITCH + b"Sec-WebSocket-Accept: wrong\r\n\r\n", 18, b"does not understand WebSockets"),
    "no key": (SWITCH + b"\r\n", 18, b"does not understand WebSockets"),
    "huge length": (b"HTTP/1.1 500 Oh\r\nContent-Length: 99999999999\r\n\r\n{", 18, b"refuses a WebSocket: HTTP"),
    "other json": (b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\n[1,2]", 18, b"refuses a WebSocket: HTTP/1.1 500"),
    "cut off": (b"HTTP/1.1 500 Oh\r\nContent-Length: 50\r\n\r\n{|close", 18, b"refuses a WebSocket: HTTP/1.1"),
}


@pytest.mark.parametrize("name", LIES)
def test_client_copes_with_a_server_that_lies(tmp_path, name):
    answer, status, message = LIES[name]
    one_shot_server(tmp_path / "s", answer)
    done = client("--unix", tmp_path / "s", "/ws", timeout="500ms" if name == "silence" else "120s")
    assert done.returncode == status and message in done.stderr


# ---- refusals ----

MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "bad version": b"GET / HTTP/1.x\r\n\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET x HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare lf": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare cr": b"GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": get("/", "Host: y"),
    "folded": get("/", "A: b\r\n c"),
    "no colon": get("/", "nonsense"),
    "blank before colon": get("/", "A : b"),
    "empty name": get("/", ": b"),
    "nul in header": get("/", "A: b\0c"),
    "control in header": get("/", "A: b\x01c"),
    "nul in path": b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "escaped nul": get("/%00"),
    "escaped nul behind": get("/inspect/a%00b"),
    "escaped control": get("/inspect?a=%0a"),
    "broken escape": get("/%zz"),
    "cut escape": get("/%4"),
    "not utf-8": get("/%ff"),
    "fragment": get("/a#b"),
    "utf-8 unescaped": "GET /ä HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "negative length": get("/", "Content-Length: -5"),
    "plus length": get("/", "Content-Length: +5"),
    "length with junk": get("/", "Content-Length: 5x"),
    "empty length": get("/", "Content-Length:"),
    "huge length": get("/", "Content-Length: 99999999999999999999"),
    "two lengths": get("/", "Content-Length: 5", "Content-Length: 5"),
    "length list": get("/", "Content-Length: 5, 5"),
    "length and chunks": get("/", "Content-Length: 5", "Transfer-Encoding: chunked"),
    "chunks in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": get("/", "Transfer-Encoding: chunked", method="POST") + b"xyz\r\n",
    "negative chunk": get("/", "Transfer-Encoding: chunked", method="POST") + b"-1\r\n",
    "huge chunk": get("/", "Transfer-Encoding: chunked", method="POST") + b"1" * 17 + b"\r\n",
    "chunk too long": get("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\nab\r\n",
    "endless extension": get("/", "Transfer-Encoding: chunked", method="POST") + b"1;" + b"x" * 5000,
    "endless trailer": get("/", "Transfer-Encoding: chunked", method="POST") + b"0\r\n" + b"x" * 5000,
}
OTHERS = {
    "other coding": (get("/", "Transfer-Encoding: gzip"), 501, "invalid"),
    "other version": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "invalid"),
    "other expectation": (get("/", "Expect: tea"), 417, "invalid"),
    "long head": (get("/", "A: " + "b" * 20000), 431, "limit"),
    "many headers": (get("/", *["A: b"] * 150), 431, "limit"),
    "many parameters": (get("/?" + "&".join("abcdefghij" * 20)), 414, "limit"),
    "many segments": (get("/a" * 50), 414, "limit"),
    "large body": (get("/", "Content-Length: 1048577"), 413, "limit"),
}


def check_refusal(data, status, code):
    head, body = data.split(b"\r\n\r\n", 1)
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), data
    assert b"Connection: close" in head and b"application/json" in head
    error = json.loads(body)
    assert error["code"] == code and error["message"] and error["advice"]


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_refused_400_in_our_shape(server, name):
    check_refusal(server.raw(MALFORMED[name]), 400, "invalid")


@pytest.mark.parametrize("name", OTHERS)
def test_requests_beyond_a_limit_are_refused(server, name):
    request, status, code = OTHERS[name]
    check_refusal(server.raw(request), status, code)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://x.evil", "null", "https://x:1", ""])
def test_pages_of_another_origin_are_refused(server, origin):
    for request in (get("/fixed", f"Origin: {origin}"), get("/inspect", f"Origin: {origin}", method="POST"),
                    ws_head("/ws")[:-2] + f"Origin: {origin}\r\n\r\n".encode()):
        check_refusal(server.raw(request), 403, "denied")


def test_pages_of_our_own_are_served(server):
    assert b"200 OK" in server.raw(get("/fixed", "Origin: https://X", CLOSE))


def test_largest_body_is_accepted(server):
    assert server.request("POST", "/inspect", b"x" * 1048576)[2]["length"] == 1048576


def test_slow_heads_and_silent_clients_are_closed(tmp_path):
    server = Server(tmp_path, head_us=400_000, idle_us=400_000)
    assert server.raw(b"") == b""

    def answer(pieces):
        """Nothing when the server closed before it had any: on a busy machine we may not come to send in time."""
        with server.connect() as sock:
            try:
                for piece in pieces:
                    sock.sendall(piece)
                    if len(pieces) > 1 and select.select([sock], [], [], 0.02)[0]:
                        break
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_all(sock)

    check_refusal(until(lambda: answer([b"GET / HT"])), 408, "timeout")
    # A byte at a time does not help, however many there are: it would end after a minute.
    check_refusal(until(lambda: answer([bytes([b]) for b in get("/", "A: " + "b" * 3000)])), 408, "timeout")
    assert until(lambda: answer([get("/fixed")])).endswith(b'x"')
    server.stop()


def test_connections_beyond_the_limit_wait_for_room(tmp_path):
    server = Server(tmp_path, connections=3)
    busy = [server.connect() for _ in range(3)]
    for sock in busy:
        sock.sendall(get("/events"))
        read_until(sock, b"\r\n\r\n")
    waiting = server.connect()
    waiting.sendall(get("/fixed"))
    waiting.settimeout(0.1)
    with pytest.raises(socket.timeout):
        waiting.recv(1)
    busy[0].close()
    waiting.settimeout(DEADLINE)
    assert b"200 OK" in read_until(waiting, b'x"')
    for sock in [*busy, waiting]:
        sock.close()
    until(lambda: server.stats()["connections"] == 1)
    server.stop()


def test_idle_connections_make_room(tmp_path):
    server = Server(tmp_path, connections=3)
    idle = [server.connect() for _ in range(3)]
    for sock in idle:
        sock.sendall(get("/fixed"))
        read_until(sock, b'x"')
    assert server.stats()["connections"] == 3
    assert idle[0].recv(1) == b""
    for sock in idle:
        sock.close()
    server.stop()


# ---- the socket file ----


def test_second_server_on_the_same_socket_is_a_conflict(server):
    with pytest.raises(RuntimeError, match="^conflict: someone listens on"):
        Server(pathlib.Path(server.unix).parent)
    assert server.stats()["connections"] >= 1


def test_stale_socket_is_replaced(tmp_path):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "api.sock"))
    stale.close()
    server = Server(tmp_path)
    server.stats()
    server.stop()


def test_file_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "api.sock").write_text("precious")
    with pytest.raises(RuntimeError, match="^conflict: .*is no socket"):
        Server(tmp_path)
    assert (tmp_path / "api.sock").read_text() == "precious"


def test_socket_of_a_successor_is_left_alone(tmp_path):
    server = Server(tmp_path)
    os.rename(server.unix, server.unix + ".old")
    successor = Server(tmp_path)
    server.stop()
    successor.stats()
    successor.stop()


def test_long_path_and_bad_addresses_are_invalid(tmp_path, pki):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with pytest.raises(RuntimeError, match="^invalid: .*longer than"):
        Server(folder)
    for address in ("7443", ":7443", "localhost:7443", "1.2.3.4:", "::1:7443", "[::1]"):
        with pytest.raises(RuntimeError, match="^invalid: .*no address"):
            Server(tmp_path, tls=address, cert=pki / "server.pem", key=pki / "server.key")


def test_tls_port_in_use_is_a_conflict(tmp_path, pki, tls):
    with pytest.raises(RuntimeError, match="^conflict: someone listens"):
        Server(tmp_path / "..", tls=f"127.0.0.1:{tls.port}", cert=pki / "server.pem", key=pki / "server.key")


@pytest.mark.parametrize("change", [{"cert": "/dev/null"}, {"key": "/nonexistent"}, {"ca": "/dev/null"}])
def test_bad_certificate_files_are_named(tmp_path, pki, change):
    files = {"cert": pki / "server.pem", "key": pki / "server.key", "ca": pki / "ca.pem", **change}
    with pytest.raises(RuntimeError, match="^invalid: can't use the"):
        Server(tmp_path, tls="127.0.0.1:0", client_cert="required", **files)


# ---- many at once, and the end ----


def test_clients_that_come_and_go_at_random_leave_nothing_behind(server):
    targets = ["/fixed", "/later?us=2000", "/worker", "/events", "/download?n=300000", "/flood", "/forgotten"]

    def come_and_go(seed):
        for i in range(40):
            with server.connect() as sock:
                sock.sendall(get(targets[(seed + i) % len(targets)]))
                if (seed * 7 + i) % 3:
                    sock.recv(100)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, range(8)))
    stats = until(lambda: (s := server.stats())["connections"] == 1 and s)
    assert stats["subscribers"] == 0


def test_server_ends_cleanly_with_everything_open(tmp_path, pki):
    server = tls_server(tmp_path, pki, "none")
    socks = []
    for request in (get("/events"), b"GET / HT", get("/upload", "Content-Length: 9", method="PUT") + b"x",
                    ws_head("/ws"), get("/download?n=100000000"), get("/flood")):
        sock = server.connect()
        sock.sendall(request)
        socks.append(sock)
    raw = socket.create_connection(("127.0.0.1", server.port))
    wrapped = tls_context(pki).wrap_socket(socket.create_connection(("127.0.0.1", server.port)),
                                           server_hostname="localhost")
    wrapped.sendall(get("/events"))
    until(lambda: (s := server.stats())["subscribers"] == 2 and s["ws"] == 1)
    server.stop()
    assert not os.path.exists(server.unix)
    for sock in [*socks, raw, wrapped]:
        sock.close()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, *sys.argv[1:]]))
