"""Which rows of a prompt and which tokens of an input one prediction comes from, by gradients.

References:
    Sundararajan et al. 2017 (integrated gradients); Shrikumar et al. 2017 (gradient times input).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried
from softprompt.backbones.heads import token_head_of
from softprompt.conditioning import Prompted
from softprompt.conditioning.forward import decoder_start
from softprompt.conditioning.joining import Applied, Joined, given, join, record_rows
from softprompt.conditioning.losses import IGNORED, token_losses
from softprompt.config import choose
from softprompt.errors import ConfigError, DataError, UnsupportedError
from softprompt.inspection.samples import Asked, Batch, Sample, collate
from softprompt.prompts import PromptTensors, SoftPrompt

__all__ = ["Attribution", "Way", "attribute"]

Way = Literal["integrated", "gradient_x_input"]

_NAME = "prompt"
_AT_ONCE = 16


@final
@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Shares of one prediction's log-probability, in nats.

    Attributes:
        way: `integrated` or `gradient_x_input`.
        said: The text whose log-probability is divided up.
        rows: The share of each virtual token.
        tokens: The share of each token of the input.
        words: The tokens as text.
        layers: Of a prefix, by stack and layer, the part of `rows` that comes through that layer, summed over rows.
        log_probability: Of the prediction.
        baseline: The same with every row and token at the baseline: the mean of the embedding table, for keys and
            values zero.
        gap: By how much all shares together miss `log_probability - baseline`, which integrated gradients add up to but
            for the error of their steps; None of gradient times input, which promises nothing.
    """

    way: Way
    said: str
    rows: tuple[float, ...]
    tokens: tuple[float, ...]
    words: tuple[str, ...]
    layers: Mapping[str, float]
    log_probability: float
    baseline: float
    gap: float | None


@final
@dataclass(frozen=True)
class _Inputs:
    """What is attributed to, `[batch, ...]` each: a prompt's tensors by name, and the input's embeddings."""

    prompt: dict[str, Tensor]
    tokens: Float[Tensor, "batch seq dim"]

    def all(self) -> list[Tensor]:
        return [*self.prompt.values(), self.tokens]

    def along(self, start: _Inputs, steps: Float[Tensor, " steps"]) -> _Inputs:
        """The points between a start and these, all of them leaves of a graph."""

        def between(a: Tensor, b: Tensor) -> Tensor:
            share = steps.view(-1, *[1] * (a.ndim - 1)).to(a)
            return (a + share * (b - a)).detach().requires_grad_()

        return _Inputs(
            {name: between(start.prompt[name], value) for name, value in self.prompt.items()},
            between(start.tokens, self.tokens),
        )


