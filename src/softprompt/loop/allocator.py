"""The C library's allocator: what a step frees, the next one asks for again."""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt(3)
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 256 * 2**20}  # the heap grows by much at once


def keep_freed_memory() -> bool:
    """Let the process keep the memory of large tensors that it frees.

    glibc asks the system for each tensor beyond 32 MiB, and hands it back when it is freed; a training step on the CPU
    then waits for fresh pages, again and again. What is kept counts as resident until the process ends. It concerns
    the whole process, so that a command does it, and not the library; what the environment says (`MALLOC_…_`,
    `GLIBC_TUNABLES`) stays as it is.

    Returns:
        Whether it could be arranged: on Linux with glibc, where the environment says nothing else.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none that is found so
        return False
    done = [mallopt(name, value) for name, value in _KEPT.items()]
    return all(done)
