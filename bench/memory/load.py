# SPDX-License-Identifier: Apache-2.0
"""Clients of a web server: each asks, waits for the answer, thinks for a while, and asks again, over one connection."""
import asyncio
import random
import re
import time

PATIENCE = 60.0
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


async def get(reader, writer, path):
    """The body. Raises OSError when there is none."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: guest\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200 ") or not length:
        raise ConnectionError(f"not an answer: {head[:200]!r}")
    return await reader.readexactly(int(length[1]))


async def leave(tasks):
    """A task that just had its answer may miss that it is cancelled: it is told again."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=1)


class Clients:
    """Those of one server, from none to as many as are asked for. What they saw: [(when it ended, seconds or None: failed)].

    The first answer of a connection is not in it: the server makes a worker for it.
    """

    def __init__(self, port, path, think, seed):
        self.port, self.path, self.think = port, path, think
        self.random = random.Random(seed)
        self.tasks = []
        self.seen = []
        self.asking = None  # (reader, writer)

    def set(self, count):
        """So many from now on; those who leave hang up."""
        while len(self.tasks) > count:
            self.tasks.pop().cancel()
        while len(self.tasks) < count:
            self.tasks.append(asyncio.ensure_future(self.live()))

    async def live(self):
        while asyncio.current_task() in self.tasks:
            writer = None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                await asyncio.wait_for(get(reader, writer, self.path), PATIENCE)
                while asyncio.current_task() in self.tasks:
                    await asyncio.sleep(self.think * self.random.uniform(0.5, 1.5))
                    begin = time.monotonic()
                    await asyncio.wait_for(get(reader, writer, self.path), PATIENCE)
                    self.seen.append((time.monotonic(), time.monotonic() - begin))
            except (OSError, EOFError, asyncio.TimeoutError):
                self.seen.append((time.monotonic(), None))
                await asyncio.sleep(self.think)
            finally:
                if writer:
                    writer.close()

    async def ask(self, path):
        """One request, over a connection that is kept for these."""
        if self.asking is None:
            self.asking = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            return await asyncio.wait_for(get(*self.asking, path), PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError):
            self.hang_up()
            raise

    def hang_up(self):
        if self.asking:
            self.asking[1].close()
        self.asking = None

    async def end(self):
        self.hang_up()
        tasks, self.tasks = self.tasks, []
        await leave(tasks)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summary(seen, seconds):
    """What was served within that time."""
    good = [took * 1000 for _, took in seen if took is not None]
    return {"per_second": len(good) / seconds, "p50_ms": percentile(good, .5) if good else None,
            "p99_ms": percentile(good, .99) if good else None, "failed": len(seen) - len(good)}
