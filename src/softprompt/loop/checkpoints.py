"""Checkpoints: atomic and complete, and read back exactly, without a pickle.

A state is whatever a training holds: nested mappings, lists and tuples of tensors, arrays and plain values.
Tensors and arrays go to a safetensors file, the rest, with the shape of the nest, to JSON. Everything comes back
as it was: dtypes, tuples, integer keys, None, and floats to the last bit.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softprompt.artefact import read_folder, read_metadata, write_folder
from softprompt.errors import ArtefactError

__all__ = ["flatten", "latest_checkpoint", "load_checkpoint", "prune", "save_checkpoint", "unflatten"]

_NAME = "checkpoint"
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_FOLDER = re.compile(r"step-(\d+)")


def save_checkpoint(directory: str | Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint `step-NUMBER`; it appears at once and complete, or not at all.

    Args:
        directory: Where a training's checkpoints lie.
        step: Steps taken so far.
        state: See the module; tensors may lie on any device and come back on the CPU.

    Returns:
        The checkpoint's folder.

    Raises:
        ArtefactError: If the state holds something that cannot be stored.
    """
    tensors, nest = flatten(state)
    return write_folder(Path(directory) / f"step-{step:09d}", _NAME, tensors, {"step": step, "state": nest})


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the state of a checkpoint, tensors on the CPU.

    Raises:
        ArtefactError: If the folder is missing, truncated or foreign.
    """
    tensors, metadata = read_folder(path, _NAME)
    try:
        return unflatten(tensors, metadata["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} does not hold the state of a training ({error!r}); use another.") from None


def latest_checkpoint(directory: str | Path) -> Path | None:
    """The complete checkpoint with the most steps, or None if there is none."""
    for path in reversed(_checkpoints(directory)):
        try:
            read_metadata(path, _NAME)
        except ArtefactError:
            continue
        if (path / f"{_NAME}.safetensors").is_file():
            return path
    return None


def prune(directory: str | Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep`, and drafts, which a training that was killed could not remove."""
    paths = _checkpoints(directory)
    for path in [*paths[: max(0, len(paths) - keep)], *Path(directory).glob(".step-*")]:
        shutil.rmtree(path, ignore_errors=True)


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Take a state apart: its tensors by number, and a JSON value that says where they stand.

    Raises:
        ArtefactError: If a value is none of mapping, list, tuple, tensor, array and plain value.
    """
    tensors: dict[str, Tensor] = {}

    def take(value: Any, place: str) -> Any:
        match value:
            case None | bool() | int() | str():
                return value
            case float():
                return {"float": value.hex()}
            case Tensor():
                return store(value)
            case np.ndarray():
                return {"array": store(torch.from_numpy(value.copy()))}
            case Mapping():
                return {"items": [[take(k, f"{place} key"), take(v, f"{place}.{k}")] for k, v in value.items()]}
            case list() | tuple():
                kind = "list" if isinstance(value, list) else "tuple"
                return {kind: [take(item, f"{place}.{index}") for index, item in enumerate(value)]}
        raise ArtefactError(
            f"A checkpoint cannot hold {type(value).__name__} (at state{place}); store its tensors and plain values."
        )

    def store(tensor: Tensor) -> dict[str, Any]:
        name = str(len(tensors))
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            # Folders refuse NaN and infinity, but a training that holds one must still be able to stop and go on.
            tensors[name] = tensor.detach().contiguous().view(_BITS[tensor.element_size()])
            return {"bits": [name, str(tensor.dtype).removeprefix("torch.")]}
        tensors[name] = tensor
        return {"tensor": name}

    nest = take(state, "")
    return tensors, nest


def unflatten(tensors: Mapping[str, Tensor], nest: Any) -> Any:
    """Put together what `flatten` took apart."""
    if not isinstance(nest, dict):
        return nest
    [(kind, value)] = nest.items()
    match kind:
        case "float":
            return float.fromhex(value)
        case "tensor":
            return tensors[value]
        case "array":
            return unflatten(tensors, value).numpy()
        case "bits":
            name, dtype = value
            return tensors[name].view(getattr(torch, dtype))
        case "items":
            return {unflatten(tensors, k): unflatten(tensors, v) for k, v in value}
        case "list":
            return [unflatten(tensors, item) for item in value]
        case "tuple":
            return tuple(unflatten(tensors, item) for item in value)
    raise ValueError(f"unknown mark {kind!r}")


def _checkpoints(directory: str | Path) -> list[Path]:
    """Folders named like checkpoints, fewest steps first."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    found = [(int(match[1]), path) for path in directory.iterdir() if (match := _FOLDER.fullmatch(path.name))]
    return [path for _, path in sorted(found)]
