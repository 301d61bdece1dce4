"""Peak memory of some work, in a process of its own: resident on a CPU, allocated on CUDA."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

__all__ = ["MEASURABLE_BYTES", "Peak", "measure_peak"]

MEASURABLE_BYTES = 8 * 2**20
"""Less than this is no figure: the allocator holds about as much back."""
_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Peak:
    """What some work took, in bytes.

    Attributes:
        added: At the peak, beside what was there before.
        before: What was there before.
        shared: The part of both that is mapped from files, as libraries are: processes have it together.
    """

    added: int
    before: int
    shared: int

    def of_processes(self, count: int) -> int:
        """What so many processes take at their peaks that do this at once."""
        return self.shared + count * (self.before + self.added - self.shared)


def measure_peak(start: Callable[..., Callable[[], object]], *arguments: object) -> Peak:
    """The peak of some work.

    Args:
        start: Makes the work ready in a new process, and returns it.
        *arguments: What `start` is given.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(start, arguments, there, torch.get_num_threads()))
    process.start()
    there.close()
    try:
        found: Peak = here.recv()
    finally:
        process.join()
    return found


def _measure(
    start: Callable[..., Callable[[], object]], arguments: tuple[object, ...], pipe: Connection, threads: int
) -> None:
    torch.set_num_threads(threads)
    work = start(*arguments)
    pipe.send(_allocated(work) if torch.cuda.is_available() and torch.cuda.is_initialized() else _resident(work))


def _allocated(work: Callable[[], object]) -> Peak:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return Peak(torch.cuda.max_memory_allocated() - before, before, shared=0)


def _resident(work: Callable[[], object]) -> Peak:
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    if _FORGET.exists():
        _FORGET.write_text("5")
    before = _highest()
    work()
    return Peak(max(0, _highest() - before), before, shared=_of_status("RssFile"))


def _highest() -> int:
    if _STATUS.exists():
        return _of_status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _of_status(name: str) -> int:
    if not _STATUS.exists():
        return 0
    found = [line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:")]
    return 1024 * int(found[0].split()[1]) if found else 0
