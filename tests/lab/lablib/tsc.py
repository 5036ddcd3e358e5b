# SPDX-License-Identifier: Apache-2.0
"""How fast this machine's time-stamp counter counts, which is what a lab host's does under TCG."""
import ctypes
import functools
import mmap
import time

RDTSC = bytes.fromhex("0f3148c1e2204809d0c3")  # rdtsc; shl $32,%rdx; or %rdx,%rax; ret
SPAN = 0.1
TRIES = 50


@functools.lru_cache(maxsize=None)
def tsc_khz():
    """Measured once. A lab host on a busy machine that measures it at its boot can be wrong by a factor."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(RDTSC)
        place = ctypes.c_char.from_buffer(page)
        rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(place))
        first = closest(rdtsc)
        time.sleep(SPAN)
        last = closest(rdtsc)
        del place  # or the page can't be closed
    return round((last[1] - first[1]) * 1e6 / (last[0] - first[0]))


def closest(rdtsc):
    """(ns of the monotonic clock, the counter) at one moment: the try between whose two looks at the clock least went by."""
    looks = ((time.monotonic_ns(), rdtsc(), time.monotonic_ns()) for _ in range(TRIES))
    before, count, after = min(looks, key=lambda look: look[2] - look[0])
    return (before + after) // 2, count
