"""`softprompt evaluate`, on a tiny backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.films import TEMPLATES

import softprompt as sp
from softprompt.errors import MissingDependencyError
from softprompt.evaluation import measuring
from softprompt.tasks.metrics import registry


def cells(table: str) -> list[list[str]]:
    """The lines of a table below its head."""
    return [line.split() for line in table.splitlines()[2:]]


def metrics_of(table: str) -> list[str]:
    return [line[2] for line in cells(table)]


def test_evaluating_writes_every_prediction(run, trained, backbone, tmp_path):
    output = tmp_path / "predictions.jsonl"
    code, table, err = run(
        "evaluate", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"),
        "--task", "sentence_polarity", "--rows", "6", "--truncate", "true", "--output", str(output),
    )  # fmt: skip
    assert code == 0, err
    assert metrics_of(table) == ["accuracy", "macro_f1"]
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
    assert metrics_of(stored) == ["accuracy", "macro_f1"]
    code, said, err = run(*common, "--validation_file", files["validation"], *TEMPLATES)
    assert code == 0, err
    assert said == stored
    code, table, err = run(
        *common, "--test_file", files["validation"], "--split", "test", "--input", "{text}", "--target", "{label}",
        "--metrics+", "exact_match", "--max_new_tokens", "4",
    )  # fmt: skip
    assert code == 0, err
    assert metrics_of(table) == ["exact_match"]
    code, _, err = run("evaluate", "--backbone", backbone, "--validation_file", files["validation"])
    assert code == 2
    assert "Data need templates over their columns" in err


@pytest.mark.usefixtures("as_one_of_two")
def test_evaluating_is_done_in_one_process(run, backbone, tmp_path):
    """Each process would score every row, and write to one file of predictions."""
    said = tmp_path / "said.jsonl"
    code, out, err = run("evaluate", "--backbone", backbone, "--task", "subj", "--output", str(said))
    assert (code, out) == (2, "")
    assert err == "softprompt: 2 processes share one training; run softprompt evaluate in one process.\n"
    assert not said.exists()


def test_a_metric_that_cannot_be_computed_is_named(run, backbone, monkeypatch):
    def absent(predictions, references):
        raise MissingDependencyError("it needs a jar: pip install jar")

    monkeypatch.setitem(registry.METRICS._values, "absent", absent)
    code, table, err = run(
        "evaluate", "--backbone", backbone, "--task", "subj", "--majority", "true", "--metrics+", "absent",
        "--metrics+", "accuracy", "--rows", "9",
    )  # fmt: skip
    assert code == 0, err
    assert metrics_of(table) == ["accuracy"]
    assert err.splitlines()[-1] == "absent is left out: it needs a jar: pip install jar"


def test_prompt_design_with_examples(run, backbone, files, monkeypatch):
    """Few shots and calibration, which the papers compare with, could be said in a grid alone."""
    asked = []
    evaluate = sp.evaluate

    def told(loaded, prompt, task, split, **options):
        asked.append((prompt, options))
        return evaluate(loaded, prompt, task, split, **options)

    monkeypatch.setattr(sp, "evaluate", told)
    data = (*TEMPLATES, "--train_file", files["train"], "--validation_file", files["validation"])
    common = ("evaluate", "--backbone", backbone, *data)
    code, table, err = run(
        *common, "--text_prompt", "good or bad :", "--shots", "2", "--shots_seed", "3", "--calibrate", "true",
        "--max_input_tokens", "60",
    )  # fmt: skip
    assert code == 0, err
    task = sp.Task.from_files(
        train=files["train"], validation=files["validation"], input="{text}", target="{label}",
        label_words={"0": "bad", "1": "good"},
    )  # fmt: skip
    shots = sp.TextPrompt.few_shot(task, 2, seed=3, instruction="good or bad :")
    ((prompt, options),) = asked
    assert prompt == shots
    assert (options["calibrate"], options["max_input_tokens"]) == (True, 60)
    assert "num_beams" not in options
    found = evaluate(sp.Backbone.from_pretrained(backbone), shots, task, calibrate=True)
    assert float(cells(table)[0][3]) == pytest.approx(found["accuracy"], abs=0.01)
    code, _, err = run(*common, "--shots", "2", "--majority", "true")
    assert code == 2
    assert "--shots are put before inputs of the bare backbone" in err
    code, _, err = run(*common, "--max_input_tokens", "2")
    assert code == 1
    assert "only 2 fit" in err


def test_text_is_generated_with_beams(run, backbone, files, tmp_path):
    """The papers decode with beams, and evaluations could not."""
    common = (
        "evaluate", "--backbone", backbone, "--validation_file", files["validation"], "--input", "{text}",
        "--target", "{label}", "--max_new_tokens", "4",
    )  # fmt: skip
    output = tmp_path / "beams.jsonl"
    code, _, err = run(*common, "--num_beams", "3", "--length_penalty", "0.8", "--output", str(output))
    assert code == 0, err
    task = sp.Task.from_files(validation=files["validation"], input="{text}", target="{label}")
    loaded = sp.Backbone.from_pretrained(backbone)
    wanted = sp.evaluate(loaded, None, task, max_new_tokens=4, num_beams=3, length_penalty=0.8)
    said = [json.loads(line)["prediction"] for line in output.read_text().splitlines()]
    assert said == [row.prediction for row in wanted.predictions]
    code, _, err = run(*common, "--length_penalty", "0.8")
    assert code == 2
    assert "--length_penalty chooses among beams" in err


TASKS = ("imdb_original", "imdb_revised")
SPLITS = ("validation", "test")
BOTH = ("--task", "[imdb_original, imdb_revised]", "--split", "[validation, test]")


@pytest.fixture
def reviews(tmp_path) -> str:
    """Folder with the files of two small tasks, six rows in each; the second has no test split."""
    for part, files in (("orig", ("train", "dev", "test")), ("new", ("train", "dev"))):
        folder = tmp_path / "reviews" / "sentiment" / part
        folder.mkdir(parents=True)
        for file in files:
            rows = [f"{label}\tthe {what} was {word} {file} {part}" for what in ("film", "book", "song")
                    for label, word in (("Positive", "good"), ("Negative", "bad"))]  # fmt: skip
            (folder / f"{file}.tsv").write_text("\n".join(["Sentiment\tText", *rows, ""]))
    return str(tmp_path / "reviews")


@pytest.fixture
def scored(run, trained, backbone, reviews, monkeypatch):
    """Evaluate the trained prompt with further arguments: the table, and how many rows were asked of the model."""
    asked: list[int] = []
    classify = measuring.classify

    def counted(model, queries, **settings):
        asked.append(len(queries))
        return classify(model, queries, **settings)

    monkeypatch.setattr(measuring, "classify", counted)

    def call(*arguments: str, prompt: Path | None = trained / "prompts" / "film") -> tuple[str, int]:
        asked.clear()
        code, table, err = run(
            "evaluate", "--backbone", backbone, "--prompt", str(prompt), "--data_dir", reviews, *arguments
        )
        assert code == 0, err
        return table, sum(asked)

    return call


def test_several_tasks_and_splits_in_one_table(scored, tmp_path):
    output = tmp_path / "all.jsonl"
    table, asked = scored(*BOTH, "--output", str(output))
    assert asked == 18
    lines = cells(table)
    places = [(line[0], line[1]) for line in lines if line[2] == "accuracy"]
    assert places == [(TASKS[0], "validation"), (TASKS[0], "test"), (TASKS[1], "validation")]
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["task"], row["split"]) for row in rows[::6]] == places
    assert all(row["input"] and row["targets"] and row["prediction"] for row in rows)
    scores = {(line[0], line[1]): float(line[3]) for line in lines if line[2] == "accuracy"}
    mean = (scores[TASKS[0], "validation"] + scores[TASKS[1], "validation"]) / 2
    assert [(line[1], float(line[-1])) for line in lines if line[0] == "mean"] == [
        ("validation", pytest.approx(mean, abs=0.01))
    ]


def test_a_stopped_evaluation_goes_on(scored, tmp_path):
    output = tmp_path / "all.jsonl"
    whole, _ = scored(*BOTH, "--output", str(output))
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:8]) + lines[8][:20])
    table, asked = scored(*BOTH, "--output", str(output))
    assert (table, asked) == (whole, 10)
    assert [said(line) for line in output.read_text().splitlines()] == [said(line) for line in lines]
    assert scored(*BOTH, "--output", str(output)) == (whole, 0)


def said(line: str) -> dict[str, object]:
    """A row without probabilities, whose last bits depend on the batch."""
    return {name: value for name, value in json.loads(line).items() if name != "probabilities"}


def test_only_the_same_question_is_gone_on_with(run, scored, trained, backbone, reviews, tmp_path):
    output = str(tmp_path / "out.jsonl")
    scored("--task", TASKS[0], "--output", output)
    common = ("evaluate", "--backbone", backbone, "--task", TASKS[0], "--data_dir", reviews, "--output", output)
    code, _, err = run(*common, "--prompt", str(trained / "prompts" / "film"), "--rows", "5")
    assert code == 2
    assert f"{output}:" in err
    assert err.endswith("choose another output, or remove it.\n")
    code, _, err = run(*common)
    assert code == 2
    assert "out.jsonl holds predictions of imdb_original validation that were made with another prompt; choose" in err


def test_two_are_compared_on_the_same_rows(run, scored, trained, tmp_path):
    output = tmp_path / "ours.jsonl"
    common = ("--task", TASKS[0], "--metrics+", "accuracy")
    table, asked = scored(*common, "--against", str(trained / "prompts" / "film"), "--output", str(output))
    assert asked == 12
    assert table.splitlines()[0].endswith("against  difference  95 % from    to  p  test")
    ((*_, score, _, _, against, difference, low, high, p, test),) = cells(table)
    assert score == against
    assert (difference, low, high, p, test) == ("0.00", "0.00", "0.00", "1", "McNemar")
    beside = tmp_path / "ours.against.jsonl"
    assert beside.read_text() == output.read_text()
    again, asked = scored(*common, "--against", str(beside), "--output", str(output))
    assert (again, asked) == (table, 0)
    for rival, more in (("bare", 12), ("majority", 6)):
        table, asked = scored(*common, "--against", rival)
        assert asked == more
        assert "McNemar" in table
    code, _, err = run("evaluate", "--backbone", "x", "--task", "e2e_sample", "--against", "nowhere")
    assert code == 2
    assert "--against nowhere: there is no such folder or file; give a prompt's folder" in err


def test_what_is_known_to_differ_is_told(run, backbone, reviews, tmp_path):
    """Against a file in which all is right, of six rows with three of each label."""
    common = (
        "evaluate", "--backbone", "nowhere", "--task", TASKS[0], "--data_dir", reviews, "--majority", "true",
        "--metrics", "[accuracy, nist]",
    )  # fmt: skip
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    assert run(*common, "--output", str(ours))[0] == 0
    rows = [json.loads(line) for line in ours.read_text().splitlines()]
    theirs.write_text("".join(json.dumps({**row, "prediction": row["targets"][0]}) + "\n" for row in rows))
    Path(f"{theirs}.settings.json").write_text(Path(f"{ours}.settings.json").read_text())
    code, table, err = run(*common, "--against", str(theirs))
    assert code == 0, err
    accuracy, nist = cells(table)
    assert accuracy[3] == "50.00"
    assert (accuracy[6], accuracy[7], accuracy[10:]) == ("100.00", "-50.00", ["0.25", "McNemar"])  # 2 * (1/2)**3
    assert -100 <= float(accuracy[8]) < -50 < float(accuracy[9]) <= 0
    assert float(nist[7]) < 0
    assert nist[11:] == ["paired", "bootstrap", "of", "1,000", "draws"]
    told = [line.split("  ")[:2] for line in err.splitlines() if line.startswith(f"{TASKS[0]} validation ")]
    whole = [["intervals", "1000/1000"], ["accuracy against", "10000/10000"], ["nist against", "1000/1000"]]
    for what, count in whole:
        assert [f"{TASKS[0]} validation {what}", count] in told


def test_a_wrong_metric_is_refused_before_a_backbone_is_loaded(run, reviews, monkeypatch):
    """It was refused after everything had been predicted."""

    def loaded(*_, **__):
        raise AssertionError("The backbone was loaded.")

    monkeypatch.setattr(sp.Backbone, "from_pretrained", loaded)
    common = ("evaluate", "--backbone", "nowhere", "--task", TASKS[0], "--data_dir", reviews)
    for metrics, message in (("acuracy", "Did you mean 'accuracy'"), ("multirc", "scores groups of rows")):
        code, table, err = run(*common, "--metrics+", metrics)
        assert (code, table) == (2, "")
        assert message in err
    code, _, err = run(*common, "--num_beams", "4")
    assert code == 2
    assert err.endswith("--num_beams is for text that is generated, but labels are ranked; say --by generate.\n")


def test_another_format_than_the_prompts_is_told(run, trained, backbone, reviews):
    """A prompt that was trained with a template of its own was scored in the task's, and nothing said so."""
    common = (
        "evaluate", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"), "--task", TASKS[0],
        "--data_dir", reviews,
    )  # fmt: skip
    code, _, err = run(*common)
    assert code == 0, err
    told = f"{TASKS[0]} is scored in its own format, not in that of the prompt, which was trained with the input"
    assert told in err
    code, _, err = run(*common, "--input", "{Text}")
    assert code == 0, err
    assert told not in err


