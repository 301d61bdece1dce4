"""A mixed batch for every family: each method, each placement, each length that is awkward, and no prompt at all."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import Literal

import torch
from tests.families import naive, zoo
from tests.families.zoo import Family
from torch import Tensor

from softprompt.prompts import PrefixTuning, PromptTuning, PTuning, SoftPrompt

METHODS: dict[str, PromptTuning | PTuning | PrefixTuning] = {
    "short": PromptTuning(length=5, init="vocab"),
    "longer than the window": PromptTuning(length=11, init="vocab"),
    "behind": PromptTuning(length=3, init="vocab", placement="append"),
    "inside": PromptTuning(length=4, init="vocab", placement="middle"),
    "prefix": PrefixTuning(length=4, hidden=None),
    "mlp": PrefixTuning(length=3, hidden=8),
    "longer prefix": PrefixTuning(length=9, hidden=None),
    "divided": PromptTuning(length=6, init="vocab", placement="template", segments=(2, 1, 3)),
}
IN_DECODERS = {
    "encoded": PTuning(length=2, hidden=8),
    "infix": PrefixTuning(length=3, hidden=None, placement="append"),
    "prefix inside": PrefixTuning(length=5, hidden=None, placement="middle"),
}
PARTS = {
    "encoder alone": PrefixTuning(length=3, hidden=None, cross=False, decoder=False),
    "cross alone": PrefixTuning(length=6, hidden=8, encoder=False, decoder=False),
    "decoder alone": PrefixTuning(length=2, hidden=None, encoder=False, cross=False),
}
ROW_LENGTHS = (6, 9, 3, 8, 1, 7, 4, 10, 2, 5, 8)

Side = Literal["left", "right"]


def prompts(family: Family) -> dict[str, SoftPrompt]:
    """A prompt of every kind that the family takes, with values as large as those of its embeddings and layers."""
    return {name: copy.deepcopy(prompt) for name, prompt in _built(family.name).items()}


@functools.cache
def _built(name: str) -> dict[str, SoftPrompt]:
    family = zoo.BY_NAME[name]
    methods = dict(METHODS)
    if family.kind == "decoder-only":
        methods |= IN_DECODERS
    if family.kind == "encoder-decoder":
        methods |= PARTS
    made = {}
    for seed, (key, method) in enumerate(methods.items()):
        if isinstance(method, PrefixTuning) and not family.prefix:
            continue
        prompt = method.build(zoo.backbone(family.name), seed=seed)
        if isinstance(method, PrefixTuning):
            _enlarge(prompt, seed)
        made[key] = prompt
    return made


@torch.no_grad()
def _enlarge(prompt: SoftPrompt, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in prompt.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.7 if prompt.method.hidden else 1.0))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A padded batch, and its rows without padding.

    Attributes:
        names: A prompt's name for each row.
        rows: Each row's tokens.
        inputs: How many of them are input; the others are labelled.
        marks: Where the parts of a divided prompt go in a row that has one.
        targets: What an encoder-decoder is to predict, for each row.
        classes: What an encoder-only model is to predict.
    """

    names: list[str | None]
    rows: list[Tensor]
    inputs: list[int]
    marks: Tensor
    targets: list[Tensor]
    classes: Tensor

    def padded(self, side: Side = "right") -> tuple[Tensor, Tensor]:
        """Ids with junk in the padding, and the mask."""
        return pad(self.rows, side, fill=37)

    def labels(self, side: Side = "right") -> Tensor:
        """Labels as a decoder-only model takes them: tokens behind each row's input."""
        marked = [row.clone() for row in self.rows]
        for row, inputs in zip(marked, self.inputs, strict=True):
            row[:inputs] = naive.IGNORED
        return pad(marked, side, fill=naive.IGNORED)[0]

    def target_labels(self) -> Tensor:
        """Labels as an encoder-decoder takes them."""
        return pad(self.targets, "right", fill=naive.IGNORED)[0]

    def reads(self) -> list[Tensor]:
        """What the decoder of an encoder-decoder reads to predict each row's target."""
        return [torch.cat([torch.tensor([zoo.PAD]), target[:-1]]) for target in self.targets]


def batch(names: list[str | None]) -> Batch:
    """Rows of several lengths, one of them without prompt; two prompts stand in two rows, one of which is a token."""
    generator = torch.Generator().manual_seed(3)
    everyone = [None, *names, *[name for name in ("short", "inside") if name in names]]
    lengths = [ROW_LENGTHS[i % len(ROW_LENGTHS)] for i in range(len(everyone))]

    def tokens(count: int) -> Tensor:
        return torch.randint(4, zoo.VOCAB, (count,), generator=generator)

    inputs = [max(1, length // 2) for length in lengths]
    marks = [
        [0, (count + 1) // 2, count] if name == "divided" else [-1] * 3
        for name, count in zip(everyone, inputs, strict=True)
    ]
    return Batch(
        names=everyone,
        rows=[tokens(length) for length in lengths],
        inputs=inputs,
        marks=torch.tensor(marks),
        targets=[tokens(1 + i % 4) for i in range(len(everyone))],
        classes=torch.arange(len(everyone)) % zoo.CLASSES,
    )


def pad(rows: list[Tensor], side: Side, *, fill: int) -> tuple[Tensor, Tensor]:
    """Rows as one tensor, padded on a side, and its mask."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), fill)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        span = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, span], mask[i, span] = row, True
    return ids, mask


def relative_error(got: Tensor, want: Tensor, scale: Tensor | None = None) -> float:
    """The largest difference, relative to the largest value."""
    return ((got - want).abs().max() / (want if scale is None else scale).abs().max()).item()
