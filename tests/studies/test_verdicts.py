"""What is said of a claim, by where the interval of its effect lies."""

from __future__ import annotations

import dataclasses

import pytest
from tests.studies.studied import BETTER, SIZES, WORSE, claim, claiming, scored

from softprompt.studies import judge, summarise
from softprompt.studies.statistics import contrast, mean_weights, sign_flip_p

NOISE = {0: -0.5, 1: 0.0, 2: 0.5}


def judged(grid, score, **elsewhere):
    return judge(grid, summarise(grid, scored(grid, score, **elsewhere)))


def ahead(points):
    """Rows that begin as labels so many points ahead, with some noise."""

    def score(cell):
        noise = NOISE[cell.seed]
        return 60.0 + noise * 0.3 + (points + noise if cell.settings.get("init") == "labels" else 0.0)

    return score


@pytest.mark.parametrize(
    ("points", "changes", "outcome"),
    [
        (3.0, {}, "supported"),
        (-3.0, {}, "not supported"),
        (0.1, {}, "undecided"),
        (3.0, {"margin": 2}, "supported"),
        (3.0, {"margin": 4}, "not supported"),
        (3.0, {"margin": 3}, "undecided"),
        (-1.0, {"margin": -2}, "supported"),
        (-3.0, {"margin": -2}, "not supported"),
        (0.5, {"within": 1}, "supported"),
        (-0.5, {"within": 1}, "supported"),
        (3.0, {"within": 1}, "not supported"),
        (-3.0, {"within": 1}, "not supported"),
        (1.0, {"within": 1}, "undecided"),
    ],
)
def test_the_outcome_is_where_the_interval_lies(points, changes, outcome):
    (found,) = judged(claiming(claim(**changes)), ahead(points))
    assert found.outcome == outcome
    assert found.effect == pytest.approx(points)
    assert found.low < found.effect < found.high
    assert (found.seeds, found.cells, found.unit, found.reason) == (3, 8, "points", "")


def test_effect_interval_and_p_are_those_of_the_differences():
    grid = claiming(claim(among={"length": [1], "task": ["films"]}, margin=1))
    (found,) = judged(grid, ahead(2.0))
    cells = [contrast_cell(2.0)] * 2
    known = contrast(cells, mean_weights(2))
    assert (found.low, found.high) == pytest.approx(known.interval)
    assert found.bootstrap == pytest.approx(known.bootstrap)
    assert found.p == sign_flip_p(cells, margin=1)
    (same,) = judged(claiming(claim(within=5)), ahead(2.0))
    assert same.p < 1e-6


def contrast_cell(points):
    import numpy as np

    return np.array([points + noise for noise in NOISE.values()])


def test_scores_are_paired_by_seed():
    """Seeds that are hard for both lines hide no difference between them."""

    def score(cell):
        return 60.0 + 20 * cell.seed + (1.0 + 0.1 * NOISE[cell.seed] if cell.settings.get("init") == "labels" else 0.0)

    (found,) = judged(claiming(claim()), score)
    assert found.outcome == "supported"
    assert found.high - found.low < 0.2


def test_a_seed_that_one_line_lacks_is_left_out_and_told():
    def score(cell):
        return None if (cell.settings.get("init"), cell.seed, cell.task) == ("words", 2, "films") else ahead(3.0)(cell)

    grid = claiming(claim(), tune_seeds=[0])
    (found,) = judged(grid, score)
    assert (found.outcome, found.seeds, found.cells) == ("supported", 2, 8)
    assert found.reason == "4 of 8 comparisons lack some of the 3 seeds."


def test_one_seed_is_no_verdict():
    grid = claiming(claim(), seeds=[0])
    (found,) = judged(grid, ahead(3.0))
    assert (found.outcome, found.low, found.high, found.p, found.seeds) == ("undecided", None, None, None, 1)
    assert found.effect == pytest.approx(2.5)
    assert found.reason == "A verdict needs two seeds of each comparison at least, and one has 1."


def test_a_claim_without_scores_is_not_tested():
    grid = claiming(claim())
    (found,) = judged(grid, lambda cell: None)
    assert (found.outcome, found.effect, found.seeds, found.cells) == ("not tested", None, 0, 0)
    assert found.reason == "8 of 8 comparisons have no scores yet."
    (part,) = judged(grid, lambda cell: ahead(3.0)(cell) if cell.task == "films" else None)
    assert (part.outcome, part.cells, part.reason) == ("supported", 4, "4 of 8 comparisons have no scores yet.")
    narrowed = grid.narrowed(methods=["weights"])
    (gone,) = judge(narrowed, summarise(narrowed, []))
    assert gone.outcome == "not tested"
    assert gone.reason == (
        "The study has no two lines to compare; run the backbones, tasks and methods that the claim names."
    )


