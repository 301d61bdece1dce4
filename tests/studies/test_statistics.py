"""Contrasts of cells against the textbooks' formulas, written out; and how often an interval holds the truth."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from softprompt.studies.statistics import (
    contrast,
    distance_p,
    mean_weights,
    slope_weights,
    unpaired_error,
    within_correlation,
)

POINTS = st.floats(-20, 20).map(lambda value: round(value, 2))
CELLS = st.lists(st.lists(POINTS, min_size=2, max_size=4).map(np.array), min_size=1, max_size=4)


def as_lists(cells):
    return [[float(value) for value in cell] for cell in cells]


@given(CELLS)
def test_the_interval_is_the_textbooks(cells):
    found = contrast(cells, mean_weights(len(cells)))
    told = as_lists(cells)
    freedom = sum(len(cell) - 1 for cell in told)
    variance = sum(statistics.variance(cell) * (len(cell) - 1) for cell in told) / freedom
    mean = statistics.fmean(statistics.fmean(cell) for cell in told)
    error = (variance * sum(1 / len(cell) for cell in told)) ** 0.5 / len(told)
    assert found.value == pytest.approx(mean, abs=1e-9)
    assert found.error == pytest.approx(error, abs=1e-9)
    assert found.freedom == freedom
    reach = stats.t(freedom).interval(0.95)[1] * error
    assert found.interval == pytest.approx((mean - reach, mean + reach), abs=1e-6)


@given(st.lists(POINTS, min_size=2, max_size=6).map(np.array))
def test_of_one_cell_it_is_the_paired_t_test(cell):
    if len(set(cell.tolist())) == 1:
        return
    found = contrast([cell], mean_weights(1))
    known = stats.ttest_1samp(cell, 0.0)
    assert distance_p(found, found.value) == pytest.approx(known.pvalue, abs=1e-9)
    assert found.interval == pytest.approx(tuple(known.confidence_interval(0.95)), abs=1e-6)


@given(st.lists(st.tuples(st.sampled_from([1, 5, 20, 100]), POINTS, st.sampled_from("ab")), min_size=2, max_size=8))
def test_a_slope_is_that_of_least_squares_with_an_intercept_for_each_group(cells):
    quantities, means, groups = zip(*cells, strict=True)
    places = np.log10(quantities)
    weights = slope_weights(places, groups)
    correlation = within_correlation(places, np.array(means), groups)
    if all(len({q for q, other in zip(quantities, groups, strict=True) if other == one}) == 1 for one in groups):
        assert weights is None
        assert correlation is None
        return
    design = np.array(
        [
            [place, *(float(group == one) for one in sorted(set(groups)))]
            for place, group in zip(places, groups, strict=True)
        ]
    )
    slope = np.linalg.lstsq(design, np.array(means), rcond=None)[0][0]
    assert weights @ np.array(means) == pytest.approx(slope, abs=1e-6)
    levels = design[:, 1:] @ np.linalg.pinv(design[:, 1:])
    residues = [values - levels @ values for values in (places, np.array(means))]
    if correlation is None:
        assert np.abs(residues[1]).max() < 1e-3
    else:
        assert correlation == pytest.approx(np.corrcoef(*residues)[0, 1], abs=1e-6)


ERRORS = st.lists(st.floats(0, 5), min_size=4, max_size=4).map(np.array)


@given(CELLS, ERRORS)
def test_rows_add_to_what_seeds_leave_open(cells, errors):
    """All cells are scored on the same rows, so a mean over them errs as they do."""
    weights, errors = mean_weights(len(cells)), errors[: len(cells)]
    seeds, both = contrast(cells, weights), contrast(cells, weights, rows_error=unpaired_error(weights, errors))
    reach = seeds.interval.high - seeds.value
    rows = stats.norm.interval(0.95)[1] * statistics.fmean(errors.tolist())
    assert both.interval.high - both.value == pytest.approx((reach**2 + rows**2) ** 0.5, abs=1e-6)
    assert (both.value, both.error, both.bootstrap) == (seeds.value, seeds.error, seeds.bootstrap)


def test_a_slope_errs_at_both_of_its_ends():
    sizes = np.array([1.0, 10.0, 100.0, 1000.0])
    weights = slope_weights(np.log10(sizes), "aaaa")
    end = 2.0 * weights[weights > 0].sum()
    assert unpaired_error(weights, np.full(4, 2.0)) == pytest.approx(end * 2**0.5), (
        "of one sign alike, of opposite signs apart"
    )


@given(CELLS, st.floats(0, 5), st.floats(0.5, 5))
def test_p_is_the_share_that_the_interval_leaves_out_that_ends_at_the_margin(cells, rows_error, distance):
    weights = mean_weights(len(cells))
    found = contrast(cells, weights, rows_error=rows_error)
    if found.error < 0.05:
        return
    p = distance_p(found, distance)
    assert p == distance_p(found, -distance)
    if p > 1e-9:
        ends = contrast(cells, weights, rows_error=rows_error, level=1 - p).interval
        assert ends.high - found.value == pytest.approx(distance, rel=1e-4)
    assert distance_p(found, 0.0) == 1.0


def test_what_lies_far_beyond_all_doubt_has_no_p():
    found = contrast([np.array([1000.0, 1000.1, 999.9, 1000.0] * 20)], mean_weights(1))
    assert distance_p(found, found.value) == 0.0


def coverage(draw, cells, seeds, truth, interval, times=2000):
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(times):
        low, high = interval([draw(generator, place, seeds) for place in range(cells)])
        inside += low <= truth <= high
    return inside / times


@pytest.mark.parametrize(("cells", "seeds"), [(1, 3), (4, 3), (2, 2)])
def test_a_95_percent_interval_holds_the_truth_95_times_in_100(cells, seeds, monkeypatch):
    monkeypatch.setattr("softprompt.studies.statistics._RESAMPLES", 1)

    def draw(generator, place, seeds):
        return generator.normal(3.0 * place, 2.0, seeds)

    held = coverage(draw, cells, seeds, 1.5 * (cells - 1), lambda drawn: contrast(drawn, mean_weights(cells)).interval)
    assert 0.93 <= held <= 0.97


def test_so_does_that_of_a_slope(monkeypatch):
    monkeypatch.setattr("softprompt.studies.statistics._RESAMPLES", 1)
    lengths = np.array([1.0, 10.0, 100.0] * 2)
    weights = slope_weights(np.log10(lengths), "aaabbb")

    def draw(generator, place, seeds):
        return generator.normal(4.0 * np.log10(lengths[place]) + 7.0 * (place > 2), 2.0, seeds)

    assert 0.93 <= coverage(draw, 6, 3, 4.0, lambda drawn: contrast(drawn, weights).interval) <= 0.97


def test_the_bootstrap_is_the_same_each_time_and_too_narrow_with_few_seeds():
    generator = np.random.default_rng(1)
    cells = [generator.normal(1.0, 2.0, 3) for _ in range(4)]
    found = contrast(cells, mean_weights(4))
    assert contrast(cells, mean_weights(4)).bootstrap == found.bootstrap
    assert contrast(cells, mean_weights(4), seed=1).bootstrap != found.bootstrap
    assert found.interval.low < found.bootstrap.low < found.value < found.bootstrap.high < found.interval.high
    many = [generator.normal(1.0, 2.0, 400)]
    wide = contrast(many, mean_weights(1))
    assert wide.bootstrap == pytest.approx(wide.interval, abs=0.05)


def test_an_interval_of_seeds_and_rows_holds_the_truth_often_enough(monkeypatch):
    """Rows that all cells share err in one direction, which more seeds and cells do not mend."""
    monkeypatch.setattr("softprompt.studies.statistics._RESAMPLES", 1)
    generator = np.random.default_rng(0)

    def held(rows_error):
        inside = 0
        for _ in range(1000):
            shared = generator.normal(0.0, 2.0)
            cells = [generator.normal(1.0 + shared, 0.5, 3) for _ in range(3)]
            low, high = contrast(cells, mean_weights(3), rows_error=rows_error).interval
            inside += low <= 1.0 <= high
        return inside / 1000

    assert held(2.0) > 0.93
    assert held(0.0) < 0.4
