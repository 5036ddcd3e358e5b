# SPDX-License-Identifier: Apache-2.0
"""The console in a browser: a real Chromium without a window, a real guest with a screen."""
import base64
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from daemon import PAYLOAD, Daemon, until
from pool import free_port
from screen_guest import screen_guest

SLOW = 180
CANVAS = "#screen canvas"


class Pages:
    """`plim vm console --web`, and a client that came by its link."""

    def __init__(self, daemon, name):
        self.process = daemon.begin("vm", "console", name, "--web")
        self.link = self.process.stdout.readline().strip()
        self.base = self.link.split("/open/")[0]

    def cookie(self):
        with urllib.request.urlopen(self.link, timeout=SLOW) as answer:
            return answer.headers["Set-Cookie"].split(";")[0]

    def status(self, path, **headers):
        request = urllib.request.Request(self.base + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        try:
            with urllib.request.urlopen(request, timeout=SLOW) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def daemon():
    d = Daemon(engine="qemu")
    d.start()
    yield d
    d.close()


@pytest.fixture
def pages(daemon):
    daemon.ok("vm", "create", "p", "--memory", "16MiB", "--kernel", str(PAYLOAD), "--nic", "none", "--set", "platform.video=std", "--set", "platform.vnc=true")
    daemon.ok("vm", "create", "blind", "--memory", "16MiB", "--kernel", str(PAYLOAD), "--nic", "none")
    daemon.ok("vm", "start", "p")
    daemon.ok("vm", "start", "blind")
    p = Pages(daemon, "p")
    yield p
    p.close()


def handshake(path, address, headers=()):
    """The first bytes of the answer to a WebSocket's request."""
    if isinstance(address, tuple):
        s = socket.create_connection(address, SLOW)
    else:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(SLOW)
        s.connect(str(address))
    with s:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 f"Sec-WebSocket-Key: {key}", *headers]
        if not any(h.startswith("Host:") for h in headers):
            lines.insert(1, "Host: x")
        s.sendall("\r\n".join([*lines, "", ""]).encode())
        got = b""
        while b"\r\n\r\n" not in got or (got.startswith(b"HTTP/1.1 101") and b"RFB" not in got):
            piece = s.recv(4096)
            if not piece:
                break
            got += piece
        return got


def test_the_screen_is_there_for_who_may_and_for_nobody_else(daemon, pages):
    screen = "/v1/vms/p/display"
    port = int(pages.base.rsplit(":", 1)[1])
    cookie = pages.cookie()
    here = f"Host: 127.0.0.1:{port}"
    assert b"RFB 003.008" in handshake(screen, daemon.socket)
    assert b"RFB 003.008" in handshake(screen, ("127.0.0.1", port), [here, f"Cookie: {cookie}"])
    for headers in ([here], [here, "Cookie: plim-%d=%s" % (port, 32 * "0")], ["Host: evil.example", f"Cookie: {cookie}"]):
        assert handshake(screen, ("127.0.0.1", port), headers).startswith(b"HTTP/1.1 403"), headers
    stranger = handshake(screen, ("127.0.0.1", port), [here, f"Cookie: {cookie}", "Origin: http://evil.example"])
    assert stranger.startswith(b"HTTP/1.1 403"), "a page of another site has the user's browser, not his will"


def status_for_nobody(pages, path, **headers):
    """The same request of a process of another user, who has seen the secret."""
    code = """import sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], headers=dict(h.split("=", 1) for h in sys.argv[2:]))
try:
    print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error:
    print(error.code)"""
    words = [f"{name}={value}" for name, value in headers.items()]
    ran = subprocess.run(["/usr/bin/python3", "-c", code, pages.base + path, *words], user=65534, group=65534,
                         extra_groups=[], cwd="/", stdout=subprocess.PIPE, text=True, timeout=SLOW)
    return int(ran.stdout)


def test_the_link_is_of_one_user(daemon, pages):
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    cookie = pages.cookie()
    assert pages.status("/v1/vms", Cookie=cookie) == 200
    assert status_for_nobody(pages, "/v1/vms", Cookie=cookie) == 403, "browsers tell a cookie to all ports of a host"
    assert status_for_nobody(pages, pages.link[len(pages.base):]) == 403


