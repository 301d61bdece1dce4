"""What a row of results says of where it came from: versions, commit, machine, memory."""

from __future__ import annotations

import contextlib
import datetime
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from softprompt.pretraining.card import machine

__all__ = ["reset_memory", "stored_bytes", "traces"]

_CLEAR = Path("/proc/self/clear_refs")
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


def reset_memory(device: torch.device) -> None:
    """Begin the peak of memory anew: the device's; on a CPU, the process's, where Linux lets us."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        with contextlib.suppress(OSError):  # a container may keep it shut; the peak is then of the process's life
            _CLEAR.write_text("5", encoding="ascii")  # proc(5): the peak of resident memory becomes the present one


def stored_bytes(folder: Path | None) -> int | None:
    """Bytes of the files of values in a folder that a run left; None if it left none."""
    return None if folder is None else sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


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


def _peak_memory(device: torch.device) -> int | None:
    """Since `reset_memory`: what the device's allocator gave, or what was resident on a CPU; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not _CLEAR.exists():
        return None
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
