"""Memory of the device that computes: what is held, what was held at most, and what is free."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

import torch

__all__ = ["free_memory", "held_memory", "peak_memory", "reset_memory"]

_GROUP = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
_CLEAR, _STATUS, _MACHINE = Path("/proc/self/clear_refs"), Path("/proc/self/status"), Path("/proc/meminfo")


def reset_memory(device: torch.device) -> int | None:
    """Begin the peak of memory anew: the device's; on a CPU, the process's, where Linux lets us.

    What was freed is given back first, so that it is not taken for memory of what begins now.

    Returns:
        Bytes that are held now, as `held_memory` tells them.
    """
    _give_back()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        with contextlib.suppress(OSError):  # a container may keep it shut; the peak is then of the process's life
            _CLEAR.write_text("5", encoding="ascii")  # proc(5): the peak of resident memory becomes the present one
    return held_memory(device)


def _give_back() -> None:
    """Return what was freed to the system: Python's cycles of garbage, and what glibc keeps of a process's memory."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory(device: torch.device) -> int | None:
    """Bytes, since `reset_memory`: what the device's allocator gave, or what was resident on a CPU; None if unknown."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _line(_STATUS, "VmHWM")


def held_memory(device: torch.device) -> int | None:
    """Bytes that the device's allocator has given now, or that are resident on a CPU; None if unknown."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _line(_STATUS, "VmRSS")


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had: of the device, or of the machine and the container on a CPU; None if unknown."""
    if device.type != "cuda":
        known = [free for free in (_line(_MACHINE, "MemAvailable"), _left_to_group()) if free is not None]
        return min(known, default=None)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def _left_to_group() -> int | None:
    """What a container, or a job of a cluster, may still take; None if it has no bound of its own."""
    for most, used in _LIMITS:
        try:
            return int((_GROUP / most).read_text("ascii")) - int((_GROUP / used).read_text("ascii"))
        except (OSError, ValueError):  # no such group, or `max`
            continue
    return None


def _line(file: Path, name: str) -> int | None:
    """A value of a file of Linux, which counts in KiB."""
    if not file.exists():
        return None
    lines = file.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
