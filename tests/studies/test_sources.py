"""Cells that need what other cells learned: transfers and ensembles."""

from __future__ import annotations

import dataclasses
import shutil
from statistics import fmean

import numpy as np
import pytest
import yaml
from tests.studies.grids import small_grid
from tests.training.sessions import calm_backbone, sentiment, tensors

from softprompt.errors import ArtefactError, ConfigError
from softprompt.evaluation import evaluate
from softprompt.inference import Ensemble
from softprompt.inspection import map_prompts
from softprompt.prompts import SoftPrompt
from softprompt.studies import ResultsTable, load_grid, run_grid, summarise
from softprompt.studies.reading import read_task
from softprompt.training import TrainConfig, train

ROWS = {"method": "prompt_tuning", "length": 3, "init": "vocab", "learning_rate": [0.1, 0.3]}
START = {"task": "reviews", "method": "rows"}
MOVED = {"method": "prompt_tuning", "length": 3, "learning_rate": 0.1, "starts_from": START}
VOTE = {"method": "ensemble", "of": "rows", "members": 2}


def grid_of(tmp_path, methods, **changes):
    """Two tasks, one of which is the other with another template."""
    first = small_grid(tmp_path)
    tasks = {"reviews": first.tasks["reviews"], "shouted": {**first.tasks["reviews"], "input": "REVIEW {text}"}}
    return dataclasses.replace(first, tasks=tasks, methods=methods, **changes)


def ran(grid, folder, **options):
    return run_grid(grid, folder, device="cpu", say=lambda line: None, **options)


def by_cell(table):
    return {row["cell"]: row for row in table}


def test_a_run_starts_from_what_another_learned(tmp_path):
    grid = grid_of(tmp_path, {"rows": ROWS, "moved": MOVED}).narrowed(seeds=[0])
    table = ran(grid, tmp_path / "out")
    rows, cells = by_cell(table), [cell for cell in grid.cells() if cell.method == "moved"]
    chosen = next(line for line in summarise(grid, table) if (line.task, line.method) == ("reviews", "rows")).chosen
    (first,) = (
        row
        for row in table
        if (row["task"], row["label"], row["learning_rate"]) == ("reviews", "rows", chosen["learning_rate"])
    )
    stored = tmp_path / "out" / "prompts" / first["key"]
    for cell in cells:
        row = rows[cell.identity]
        assert row["source_keys"] == [first["key"]]
        assert row["starts_from"] == "rows on reviews"
        run = cell.run("a", read_task(cell.task, grid.tasks[cell.task]), [str(stored)])
        learned = train(calm_backbone("decoder-only"), [run], TrainConfig(progress=False))["a"].learned
        found = evaluate(calm_backbone("decoder-only"), learned, run.task, "test")
        assert row["test_accuracy"] == found["accuracy"]
        started = run.method.build(calm_backbone("decoder-only"), run.task, 0)
        assert all(
            value.equal(other)
            for value, other in zip(tensors(started).values(), tensors(SoftPrompt.load(stored)).values(), strict=True)
        )
    keys = [row["key"] for row in table]
    assert [row["key"] for row in ran(grid, tmp_path / "out")] == keys, "nothing is run twice"


