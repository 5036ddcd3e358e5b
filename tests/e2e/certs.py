# SPDX-License-Identifier: Apache-2.0
"""A certificate authority of a test's own, with openssl."""
import pathlib
import subprocess

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr


class Authority:
    """Files in `folder`: ca.pem, and of each certificate NAME.pem and NAME.key."""

    def __init__(self, folder, name="authority"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.ca, self.ca_key = self.folder / "ca.pem", self.folder / "ca.key"
        openssl("req", "-x509", *EC, "-days", "2", "-subj", f"/CN={name}", "-keyout", self.ca_key, "-out", self.ca)

    def sign(self, name, purpose="clientAuth", address=None, named=True):
        """(certificate, key) of `name`, which is its common name if it has one."""
        request, cert, key = (self.folder / f"{name}.{end}" for end in ("csr", "pem", "key"))
        usage = self.folder / f"{name}.ext"
        usage.write_text(f"extendedKeyUsage={purpose}\n" + (f"subjectAltName=IP:{address}\n" if address else ""))
        openssl("req", *EC, "-subj", f"/CN={name}" if named else "/", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial", "-days", "2",
                "-extfile", usage, "-out", cert)
        return cert, key
