"""A grid is run once, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
from tests.studies.grids import small_grid, stored_backbone, stored_task
from tests.studies.tables import lasting, ran
from tests.training.sessions import calm_backbone

from softprompt.cli.lines import print_lines
from softprompt.errors import ConfigError, LengthError, MissingDependencyError, TrainingInterrupted
from softprompt.evaluation import TextPrompt, evaluate
from softprompt.studies import ResultsTable, summarise
from softprompt.studies.cases import CaseFile
from softprompt.studies.reading import read_others, read_task
from softprompt.studies.traces import adapted_steps
from softprompt.tasks.metrics import registry
from softprompt.training import TrainConfig, train
from softprompt.training.member import Member


def test_every_cell_gets_the_row_that_it_would_get_alone(tmp_path):
    grid = small_grid(tmp_path)
    table = ran(grid, tmp_path / "out")
    assert [row["session_runs"] for row in table] == [3, 3, 3, 1, 1, 1]
    assert not list((tmp_path / "out" / "sessions").iterdir())
    task = read_task("reviews", grid.tasks["reviews"])
    rows = {row["cell"]: row for row in table}
    cases = CaseFile(tmp_path / "out" / "cases.jsonl").by_key()
    assert list(cases) == [row["key"] for row in table if row["seed"] == 0]
    for cell in (grid.cells()[2], grid.cells()[4], grid.cells()[5]):
        learned = train(calm_backbone("decoder-only"), [cell.run("a", task)], TrainConfig(progress=False))["a"].learned
        prompt = cell.settings["method"] == "prompt_tuning"
        model, asked = (calm_backbone("decoder-only"), learned) if prompt else (learned, None)
        alone = evaluate(model, asked, task, split="test")
        row = rows[cell.identity]
        assert row["test_accuracy"] == alone["accuracy"]
        assert (row["test_accuracy_low"], row["test_accuracy_high"]) == tuple(alone.intervals["accuracy"])
        assert row["test_rows"] == 10
        hits = [100 * (one.prediction in one.targets) for one in alone.predictions]
        assert {name: kept["values"] for name, kept in row["outcomes"].items()} == {"test": hits}
        assert row["parameters"] == (3 * 24 if prompt else sum(p.numel() for p in learned.model.parameters()))
        said = [(one.input, one.prediction) for one in alone.predictions]
        assert "cases" not in row
        if cell.seed == 0:
            kept = cases[row["key"]]
            assert (kept["split"], kept["answers"], len(kept["cases"])) == ("test", 10, min(5, 10 - kept["right"]) + 2)
            assert kept["right"] == sum(one.label in one.targets for one in alone.predictions)
            assert all((one["input"], one["prediction"]) in said for one in kept["cases"])


def test_a_card_tells_how_long_a_backbone_was_adapted(tmp_path):
    assert adapted_steps("bundled:t5-tiny") == 2600
    assert adapted_steps("bundled:gpt-mini") == 0
    assert adapted_steps(str(tmp_path)) is None


def test_rows_name_metrics_that_cannot_be_computed(tmp_path, monkeypatch):
    def absent(predictions, references):
        raise MissingDependencyError("it needs a jar")

    monkeypatch.setitem(registry.METRICS._values, "absent", absent)
    grid = small_grid(tmp_path, methods={"bare": {"method": "text_prompt"}}, seeds=[0])
    tasks = {"reviews": {**grid.tasks["reviews"], "metrics": ["accuracy", "absent"]}}
    (row,) = ran(dataclasses.replace(grid, tasks=tasks), tmp_path / "out")
    assert row["test_missing"] == "absent: it needs a jar"
    assert {"test_accuracy", "test_absent"} & row.keys() == {"test_accuracy"}


def test_prompt_design_is_scored_and_not_trained(tmp_path):
    methods = {
        "shots": {"method": "text_prompt", "shots": 2, "text": "good or bad :"},
        "calibrated": {"method": "text_prompt", "shots": 2, "calibrate": True},
        "bare": {"method": "text_prompt"},
    }
    grid = small_grid(tmp_path, methods=methods)
    table = list(ran(grid, tmp_path / "out"))
    assert [(row["label"], row["seed"], row["trained"]) for row in table] == [
        (label, seed, 0) for label in methods for seed in (0, 1)
    ]
    assert len(ran(grid, tmp_path / "out")) == len(table), "nothing is scored twice"
    task = read_task("reviews", grid.tasks["reviews"])
    for row in table:
        words = methods[row["label"]].get("text", "")
        text = None if row["label"] == "bare" else TextPrompt.few_shot(task, 2, seed=row["seed"], instruction=words)
        for split in ("validation", "test"):
            found = evaluate(calm_backbone("decoder-only"), text, task, split, calibrate=row["label"] == "calibrated")
            assert row[f"{split}_accuracy"] == found["accuracy"]
        assert row["stored_bytes"] == (0 if text is None else len(text.text))
        assert row["evaluation_seconds"] >= 0
        assert {"finished", "machine", "version_torch", "commit", "peak_memory_bytes"} <= row.keys()
        assert row["session_memory_bytes"] is None or 0 <= row["session_memory_bytes"] < row["peak_memory_bytes"]
    with pytest.raises(ConfigError, match=r"Unknown setting of 'shots' 'shot'.*Did you mean 'shots'"):
        ran(small_grid(tmp_path, methods={"shots": {"method": "text_prompt", "shot": 2}}), tmp_path / "other")


def test_what_a_backbone_cannot_have_is_named_and_the_rest_runs(tmp_path):
    """peft knows no layers of some families: a comparison died behind hours of sessions, and at every resumption."""
    grid = small_grid(
        tmp_path,
        backbones=[stored_backbone(tmp_path / "classifier", "encoder-only")],
        methods={
            "rows": {"method": "prompt_tuning", "length": 2, "init": "vocab"},
            "calibrated": {"method": "text_prompt", "calibrate": True, "by": "generate"},
            "infix": {"method": "p_tuning_v2", "length": 2, "placement": ["append", "prepend"]},
            "head": {"method": "model_tuning", "layers": 0},
        },
        seeds=[0],
    )
    table = ran(grid, tmp_path / "out")
    status = {(row["label"], row.get("placement")): row["status"] for row in table}
    assert status == {
        ("rows", None): "finished",
        ("calibrated", None): "unsupported",
        ("infix", "append"): "unsupported",
        ("infix", "prepend"): "finished",
        ("head", None): "finished",
    }
    lines = {(line.method, line.axes.get("placement")): line for line in summarise(grid, table)}
    assert "needs a decoder-only model" in lines["infix", "append"].unsupported
    assert lines["infix", "append"].scores == ()
    assert lines["infix", "prepend"].unsupported == ""
    assert lines["rows", None].stored_bytes > 0
    assert lines["rows", None].seconds_per_step > lines["rows", None].step_seconds > 0


def test_an_encoder_without_a_head_ends_no_study(tmp_path):
    """Three kinds of errors, each behind hours of sessions: a prompt without head, words alone, and a tuned model."""
    backbone = stored_backbone(tmp_path / "stored", "encoder-only")
    tiny = calm_backbone("encoder-only").model
    tiny.base_model.save_pretrained(tmp_path / "stored")
    grid = small_grid(
        tmp_path,
        backbones=[backbone],
        methods={
            "rows": {"method": "prompt_tuning", "length": 2, "init": "vocab"},
            "bare": {"method": "text_prompt"},
            "tuned": {"method": "model_tuning"},
            "headed": {"method": "p_tuning_v2", "length": 2, "head": True},
        },
        seeds=[0],
    )
    lines = [json.loads(line) for line in (tmp_path / "data" / "train.jsonl").read_text().splitlines()]
    tagged = [{"text": one["text"], "tags": "O " * len(one["text"].split())} for one in lines]
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in tagged))
    (tmp_path / "data" / "validation.jsonl").write_text("".join(json.dumps(one) + "\n" for one in tagged[:9]))
    files = {key: grid.tasks["reviews"][key] for key in ("train", "validation", "validation_rows")}
    task = {**files, "input": "{text}", "target": "{tags}", "words": "text"}
    table = ran(dataclasses.replace(grid, tasks={"tagged": task}), tmp_path / "out")
    assert {row["label"]: row["status"] for row in table} == {
        **dict.fromkeys(("rows", "bare", "tuned"), "unsupported"),
        "headed": "finished",
    }
    assert all("has no head" in row["reason"] for row in table if row["status"] == "unsupported")


def test_an_encoder_may_be_loaded_with_a_head_that_knows_nothing(tmp_path):
    backbone = stored_backbone(tmp_path / "stored", "encoder-only")
    calm_backbone("encoder-only").model.base_model.save_pretrained(tmp_path / "stored")
    grid = small_grid(
        tmp_path,
        backbones=[backbone],
        methods={"headed": {"method": "p_tuning_v2", "length": 2, "head": True}, "tuned": {"method": "model_tuning"}},
        seeds=[0],
        loading={"classes": 2},
    )
    table = ran(grid, tmp_path / "out")
    assert [row["status"] for row in table] == ["finished", "finished"]
    bare = dataclasses.replace(grid, loading={})
    assert not {cell.identity for cell in grid.cells()} & {cell.identity for cell in bare.cells()}


def test_what_was_learned_is_scored_elsewhere_too(tmp_path):
    grid = small_grid(tmp_path, methods={**small_grid(tmp_path).methods, "bare": {"method": "text_prompt"}}, seeds=[0])
    elsewhere = {"shouted": {"input": "REVIEW {text}", "split": "validation"}, "seen": {"split": "train"}}
    tasks = {"reviews": {**grid.tasks["reviews"], "tested_on": elsewhere}}
    grid = dataclasses.replace(grid, tasks=tasks)
    table = ran(grid, tmp_path / "out")
    assert {row["on seen_rows"] for row in table} == {40}
    task, other = read_task("reviews", tasks["reviews"]), read_others("reviews", tasks["reviews"], "test")["shouted"]
    rows = {row["cell"]: row for row in table}
    for cell in grid.cells():
        model, asked = calm_backbone("decoder-only"), None
        if not cell.is_untrained:
            learned = train(model, [cell.run("a", task)], TrainConfig(progress=False))["a"].learned
            model, asked = (learned, None) if cell.tunes_weights else (model, learned)
        found = evaluate(model, asked, other.task, other.split)
        assert rows[cell.identity]["on shouted_accuracy"] == found["accuracy"], cell.title
        low, high = found.intervals["accuracy"]
        assert rows[cell.identity]["on shouted_accuracy_low"] == low
        assert rows[cell.identity]["on shouted_accuracy_high"] == high
        outcomes = rows[cell.identity]["outcomes"]
        assert list(outcomes) == ["test", "on shouted", "on seen"]
        assert np.mean(outcomes["on shouted"]["values"]) == pytest.approx(found["accuracy"])
    lines = {line.method: line for line in summarise(grid, table)}
    best = max((row for row in table if row["label"] == "prompt tuning"), key=lambda row: row["validation_accuracy"])
    assert lines["prompt tuning"].elsewhere == {
        "shouted": (best["on shouted_accuracy"],),
        "seen": (best["on seen_accuracy"],),
    }


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"metrics": ["exact_match"]},
            "'reviews' is scored by accuracy, but 'elsewhere', which it is tested on, has exact",
        ),
        ({"input": "good " * 200 + "{text}"}, "shorten it, or pass truncate=True"),
    ],
)
def test_what_cannot_be_scored_elsewhere_is_met_before_training(tmp_path, other, message, monkeypatch):
    """It ended a study after its trainings, and again after each repetition."""
    monkeypatch.setattr("softprompt.studies.sessions.train", lambda *a, **k: pytest.fail("trained"))
    grid = small_grid(tmp_path)
    tasks = {"reviews": {**grid.tasks["reviews"], "tested_on": {"elsewhere": {"split": "train", **other}}}}
    with pytest.raises((ConfigError, LengthError), match=message):
        ran(dataclasses.replace(grid, tasks=tasks), tmp_path / "out")


@pytest.mark.parametrize("method", ["prompt tuning", "model tuning"])
def test_inputs_that_are_too_long_are_met_before_training(tmp_path, method, monkeypatch):
    """Those of a grid's own splits were first tokenized behind its sessions."""
    monkeypatch.setattr("softprompt.studies.sessions.train", lambda *a, **k: pytest.fail("trained"))
    grid = small_grid(tmp_path).narrowed(methods=[method])
    file = tmp_path / "data" / "validation.jsonl"
    file.write_text(file.read_text() + json.dumps({"text": "good " * 300, "label": "1"}) + "\n")
    with pytest.raises(LengthError, match="shorten it, or pass truncate=True"):
        ran(grid, tmp_path / "out")


