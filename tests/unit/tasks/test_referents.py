"""WSC's metric: golden values from T5's `wsc_simple` (t5/data/postprocessors.py), worked out by hand."""

from __future__ import annotations

import pytest

from softprompt.tasks import compute_metrics
from softprompt.tasks.metrics.referents import names_referent


@pytest.mark.parametrize(
    ("said", "noun", "same"),
    [
        ("Tom", "Tom", True),
        ("the tom ", "Tom", True),
        ("fuzzy bunny", "The bunny", True),
        ("bunny", "his fuzzy bunny", True),
        ("Bob", "Bob's hat", False),
        ("Bob's", "Bob's hat", True),
        ("Bob", "Bobby", False),
        ("Ann and Eva", "Ann and Tom", False),
        ("Tom.", "Tom", False),
    ],
)
def test_a_noun_is_named_by_some_or_more_of_its_words(said, noun, same):
    assert names_referent(said, noun) is same


@pytest.mark.parametrize(
    ("said", "reference", "right"),
    [
        ("the cup", "The cup", True),
        ("the box", "The cup", False),
        ("the box", "not The cup", True),
        ("cup", "not The cup", False),
        ("", "The cup", False),
        ("", "not The cup", False),
        (" the ", "not The cup", False),
        ("nothing", "nothing", True),
    ],
)
def test_a_row_is_right_if_it_agrees_with_its_label(said, reference, right):
    assert compute_metrics(["wsc"], [said], [[reference]]) == {"wsc": 100 * right}


def test_the_score_is_the_share_of_right_rows():
    said = ["Tom", "Eva", "Eva"]
    assert compute_metrics(["wsc"], said, [["Tom"], ["not Tom"], ["Tom"]]) == {"wsc": pytest.approx(200 / 3)}
