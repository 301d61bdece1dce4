"""Each score of a line has its seed, by which it is paired with another line's."""

from __future__ import annotations

import pytest
from tests.studies.studied import claim, claiming, scored

from softprompt.studies import judge, summarise

LEVELS = {0: 10.0, 1: 70.0, 2: 40.0}
"""By seed, what both sides score: far more apart than the sides, and neither rising nor falling."""


def gapped(cell):
    """Words lack seed 1; labels are 3, 4 and 5 points ahead."""
    labels = cell.settings.get("init") == "labels"
    return None if cell.seed == 1 and not labels else LEVELS[cell.seed] + labels * (3.0 + cell.seed)


def elsewhere(cell):
    return 100.0 - gapped(cell)


def test_a_line_says_which_seed_each_score_is_of():
    grid = claiming(claim(), tune_seeds=[0])
    lines = summarise(grid, scored(grid, gapped, books=elsewhere))
    labels, words = (
        next(line for line in lines if (line.task, line.axes.get("init")) == ("films", init))
        for init in ("labels", "words")
    )
    assert (labels.seeds, labels.scores) == ((0, 1, 2), (13.0, 74.0, 45.0))
    assert (words.seeds, words.scores) == ((0, 2), (10.0, 40.0))
    assert words.by_seed() == {0: 10.0, 2: 40.0}
    assert words.by_seed("books") == {0: 90.0, 2: 60.0}
    assert words.by_seed("shoes") == {}


def test_a_seed_missing_in_the_middle_shifts_no_pair():
    grid = claiming(claim(), claim(tested_on=["books"]), tune_seeds=[0])
    here, there = judge(grid, summarise(grid, scored(grid, gapped, books=elsewhere)))
    assert [finding.effect for finding in here.findings] == pytest.approx([(3.0 + 5.0) / 2] * 2)
    assert [finding.effect for finding in there.findings] == pytest.approx([-(3.0 + 5.0) / 2])
    assert {finding.seeds for finding in (*here.findings, *there.findings)} == {2}
