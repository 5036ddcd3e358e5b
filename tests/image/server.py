# SPDX-License-Identifier: Apache-2.0
"""A web server that behaves as badly as told, for test_import.c.

Serves the file given on the command line under every path; the path says how:
  /full          well, with Range and an ETag
  /cut           the same, but the first N answers end after a third of what they should send
  /cut-changed   the same, and after the first cut the ETag is another one
  /cut-plain     cut as well, and neither Range nor ETag
  /cut-unnamed   cut, with Range but without ETag or date
  /busy          503 twice, then well
  /redirect      to /full; /redirect-file to file:///etc/passwd; /loop to itself
  /status/NNN    that status
  /slow          a few bytes every while, for ever
  /page          a page that says so, with status 200
Ends when its standard input does. Prints its port, then one line a request: the path and the Range header.
"""
import http.server
import os
import sys
import threading
import time

CUTS = 2
data = open(sys.argv[1], "rb").read()
seen = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self, cut, etag, ranges):
        start, status, headers = 0, 200, {}
        want = self.headers.get("Range", "") if ranges else ""
        if etag:
            headers["ETag"] = etag
        if want.startswith("bytes=") and self.headers.get("If-Range", etag) == etag:
            start = int(want[6:].split("-")[0])
            if start >= len(data):
                return self.answer(416, {"Content-Range": f"bytes */{len(data)}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        headers["Content-Length"] = str(len(body))
        if cut:
            body = body[: len(body) // 3]
            self.close_connection = True
        self.answer(status, headers, body)

    def do_GET(self):
        path = self.path
        n = seen[path] = seen.get(path, 0) + 1
        print(path, self.headers.get("Range", "-"), flush=True)
        try:
            self.route(path, n)
        except BrokenPipeError:
            self.close_connection = True

    def route(self, path, n):
        if path == "/full":
            self.serve(False, '"one"', True)
        elif path == "/cut":
            self.serve(n <= CUTS, '"one"', True)
        elif path == "/cut-changed":
            self.serve(n == 1, '"one"' if n == 1 else '"two"', True)
        elif path == "/cut-plain":
            self.serve(n <= CUTS, None, False)
        elif path == "/cut-unnamed":
            self.serve(n <= CUTS, None, True)
        elif path == "/busy" and n <= 2:
            self.answer(503, {})
        elif path == "/busy":
            self.serve(False, '"one"', True)
        elif path == "/redirect":
            self.answer(302, {"Location": "/full"})
        elif path == "/redirect-file":
            self.answer(302, {"Location": "file:///etc/passwd"})
        elif path == "/loop":
            self.answer(302, {"Location": "/loop"})
        elif path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000000000")
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 100)
                time.sleep(0.01)
        elif path == "/page":
            self.answer(200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><title>log in</title>" + b" " * 4096)
        else:
            self.answer(int(path.rsplit("/", 1)[1]), {})


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
server.handle_error = lambda request, client: None  # clients that hang up are part of the test
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(server.server_port, flush=True)
server.serve_forever()
