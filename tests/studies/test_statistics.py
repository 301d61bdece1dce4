"""Contrasts of cells against the textbooks' formulas, written out; and how often an interval holds the truth."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from softprompt.studies.statistics import contrast, mean_weights, sign_flip_p, slope_weights, t_p, within_p

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
    assert t_p(found) == pytest.approx(known.pvalue, abs=1e-9)
    assert found.interval == pytest.approx(tuple(known.confidence_interval(0.95)), abs=1e-6)


@given(st.lists(st.tuples(st.sampled_from([1, 5, 20, 100]), POINTS, st.sampled_from("ab")), min_size=2, max_size=8))
def test_a_slope_is_that_of_least_squares_with_an_intercept_for_each_group(cells):
    quantities, means, groups = zip(*cells, strict=True)
    weights = slope_weights(np.array(quantities, dtype=float), groups)
    if all(len({q for q, other in zip(quantities, groups, strict=True) if other == one}) == 1 for one in groups):
        assert weights is None
        return
    design = np.array(
        [
            [np.log10(quantity), *(float(group == one) for one in sorted(set(groups)))]
            for quantity, group in zip(quantities, groups, strict=True)
        ]
    )
    slope = np.linalg.lstsq(design, np.array(means), rcond=None)[0][0]
    assert weights @ np.array(means) == pytest.approx(slope, abs=1e-6)


@given(CELLS.filter(lambda cells: sum(map(len, cells)) <= 8), st.sampled_from([0.0, 1.5]))
def test_flips_of_signs_are_all_tried(cells, margin):
    told = [[value - margin for value in cell] for cell in as_lists(cells)]

    def far(signed):
        return abs(statistics.fmean(statistics.fmean(cell) for cell in signed))

    places = [(row, column) for row, cell in enumerate(told) for column in range(len(cell))]
    worlds = []
    for signs in itertools.product((-1, 1), repeat=len(places)):
        flipped = [list(cell) for cell in told]
        for (row, column), sign in zip(places, signs, strict=True):
            flipped[row][column] *= sign
        worlds.append(far(flipped))
    known = statistics.fmean(world >= far(told) - 1e-9 for world in worlds)
    assert sign_flip_p(cells, margin=margin) == pytest.approx(known)


def test_many_flips_are_drawn_and_come_near_to_all():
    cells = [np.array([1.0, 2.0, -0.5, 1.5, 0.7]), np.array([0.2, 1.2, -1.0, 0.9, 2.0])]
    exact = sign_flip_p(cells)
    more = [np.repeat(cell, 2) for cell in cells]  # twice the differences: 20, too many for all patterns
    assert sign_flip_p(more) == sign_flip_p(more)
    assert 0 < sign_flip_p(more) < exact
    assert sign_flip_p(more) == pytest.approx(t_p(contrast(more, mean_weights(2))), abs=0.02), (
        "with many differences both tests say about the same"
    )


def test_the_least_p_of_three_seeds_is_a_quarter():
    assert sign_flip_p([np.array([5.0, 6.0, 7.0])]) == 0.25
    assert sign_flip_p([np.array([5.0, 6.0, 7.0])] * 2) == 2 / 64


def test_equality_has_two_one_sided_tests():
    found = contrast([np.array([0.1, -0.2, 0.3, 0.0])], mean_weights(1))
    cell = np.array([0.1, -0.2, 0.3, 0.0])
    known = max(
        stats.ttest_1samp(cell, -1.0, alternative="greater").pvalue,
        stats.ttest_1samp(cell, 1.0, alternative="less").pvalue,
    )
    assert within_p(found, 1.0) == pytest.approx(known)
    assert within_p(found, 0.01) > 0.5
    assert within_p(contrast([-cell], mean_weights(1)), 1.0) == pytest.approx(known), "whichever side is ahead"


def test_seeds_that_do_not_differ_leave_no_doubt():
    same = contrast([np.array([2.0, 2.0])], mean_weights(1))
    assert (same.interval, same.bootstrap, t_p(same), t_p(same, 2.0)) == ((2.0, 2.0), (2.0, 2.0), 0.0, 1.0)


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
    weights = slope_weights(lengths, "aaabbb")

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