def test_a_few_shot_prompt_that_is_too_long_ends_no_grid(tmp_path, monkeypatch, capsys):
    """It did, behind all trainings of the first seed where only another seed drew long examples, and repeatedly."""
    methods = {"shots": {"method": "text_prompt", "shots": 2}, "tuned": small_grid(tmp_path).methods["model tuning"]}
    run = {**small_grid(tmp_path).run, "truncate": True}
    grid = small_grid(tmp_path, methods=methods, seeds=[0, 1], tune_seeds=[0], run=run)
    drawn = TextPrompt.few_shot

    def long_with_seed_1(task, shots, *, seed, instruction):
        return TextPrompt("good " * 300) if seed else drawn(task, shots, seed=seed, instruction=instruction)

    monkeypatch.setattr(TextPrompt, "few_shot", long_with_seed_1)
    table = ran(grid, tmp_path / "out")
    assert [(row["label"], row["seed"], row["status"]) for row in table] == [
        ("shots", 0, "finished"), ("tuned", 0, "finished"), ("shots", 1, "unsupported"), ("tuned", 1, "finished"),
    ]  # fmt: skip
    shots, _ = summarise(grid, table)
    assert len(shots.scores) == 1
    print_lines([shots], grid.tune, costs=True)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 4, "the seed that fits is in the table, and below it why the other is not"
    assert "take fewer shots or words" in out


