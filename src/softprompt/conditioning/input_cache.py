"""Keys and values of inputs that stand before their prompts, kept from epoch to epoch.

They depend on no prompt, so they never change while prompts are trained: an input is read once, however often its row
is drawn, by whichever run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, final

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from softprompt.backbones import Backbone

__all__ = ["InputCache", "first_tokens", "keeps_all"]

Ids = tuple[int, ...]
_Layers = list[tuple[Tensor, Tensor]]
"""Keys and values `[kv_heads, tokens, head_dim]` of each layer."""


def keeps_all(past: object) -> TypeGuard[DynamicCache]:
    """Whether a model's cache keeps the keys and values of every token in every layer; windows forget the first."""
    return isinstance(past, DynamicCache) and all(
        type(layer) is DynamicLayer and layer.is_initialized for layer in past.layers
    )


@final
class InputCache:
    """What is known of inputs, up to a bound; what came first stays, as an epoch reads all rows in another order.

    Args:
        limit_bytes: Most bytes of keys and values.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._known: dict[Ids, _Layers] = {}
        self.held_bytes = 0

    def past(self, backbone: Backbone, inputs: Sequence[Ids], read: Callable[[list[int]], Any]) -> Any:
        """The model's cache behind some inputs, padded on the left; only those that are not known are read.

        Args:
            backbone: The model.
            inputs: Token ids of each row.
            read: From the numbers of some rows to the model's cache behind them, padded on the left.
        """
        unknown = [row for row, ids in enumerate(inputs) if ids not in self._known]
        fresh: dict[int, _Layers] = {}
        if unknown:
            made = read(unknown)
            if keeps_all(made):
                fresh = {row: _cut_out(made, place, len(inputs[row])) for place, row in enumerate(unknown)}
            for row, layers in fresh.items():
                self._keep(inputs[row], layers)
            if len(unknown) == len(inputs):
                return made
        found = [fresh[row] if row in fresh else self._known[ids] for row, ids in enumerate(inputs)]
        past = DynamicCache(config=backbone.model.config)
        for layer in range(len(found[0])):
            keys, values = (_padded([one[layer][part] for one in found]) for part in (0, 1))
            past.update(keys, values, layer)
        return past

    def _keep(self, ids: Ids, layers: _Layers) -> None:
        size = sum(part.nbytes for pair in layers for part in pair)
        if ids not in self._known and self.held_bytes + size <= self._limit_bytes:
            self._known[ids] = [(keys.clone(), values.clone()) for keys, values in layers]
            self.held_bytes += size


def _cut_out(past: DynamicCache, row: int, tokens: int) -> _Layers:
    """One row's last columns, so many."""
    return [(layer.keys[row, :, -tokens:], layer.values[row, :, -tokens:]) for layer in past.layers]


def _padded(parts: Sequence[Tensor]) -> Tensor:
    """`[batch, kv_heads, longest, head_dim]`, with zeros on the left of shorter ones, where nothing looks."""
    longest = max(part.shape[1] for part in parts)
    return torch.stack([torch.nn.functional.pad(part, (0, 0, longest - part.shape[1], 0)) for part in parts])


def first_tokens(ids: Int[Tensor, "batch seq"], mask: Tensor, counts: Int[Tensor, " batch"]) -> list[Ids]:
    """The first real tokens of each row, so many."""
    return [tuple(row[real][:count].tolist()) for row, real, count in zip(ids, mask, counts.tolist(), strict=True)]
