"""Outcomes of test rows, and how the estimates err that are made of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.evaluation.tasks import judged, questions

from softprompt.evaluation.result import measure
from softprompt.studies.outcomes import RowErrors, keep_outcomes, kept_errors

HITS = st.lists(st.booleans(), min_size=8, max_size=8).map(lambda hits: 100.0 * np.array(hits))


def test_a_row_keeps_what_came_out_in_plain_values():
    found = judged(["good", "bad", "good"], ["good", "bad", "bad"])
    kept = keep_outcomes("accuracy", found)
    assert json.loads(json.dumps(kept)) == {"rows": kept["rows"], "values": [100, 100, 0]}
    again = keep_outcomes("accuracy", judged(["bad", "bad", "bad"], ["good", "bad", "bad"]))
    assert (again["rows"], again["values"]) == (kept["rows"], [0, 100, 100])
    assert keep_outcomes("accuracy", judged(["good"] * 3, ["good", "good", "bad"]))["rows"] != kept["rows"]


def test_of_several_it_keeps_their_mean():
    one, other = judged(["good", "bad", "good"], ["good"] * 3), judged(["good", "bad", "bad"], ["good"] * 3)
    assert keep_outcomes("accuracy", one, other)["values"] == [100, 0, 50]


def test_one_row_and_scores_that_cannot_be_told_apart_keep_nothing():
    assert keep_outcomes("accuracy", judged(["good"], ["good"])) is None
    assert keep_outcomes("no score of it", judged(["good", "bad"], ["good", "bad"])) is None
    assert kept_errors(None) is None


@given(HITS, HITS)
def test_differences_on_the_same_rows_err_as_the_differences_of_rows_do(ours, theirs):
    difference = RowErrors.of("the same", ours.tolist()) - RowErrors.of("the same", theirs.tolist())
    assert difference.standard_error == pytest.approx((ours - theirs).std(ddof=1) / 8**0.5)


@given(HITS, HITS)
def test_differences_on_other_rows_err_by_both(ours, theirs):
    one, other = RowErrors.of("these", ours.tolist()), RowErrors.of("those", theirs.tolist())
    assert (one - other).standard_error == pytest.approx(np.hypot(one.standard_error, other.standard_error))


def test_a_mean_of_what_errs_alike_errs_as_much():
    one = RowErrors.of("the same", [100.0, 0.0, 0.0, 0.0])
    assert ((one + one + one) * (1 / 3)).standard_error == pytest.approx(one.standard_error)
    assert (RowErrors() + one - one).standard_error == 0.0


@pytest.mark.parametrize("metric", ["macro_f1", "token_f1"])
def test_the_standard_error_is_that_of_the_interval(metric):
    draw = np.random.default_rng(0)
    true = draw.choice(["good", "bad", "sad"], 400).tolist()
    said = [label if draw.random() < 0.7 else "good" for label in true]
    found = judged(said, true, ["accuracy", metric])
    low, high = found.intervals[metric]
    assert kept_errors(keep_outcomes(metric, found)).standard_error == pytest.approx((high - low) / 3.92, rel=0.1)


def test_groups_are_kept_whole():
    task = questions()
    examples = list(task.examples("test"))
    said = [("True", "False")[place % 3 == 0] for place in range(len(examples))]
    found = measure(task, "test", examples, said, by="rank")
    watched = task.watched
    kept = keep_outcomes(watched, found)
    assert len(kept["values"]) == 20
    low, high = found.intervals[watched]
    assert kept_errors(kept).standard_error == pytest.approx((high - low) / 3.92, rel=0.2)
