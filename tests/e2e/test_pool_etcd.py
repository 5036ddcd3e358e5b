# SPDX-License-Identifier: Apache-2.0
"""A pool in an etcd that was there before: with certificates for its clients, with users, full, and set back."""
import json
import os
import shutil
import signal

import pytest

from certs import Authority
from daemon import PAYLOAD, until
from pool import Etcd

REFUSED = (2, 3, 4, 18)


@pytest.fixture
def etcd(request, tmp_path):
    """etcd(authority=..., args=...): started, and ended with the test."""
    made = []

    def make(**how):
        made.append(Etcd(**how))
        request.addfinalizer(made[-1].close)
        made[-1].start()
        return made[-1]
    return make


@pytest.fixture
def hosts(make_pool):
    """hosts(etcd, n): in no pool yet."""
    def make(etcd, n, **how):
        p = make_pool(n, joined=False, etcd=etcd, **how)
        p.etcd = None  # closed by its own fixture
        return p
    return make


def init(host, etcd, *options):
    return host.plim("pool", "init", "--address", host.address, "--etcd", etcd.url, *options)


def assert_untouched(host, etcd):
    assert host.get("/v1")["pool"] is None and not (host.state / "pool").exists()
    assert etcd.keys() == []


def assert_pool_works(p):
    """Both hosts change records, and each sees the other's."""
    for i, host in enumerate(p.hosts):
        host.ok("vm", "create", f"web{i}", "--kernel", PAYLOAD, "--nic", "none", "--host", host.name)
    for host in p.hosts:
        until(lambda: {v["name"] for v in host.get("/v1/vms")} >= {f"web{i}" for i in range(len(p.hosts))}, "all vms")
    assert {h["state"] for h in p.status().values()} == {"online"}


def test_an_etcd_that_wants_certificates(etcd, hosts, tmp_path):
    ours, strange = Authority(tmp_path / "ca"), Authority(tmp_path / "strange")
    e = etcd(authority=ours)
    p = hosts(e, 2)
    cert, key = ours.sign("plimsoll")
    bad, bad_key = strange.sign("plimsoll")
    shown = ("--etcd-cert", cert, "--etcd-key", key)
    for options, words in (
            ((), "is not the etcd that was meant"),
            (("--etcd-ca", strange.ca, *shown), "is not the etcd that was meant"),
            (("--etcd-ca", ours.ca), "certificate"),
            (("--etcd-ca", ours.ca, "--etcd-cert", bad, "--etcd-key", bad_key), "certificate"),
            (("--etcd-ca", ours.ca, "--etcd-cert", cert), "belong together"),
            (("--etcd-ca", ours.ca, "--etcd-cert", cert, "--etcd-key", bad_key), "certificate"),
            (("--etcd-ca", "/nowhere", *shown), "/nowhere"),
            (("--etcd-ca", key, *shown), "certificate")):
        ran = init(p[0], e, *options)
        assert ran.status in REFUSED and words in ran.err and ran.err.count("\n") >= 1, (options, ran)
        assert_untouched(p[0], e)
    ran = init(p[0], e, "--etcd-ca", ours.ca, *shown)
    assert ran.status == 0, ran
    # The host that joins is given all it needs; the files may go.
    for file in (cert, key, ours.ca):
        file.rename(file.with_suffix(".gone"))
    p.join(p[1])
    assert_pool_works(p)
    p[1].restart()
    assert p[1].vm("web0")


