# SPDX-License-Identifier: Apache-2.0
"""
Encrypted backups: nothing of the disks can be read in the repository, nothing of the key anywhere; with the key
everything comes back, also by hand as docs/backup.md says, and without it nothing does.
"""
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading

import pytest

from daemon import PAYLOAD, ROOT, Daemon, until
from monitor import Monitor

MIB = 1 << 20
SIZE = 8 * MIB
SECRET = b"secret,id=k0,file=/proc/self/fd/"  # how programs get one
MARKS = [b"PLIMSOLL-MARK-%d-" % n * 4096 for n in range(3)]


def passphrase(key, backup):
    return hmac.new(key, b"plimsoll backup passphrase " + backup.encode(), "sha256").hexdigest()


class Host:
    """A vm "g" with one disk on a daemon of its own."""

    def __init__(self, daemon, folder):
        self.daemon, self.folder, self.keys = daemon, folder, []

    def key(self, name="key"):
        path = self.folder / name
        path.write_bytes(os.urandom(32))
        path.chmod(0o600)
        self.keys.append(path.read_bytes())
        return path

    def volume(self, vm="g"):
        disk, = self.daemon.vm(vm)["disks"]
        return self.daemon.get(f"/v1/volumes/{disk['volume']}")["path"]

    def write(self, n):
        """A mark on the disk."""
        file = self.folder / f"mark{n}"
        file.write_bytes(MARKS[n][:65536])
        file.chmod(0o644)
        self.qemu_io(f"write -s {file} {n}M 64k")

    def qemu_io(self, command, monitor=None):
        """
        A write to the disk: by the QEMU that has it, or by another when none has. `monitor`: one that is open already, as
        QEMU talks to one client at a time there.
        """
        if self.daemon.runtime("g")["state"] != "running":
            subprocess.run(["qemu-io", "-c", command, self.volume()], check=True, timeout=120, stdout=subprocess.DEVNULL)
            return
        line = f'qemu-io -d /machine/peripheral/disk-root/virtio-backend "{command}"'
        said = (monitor or Monitor(self.daemon, "g")).ask("human-monitor-command", **{"command-line": line})
        assert not said or "wrote" in said, said

    def created(self, repo, **body):
        op = self.daemon.api("POST", "/v1/vms/g/actions/backup", {"repository": str(repo)} | body).body
        assert "id" in op, op
        end = self.daemon.wait_operation(op["id"])
        assert end["status"] == "done", end
        return end["result"]

    def content(self, backup, repo, *args):
        """The disk of a vm that is restored from it."""
        self.daemon.ok("backup", "restore", backup, "--from", repo, "--name", "r", *args)
        raw = self.folder / "r.raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", self.volume("r"), raw], check=True, timeout=120)
        self.daemon.ok("vm", "delete", "r")
        return raw.read_bytes()


@pytest.fixture(scope="module")
def host():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-key-"))
    folder.chmod(0o711)
    daemon = Daemon("qemu")
    try:
        daemon.start()
        raw = folder / "disk.raw"
        raw.write_bytes((MARKS[0][:65536] + bytes(SIZE))[:SIZE])
        daemon.ok("image", "import", raw, "--name", "disk", "--source-format", "raw")
        daemon.ok("vm", "create", "g", "--memory", "16MiB", "--kernel", PAYLOAD, "--nic", "none", "--cmdline", "job=idle", "--disk", "name=root,image=disk")
        daemon.ok("vm", "start", "g")
        yield Host(daemon, folder)
    finally:
        daemon.close()
        shutil.rmtree(folder)


@pytest.fixture
def repo():
    path = pathlib.Path(tempfile.mkdtemp(prefix="plim-e2e-repo-"))
    yield path
    shutil.rmtree(path)


def files_of(*folders):
    return {p: p.read_bytes() for f in folders for p in f.rglob("*") if p.is_file() and not p.is_symlink()}


class Watched:
    """What stood in the command lines of all processes meanwhile."""

    def __init__(self):
        self.seen, self.ended = set(), threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.ended.wait(0.02):
            for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_bytes())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def secrets_of(host, *backups):
    for key in host.keys:
        yield from (key, key.hex().encode(), *(passphrase(key, b).encode() for b in backups))


def is_nowhere(host, texts, *backups):
    for where, text in texts.items():
        for secret in secrets_of(host, *backups):
            assert secret not in text, where


