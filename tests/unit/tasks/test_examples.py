"""From rows to examples: bad rows, duplicates across splits, and the split of one set."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import ConfigError, DataError
from softprompt.tasks import Example, Row, TaskReport, TextFormat
from softprompt.tasks.examples import count_duplicates, render_rows, split_examples

FORM = TextFormat(input="text: {text}", target="{label}", label_words={"0": "bad", "1": "good"})
SIZES = (0.8, 0.1, 0.1)


def example(text: str) -> Example:
    return Example(text, ("y",), None, "a:1", {})


def test_rows_are_rendered_in_order():
    rows = [Row("a:1", {"text": "x", "label": 1, "id": 7}), Row("a:2", {"text": "y", "label": 0})]
    examples, problems = render_rows(rows, FORM, "error")
    assert problems == []
    assert examples == [
        Example("text: x", ("good",), "1", "a:1", {"text": "x", "label": 1, "id": 7}),
        Example("text: y", ("bad",), "0", "a:2", {"text": "y", "label": 0}),
    ]


BAD = [
    Row("a:1", {}, "is not valid UTF-8"),
    Row("a:2", {"text": "x", "label": 1}),
    Row("a:3", {"label": 1}),
    Row("a:4", {"text": "x", "label": 2}),
]


def test_bad_rows_are_skipped_and_counted():
    examples, problems = render_rows(BAD, FORM, "skip")
    assert [kept.source for kept in examples] == ["a:2"]
    assert problems == [
        "a:1: is not valid UTF-8",
        "a:3: column 'text' is missing; the row has 'label'",
        "a:4: column 'label' holds '2', which has no label word; known: 0, 1",
    ]


@pytest.mark.parametrize(("first", "place"), [(0, "a:1: is not valid"), (1, "a:3: column 'text'")])
def test_the_first_bad_row_stops(first, place):
    with pytest.raises(DataError, match=f"^{place}.*To leave bad rows out and count them, say on_bad_row='skip'"):
        render_rows(BAD[first:], FORM, "error")


def test_what_to_do_with_a_bad_row_is_one_of_two():
    with pytest.raises(ConfigError, match=r"on_bad_row is 'skp'; it is 'error' .* or 'skip'"):
        render_rows(BAD, FORM, "skp")


def test_duplicates_across_splits_are_counted_by_row():
    splits = {"train": "aabc", "validation": "aad", "test": "dbe"}
    counts = count_duplicates({split: [example(text) for text in texts] for split, texts in splits.items()})
    assert counts == {("train", "validation"): 2, ("train", "test"): 1, ("validation", "test"): 1}
    assert count_duplicates({"train": [example("a"), example("a")], "test": [example("b")]}) == {}


def test_the_report_reads_well():
    report = TaskReport(
        rows={"train": 12345, "test": 3},
        skipped={"train": tuple(f"a:{line}: bad" for line in range(1, 8))},
        duplicates={("train", "test"): 2},
    )
    assert str(report).split("\n") == [
        "train: 12,345 rows",
        "test: 3 rows",
        "train: 7 bad rows skipped",
        *(f"  a:{line}: bad" for line in range(1, 6)),
        "  and 2 more",
        "test: 2 rows have an input that is also in train",
    ]


@given(
    texts=st.lists(st.text(max_size=3), min_size=3, max_size=60).filter(lambda texts: len(set(texts)) >= 3),
    seed=st.integers(-5, 5),
    sizes=st.sampled_from([SIZES, (0.02, 0.49, 0.49), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.5, 0.0), (1.0, 0.0, 0.0)]),
)
def test_a_split_is_a_partition_that_keeps_inputs_together(texts, seed, sizes):
    examples = [example(text) for text in texts]
    splits = split_examples(examples, seed=seed, sizes=sizes)
    assert list(splits) == [name for name, size in zip(("train", "validation", "test"), sizes, strict=True) if size]
    assert Counter(one.input for part in splits.values() for one in part) == Counter(texts)
    assert all(splits.values())
    assert count_duplicates(splits) == {}
    again = split_examples(examples[::-1], seed=seed, sizes=sizes)
    assert {name: part[::-1] for name, part in again.items()} == splits


def test_the_shares_and_the_seed_count():
    examples = [example(str(number)) for number in range(1000)]
    splits = split_examples(examples, seed=0, sizes=SIZES)
    assert {name: len(part) for name, part in splits.items()} == {"train": 800, "validation": 100, "test": 100}
    assert splits["train"] == sorted(splits["train"], key=lambda one: int(one.input))
    other = split_examples(examples, seed=1, sizes=SIZES)
    assert 0 < len({one.input for one in other["test"]} & {one.input for one in splits["test"]}) < 40


@pytest.mark.parametrize("sizes", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (0.0, 0.5, 0.5)])
def test_sizes_that_are_no_shares_are_refused(sizes):
    with pytest.raises(ConfigError, match=r"split_sizes is .*add up to 1"):
        split_examples([example("a")], seed=0, sizes=sizes)


def test_too_few_inputs_cannot_be_split():
    with pytest.raises(DataError, match="2 distinct inputs cannot be split into train, validation, test; add rows"):
        split_examples([example(text) for text in "abab"], seed=0, sizes=SIZES)
