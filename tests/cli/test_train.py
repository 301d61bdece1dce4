"""`softprompt train`, on a tiny backbone."""

from __future__ import annotations

import dataclasses
import inspect
import json

import jaxtyping
import pytest
import yaml
from tests.cli.films import TEMPLATES

import softprompt as sp
from softprompt.backbones import Backbone
from softprompt.cli.train import train_prompts
from softprompt.errors import BackboneError
from softprompt.training import Run, TrainConfig


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


def test_every_setting_of_a_run_and_of_a_session_is_an_option():
    """With the same default; some could be set from Python only. Loss and steps may be asked for by their default."""
    options = inspect.signature(train_prompts).parameters
    for kind, others in ((Run, {"name", "method", "task"}), (TrainConfig, {"output_dir", "resume", "progress"})):
        for field in dataclasses.fields(kind):
            if field.name not in others:
                assert options[field.name].default == (
                    None if field.name in ("trackers", "halve_at", "loss", "steps") else field.default
                )


def test_settings_of_a_session_and_of_its_data_arrive(run, backbone, monkeypatch, tmp_path):
    """Each is passed on by hand, and one that is forgotten would do nothing."""
    arrived = {}
    session = {
        "precision": "bf16",
        "conditioning": "concatenation",
        "gradient_checkpointing": True,
        "pass_tokens": 7,
        "evaluation_tokens": 8,
        "checkpoint_every": 9,
        "keep_checkpoints": 3,
        "trackers": ("wandb",),
        "halve_at": (5,),
    }

    def from_hub(path, subset, **options):
        arrived.update(options, dataset=path, subset=subset)
        return sp.load_task("subj")

    monkeypatch.setattr(sp.Task, "from_hub", from_hub)
    monkeypatch.setattr(sp, "train", lambda _, __, config: arrived.update(vars(config)) or {})
    code, _, err = run(
        "train", "--backbone", backbone, "--output_dir", str(tmp_path / "out"), *TEMPLATES, "--dataset", "some/reviews",
        "--subset", "films", "--splits", '{"train": all}', "--dataset_revision", "v2", "--split_seed", "5",
        *(f"--{name}={list(value) if isinstance(value, tuple) else value}" for name, value in session.items()),
    )  # fmt: skip
    assert code == 0, err
    data = {"dataset": "some/reviews", "subset": "films", "splits": {"train": "all"}, "revision": "v2", "split_seed": 5}
    assert {**session, **data}.items() <= arrived.items()


def test_settings_are_kept_whatever_ends_the_training(run, backbone, files, tmp_path):
    """They were written after the training only: not when all runs had failed, nor after a kill."""
    out = tmp_path / "failed"
    common = ("train", "--backbone", backbone, *TEMPLATES, "--train_file", files["train"], "--steps", "4",
              "--length", "3", "--output_dir", str(out))  # fmt: skip
    code, _, err = run(*common, "--learning_rate", "1e38", "--optimizer", "adamw")
    assert code == 1, err
    assert yaml.safe_load((out / "config.yaml").read_text())["learning_rate"] == 1e38
    code, _, err = run(*common, "--learning_rate", "0.1")
    assert code == 2
    assert "holds another session" in err
    assert yaml.safe_load((out / "config.yaml").read_text())["learning_rate"] == 1e38
    code, _, err = run(*common, "--output_dir", files["train"])
    assert code == 2
    assert err.splitlines()[-1] == f"softprompt: output_dir={files['train']} is a file; choose a folder."