def test_an_etcd_with_users_and_passwords(etcd, hosts, tmp_path):
    e = etcd(args=("--auth-token-ttl", "2", "--bcrypt-cost", "4"))
    p = hosts(e, 2)
    e.demand_logins()
    password = tmp_path / "password"

    def login(user, text):
        password.write_text(text)
        return "--etcd-user", user, "--etcd-password-file", password
    assert init(p[0], e).status == 3
    for user, text, status in (("plimsoll", "wrong\n", 3), ("nobody", "plimsollpass\n", 3), ("reader", "readerpass\n", 3),
                               ("plimsoll", "", 2), ("plimsoll", "\n", 2)):
        ran = init(p[0], e, *login(user, text))
        assert ran.status == status, (user, text, ran)
        assert not text.strip() or text.strip() not in ran.err + p[0].said()
        assert_untouched(p[0], e)
    ran = init(p[0], e, *login("plimsoll", "plimsollpass\n"))
    assert ran.status == 0, ran
    password.unlink()
    p.join(p[1])
    assert_pool_works(p)
    # Nobody else reads the password, and it is in no command line and no log.
    for host in p.hosts:
        assert (host.state / "pool" / "etcd-password.key").stat().st_mode & 0o77 == 0
        assert "plimsollpass" not in host.said()
    # etcd forgets its tokens when it begins anew: the daemons log in again.
    e.stop()
    e.start()
    for host in p.hosts:
        until(lambda: host.plim("vm", "set", "web0", "autostart=true").status == 0, f"a change by {host.name}")
    # A token that was not used for two seconds is worth nothing; leases go on by themselves.
    p[0].ok("vm", "set", "web0", "autostart=false")
    until(lambda: p[1].vm("web0")["settings"].get("autostart") is False, "the change")


def test_a_login_that_is_taken_back_and_given_again(etcd, hosts, tmp_path):
    e = etcd(args=("--auth-token-ttl", "2", "--bcrypt-cost", "4"))
    p = hosts(e, 1, lease="12")
    e.demand_logins()
    password = tmp_path / "password"
    password.write_text("plimsollpass")
    assert init(p[0], e, "--etcd-user", "plimsoll", "--etcd-password-file", password).status == 0
    p[0].ok("vm", "create", "web0", "--kernel", PAYLOAD, "--nic", "none")
    e.ctl("role", "revoke-permission", "plimsoll", "--prefix=true", "/pools/")

    def refused():
        ran = p[0].plim("vm", "set", "web0", "autostart=true")
        return ran if ran.status != 0 else None
    ran = until(refused, "a refusal")
    assert ran.status in (3, 10, 18), ran
    # Also when its lease should have been renewed meanwhile.
    begun = p[0].times_said("ready on")
    until(lambda: p[0].times_said("lease of this host was not renewed"), "a renewal that is refused")
    assert p[0].vm("web0"), "what is known can be read"
    e.ctl("role", "grant-permission", "plimsoll", "--prefix=true", "readwrite", "/pools/")
    until(lambda: p[0].plim("vm", "set", "web0", "autostart=true").status == 0, "a change when the right is back")
    until(lambda: p[0].times_said("is renewed again"), "a renewal that succeeds")
    assert p[0].process.poll() is None and p[0].times_said("ready on") == begun, "it did not begin anew"


def test_certificates_and_passwords_together(etcd, hosts, tmp_path):
    ours = Authority(tmp_path / "ca")
    e = etcd(authority=ours, args=("--auth-token-ttl", "2", "--bcrypt-cost", "4"))
    p = hosts(e, 2)
    e.demand_logins()
    password = tmp_path / "password"
    password.write_text("plimsollpass")
    login = ("--etcd-user", "plimsoll", "--etcd-password-file", password)

    def tls(pair):
        return "--etcd-ca", ours.ca, "--etcd-cert", pair[0], "--etcd-key", pair[1]
    named, nameless = tls(ours.sign("plimsoll")), tls(ours.sign("nameless", named=False))
    # etcd's gateway refuses a certificate with a common name as soon as there are users.
    for options, words in ((named, "common name"), ((*named, *login), "common name"), (nameless, "password-file")):
        ran = init(p[0], e, *options)
        assert ran.status == 3 and words in ran.err, ran
        assert_untouched(p[0], e)
    ran = init(p[0], e, *nameless, *login)
    assert ran.status == 0, ran
    p.join(p[1])
    assert_pool_works(p)


# What else happens to an etcd


