"""How much of a model's attention goes to a prompt: by layer and head, by who looks, and from how far.

The weights are those of the very attention function that runs the model, whichever kernel it uses.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Onlooker, Site, looked_on
from softprompt.conditioning.collection import Conditioning, PromptCollection
from softprompt.errors import DataError
from softprompt.inference import BatchLimits
from softprompt.inspection.samples import Asked, Batch, Sample, batches, collate, read
from softprompt.inspection.views import View, prompt_views
from softprompt.prompts import SoftPrompt

__all__ = ["AttentionBand", "LayerAttention", "attention_mass", "watched_batches"]

Looker = Literal["input", "target"]

_NAME = "prompt"
_BANDS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@final
@dataclass(frozen=True, kw_only=True)
class AttentionBand:
    """Tokens at some distance from the prompt.

    Attributes:
        least: How many tokens of the text stand between at least; below the next band's least.
        tokens: How many tokens look from there.
        mass: Share of their attention on the prompt, the mean over heads.
        even: What it would be, if they looked at every column alike that they may look at, windows aside.
    """

    least: int
    tokens: int
    mass: float
    even: float


@final
@dataclass(frozen=True, kw_only=True)
class LayerAttention:
    """Attention onto a prompt in one layer, the mean over the tokens that look.

    Attributes:
        stack: `encoder`, `cross` or `decoder`.
        layer: The layer's index in its stack.
        looker: Whose tokens look: those of the `input`, or those of the `target` (or of what was generated).
        tokens: How many tokens look.
        mass: By head, the share of attention that lies on the prompt, from 0 to 1.
        even: What that would be, if each token looked alike at every column that it may look at, windows aside.
        spread: By head, over how much of the prompt the mass lies: the perplexity of attention within the prompt, as a
            share of its rows; 1 where all rows get the same. None where no token sees the prompt.
        text_distance: By head, how far the attention that does not go to the prompt goes, in tokens: the mean distance
            to the tokens of the text that are looked at. None between two texts, in cross-attention.
        bands: Mass by distance from the prompt; empty in cross-attention.
    """

    stack: str
    layer: int
    looker: Looker
    tokens: int
    mass: tuple[float, ...]
    even: float
    spread: tuple[float | None, ...]
    text_distance: tuple[float, ...] | None
    bands: tuple[AttentionBand, ...] = ()

    @property
    def mean_mass(self) -> float:
        """The mean over heads."""
        return sum(self.mass) / len(self.mass)


def attention_mass(
    backbone: Backbone,
    prompt: SoftPrompt,
    samples: Sequence[Sample],
    *,
    conditioning: Conditioning = "auto",
    limits: BatchLimits | None = None,
) -> list[LayerAttention]:
    """Attention onto a prompt in every layer of the stacks that it reaches.

    Args:
        backbone: The frozen model.
        prompt: The prompt.
        samples: Inputs, and what follows them.
        conditioning: Which pass a prompt of rows takes, as in `Prompted`; both give the same.
        limits: How large a batch may be.

    Returns:
        By stack and layer, for inputs and for targets, where both look.

    Raises:
        DataError: If there are no samples.
        UnsupportedError: If the model's attention does not go through the attention interface.
    """
    sums: dict[tuple[Site, Looker], _Sums] = {}
    for _, views, weights in watched_batches(backbone, prompt, samples, conditioning=conditioning, limits=limits):
        for site, view in views.items():
            lookers: dict[Looker, Tensor] = {"input": view.looks & ~view.is_target, "target": view.is_target}
            for looker, looks in lookers.items():
                if bool(looks.any()):
                    sums.setdefault((site, looker), _Sums()).add(weights[site], view, looks)
    order = {site: place for place, site in enumerate(backbone.sites.values())}
    return [
        found.result(site, looker)
        for (site, looker), found in sorted(sums.items(), key=lambda at: (order[at[0][0]], at[0][1]))
    ]


def watched_batches(
    backbone: Backbone,
    prompt: SoftPrompt,
    samples: Sequence[Sample],
    *,
    conditioning: Conditioning = "auto",
    limits: BatchLimits | None = None,
) -> Iterator[tuple[Batch, dict[Site, View], dict[Site, Tensor]]]:
    """Batches with where the prompt stands in each layer and each layer's attention, `[batch, heads, seq, keys]`.

    Args:
        backbone: The frozen model.
        prompt: The prompt.
        samples: Inputs, and what follows them.
        conditioning: As in `attention_mass`, and so are the limits.
        limits: How large a batch may be.

    Raises:
        DataError: If there are no samples.
        UnsupportedError: If the model's attention does not go through the attention interface.
    """
    if not samples:
        raise DataError("Attention is looked at while texts are read, but there are none; give a task or a text.")
    prompts = PromptCollection(backbone, conditioning)
    prompts.add(_NAME, prompt)
    asked = [Asked(input=one.input, target=one.target) for one in samples]
    for some in batches(asked, prompt.length, limits):
        batch = collate(backbone, some)
        if backbone.spec.kind == "encoder-only":
            batch = Batch(rows=batch.rows, labels=None)
        applied = prompts.applied([_NAME], checkpointing=False)
        weights: dict[Site, Tensor] = {}

        def note(module: nn.Module, found: Tensor, weights: dict[Site, Tensor] = weights) -> None:
            weights[backbone.sites[module]] = found

        # in two parts, as with gradients, the second alone would be seen
        with torch.no_grad(), looked_on(Onlooker(watch=note)):
            views = prompt_views(backbone, applied, batch)
            read(backbone, applied, batch)
        yield batch, views, weights


@final
@dataclass
class _Sums:
    """Sums over the tokens that look, batch by batch, in float64."""

    tokens: int = 0
    mass: Tensor = field(default_factory=lambda: torch.zeros(()))
    even: float = 0.0
    spread: Tensor = field(default_factory=lambda: torch.zeros(()))
    seeing: Tensor = field(default_factory=lambda: torch.zeros(()))
    distance: Tensor | None = None
    bands: dict[int, list[float]] = field(default_factory=dict)

    def add(self, weights: Float[Tensor, "batch heads seq keys"], view: View, looks: Bool[Tensor, "batch seq"]) -> None:
        """Add a batch's tokens that look."""
        kept = weights.double().transpose(1, 2)[looks]  # [tokens, heads, keys]
        row_of, _ = looks.nonzero(as_tuple=True)
        on_prompt = kept * view.prompt[row_of, None]
        mass = on_prompt.sum(-1)  # [tokens, heads]
        within = on_prompt / mass[:, :, None].clamp(min=torch.finfo(mass.dtype).tiny)
        perplexity = torch.special.entr(within).sum(-1).exp() / view.prompt.sum(-1)[row_of, None]
        self.tokens += len(kept)
        self.mass = self.mass + mass.sum(0).cpu()
        self.even += float(view.even[looks].double().sum())
        self.seeing = self.seeing + (mass > 0).sum(0).cpu()
        self.spread = self.spread + perplexity.where(mass > 0, 0.0).sum(0).cpu()
        if view.distance is not None:
            self._add_distances(kept, mass, view, looks, row_of)

    def _add_distances(self, kept: Tensor, mass: Tensor, view: View, looks: Tensor, row_of: Tensor) -> None:
        text = view.text[row_of]  # [tokens, keys]
        apart = (view.index[looks][:, None] - text).abs().where(text >= 0, 0)
        on_text = (kept * (text >= 0)[:, None]).sum(-1)
        distance = (kept * apart[:, None]).sum(-1) / on_text.clamp(min=torch.finfo(mass.dtype).tiny)
        self.distance = distance.sum(0).cpu() + (0.0 if self.distance is None else self.distance)
        assert view.distance is not None
        found = zip(view.distance[looks].tolist(), mass.mean(-1).tolist(), view.even[looks].tolist(), strict=True)
        for gap, share, even in found:
            if gap >= 0:
                band = self.bands.setdefault(_BANDS[bisect.bisect_right(_BANDS, gap) - 1], [0.0, 0.0, 0.0])
                for place, value in enumerate((1.0, share, even)):
                    band[place] += value

    def result(self, site: Site, looker: Looker) -> LayerAttention:
        """The means."""
        seen = zip(self.spread.tolist(), self.seeing.tolist(), strict=True)
        return LayerAttention(
            stack=site.stack,
            layer=site.layer,
            looker=looker,
            tokens=self.tokens,
            mass=tuple((self.mass / self.tokens).tolist()),
            even=self.even / self.tokens,
            spread=tuple(spread / count if count else None for spread, count in seen),
            text_distance=None if self.distance is None else tuple((self.distance / self.tokens).tolist()),
            bands=tuple(
                AttentionBand(least=least, tokens=int(count), mass=mass / count, even=even / count)
                for least, (count, mass, even) in sorted(self.bands.items())
            ),
        )
