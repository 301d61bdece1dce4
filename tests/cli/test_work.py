"""Train, evaluate, predict and look, on a tiny backbone."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
from importlib import resources
from pathlib import Path

import jaxtyping
import pytest
import yaml

import softprompt as sp
from softprompt.backbones import Backbone
from softprompt.cli.train import train_prompts
from softprompt.errors import BackboneError
from softprompt.evaluation import evaluate
from softprompt.tasks import Task
from softprompt.training import Run, TrainConfig

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


def test_every_setting_of_a_run_and_of_a_session_is_an_option():
    """With the same default; some could be set from Python only."""
    options = inspect.signature(train_prompts).parameters
    for kind, others in ((Run, {"name", "method", "task"}), (TrainConfig, {"output_dir", "resume", "progress"})):
        for field in dataclasses.fields(kind):
            if field.name not in others:
                assert options[field.name].default == (
                    field.default or None if field.name == "trackers" else field.default
                )


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


@pytest.mark.parametrize("flag", ["subset", "splits", "dataset_revision"])
def test_an_option_of_a_data_set_needs_one(run, backbone, flag):
    value = '{"train": train}' if flag == "splits" else "x"
    code, _, err = run("evaluate", "--backbone", backbone, "--task", "subj", f"--{flag}", value)
    assert code == 2
    assert err == f"softprompt: --{flag} says something of a data set, but no --dataset is given.\n"


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
    }

    def from_hub(path, subset, **options):
        arrived.update(options, dataset=path, subset=subset)
        return sp.load_task("subj")

    monkeypatch.setattr(sp.Task, "from_hub", from_hub)
    monkeypatch.setattr(sp, "train", lambda _, __, config: arrived.update(vars(config)) or {})
    code, _, err = run(
        "train", "--backbone", backbone, "--output_dir", str(tmp_path / "out"), *TEMPLATES, "--dataset", "some/reviews",
        "--subset", "films", "--splits", '{"train": all}', "--dataset_revision", "v2", "--split_seed", "5",
        *(f"--{name}={['wandb'] if name == 'trackers' else value}" for name, value in session.items()),
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
    beside = tmp_path / "whole.jsonl.settings.json"
    (tmp_path / "part.jsonl.settings.json").write_text(beside.read_text())
    assert run(*common, "--output", str(part))[0] == 0
    again = [json.loads(line) for line in part.read_text().splitlines()]
    assert [(row["input"], row["output"]) for row in again] == [(row["input"], row["output"]) for row in rows]


def test_predicting_goes_on_only_behind_answers_to_the_same_question(run, trained, backbone, tmp_path):
    """Whatever lines the output had were counted as answered: to other inputs, by another prompt, in another way."""
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("the film was good\nthe book was bad\n")
    common = ("predict", "--backbone", backbone, "--input", str(source), "--output", str(output))
    prompt = ("--prompt", str(trained / "prompts" / "film"))
    assert run(*common, *prompt)[0] == 0
    answers = output.read_text()
    remedy = "choose another --output, or remove it.\n"

    def refused(*arguments: str) -> str:
        code, _, err = run(*common, *arguments)
        assert code == 2, err
        assert err.endswith(remedy)
        return err.splitlines()[-1].removeprefix(f"softprompt: {output}").removesuffix("; " + remedy.strip())

    assert refused() == " holds answers that were made with another prompt"
    asked = refused(*prompt, "--by", "generate", "--num_beams", "2")
    assert asked == " holds answers that were made with another by and num_beams"
    source.write_text("the film was good\nthe song was bad\n")
    assert refused(*prompt) == f":2 answers another input than {source}:2"
    source.write_text("the film was good\n")
    assert refused(*prompt) == ":2 answers more than there are inputs"
    assert output.read_text() == answers
    output.write_text("no answer\n")
    assert refused(*prompt) == ":1 is no answer"
    (tmp_path / "out.jsonl.settings.json").unlink()
    assert refused(*prompt) == " exists, but not out.jsonl.settings.json beside it"


def test_inputs_that_cannot_be_answered(run, trained, backbone, tmp_path):
    """A blank line stopped a prediction without file and line, bytes that are no UTF-8 with a traceback."""
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    long = "the film was good " * 40
    source.write_bytes(f"the film was good\n \n{long}\n".encode() + b"caf\xe9\nthe book was bad\n\n")
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"), "--input", str(source),
              "--output", str(output))  # fmt: skip
    code, _, err = run(*common)
    assert code == 1
    assert err.splitlines()[-1] == (
        f"softprompt: {source}:2: the input is empty; give it a text. To write bad inputs down with their error and go "
        "on, give --on-bad-row=skip."
    )
    code, _, err = run(*common, "--on-bad-row=skip")
    assert code == 0, err
    assert err.splitlines()[-1] == "4 bad inputs have an error instead of an output."
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["input"] for row in rows] == ["the film was good", " ", long, "caf\ufffd", "the book was bad", ""]
    assert [row["output"] is None for row in rows] == [False, True, True, True, False, True]
    errors = [row["error"] for row in rows if "error" in row]
    assert "tokens, but only" in errors[1]
    assert errors[2] == "is not valid UTF-8; save the file as UTF-8"
    whole = output.read_text()
    output.write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert run(*common, "--on-bad-row=skip")[0] == 0
    assert [json.loads(line)["input"] for line in output.read_text().splitlines()] == [row["input"] for row in rows]


def test_predicting_from_every_kind_of_file(run, trained, backbone, tmp_path, monkeypatch):
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"))
    csv = tmp_path / "in.csv"
    csv.write_text('id,text\n1,"the film, was good"\n2,the book was bad\n')
    code, out, err = run(*common, "--input", str(csv))
    assert code == 0, err
    assert [json.loads(line)["input"] for line in out.splitlines()] == [
        {"id": "1", "text": "the film, was good"},
        {"id": "2", "text": "the book was bad"},
    ]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "the film was good"}\n{"txt": ""}\n')))
    code, out, err = run(*common, "--format", "rows", "--on-bad-row", "skip")
    assert code == 0, err
    assert json.loads(out.splitlines()[1])["error"] == "column 'text' is missing; the row has 'txt'"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the film was good\n")))
    code, out, err = run(*common)
    assert code == 0, err
    assert json.loads(out)["input"] == "the film was good"
    code, _, err = run(*common, "--input", str(tmp_path / "none.txt"))
    assert code == 1
    assert err.splitlines()[-1] == f"softprompt: There is no file {tmp_path}/none.txt; check the path."


def test_predicting_columns_to_standard_output(run, trained, backbone, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "the film was good"}\n{"text": "the book was bad"}\n')
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"),
              "--input", str(source), "--by", "generate", "--max_new_tokens", "3")  # fmt: skip
    code, out, err = run(*common)
    assert code == 0, err
    assert [json.loads(line)["input"]["text"] for line in out.splitlines()] == ["the film was good", "the book was bad"]
    assert "probabilities" not in out
    source.write_text('{"text": "the film was good"}\n["no object"]\n')
    code, _, err = run(*common)
    assert code == 1
    assert f"softprompt: {source}:2: holds a JSON list; write one object per line" in err.splitlines()[-1]


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


def test_evaluating_on_files(run, trained, backbone, files, tmp_path):
    """Who trained on files could evaluate on none."""
    common = ("evaluate", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"))
    code, stored, err = run(*common, "--validation_file", files["validation"])
    assert code == 0, err
    assert [line.split()[0] for line in stored.splitlines()[2:]] == ["accuracy", "macro_f1"]
    code, said, err = run(*common, "--validation_file", files["validation"], *TEMPLATES)
    assert code == 0, err
    assert said == stored
    code, table, err = run(
        *common, "--test_file", files["validation"], "--split", "test", "--input", "{text}", "--target", "{label}",
        "--metrics+", "exact_match", "--max_new_tokens", "4",
    )  # fmt: skip
    assert code == 0, err
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["exact_match"]
    code, _, err = run("evaluate", "--backbone", backbone, "--validation_file", files["validation"])
    assert code == 2
    assert "Data need templates over their columns" in err


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