def test_the_predictions_of_another_evaluation_have_all_rows(run, scored, backbone, reviews, tmp_path):
    output = tmp_path / "ours.jsonl"
    scored("--task", TASKS[0], "--output", str(output))
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:4]))
    common = ("evaluate", "--backbone", backbone, "--task", TASKS[0], "--data_dir", reviews, "--majority", "true")
    code, _, err = run(*common, "--against", str(output))
    assert code == 1
    assert "holds predictions of 4 rows of imdb_original validation, not of 6; finish that evaluation" in err
    assert output.read_text() == "".join(lines[:4])


def test_each_task_is_scored_on_the_splits_that_it_has(run, backbone, reviews):
    common = ("evaluate", "--backbone", backbone, "--majority", "true", "--data_dir", reviews)
    code, _, err = run(*common, *BOTH)
    assert code == 0, err
    assert "imdb_revised has no split 'test' and is left out of it." in err
    code, _, err = run(*common, "--task", "[imdb_original, imdb_revised]", "--split", "test")
    assert code == 2
    assert "Unknown split of the task imdb_revised 'test'" in err
    code, _, err = run(*common, "--task", TASKS[0], "--split", "[test, test]")
    assert code == 2
    assert "--split needs names that differ; got ['test', 'test']" in err


@pytest.mark.slow
def test_folders_of_several_tasks(run, backbone, reviews):
    """One folder is for those that bring no data along; or each has its own."""
    common = ("evaluate", "--backbone", backbone, "--majority", "true")
    code, table, err = run(
        *common, "--task", "[e2e_sample, imdb_revised]", "--data_dir", reviews, "--metrics+", "exact_match"
    )
    assert code == 0, err
    assert {line[0] for line in cells(table)} == {"e2e_sample", "imdb_revised", "mean"}
    several = ("--task", "[imdb_original, imdb_revised]", "--data_dir")
    code, table, err = run(*common, *several, json.dumps(dict.fromkeys(TASKS, reviews)))
    assert code == 0, err
    for folders, message in (
        ({"imdb": "x"}, "Unknown task of --data_dir 'imdb'"),
        ({TASKS[0]: reviews}, "The task 'imdb_revised' needs a data_dir"),
    ):
        code, _, err = run(*common, *several, json.dumps(folders))
        assert code == 2
        assert message in err
    code, _, err = run(*common, "--task", "e2e_sample", "--data_dir", json.dumps({"e2e_sample": "x"}))
    assert code == 2
    assert "This takes one task and one folder; give --task NAME" in err
    code, _, err = run(*common, "--task", "[e2e_sample, e2e_sample]")
    assert code == 2
    assert "--task needs names that differ; got ['e2e_sample', 'e2e_sample']" in err


def test_a_run_on_several_tasks_has_a_prompt_for_each(scored, run, trained, backbone, reviews, tmp_path):
    """The folder of such a run holds a folder for each task."""
    for name in TASKS:
        sp.SoftPrompt.load(trained / "prompts" / "film").save(tmp_path / "both" / name)
    assert scored(*BOTH, prompt=tmp_path / "both") == scored(*BOTH)
    code, _, err = run(
        "evaluate", "--backbone", backbone, "--prompt", str(tmp_path / "both"), "--task", "[imdb_original, subj]",
    )  # fmt: skip
    assert code == 1
    assert "both/subj is not a prompt folder" in err
