# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of the bench's own: in a mount namespace where its folders are empty, without systemd.

What differs from a packaged one, all of it in libvirt's favour or neutral: no security driver, no mount namespace
and no control group for each guest (so that the bench can run with a real-time priority), no change of owners. A /dev/kvm that the host does not use is hidden:
libvirt would probe QEMU again at every start.
"""
import os
import pathlib
import shutil
import subprocess
import time

PACKAGES = ["libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients"]
DEADLINE = 60
# Its shell becomes the parent of the QEMUs that libvirtd leaves behind, and reaps them: a destroy waits for that, and
# the first process of a container may take a second over it.
NAMESPACE = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
FOLDERS = "/var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/libvirt"

# $1: a folder of ours. libvirt-qemu must exist before any configuration is read; the limit is that of its unit.
SCRIPT = f"""
set -e
mount --make-rprivate /
cp /etc/passwd /etc/group "$1"
for f in passwd group; do
    grep -q ^libvirt-qemu: "$1/$f" || cat "$1/$f.more" >> "$1/$f"
    mount --bind "$1/$f" /etc/$f
done
[ ! -e "$1/no-kvm" ] || mount --bind "$1/no-kvm" /dev/kvm
mount -t tmpfs none /run
for d in {FOLDERS}; do mkdir -p $d; mount -t tmpfs none $d; done
cp "$1/qemu.conf" /etc/libvirt/
ulimit -n 8192
libvirtd -f "$1/libvirtd.conf" -p "$1/pid" &
wait
"""


def installed():
    return all(shutil.which(program) for program in ("libvirtd", "virsh"))


def install():
    subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))


class Libvirt:
    def __init__(self, folder, user, hide_kvm):
        self.dir = pathlib.Path(folder)
        self.dir.mkdir()
        self.uri = f"qemu+unix:///system?socket={self.dir}/libvirt-sock"
        self.virsh = shutil.which("virsh")
        self.process = None
        self.write("libvirtd.conf", f'unix_sock_dir = "{self.dir}"\nunix_sock_group = "root"\n'
                                    f'auth_unix_rw = "none"\nlog_outputs = "3:file:{self.dir}/log"\n')
        self.write("qemu.conf", f'user = "{user}"\ngroup = "{user}"\nsecurity_driver = "none"\n'
                                'stdio_handler = "file"\nnamespaces = []\ncgroup_controllers = []\ndynamic_ownership = 0\n')
        self.write("passwd.more", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n")
        self.write("group.more", "libvirt-qemu:x:64055:\n")
        if hide_kvm and os.path.exists("/dev/kvm"):
            self.write("no-kvm", "")

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text)
        path.chmod(0o600 if name == "no-kvm" else 0o644)

    def __enter__(self):
        with open(self.dir / "out", "wb") as out:
            self.process = subprocess.Popen([*NAMESPACE, "sh", "-c", SCRIPT, "sh", str(self.dir)],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_ready(self):
        deadline = time.monotonic() + DEADLINE
        while self.ask("version").returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = self.dir / "log"
                raise SystemExit("libvirtd is not ready: " + (self.dir / "out").read_text() +
                                 (log.read_text() if log.exists() else ""))
            time.sleep(0.1)

    def __exit__(self, *_):
        for name in self.ask("list", "--name").stdout.split():
            self.ask("destroy", name)
        self.process.kill()  # and with it all that is in its namespace
        self.process.wait(DEADLINE)

    def ask(self, *words):
        return subprocess.run([self.virsh, "-q", "-c", self.uri, *words], capture_output=True, text=True)

    def define(self, xml):
        self.write("domain.xml", xml)
        done = self.ask("define", str(self.dir / "domain.xml"))
        if done.returncode != 0:
            raise SystemExit("libvirt does not take the domain: " + done.stderr)