def test_settings_of_a_run_and_of_a_method_are_checked(run, backbone, files, tmp_path, monkeypatch):
    """Without the types that tests check, as users run it: a text for a number once ended in a traceback."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    file = tmp_path / "runs.yaml"
    common = ("train", "--backbone", backbone, *TEMPLATES, "--train_file", files["train"], "--output_dir",
              str(tmp_path / "out"))  # fmt: skip
    file.write_text(yaml.safe_dump({"runs": [{"learning_rate": "high"}]}))
    code, _, err = run(*common, "--config", str(file))
    assert code == 2
    assert err.splitlines()[-1] == "softprompt: learning_rate='high': expected a number, but got str."
    code, _, err = run(*common, "--method_options", '{"rank": 4}')
    assert code == 2
    assert "Unknown setting of PromptTuning 'rank'." in err
    prefix = ("--method", "prefix_tuning", "--hidden", "0", "--steps", "1")
    code, _, err = run(*common, *prefix, "--decoder", "false")
    assert code == 2
    assert "Every prefix" in err
    code, _, err = run(*common, *prefix, "--cross", "false", "--method_options", '{"length": 7}', "--name", "keys")
    assert code == 0, err
    method = json.loads((tmp_path / "out" / "prompts" / "keys" / "prompt.json").read_text())["method"]
    assert (method["length"], method["cross"], method["decoder"]) == (7, False, True)


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--task", "subj", "--output_dir", "out"),
        ("evaluate", "--task", "subj"),
        ("predict", "--by", "generate"),
    ],
)
def test_where_a_backbone_comes_from_is_handed_on(run, command, tmp_path, monkeypatch):
    def from_pretrained(name: str, **settings: object) -> None:
        raise BackboneError(f"{name}, {settings['revision']}, {settings['trust_remote_code']}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Backbone, "from_pretrained", from_pretrained)
    code, _, err = run(*command, "--backbone", "a/b", "--revision", "v1", "--trust_remote_code", "true")
    assert code == 1
    assert err.splitlines()[-1] == "softprompt: a/b, v1, True"


def test_the_written_settings_repeat_the_training(run, trained, tmp_path):
    again = tmp_path / "again"
    code, _, err = run("train", "--config", str(trained / "config.yaml"), "--output_dir", str(again))
    assert code == 0, err
    first, second = (folder / "prompts" / "film" / "prompt.safetensors" for folder in (trained, again))
    assert first.read_bytes() == second.read_bytes()


def test_what_a_run_cost_is_told(run, backbone, files, tmp_path):
    """The closing table told scores alone."""
    common = ("train", "--backbone", backbone, *TEMPLATES, "--train_file", files["train"], "--validation_file",
              files["validation"], "--steps", "2", "--length", "3", "--hidden", "8", "--method", "p_tuning",
              "--encoder", "mlp", "--name", "rows", "--output_dir", str(tmp_path / "out"))  # fmt: skip
    code, table, err = run(*common)
    assert code == 0, err
    prompt = tmp_path / "out" / "prompts" / "rows"
    assert json.loads((prompt / "prompt.json").read_text())["method"]["encoder"] == "mlp"
    head, _, line = (one.split("  ") for one in table.splitlines())
    told = dict(zip([one.strip() for one in head if one], [one.strip() for one in line if one], strict=True))
    assert int(told["learned"]) < int(told["trained"].replace(",", ""))
    assert int(told["stored bytes"].replace(",", "")) == (prompt / "prompt.safetensors").stat().st_size
    assert float(told["ms/step"].replace(",", "")) > 0
    _, again, _ = run(*common)
    assert told["ms/step"] not in again, "what the first call took is not known"


def test_the_mean_of_several_prompts_is_a_start(run, trained, backbone, files, tmp_path):
    """Several sources could be said in Python and in runs of a file, not by the flag."""
    film = str(trained / "prompts" / "film")
    out = tmp_path / "mean"
    code, _, err = run(
        "train", "--backbone", backbone, *TEMPLATES, "--train_file", files["train"], "--steps", "1", "--init", "prompt",
        "--source", f"[{film}, {film}]", "--length", "4", "--name", "mean", "--output_dir", str(out),
    )  # fmt: skip
    assert code == 0, err
    assert json.loads((out / "prompts" / "mean" / "prompt.json").read_text())["method"]["source"] == [film, film]
    for value in ("false", "mlp"):
        code, said, err = run(
            "train", "--backbone", backbone, *TEMPLATES, "--train_file", files["train"], "--output_dir", str(out),
            "--encoder", value, "--print_config",
        )  # fmt: skip
        assert code == 0, err
        assert f"encoder: {value}" in said


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


@pytest.fixture
def reviews(tmp_path) -> str:
    """Folder with the files of two small tasks, of eight rows and of four."""
    for part, count in (("orig", 4), ("new", 2)):
        folder = tmp_path / "reviews" / "sentiment" / part
        folder.mkdir(parents=True)
        rows = [f"{label}\tthe {what} was {word}" for what in ("film", "book", "song", "plot")[:count]
                for label, word in (("Positive", "good"), ("Negative", "bad"))]  # fmt: skip
        for file in ("train.tsv", "dev.tsv"):
            (folder / file).write_text("\n".join(["Sentiment\tText", *rows, ""]))
    return str(tmp_path / "reviews")


def test_several_tasks_are_mixed(run, backbone, reviews, tmp_path):
    out = tmp_path / "out"
    common = ("train", "--backbone", backbone, "--task", "[imdb_original, imdb_revised]", "--data_dir", reviews,
              "--length", "3", "--batch_size", "4", "--steps", "6", "--output_dir", str(out))  # fmt: skip
    code, table, err = run(*common, "--mixing", "equal", "--name", "one")
    assert code == 0, err
    assert "one was trained on rows of imdb_original 50.0 %, imdb_revised 50.0 %." in err.splitlines()
    assert "imdb_revised accuracy" in table
    stored = json.loads((out / "prompts" / "one" / "prompt.json").read_text())
    assert (stored["task"], stored["format"]["input"]) == ("imdb_original-imdb_revised", "review: {Text}")
    assert (stored["run"]["mixing"], stored["run"]["shares"]["imdb_original"]) == ("equal", 0.5)
    code, _, err = run("train", "--config", str(out / "config.yaml"))
    assert code == 0, err
    code, _, err = run(*common, "--name", "one")
    assert code == 2
    assert "holds another session: runs.one.mixing is 'equal' there and 'proportional' here" in err


def test_prompts_of_a_mixture_are_evaluated_by_their_folder(run, backbone, reviews, tmp_path):
    out = tmp_path / "out"
    tasks = ("--backbone", backbone, "--task", "[imdb_original, imdb_revised]", "--data_dir", reviews)
    code, _, err = run(
        "train", *tasks, "--method", "multitask", "--length", "3", "--steps", "3", "--output_dir", str(out),
        "--mixing", "temperature", "--mixing_temperature", "2", "--mixing_limit", "6",
    )  # fmt: skip
    assert code == 0, err
    folder = out / "prompts" / "imdb_original-imdb_revised"
    code, scores, err = run("evaluate", *tasks, "--prompt", str(folder))
    assert code == 0, err
    lines = [line.split() for line in scores.splitlines()[2:]]
    stored = json.loads((folder / "imdb_revised" / "prompt.json").read_text())["metrics"]["validation"]
    assert float(next(line[-1] for line in lines if line[0] == "mean")) == pytest.approx(stored["mean"], abs=0.01)


def test_a_mixture_needs_several_tasks(run, backbone, tmp_path):
    common = ("train", "--backbone", backbone, "--output_dir", str(tmp_path / "out"), "--steps", "1")
    code, _, err = run(*common, "--task", "e2e_sample", "--mixing", "equal")
    assert code == 2
    assert err.splitlines()[-1] == "softprompt: --mixing says how several tasks are mixed, but --task names one."
    for how in (("--compare", "all"), ("--settings", "auto")):
        code, _, err = run(*common, "--task", "[e2e_sample, subj]", *how)
        assert code == 2
        assert "This takes one task and one folder; give --task NAME" in err


@pytest.mark.parametrize("how", [("--compare", "all"), ("--settings", "search")])
@pytest.mark.usefixtures("as_one_of_two")
def test_what_starts_trainings_of_its_own_runs_in_one_process(run, backbone, tmp_path, how):
    """Each process would start them, in one folder."""
    code, _, err = run("train", "--backbone", backbone, "--output_dir", str(tmp_path / "out"), "--task", "subj", *how)
    assert code == 2
    assert err.splitlines()[-1].startswith("softprompt: 2 processes share one training; run --compare, or --settings")
    assert not (tmp_path / "out").exists()
