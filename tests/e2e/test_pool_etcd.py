# SPDX-License-Identifier: Apache-2.0
"""A pool in an etcd that was there before: with certificates for its clients, and with users and passwords."""
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
    def make(etcd, n):
        p = make_pool(n, joined=False, etcd=etcd)
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
    p = hosts(e, 1)
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
    assert p[0].vm("web0"), "what is known can be read"
    e.ctl("role", "grant-permission", "plimsoll", "--prefix=true", "readwrite", "/pools/")
    until(lambda: p[0].plim("vm", "set", "web0", "autostart=true").status == 0, "a change when the right is back")


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