def test_methods_may_be_kept_apart(tmp_path):
    methods = {
        name: {"method": "prompt_tuning", "length": 2, "init": "vocab", "learning_rate": [0.1, 0.2]} for name in "ab"
    }
    table = ran(small_grid(tmp_path, methods=methods, seeds=[0], methods_apart=True), tmp_path / "out")
    assert [row["session_runs"] for row in table] == [2, 2, 2, 2]


@pytest.mark.slow
def test_an_interrupted_grid_goes_on_and_repeats_nothing(tmp_path, monkeypatch):
    grid = small_grid(tmp_path)
    wanted = lasting(ran(grid, tmp_path / "whole"))
    advance, steps = Member.advance, []

    def interrupted(self, loss):
        advance(self, loss)
        steps.append(self.run.name)
        if len(steps) in (7, 20):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Member, "advance", interrupted)
    for _ in range(2):
        with pytest.raises(TrainingInterrupted):
            ran(grid, tmp_path / "cut")
    table = ran(grid, tmp_path / "cut")
    assert lasting(table) == wanted
    assert len(steps) == 6 * 4
    assert lasting(ran(grid, tmp_path / "cut")) == wanted
    assert len(steps) == 6 * 4


@pytest.mark.slow
def test_a_grid_that_grew_runs_what_is_new(tmp_path):
    grid = small_grid(tmp_path)
    before = [row["key"] for row in ran(grid, tmp_path / "out")]
    grown = dataclasses.replace(grid, seeds=(0, 1, 2))
    after = [row["key"] for row in ran(grown, tmp_path / "out")]
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3


