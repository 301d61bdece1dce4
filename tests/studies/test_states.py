"""Which rows of a folder count, where models, data or sizes changed and changed back."""

from __future__ import annotations

import json
import re

import pytest
from tests.studies.grids import small_grid
from tests.studies.tables import ran

import softprompt as sp
from softprompt.errors import ConfigError
from softprompt.reporting import open_study
from softprompt.studies import quickened, summarise

BARE = {"bare": {"method": "text_prompt"}}


def bare_grid(tmp_path, **changes):
    return small_grid(tmp_path, methods=BARE, seeds=[0], tune=[], **changes)


def test_data_that_were_changed_back_have_their_scores_again(tmp_path):
    """The rows that were appended last were taken as the present ones: all lines had no scores for good."""
    grid, out = bare_grid(tmp_path), tmp_path / "out"
    train = tmp_path / "data" / "train.jsonl"
    first = sp.Study(grid, out).run(device="cpu").lines
    before = train.read_text(encoding="utf-8")
    train.write_text("".join(before.splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert len(sp.Study(grid, out).run(device="cpu").table) == 2
    train.write_text(before, encoding="utf-8")
    study = sp.Study(grid, out).run(device="cpu")
    assert len(study.table) == 2, "the same data are not scored again"
    assert study.lines == first
    assert open_study(out).lines == tuple(first)
    assert [line.scores for line in first] == [(next(iter(study.table))["test_accuracy"],)]
    (out / "states.json").unlink()
    assert [line.missing for line in study.lines] == [0], "a folder of before is read by its last rows"


def test_a_run_that_was_stopped_counts_no_row_of_before(tmp_path):
    grid, out = bare_grid(tmp_path), tmp_path / "out"
    ran(grid, out)
    noted = json.loads((out / "states.json").read_text(encoding="utf-8"))
    (out / "states.json").write_text(json.dumps({place: ["other", "other"] for place in noted}), encoding="utf-8")
    assert [(line.scores, line.missing) for line in sp.Study(grid, out).lines] == [((), 1)]


def test_rows_of_another_grid_say_nothing_of_the_state(tmp_path):
    """After a quick grid in the same folder, a whole one had no scores, and could not be run again."""
    grid = bare_grid(tmp_path)
    rows = list(ran(grid, tmp_path / "whole"))
    rows += list(ran(quickened(grid), tmp_path / "quick"))
    assert {row["task"] for row in rows} == {"reviews"}
    assert len({row["task_digest"] for row in rows}) == 2
    assert [line.missing for line in summarise(grid, rows)] == [0]


@pytest.mark.parametrize("has_grid", [True, False])
@pytest.mark.parametrize("size", [quickened, lambda grid: grid], ids=["quick", "whole"])
def test_a_folder_is_of_one_size(tmp_path, size, has_grid):
    grid, out = bare_grid(tmp_path), tmp_path / "out"
    first = size(grid)
    other = grid if first != grid else quickened(grid)
    ran(first, out)
    if not has_grid:
        (out / "study.yaml").unlink()
    before = (out / "results.jsonl").read_bytes()
    said = f"holds runs of {first.name!r}, and {other.name!r} is a study of its own; give it another output_dir."
    with pytest.raises(ConfigError, match=re.escape(said)):
        ran(other, out)
    assert (out / "results.jsonl").read_bytes() == before
    assert len(ran(first, out)) == 1