def attribute(
    backbone: Backbone, prompt: SoftPrompt, sample: Sample, *, way: Way = "integrated", steps: int = 64
) -> Attribution:
    """Divide the log-probability of a sample's target among prompt rows and input tokens.

    `integrated` sums, over steps from a baseline to the true values, gradient times distance (Sundararajan et al. 2017,
    §3), at the nodes of Gauss and Legendre. What of the target stands before what is predicted is held fixed.

    Args:
        backbone: The frozen model.
        prompt: The prompt.
        sample: An input with the prediction behind it.
        way: `integrated`, or `gradient_x_input` alone.
        steps: Nodes of the integral.

    Raises:
        ConfigError: If there is no such way, or no steps.
        DataError: If the sample has no target.
        UnsupportedError: If the prompt's head is over tokens, so that there is no one prediction.
    """
    if way not in ("integrated", "gradient_x_input"):
        raise choose("way to attribute", way, ("integrated", "gradient_x_input"))
    if steps < 1:
        raise ConfigError(f"steps={steps}: expected at least 1.")
    if not sample.target:
        raise DataError("Attribution divides up a prediction, but the sample has none; give it a target.")
    if token_head_of(prompt().head) is not None:
        raise UnsupportedError("The prompt's head says something of each token, so there is no one prediction.")
    reader = _Reader.of(backbone, prompt, sample)
    true, start = reader.true, reader.baseline
    with torch.no_grad():
        reached, begun = (float(reader(one)[0]) for one in (true, start))
    if way == "integrated":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        shares = [total.double() for total in reader.gradients(true, start, (nodes + 1) / 2, weights / 2)]
        distances = [b - a for a, b in zip(start.all(), true.all(), strict=True)]
    else:
        shares = reader.gradients(true, start, np.ones(1), np.ones(1))
        distances = true.all()
    found = [share * distance[0].double() for share, distance in zip(shares, distances, strict=True)]
    *of_prompt, of_tokens = found
    rows = torch.stack([_by_row(name, part) for name, part in zip(true.prompt, of_prompt, strict=True)]).sum(0)
    total = float(sum(part.sum() for part in found))
    ids = sample.input.ids
    return Attribution(
        way=way,
        said=sample.said,
        rows=tuple(rows.tolist()),
        tokens=tuple(of_tokens.sum(-1).tolist()),
        words=tuple(f"#{token}" for token in ids)
        if backbone.tokenizer is None
        else tuple(map(str, backbone.tokenizer.convert_ids_to_tokens(ids))),
        layers=_by_layer(backbone, prompt, dict(zip(true.prompt, of_prompt, strict=True))),
        log_probability=reached,
        baseline=begun,
        gap=total - (reached - begun) if way == "integrated" else None,
    )


def _by_row(name: str, part: Tensor) -> Tensor:
    """`[length]`: of rows `[length, dim]`, or of a stack `[layers, 2, kv_heads, length, head_dim]`."""
    return part.sum(-1) if name == "rows" else part.sum((0, 1, 2, 4))


