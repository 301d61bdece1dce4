"""Training rows: tokenized ahead of time, drawn in an order that depends on the seed alone.

Rows of like length share a batch, so that little is padding: within a shuffled window rows are sorted by length
and cut into batches, and the batches are shuffled. The order of an epoch is a function of seed and epoch, so a
position is two numbers, and a run draws the same batches alone and beside others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.backbones.heads import TokenHead, token_head_of
from softprompt.conditioning import Prompted
from softprompt.conditioning.losses import IGNORED
from softprompt.conditioning.padding import pad_marks, pad_rows
from softprompt.conditioning.places import find_places
from softprompt.conditioning.scoring import encode as encode_candidates
from softprompt.conditioning.texts import RenderedInput, encode_inputs, encode_targets, render_input
from softprompt.errors import DataError, LengthError
from softprompt.inference.dividing import Width
from softprompt.tasks import Example, Task
from softprompt.training.run import Run

__all__ = ["Batches", "TrainRow", "collate", "cut", "digest", "encode_rows", "padded_tokens"]

_WINDOW_BATCHES = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrainRow:
    """One tokenized row.

    Attributes:
        input: Token ids of the input.
        target: Token ids of the target. In an encoder-only model what the head is to say: the index of a class, alone;
            a tag for each token, `IGNORED` without; or first and last token of a span.
        marks: Token indices of the template's marks, in order.
        prompt: The name of the prompt that it asks for; None for the model by itself.
        width: Columns that it takes up in a batch, without its prompt.
        candidates: Token ids of what the target is to be ranked among, itself one of them; empty where the likelihood
            of its tokens is trained.
    """

    input: list[int]
    target: list[int]
    marks: tuple[int, ...]
    width: Width
    prompt: str | None = None
    candidates: tuple[list[int], ...] = ()

    @property
    def terms(self) -> int:
        """How many terms its loss has: one for each labelled part of the target, or one if it is ranked."""
        return 1 if self.candidates else sum(target != IGNORED for target in self.target)

    @property
    def ranking(self) -> tuple[int, int]:
        """How many candidates there are, and the tokens of the longest; rows of one pass have this in common."""
        return len(self.candidates), max(map(len, self.candidates), default=0)

    @property
    def tokens(self) -> int:
        """Input and target together."""
        return sum(self.width)


def encode_rows(model: Prompted, run: Run, task: Task, prompt: str | None) -> list[TrainRow]:
    """Tokenize the rows of a task that a run trains on; a row with several references is one row for each.

    For a head over tokens a row is left out whose words were all cut off, or whose target is not in what is left of its
    context.

    Args:
        model: The backbone with the run's prompts.
        run: What is trained.
        task: One of its tasks.
        prompt: The name of the prompt that learns the task; None where the backbone itself does.

    Raises:
        LengthError: If an input is too long and may not be cut, or a target is longer than the decoder's positions.
        DataError: If an input or a target has no tokens, or no row is left.
    """
    backbone, form = model.backbone, task.format
    kind = backbone.spec.kind
    pairs = [(example, target) for example in task.examples("train") for target in example.targets]
    given = [render_input(backbone, form, example.columns) for example, _ in pairs]
    head = model.prompts[prompt]().head if prompt is not None else {}
    if (reads := token_head_of(head)) is not None:
        return _token_rows(model, run, task, prompt, pairs, given, (reads, len(head[f"{reads}.weight"])))
    if kind == "encoder-only":
        labels = list(task.labels or ())
        goals = [_Goal([labels.index(target)]) for _, target in pairs]
    else:
        goals = _text_goals(backbone, run, task, given, [target for _, target in pairs])
    rooms = {goal.longest for goal in goals}
    most = {room: _least(run.max_input_tokens, model.longest_input(prompt, room=room)) for room in rooms}
    bounded = [
        replace(one, max_tokens=most[goal.longest], truncate=run.truncate, source=example.source)
        for one, goal, (example, _) in zip(given, goals, pairs, strict=True)
    ]
    rows = []
    for (example, _), encoded, goal in zip(pairs, encode_inputs(backbone, bounded), goals, strict=True):
        for ids in goal.texts:
            _check_tokens(backbone, example, encoded.ids, ids)
        width = _width(kind, len(encoded.ids), len(goal.texts) * goal.longest)
        rows.append(TrainRow(encoded.ids, goal.target, encoded.marks, width, prompt, goal.candidates))
    return rows


@dataclass(frozen=True, slots=True)
class _Goal:
    """What a row is to say, and what that is ranked among, if it is: see `TrainRow`."""

    target: list[int]
    candidates: tuple[list[int], ...] = ()

    @property
    def texts(self) -> tuple[list[int], ...]:
        """Everything that is computed behind the input."""
        return self.candidates or (self.target,)

    @property
    def longest(self) -> int:
        """Tokens of the longest of these."""
        return max(map(len, self.texts))


def _text_goals(
    backbone: Backbone, run: Run, task: Task, given: Sequence[RenderedInput], said: Sequence[str]
) -> list[_Goal]:
    """What a model that generates text is to say for each input."""
    targets = encode_targets(backbone, list(zip(given, said, strict=True)))
    if run.loss == "likelihood":
        return [_Goal(ids) for ids in targets]
    among = encode_candidates(backbone, given, [task.labels or ()] * len(given))
    return [_Goal(ids, tuple(several)) for ids, several in zip(targets, among, strict=True)]


def _token_rows(
    model: Prompted,
    run: Run,
    task: Task,
    prompt: str | None,
    pairs: Sequence[tuple[Example, str]],
    given: Sequence[RenderedInput],
    head: tuple[TokenHead, int],
) -> list[TrainRow]:
    """Rows for a head over tokens, which is of a kind and has outputs: its target is known once there are tokens."""
    kind, outputs = head
    longest = _least(run.max_input_tokens, model.longest_input(prompt))
    bounded = [
        replace(one, max_tokens=longest, truncate=run.truncate, source=example.source)
        for one, (example, _) in zip(given, pairs, strict=True)
    ]
    rows = []
    for one, encoded, (_, target) in zip(
        bounded, encode_inputs(model.backbone, bounded, offsets=True), pairs, strict=True
    ):
        found = find_places(kind, task.format, one, encoded, outputs=outputs).targets(target)
        if found:
            rows.append(TrainRow(encoded.ids, found, encoded.marks, (len(encoded.ids), 0), prompt))
    if not rows:
        raise DataError(
            f"run {run.name!r}: no row of {task.name} has its target among the tokens of its input; mind the columns"
            " and max_input_tokens."
        )
    return rows


def _check_tokens(backbone: Backbone, example: Example, inputs: list[int], targets: list[int]) -> None:
    for what, found in (("input", inputs), ("target", targets)):
        if not found:
            raise DataError(f"{example.source}: the {what} has no tokens for {backbone.name}; give it a text.")
    limit = backbone.spec.max_positions
    if backbone.spec.kind == "encoder-decoder" and limit is not None and len(targets) > limit:
        raise LengthError(
            f"{example.source}: the target has {len(targets)} tokens, but {backbone.name} has {limit} positions; "
            "shorten it, or leave the row out."
        )


def _least(*bounds: int | None) -> int | None:
    return min((bound for bound in bounds if bound is not None), default=None)


def _width(kind: str, inputs: int, targets: int) -> Width:
    match kind:
        case "decoder-only":
            return inputs + targets, 0
        case "encoder-decoder":
            return inputs, targets
    return inputs, 0


def digest(rows: Sequence[TrainRow]) -> str:
    """Digest of tokenized rows, by which a resumed session knows its data."""
    state = hashlib.sha256()
    for row in rows:
        state.update(repr((row.input, row.target, row.marks, *row.candidates)).encode())
    return state.hexdigest()[:16]


def padded_tokens(widths: Sequence[Width]) -> int:
    """Tokens of a batch of rows, padding included."""
    return len(widths) * sum(map(max, zip(*widths, strict=True)))


def cut(
    items: Iterable[T], width_of: Callable[[T], Width], *, rows: int | None = None, tokens: int | None = None
) -> list[list[T]]:
    """Cut items, in their order, into batches; an item that is larger than a batch may be is a batch of its own.

    Args:
        items: What to cut; items of like width side by side waste least.
        width_of: Columns that an item takes up.
        rows: Most items of a batch.
        tokens: Most tokens of a batch, padding included.
    """
    batches: list[list[T]] = []
    widest = (0, 0)
    for item in items:
        first, second = width_of(item)
        wider = max(widest[0], first), max(widest[1], second)
        size = len(batches[-1]) + 1 if batches else 1
        if batches and (rows is None or size <= rows) and (tokens is None or size * sum(wider) <= tokens):
            batches[-1].append(item)
            widest = wider
        else:
            batches.append([item])
            widest = first, second
    return batches


class Batches:
    """The batches of one run, endless, in the order of its seed.

    Attributes:
        epoch: The epoch of the next batch, from 0.
        index: The next batch's place in it.

    Args:
        rows: Tokenized rows.
        batch_size: Most rows of a batch.
        batch_tokens: Most tokens of a batch, padding included; a longer row is a batch of its own. None does not
            bound them.
        seed: Of the order.
        rows_of: From an epoch to the indices of its rows; None takes every row in every epoch.
    """

    def __init__(
        self,
        rows: Sequence[TrainRow],
        *,
        batch_size: int,
        batch_tokens: int | None,
        seed: int,
        rows_of: Callable[[int], Sequence[int]] | None = None,
    ) -> None:
        self._rows = rows
        self._rows_of = rows_of
        self._batch_size = batch_size
        self._batch_tokens = batch_tokens
        self._seed = seed
        self.epoch, self.index = 0, 0
        self._order = self._epoch_order()

    def draw(self) -> list[TrainRow]:
        """The next batch."""
        if self.index == len(self._order):
            self.epoch, self.index = self.epoch + 1, 0
            self._order = self._epoch_order()
        batch = self._order[self.index]
        self.index += 1
        return [self._rows[i] for i in batch]

    def go_to(self, epoch: int, index: int) -> None:
        """Continue behind a batch drawn before."""
        self.epoch, self.index = epoch, index
        self._order = self._epoch_order()

    def _epoch_order(self) -> list[list[int]]:
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + self.epoch) % 2**63)
        drawn = range(len(self._rows)) if self._rows_of is None else self._rows_of(self.epoch)
        shuffled = [drawn[place] for place in torch.randperm(len(drawn), generator=generator).tolist()]
        window = self._batch_size * _WINDOW_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), window):
            ordered = sorted(shuffled[start : start + window], key=lambda i: self._rows[i].tokens)
            batches.extend(
                cut(ordered, lambda i: self._rows[i].width, rows=self._batch_size, tokens=self._batch_tokens)
            )
        order = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[i] for i in order]


def collate(backbone: Backbone, rows: Sequence[TrainRow]) -> dict[str, Tensor]:
    """Rows as the tensors that a prompted backbone's forward pass takes, padded on the right."""
    kind = backbone.spec.kind
    joined = [[*row.input, *row.target] if kind == "decoder-only" else row.input for row in rows]
    ids, mask = pad_rows(joined, fill=backbone.pad_id)
    if kind == "encoder-only" or kind == "encoder-decoder":
        labels, _ = pad_rows([row.target for row in rows], fill=IGNORED)
    else:
        labels = torch.full_like(ids, IGNORED)
        for i, row in enumerate(rows):
            labels[i, len(row.input) : len(joined[i])] = torch.tensor(row.target)
    marks = pad_marks([row.marks for row in rows])
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels, "marks": marks}
    return {name: tensor.to(backbone.device) for name, tensor in batch.items()}
