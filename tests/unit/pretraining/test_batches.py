"""Batches are decided by their step, and epochs see every window once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.pretraining.batches import Batches
from softprompt.pretraining.corpus import PackedTokens
from softprompt.pretraining.objectives import OBJECTIVES, SpecialIds, causal_lm

SPECIAL = SpecialIds(eos=1, sentinels=tuple(range(999, 989, -1)))


def batches(
    count: int, *, objective: str = "causal_lm", window: int = 4, batch_size: int = 3, seed: int = 0
) -> Batches:
    tokens = (np.arange(count * window + 1) % 900 + 2).astype(np.uint16)
    text = PackedTokens(tokens=tokens, documents=1)
    return Batches(text, OBJECTIVES[objective], SPECIAL, window=window, batch_size=batch_size, seed=seed)


@given(st.integers(1, 12), st.integers(1, 30))
def test_every_epoch_sees_every_window_once(count: int, batch_size: int) -> None:
    """Also where a batch is larger than the text, and so spans several epochs."""
    order = batches(count, batch_size=batch_size)
    steps = -(-3 * count // batch_size)
    first = [int(row[0]) // 4 for step in range(steps) for row in order.at(step).inputs - 2]
    for epoch in range(3):
        assert sorted(first[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_have_their_own_order() -> None:
    def order(seed: int) -> list[int]:
        made = batches(60, seed=seed)
        return [int(row[0]) for step in range(40) for row in made.at(step).inputs]

    assert order(0)[:60] != order(0)[60:]
    assert order(0) != order(1)
    assert order(0) == order(0)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_a_step_is_the_same_whatever_came_before(objective: str) -> None:
    through, direct = batches(10, objective=objective, window=20), batches(10, objective=objective, window=20)
    for step in range(7):
        expected = through.at(step)
    found = direct.at(6)
    assert found.inputs.tolist() == expected.inputs.tolist()
    assert found.targets.tolist() == expected.targets.tolist()


def test_spans_differ_from_step_to_step() -> None:
    order = batches(1, objective="span_corruption", window=100, batch_size=1)
    assert order.at(0).targets.tolist() != order.at(1).targets.tolist()


def test_text_is_handed_over_unchanged() -> None:
    row = batches(1, window=8, batch_size=1).at(0)
    assert row.inputs.tolist() == [list(range(2, 9))]
    assert row.targets.tolist() == causal_lm(np.arange(2, 10)[None], SPECIAL, np.random.default_rng(0)).targets.tolist()
