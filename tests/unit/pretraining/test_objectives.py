"""Objectives: nothing is lost, and everything is where the papers put it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import ConfigError
from softprompt.pretraining.objectives import (
    OBJECTIVES,
    SpecialIds,
    causal_lm,
    prefix_lm,
    span_corruption,
    span_lengths,
)

SPECIAL = SpecialIds(eos=1, sentinels=tuple(range(1099, 999, -1)))


def windows(rows: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, 1000, (rows, length))


def put_back(inputs: list[int], targets: list[int]) -> list[int]:
    """The window that a row of span corruption was made from: its input with each span in its sentinel's place."""
    spans: dict[int, list[int]] = {}
    span: list[int] = []
    for token in targets[:-1]:
        if token in SPECIAL.sentinels:
            span = spans.setdefault(token, [])
        else:
            span.append(token)
    return [text for token in inputs[:-1] for text in spans.get(token, [token])]


@given(st.integers(1, 6), st.integers(2, 500), st.integers(0, 1000))
def test_spans_put_back_are_the_text(rows: int, length: int, seed: int) -> None:
    text = windows(rows, length, seed)
    batch = span_corruption(text, SPECIAL, np.random.default_rng(seed))
    rows_of = zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
    assert [put_back(*row) for row in rows_of] == text.tolist()


def naive_rows(text: np.ndarray, lost: np.ndarray) -> tuple[list[list[int]], list[list[int]]]:
    """Raffel et al. 2020, figure 2, one token at a time."""
    all_inputs, all_targets = [], []
    for tokens, gone in zip(text.tolist(), lost.tolist(), strict=True):
        inputs, targets, used = [], [], 0
        for position, token in enumerate(tokens):
            if not gone[position]:
                inputs.append(token)
                continue
            if position == 0 or not gone[position - 1]:
                inputs.append(SPECIAL.sentinels[used])
                targets.append(SPECIAL.sentinels[used])
                used += 1
            targets.append(token)
        all_inputs.append([*inputs, SPECIAL.eos])
        all_targets.append([*targets, SPECIAL.eos])
    return all_inputs, all_targets


@given(st.integers(2, 300), st.integers(0, 1000))
def test_rows_are_as_the_paper_draws_them(length: int, seed: int) -> None:
    text = np.arange(length)[None] % 990 + 2 + np.zeros((3, 1), dtype=int)
    batch = span_corruption(text, SPECIAL, np.random.default_rng(seed))
    kept = [set(row) for row in batch.inputs.tolist()]
    lost = np.array([[token not in kept[row] for token in text[row].tolist()] for row in range(3)])
    assert (batch.inputs.tolist(), batch.targets.tolist()) == naive_rows(text, lost)


def test_fifteen_percent_in_spans_of_three() -> None:
    assert span_lengths(512) == (77, 26)
    text = windows(2000, 128, 0)
    batch = span_corruption(text, SPECIAL, np.random.default_rng(0))
    noise, spans = span_lengths(128)
    assert (noise, spans) == (19, 6)
    assert batch.inputs.shape == (2000, 128 - 19 + 6 + 1)
    assert batch.targets.shape == (2000, 19 + 6 + 1)
    starts = np.isin(batch.targets, SPECIAL.sentinels)
    assert (starts.sum(axis=1) == spans).all()
    assert (batch.inputs[:, -1] == SPECIAL.eos).all()
    assert (batch.targets[:, -1] == SPECIAL.eos).all()


def test_every_place_is_masked_about_equally_often() -> None:
    """All ways to cut are equally likely, so apart from the first and last tokens no position stands out."""
    text = np.tile(np.arange(2, 102), (4000, 1))
    batch = span_corruption(text, SPECIAL, np.random.default_rng(0))
    lost = np.bincount(batch.targets[batch.targets < 1000], minlength=102)[2:] / 4000  # [seq]
    assert lost[10:90] == pytest.approx(np.full(80, 0.15), abs=0.04)
    assert lost[0] == 0  # the first token is always kept, as in T5


def test_too_many_spans_and_too_short_windows_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="take 103 spans, but there are 100 sentinels; use shorter windows"):
        span_corruption(windows(1, 2060, 0), SPECIAL, rng)
    with pytest.raises(ConfigError, match="at least 2 tokens, not 1"):
        span_corruption(windows(1, 1, 0), SPECIAL, rng)
    with pytest.raises(ConfigError, match="at least 4 tokens, not 3"):
        prefix_lm(windows(1, 3, 0), SPECIAL, rng)


@given(st.integers(4, 300), st.integers(0, 1000))
def test_a_prefix_and_its_continuation_are_the_text(length: int, seed: int) -> None:
    text = windows(3, length, seed)
    batch = prefix_lm(text, SPECIAL, np.random.default_rng(seed))
    assert (batch.inputs[:, -1] == SPECIAL.eos).all()
    assert np.concatenate([batch.inputs[:, :-1], batch.targets], axis=1).tolist() == text.tolist()


def test_split_points_cover_the_middle_half() -> None:
    rng = np.random.default_rng(0)
    points = {prefix_lm(windows(1, 16, 0), SPECIAL, rng).inputs.shape[1] - 1 for _ in range(300)}
    assert points == set(range(4, 13))


def test_causal_targets_are_the_next_tokens() -> None:
    batch = causal_lm(np.array([[5, 6, 7, 8]]), SPECIAL, np.random.default_rng(0))
    assert batch.inputs.tolist() == [[5, 6, 7]]
    assert batch.targets.tolist() == [[6, 7, 8]]


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_seed_decides_a_batch(name: str) -> None:
    first, second = (OBJECTIVES[name](windows(4, 100, 3), SPECIAL, np.random.default_rng(5)) for _ in range(2))
    assert first.inputs.tolist() == second.inputs.tolist()
    assert first.targets.tolist() == second.targets.tolist()