def open_socket(path, address):
    """Of a WebSocket that stays open."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(SLOW)
    s.connect(str(address))
    s.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
                           "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}", "", ""]).encode())
    assert s.recv(1024).startswith(b"HTTP/1.1 101")
    return s


def test_a_daemon_that_stops_says_goodbye_to_who_looks(daemon, pages):
    with open_socket("/v1/vms/p/display", daemon.socket) as screen, open_socket("/v1/vms/p/console", daemon.socket) as text:
        daemon.restart()
        for s in (screen, text):
            got = b""
            while piece := s.recv(4096):
                got += piece
            assert b"the daemon stops" in got
    assert "running" in daemon.ok("vm", "list")


def test_no_port_of_a_guest_is_open(daemon, pages):
    for pid in daemon.processes():
        command = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        if b"qemu-system" not in command[0] or not any(w.startswith(b"guest=p,") for w in command):
            continue
        inodes = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        listening = [line.split()[9] for name in ("tcp", "tcp6") for line in open(f"/proc/{pid}/net/{name}") if line.split()[3] == "0A"]
        assert not [i for i in listening if f"socket:[{i}]" in inodes]
        return
    pytest.fail("the guest's QEMU was not found")


def test_what_has_no_screen_says_so(daemon, pages):
    answer = handshake("/v1/vms/blind/display", daemon.socket)
    error = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert error["code"] == "unsupported" and "platform.video" in error["advice"], error
    ran = daemon.plim("vm", "console", "nobody", "--web")
    assert ran.status == 4 and "nobody" in ran.err, "a link to nothing would be found out by the browser only"


def test_pages_need_the_link_and_come_whole(daemon, pages):
    cookie = pages.cookie()
    assert pages.status("/web/") == 403 and pages.status("/open/" + 32 * "0") == 403
    for path in ("/", "/web/", "/web/console.html", "/web/vendor/novnc.js"):
        assert pages.status(path, Cookie=cookie) == 200, path
        assert pages.status(path, Cookie=cookie, Accept_Encoding="gzip") == 200, path
    assert pages.status("/web/../api.sock", Cookie=cookie) in (400, 404)
    assert pages.status("/web/none.js", Cookie=cookie) == 404


# With a browser


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def browser():
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("there is no chromium")
    webdriver = pytest.importorskip("selenium.webdriver")
    # By number: a machine without /etc/hosts does not know "localhost", where selenium looks for a driver of its own.
    port = free_port()
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                 "--window-size=2000,1300"):
        options.add_argument(word)
    try:
        until(lambda: listens(port), "chromedriver", SLOW)
        session = webdriver.Remote(f"http://127.0.0.1:{port}", options=options)
        try:
            session.set_page_load_timeout(SLOW)
            session.set_script_timeout(SLOW)
            yield session
        finally:
            session.quit()
    finally:
        driver.kill()
        driver.wait()


def log(daemon):
    return daemon.ok("vm", "console", "s", "--log")


def canvas_size(browser):
    return browser.execute_script("const c = document.querySelector(arguments[0]); return c ? [c.width, c.height] : null", CANVAS)


def point(browser, x, y):
    """Move the mouse to that share of the screen's picture."""
    from selenium.webdriver import ActionChains
    canvas = browser.find_element("css selector", CANVAS)
    size = canvas.size
    ActionChains(browser).move_to_element_with_offset(
        canvas, round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])).perform()


def pointed(daemon):
    """Where the guest saw the pointer last, as shares of 32768; type and code are one number in od's line."""
    places = {}
    for line in re.findall(r"event ([-0-9 ]+)", log(daemon)):
        words = [int(w) for w in line.split()]
        if len(words) == 6 and words[4] in (3, 3 + (1 << 16)):
            places[words[4] >> 16] = words[5] / 32768
    return places.get(0), places.get(1)


def test_a_guest_is_used_in_a_browser(daemon, browser):
    folder = daemon.base / "guest"
    folder.mkdir(mode=0o755)
    kernel, initrd = screen_guest(folder)
    daemon.ok("vm", "create", "s", "--memory", "256MiB", "--kernel", kernel, "--initrd", initrd, "--nic", "none",
              "--set", "platform.video=std", "--set", "platform.vnc=true", "--set", "boot.cmdline=console=tty1 quiet no_timer_check")
    daemon.ok("vm", "start", "s")
    until(lambda: "screen " in log(daemon), "the guest's screen", SLOW)
    assert "screen 1920,1080" in log(daemon)
    pages = Pages(daemon, "s")
    try:
        browser.get(pages.link)
        until(lambda: canvas_size(browser) == [1920, 1080], "the picture in the browser", SLOW)
        type_into(browser, daemon)
        for place in ((0.25, 0.75), (0.5, 0.5), (0.9, 0.1)):
            point(browser, *place)
            until(lambda p=place: all(v is not None and abs(v - w) < 0.01 for v, w in zip(pointed(daemon), p)),
                  f"the pointer at {place}", SLOW)
        paste_into(browser, daemon)
        picture = os.environ.get("PLIMSOLL_SCREENSHOT")
        if picture:
            browser.save_screenshot(picture)
    finally:
        pages.close()


def until_said(browser, daemon, text, enter):
    """
    Three attempts at most: a keyboard controller holds 16 bytes, and a guest that gets no processor for a tenth of a second
    loses keys. What it got of the line is given up before the next.
    """
    from selenium.webdriver import ActionChains, Keys

    def said():
        enter()
        try:
            return until(lambda: text in log(daemon), text, SLOW / 3)
        except AssertionError:
            canvas = browser.find_element("css selector", CANVAS)
            ActionChains(browser).click(canvas).key_down(Keys.CONTROL).send_keys("c").key_up(Keys.CONTROL).perform()
            return None
    until(said, f"'{text}' of the guest", SLOW)


def type_into(browser, daemon):
    from selenium.webdriver import ActionChains, Keys
    canvas = browser.find_element("css selector", CANVAS)
    until_said(browser, daemon, "typed in a browser",
               lambda: ActionChains(browser).click(canvas).send_keys("say typed in a browser", Keys.ENTER).perform())


def paste_into(browser, daemon):
    def paste():
        browser.find_element("id", "paste").click()
        browser.find_element("id", "paste-text").send_keys("say 'Pasted: {[~|@]}'\n")
        browser.find_element("id", "paste-go").click()
    until_said(browser, daemon, "Pasted: {[~|@]}", paste)
