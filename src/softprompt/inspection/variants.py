"""A prompt without one of its rows."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch

from softprompt.errors import ShapeError, UnsupportedError
from softprompt.prompts import SoftPrompt
from softprompt.prompts.parameters import DirectPrefix, DirectRows, Parameters, WithHead

__all__ = ["without_row"]


@torch.no_grad()
def without_row(prompt: SoftPrompt, row: int) -> SoftPrompt | None:
    """The same prompt with one virtual token less; None if it has no other.

    Args:
        prompt: The prompt.
        row: Which virtual token, from 0.

    Raises:
        ShapeError: If it has no such row.
        UnsupportedError: If the row stands alone in its place of a template, or alone beside a head.
    """
    if not 0 <= row < prompt.length:
        raise ShapeError(f"A prompt of {prompt.length} rows has no row {row}; give one from 0 to {prompt.length - 1}.")
    tensors = prompt()
    if prompt.length == 1:
        if tensors.head:
            raise UnsupportedError("The prompt's only row cannot be left out, because its head would go with it.")
        return None
    kept = [index for index in range(prompt.length) if index != row]
    changes: dict[str, Any] = {"length": len(kept)}
    if len(prompt.segments) > 1:
        changes["segments"] = _shorter(prompt.segments, row)
    parameters: Parameters
    if tensors.rows is not None:
        parameters = DirectRows(tensors.rows[kept])
    else:
        parameters = DirectPrefix({stack: value[:, :, :, kept] for stack, value in tensors.keys_values.items()})
    if tensors.head:
        parameters = WithHead(parameters, tensors.head)
    method: Any = prompt.method
    return SoftPrompt(parameters, dataclasses.replace(method, **changes), prompt.info)


def _shorter(segments: tuple[int, ...], row: int) -> tuple[int, ...]:
    part = next(part for part, end in enumerate(itertools.accumulate(segments)) if row < end)
    if segments[part] == 1:
        raise UnsupportedError(
            f"Row {row} stands alone in place {part} of the template, which cannot be empty; leave out layers or heads"
            " instead."
        )
    return (*segments[:part], segments[part] - 1, *segments[part + 1 :])