def test_runs_that_diverge_are_results(tmp_path):
    methods = {
        "prompt tuning": {"method": "prompt_tuning", "length": 3, "init": "vocab", "learning_rate": [0.1, 1e30]},
        "model tuning": {"method": "model_tuning", "learning_rate": 1e30},
    }
    grid = small_grid(tmp_path, methods=methods)
    table = ran(grid, tmp_path / "out")
    assert [row["status"] for row in table] == ["finished"] * 2 + ["failed"] * 4
    assert all("lower learning_rate" in row["reason"] for row in table if row["status"] == "failed")
    prompts, model = summarise(grid, ResultsTable(table.path))
    assert (prompts.chosen, prompts.failed, len(prompts.scores)) == ({"learning_rate": 0.1}, 2, 2)
    assert (model.chosen, model.failed, model.mean) == ({}, 2, None)


def test_the_summary_chooses_on_validation(tmp_path):
    grid = small_grid(tmp_path)
    scores = {0.1: (60.0, 70.0), 0.3: (50.0, 90.0), 0.01: (80.0, 80.0)}
    rows = []
    for cell in grid.cells():
        validation, test = scores[cell.settings["learning_rate"]]
        row = {"metric": "accuracy", "status": "finished", "backbone_parameters": 9, "parameters": 3}
        row |= {"validation_accuracy": validation, "test_accuracy": test + 2 * cell.seed, "test_majority": 50.0}
        row |= {"backbone": cell.backbone, "task": cell.task, "backbone_digest": "a", "task_digest": "a"}
        rows.append({**row, "key": cell.identity, "cell": cell.identity, "seed": cell.seed})
    prompts, model = summarise(grid, rows)
    assert (prompts.chosen, prompts.scores, prompts.mean) == ({"learning_rate": 0.1}, (70.0, 72.0), 71.0)
    assert prompts.deviation == pytest.approx(2**0.5)
    assert (prompts.seeds, prompts.by_seed(), prompts.by_seed("films")) == ((0, 1), {0: 70.0, 1: 72.0}, {})
    assert (prompts.majority, prompts.missing, prompts.failed) == (50.0, 0, 0)
    lacking = summarise(grid, rows[1:])[0]
    assert (lacking.chosen, lacking.missing) == ({}, 1)
    remade = summarise(grid, [*rows, {**rows[0], "backbone_digest": "b"}])[0]
    assert (remade.chosen, remade.missing) == ({}, 3)
    assert summarise(grid, [])[1].missing == 2
    assert model.mean == 81.0


