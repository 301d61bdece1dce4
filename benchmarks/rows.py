"""Rows of real lengths: those of sentence_polarity, E2E and QED, in random tokens of a model's own vocabulary.

The lengths lie in `lengths.json` beside this file, counted in a vocabulary of 32,000 pieces, as large as those of the
models whose shapes are measured; `python -m benchmarks lengths` learns one like it and counts them again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import torch

import softprompt as sp
from softprompt.conditioning.texts import encode_inputs, encode_targets, render_input
from softprompt.pretraining.documents import read_documents
from softprompt.pretraining.tokenizer import train_tokenizer, transformers_tokenizer
from softprompt.training.data import TrainRow

__all__ = ["FILE", "count_lengths", "draw_lengths", "make_rows"]

FILE = Path(__file__).with_name("lengths.json")
LONG = 512
_LONGEST_TARGET = 64
_COUNTED = 400
_VOCAB, _DOCUMENTS = 32_000, 2_000
_LOWEST_ID = 5
"""Below are ids that may mean something to a model: padding, the end."""

Length = tuple[int, int]
"""Tokens of a row's input and of its target."""


def count_lengths(data_dir: Path, text: Sequence[Path]) -> dict[str, list[Length]]:
    """Tokens of the first rows of each data set, as its task writes them; without the few that hold whole pages.

    Args:
        data_dir: Where the folder `qed_nq` lies; the other sets come with softprompt.
        text: Files of documents, from which the vocabulary is learned.
    """
    documents = [one for file in text for one in itertools.islice(read_documents(file), _DOCUMENTS)]
    tokenizer = transformers_tokenizer(train_tokenizer(documents, size=_VOCAB), append_eos=True, max_length=LONG)
    backbone = sp.Backbone.from_model(sp.Backbone.from_pretrained("bundled:t5-tiny").model, tokenizer)
    tasks = {
        "sentences": sp.load_task("sentence_polarity"),
        "e2e": sp.load_task("e2e_sample"),
        "qed": sp.load_task("qed_nq", data_dir=data_dir / "qed_nq"),
    }
    counted = {}
    for name, task in tasks.items():
        examples = task.examples("train")[:_COUNTED]
        given = [render_input(backbone, task.format, example.columns) for example in examples]
        targets = encode_targets(backbone, [(one, ex.targets[0]) for one, ex in zip(given, examples, strict=True)])
        inputs = encode_inputs(backbone, given)
        found = [(len(one.ids), len(target)) for one, target in zip(inputs, targets, strict=True)]
        counted[name] = [(before, after) for before, after in found if before <= LONG and after <= _LONGEST_TARGET]
    return counted


def draw_lengths(data: str, count: int, seed: int = 0) -> list[Length]:
    """Lengths of so many rows, drawn in a shuffled order.

    Args:
        data: `sentences`, `e2e` or `qed`; or `long`, inputs of as many sentences as 512 tokens hold.
        count: How many.
        seed: Of the order.
    """
    known = json.loads(FILE.read_text())
    found = known["sentences" if data == "long" else data]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [(found[index][0], found[index][1]) for index in order]
    if data == "long":
        shuffled = _packed(shuffled)
    return [shuffled[index % len(shuffled)] for index in range(count)]


def _packed(lengths: Sequence[Length]) -> list[Length]:
    packed, held = [], 0
    for tokens, target in lengths:
        if held + tokens > LONG:
            packed.append((held, target))
            held = 0
        held += tokens
    return packed


def make_rows(lengths: Sequence[Length], spec: sp.BackboneSpec, *, prompt: str | None, seed: int = 0) -> list[TrainRow]:
    """Rows of these lengths, in random tokens.

    Args:
        lengths: Tokens of each input and target.
        spec: Of the model that they are for.
        prompt: The prompt that they ask for.
        seed: Of the tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for before, after in lengths:
        ids = torch.randint(_LOWEST_ID, spec.vocab, (before + after,), generator=generator).tolist()
        width = (before + after, 0) if spec.kind == "decoder-only" else (before, after)
        rows.append(TrainRow(ids[:before], ids[before:], (), width, prompt))
    return rows
