"""What prompts are looked at with: inputs and what follows them, as token ids; and the pass that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.backbones.heads import token_head_of
from softprompt.conditioning import Prompted, encoders, forward
from softprompt.conditioning.collection import PromptCollection
from softprompt.conditioning.joining import Applied, Rows
from softprompt.conditioning.losses import IGNORED, Output
from softprompt.conditioning.padding import pad_marks, pad_rows
from softprompt.conditioning.texts import EncodedInput, RenderedInput, encode_inputs, encode_targets, render_input
from softprompt.errors import ConfigError
from softprompt.evaluation.result import draw_rows
from softprompt.inference import BatchLimits
from softprompt.prompts import SoftPrompt
from softprompt.tasks import Example, Task, TextFormat

__all__ = [
    "Asked",
    "Batch",
    "Sample",
    "batches",
    "collate",
    "read",
    "row_losses",
    "task_samples",
    "text_sample",
    "with_prediction",
]

_SAID_TOKENS = 20
_NAME = "prompt"


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """One input and what follows it.

    Attributes:
        input: Token ids, with the marks of a template.
        target: Token ids of what follows; of an encoder the index of a class, alone; empty where nothing does.
        said: The same as text.
        candidates: Token ids of each label, in the labels' order; empty without labels.
        example: The row of a task that it is from, if it is from one.
    """

    input: EncodedInput
    target: tuple[int, ...] = ()
    said: str = ""
    candidates: tuple[tuple[int, ...], ...] = ()
    example: Example | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Asked:
    """One row of a batch.

    Attributes:
        input: The input of a sample.
        target: As in `Sample`; what stands behind the input, or that the decoder is to say.
        prompt: Which of the prompts it takes, by number; -1 for none.
    """

    input: EncodedInput
    target: tuple[int, ...] = ()
    prompt: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows as the passes take them.

    Attributes:
        rows: Inputs; in a decoder-only model with their targets behind them.
        labels: What is to be said, `IGNORED` elsewhere: `[batch, seq]`, `[batch, target]`, or `[batch]` classes.
            None where no row has a target.
    """

    rows: Rows
    labels: Tensor | None


def task_samples(
    backbone: Backbone, prompt: SoftPrompt, task: Task, split: str = "validation", *, rows: int = 32, seed: int = 0
) -> list[Sample]:
    """Rows of a task with their first targets; inputs that are too long are shortened.

    Args:
        backbone: The frozen model.
        prompt: Beside which inputs have to fit.
        task: The task; its own format applies.
        split: Which of its splits.
        rows: How many rows, drawn by the seed.
        seed: Of the draw.

    Raises:
        ConfigError: If the task has no such split, or an encoder-only model is to say free text.
        LengthError: If a template or a target is too long.
    """
    examples = draw_rows(task, split, rows, seed)
    given = [render_input(backbone, task.format, example.columns) for example in examples]
    labels = task.labels or ()
    reads_tokens = backbone.spec.kind == "encoder-only" and token_head_of(prompt().head) is not None
    targets = [
        () if reads_tokens else _goal(backbone, one, row.targets[0], labels)
        for one, row in zip(given, examples, strict=True)
    ]
    options = [() if reads_tokens else tuple(_goal(backbone, one, label, labels) for label in labels) for one in given]
    room = max((len(ids) for ids in [*targets, *(ids for row in options for ids in row)]), default=0)
    inputs = _encoded(backbone, prompt, given, room)
    return [
        Sample(input=row, target=target, said=example.targets[0], candidates=found, example=example)
        for row, target, found, example in zip(inputs, targets, options, examples, strict=True)
    ]


def text_sample(
    backbone: Backbone, prompt: SoftPrompt, text: str, *, target: str | None = None, raw: bool = False
) -> Sample:
    """One input, and what follows it: a given text, or what the model says with the prompt.

    It says the most probable of its labels if the prompt's stored format has any, and otherwise what it generates, 20
    tokens at most.

    Args:
        backbone: The frozen model.
        prompt: The prompt, whose stored template the text fills.
        text: The input.
        target: What follows it.
        raw: Whether the text is taken as it is, without template.

    Raises:
        ConfigError: If an encoder-only model has no labels to choose from.
        LengthError: If the text is too long.
    """
    stored = None if raw or prompt.info.format is None else TextFormat.from_mapping(prompt.info.format)
    given = render_input(backbone, stored, text)
    labels = (stored.labels or ()) if stored is not None else ()
    if backbone.spec.kind == "encoder-only" and (not labels or token_head_of(prompt().head) is not None):
        if target is not None:
            raise ConfigError(f"{backbone.name} says no text and {target!r} is no class that is known; drop target.")
        return Sample(input=_encoded(backbone, prompt, [given], 0)[0])
    if target is None and not labels:
        model = Prompted(backbone, {_NAME: prompt})
        (target,) = model.generate([text], prompts=_NAME, raw=raw, truncate=True, max_new_tokens=_SAID_TOKENS)
    said = labels[0] if target is None else target
    goal = _goal(backbone, given, said, labels)
    options = tuple(_goal(backbone, given, label, labels) for label in labels)
    room = max(map(len, (goal, *options)))
    sample = Sample(input=_encoded(backbone, prompt, [given], room)[0], target=goal, said=said, candidates=options)
    return sample if target is not None else with_prediction(backbone, prompt, sample, labels)


