"""The rows of an epoch of a mixture: in the shares that were asked for, each task's own rows evenly."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.tasks import Mixture, Task
from softprompt.training.data import Batches, TrainRow
from softprompt.training.mixing import MixedRows

NAMES = ("first", "second", "third")
TASKS = [Task.from_rows({"test": [{"x": "a", "y": "1"}]}, input="{x}", target="{y}", name=name) for name in NAMES]
COUNTS = st.lists(st.integers(1, 40), min_size=3, max_size=3).map(lambda counts: dict(zip(NAMES, counts, strict=True)))
MIXINGS = st.sampled_from(
    [{}, {"limit": 7}, {"mixing": "equal"}, {"mixing": "temperature", "temperature": 3.0, "limit": 20}]
)


def own(rows: dict[str, int], indices: list[int]) -> dict[str, Counter[int]]:
    """How often each row of each task is among the indices, by its number in its task."""
    found, first = {}, 0
    for name, count in rows.items():
        found[name] = Counter(index - first for index in indices if first <= index < first + count)
        first += count
    assert sum(map(Counter.total, found.values())) == len(indices)
    return found


@given(COUNTS, MIXINGS, st.integers(-3, 2**40), st.integers(1, 6))
def test_every_task_has_its_share_and_goes_through_its_rows_evenly(rows, settings, seed, epochs):
    mixture = Mixture(TASKS, **settings)
    mixed = MixedRows(mixture, rows, seed=seed)
    drawn = [index for epoch in range(epochs) for index in mixed(epoch)]
    total = epochs * sum(mixture.counted(rows).values())
    for name, times in own(rows, drawn).items():
        assert abs(times.total() - total * mixture.shares(rows)[name]) < 1
        counted = [times[index] for index in range(rows[name])]
        assert max(counted) - min(counted) <= 1


@given(COUNTS, st.integers(0, 3))
def test_in_proportion_every_row_is_in_every_epoch_once(rows, seed):
    """So a run of several tasks ends as it did before there were mixtures."""
    mixed = MixedRows(Mixture(TASKS), rows, seed=seed)
    total = sum(rows.values())
    assert [mixed(epoch) for epoch in (0, 1, 5)] == [list(range(total))] * 3
    several = [TrainRow([0] * (1 + place % 5), [1], (), (2 + place % 5, 0)) for place in range(total)]
    plain, other = (
        Batches(several, batch_size=4, batch_tokens=None, seed=seed, rows_of=rows_of) for rows_of in (None, mixed)
    )
    for _ in range(2 * total):
        assert list(map(id, plain.draw())) == list(map(id, other.draw()))


@given(COUNTS, MIXINGS, st.integers(0, 30), st.integers(0, 3))
def test_a_mixture_is_gone_on_with_at_any_place(rows, settings, before, seed):
    several = [TrainRow([0], [1], (), (2, 0)) for _ in range(sum(rows.values()))]
    whole, again = (
        Batches(
            several, batch_size=3, batch_tokens=None, seed=seed,
            rows_of=MixedRows(Mixture(TASKS, **settings), rows, seed=seed),
        )
        for _ in range(2)
    )  # fmt: skip
    for _ in range(before):
        whole.draw()
    again.go_to(whole.epoch, whole.index)
    for _ in range(20):
        assert list(map(id, again.draw())) == list(map(id, whole.draw()))


def test_the_rows_depend_on_the_seed_and_a_task_not_on_its_place():
    rows = dict(zip(NAMES, (30, 20, 10), strict=True))

    def of(mixture, counts, seed=0):
        return own(counts, MixedRows(mixture, counts, seed=seed)(0))

    there = of(Mixture(TASKS, "equal"), rows)
    turned = of(Mixture(TASKS[::-1], "equal"), dict(reversed(rows.items())))
    assert there == turned
    assert of(Mixture(TASKS, limit=12), rows) != of(Mixture(TASKS, limit=12), rows, seed=1)


def test_each_turn_through_a_tasks_rows_has_an_order_of_its_own():
    rows = {"first": 12, "second": 12}
    mixed = MixedRows(Mixture(TASKS[:2], limit=6), rows, seed=0)
    halves = [frozenset(own(rows, mixed(epoch))["first"]) for epoch in range(8)]
    assert all(first | second == set(range(12)) for first, second in zip(halves[::2], halves[1::2], strict=True))
    assert len(set(halves[::2])) > 1


def test_shares_smaller_than_a_row_come_in_some_epochs():
    rows = {"first": 10, "second": 1, "third": 1}
    mixed = MixedRows(Mixture(TASKS, "temperature", 1.0, 3), rows, seed=0)
    sizes = [own(rows, mixed(epoch))["second"].total() for epoch in range(10)]
    assert sum(sizes) == 10
    tiny = MixedRows(Mixture(TASKS[:2], limit=1), {"first": 100, "second": 100}, seed=0)
    assert sum(len(tiny(epoch)) for epoch in range(50)) == pytest.approx(100, abs=1)
