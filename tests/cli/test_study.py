"""`softprompt study`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def grid(backbone, files, tmp_path) -> Path:
    """File of a grid of two lengths at two rates, with three seeds."""
    settings = {
        "backbones": [backbone],
        "tasks": {
            "films": {
                "train": files["train"],
                "validation": files["validation"],
                "input": "{text}",
                "target": "{label}",
                "label_words": {"0": "bad", "1": "good"},
                "validation_rows": 6,
            }
        },
        "methods": {
            "rows": {"method": "prompt_tuning", "length": [1, 2], "init": "vocab", "learning_rate": [0.01, 0.1]}
        },
        "run": {"optimizer": "adamw", "steps": 3, "batch_size": 4},
    }
    file = tmp_path / "lengths.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


def test_a_grid_is_run_and_summarised(run, grid, tmp_path):
    asked = ("study", "--grid", str(grid), "--output_dir", str(tmp_path / "out"), "--device", "cpu")
    code, out, err = run(*asked, "--seeds", "[4, 5]")
    assert code == 0, err
    assert "0 of 8 runs" in err
    head, _, *lines = out.splitlines()
    assert head.split()[:5] == ["backbone", "parameters", "task", "method", "length"]
    assert len(lines) == 2
    assert all(line.split()[5] in ("0.01", "0.1") for line in lines)
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 8
    code, again, err = run(*asked, "--seeds", "[4, 5]", "--summary", "true")
    assert (code, again) == (0, out)
    code, partial, err = run(*asked, "--summary", "true")
    assert code == 0, err
    assert partial.splitlines()[2].split()[-1] == "6"  # the grid's own seeds, three, at two rates


def test_without_a_grid_the_folder_says_what_was_run(run, grid, tmp_path):
    asked = ("study", "--output_dir", str(tmp_path / "out"), "--device", "cpu")
    code, out, err = run("study", str(grid), *asked[1:], "--seeds", "[4]")  # what to run needs no option
    assert code == 0, err
    grid.unlink()
    assert run(*asked, "--summary", "true") == (0, out, "")
    code, more, err = run(*asked, "--seeds", "[4, 5]")
    assert code == 0, err
    assert "4 of 8 runs" in err
    assert len(more.splitlines()) == len(out.splitlines())


@pytest.mark.usefixtures("as_one_of_two")
def test_a_study_runs_in_one_process(run, grid, tmp_path):
    """Each process would run every cell, and add its line to one table."""
    code, out, err = run("study", "--grid", str(grid), "--output_dir", str(tmp_path / "out"), "--device", "cpu")
    assert (code, out) == (2, "")
    assert err == "softprompt: 2 processes share one training; run a study in one process.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("summary", ["true", "false"])
def test_neither_a_grid_nor_a_folder_of_one_is_a_usage_error(run, tmp_path, summary):
    code, out, err = run("study", "--output_dir", str(tmp_path / "out"), "--summary", summary)
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'out'} has no study.yaml that would say what was run there; name the grid." in err
    assert not (tmp_path / "out").exists()


def test_a_quick_study_says_that_its_scores_mean_nothing(run, grid, tmp_path):
    asked = ("study", "--output_dir", str(tmp_path / "out"), "--device", "cpu")
    few = ("--seeds", "[4]", "--quick", "true")
    settings = yaml.safe_load(grid.read_text(encoding="utf-8"))
    settings["run"] |= {"steps": 300, "train_rows": 8}
    grid.write_text(yaml.safe_dump(settings), encoding="utf-8")
    code, out, err = run(*asked, "--grid", str(grid), *few)
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {(row["study"], row["steps"]) for row in rows} == {("lengths (quick)", 2)}
    assert out.splitlines()[-1] == "At quick size, which proves that the grid runs; the scores mean nothing."
    assert run(*asked, "--summary", "true") == (0, out, ""), "it is known as quick by what the folder says"
    assert run(*asked, "--summary", "true", "--quick", "true")[:2] == (0, out), "and is not made quick twice"


def test_a_quick_study_says_what_stands_in(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("study", "adaptation", "--quick", "true", "--summary", "true", "--output_dir", "out")
    assert code == 0, err
    assert "bundled:t5-tiny stands in for models/t5-small-span, models/t5-small/snapshots/step-650, " in err
    assert "models/t5-small, not there: `softprompt backbones make` makes them.\n" in err
    assert {line.split()[0] for line in out.splitlines()[2:4]} == {"bundled:t5-tiny"}


@pytest.mark.slow
def test_two_workers_make_the_rows_of_one(run, grid, tmp_path):
    def rows(folder, *options):
        code, out, err = run("study", "--grid", str(grid), "--output_dir", str(folder), "--device", "cpu", *options)
        assert code == 0, err
        return out, err, (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()

    one, _, alone = rows(tmp_path / "one")
    two, said, shared = rows(tmp_path / "two", "--workers", "2")
    assert two == one
    assert sorted(json.loads(line)["key"] for line in shared) == sorted(json.loads(line)["key"] for line in alone)
    assert "[worker 1] " in said
    assert "[worker 2] " in said


def test_what_is_unknown_is_a_usage_error(run, tmp_path):
    for asked in (("--grid", "backbone"), ("backbone",)):
        code, _, err = run("study", *asked, "--output_dir", str(tmp_path))
        assert code == 2
        assert "Known: adaptation, backbones" in err
    code, _, err = run("study", "--grid", "backbones", "--output_dir", str(tmp_path))
    assert code == 2
    assert "data_dir" in err