@pytest.mark.slow
def test_only_what_is_chosen_is_run_with_every_seed(tmp_path):
    grid = small_grid(tmp_path, tune_seeds=[1], seeds=[0, 1, 2])
    table = ran(grid, tmp_path / "out")
    prompts, model = summarise(grid, table)
    ran_with = [(row["learning_rate"], row["seed"]) for row in table if row["label"] == "prompt tuning"]
    chosen = prompts.chosen["learning_rate"]
    assert sorted(ran_with) == sorted([(0.1, 1), (0.3, 1), (chosen, 0), (chosen, 2)])
    assert (len(prompts.scores), prompts.missing, len(model.scores), model.missing) == (3, 0, 3, 0)
    scores = {row["learning_rate"]: row["validation_accuracy"] for row in table if row["seed"] == 1}
    assert scores[chosen] == max(scores[0.1], scores[0.3])
    before = [row["key"] for row in table]
    assert [row["key"] for row in ran(grid, tmp_path / "out")] == before


@pytest.mark.slow
def test_a_kill_between_rows_loses_and_repeats_nothing(tmp_path, monkeypatch):
    grid = small_grid(tmp_path)
    wanted = lasting(ran(grid, tmp_path / "whole"))
    append = ResultsTable.append

    def killed(self, row):
        append(self, row)
        if len(self) in (2, 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(ResultsTable, "append", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            ran(grid, tmp_path / "cut")
    monkeypatch.undo()
    assert lasting(ran(grid, tmp_path / "cut")) == wanted
    assert not list((tmp_path / "cut" / "sessions").iterdir())


def test_what_cannot_be_reported_is_refused_before_it_is_trained(tmp_path):
    tasks = {"reviews": {key: value for key, value in stored_task(tmp_path).items() if key != "validation_rows"}}
    with pytest.raises(ConfigError, match="no test split to report on; give it validation_rows"):
        ran(small_grid(tmp_path, tasks=tasks), tmp_path / "out")
    run = {"optimizer": "adamw", "steps": 4, "evaluate_every": 0}
    with pytest.raises(ConfigError, match="no validation score"):
        ran(small_grid(tmp_path, run=run), tmp_path / "out")


@pytest.mark.slow
def test_what_is_chosen_does_not_depend_on_a_stop(tmp_path, monkeypatch):
    """A rate that leads while others are still to come is not run with further seeds."""
    methods = {"rows": {"method": "prompt_tuning", "length": 3, "init": "vocab", "learning_rate": [0.01, 0.1, 0.3]}}
    grid = small_grid(tmp_path, methods=methods, seeds=[0, 1, 2], tune_seeds=[0], runs_per_session=1)
    wanted = lasting(ran(grid, tmp_path / "whole"))
    append = ResultsTable.append

    def killed(self, row):
        append(self, row)
        if len(self) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResultsTable, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        ran(grid, tmp_path / "cut")
    monkeypatch.undo()
    assert lasting(ran(grid, tmp_path / "cut")) == wanted
    assert len(wanted) == 5
