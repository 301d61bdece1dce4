"""Batches of similar rows: bounds, order, and less memory."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprompt.conditioning.texts import EncodedInput
from softprompt.errors import ConfigError
from softprompt.inference.batching import BatchLimits, by_windows, plan_batches, run_batches
from softprompt.inference.queries import EncodedQuery, Query


def row(tokens: int, room: int = 0) -> EncodedQuery:
    return EncodedQuery(input=EncodedInput([tokens]), prompt=None, tokens=tokens, room=room, targets=[], candidates=())


SIZES = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 2)), max_size=40)
LIMITS = st.fixed_dictionaries({"rows": st.integers(1, 10), "tokens": st.integers(1, 200)})


@given(SIZES, LIMITS)
def test_a_plan_holds_each_row_once_within_the_limits(sizes, limits):
    rows, limits = [row(*size) for size in sizes], BatchLimits(**limits)
    plan = plan_batches(rows, range(len(rows)), limits, start=4)
    assert sorted(itertools.chain.from_iterable(plan)) == list(range(len(rows)))
    for batch in plan:
        widest = max(rows[index].tokens for index in batch)
        assert rows[batch[0]].tokens == widest
        assert len(batch) <= limits.rows
        assert len(batch) == 1 or widest * len(batch) <= limits.tokens
        assert len({rows[index].group for index in batch}) == 1


def test_similar_lengths_share_batches():
    rows = [row(tokens) for tokens in (9, 1, 8, 2)]
    assert plan_batches(rows, range(4), BatchLimits(rows=2), start=4) == [[0, 2], [3, 1]]


def test_a_batch_is_as_full_as_the_limits_allow():
    assert [len(batch) for batch in plan_batches([row(10)] * 7, range(7), BatchLimits(tokens=39), start=4)] == [3, 3, 1]


def test_rows_that_differ_share_a_batch_only_where_that_costs_less_than_another_pass():
    def sizes(start: int, room: int = 0) -> list[int]:
        rows = [row(tokens, room) for tokens in (60, 10, 10, 10)]
        return [len(batch) for batch in plan_batches(rows, range(4), BatchLimits(), start=start)]

    assert sizes(start=140) == [1, 3]
    assert sizes(start=160) == [4]
    assert sizes(start=20, room=7) == [1, 3]  # each token that is generated is a pass of its own
    assert sizes(start=20, room=8) == [4]


@given(SIZES, LIMITS)
def test_results_come_in_the_rows_order(sizes, limits):
    rows, limits = [row(*size) for size in sizes], BatchLimits(**limits)
    done: list[int] = []
    results = run_batches(
        rows, lambda batch: [one.input.ids[0] for one in batch], limits=limits, start=4, progress=done.append
    )
    assert results == [one.tokens for one in rows]
    assert sum(done) == len(rows)


def test_running_out_of_memory_halves_this_and_all_further_batches(caplog):
    sizes = []

    def call(batch):
        sizes.append(len(batch))
        if len(batch) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [one.input.ids[0] for one in batch]

    with caplog.at_level(logging.WARNING, logger="softprompt"):
        results = run_batches([row(tokens) for tokens in [10] * 32], call, limits=BatchLimits(rows=16), start=4)
    assert results == [10] * 32
    assert sizes == [16, 8, *[4] * 8]
    assert caplog.messages[-1] == "Out of memory with 8 rows; going on with 40 tokens a batch."


@pytest.mark.parametrize(
    ("message", "rows"),
    [
        pytest.param("CUDA out of memory. Tried to allocate 2.00 GiB.", 1, id="one row cannot be split"),
        pytest.param("mat1 and mat2 shapes cannot be multiplied", 8, id="fewer rows do not mend it"),
    ],
)
def test_other_failures_are_not_swallowed(message, rows):
    calls = []

    def call(batch):
        calls.append(len(batch))
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message):
        run_batches([row(5)] * rows, call, limits=BatchLimits(), start=4)
    assert calls == [rows]


def test_where_other_processes_wait_running_out_of_memory_ends_this_one():
    """It went on with smaller batches, and asked the others for layers that they had left behind."""
    calls = []

    def call(batch):
        calls.append(len(batch))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    for rows in (8, 1):
        with pytest.raises(ConfigError, match="wait for what this one gathers; set evaluation_tokens"):
            run_batches([row(5)] * rows, call, limits=BatchLimits(), start=4, sharded=True)
    assert calls == [8, 1]


def test_windows_read_no_further_than_needed():
    read = []

    def queries():
        for index in range(10):
            read.append(index)
            yield Query(input=str(index), prompt=None)

    results = by_windows(
        queries(),
        lambda some: [row(9 - int(query.input)) for query in some],
        lambda batch: [one.tokens for one in batch],
        limits=None,
        start=4,
        window=3,
        progress=None,
    )
    assert next(results) == 9
    assert read == [0, 1, 2]
    assert list(results) == [8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(("limits", "message"), [({"rows": 0}, "limit of rows is 0"), ({"tokens": -1}, "tokens is -1")])
def test_limits_are_positive(limits, message):
    with pytest.raises(ConfigError, match=message):
        BatchLimits(**limits)


def test_a_window_is_positive():
    with pytest.raises(ConfigError, match="window=0"):
        list(by_windows([], list, list, limits=None, start=4, window=0, progress=None))
