# SPDX-License-Identifier: Apache-2.0
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from daemon import Daemon  # noqa: E402  (found by the line above)
from pool import Pool  # noqa: E402


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


@pytest.fixture
def make_pool(request):
    """make_pool(N): N daemons with simulated guests on loopback, a real etcd; make_pool(N, joined=False): apart yet."""
    made = []

    def make(n, **how):
        made.append(Pool(**how))
        made[-1].start(n)
        return made[-1]
    yield make
    for p in made:
        p.close(failed=getattr(request.node, "failed", False))


@pytest.fixture
def pool(make_pool):
    """Three hosts that are one pool."""
    return make_pool(3)


@pytest.fixture
def folder():
    """Seen by all hosts under one path, and QEMU's user may pass it."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="plim-shared-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
