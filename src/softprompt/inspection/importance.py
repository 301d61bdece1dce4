"""What each row, layer or head of a prompt is worth: how much worse a task goes without it.

A prompt without a row is another prompt, of one row less. Without a layer, no token of the text looks at the prompt in
that layer; without a head, none in that head. All variants go through the model together, each row of a batch with its
own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Onlooker, Site, looked_on
from softprompt.conditioning.collection import PromptCollection
from softprompt.config import choose
from softprompt.errors import ConfigError, DataError
from softprompt.inference import BatchLimits
from softprompt.inspection.attention import watched_batches
from softprompt.inspection.samples import Asked, Sample, batches, collate, read, row_losses
from softprompt.inspection.variants import without_row
from softprompt.inspection.views import View, prompt_views
from softprompt.prompts import SoftPrompt
from softprompt.tasks import Task, compute_available

__all__ = ["Importance", "LeftOut", "Part", "leave_out"]

Part = Literal["rows", "layers", "heads"]
_PARTS: tuple[Part, ...] = ("rows", "layers", "heads")
_WHOLE, _ROW = "whole", "row "

Progress = Callable[[int], object]


@final
@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """How a task goes with a part of the prompt left out.

    Attributes:
        row: The virtual token that is left out, if one is.
        stack: The stack of the layer in which nobody looks at the prompt, if there is one.
        layer: The layer.
        head: The one of its heads, if not all of them.
        loss: Negative log-likelihood of the targets, in nats per token.
        loss_change: How much more that is than with the whole prompt.
        metrics: The task's scores by ranking its labels; empty without labels.
        metric_changes: How much more these are than with the whole prompt.
    """

    row: int | None = None
    stack: str | None = None
    layer: int | None = None
    head: int | None = None
    loss: float
    loss_change: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    metric_changes: Mapping[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class Importance:
    """How a task goes with a prompt, and without its parts.

    Attributes:
        samples: On how many rows.
        loss: With the whole prompt, in nats per token of the targets.
        metrics: The task's scores with it, by ranking its labels; empty without labels.
        left_out: By row, then by layer, then by head.
    """

    samples: int
    loss: float
    metrics: Mapping[str, float]
    left_out: tuple[LeftOut, ...]


@final
@dataclass(frozen=True)
class _Variant:
    """A prompt by its name, with the layers and heads in which nobody looks at it: all heads if None."""

    prompt: str
    site: Site | None = None
    head: int | None = None


def leave_out(
    backbone: Backbone,
    prompt: SoftPrompt,
    samples: Sequence[Sample],
    task: Task | None = None,
    *,
    parts: Sequence[Part] = _PARTS,
    limits: BatchLimits | None = None,
    progress: Progress | None = None,
) -> Importance:
    """Leave out each row, layer and head of a prompt in turn.

    Args:
        backbone: The frozen model.
        prompt: The prompt.
        samples: Rows with their targets.
        task: The task that they are from, for its metrics; labels are ranked, so a task of free text has a loss alone.
        parts: What to leave out: `rows`, `layers`, `heads`.
        limits: How large a batch may be.
        progress: Called after each batch with its number of rows.

    Raises:
        ConfigError: If there is no such part.
        DataError: If there are no samples, or one has no target.
        UnsupportedError: If layers or heads are to be left out and the model's attention does not go through the
            attention interface, or a row that stands alone in a place of a template.
    """
    for part in parts:
        if part not in _PARTS:
            raise choose("part of a prompt", part, _PARTS)
    if not samples or not all(one.target for one in samples):
        raise DataError("Importance is measured on rows with targets; give at least one, and none without a target.")
    rows = range(prompt.length) if "rows" in parts else ()
    prompts = {_WHOLE: prompt, **{f"{_ROW}{row}": without_row(prompt, row) for row in rows}}
    variants = [_Variant(name) for name in prompts]
    if set(parts) & {"layers", "heads"}:
        heads = _seen_heads(backbone, prompt, samples[0])
        variants += [_Variant(_WHOLE, site) for site in heads if "layers" in parts]
        variants += [
            _Variant(_WHOLE, site, head) for site, count in heads.items() for head in range(count) if "heads" in parts
        ]
    losses = _losses(backbone, prompts, variants, samples, limits, progress)
    scored = [_score(found, samples, task) for found in losses]
    loss, metrics = scored[0]
    return Importance(
        samples=len(samples),
        loss=loss,
        metrics=metrics,
        left_out=tuple(
            _left_out(variant, found, scored[0]) for variant, found in zip(variants[1:], scored[1:], strict=True)
        ),
    )


def _left_out(
    variant: _Variant, found: tuple[float, dict[str, float]], whole: tuple[float, dict[str, float]]
) -> LeftOut:
    """What a variant lacks, and its loss and scores beside those of the whole prompt."""
    (loss, scores), (whole_loss, whole_scores) = found, whole
    return LeftOut(
        row=int(variant.prompt.removeprefix(_ROW)) if variant.site is None else None,
        stack=variant.site and variant.site.stack,
        layer=variant.site and variant.site.layer,
        head=variant.head,
        loss=loss,
        loss_change=loss - whole_loss,
        metrics=scores,
        metric_changes={name: score - whole_scores[name] for name, score in scores.items()},
    )


def _seen_heads(backbone: Backbone, prompt: SoftPrompt, sample: Sample) -> dict[Site, int]:
    """The layers in which the prompt can be seen, and how many heads each has."""
    _, views, weights = next(iter(watched_batches(backbone, prompt, [sample])))
    return {site: weights[site].shape[1] for site, view in views.items() if bool(view.prompt.any())}


@torch.no_grad()
def _losses(
    backbone: Backbone,
    prompts: Mapping[str, SoftPrompt | None],
    variants: Sequence[_Variant],
    samples: Sequence[Sample],
    limits: BatchLimits | None,
    progress: Progress | None,
) -> list[list[list[float]]]:
    """By variant and sample, what its target costs in nats, and then each of its candidates."""
    collection = PromptCollection(backbone, "auto")
    for name, one in prompts.items():
        if one is not None:
            collection.add(name, one)
    texts = [(sample, text) for sample in samples for text in (sample.target, *sample.candidates)]
    numbers = {name: place for place, name in enumerate(collection)}
    rows = [
        (variant, Asked(input=sample.input, target=text, prompt=numbers.get(variant.prompt, -1)))
        for variant in variants
        for sample, text in texts
    ]
    longest = max((one.length for one in collection.values()), default=0)
    applied = collection.applied(list(collection), checkpointing=False)
    waiting = iter(variant for variant, _ in rows)
    found: list[float] = []
    for some in batches([asked for _, asked in rows], longest, limits):
        batch = collate(backbone, some)
        own = list(itertools.islice(waiting, len(some)))
        views = prompt_views(backbone, applied, batch) if any(one.site is not None for one in own) else {}
        with looked_on(_blinders(backbone, own, views)):
            found += row_losses(read(backbone, applied, batch), len(some)).tolist()
        if progress is not None:
            progress(len(some))
    flat = iter(found)
    return [[list(itertools.islice(flat, 1 + len(one.candidates))) for one in samples] for _ in variants]


def _blinders(backbone: Backbone, variants: Sequence[_Variant], views: Mapping[Site, View]) -> Onlooker:
    """Hide the prompt from what each row of a batch leaves out."""
    blind: dict[Site, list[tuple[int, int | None]]] = {}
    for row, variant in enumerate(variants):
        if variant.site is not None:
            blind.setdefault(variant.site, []).append((row, variant.head))

    def hide(module: nn.Module, mask: Tensor, heads: int) -> Tensor:
        site = backbone.sites[module]
        if site not in blind:
            return mask
        view = views[site]
        left_out = torch.zeros(len(view.prompt), heads, dtype=torch.bool, device=mask.device)
        for row, head in blind[site]:
            left_out[row, slice(None) if head is None else head] = True
        unseen = left_out[:, :, None, None] & view.looks[:, None, :, None] & view.prompt[:, None, None, :]
        if mask.dtype == torch.bool:
            return mask & ~unseen
        return mask.masked_fill(unseen, torch.finfo(mask.dtype).min)

    return Onlooker(hide=hide) if blind else Onlooker()


def _score(
    losses: Sequence[Sequence[float]], samples: Sequence[Sample], task: Task | None
) -> tuple[float, dict[str, float]]:
    """Nats per token of the targets; and the task's metrics, of the labels that are most probable."""
    loss = sum(row[0] for row in losses) / sum(len(sample.target) for sample in samples)
    labels = (task.labels or ()) if task is not None else ()
    examples = [sample.example for sample in samples if sample.example is not None]
    if task is None or not labels or len(examples) < len(samples):
        return loss, {}
    if any(len(row) != 1 + len(labels) for row in losses):
        raise ConfigError(f"The samples have other labels than {task.name}; make them of the same task.")
    said = [labels[min(range(len(labels)), key=row[1:].__getitem__)] for row in losses]
    return loss, compute_available(task.metrics, task.answers(examples, said))[0]
