"""A step's rows are shared out: each process has some, all have about as much to do, and nothing is done twice."""

from __future__ import annotations

from itertools import chain

import pytest
from tests.models import tiny_prompted
from tests.training.sessions import sentiment, short_run

from softprompt.conditioning import Prompted
from softprompt.training.data import encode_rows
from softprompt.training.passes import widths
from softprompt.training.sharing import alike_passes, share_rows

NAMES = ("rows", "longer", "keys")


@pytest.fixture(scope="module")
def model() -> Prompted:
    return tiny_prompted("decoder-only")


def rows_of(model, count, *, loss="likelihood"):
    """The first rows of three runs, in turn."""
    run = short_run(loss=loss)
    found = [
        [(name, row) for row in encode_rows(model, run, sentiment(24, seed=seed), name)]
        for seed, name in enumerate(NAMES)
    ]
    return list(chain(*zip(*found, strict=True)))[:count]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_shares_are_a_balanced_partition(model, rows, count):
    named = rows_of(model, rows)
    shares = share_rows(model, named, count)
    assert len(shares) == count
    assert sorted(map(id, (row for _, row in chain(*shares)))) == sorted(id(row) for _, row in named)
    assert sum(map(bool, shares)) == min(count, rows)
    if rows >= 5 * count:
        loads = [sum(map(sum, widths(model, share))) for share in shares]
        widest = max(map(sum, widths(model, named)))
        assert max(loads) - min(loads) <= 2 * widest


@pytest.mark.parametrize("pass_tokens", [1, 40, 10_000])
@pytest.mark.parametrize("count", [2, 3])
def test_processes_that_gather_from_each_other_take_passes_alike(model, count, pass_tokens):
    """As many, each of one kind, in one order; what fills up counts for nothing, and every row counts once."""
    named = [*rows_of(model, 11), *rows_of(model, 4, loss="rank")]
    passes = [alike_passes(model, named, pass_tokens, count=count, index=index) for index in range(count)]
    kinds = [[{(model.pass_of(row.prompt), row.ranking) for _, row in part} for part in own] for own in passes]
    assert all(len(kind) == 1 for own in kinds for kind in own)
    assert all(own == kinds[0] for own in kinds)
    counted = [id(row) for own in passes for part in own for name, row in part if name is not None]
    assert sorted(counted) == sorted(id(row) for _, row in named)
    assert any(name is None for own in passes for part in own for name, _ in part)
