"""Where the commands' data come from, and what is told of them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from tests.cli.films import TEMPLATES

import softprompt as sp
from softprompt.cli.data import TASK_FLAGS
from softprompt.cli.evaluate import evaluate_prompt
from softprompt.cli.recommend import recommend_settings
from softprompt.cli.train import train_prompts
from softprompt.evaluation import evaluate
from softprompt.tasks import FORMAT_SETTINGS, Task


def test_a_data_set_of_the_hub(run, backbone, files, tmp_path, monkeypatch):
    """As the hub keeps them: a folder of files that `datasets` loads; in one piece, so it is split in three.

    A prompt is not tested on rows that it was trained on: what it stores says how its data were split.
    """
    data = tmp_path / "reviews"
    data.mkdir()
    Path(files["train"]).rename(data / "train.jsonl")
    given = ("--backbone", backbone, "--dataset", str(data), *TEMPLATES, "--split_seed", "3")
    seen = []
    monkeypatch.setattr(
        sp, "evaluate", lambda _, __, task, *a, **k: seen.append(task) or evaluate(_, __, task, *a, **k)
    )
    out = tmp_path / "session"
    code, table, err = run("train", *given, "--output_dir", str(out), "--length", "3", "--steps", "1")
    assert code == 0, err
    assert table.splitlines()[-1].split()[0] == "reviews"
    assert "  validation: 3 rows" in err.splitlines(), err
    prompt = str(out / "prompts" / "reviews")
    given = ("--backbone", backbone, "--prompt", prompt, "--dataset", str(data), "--split", "test")
    for seed, same in (((), True), (("--split_seed", "0"), False)):
        code, _, err = run("evaluate", *given, *seed)
        assert code == 0, err
        assert (seen[-1].examples("test") == trained_on(data, 3).examples("test")) == same
    code, _, err = run("evaluate", *given, "--splits", '{"test": train}')
    assert code == 0, err
    assert len(seen[-1].examples("test")) == 24


def trained_on(data, seed):
    return Task.from_hub(
        str(data), input="{text}", target="{label}", label_words={"0": "bad", "1": "good"}, split_seed=seed
    )


def test_rows_may_be_scored_in_groups(run, backbone, tmp_path, monkeypatch):
    rows = [{"text": f"film {i}", "label": str(i % 2), "asked": str(i // 4)} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = []
    monkeypatch.setattr(
        sp, "evaluate", lambda _, __, task, *a, **k: seen.append(task) or evaluate(_, __, task, *a, **k)
    )
    given = ("evaluate", "--backbone", backbone, "--group", "asked")
    file = str(tmp_path / "rows.jsonl")
    code, table, err = run(*given, "--test_file", file, *TEMPLATES, "--split", "test", "--metrics", "[multirc]")
    assert code == 0, err
    assert "f1a" in table
    assert [seen[0].group_of(one) for one in seen[0].examples("test")] == ["0"] * 4 + ["1"] * 4
    code, _, err = run(*given, "--task", "subj")
    assert code == 2
    assert "--group is for data of your own; the task subj says what is scored together" in err


def test_a_comparison_heeds_groups(run, backbone, tmp_path):
    """The flag was taken and forgotten, and there were to be as many groups to choose on as a quarter of the rows."""
    rows = [{"text": f"film {i}", "label": str(i % 2), "asked": str(i // 4)} for i in range(32)]
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "validation")}
    for file in files.values():
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, table, err = run(
        "train", "--backbone", backbone, "--output_dir", str(tmp_path / "out"), "--device", "cpu", *TEMPLATES,
        "--train_file", str(files["train"]), "--validation_file", str(files["validation"]), "--group", "asked",
        "--metrics", "[multirc]", "--compare", "['bare backbone']", "--compare_seeds", "[3]", "--steps", "1",
    )  # fmt: skip
    assert code == 0, err
    (row,) = (json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    assert "validation_f1a" in row
    assert "bare backbone" in table


@pytest.mark.parametrize("command", [train_prompts, evaluate_prompt, recommend_settings])
def test_a_command_has_a_flag_for_every_setting_of_a_task(command):
    taken = inspect.signature(command).parameters
    assert {name for name in (*FORMAT_SETTINGS, *TASK_FLAGS) if name not in taken} == set()
    assert {name for name in FORMAT_SETTINGS if taken[name].default} == set()


@pytest.mark.parametrize("flag", ["subset", "splits", "dataset_revision"])
def test_an_option_of_a_data_set_needs_one(run, backbone, flag):
    value = '{"train": train}' if flag == "splits" else "x"
    code, _, err = run("evaluate", "--backbone", backbone, "--task", "subj", f"--{flag}", value)
    assert code == 2
    assert err == f"softprompt: --{flag} says something of a data set, but no --dataset is given.\n"


def test_what_reading_found_is_told_and_stored(run, backbone, files, tmp_path):
    """Bad rows were skipped without a word, and nobody saw that splits overlap."""
    with open(files["train"], "a", encoding="utf-8") as file:
        file.write('{"text": "the film was good"}\n{"text": "the same", "label": "1"}\n')
    with open(files["validation"], "w", encoding="utf-8") as file:
        file.write('{"text": "the same", "label": "1"}\n{"text": "another", "label": "0"}\n')
    code, _, err = run(
        "train", "--backbone", backbone, "--output_dir", str(tmp_path / "out"), "--name", "film", *TEMPLATES,
        "--train_file", files["train"], "--validation_file", files["validation"], "--on-bad-row=skip",
        "--length", "3", "--steps", "1",
    )  # fmt: skip
    assert code == 0, err
    assert err.splitlines()[:6] == [
        "Data of train:",
        "  train: 25 rows",
        "  validation: 2 rows",
        "  train: 1 bad rows skipped",
        f"    {files['train']}:25: column 'label' is missing; the row has 'text'",
        "  validation: 1 rows have an input that is also in train",
    ]
    facts = json.loads((tmp_path / "out" / "prompts" / "film" / "prompt.json").read_text())
    assert facts["run"]["data"] == {
        "rows": {"train": 25, "validation": 2},
        "skipped": {"train": 1},
        "duplicates": {"train, validation": 1},
    }