def by_hand(host, key, repo, vm, chain, target):
    """What docs/backup.md tells people to do without Plimsoll, in its words."""
    text = (ROOT / "docs/backup.md").read_text()
    derive = re.search(r"^(python3 -c .*?) /etc/plimsoll/backup.key BACKUP > pass1$", text, re.MULTILINE).group(1)
    objects, node = [], None
    for n, backup in enumerate(chain):
        words = host.folder / f"pass{n}"
        subprocess.run(f"umask 077; {derive} {key} {backup} > {words}", shell=True, check=True, timeout=60)
        objects += ["--object", f"secret,id=k{n},file={words}"]
        below = node
        node = {"driver": "qcow2", "encrypt": {"key-secret": f"k{n}"}}
        if below:
            node["backing"] = below
    node["file"] = {"driver": "file", "filename": str(repo / vm / chain[-1] / "root.qcow2")}
    subprocess.run(["qemu-img", "convert", *objects, "-O", "raw", "json:" + json.dumps(node), target], check=True, timeout=120)
    return target.read_bytes()


def test_with_the_key_everything_comes_back_and_without_it_nothing(host, repo):
    daemon, key, wrong = host.daemon, host.key(), host.key("wrong")
    with Watched() as watched:
        plain = repo / "plain"
        plain.mkdir()
        host.created(plain)
        assert any(MARKS[0][:64] in text for text in files_of(plain).values()), "the mark can be found"
        shutil.rmtree(plain)
        want = [(MARKS[0][:65536] + bytes(SIZE))[:SIZE]]
        made = [host.created(repo, key_file=str(key))]
        assert made[0]["encryption"] == "luks" and made[0]["kind"] == "full" and made[0]["warning"] is None
        for n in (1, 2):
            if n == 2:
                daemon.ok("vm", "kill", "g")
                daemon.ok("host", "set", "testhost", f"backup.key_file={key}")
            host.write(n)
            want.append(want[-1][:n * MIB] + MARKS[n][:65536] + want[-1][n * MIB + 65536:])
            words = daemon.ok("backup", "create", "g", "--to", repo, "--incremental", *(["--key-file", key] if n == 1 else []))
            assert "incremental backup" in words and words.split("\n")[0].endswith(", encrypted")
            made.append({"backup": daemon.get(f"/v1/backups?repository={repo}")["backups"][0]["id"]})
        ids = [m["backup"] for m in made]
        daemon.ok("host", "unset", "backup.key_file")
        assert daemon.ok("backup", "list", repo).count("luks") == 3
        # Without it, and with another one: refused by name, and nothing changed.
        before = files_of(repo)
        for args in (("verify", ids[2]), ("restore", ids[2], "--name", "no"), ("restore", ids[2], "--over", "g"), ("mount", ids[2])):
            none = daemon.plim("backup", *args, "--from", repo)
            other = daemon.plim("backup", *args, "--from", repo, "--key-file", wrong)
            assert none.status == 2 and f"backup {ids[2]} is encrypted" in none.err and "--key-file" in none.err, none
            assert other.status == 2 and "encrypted with another key" in other.err and str(wrong) in other.err, other
        assert files_of(repo) == before and [vm["name"] for vm in daemon.get("/v1/vms")] == ["g"] and daemon.get("/v1/backup-mounts") == []
        # With it all of them.
        for ident, content in zip(ids, want):
            assert daemon.ok("backup", "verify", ident, "--from", repo, "--key-file", key).endswith("is what was written\n")
            assert host.content(ident, repo, "--key-file", key) == content
        uri = re.search(r"nbd\S+", daemon.ok("backup", "mount", ids[2], "--from", repo, "--key-file", key)).group(0)
        until(lambda: any(SECRET in words for words in set(watched.seen)), "programs that got secrets, in the list of processes")
        shown = host.folder / "shown.raw"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, shown], check=True, timeout=120)
        daemon.ok("backup", "unmount", ids[2])
        assert shown.read_bytes() == want[2]
        daemon.ok("backup", "restore", ids[1], "--from", repo, "--over", "g", "--key-file", key)
        subprocess.run(["qemu-img", "convert", "-O", "raw", host.volume(), shown], check=True, timeout=120)
        assert shown.read_bytes() == want[1]
    for n in (1, 3):
        assert by_hand(host, key, repo, daemon.vm("g")["id"], ids[:n], shown) == want[n - 1]
    for path in host.folder.glob("pass*"):
        path.unlink()
    assert not any(m[:16] in text for m in MARKS for text in files_of(repo).values())
    is_nowhere(host, {words: words for words in watched.seen}, *ids)
    is_nowhere(host, files_of(repo, daemon.log, daemon.run, daemon.state), *ids)
    assert not [s for s in secrets_of(host, *ids) if s in daemon.words.read_bytes()]
    daemon.ok("vm", "start", "g")


