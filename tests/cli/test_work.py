"""Train, evaluate, predict and look, on a tiny backbone."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import yaml

TEMPLATES = ("--input", "{text}", "--target", "{label}", "--label_words", '{"0": bad, "1": good}')


@pytest.fixture
def trained(run, backbone, files, tmp_path):
    """Folder of a session with one run."""
    out = tmp_path / "session"
    code, table, err = run(
        "train", "--backbone", backbone, "--output_dir", str(out), "--name", "film", *TEMPLATES,
        "--train_file", files["train"], "--validation_file", files["validation"],
        "--length", "4", "--steps", "6", "--batch_size", "4", "--learning_rate", "0.5",
    )  # fmt: skip
    assert code == 0, err
    assert "film" in table
    assert "accuracy" in table
    return out


def test_training_leaves_a_prompt_and_its_settings(run, trained, backbone):
    assert (trained / "prompts" / "film" / "prompt.safetensors").is_file()
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    assert settings["backbone"] == backbone
    assert settings["steps"] == 6
    code, table, _ = run("prompts", "list", "--folder", str(trained / "prompts"))
    assert code == 0
    assert table.splitlines()[-1].split()[:4] == ["film", "train", "prompt_tuning", "4"]
    code, card, _ = run("prompts", "show", "--path", str(trained / "prompts" / "film"))
    assert code == 0
    assert "# film" in card


def test_the_written_settings_repeat_the_training(run, trained, tmp_path):
    again = tmp_path / "again"
    code, _, err = run("train", "--config", str(trained / "config.yaml"), "--output_dir", str(again))
    assert code == 0, err
    first, second = (folder / "prompts" / "film" / "prompt.safetensors" for folder in (trained, again))
    assert first.read_bytes() == second.read_bytes()


def test_several_runs_from_a_file(run, backbone, files, tmp_path):
    config = {
        "backbone": backbone,
        "output_dir": str(tmp_path / "two"),
        "train_file": files["train"],
        "validation_file": files["validation"],
        "input": "{text}",
        "target": "{label}",
        "label_words": {"0": "bad", "1": "good"},
        "steps": 3,
        "batch_size": 4,
        "runs": [
            {"name": "rows", "length": 3},
            {"name": "keys", "method": "prefix_tuning", "length": 2, "hidden": 0, "optimizer": "adamw",
             "learning_rate": 0.01},
        ],
    }  # fmt: skip
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(config))
    code, table, err = run("train", "--config", str(file))
    assert code == 0, err
    assert {line.split()[0] for line in table.splitlines()[2:]} == {"rows", "keys"}
    facts = json.loads((tmp_path / "two" / "prompts" / "keys" / "prompt.json").read_text())
    assert facts["method"]["hidden"] is None

    config["runs"][0]["lenght"] = 3
    file.write_text(yaml.safe_dump(config))
    code, _, err = run("train", "--config", str(file))
    assert code == 2
    assert "Unknown setting of a run 'lenght'. Did you mean 'length'?" in err


def test_predicting_keeps_order_and_goes_on_where_it_stopped(run, trained, backbone, tmp_path):
    texts = ["the film was very good", "the song was so long and sad", "the book was boring"]
    source, whole, part = tmp_path / "in.txt", tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    source.write_text("".join(f"{text}\n" for text in texts))
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"),
              "--input", str(source))  # fmt: skip
    assert run(*common, "--output", str(whole))[0] == 0
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [row["input"] for row in rows] == texts
    assert all(row["output"] in ("bad", "good") for row in rows)
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1)

    part.write_text(whole.read_text().splitlines(keepends=True)[0] + '{"input": "half a li')
    assert run(*common, "--output", str(part))[0] == 0
    again = [json.loads(line) for line in part.read_text().splitlines()]
    assert [(row["input"], row["output"]) for row in again] == [(row["input"], row["output"]) for row in rows]


def test_predicting_columns_to_standard_output(run, trained, backbone, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "the film was good"}\n{"text": "the book was bad"}\n')
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"), "--format", "jsonl",
              "--input", str(source), "--by", "generate", "--max_new_tokens", "3")  # fmt: skip
    code, out, err = run(*common)
    assert code == 0, err
    assert [json.loads(line)["input"]["text"] for line in out.splitlines()] == ["the film was good", "the book was bad"]
    assert "probabilities" not in out
    source.write_text('{"text": "the film was good"}\n["no object"]\n')
    code, _, err = run(*common)
    assert code == 1
    assert err.splitlines()[-1] == f"softprompt: {source}:2 holds list; expected an object per line."


def test_ranking_needs_label_words(run, backbone):
    code, _, err = run("predict", "--backbone", backbone, "--by", "rank")
    assert code == 2
    assert err == "softprompt: --by rank needs a prompt that was trained with label words.\n"


def test_evaluating_writes_every_prediction(run, trained, backbone, tmp_path):
    output = tmp_path / "predictions.jsonl"
    code, table, err = run(
        "evaluate", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"),
        "--task", "sentence_polarity", "--rows", "6", "--truncate", "true", "--output", str(output),
    )  # fmt: skip
    assert code == 0, err
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["accuracy", "macro_f1"]
    assert len(output.read_text().splitlines()) == 6
    code, table, _ = run("evaluate", "--backbone", backbone, "--task", "subj", "--majority", "true")
    assert code == 0
    code, _, err = run("evaluate", "--backbone", backbone, "--task", "subj", "--majority", "true", "--prompt", "x")
    assert code == 2
    assert err == "softprompt: Give at most one of --prompt, --text_prompt and --majority.\n"


def test_exchange_with_peft(run, trained, backbone, tmp_path):
    prompt = str(trained / "prompts" / "film")
    assert run("prompts", "export", "--path", prompt, "--output", str(tmp_path / "peft"))[0] == 0
    code, out, err = run(
        "prompts",
        "import",
        "--source",
        str(tmp_path / "peft"),
        "--backbone",
        backbone,
        "--output",
        str(tmp_path / "back"),
    )
    assert code == 0, err
    assert "4 virtual tokens, 96 values" in out
    first, second = (Path(folder) / "prompt.safetensors" for folder in (prompt, tmp_path / "back"))
    assert first.read_bytes() == second.read_bytes()


def test_tasks_are_listed_and_shown(run):
    code, table, _ = run("tasks", "list")
    assert code == 0
    assert "sentence_polarity" in table
    code, card, _ = run("tasks", "show", "--name", "sst2")
    assert code == 0
    assert "Licence:" in card
    code, _, err = run("tasks", "show", "--name", "sst3")
    assert code == 2
    assert "Did you mean 'sst2'?" in err


def test_a_backbone_from_text_is_listed_and_can_be_prompted(run, files, tmp_path, monkeypatch):
    text = resources.files("softprompt.tasks") / "data" / "subj" / "test.jsonl.gz"
    made = tmp_path / "backbone"
    code, table, err = run(
        "pretrain", "--output_dir", str(made), "--train+", str(text), "--cache_dir", str(tmp_path / "cache"),
        "--preset", "gpt-tiny", "--objective", "causal_lm", "--vocab_size", "600", "--window", "32", "--steps", "4",
        "--warmup_steps", "1",
    )  # fmt: skip
    assert code == 0, err
    assert "held_out_bits_per_byte" in table
    monkeypatch.setattr("softprompt.backbones.catalogue._FOLDER", tmp_path)
    code, table, err = run("backbones", "list")
    assert code == 0, err
    card = json.loads((made / "card.json").read_text())
    shown = f"{card['parameters']:,}", "causal_lm", f"{card['tokens_seen']:,}", f"{card['held_out_bits_per_byte']:.2f}"
    assert table.splitlines()[-1].split() == ["bundled:backbone", *shown]
    code, _, err = run(
        "train", "--backbone", str(made), "--output_dir", str(tmp_path / "session"), *TEMPLATES, "--steps", "1",
        "--train_file", files["train"], "--length", "3",
    )  # fmt: skip
    assert code == 0, err
