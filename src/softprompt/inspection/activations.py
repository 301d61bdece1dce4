"""What the layers of a model make of single words: keys and values to hold those of a prefix against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Site
from softprompt.conditioning.joining import given
from softprompt.prompts import SoftPrompt

__all__ = ["prefix_layers", "word_activations"]

_ROWS = 256


@torch.no_grad()
def word_activations(
    backbone: Backbone, tokens: Sequence[int], sites: Sequence[Site] | None = None
) -> dict[Site, Float[Tensor, "tokens 2 width"]]:
    """Keys and values that each layer makes of tokens, each of them a text of its own.

    Args:
        backbone: The frozen model.
        tokens: Token ids.
        sites: Which layers; all if None.

    Returns:
        By layer, keys at index 0 and values at 1, all heads side by side, in float32 on the CPU.

    Raises:
        UnsupportedError: If the model's attention does not go through the attention interface.
    """
    found: dict[Site, list[Tensor]] = {}
    for start in range(0, len(tokens), _ROWS):
        ids = torch.tensor(tokens[start : start + _ROWS], device=backbone.device)[:, None]
        recorded = backbone.record(backbone.embed(ids), torch.ones_like(ids, dtype=torch.bool))
        for site, pair in recorded.items():
            if sites is None or site in sites:
                found.setdefault(site, []).append(torch.stack([part.flatten(1).float().cpu() for part in pair], dim=1))
    return {site: torch.cat(parts) for site, parts in found.items()}


@torch.no_grad()
def prefix_layers(backbone: Backbone, prompt: SoftPrompt) -> Mapping[Site, Float[Tensor, "length 2 width"]]:
    """A prefix by layer, in the same shape, a row for each virtual token; empty for prompts of rows."""
    layers = given(backbone, prompt(), prompt.layers)
    return {
        site: torch.stack([part.transpose(0, 1).flatten(1).float().cpu() for part in pair], dim=1)
        for site, pair in layers.items()
    }
