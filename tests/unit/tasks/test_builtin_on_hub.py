"""SQuAD and TREC from the hub: the same examples as from the published files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from softprompt.errors import DataError
from softprompt.tasks import load_task, task_definition
from softprompt.tasks.builtin.trec import read_questions

FILES = Path(__file__).parents[2] / "fixtures" / "tasks"
# The classes of CogComp/trec by number, as its card names them.
COARSE = ["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"]


def on_hub(name: str, splits, folder: Path):
    """The task from a data set with these rows, which `datasets` loads from this machine."""
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    definition = task_definition(name)
    return replace(definition, hub=replace(definition.hub, path=str(folder), revision=None)).load()


def examples(task):
    return {split: [(one.input, one.targets, one.label) for one in task.examples(split)] for split in task.splits}


def squad_rows(file: str) -> list[dict[str, object]]:
    """The rows of rajpurkar/squad: a question each, whose answers are two lists."""
    return [
        {
            "id": question["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {
                "text": [answer["text"] for answer in question["answers"]],
                "answer_start": [answer["answer_start"] for answer in question["answers"]],
            },
        }
        for article in json.loads((FILES / "squad" / file).read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def test_squad(tmp_path):
    rows = {"train": squad_rows("train-v1.1.json"), "validation": squad_rows("dev-v1.1.json")}
    task = on_hub("squad", rows, tmp_path)
    assert examples(task) == examples(load_task("squad", FILES / "squad"))
    assert any(len(one.targets) > 1 for one in task.examples("validation"))
    assert task_definition("squad").hub.path == "rajpurkar/squad"


def test_squad_without_an_answer_or_answers_is_bad(tmp_path):
    row = squad_rows("dev-v1.1.json")[0]
    unanswered = {**row, "answers": {"text": [], "answer_start": []}}
    with pytest.raises(DataError, match="validation:1: the question has no answer; questions that cannot be answered"):
        on_hub("squad", {"train": [row], "validation": [row, unanswered]}, tmp_path)
    bare = [{"question": "a", "context": "b"}]
    with pytest.raises(DataError, match="train:0: column 'answers' is missing"):
        on_hub("squad", {"train": bare, "validation": bare}, tmp_path)


def trec_rows(file: str) -> list[dict[str, object]]:
    """The rows of CogComp/trec: the fine class is a number too, which no template of ours asks for."""
    return [
        {
            "text": row.columns["question"],
            "coarse_label": COARSE.index(row.columns["coarse"]),
            "fine_label": index % 50,
        }
        for index, row in enumerate(read_questions(FILES / "trec" / file))
    ]


def test_trec(tmp_path):
    rows = {"train": trec_rows("train_5500.label"), "test": trec_rows("TREC_10.label")}
    task = on_hub("trec", rows, tmp_path)
    assert task.splits == ("train", "validation", "test")
    assert examples(task) == examples(load_task("trec", FILES / "trec"))
    source = task_definition("trec").hub
    assert (source.path, source.revision) == ("CogComp/trec", "refs/convert/parquet")


def test_a_class_that_trec_has_not_is_named(tmp_path):
    rows = trec_rows("TREC_10.label")
    with pytest.raises(DataError, match="test:0: column 'coarse' holds '6', which has no label word; known: ABBR"):
        on_hub("trec", {"train": trec_rows("train_5500.label"), "test": [{**rows[0], "coarse_label": 6}]}, tmp_path)


def test_a_revision_is_asked_for(monkeypatch):
    asked = []

    def load(path, subset, revision):
        asked.append((path, subset, revision))
        return {"train": [], "test": []}

    monkeypatch.setattr("softprompt.tasks.hub.load_all_splits", load)
    task_definition("trec").hub.rows()
    assert asked == [("CogComp/trec", None, "refs/convert/parquet")]
