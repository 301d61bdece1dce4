"""A study as one thing: its folder says what was asked, and a quick one proves its machinery."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tests.studies.grids import small_grid

import softprompt as sp
from softprompt.errors import ConfigError
from softprompt.studies import StudyFolder, is_quick, load_grid, named_grids, quickened, run_grid, summarise
from softprompt.studies.quick import STAND_IN, unmade
from softprompt.studies.running import _told

RECORDED = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize(("name", "least"), [("backbones", 132), ("domain_shift", 36)])
def test_rows_that_were_recorded_are_still_found(name, least):
    """Sources joined a cell's identity, and further tasks a grid: without them, it is what it was."""
    cells = {cell.identity: cell for cell in load_grid(name).cells()}
    rows = [json.loads(line) for line in (RECORDED / name / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [row for row in rows if row["cell"] in cells]
    assert len(found) >= least
    for row in found:
        assert cells[row["cell"]].key(row["backbone_digest"], row["task_digest"]) == row["key"]


def test_the_folder_says_what_was_asked(tmp_path):
    grid = small_grid(tmp_path, seeds=(0,), methods={"bare": {"method": "text_prompt", "shots": (0, 1)}})
    study = sp.Study(grid, tmp_path / "out").run(device="cpu")
    assert load_grid(tmp_path / "out" / "study.yaml") == grid
    assert StudyFolder(tmp_path / "out").find_grid() == tmp_path / "out" / "study.yaml"
    assert [line.missing for line in study.lines] == [0, 0]
    assert len(study.table) == 2
    grown = dataclasses.replace(grid, seeds=(0, 1), methods={"bare": {"method": "text_prompt", "shots": 1}})
    again = sp.Study(grown, tmp_path / "out").run(device="cpu")
    assert len(again.table) == 3
    read = sp.Study(tmp_path / "out" / "study.yaml", tmp_path / "out")
    assert read.grid == grown
    assert read.lines == again.lines
    with pytest.raises(ConfigError, match=r"has no study\.yaml that would say what was run there; name the grid"):
        StudyFolder(tmp_path).find_grid()


def test_a_study_is_of_the_tasks_that_are_at_hand(tmp_path):
    grid = small_grid(tmp_path, seeds=(0,), methods={"bare": {"method": "text_prompt"}})
    absent = {**grid.tasks["reviews"], "optional": True, "train": str(tmp_path / "absent.jsonl")}
    study = sp.Study(dataclasses.replace(grid, tasks={**grid.tasks, "more": absent}), tmp_path / "out")
    assert [line.task for line in study.run(device="cpu").lines] == ["reviews"]
    assert len(study.table) == 1
    assert load_grid(tmp_path / "out" / "study.yaml") == grid
    wide = dataclasses.replace(grid, tasks={**grid.tasks, "more": absent})
    assert sp.Study(wide, tmp_path / "out").grid == grid
    assert sp.Study(wide, tmp_path / "none").grid == wide, "nobody has looked for its files there"
    assert sp.Study(dataclasses.replace(wide, name="other"), tmp_path / "out").grid.tasks == wide.tasks


def test_an_optional_task_that_is_still_to_be_run_is_not_left_out(tmp_path):
    """Whatever had no row yet was taken for what had no files, so a stopped study looked finished."""
    grid = small_grid(tmp_path, seeds=(0,), methods={"bare": {"method": "text_prompt"}})
    wide = dataclasses.replace(grid, tasks={**grid.tasks, "more": {**grid.tasks["reviews"], "optional": True}})
    study = sp.Study(wide, tmp_path / "out").run(device="cpu")
    first, _ = study.table
    study.table.path.write_text(json.dumps(first) + "\n", encoding="utf-8")
    assert study.grid == wide
    assert [len(line.scores) for line in study.lines] == [1, 0]


def test_claims_without_their_lines_are_not_kept(tmp_path):
    """A folder of some of the grid's methods could not be read again."""
    claims = [{"says": "more is more", "better": {"method": "a"}, "worse": {"method": "b"}}]
    methods = {label: {"method": "text_prompt", "shots": shots} for shots, label in enumerate("ba")}
    whole = small_grid(tmp_path, methods=methods, claims=claims, seeds=[0])
    run_grid(whole.narrowed(methods=["a"]), tmp_path / "out", device="cpu", say=lambda line: None)
    assert load_grid(tmp_path / "out" / "study.yaml").claims == ()
    assert quickened(whole).claims == whole.claims


def test_the_cost_is_told_from_the_table(tmp_path):
    grid = small_grid(tmp_path)
    rows = [timed(cell) for cell in grid.cells() if cell.seed == 0]
    rows[-1] = {**rows[-1], "session_runs": 1, "session_seconds": None}
    assert _told(grid, [*rows, {**rows[0], "cell": "of another grid"}]) == (
        "small: 3 runs, 3 of them trained in 2 sessions, 2.0 runs in each, that took 4 s, without 1 that were"
        " stopped on the way. What such sessions gain over one run at a time: `python -m benchmarks.packing` measures"
        " it."
    )
    assert _told(grid, []) == "small: 0 runs, 0 of them trained."


def test_the_cost_of_a_grid_is_that_of_members_too(tmp_path):
    """Runs whose seeds are an ensemble's alone were left out: four were told of where sixteen were trained."""
    methods = {
        "rows": {"method": "prompt_tuning", "length": 3, "init": "vocab", "learning_rate": 0.1},
        "vote": {"method": "ensemble", "of": "rows", "members": 5},
    }
    grid = small_grid(tmp_path, methods=methods)
    members = dataclasses.replace(grid, methods={"rows": methods["rows"]}, seeds=tuple(range(10)))
    rows = [timed(cell) for cell in members.cells()]
    assert _told(grid, rows).startswith("small: 10 runs, 10 of them trained in 2 sessions")


def timed(cell):
    """What the row of a run says of its cost."""
    scores = {"metric": "accuracy", "validation_accuracy": 50.0, "test_accuracy": 50.0, "test_majority": 50.0}
    digests = {"backbone_digest": "a", "task_digest": "a", "backbone_parameters": 9, "parameters": 3}
    row = {"key": cell.identity, "cell": cell.identity, "seed": cell.seed, "status": "finished"}
    return {**row, **scores, **digests, "backbone": cell.backbone, "session_runs": 4, "session_seconds": 8.0}


def test_a_quick_grid_is_small_and_another_study(tmp_path):
    methods = {
        "rows": {"method": "prompt_tuning", "length": [2, 3, 4], "learning_rate": [0.1, 0.2, 0.3], "steps": 900},
        "vote": {"method": "ensemble", "of": "rows", "members": 5, "length": [2, 3, 4], "learning_rate": [0.1, 0.2]},
    }
    backbones = ["bundled:t5-small", "bundled:t5-mini", "bundled:gpt-small", str(tmp_path)]
    grid = small_grid(tmp_path, backbones=backbones, methods=methods, seeds=[3, 4, 5], tune_seeds=[4])
    quick = quickened(grid)
    assert quick.backbones == ("bundled:t5-tiny", "bundled:gpt-mini", str(tmp_path))
    assert (quick.seeds, quick.tune_seeds, quick.rows) == ((3, 4), (3,), 4)
    assert {cell.settings["steps"] for cell in quick.cells()} == {2}
    assert {cell.settings["length"] for cell in quick.cells()} == {2, 3}
    assert {cell.settings["members"] for cell in quick.cells() if cell.is_ensemble} == {2}
    assert (quick.tasks["reviews"]["train_rows"], quick.tasks["reviews"]["validation_rows"]) == (16, 8)
    assert is_quick(quick)
    assert not is_quick(grid)
    assert not {cell.identity for cell in quick.cells()} & {cell.identity for cell in grid.cells()}
    drawn = quickened(small_grid(tmp_path, run={**grid.run, "train_rows": [5, 6, 7]}))
    assert "train_rows" not in drawn.tasks["reviews"]
    assert {cell.settings["train_rows"] for cell in drawn.cells()} == {5, 6}


def test_a_bundled_backbone_stands_in_for_what_is_still_to_be_made(tmp_path, monkeypatch):
    """The quick size of a grid of adapted backbones ended with what cannot be loaded."""
    monkeypatch.chdir(tmp_path)
    grid = load_grid("adaptation")
    assert unmade(grid) == tuple(grid.backbones)
    assert quickened(grid).backbones == (STAND_IN,)
    (tmp_path / "models" / "t5-small").mkdir(parents=True)
    assert quickened(grid).backbones == (STAND_IN, "models/t5-small")
    assert quickened(grid.narrowed(backbones=["google/t5-small"])).backbones == ("google/t5-small",)


@pytest.mark.parametrize("name", named_grids())
def test_every_named_grid_has_a_quick_size(name):
    grid = load_grid(name)
    quick = quickened(grid)
    cells = {cell.identity for cell in quick.cells()}
    assert len(cells) == len(quick.cells())
    assert len(cells) <= len(grid.cells())


@pytest.mark.slow
def test_a_quick_study_runs_through(tmp_path):
    """A grid with every kind of cell, on a bundled backbone: schema, resumption, packing, summary."""
    methods = {
        "bare": {"method": "text_prompt"},
        "rows": {"method": "prompt_tuning", "length": 20, "init": "vocab", "learning_rate": [0.1, 0.3, 1.0]},
        "moved": {
            "method": "prompt_tuning",
            "length": 20,
            "learning_rate": 0.3,
            "starts_from": {"task": "subj", "method": "rows"},
        },
        "vote": {"method": "ensemble", "of": "rows", "members": 5},
        "model tuning": {"method": "model_tuning", "learning_rate": [0.001, 0.003]},
    }
    grid = small_grid(
        tmp_path,
        backbones=["bundled:gpt-small"],
        tasks={"subj": {"task": "subj", "validation_rows": 500}},
        methods=methods,
        seeds=[0, 1, 2],
        tune_seeds=[0],
        run={"optimizer": "adamw", "truncate": True},
        runs_per_session=8,
    )
    quick = quickened(grid)
    said: list[str] = []
    table = run_grid(quick, tmp_path / "out", device="cpu", say=said.append)
    assert {row["status"] for row in table} == {"finished"}
    assert {row["backbone"] for row in table} == {"bundled:gpt-mini"}
    assert all({"key", "cell", "seed", "metric", "test_accuracy", "validation_accuracy"} <= row.keys() for row in table)
    assert max(row.get("session_runs", 0) for row in table) > 1
    assert [line.missing for line in summarise(quick, table)] == [0] * 5
    assert "7 sessions, 1.4 runs in each, that took" in said[-1]
    keys = [row["key"] for row in table]
    assert [row["key"] for row in run_grid(quick, tmp_path / "out", device="cpu", say=said.append)] == keys