@pytest.mark.slow
def test_an_ensemble_is_of_runs_with_seeds_of_its_own(tmp_path):
    methods = {"rows": ROWS, "vote": VOTE, "mean": {**VOTE, "combine": "mean"}}
    grid = grid_of(tmp_path, methods).narrowed(tasks=["reviews"])
    table = ran(grid, tmp_path / "out")
    assert sorted({row["seed"] for row in table if row["label"] == "rows"}) == [0, 1, 2, 3]
    rows, task = by_cell(table), read_task("reviews", grid.tasks["reviews"])
    members = {row["key"]: row for row in table if row["label"] == "rows"}
    for cell in grid.cells():
        if cell.is_ensemble:
            row = rows[cell.identity]
            assert [members[key]["seed"] for key in row["source_keys"]] == [2 * cell.seed, 2 * cell.seed + 1]
            prompts = [SoftPrompt.load(tmp_path / "out" / "prompts" / key) for key in row["source_keys"]]
            model = calm_backbone("decoder-only")
            ensemble = Ensemble(model, prompts, combine="mean" if cell.method == "mean" else "vote")
            assert row["test_accuracy"] == evaluate(model, ensemble, task, "test")["accuracy"]
            assert (row["parameters"], row["trained"]) == (2 * 3 * 24, 0)
            apart = [members[key] for key in row["source_keys"]]
            best = max(apart, key=lambda one: one["validation_accuracy"])
            assert row["measured_members_mean"] == pytest.approx(fmean(one["test_accuracy"] for one in apart))
            assert row["measured_members_best"] == pytest.approx(best["test_accuracy"])
            outcomes = {name: kept["values"] for name, kept in row["outcomes"].items()}
            apart_by_row = [one["outcomes"]["test"]["values"] for one in apart]
            assert outcomes["measured_members_mean"] == pytest.approx(np.mean(apart_by_row, axis=0))
            assert outcomes["measured_members_best"] == best["outcomes"]["test"]["values"]
            assert fmean(outcomes["test"]) == pytest.approx(row["test_accuracy"])
    lines = {line.method: line for line in summarise(grid, table)}
    assert {len(lines[name].scores) for name in methods} == {2}
    rates = {row["learning_rate"] for row in members.values() if row["seed"] > 1}
    assert rates == {lines["rows"].chosen["learning_rate"]}, "further members have the chosen values alone"


def test_a_grid_that_grew_makes_prompts_again_that_were_not_kept(tmp_path):
    grid = grid_of(tmp_path, {"rows": {**ROWS, "learning_rate": 0.1}}).narrowed(tasks=["reviews"], seeds=[0])
    (before,) = ran(grid, tmp_path / "out")
    assert not (tmp_path / "out" / "prompts").exists()
    grown = dataclasses.replace(grid, methods={**grid.methods, "longer": {**MOVED, "length": 5}})
    whole = list(ran(grown, tmp_path / "out"))
    assert whole[0] == before
    assert [row["source_keys"] for row in whole[1:]] == [[before["key"]]]
    shutil.rmtree(tmp_path / "out" / "prompts")
    assert list(ran(grown, tmp_path / "out")) == whole, "what nobody needs is not made again"


def test_a_prompt_that_does_not_come_again_is_named(tmp_path, monkeypatch):
    grid = grid_of(tmp_path, {"rows": {**ROWS, "learning_rate": 0.1}}).narrowed(tasks=["reviews"], seeds=[0])
    ran(grid, tmp_path / "out")
    monkeypatch.setattr("softprompt.studies.sessions._keep_prompts", lambda *given: None)
    grown = dataclasses.replace(grid, methods={**grid.methods, "longer": MOVED})
    with pytest.raises(ArtefactError, match="running it again did not make it; take its row out"):
        ran(grown, tmp_path / "out")


COMPARED = {"rows": ROWS, "moved": {**MOVED, "only_on": ["shouted"]}}


def test_a_start_is_compared_with_what_is_learned_on_the_task_alone(tmp_path):
    """Not with what the run itself learned, which is like its start whatever the tasks are."""
    grid = grid_of(tmp_path, COMPARED, seeds=(0,), measures=["similarity"])
    table = ran(grid, tmp_path / "out")
    rows = {row["key"]: row for row in table}
    (moved,) = (row for row in table if row["label"] == "moved")
    start, alone = (rows[key] for key in moved["source_keys"])
    chosen = {line.task: line.chosen for line in summarise(grid, table) if line.method == "rows"}
    for row, task in ((start, "reviews"), (alone, "shouted")):
        assert (row["task"], row["label"], row["seed"]) == (task, "rows", 0)
        assert row["learning_rate"] == chosen[task]["learning_rate"]
        assert not any(name.startswith("measured_") for name in row)
    prompts = [SoftPrompt.load(tmp_path / "out" / "prompts" / key) for key in moved["source_keys"]]
    found = map_prompts(calm_backbone("decoder-only"), dict(zip("ab", prompts, strict=True)))
    assert moved["measured_similarity"] == pytest.approx(100 * found.mean_row["rows"][0][1])
    assert moved["measured_similarity_rows"] == pytest.approx(100 * found.best_match["rows"][0][1])
    assert list(ran(grid, tmp_path / "out")) == list(table), "nothing is run twice"
    (cell,) = (cell for cell in grid.cells() if cell.method == "moved")
    run = cell.run("a", sentiment(), moved["source_keys"])
    assert list(run.method.source) == [start["key"]], "it starts from the first alone"


