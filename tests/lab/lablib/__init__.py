# SPDX-License-Identifier: Apache-2.0
"""KVM hosts without hardware, for tests; see docs/lab.md.

    with Lab(HostSpec("a"), HostSpec("b", cpu="max,-avx2")) as lab:
        result = lab["a"].run(["ping", "-c1", "b"], timeout=20)
"""
from .errors import LabError, LabTimeout, Unavailable
from .kernel import boot_files
from .pool import Host, HostSpec, Lab
from .product import build_folder, wait_for
from .session import Command, Result

__all__ = ["Command", "Host", "HostSpec", "Lab", "LabError", "LabTimeout", "Result", "Unavailable",
           "boot_files", "build_folder", "wait_for"]
