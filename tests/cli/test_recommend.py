"""`softprompt recommend`, and trainings that follow it."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from tests.cli.films import TEMPLATES
from tests.models import tiny_backbone

from softprompt.errors import ConfigError


@pytest.fixture
def asked(backbone, files):
    """The flags of a backbone and a task."""
    data = ("--train_file", files["train"], "--validation_file", files["validation"])
    return ("--backbone", backbone, *TEMPLATES, *data)


def test_settings_come_with_reason_and_source(run, asked):
    code, out, err = run("recommend", *asked, "--steps", "7")
    assert code == 0, err
    advised, beside = out.split("Beside it, to be compared rather than followed:")
    assert "p_tuning_v2" in advised
    assert "Liu et al. 2022" in advised
    assert "the budget" in advised
    assert "in no paper" in beside


def test_without_steps_advice_and_training_agree(run, asked, tmp_path, monkeypatch):
    """A training took the flag's own 3000 for a budget."""
    monkeypatch.setattr("softprompt.train", lambda backbone, runs, config: stop(runs))

    def stop(runs):
        raise ConfigError(f"{runs[0].steps} steps, evaluated every {runs[0].evaluate_every}")

    advised = run("recommend", *asked)[1].split("Beside it")[0]
    steps, often = (re.search(rf"^{name} +(\d+)", advised, re.MULTILINE)[1] for name in ("steps", "evaluate_every"))
    train = ("train", *asked, "--output_dir", str(tmp_path / "out"))
    assert f"{steps} steps, evaluated every {often}" in run(*train, "--settings", "auto")[2]
    assert "3000 steps, evaluated every None" in run(*train)[2]
    code, _, err = run(*train, "--settings", "search")
    assert code == 2
    assert "A search needs a budget: give --steps" in err


def test_a_search_needs_a_budget_and_goes_on(run, asked, tmp_path):
    code, _, err = run("recommend", *asked, "--search", "true")
    assert code == 2
    assert "--steps" in err
    search = ("recommend", *asked, "--search", "true", "--steps", "16", "--output_dir", str(tmp_path / "search"))
    code, out, err = run(*search)
    assert code == 0, err
    assert "best of 9 candidates" in out
    assert run(*search)[:2] == (0, out)


def test_a_search_takes_the_remedies_that_its_errors_name(run, asked, tmp_path):
    """An input that was too long ended in "pass truncate=True", which the command lacked."""
    out = tmp_path / "search"
    held = {"loss": "likelihood", "evaluate_rows": 4, "metric": "macro_f1", "truncate": True, "max_input_tokens": 4}
    flags = [text for name, value in held.items() for text in (f"--{name}", str(value).lower())]
    code, table, err = run("recommend", *asked, "--search", "true", "--steps", "16", "--output_dir", str(out), *flags)
    assert code == 0, err
    assert "macro_f1 " in table
    for candidate in json.loads((out / "session.json").read_text())["runs"].values():
        assert {name: candidate[name] for name in held} == held
    code, _, err = run("recommend", *asked, "--truncate", "true")
    assert code == 2
    assert "--truncate is for the candidates of a search; say --search true, or drop it." in err


def test_a_comparison_trains_by_the_loss_that_is_asked_for(run, asked, tmp_path):
    """Asked for in words, likelihood was dropped for being the default."""
    for asks, loss in ((), "rank"), (("--loss", "likelihood"), "likelihood"):
        out = tmp_path / loss
        code, _, err = run(
            "train", *asked, "--output_dir", str(out), "--device", "cpu", "--compare", "['P-tuning v2']",
            "--compare_seeds", "[3]", "--steps", "1", *asks,
        )  # fmt: skip
        assert code == 0, err
        rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
        assert {row["loss"] for row in rows} == {loss}


