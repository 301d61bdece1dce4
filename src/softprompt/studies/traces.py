"""What a row of results says of where it came from: versions, commit, machine, memory."""

from __future__ import annotations

import datetime
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from softprompt.loop.memory import peak_memory
from softprompt.pretraining.card import machine

__all__ = ["stored_bytes", "traces"]

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
        "peak_memory_bytes": peak_memory(device),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


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
