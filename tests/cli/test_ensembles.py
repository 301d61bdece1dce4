"""An ensemble from the command line: combined, looked at, evaluated, asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.films import TEMPLATES


@pytest.fixture
def seeds(run, backbone, files, tmp_path) -> list[str]:
    """Folders of three prompts that differ in their seed."""
    folders = []
    for seed in range(3):
        out = tmp_path / f"seed{seed}"
        code, _, err = run(
            "train", "--backbone", backbone, "--output_dir", str(out), "--name", "film", *TEMPLATES,
            "--train_file", files["train"], "--validation_file", files["validation"], "--seed", str(seed),
            "--init", "vocab", "--length", "4", "--steps", "3", "--batch_size", "4", "--learning_rate", "0.5",
        )  # fmt: skip
        assert code == 0, err
        folders.append(str(out / "prompts" / "film"))
    return folders


def test_prompts_are_combined_looked_at_scored_and_asked(run, backbone, files, seeds, tmp_path):
    three, output = tmp_path / "prompts" / "three", tmp_path / "predictions.jsonl"
    code, out, err = run("prompts", "combine", "--prompts", json.dumps(seeds), "--output", str(three), "--by", "mean")
    assert code == 0, err
    assert out.endswith("mean of 3 prompts, 288 values\n")
    _, table, _ = run("prompts", "list", "--folder", str(three.parent))
    assert "mean of 3" in table
    _, card, _ = run("prompts", "show", str(three))
    assert "3 soft prompts that answer together" in card
    common = ("evaluate", "--backbone", backbone, "--validation_file", files["validation"])
    code, table, err = run(*common, "--prompt", str(three), "--against", seeds[0], "--output", str(output))
    assert code == 0, err
    assert "accuracy" in table
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    members = []
    for place, folder in enumerate(seeds):
        own = tmp_path / f"{place}.jsonl"
        assert run(*common, "--prompt", folder, "--output", str(own))[0] == 0
        members.append([json.loads(line)["probabilities"] for line in own.read_text().splitlines()])
    for line, *shares in zip(lines, *members, strict=True):
        mean = {label: sum(one[label] for one in shares) / 3 for label in line["probabilities"]}
        assert line["probabilities"] == pytest.approx(mean, abs=1e-5)
    inputs = tmp_path / "in.txt"
    inputs.write_text("a very good film\nso boring\n")
    code, said, err = run("predict", "--backbone", backbone, "--prompt", str(three), "--input", str(inputs))
    assert code == 0, err
    assert [set(json.loads(line)["probabilities"]) for line in said.splitlines()] == [{"bad", "good"}] * 2


def test_another_ensemble_does_not_go_on_behind_predictions(run, backbone, files, seeds, tmp_path):
    vote, mean, output = tmp_path / "vote", tmp_path / "mean", tmp_path / "predictions.jsonl"
    for folder in (vote, mean):
        run("prompts", "combine", "--prompts", json.dumps(seeds), "--output", str(folder), "--by", folder.name)
    common = ("evaluate", "--backbone", backbone, "--validation_file", files["validation"], "--output", str(output))
    assert run(*common, "--prompt", str(vote))[0] == 0
    before = output.read_text()
    code, _, err = run(*common, "--prompt", str(mean))
    assert code == 2
    assert "predictions" in err
    assert Path(output).read_text() == before
