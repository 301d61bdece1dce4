"""A study's folder: which grid it is read with."""

from __future__ import annotations

import pytest
from tests.unit.reporting.rows import SIZES, grid, rows, write_study

from softprompt.errors import ConfigError, DataError
from softprompt.reporting import open_study


def test_the_grid_beside_the_results_is_taken(tmp_path):
    asked = grid()
    study = open_study(write_study(tmp_path, asked, rows(asked)))
    assert study.grid == asked
    assert study.grid_name == str(tmp_path / "study.yaml")
    assert [line.scores for line in study.lines][:2] == [(62.0, 63.0, 64.0), (65.0, 66.0, 67.0)]
    assert study.last == "2026-11-22"


def test_a_grid_of_a_known_name_is_found_by_its_rows_and_another_is_asked_for(tmp_path):
    asked = grid()
    with pytest.raises(ConfigError, match=r"no study.yaml, and no grid 'made up' comes with softprompt; give --grid"):
        open_study(write_study(tmp_path / "a", asked, rows(asked), with_grid=False))
    named = [{**one, "study": "backbones"} for one in rows(asked)]
    with pytest.raises(ConfigError, match=r"No row of the table is of a cell of the grid 'backbones'"):
        open_study(write_study(tmp_path / "b", asked, named, with_grid=False))


def test_backbones_beside_the_grids_are_told_of_as_far_as_they_were_run(tmp_path):
    asked, further = grid(), grid(backbones=list(SIZES))
    tasks = grid(tasks={**asked.tasks, "books": {"task": "amazon_books"}})
    lines = [{**one, "key": f"more{one['key']}"} for one in rows(further) if one["backbone"] not in asked.backbones]
    study = open_study(write_study(tmp_path, tasks, rows(asked) + lines))
    assert {line.task for line in study.lines if line.backbone == "bundled:gpt-mini"} == {"films"}
    assert {line.backbone for line in study.lines} == set(SIZES)
    assert sum(line.missing for line in study.lines if line.backbone not in asked.backbones) == 0


def test_without_results_there_is_no_study(tmp_path):
    with pytest.raises(DataError, match=r"has no results.jsonl; give the folder that `softprompt study` wrote to"):
        open_study(tmp_path)
    with pytest.raises(DataError, match=r"has no rows; run the study first"):
        open_study(write_study(tmp_path, grid(), []))