def _by_layer(backbone: Backbone, prompt: SoftPrompt, parts: Mapping[str, Tensor]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, part in parts.items():
        if name != "rows":
            stack = name.removeprefix("keys_values.")
            layers = backbone.spec.stacks[stack].chosen(prompt.layers)
            shares = part.sum((1, 2, 3, 4)).tolist()
            found |= {f"{stack} {layer}": share for layer, share in zip(layers, shares, strict=True)}
    return found


@final
@dataclass(frozen=True, kw_only=True)
class _Reader:
    """From values of prompt and input to the log-probability of the prediction, for many values at once."""

    backbone: Backbone
    prompt: SoftPrompt
    head: Mapping[str, Tensor]
    shared: bool
    asked: Asked
    true: _Inputs
    baseline: _Inputs

    @classmethod
    @torch.no_grad()
    def of(cls, backbone: Backbone, prompt: SoftPrompt, sample: Sample) -> _Reader:
        tensors = prompt()
        place = {"device": backbone.device, "dtype": backbone.dtype}
        named = {n: v.detach().to(**place) for n, v in tensors.named().items() if not n.startswith("head.")}
        tokens = backbone.embed(torch.tensor([sample.input.ids], device=backbone.device))
        table = backbone.embed(torch.arange(backbone.spec.vocab, device=backbone.device))
        mean = table.float().mean(0).to(tokens)  # [dim]
        start = {n: mean.expand_as(v) if n == "rows" else torch.zeros_like(v) for n, v in named.items()}
        return cls(
            backbone=backbone,
            prompt=prompt,
            head={name: value.detach().to(**place) for name, value in tensors.head.items()},
            shared=Prompted(backbone, {_NAME: prompt}).pass_of(_NAME) == "shared",
            asked=Asked(input=sample.input, target=sample.target),
            true=_Inputs({n: v[None] for n, v in named.items()}, tokens),
            baseline=_Inputs({n: v[None] for n, v in start.items()}, mean.expand_as(tokens)),
        )

    def gradients(self, true: _Inputs, start: _Inputs, nodes: np.ndarray, weights: np.ndarray) -> list[Tensor]:
        """The weighted sum of the log-probability's gradients at points between start (0) and truth (1)."""
        totals = [torch.zeros_like(value[0], dtype=torch.float64) for value in true.all()]
        for some in range(0, len(nodes), _AT_ONCE):
            at = torch.tensor(nodes[some : some + _AT_ONCE])
            share = torch.tensor(weights[some : some + _AT_ONCE])
            points = true.along(start, at)
            made = torch.autograd.grad(self(points).sum(), points.all())
            for total, gradient in zip(totals, made, strict=True):
                total += torch.einsum("n...,n->...", gradient.double(), share.to(gradient.device))
        return totals

    def __call__(self, inputs: _Inputs) -> Float[Tensor, " batch"]:
        count = len(inputs.tokens)
        applied = self._applied(inputs)
        batch = collate(self.backbone, [replace(self.asked, prompt=index) for index in range(count)])
        joined = join(self.backbone, applied, batch.rows)
        model_inputs: dict[str, Any] = {
            **joined.model_inputs,
            "inputs_embeds": self._embedded(joined, batch, inputs.tokens),
        }
        model_inputs.pop("input_ids", None)
        return _log_probability(self.backbone, joined, batch, model_inputs, self.head)

    def _applied(self, inputs: _Inputs) -> list[Applied]:
        """One prompt for each of the values."""
        count = len(inputs.tokens)
        several = [PromptTensors.from_named({n: v[i] for n, v in inputs.prompt.items()}) for i in range(count)]
        rows = [tensors.rows for tensors in several if tensors.rows is not None]
        if rows and self.shared:
            keys_values = [*record_rows(self.backbone, rows)]
        else:
            keys_values = [given(self.backbone, tensors, self.prompt.layers) for tensors in several]
        return [
            Applied(
                length=self.prompt.length,
                placement=self.prompt.placement,
                segments=self.prompt.segments,
                rows=None if found else tensors.rows,
                keys_values=found or None,
                head=self.head,
            )
            for tensors, found in zip(several, keys_values, strict=True)
        ]

    def _embedded(self, joined: Joined, batch: Batch, tokens: Tensor) -> Tensor:
        """The joined embeddings with the input's tokens as they are given; what stands behind the input stays."""
        ids = joined.model_inputs.get("input_ids")
        whole = joined.model_inputs["inputs_embeds"] if ids is None else self.backbone.embed(ids)
        at = joined.columns[:, : tokens.shape[1], None].expand(-1, -1, whole.shape[2])
        return whole.scatter(1, at, tokens)


def _log_probability(
    backbone: Backbone, joined: Joined, batch: Batch, inputs: dict[str, Any], head: Mapping[str, Tensor]
) -> Float[Tensor, " batch"]:
    """Log-probability of each row's target, in nats: of its tokens together, or of its class."""
    load, labels = Carried(injection=joined.injection), batch.labels
    assert labels is not None
    if backbone.spec.kind == "encoder-only":
        everyone = torch.arange(len(labels), device=labels.device)
        if head:
            output = backbone.call(load, headless=True, **inputs)
            logits = backbone.head(head, output, inputs, everyone)
        else:
            logits = backbone.call(load, **inputs).logits
        return -token_losses(logits, labels[:, 0])
    if backbone.spec.kind == "encoder-decoder":
        read = decoder_start(backbone, labels)
        logits = backbone.call(load, use_cache=False, decoder_input_ids=read, **inputs).logits
        return -token_losses(logits.flatten(0, 1), labels.flatten()).view(labels.shape).sum(-1)
    logits = backbone.call(load, use_cache=False, **inputs).logits  # [batch, joined, vocab]
    wanted = labels[0] != IGNORED  # the rows differ in their values alone
    columns = joined.columns[0, wanted] - 1
    chosen = logits[:, columns]  # [batch, target, vocab]
    return -token_losses(chosen.flatten(0, 1), labels[:, wanted].flatten()).view(len(labels), -1).sum(-1)
