"""Rows that come into a running batch and leave it say what they say alone, token for token."""

from __future__ import annotations

import random

import pytest
import torch
from tests.families import zoo
from tests.families.test_generation import GENERATORS, NEW, model, reference
from tests.families.zoo import Family

from softprompt.conditioning.decoding import Decoding, JoiningDecoding
from softprompt.conditioning.turns import TurnDecoding
from softprompt.errors import ConfigError, UnsupportedError

SEVERAL_TURNS = 3


def run(
    family: Family, decoding: Decoding, waiting: list[int], *, joins: bool, draw: random.Random | None
) -> dict[int, list[int]]:
    """Answer rows of the family's batch, which come in any order and leave at their end, or earlier where drawn."""
    prompted, batch = model(family.name)
    ids, mask = batch.padded("right")
    said: dict[int, list[int]] = {}
    running: list[int] = []
    while waiting or running:
        logits = []
        if running:
            tokens = torch.tensor([said[row][-1] for row in running])
            logits.append(decoding.step(tokens))
        if waiting and (joins or not running):
            several = SEVERAL_TURNS if joins else len(waiting)
            new, waiting = waiting[:several], waiting[several:]
            names, marks = [batch.names[row] for row in new], batch.marks[new]
            longest = int(mask[new].sum(-1).max())
            logits.append(prompted.admit(decoding, ids[new, :longest], mask[new, :longest], prompts=names, marks=marks))
            said |= {row: [] for row in new}
            running += new
        for row, token in zip(running, torch.cat(logits).argmax(-1).tolist(), strict=True):
            said[row].append(token)
        gone = {row for row in running if said[row][-1] == zoo.END or len(said[row]) == NEW}
        if draw is not None and draw.random() < 0.3:
            gone.add(draw.choice(running))  # as a request that is cancelled
        decoding.keep([place for place, row in enumerate(running) if row not in gone])
        running = [row for row in running if row not in gone]
        assert decoding.rows == len(running)
    return said


def matches(said: list[int], want: list[int]) -> bool:
    return said == want[: len(said)]


@pytest.mark.parametrize("family", GENERATORS, ids=str)
def test_rows_that_begin_together_say_what_they_say_alone(family):
    rows = list(range(len(model(family.name)[1].names)))
    said = run(family, TurnDecoding(zoo.backbone(family.name)), rows, joins=False, draw=None)
    assert [said[row] for row in rows] == reference(family.name)


@pytest.mark.parametrize("family", GENERATORS, ids=str)
def test_rows_that_begin_together_may_leave_early(family):
    """Their places are given up on the way; the others do not notice."""
    rows = list(range(len(model(family.name)[1].names)))
    said = run(family, TurnDecoding(zoo.backbone(family.name)), rows, joins=False, draw=random.Random(2))
    want = reference(family.name)
    assert all(matches(said[row], want[row]) for row in rows)
    assert sum(said[row] == want[row] for row in rows) >= 1


@pytest.mark.parametrize("family", [f for f in GENERATORS if f.kind == "decoder-only"], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_rows_that_join_a_running_batch_say_what_they_say_alone(family, seed):
    prompted, batch = model(family.name)
    rows = [row for row, name in enumerate(batch.names) if prompted.may_join([name])]
    if not rows:
        assert prompted.verdict.shared is not None or prompted.verdict.window is not None
        pytest.skip("its keys and values cannot stand one after the other")
    draw = random.Random(seed)
    draw.shuffle(rows)
    said = run(family, JoiningDecoding(zoo.backbone(family.name)), rows, joins=True, draw=draw)
    want = reference(family.name)
    assert all(matches(said[row], want[row]) for row in rows)
    assert sum(said[row] == want[row] for row in rows) >= len(rows) // 3


def test_what_left_leaves_nothing_behind():
    """A slot is given to another row; values that are not finite would show through any mask."""
    family = zoo.BY_NAME["llama"]
    prompted, batch = model("llama")
    decoding = JoiningDecoding(zoo.backbone("llama"))
    ids, mask = batch.padded("right")
    prompted.admit(decoding, ids[:2], mask[:2], prompts=[None, None])
    for keys, values in decoding._slots._rooms:
        keys[1], values[1] = torch.nan, torch.inf
    decoding.keep([0])
    logits = prompted.admit(decoding, ids[2:3], mask[2:3], prompts=[None])
    following = decoding.step(torch.tensor([7, int(logits.argmax())]))
    assert bool(following.isfinite().all())
    alone = JoiningDecoding(zoo.backbone(family.name))
    first = prompted.admit(alone, ids[2:3], mask[2:3], prompts=[None])
    assert alone.step(first.argmax(-1))[0].allclose(following[1], atol=1e-5)


def test_many_steps_reuse_the_columns_of_those_who_left():
    prompted, batch = model("gpt2")
    decoding = JoiningDecoding(zoo.backbone("gpt2"))
    ids, mask = batch.padded("right")
    for turn in range(60):
        prompted.admit(decoding, ids[turn % 5][None], mask[turn % 5][None], prompts=[None])
        for _ in range(4):
            decoding.step(torch.full((decoding.rows,), 7))
        if decoding.rows > 2:
            decoding.keep([1, 2])
    assert decoding._slots._rooms[0][0].shape[2] <= 128


def test_turns_wait_for_each_other_and_encoders_generate_nothing():
    prompted, batch = model("gpt2")
    decoding = TurnDecoding(zoo.backbone("gpt2"))
    ids, mask = batch.padded("right")
    prompted.admit(decoding, ids[:1], mask[:1], prompts=[None])
    with pytest.raises(ConfigError, match="when all others have left"):
        prompted.admit(decoding, ids[:1], mask[:1], prompts=[None])
    with pytest.raises(UnsupportedError, match="encoder-only"):
        TurnDecoding(zoo.backbone("bert"))
