"""SuperGLUE's and GLUE's tasks from the hub: the same examples as from the published files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.tasks.benchmarks import FIXTURES, SUPERGLUE, folder_of, texts

from softprompt.tasks import hub, load_task, task_definition


def lines_of(name: str, split: str) -> list[dict[str, Any]]:
    file = {"train": "train.jsonl", "validation": "val.jsonl"}[split]
    with open(FIXTURES / "superglue" / SUPERGLUE[name] / file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def as_on_the_hub(name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """A published row as the hub's data set has it: classes are numbers, nested rows are unrolled."""
    classes: dict[str, list[Any]] = {
        "cb": ["entailment", "contradiction", "neutral"],
        "rte": ["entailment", "not_entailment"],
    }
    match name:
        case "multirc":
            passage = row["passage"]
            return [
                {
                    "paragraph": passage["text"],
                    "question": question["question"],
                    "answer": answer["text"],
                    "idx": {"paragraph": row["idx"], "question": question["idx"], "answer": answer["idx"]},
                    "label": answer["label"],
                }
                for question in passage["questions"]
                for answer in question["answers"]
            ]
        case "record":
            passage = row["passage"]
            return [
                {
                    "passage": passage["text"],
                    "query": query["query"],
                    "entities": [passage["text"][one["start"] : one["end"] + 1] for one in passage["entities"]],
                    "answers": [answer["text"] for answer in query["answers"]],
                    "idx": {"passage": row["idx"], "query": query["idx"]},
                }
                for query in row["qas"]
            ]
        case "wsc":
            return [{"text": row["text"], **row["target"], "idx": row["idx"], "label": int(row["label"])}]
    return [{**row, "label": classes.get(name, [0, 1]).index(row["label"])}]


@pytest.mark.parametrize("name", sorted(SUPERGLUE))
def test_the_hub_gives_the_same_examples_as_the_files(name, monkeypatch):
    asked = []

    def load(path, subset, revision):
        asked.append((path, subset))
        return {
            split: [made for row in lines_of(name, split) for made in as_on_the_hub(name, row)]
            for split in ("train", "validation")
        } | {"test": [{"label": -1}]}

    monkeypatch.setattr(hub, "load_all_splits", load)
    task, local = load_task(name), load_task(name, folder_of(name))
    assert asked == [("aps/super_glue", "wsc.fixed" if name == "wsc" else name)]
    assert (task.splits, task.group, task.metrics) == (local.splits, local.group, local.metrics)
    for split in task.splits:
        ours, theirs = task.examples(split), local.examples(split)
        assert [(one.input, one.targets, one.label) for one in ours] == [
            (one.input, one.targets, one.label) for one in theirs
        ]
        if task.group:
            assert [one.columns[task.group] for one in ours] == [one.columns[task.group] for one in theirs]
    assert task.examples("train")[0].source == "train:0"


@pytest.mark.parametrize(
    ("name", "columns", "splits"),
    [
        ("mrpc", {"sentence1": "a", "sentence2": "b", "label": 1, "idx": 0}, ("train", "validation", "test")),
        ("qqp", {"question1": "a", "question2": "b", "label": 0, "idx": 0}, ("train", "validation")),
        ("sst2", {"sentence": "a", "label": 1, "idx": 0}, ("train", "validation")),
    ],
)
def test_glue_from_the_hub(name, columns, splits, monkeypatch):
    found = {split: [columns] for split in ("train", "validation", "test")}
    monkeypatch.setattr(hub, "load_all_splits", lambda path, subset, revision: found)
    task = load_task(name)
    assert task.splits == splits
    assert [one.label for one in task.examples("train")] == [str(columns["label"])]


def test_record_through_datasets_itself(tmp_path):
    for split in ("train", "validation"):
        rows = [made for row in lines_of("record", split) for made in as_on_the_hub("record", row)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    definition = task_definition("record")
    task = replace(definition, hub=replace(definition.hub, path=str(tmp_path), subset=None)).load()
    assert [one.targets for one in task.examples("train")] == [target for _, target in texts("record")]