@pytest.mark.slow
def test_an_encoder_without_a_head_is_compared_by_prompts_that_bring_one(run, files, tmp_path):
    """Every prompt was unsupported, and --classes was refused."""
    folder = tmp_path / "bare"
    tiny = tiny_backbone("encoder-only")
    tiny.model.base_model.save_pretrained(folder)
    tiny.need_tokenizer().save_pretrained(folder)
    out = tmp_path / "out"
    code, table, err = run(
        "train", "--backbone", str(folder), *TEMPLATES, "--train_file", files["train"], "--validation_file",
        files["validation"], "--output_dir", str(out), "--device", "cpu", "--compare",
        "['bare backbone', 'prompt tuning', 'P-tuning v2', 'model tuning']", "--compare_seeds", "[3]", "--steps", "1",
        "--classes", "2", "--loss", "likelihood", "--revision", "main", "--attention", "eager",
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    done = {row["label"] for row in rows if row["status"] == "finished"}
    assert done == {"prompt tuning", "P-tuning v2", "model tuning"}
    assert all(row["head"] for row in rows if row["label"] in ("prompt tuning", "P-tuning v2"))
    assert "bare backbone: " in table


@pytest.mark.parametrize("settings", ["auto", pytest.param("search", marks=pytest.mark.slow)])
def test_training_takes_what_is_advised_where_no_flag_decides(settings, run, asked, tmp_path):
    out = tmp_path / "session"
    code, _, err = run(
        "train", *asked, "--output_dir", str(out), "--name", "film", "--settings", settings, "--steps", "16",
        "--batch_size", "2",
    )  # fmt: skip
    assert code == 0, err
    assert "learning_rate: " in err
    written = yaml.safe_load((out / "config.yaml").read_text())
    assert (written["steps"], written["batch_size"], written["optimizer"]) == (16, 2, "adamw")
    stored = json.loads((out / "prompts" / "film" / "prompt.json").read_text())
    assert stored["method"]["name"] == written["method"] in ("p_tuning_v2", "prompt_tuning")
    assert stored["run"]["batch_size"] == 2
    again = tmp_path / "again"
    code, _, err = run("train", "--config", str(out / "config.yaml"), "--output_dir", str(again))
    assert code == 0, err
    prompts = [folder / "prompts" / "film" / "prompt.safetensors" for folder in (out, again)]
    assert prompts[0].read_bytes() == prompts[1].read_bytes()


@pytest.mark.parametrize(("flag", "value"), [("--method", "prefix_tuning"), ("--hidden", "0"), ("--runs", "[{}]")])
def test_what_advice_is_to_find_is_not_given(flag, value, run, asked, tmp_path):
    code, _, err = run("train", *asked, "--output_dir", str(tmp_path / "a"), "--settings", "auto", flag, value)
    assert code == 2
    assert f"drop {flag}" in err


@pytest.mark.slow
def test_a_search_keeps_what_was_given(run, asked, tmp_path):
    """Rates were searched for another length, by another metric, and long inputs stopped the search."""
    out = tmp_path / "out"
    code, _, err = run(
        "train", *asked, "--output_dir", str(out), "--settings", "search", "--steps", "16", "--length", "3",
        "--metric", "macro_f1", "--max_input_tokens", "4", "--truncate", "true", "--learning_rate", "0.02",
    )  # fmt: skip
    assert code == 0, err
    assert "macro_f1" in err
    session = json.loads((out / "search" / "session.json").read_text())
    for candidate in session["runs"].values():
        assert candidate["method"]["length"] == 3
        assert (candidate["metric"], candidate["max_input_tokens"]) == ("macro_f1", 4)
        assert candidate["learning_rate"] == 0.02


def test_methods_are_compared_by_one_command(run, asked, tmp_path):
    compare = (
        "train", *asked, "--output_dir", str(tmp_path / "out"), "--device", "cpu", "--compare",
        "['bare backbone', 'P-tuning v2', 'last layer', 'head alone']", "--compare_seeds", "[3]", "--steps", "2",
    )  # fmt: skip
    code, out, err = run(*compare)
    assert code == 0, err
    head, _, *lines = out.splitlines()
    for column in ("method", "trained", "stored KiB", "ms/step", "session MiB", "peak MiB", "mean"):
        assert column in head
    assert len(lines) == 4
    assert "no head of its own" in lines[-1]
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {row["loss"] for row in rows} == {"rank"}, "as the grid has it for its own tasks with label words"
    assert run(*compare)[1] == out
    code, _, err = run("train", *asked, "--output_dir", str(tmp_path / "b"), "--compare", "all", "--length", "3")
    assert code == 2
    assert "--length is not for --compare" in err
