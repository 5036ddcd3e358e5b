# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that need KVM hosts. A machine that can't run the lab skips them, and says why."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from lablib import HostSpec, Lab, Unavailable, boot_files, build_folder  # noqa: E402


@pytest.fixture(scope="session")
def boots():
    """This machine can run lab hosts."""
    try:
        return boot_files()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def build():
    """Meson's build folder: $PLIMSOLL_BUILD, else build/ in the repository; at the same path in lab hosts."""
    path = build_folder()
    if not (path / "build.ninja").exists():
        pytest.skip("%s is not a build folder: build first, or set PLIMSOLL_BUILD" % path)
    return path


@pytest.fixture(scope="session")
def payload(build):
    path = build / "guest/payload/payload.elf"
    if not path.exists():
        pytest.skip("%s is not built" % path)
    return path


@pytest.fixture(scope="session")
def lab(boots):
    """Two hosts on a network, the second without AVX2. Tests leave them as they found them."""
    with Lab(HostSpec("a"), HostSpec("b", cpu="max,-avx2")) as lab:
        yield lab