def test_what_a_backbone_cannot_have_is_told():
    grid = claiming(claim())
    lines = [
        dataclasses.replace(line, scores=(), seeds=(), unsupported="it has no rows.") if line.task == "topics" else line
        for line in summarise(grid, scored(grid, ahead(3.0)))
    ]
    (found,) = judge(grid, lines)
    assert (found.outcome, found.cells) == ("supported", 4)
    assert found.reason == "4 of 8 comparisons cannot be: it has no rows."


def test_a_comparison_at_one_rate_is_marked():
    methods = {
        "rows": {"method": "prompt_tuning", "learning_rate": [0.1, 0.3]},
        "weights": {"method": "model_tuning", "learning_rate": 0.001},
        "bare": {"method": "text_prompt", "learning_rate": 1},
    }
    sides = {"better": {"method": "rows"}, "worse": {"method": "weights"}}
    grid = claiming(
        {"says": "rows do better", **sides},
        {"says": "rows learn", **sides, "worse": {"method": "bare"}},
        methods=methods,
        tasks={"films": {"task": "sst2"}},
    )
    weights, bare = judged(grid, lambda cell: 60.0 + NOISE[cell.seed] + (5 if cell.method == "rows" else 0))
    assert weights.reason == "weights on films has one learning_rate alone."
    assert bare.reason == ""


def test_a_gap_that_closes_with_scale():
    grid = claiming(
        {
            "says": "the gap closes",
            "better": {"method": "weights"},
            "worse": {"method": "rows", "init": "labels", "length": 10},
            "falls_with": "backbone_parameters",
        },
        {
            "says": "the gap widens",
            "better": {"method": "weights"},
            "worse": {"method": "rows", "init": "labels", "length": 10},
            "rises_with": "backbone_parameters",
            "margin": -9,
        },
    )

    def score(cell):
        gap = {"bundled:t5-tiny": 12.0, "bundled:t5-mini": 5.0}[cell.backbone] + (20 if cell.task == "topics" else 0)
        return 90.0 + NOISE[cell.seed] if cell.method == "weights" else 90.0 - gap

    falls, rises = judged(grid, score)
    assert SIZES["bundled:t5-mini"] == 10 * SIZES["bundled:t5-tiny"]
    assert (falls.outcome, falls.unit) == ("supported", "points per tenfold of backbone_parameters")
    assert falls.effect == pytest.approx(-7.0), "each task has its own level"
    assert falls.low < -7 < falls.high < 0
    assert (rises.outcome, rises.effect) == ("supported", falls.effect), "it is no more than 9 points that it falls"
    assert falls.p < 0.001
    assert rises.p > falls.p
    one = grid.narrowed(backbones=["bundled:t5-mini"])
    (alone, _) = judged(one, score)
    assert alone.outcome == "not tested"
    assert alone.reason == "A trend needs two values of backbone_parameters at least."


def test_a_gap_that_goes_with_an_axis():
    sides = {"better": BETTER, "worse": WORSE}
    grid = claiming({"says": "the start matters more for long prompts", **sides, "rises_with": "length"})

    def score(cell):
        if cell.method == "weights" or cell.settings["init"] == "words":
            return 60.0
        return 60.0 + NOISE[cell.seed] + {1: 1.0, 10: 4.0}[cell.settings["length"]]

    (found,) = judged(grid, score)
    assert found.outcome == "supported"
    assert found.effect == pytest.approx(3.0)
    against = {**sides, "worse": {"method": "weights"}}
    (other,) = judged(claiming({"says": "length helps", **against, "better": BETTER, "falls_with": "length"}), score)
    assert (other.outcome, other.effect) == ("not supported", pytest.approx(3.0))


def test_scores_on_further_tasks():
    grid = claiming(
        claim(tested_on=["books"]),
        claim(tested_on=["books", "shoes"]),
        claim(moved_to=["books", "shoes"]),
    )

    def books(cell):
        return 50.0 + NOISE[cell.seed] + (4.0 if cell.settings.get("init") == "labels" else 0.0)

    def shoes(cell):
        return 40.0 + NOISE[cell.seed] + (2.0 if cell.settings.get("init") == "labels" else 0.0)

    one, both, moved = judged(grid, ahead(5.0), books=books, shoes=shoes)
    assert (one.effect, one.cells) == (pytest.approx(4.0), 4), "topics is tested on nothing else"
    assert (both.effect, both.cells) == (pytest.approx(3.0), 4), "one difference for each run, the mean of both"
    assert moved.effect == pytest.approx(3.0 - 5.0), "labels lose two points more on the way"
    assert (one.outcome, both.outcome, moved.outcome) == ("supported", "supported", "not supported")