def test_comparing_starts_leaves_other_rows_as_they_are(tmp_path):
    def identities(method, **changes):
        cells = grid_of(tmp_path, COMPARED, seeds=(0,), **changes).cells()
        return {cell.identity for cell in cells if cell.method == method}

    assert identities("rows") == identities("rows", measures=["similarity"])
    assert not identities("moved") & identities("moved", measures=["similarity"])
    itself = grid_of(tmp_path, {"rows": ROWS, "moved": MOVED}, seeds=(0,), measures=["similarity"])
    compared = {cell.task: cell.alone for cell in itself.cells() if cell.method == "moved"}
    assert compared["reviews"] is None, "its start is the very prompt"
    assert (compared["shouted"].task, compared["shouted"].method) == ("shouted", "rows")


def test_methods_are_run_on_the_tasks_that_they_name(tmp_path):
    grid = grid_of(tmp_path, COMPARED)
    assert grid.pairs == [("reviews", "rows"), ("shouted", "rows"), ("shouted", "moved")]
    assert {cell.task for cell in grid.cells() if cell.method == "moved"} == {"shouted"}
    assert all("only_on" not in cell.settings for cell in grid.cells())
    assert list(grid.narrowed(tasks=["reviews"]).methods) == ["rows"]
    everywhere = grid_of(tmp_path, {**COMPARED, "moved": {**MOVED, "only_on": None}})
    assert everywhere.pairs == grid_of(tmp_path, {**COMPARED, "moved": MOVED}).pairs
    both = grid_of(tmp_path, {**COMPARED, "moved": {**MOVED, "only_on": ["reviews", "shouted"]}})
    everywhere = grid_of(tmp_path, {**COMPARED, "moved": MOVED})
    assert [cell.identity for cell in both.cells()] == [cell.identity for cell in everywhere.cells()]
    assert both.narrowed(tasks=["reviews"]).methods["moved"]["only_on"] == ["reviews"]


def test_what_needs_a_prompt_that_failed_fails(tmp_path):
    methods = {"rows": {**ROWS, "learning_rate": [1e30]}, "moved": MOVED, "vote": VOTE}
    grid = grid_of(tmp_path, methods, seeds=(0,)).narrowed(tasks=["reviews"])
    table = ran(grid, tmp_path / "out")
    assert [(row["label"], row["status"]) for row in table if row["label"] != "rows"] == [
        ("moved", "failed"),
        ("vote", "failed"),
    ]
    assert all("'rows' on 'reviews', whose prompts it needs" in row["reason"] for row in list(table)[1:])
    assert len(ran(grid, tmp_path / "out")) == len(table)


def test_a_prompt_is_there_before_its_row(tmp_path, monkeypatch):
    grid = grid_of(tmp_path, {"rows": ROWS, "moved": MOVED}, seeds=(0,)).narrowed(tasks=["reviews"])
    append = ResultsTable.append

    def checked(self, row):
        assert row["label"] != "rows" or (tmp_path / "out" / "prompts" / row["key"]).is_dir()
        append(self, row)

    monkeypatch.setattr(ResultsTable, "append", checked)
    assert len(ran(grid, tmp_path / "out")) == 3


def test_what_a_cell_needs_is_part_of_its_identity(tmp_path):
    def moved(rows, **start):
        methods = {"rows": rows, "moved": {**MOVED, "starts_from": {**START, **start}}}
        return {cell.identity for cell in grid_of(tmp_path, methods, seeds=(0,)).cells() if cell.method == "moved"}

    first = moved(ROWS)
    assert first == moved(ROWS)
    assert not first & moved({**ROWS, "length": 4})
    assert not first & moved(ROWS, task="shouted")
    grid = grid_of(tmp_path, {"rows": ROWS, "moved": MOVED}, seeds=(0,))
    renamed = {**grid.tasks, "reviews": {**grid.tasks["reviews"], "input": "{text}"}}
    other = {cell.identity for cell in dataclasses.replace(grid, tasks=renamed).cells() if cell.method == "moved"}
    assert not first & other
    cell = grid.cells()[-1]
    assert cell.key("a", "b", ["c"]) != cell.key("a", "b", ["d"])


