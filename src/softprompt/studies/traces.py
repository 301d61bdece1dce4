"""What a row of results says of where it came from: versions, commit, machine, memory."""

from __future__ import annotations

import datetime
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from softprompt.pretraining.card import machine

__all__ = ["reset_memory", "traces"]

_LIBRARIES = ("softprompt", "torch", "transformers")


def traces(device: torch.device) -> dict[str, Any]:
    """Plain values for a row.

    Args:
        device: Where the run was computed.
    """
    return {
        **{f"version_{name}": version(name) for name in _LIBRARIES},
        "commit": _commit(),
        "machine": machine(device),
        "process_peak_memory_bytes": _peak_memory(device),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def reset_memory(device: torch.device) -> None:
    """Begin the peak of the device's memory anew; a CPU process only knows that of its whole life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _commit() -> str | None:
    """The commit of the checkout that runs, if it is one; `-dirty` where its files differ from it."""

    def git(*arguments: str) -> str:
        asked = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # installed elsewhere, it is no part of a repository
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _peak_memory(device: torch.device) -> int:
    """Of the process so far (CPU), or of the device's allocator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
