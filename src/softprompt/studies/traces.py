"""What a row of results says of where it came from: versions, commit, machine, memory."""

from __future__ import annotations

import datetime
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from softprompt.backbones.catalogue import resolve
from softprompt.loop.memory import peak_memory
from softprompt.pretraining.card import machine, read_card

__all__ = ["adapted_steps", "stored_bytes", "traces"]

_LIBRARIES = ("softprompt", "torch", "transformers")


def traces(device: torch.device, held_bytes: int | None) -> dict[str, Any]:
    """Plain values for a row.

    Args:
        device: Where the run was computed.
        held_bytes: What was held of its memory before, as `reset_memory` gave it.
    """
    peak = peak_memory(device)
    return {
        **{f"version_{name}": version(name) for name in _LIBRARIES},
        "commit": _commit(),
        "machine": machine(device),
        "peak_memory_bytes": peak,  # everything in the process; on a GPU, everything that was allocated
        "session_memory_bytes": None if peak is None or held_bytes is None else max(0, peak - held_bytes),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def stored_bytes(folder: Path | None) -> int | None:
    """Bytes of the files of values in a folder that a run left; None if it left none."""
    return None if folder is None else sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def adapted_steps(backbone: str) -> int | None:
    """Steps of adaptation to language modelling behind a first pre-training: 0 without; None where no card tells.

    Args:
        backbone: A hub id, a folder, or `bundled:NAME`.
    """
    card = read_card(resolve(backbone))
    if card is None:
        return None
    return int(card["steps"]) if card["started_from"] else 0


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