def test_another_key_or_none_makes_a_full_backup_that_says_why(host, repo):
    one, other = str(host.key("one")), str(host.key("other"))
    first = host.created(repo, key_file=one)
    for body, why in (({"key_file": other}, "was encrypted with another key"), ({"no_encryption": True}, "is encrypted, and this one is not"),
                      ({"key_file": one}, "is not encrypted, and this one is")):
        again = host.created(repo, incremental=True, **body)
        assert again["kind"] == "full" and f"It is a full backup: backup {first['backup']} {why}." == again["warning"]
        assert again["encryption"] == ("luks" if "key_file" in body else None)
        first = again
    host.daemon.ok("host", "set", "testhost", f"backup.key_file={other}")
    assert host.created(repo, no_encryption=True)["encryption"] is None
    host.daemon.ok("host", "unset", "backup.key_file")


def test_a_vm_that_was_encrypted_does_not_become_plain_unasked(host, repo):
    """The setting is of each host: the one that a guest was moved to may have none."""
    daemon, key = host.daemon, host.key("lasting")
    daemon.ok("host", "set", "testhost", f"backup.key_file={key}")
    last = host.created(repo)["backup"]
    daemon.ok("host", "unset", "backup.key_file")
    before = files_of(repo)
    for args in ((), ("--incremental",), ("--dry-run",)):
        refused = daemon.plim("backup", "create", "g", "--to", repo, *args)
        assert refused.status == 5 and f"'g' there, {last}, is encrypted" in refused.err, refused
        assert all(word in refused.err for word in ("--key-file", "backup.key_file=", "--no-encryption")), refused
    assert files_of(repo) == before
    assert "incremental" in daemon.ok("backup", "create", "g", "--to", repo, "--incremental", "--key-file", key)
    assert host.created(repo, no_encryption=True)["encryption"] is None
    # That was asked for: it goes on so.
    assert host.created(repo, incremental=True)["kind"] == "incremental"


def test_a_qemu_has_no_passphrase_while_it_copies(host, repo):
    """Neither its own nor one that a daemon which died left there."""
    key, monitor = host.key("short"), Monitor(host.daemon, "g")

    def secrets():
        return [o["name"] for o in monitor.ask("qom-list", path="/objects") if o["type"] == "child<secret>"]

    # A minute's work for the bandwidth that the copy gets: it is to be cancelled before its end.
    host.qemu_io("write -P 9 4M 4M", monitor)
    monitor.ask("object-add", **{"qom-type": "secret", "id": "backup-key", "data": "left over"})
    assert secrets() == ["backup-key"]
    op = host.daemon.api("POST", "/v1/vms/g/actions/backup", {"repository": str(repo), "key_file": str(key), "bandwidth": 65536}).body
    until(lambda: host.daemon.get(f"/v1/operations/{op['id']}")["result"].get("consistency"), "copy")
    assert secrets() == []
    monitor.ask("object-add", **{"qom-type": "secret", "id": "backup-key", "data": "of a daemon that dies now"})
    host.daemon.ok("operation", "cancel", op["id"])
    assert host.daemon.wait_operation(op["id"])["status"] == "cancelled"
    assert secrets() == [] and list(repo.iterdir()) == []


