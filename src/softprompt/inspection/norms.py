"""How long a prompt's vectors are, beside those of real words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Site
from softprompt.inspection.activations import prefix_layers, word_activations
from softprompt.prompts import SoftPrompt

__all__ = ["Norms", "prompt_norms", "shares_below"]

_WORDS = 1000
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@final
@dataclass(frozen=True, kw_only=True)
class Norms:
    """Euclidean norms of the vectors of a prompt, or of one layer of a prefix, and of those of words.

    Attributes:
        of: `rows`, or of a prefix `keys` or `values`, all heads side by side.
        prompt: The norm of each virtual token's vector.
        words: Quantiles of the norms of words, by share: of the embedding table, or of what the layer makes of the
            1,000 most common tokens, each a text of its own.
        below: For each virtual token, the share of words whose norm is smaller.
        stack: Of a prefix, the stack.
        layer: Of a prefix, the layer.
    """

    of: str
    prompt: tuple[float, ...]
    words: Mapping[str, float]
    below: tuple[float, ...]
    stack: str | None = None
    layer: int | None = None


def shares_below(values: Float[Tensor, " some"], among: Float[Tensor, " many"]) -> Float[Tensor, " some"]:
    """For each value the share of others that are smaller."""
    return torch.searchsorted(among.sort().values, values) / len(among)


@torch.no_grad()
def prompt_norms(backbone: Backbone, prompt: SoftPrompt) -> tuple[Norms, ...]:
    """The norms of a prompt's rows; of a prefix, of its keys and of its values in each layer.

    Args:
        backbone: The frozen model.
        prompt: The prompt.

    Raises:
        UnsupportedError: If it is a prefix, and the model's layers cannot be given keys and values.
    """
    rows = prompt().rows
    if rows is not None:
        table = backbone.embed(torch.arange(backbone.spec.vocab, device=backbone.device)).float().cpu()
        return (_norms("rows", rows.float().cpu(), table),)
    layers = prefix_layers(backbone, prompt)
    words = word_activations(backbone, backbone.common_tokens(_WORDS), tuple(layers))
    return tuple(
        _norms(of, given[:, part], words[site][:, part], site)
        for site, given in layers.items()
        for part, of in enumerate(("keys", "values"))
    )


def _norms(of: str, vectors: Tensor, words: Tensor, site: Site | None = None) -> Norms:
    ours, theirs = vectors.norm(dim=-1), words.norm(dim=-1)
    # not torch.quantile, which refuses large tables
    ordered, last = theirs.sort().values, len(theirs) - 1
    return Norms(
        of=of,
        prompt=tuple(ours.tolist()),
        words={f"{share:g}": float(ordered[round(share * last)]) for share in _QUANTILES},
        below=tuple(shares_below(ours, theirs).tolist()),
        stack=None if site is None else site.stack,
        layer=None if site is None else site.layer,
    )
