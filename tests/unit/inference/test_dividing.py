"""How rows are divided into batches."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.inference.dividing import divide
from softprompt.training.data import Width, cut, padded_tokens

WIDTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), min_size=1, max_size=9).map(
    lambda widths: sorted(widths, key=sum)
)


def spent(widths: list[Width], sizes: list[int], cost: int) -> int:
    ends = list(itertools.accumulate(sizes))
    parts = [widths[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return sum(padded_tokens(part) + cost for part in parts)


def every_division(count: int) -> list[list[int]]:
    if count == 0:
        return [[]]
    return [[first, *rest] for first in range(1, count + 1) for rest in every_division(count - first)]


@given(WIDTHS, st.integers(1, 120), st.integers(0, 60))
def test_no_division_within_the_bound_costs_less(widths, tokens, cost):
    def fits(sizes: list[int]) -> bool:
        ends = itertools.accumulate(sizes)
        return all(
            size == 1 or padded_tokens(widths[end - size : end]) <= tokens
            for size, end in zip(sizes, ends, strict=True)
        )

    sizes = divide(widths, tokens=tokens, cost=cost)
    assert fits(sizes)
    assert spent(widths, sizes, cost) == min(
        spent(widths, other, cost) for other in every_division(len(widths)) if fits(other)
    )


@pytest.mark.parametrize(("cost", "want"), [(1, [2, 2]), (1000, [4])])
def test_passes_are_as_many_as_pay(cost, want):
    assert divide([(10, 0), (10, 0), (60, 0), (60, 0)], tokens=4096, cost=cost) == want


def test_rows_of_several_runs_are_hardly_padded():
    """Four runs whose batches have lengths of their own, as sentences do: filled passes would be padded by a fifth."""
    widths = sorted((24 + 16 * (row % 4) + row // 16, 2) for row in range(64))
    real = sum(map(sum, widths))
    filled = cut(widths, lambda width: width, tokens=4096)
    assert sum(map(padded_tokens, filled)) > 1.2 * real
    assert spent(widths, divide(widths, tokens=4096, cost=64), 0) < 1.1 * real