def test_a_full_etcd_is_told_and_reads_and_leases_go_on(etcd, hosts):
    e = etcd(args=("--quota-backend-bytes", str(4 << 20)))
    p = hosts(e, 1)
    assert init(p[0], e).status == 0
    p[0].ok("vm", "create", "web0", "--kernel", PAYLOAD, "--nic", "none")
    p[0].ok("vm", "start", "web0")
    while (done := e.ctl("put", "junk", "x" * 100000, check=False)).returncode == 0:
        pass
    assert "space exceeded" in done.stderr, done

    def refused():
        ran = p[0].plim("vm", "set", "web0", "autostart=true")
        return ran if ran.status != 0 else None
    ran = until(refused, "a refusal")
    assert ran.status == 11 and "defrag" in ran.err, ran
    assert p[0].plim("vm", "create", "web1", "--kernel", PAYLOAD, "--nic", "none").status == 11
    assert p[0].vm("web0")["runtime"]["state"] == "running" and [v["name"] for v in p[0].get("/v1/vms")] == ["web0"]
    # The lease is renewed all the same: what is left of it grows.
    key, least = next(k for k in e.keys() if "/leases/hosts/" in k), 1 << 30

    def renewed():
        nonlocal least
        left = e.remaining(key)
        least, before = min(left, least), least
        return left > before
    until(renewed, "renewal of the lease")
    assert p.status()["h0"]["state"] == "online" and not p[0].events("host.fenced")
    e.ctl("del", "junk")
    e.ctl("compact", e.ctl("get", "x", "-w", "fields").stdout.split('"Revision" : ')[1].split()[0])
    e.ctl("defrag")
    e.ctl("alarm", "disarm")
    until(lambda: p[0].plim("vm", "set", "web0", "autostart=true").status == 0, "a change when there is room")


def test_an_etcd_set_back_to_a_backup_is_noticed_and_taken_as_it_is(etcd, hosts):
    e = etcd()
    p = hosts(e, 2)
    assert init(p[0], e).status == 0
    p.join(p[1])
    p[0].ok("vm", "create", "old", "--kernel", PAYLOAD, "--nic", "none", "--host", "h0")
    e.stop()
    shutil.copytree(e.base / "data", e.base / "backup")
    e.start()
    until(lambda: p[0].plim("vm", "create", "new", "--kernel", PAYLOAD, "--nic", "none", "--host", "h0").status == 0, "a vm")
    e.stop()
    shutil.rmtree(e.base / "data")
    shutil.move(e.base / "backup", e.base / "data")
    e.start()

    def refused():
        ran = p[0].plim("vm", "set", "old", "autostart=true")
        return ran if ran.status == 10 else None
    ran = until(refused, "the refusal")
    assert "backup" in ran.err and len(ran.err.splitlines()) >= 2, ran
    assert p[0].vm("new"), "what is known can be read"
    # Begun anew, the daemons take the records as they are.
    for host in p.hosts:
        host.kill9()
    for host in p.hosts:
        host.start()
    until(lambda: {h["state"] for h in p.status().values()} == {"online"}, "both hosts")
    for host in p.hosts:
        until(lambda: [v["name"] for v in host.get("/v1/vms")] == ["old"], "the records of the backup")
        until(lambda: host.plim("vm", "set", "old", "autostart=false").status == 0, f"a change by {host.name}")


def test_the_member_that_lets_a_host_in_dies(make_pool):
    p = make_pool(3, joined=False)
    p.init()
    p.join(p[1])
    p[2].ok("vm", "create", "mine", "--kernel", PAYLOAD, "--nic", "none")
    ran = p[2].begin("pool", "join", "--token", p.token(p[1]), "--address", p[2].address)
    until(lambda: (p[2].state / "pool").exists() or ran.poll() is not None, "begin of the join")
    p[1].kill9()
    err = ran.communicate(timeout=300)[1]
    if ran.returncode != 0:
        assert "h1" in err or "127.0.0.1" in err, err
        assert p[2].get("/v1")["pool"] is None and not (p[2].state / "pool").exists() and p[2].vm("mine")
        p.join(p[2])
    assert p[2].vm("mine")["id"] == p[0].vm("mine")["id"]
    until(lambda: p.status()["h2"]["state"] == "online", "the new host")
    p[1].start()
    p.wait_status("h1", "online")


def voters(host):
    """Hosts whose member of etcd votes; nothing while the daemon begins anew."""
    try:
        return sorted(h["name"] for h in host.get("/v1/pool")["hosts"] if h["etcd"] == "voter")
    except (OSError, AssertionError):
        return []


