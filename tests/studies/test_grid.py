"""What a grid stands for."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from tests.studies.grids import small_grid

from softprompt.errors import ConfigError, DataError, MissingFileError
from softprompt.evaluation import TextPrompt
from softprompt.prompts import PromptTuning
from softprompt.studies import load_grid, named_grids, reading, summarise
from softprompt.studies.reading import read_others, read_task
from softprompt.tasks import get_scorer
from softprompt.training import ModelTuning

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tasks"


def test_lists_are_axes(tmp_path):
    cells = small_grid(tmp_path).cells()
    assert [(cell.method, cell.settings["learning_rate"], cell.seed) for cell in cells] == [
        ("prompt tuning", 0.1, 0),
        ("prompt tuning", 0.1, 1),
        ("prompt tuning", 0.3, 0),
        ("prompt tuning", 0.3, 1),
        ("model tuning", 0.01, 0),
        ("model tuning", 0.01, 1),
    ]
    assert len({cell.identity for cell in cells}) == len(cells)


def test_a_cell_is_a_run(tmp_path):
    grid = small_grid(tmp_path)
    task = read_task("reviews", grid.tasks["reviews"])
    run = grid.cells()[3].run("a", task)
    assert run.method == PromptTuning(length=3, init="vocab")
    assert (run.learning_rate, run.seed, run.steps, run.optimizer) == (0.3, 1, 4, "adamw")
    assert grid.cells()[-1].run("b", task).method == ModelTuning()


def test_keys_tell_models_and_data_apart(tmp_path):
    cell = small_grid(tmp_path).cells()[0]
    assert len({cell.key("a", "a"), cell.key("a", "b"), cell.key("b", "a")}) == 3
    for other in ({"rows": 5}, {"split": "validation"}, {"session": {"precision": "bf16"}}):
        assert small_grid(tmp_path, **other).cells()[0].key("a", "a") != cell.key("a", "a")
    assert small_grid(tmp_path, session={}).cells()[0].key("a", "a") == cell.key("a", "a")
    moved = small_grid(tmp_path).with_data("elsewhere").cells()[0]
    assert moved.key("a", "a") == cell.key("a", "a")


def test_a_grid_is_narrowed_to_what_is_asked(tmp_path):
    grid = small_grid(tmp_path, tune_seeds=[1])
    assert grid.narrowed() == grid
    narrowed = grid.narrowed(backbones=["other"], tasks=["reviews"], seeds=[1, 2])
    assert (narrowed.backbones, list(narrowed.tasks)) == (("other",), ["reviews"])
    assert (narrowed.seeds, narrowed.tune_seeds) == ((1, 2), (1,))
    assert grid.narrowed(seeds=[7, 8]).tune_seeds == (7,)
    assert small_grid(tmp_path).narrowed(seeds=[7]).tune_seeds is None
    assert {cell.identity for cell in grid.narrowed(seeds=[1]).cells()} < {cell.identity for cell in grid.cells()}
    with pytest.raises(ConfigError, match=r"Unknown task of the grid .*Did you mean 'reviews'"):
        grid.narrowed(tasks=["review"])


def test_what_is_reported_is_not_what_is_chosen_on(tmp_path):
    grid = small_grid(tmp_path)
    task = read_task("reviews", grid.tasks["reviews"])
    assert {split: len(task.examples(split)) for split in task.splits} == {"train": 32, "validation": 8, "test": 10}
    trained = {example.source for example in task.examples("train")}
    assert not trained & {example.source for example in task.examples("validation")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbones": []}, "no backbones"),
        ({"seeds": []}, "no seeds"),
        ({"session": {"precison": "bf16"}}, "Did you mean 'precision'"),
        ({"loading": {"clases": 2}}, "Did you mean 'classes'"),
        ({"loading": {"device": "cpu"}}, "loading in the grid 'small'"),
        ({"methods": {"a": {"length": 3}}}, "lacks method"),
        ({"methods": {"a": {"method": "prompt_tuning", "seed": 1}}}, "lists seeds itself"),
        ({"runs_per_session": 0}, "at least 1"),
        ({"backbones": "bundled:t5-small"}, "is a list"),
        ({"tune_seeds": []}, "tune_seeds of the grid 'small' is empty"),
        ({"tune": ["learning_rat"]}, "Did you mean 'learning_rate'"),
        ({"rows": 0}, "rows=0"),
        ({"tune_seeds": [0, 7]}, "7 is none of its seeds"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        small_grid(tmp_path, **changes)


def test_data_must_be_given(tmp_path):
    grid = small_grid(tmp_path, tasks={"sst2": {"task": "sst2", "data_dir": "{data}/sst2"}})
    assert grid.tasks["sst2"]["data_dir"] == f"{tmp_path / 'data'}/sst2"
    with pytest.raises(ConfigError, match="data_dir"):
        load_grid("backbones").with_data(None)


@pytest.mark.parametrize("name", named_grids())
def test_every_named_grid_is_whole(name):
    assert len({cell.identity for cell in load_grid(name).cells()}) == len(load_grid(name).cells())


def test_an_unknown_grid_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"Known: .*backbones"):
        load_grid("backbone")
    broken = tmp_path / "grid.yaml"
    broken.write_text("[1, 2", encoding="utf-8")
    with pytest.raises(ConfigError, match="no YAML"):
        load_grid(broken)
    broken.write_text("method: {}", encoding="utf-8")
    with pytest.raises(ConfigError, match="Did you mean 'methods'"):
        load_grid(broken)


def test_settings_of_a_task_are_checked():
    with pytest.raises(ConfigError, match="setting of the task 'a'"):
        read_task("a", {"task": "subj", "inputs": "{text}"})
    with pytest.raises(ConfigError, match="The task 'a'"):
        read_task("a", {"train": "a.jsonl", "input": "{text}", "target": "{label}", "sizes": 3})
    with pytest.raises(ConfigError) as refusal:
        read_task("a", {"task": "subj", "group": "text"})
    assert str(refusal.value) == (
        "The task 'a': group is for files of your own; the task subj says itself what is scored together. Drop it."
    )
    with pytest.raises(ConfigError, match="scores groups of rows"):
        read_task("a", {"task": "subj", "metrics": ["multirc"]})
    task = read_task("a", {"task": "subj", "input": "{text} It is", "train_rows": 20, "seed": 1})
    assert len(task.examples("train")) == 20
    assert task.examples("train")[0].input.endswith("It is")


def test_every_seed_draws_its_own_training_rows(tmp_path):
    run = {"optimizer": "adamw", "batch_size": 4, "steps": 4, "train_rows": [6, 12]}
    grid = small_grid(tmp_path, run=run)
    task = read_task("reviews", grid.tasks["reviews"])
    drawn = {}
    for cell in grid.cells():
        (learned,) = cell.run("a", task).tasks
        rows = [example.source for example in learned.examples("train")]
        assert len(rows) == cell.settings["train_rows"]
        assert learned.examples("validation") == task.examples("validation")
        drawn.setdefault((cell.settings["train_rows"], cell.seed), []).append(rows)
    assert len(drawn) == 4
    assert all(rows == several[0] for several in drawn.values() for rows in several), "methods see the same rows"
    assert drawn[6, 0][0] != drawn[6, 1][0]
    shots = small_grid(tmp_path, methods={"shots": {"method": "text_prompt", "shots": 2, "train_rows": 3}}).cells()[0]
    assert shots.text_prompt(task) == TextPrompt.few_shot(shots.drawn(task), 2, seed=0)


def test_a_task_names_others_that_it_is_tested_on(tmp_path):
    grid = small_grid(tmp_path)
    settings = {**grid.tasks["reviews"], "tested_on": {"same": None, "short": {"input": "{text}", "split": "train"}}}
    others = read_others("reviews", settings, "validation")
    assert {label: other.split for label, other in others.items()} == {"same": "validation", "short": "train"}
    assert len(others["same"].task.examples("train")) == 40, "what is set aside is the trained task's affair"
    assert others["same"].task.examples("train")[0].input.startswith("review : ")
    assert not others["short"].task.examples("train")[0].input.startswith("review : ")
    with pytest.raises(
        ConfigError, match="'same' has no test split to test 'reviews' on; set its split: train or vali"
    ):
        read_others("reviews", settings, "test")
    for key in ("run", "tested_on", "validation_rows"):
        with pytest.raises(
            ConfigError, match=f"{key} of 'same', which 'reviews' is tested on: nothing is trained there"
        ):
            read_others("reviews", {**settings, "tested_on": {"same": {key: {"a": 1}}}}, "validation")
    with pytest.raises(ConfigError, match="expected tasks by label"):
        read_others("reviews", {**settings, "tested_on": ["same"]}, "validation")


def test_an_optional_task_is_left_out_without_its_files(tmp_path):
    grid, said = small_grid(tmp_path), []
    settings = {
        **grid.tasks["reviews"],
        "tested_on": {"same": {"split": ["test", "train"]}, "more": {"optional": True}},
    }
    assert {label: other.split for label, other in read_others("reviews", settings, "train").items()} == {
        "same": "train",
        "more": "train",
    }
    lacking = {**settings["tested_on"]["more"], "train": str(tmp_path / "more.jsonl")}
    less = {**settings, "tested_on": {**settings["tested_on"], "more": lacking}}
    assert list(read_others("reviews", less, "train", say=said.append)) == ["same"]
    assert said == [f"'reviews' is not tested on 'more': There is no file {tmp_path}/more.jsonl; check the path."]
    (tmp_path / "more.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"more\.jsonl:1: is not valid JSON"):
        read_others("reviews", less, "train")
    lacking["optional"] = False
    (tmp_path / "more.jsonl").unlink()
    with pytest.raises(MissingFileError, match="There is no file"):
        read_others("reviews", less, "train")


def test_an_optional_task_to_train_on_is_left_out_without_its_files(tmp_path):
    grid, said = small_grid(tmp_path), []
    more = {**grid.tasks["reviews"], "optional": True, "train": str(tmp_path / "more.jsonl")}
    wide = dataclasses.replace(grid, tasks={**grid.tasks, "more": more})
    assert reading.at_hand(wide, say=said.append) == grid
    assert said == [f"'more' is left out: There is no file {tmp_path}/more.jsonl; check the path."]
    assert reading.at_hand(grid) is grid
    shutil.copy(grid.tasks["reviews"]["train"], tmp_path / "more.jsonl")
    assert reading.at_hand(wide) is wide
    own = {cell.identity for cell in wide.cells() if cell.task == "more"}
    always = dataclasses.replace(wide, tasks={**grid.tasks, "more": {**more, "optional": False}})
    assert own == {cell.identity for cell in always.cells() if cell.task == "more"}
    tested = {**more, "tested_on": {"same": {"train": str(tmp_path / "absent.jsonl")}}}
    with pytest.raises(MissingFileError, match="There is no file"):
        read_others("more", tested, "train")  # of the further tasks each says itself that it is optional
    (tmp_path / "more.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"more\.jsonl:1: is not valid JSON"):
        reading.at_hand(wide)
    (tmp_path / "more.jsonl").unlink()
    with pytest.raises(ConfigError, match="None of the tasks of the grid 'small' has its files: more"):
        reading.at_hand(wide.narrowed(tasks=["more"]))


def test_what_is_optional_is_no_part_of_a_cells_identity(tmp_path):
    """A summary is made without the data, and must find the rows of a study that left it out."""
    grid = small_grid(tmp_path)
    others = {"same": {"split": "train"}}
    narrow, wide = (
        dataclasses.replace(grid, tasks={"reviews": {**grid.tasks["reviews"], "tested_on": {**others, **more}}})
        for more in ({}, {"more": {"split": "train", "optional": True}})
    )
    assert [cell.identity for cell in narrow.cells()] == [cell.identity for cell in wide.cells()]


def at_hand(folder: Path) -> Path:
    """The fixtures under the names by which the named grids look for data, enough of them to set rows aside."""
    shutil.copytree(FIXTURES, folder, dirs_exist_ok=True)
    shutil.copytree(folder / "amazon" / "books", folder / "amazon" / "electronics")
    (folder / "sst2" / "sentence_level").mkdir(parents=True)
    for split, rows in (("train", 600), ("dev", 5)):
        lines = "".join(f"film {split} {row}\t{row % 2}\n" for row in range(rows))
        (folder / "sst2" / "sentence_level" / f"{split}.tsv").write_text(lines, encoding="utf-8")
    return folder


NAMED_TASKS = {
    json.dumps([label, settings]): grid
    for grid in map(load_grid, named_grids())
    for label, settings in grid.tasks.items()
}
"""Every task of a named grid once, with a grid that has it."""


@pytest.mark.parametrize("named", NAMED_TASKS, ids=lambda named: json.loads(named)[0])
def test_the_tasks_of_the_named_grids_can_be_read(named, tmp_path):
    """A misspelt task, split or column was met by those who ran the grid."""
    label, grid = json.loads(named)[0], NAMED_TASKS[named].with_data(at_hand(tmp_path / "data"))
    settings = grid.tasks[label]
    small = {**settings, "validation_rows": 1} if "validation_rows" in settings else settings
    task = read_task(label, small)
    assert grid.split in task.splits
    others = read_others(label, small, grid.split)
    assert {other for other, own in (settings.get("tested_on") or {}).items() if not own.get("optional")} <= set(others)
    for other in others.values():
        assert task.watched in {score for metric in other.task.metrics for score in get_scorer(metric).scores}


def test_the_folder_of_the_data_reaches_further_tasks(tmp_path):
    tasks = {"a": {"task": "imdb_original", "data_dir": "{data}/x", "tested_on": {"b": {"data_dir": "{data}/y"}}}}
    grid = small_grid(tmp_path, tasks=tasks)
    assert grid.tasks["a"]["tested_on"]["b"]["data_dir"] == f"{tmp_path / 'data'}/y"
    assert grid.with_data("other").cells()[0].identity == grid.cells()[0].identity
    renamed = {"a": {**tasks["a"], "tested_on": {"b": {"input": "{Text}"}}}}
    assert small_grid(tmp_path, tasks=renamed).cells()[0].identity != grid.cells()[0].identity


def test_a_task_may_have_settings_of_its_own_runs(tmp_path):
    ranked = {**small_grid(tmp_path).tasks["reviews"], "run": {"loss": "rank", "steps": [2, 3]}}
    grid = small_grid(tmp_path, tasks={"reviews": small_grid(tmp_path).tasks["reviews"], "ranked": ranked})
    found = {(cell.task, cell.run("a", read_task("a", ranked)).loss, cell.settings["steps"]) for cell in grid.cells()}
    assert found == {("reviews", "likelihood", 4), ("ranked", "rank", 2), ("ranked", "rank", 3)}
    axes = [line.axes for line in summarise(grid, [])]
    assert axes == [{}, {}, {"steps": 2}, {"steps": 3}, {"steps": 2}, {"steps": 3}]
    with pytest.raises(ConfigError, match=r"seed of tasks\.ranked: the grid 'small' lists seeds itself"):
        small_grid(tmp_path, tasks={"ranked": {**ranked, "run": {"seed": 1}}})


def test_rows_validate_only_where_the_test_has_no_labels(tmp_path):
    """A grid for files without test labels ended where the authors' complete files were."""
    settings = small_grid(tmp_path).tasks["reviews"]
    whole = read_task("reviews", {**settings, "test": settings["validation"]})
    assert {split: len(whole.examples(split)) for split in whole.splits} == {"train": 40, "validation": 10, "test": 10}
