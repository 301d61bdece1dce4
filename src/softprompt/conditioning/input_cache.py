"""Keys and values of inputs that stand before their prompts, kept from epoch to epoch.

They depend on no prompt, so they never change while prompts are trained: an input is read once, however often its row
is drawn, by whichever run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache

from softprompt.backbones import Backbone

__all__ = ["InputCache", "first_tokens", "keeps_all"]

Ids = tuple[int, ...]
_Layers = list[tuple[Tensor, Tensor]]
"""Keys and values `[kv_heads, tokens, head_dim]` of each layer."""


def keeps_all(past: Any) -> bool:
    """Whether a model's cache keeps the keys and values of every token in every layer; windows forget the first."""
    layers = getattr(past, "layers", None)
    return layers is not None and not any(getattr(layer, "is_sliding", True) for layer in layers)


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

    def read(self, backbone: Backbone, inputs: Sequence[Ids]) -> DynamicCache | None:
        """The model's cache behind some inputs, padded on the left; None if one of them is not known."""
        if any(ids not in self._known for ids in inputs):
            return None
        found = [self._known[ids] for ids in inputs]
        past = DynamicCache(config=backbone.model.config)
        for layer in range(len(found[0])):
            keys, values = (_padded([one[layer][part] for one in found]) for part in (0, 1))
            past.update(keys, values, layer)
        return past

    def keep(self, inputs: Sequence[Ids], past: Any) -> None:
        """Note what a model's cache holds behind some inputs, padded on the left.

        Args:
            inputs: Token ids of each row.
            past: The model's cache.
        """
        if not keeps_all(past) or any(layer.keys is None for layer in past.layers):
            return
        for row, ids in enumerate(inputs):
            if ids not in self._known:
                own = [(layer.keys[row, :, -len(ids) :], layer.values[row, :, -len(ids) :]) for layer in past.layers]
                size = sum(part.numel() * part.element_size() for pair in own for part in pair)
                if self.held_bytes + size <= self._limit_bytes:
                    self._known[ids] = [(keys.clone(), values.clone()) for keys, values in own]
                    self.held_bytes += size


def _padded(parts: Sequence[Tensor]) -> Tensor:
    """`[batch, kv_heads, longest, head_dim]`, with zeros on the left of shorter ones, where nothing looks."""
    longest = max(part.shape[1] for part in parts)
    return torch.stack([torch.nn.functional.pad(part, (0, 0, longest - part.shape[1], 0)) for part in parts])


def first_tokens(ids: Int[Tensor, "batch seq"], mask: Tensor, counts: Int[Tensor, " batch"]) -> list[Ids]:
    """The first real tokens of each row, so many."""
    return [tuple(row[real][:count].tolist()) for row, real, count in zip(ids, mask, counts.tolist(), strict=True)]
