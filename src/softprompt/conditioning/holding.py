"""Prompts computed once for several passes, whose gradients reach them together behind these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from softprompt.conditioning.joining import Applied
from softprompt.errors import ConfigError

__all__ = ["Held"]


@final
class Held:
    """Applied prompts, cut off from what they were computed from until they are released.

    Args:
        applied: Prompts by name, with gradients to their parameters.
    """

    def __init__(self, applied: Mapping[str, Applied]) -> None:
        self._cuts: list[tuple[Tensor, Tensor]] = []
        self._applied = {name: self._cut_off(one) for name, one in applied.items()}

    def applied(self, names: Sequence[str | None]) -> list[Applied]:
        """The distinct prompts of a batch, in order of appearance.

        Raises:
            ConfigError: If one of them is not held, or not any more.
        """
        wanted = [name for name in dict.fromkeys(names) if name is not None]
        for name in wanted:
            if name not in self._applied:
                raise ConfigError(
                    f"The prompt {name!r} is not held (any more); name it in hold, and run its rows inside the block."
                )
        return [self._applied[name] for name in wanted]

    def release(self) -> None:
        """Bring the gradients of all passes to the prompts' parameters; nothing is held any more."""
        reached = [(made, leaf.grad) for made, leaf in self._cuts if leaf.grad is not None]
        if reached:
            made, gradients = zip(*reached, strict=True)
            torch.autograd.backward(made, gradients)
        self._cuts, self._applied = [], {}

    def _cut_off(self, applied: Applied) -> Applied:
        given = applied.keys_values or {}
        cut = {site: (self._leaf(keys), self._leaf(values)) for site, (keys, values) in given.items()}
        return replace(
            applied,
            rows=None if applied.rows is None else self._leaf(applied.rows),
            keys_values=cut or None,
            head={name: self._leaf(weight) for name, weight in applied.head.items()},
        )

    def _leaf(self, made: Tensor) -> Tensor:
        if not made.requires_grad:
            return made
        leaf = made.detach().requires_grad_()
        self._cuts.append((made, leaf))
        return leaf