def test_what_was_changed_in_a_repository_is_found_with_the_key(host, repo):
    key = host.key("mac")
    backup = host.created(repo, key_file=str(key))["backup"]
    folder = next(repo.glob(f"*/{backup}"))
    manifest = folder / "manifest.json"
    was = manifest.read_text()

    def refused(status, word, *args):
        ran = host.daemon.plim("backup", "restore", backup, "--from", repo, "--name", "no", *args)
        assert ran.status == status and word in ran.err, ran

    # A file of somebody's own, and the hash that fits it.
    file = folder / "root.qcow2"
    data = file.read_bytes()
    file.write_bytes(data + bytes(512))
    manifest.write_text(was.replace(hashlib.sha512(data).hexdigest(), hashlib.sha512(file.read_bytes()).hexdigest()))
    assert manifest.read_text() != was
    changed = f"the manifest of backup {backup} was changed since it was written"
    refused(5, changed, "--key-file", key)
    manifest.write_text(was)
    refused(2, "is not what was written", "--key-file", key)
    # The same without encryption: found by who says that it is encrypted.
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, str(SIZE)], check=True, timeout=120)
    plain = json.loads(was) | {"version": 1}
    del plain["encryption"], plain["key_check"]
    plain["disks"][0] |= {"bytes": file.stat().st_size, "sha512": hashlib.sha512(file.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(plain))
    refused(2, "is not encrypted", "--key-file", key)
    manifest.write_text(was)
    # What tells that it is as it was written: changed, cut off, and lost.
    mac = folder / "manifest.hmac"
    proof = mac.read_text()
    mac.write_text(proof[::-1].strip())
    refused(5, changed, "--key-file", key)
    mac.write_text(proof[:20])
    refused(5, "has not its 64 digits", "--key-file", key)
    mac.unlink()
    refused(5, f"manifest.hmac of backup {backup} can't be read", "--key-file", key)
    refused(5, "from a copy of the repository", "--key-file", key)
    mac.write_text(proof)
    refused(2, "is not what was written", "--key-file", key)


def test_a_chain_of_which_one_is_not_encrypted_is_told_as_such(host, repo):
    """Whatever key is named: else one is told to name a key, and then not to."""
    key = host.key("mixed")
    made = [host.created(repo, key_file=str(key), incremental=True)["backup"] for _ in range(2)]
    for n, backup in enumerate(made):
        manifest = next(repo.glob(f"*/{backup}")) / "manifest.json"
        was = manifest.read_text()
        plain = json.loads(was) | {"version": 1}
        del plain["encryption"], plain["key_check"]
        manifest.write_text(json.dumps(plain))
        for args in ((), ("--key-file", key)):
            ran = host.daemon.plim("backup", "verify", made[1], "--from", repo, *args)
            assert ran.status == 5 and f"backups {made[0]} and {made[1]} rest on each other and only one" in ran.err, (n, ran)
        manifest.write_text(was)
    host.daemon.ok("backup", "verify", made[1], "--from", repo, "--key-file", key)


def key_files(folder):
    def file(name, data=None, mode=0o600):
        path = folder / name
        path.write_bytes(os.urandom(32) if data is None else data)
        path.chmod(mode)
        return path

    (folder / "link").symlink_to(file("good"))
    os.mkfifo(folder / "fifo", 0o600)
    os.chown(file("nobody"), 65534, 65534)
    return [("good", 0, "BACKUP_PREPARE web"), ("link", 2, "is a link"), ("fifo", 2, "is no regular file"), ("nobody", 3, "is not root's"),
            (file("open", mode=0o640).name, 3, "chmod 600"), (file("short", b"correct horse").name, 2, "32 to 4096 bytes"),
            (file("long", os.urandom(4097)).name, 2, "32 to 4096 bytes"), (file("zeros", bytes(64)).name, 2, "random"), ("none", 4, "/dev/urandom"),
            (".", 2, "is no regular file")]


def test_a_key_file_that_is_no_secret_is_refused_with_what_to_do(sim, tmp_path):
    sim.ok("vm", "create", "web", "--disk", "1GiB")
    for name, status, word in key_files(tmp_path):
        ran = sim.plim("backup", "create", "web", "--to", tmp_path, "--key-file", f"{tmp_path}/{name}", "--dry-run")
        assert ran.status == status and word in ran.out + ran.err, (name, ran)
    relative = sim.plim("backup", "create", "web", "--to", tmp_path, "--key-file", "key")
    assert relative.status == 2 and "absolute path" in relative.err
    both = sim.plim("backup", "create", "web", "--to", tmp_path, "--key-file", tmp_path / "good", "--no-encryption")
    assert both.status == 2 and "Leave one of them out" in both.err


def test_the_setting_of_a_host_is_used_and_said_to_be_broken(sim, tmp_path):
    sim.ok("vm", "create", "web", "--disk", "1GiB")
    sim.ok("host", "set", "testhost", f"backup.key_file={tmp_path}/gone")
    refused = sim.plim("backup", "create", "web", "--to", tmp_path)
    assert refused.status == 4 and f"no key file '{tmp_path}/gone'" in refused.err
    sim.ok("backup", "create", "web", "--to", tmp_path, "--no-encryption")
    until(lambda: sim.runtime("web")["operation"] is None, "end of the backup")