@torch.no_grad()
def with_prediction(backbone: Backbone, prompt: SoftPrompt, sample: Sample, labels: Sequence[str]) -> Sample:
    """The sample with the label that is most probable under the prompt as its target.

    Args:
        backbone: The frozen model.
        prompt: The prompt.
        sample: The sample.
        labels: The texts of its candidates; without any it stays as it is.
    """
    if not labels:
        return sample
    prompts = PromptCollection(backbone, "auto")
    prompts.add(_NAME, prompt)
    batch = collate(backbone, [Asked(input=sample.input, target=one) for one in sample.candidates])
    output = read(backbone, prompts.applied([_NAME], checkpointing=False), batch)
    best = int(row_losses(output, len(labels)).argmin())
    return replace(sample, target=sample.candidates[best], said=labels[best])


def _goal(backbone: Backbone, before: RenderedInput, target: str, labels: Sequence[str]) -> tuple[int, ...]:
    if backbone.spec.kind != "encoder-only":
        return tuple(encode_targets(backbone, [(before, target)])[0])
    if target not in labels:
        raise ConfigError(
            f"{backbone.name} is encoder-only and says classes, but {target!r} is none of them: "
            f"{', '.join(labels) or 'it has no names for them'}; give a label of the task."
        )
    return (list(labels).index(target),)


def _encoded(backbone: Backbone, prompt: SoftPrompt, given: Sequence[RenderedInput], room: int) -> list[EncodedInput]:
    most = Prompted(backbone, {_NAME: prompt}).longest_input(_NAME, room=room)
    return encode_inputs(backbone, [replace(one, max_tokens=most, truncate=True) for one in given])


def batches(asked: Sequence[Asked], prompts: int, limits: BatchLimits | None = None) -> Iterator[list[Asked]]:
    """Rows in their order, in batches of bounded size.

    Args:
        asked: The rows.
        prompts: Virtual tokens beside each.
        limits: How large a batch may be; None takes the default.
    """
    limits = limits or BatchLimits()
    batch: list[Asked] = []
    widest = 0
    for one in asked:
        width = max(widest, len(one.input.ids) + len(one.target) + prompts)
        if batch and (len(batch) == limits.rows or width * (len(batch) + 1) > limits.tokens):
            yield batch
            batch, width = [], len(one.input.ids) + len(one.target) + prompts
        batch.append(one)
        widest = width
    if batch:
        yield batch


def collate(backbone: Backbone, asked: Sequence[Asked]) -> Batch:
    """Rows as one batch, padded on the right."""
    kind, device = backbone.spec.kind, backbone.device
    joint = kind == "decoder-only"
    ids, mask = pad_rows([[*one.input.ids, *(one.target if joint else ())] for one in asked], fill=backbone.pad_id)
    labels: Tensor | None = None
    if any(one.target for one in asked):
        before = [len(one.input.ids) if joint else 0 for one in asked]
        labels, _ = pad_rows(
            [[*[IGNORED] * count, *one.target] for count, one in zip(before, asked, strict=True)], fill=IGNORED
        )
        labels = labels.to(device)
    rows = Rows(
        ids=ids.to(device),
        mask=mask.to(device),
        index=torch.tensor([one.prompt for one in asked], device=device),
        inputs=torch.tensor([len(one.input.ids) for one in asked], device=device),
        marks=_marks(asked).to(device),
    )
    return Batch(rows=rows, labels=labels)


def _marks(asked: Sequence[Asked]) -> Tensor:
    marks = pad_marks([one.input.marks for one in asked])
    return marks if marks.shape[1] else torch.full((len(asked), 1), -1)


def read(backbone: Backbone, prompts: Sequence[Applied], batch: Batch) -> Output:
    """One forward pass, as `Prompted` does it.

    Args:
        backbone: The frozen model.
        prompts: The prompts that the rows' numbers are of.
        batch: The rows.
    """
    options: dict[str, Any] = {"checkpointing": False}
    match backbone.spec.kind:
        case "encoder-only":
            return encoders.read_heads(backbone, prompts, batch.rows, batch.labels, **options)
        case "decoder-only":
            return forward.continue_text(backbone, prompts, batch.rows, batch.labels, return_logits=False, **options)
    return forward.translate(backbone, prompts, batch.rows, batch.labels, None, return_logits=False, **options)


def row_losses(output: Output, rows: int) -> Float[Tensor, " rows"]:
    """What each row's target costs, in nats, summed over its tokens."""
    assert output.losses is not None
    assert output.rows is not None
    return torch.zeros(rows, dtype=torch.float64, device=output.losses.device).index_add(
        0, output.rows, output.losses.double()
    )
