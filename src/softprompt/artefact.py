"""The folder format that everything softprompt keeps is stored in: tensors, metadata, and further files.

A folder holds `NAME.safetensors` and `NAME.json`; other libraries' folders may call the latter otherwise. It is never
half written: it is made beside its place, flushed to disk, and renamed. Where it replaces an older one, a kill in the
instant between two renames leaves the older one beside its place, as `.NAME.old.*`. Tensors are read with safetensors
only; a pickle is never opened.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from softprompt.errors import ArtefactError

__all__ = ["read_folder", "read_metadata", "replace_folder", "write_folder"]


def write_folder(
    path: str | Path,
    name: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    files: Mapping[str, str] | None = None,
    *,
    metadata_name: str | None = None,
) -> Path:
    """Write a folder atomically; an older one of the same kind at `path` is replaced.

    Args:
        path: The folder.
        name: Stem of the tensor and metadata files, e.g. `prompt`.
        tensors: What `NAME.safetensors` holds; copied to the CPU, made contiguous, shared memory allowed.
        metadata: What `NAME.json` holds; finite plain values.
        files: Further text files by name, e.g. `README.md`.
        metadata_name: Stem of the metadata file, if it is not `name`.

    Returns:
        The folder.

    Raises:
        ArtefactError: If `path` is an existing file, a folder of something else, or one with further files; or if a
            value of `metadata` is NaN or infinite, or a text has half a character.
    """
    path, marker, stored = Path(path), f"{metadata_name or name}.json", f"{name}.safetensors"
    _check_replaceable(path, name, marker, {marker, stored, *(files or {})})
    try:
        text = json.dumps(metadata, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        written = {one: content.encode() for one, content in {marker: text, **(files or {})}.items()}
    except ValueError as error:
        raise ArtefactError(
            f"{path / marker} cannot hold what it is given ({error}); give finite plain values and whole characters."
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        draft.chmod(0o755)
        save_file(
            {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()},
            draft / stored,
        )
        for one, content in written.items():
            (draft / one).write_bytes(content)
        for file in draft.iterdir():
            file.chmod(0o644)  # safetensors makes its files readable by their owner alone
            _flush(file)
        replace_folder(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return path


def read_folder(
    path: str | Path, name: str, *, metadata_name: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_folder` wrote: the tensors, on the CPU, and the metadata.

    Args:
        path: The folder.
        name: Stem of the tensor file.
        metadata_name: Stem of the metadata file, if it is not `name`.

    Raises:
        ArtefactError: If a file is missing, truncated or foreign, or a value is not finite.
    """
    metadata = read_metadata(path, metadata_name or name)
    file = Path(path) / f"{name}.safetensors"
    try:
        tensors = load_file(file)
    except FileNotFoundError:
        raise ArtefactError(f"{path} has no {file.name}: the folder is incomplete; copy it again.") from None
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{file} is truncated or not a safetensors file ({error}); copy it again.") from None
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ArtefactError(f"{file} holds NaN or infinite values in {key!r}; it cannot be used.")
    return tensors, metadata


def read_metadata(path: str | Path, name: str) -> dict[str, Any]:
    """Read `NAME.json` of a folder.

    Raises:
        ArtefactError: If the file is missing, may not be read or is not a JSON mapping.
    """
    file = Path(path) / f"{name}.json"
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtefactError(
            f"{path} is not a{'n' * (name[0] in 'aeiou')} {name} folder: it has no {file.name}."
        ) from None
    except OSError as error:
        raise ArtefactError(f"{file} cannot be read ({error.strerror}); see to who may read it.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"{file} is not valid JSON ({error}); copy the folder again.") from None
    if not isinstance(metadata, dict):
        raise ArtefactError(f"{file} should hold a mapping, but holds {type(metadata).__name__}.")
    return metadata


def _check_replaceable(path: Path, name: str, marker: str, written: set[str]) -> None:
    """Refuse to replace what is not ours, and to lose what else a folder holds (such as a clone's `.git`)."""
    there = {file.name for file in path.iterdir()} if path.is_dir() else set()
    if path.is_file() or (there and marker not in there):
        raise ArtefactError(f"{path} exists and is not a {name} folder; choose another path or remove it.")
    if others := sorted(there - written):
        raise ArtefactError(f"{path} holds {', '.join(others[:3])}, which would be lost; choose another path.")


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_folder(draft: Path, path: Path) -> None:
    """Put the folder `draft` in `path`'s place. A crash between the two renames leaves the old one as `.NAME.old.*`."""
    if not path.exists():
        os.rename(draft, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    os.rename(path, old / path.name)
    try:
        os.rename(draft, path)
    except BaseException:
        os.rename(old / path.name, path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
