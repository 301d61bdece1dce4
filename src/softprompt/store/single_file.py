"""Prompts that other libraries keep as one file of rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from softprompt.errors import ArtefactError, UnsupportedError
from softprompt.prompts import SoftPrompt

__all__ = ["front_rows", "write_file", "writing"]


def front_rows(prompt: SoftPrompt, kinds: Collection[str], expected: str) -> Float[Tensor, "length dim"]:
    """The rows of a prompt that stands in front of the input, detached.

    Args:
        prompt: Whose.
        kinds: Of the backbones that the file is for.
        expected: What can be stored, as a sentence without its end.

    Raises:
        UnsupportedError: If it is no such prompt.
    """
    tensors = prompt()
    if tensors.rows is None or prompt.placement != "prepend" or prompt.info.kind not in (None, *kinds):
        raise UnsupportedError(
            f"{expected}; this prompt has {', '.join(tensors.named())}, placement={prompt.placement!r} and kind "
            f"{prompt.info.kind}. Store it with prompt.save."
        )
    return tensors.rows.detach()


def write_file(path: Path, data: bytes, *, example: str) -> None:
    """Write a file, or replace it, so that it is there whole or not at all.

    Args:
        path: The file.
        data: What it is to hold.
        example: A name for it, told where `path` is a folder.

    Raises:
        ArtefactError: If a folder is at `path`, or nothing can be written there.
    """
    if path.is_dir():
        raise ArtefactError(f"{path} is a folder; name the file to write, e.g. {path / example}.")
    with writing(path):
        _replace_file(path, data)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """A block that writes a file or a folder, in which what the system refuses is told by the path that was given.

    Raises:
        ArtefactError: If the system refuses.
    """
    try:
        yield
    except OSError as error:
        raise ArtefactError(
            f"{path} cannot be written ({error.strerror or error}); choose another path, or see to who may write there."
        ) from None


def _replace_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
