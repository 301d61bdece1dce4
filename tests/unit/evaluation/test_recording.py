"""Predictions in a file: every one is kept, and an evaluation goes on behind those that are there."""

from __future__ import annotations

import copy
import json

import pytest
from tests.models import tiny_backbone, tiny_prompted
from tests.unit.evaluation.tasks import REVIEWS, places, questions, sentiment

from softprompt.backbones import Backbone
from softprompt.errors import ConfigError, DataError
from softprompt.evaluation import TextPrompt, evaluate, evaluate_majority, measuring, read_evaluation
from softprompt.prompts import PromptTuning

KIND = "decoder-only"
ROWS = len(REVIEWS)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "said.jsonl"


def made(output, task=None, **settings):
    """An evaluation of the tiny model's prompt that writes to the file."""
    model = tiny_prompted(KIND)
    return evaluate(model.backbone, model.prompts["rows"], task or sentiment(), output=output, **settings)


def test_what_is_written_is_what_was_said(output):
    model = tiny_prompted(KIND)
    plain = evaluate(model.backbone, model.prompts["rows"], sentiment())
    found = made(output)
    assert found == plain
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["prediction"] for row in rows] == [row.prediction for row in plain.predictions]
    assert [row["input"] for row in rows] == [row.input for row in plain.predictions]
    assert set(rows[0]) == {
        "task", "split", "input", "targets", "prediction", "label", "probabilities", "source", "group",
    }  # fmt: skip
    assert read_evaluation(output, sentiment()) == plain


def test_several_tasks_share_a_file(output):
    first, second = made(output), made(output, places(), max_new_tokens=4)
    third = made(output, sentiment(), split="train")
    assert len(output.read_text().splitlines()) == 2 * ROWS + 3
    before = output.read_text()
    assert (made(output), made(output, places(), max_new_tokens=4)) == (first, second)
    assert made(output, split="train") == third
    assert output.read_text() == before


@pytest.mark.parametrize("kept", [0, 1, 3, 4, ROWS])
def test_chunks_that_are_there_are_not_asked_again(output, monkeypatch, kept):
    """Stopped behind any row: chunks of three rows are written at once, and a torn line is cut off."""
    monkeypatch.setattr(measuring, "_CHUNK_ROWS", 3)
    whole = made(output)
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:kept]) + ('{"task": "sen' if kept else ""))
    counted = []
    assert made(output, progress=counted.append) == approximately(whole)
    assert sum(counted) == ROWS
    assert counted[0] == (kept or 3)
    assert len(output.read_text().splitlines()) == ROWS


def approximately(evaluation):
    """Equal but for the last bits of probabilities."""

    class Close:
        def __eq__(self, other):
            return dict(other) == dict(evaluation) and [
                (row.input, row.prediction, pytest.approx(row.probabilities, rel=1e-5))
                for row in evaluation.predictions
            ] == [(row.input, row.prediction, row.probabilities) for row in other.predictions]

    return Close()


def test_an_error_leaves_what_was_said_before(output, monkeypatch):
    monkeypatch.setattr(measuring, "_CHUNK_ROWS", 2)
    calls = []
    classify = measuring.classify

    def failing(model, queries, **settings):
        calls.append(len(queries))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return classify(model, queries, **settings)

    monkeypatch.setattr(measuring, "classify", failing)
    with pytest.raises(KeyboardInterrupt):
        made(output)
    assert len(output.read_text().splitlines()) == 4
    calls.clear()
    monkeypatch.setattr(measuring, "classify", classify)
    assert len(made(output).predictions) == ROWS


def test_only_the_same_question_is_gone_on_with(output):
    made(output)
    model = tiny_prompted(KIND)
    message = "holds predictions of sentiment validation that were made with another {}; choose another output"
    with pytest.raises(ConfigError, match=message.format("prompt")):
        evaluate(model.backbone, model.prompts["longer"], sentiment(), output=output)
    with pytest.raises(ConfigError, match=message.format("prompt and text")):
        evaluate(model.backbone, TextPrompt("Answer"), sentiment(), output=output)
    with pytest.raises(ConfigError, match=message.format("by and options")):
        made(output, by="generate", num_beams=2)
    other = tiny_backbone("encoder-decoder")
    with pytest.raises(ConfigError, match=message.format("backbone and prompt")):
        evaluate(other, PromptTuning(length=3).build(other, sentiment()), sentiment(), output=output)
    with pytest.raises(ConfigError, match=r"said.jsonl:\d is of another row than validation:\d"):
        made(output, rows=3)
    assert len(output.read_text().splitlines()) == ROWS


def test_another_tokenizer_or_dtype_is_another_question(output):
    """Rows of one evaluation were made with two chat templates, or at two precisions."""
    tiny = tiny_backbone(KIND)
    tokenizer, model = copy.deepcopy(tiny.tokenizer), copy.deepcopy(tiny.model)
    tokenizer.chat_template = "{{ messages[0]['content'] }} !"
    evaluate(tiny, None, sentiment(), output=output)
    message = "were made with another {}; choose another output"
    with pytest.raises(ConfigError, match=message.format("tokenizer")):
        evaluate(Backbone(tiny.model, tokenizer, tiny.name), None, sentiment(), output=output)
    with pytest.raises(ConfigError, match=message.format("dtype")):
        evaluate(Backbone(model.bfloat16(), tiny.tokenizer, tiny.name), None, sentiment(), output=output)


def test_a_file_of_something_else_is_left_alone(output):
    output.write_text("no prediction")
    with pytest.raises(ConfigError, match=r"said.jsonl exists, but said.jsonl.settings.json beside it does not say"):
        made(output)
    assert output.read_text() == "no prediction"
    output.unlink()
    made(output)
    before = output.read_text()
    output.write_text(before + '{"input": "good"}\n')
    with pytest.raises(ConfigError, match=f"said.jsonl:{ROWS + 1} is no prediction; choose another output"):
        made(output)
    output.write_text(before + before.splitlines(keepends=True)[0])
    with pytest.raises(ConfigError, match=f"said.jsonl:{ROWS + 1} is of more rows than the {ROWS} of sentiment"):
        made(output)


def test_what_rows_were_made_with_is_known(output):
    made(output)
    beside = output.with_name("said.jsonl.settings.json")
    beside.write_text("{}")
    message = "said.jsonl exists, but said.jsonl.settings.json beside it does not say what it was made with"
    with pytest.raises(ConfigError, match=message):
        made(output)
    with pytest.raises(ConfigError, match=message):
        read_evaluation(output, sentiment())


def test_groups_and_labels_come_back(output):
    task = questions()
    found = evaluate_majority(task, "test", rows=7, seed=1, output=output)
    again = read_evaluation(output, task, "test", rows=7, seed=1)
    assert (again, again.by) == (found, "majority")
    assert evaluate_majority(task, "test", rows=7, seed=1, output=output) == found
    assert len(output.read_text().splitlines()) == 9


def test_reading_needs_all_rows(output):
    with pytest.raises(DataError, match="There is no file"):
        read_evaluation(output, sentiment())
    made(output)
    output.write_text("".join(output.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(DataError, match=f"holds predictions of 2 rows of sentiment validation, not of {ROWS}; finish"):
        read_evaluation(output, sentiment())
    with pytest.raises(DataError, match="holds predictions of 0 rows of sentiment train"):
        read_evaluation(output, sentiment(), "train")
