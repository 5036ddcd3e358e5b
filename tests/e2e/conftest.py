# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from daemon import Daemon  # noqa: E402  (found by the line above)


@pytest.fixture
def make_daemon():
    made = []

    def make(engine, start=True):
        made.append(Daemon(engine))
        if start:
            made[-1].start()
        return made[-1]
    yield make
    for d in made:
        d.close()


@pytest.fixture
def sim(make_daemon):
    """A daemon whose guests are simulated."""
    return make_daemon("sim")


@pytest.fixture
def daemon(make_daemon):
    """A daemon that runs QEMU."""
    return make_daemon("qemu")