def test_the_values_of_common_axes_are_the_same(tmp_path):
    methods = {"rows": {**ROWS, "length": [2, 3]}, "vote": {**VOTE, "length": 2}}
    with pytest.raises(ConfigError, match=r"methods\.vote .* several by length; give it the length that is meant"):
        grid_of(tmp_path, {**methods, "vote": VOTE})
    run = {**small_grid(tmp_path).run, "train_rows": [6, 8]}
    grid = grid_of(tmp_path, {"rows": ROWS, "moved": MOVED}, run=run, seeds=(0,), tune_seeds=(0,))
    table = ran(grid.narrowed(tasks=["reviews"]), tmp_path / "out")
    rows = {row["key"]: row for row in table}
    moved = [row for row in table if row["label"] == "moved"]
    assert sorted(row["train_rows"] for row in moved) == [6, 8]
    assert all(rows[key]["train_rows"] == row["train_rows"] for row in moved for key in row["source_keys"])
    unmatched = grid_of(tmp_path, {"rows": {**ROWS, "length": [2, 4]}, "moved": MOVED})
    with pytest.raises(ConfigError, match=r"needs what 'rows' learns with \{'length': 3\}, which the grid does not"):
        ran(unmatched, tmp_path / "other")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"a": {**MOVED, "starts_from": "rows"}}, r"starts_from is 'rows'; expected \{task: LABEL, method: LABEL\}"),
        ({"a": {**MOVED, "init": "vocab"}}, "starts_from says how its prompts start; drop init"),
        ({"a": {**MOVED, "method": "model_tuning"}}, "model_tuning learns no prompt that could start from another"),
        ({"a": {**MOVED, "starts_from": {**START, "task": "review"}}}, "Did you mean 'reviews'"),
        ({"a": {**MOVED, "starts_from": {**START, "method": "row"}}}, "Did you mean 'rows'"),
        ({"a": {**VOTE, "of": "bare"}, "bare": {"method": "text_prompt"}}, "names 'bare', but text_prompt learns no"),
        ({"a": {**MOVED, "starts_from": {**START, "method": "a"}}}, "which needs its own prompts; name another"),
        ({"a": {**VOTE, "members": 0}}, "members=0; expected how many"),
        ({"a": {**VOTE, "members": [2, 0]}}, "members=0; expected how many"),
        ({"a": {**VOTE, "combine": "votes"}}, "Did you mean 'vote'"),
        ({"a": {"method": "ensemble", "members": 2}}, "lacks of: LABEL"),
        ({"a": {**MOVED, "only_on": ["review"]}}, "task in only_on of methods.a 'review'. Did you mean 'reviews'"),
        ({"a": {**MOVED, "only_on": "reviews"}}, "only_on of methods.a is 'reviews'; expected a list"),
        ({"rows": {**ROWS, "only_on": ["shouted"]}, "a": MOVED}, "on 'reviews', which its only_on leaves out; add"),
    ],
)
def test_what_cannot_be_needed_is_refused(tmp_path, methods, message):
    with pytest.raises(ConfigError, match=message):
        grid_of(tmp_path, {"rows": ROWS, **methods})


def test_what_may_be_left_out_is_no_source(tmp_path):
    grid = grid_of(tmp_path, {"rows": ROWS})
    optional = {**grid.tasks, "reviews": {**grid.tasks["reviews"], "optional": True}}
    with pytest.raises(ConfigError, match="names the task 'reviews', which is left out where its files are not there"):
        dataclasses.replace(grid, tasks=optional, methods={"rows": ROWS, "moved": MOVED})


def test_an_ensemble_has_no_settings_of_others(tmp_path):
    grid = grid_of(tmp_path, {"rows": ROWS, "vote": {**VOTE, "shots": 2}})
    with pytest.raises(ConfigError, match="Unknown setting of 'vote' 'shots'"):
        ran(grid, tmp_path / "out")


def test_a_grid_may_name_them(tmp_path):
    starts = [None, START]
    grid = grid_of(tmp_path, {"rows": ROWS, "moved": {**MOVED, "starts_from": starts}, "vote": VOTE}, seeds=(0,))
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({"tasks": dict(grid.tasks), "backbones": ["a"], "methods": dict(grid.methods)}))
    told = {cell.settings["starts_from"] for cell in load_grid(file).cells() if cell.method == "moved"}
    assert told == {None, "rows on reviews"}