def test_a_voter_is_lost_while_a_host_joins(make_pool):
    p = make_pool(4, joined=False, own_etcd=True, lease="15")
    p.init()
    for host in p.hosts[1:3]:
        p.join(host)
    until(lambda: voters(p[0]) == ["h0", "h1", "h2"], "three voters", 300)
    known = [host.address.split(":")[0] for host in p.hosts[:3]]
    until(lambda: all(address in json.loads((h.state / "pool.json").read_text())["store"] for h in p.hosts[:3] for address in known),
          "addresses of all voters on all hosts", 180)
    until(lambda: all(h.times_said("ready on") > h.times_said("beginning anew") for h in p.hosts[:3]), "all daemons", 300)
    p[3].ok("vm", "create", "mine", "--kernel", PAYLOAD, "--nic", "none")
    p[0].ok("vm", "create", "ours", "--kernel", PAYLOAD, "--nic", "none")
    ran = p[3].begin("pool", "join", "--token", p.token(p[0]), "--address", p[3].address)
    until(lambda: (p[3].state / "pool").exists() or ran.poll() is not None, "begin of the join")
    p[2].kill9()
    for pid in p[2].processes():
        os.kill(pid, signal.SIGKILL)
    err = ran.communicate(timeout=300)[1]
    if ran.returncode != 0:
        assert len(err.splitlines()) >= 2, err
        assert p[3].get("/v1")["pool"] is None and not (p[3].state / "pool").exists() and p[3].vm("mine")
        until(lambda: p[3].plim("pool", "join", "--token", p.token(p[0]), "--address", p[3].address).status == 0, "a new join", 180)
    # Two of three voters are enough for all of them.
    for host in (p[0], p[1], p[3]):
        until(lambda: {v["name"] for v in host.get("/v1/vms")} == {"mine", "ours"}, f"all vms on {host.name}")
    until(lambda: p.status(p[3])["h3"]["state"] == "online" and p.status(p[3])["h2"]["state"] == "offline", "who is there", 300)
    until(lambda: p[3].plim("vm", "set", "ours", "vcpus=2").status == 0, "a change by the new host", 300)
    p[2].start()
    until(lambda: p.status(p[0])["h2"]["state"] == "online", "the voter is back", 180)
    assert p[2].vm("mine")["id"] == p[3].vm("mine")["id"]


def test_applications_that_make_no_sense_are_refused(make_pool):
    p = make_pool(1)
    before = p[0].get("/v1/hosts")
    token = p.token().split(".")[1]
    host = dict(before[0])
    for application, status, words in (({}, 422, "version"), ({"format": 99, "token": token}, 422, "version"),
                                       ({"format": 1, "token": token}, 400, "host"),
                                       ({"format": 1, "token": token, "host": "h"}, 400, "host"),
                                       ({"format": 1, "token": token, "host": host}, 400, "address"),
                                       ({"format": 1, "token": token, "host": host, "address": p[0].address, "request": "x"},
                                        409, "already")):
        answer = p[0].api("POST", "/v1/pool/members", application)
        assert answer.status == status and words in answer.body["message"], (application, answer)
    assert [h["id"] for h in p[0].get("/v1/hosts")] == [h["id"] for h in before]


def test_a_daemon_that_starts_waits_for_its_etcd(etcd, hosts):
    e = etcd()
    p = hosts(e, 1)
    assert init(p[0], e).status == 0
    p[0].ok("vm", "create", "web0", "--kernel", PAYLOAD, "--nic", "none")
    p[0].stop()
    e.stop()
    p[0].process = p[0].spawn()
    until(lambda: "etcd is waited for" in p[0].said(), "word of it")
    e.start()
    until(p[0].is_ready, "API of the daemon")
    assert p[0].vm("web0")
    # Who does not want to wait any longer need not kill it.
    p[0].stop()
    e.stop()
    p[0].process = p[0].spawn()
    until(lambda: p[0].said().count("etcd is waited for") == 2, "word of it")
    p[0].process.terminate()
    assert p[0].process.wait(60) == 1
