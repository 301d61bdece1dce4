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

__all__ = ["traces"]

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
        "peak_memory_bytes": _peak_memory(device),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of the checkout that runs, if it is one."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _peak_memory(device: torch.device) -> int:
    """Of the process so far (CPU), or of the device's allocator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
