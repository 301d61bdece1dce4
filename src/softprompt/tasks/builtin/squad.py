"""SQuAD and what was made in its format: SQuADShifts and the answered questions of QED."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.shares import split_by_text
from softprompt.tasks.builtin.squad_format import (
    BLANK_ANSWER,
    QA_FORMAT,
    QA_METRICS,
    answers_on_hub,
    first_answers,
    read_squad,
)
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.hub import HubSource
from softprompt.tasks.rows import Row, not_empty

__all__ = ["QED_NQ", "SQUAD", "SQUADSHIFTS"]

REFERENCES = "Trained on each question's first answer, scored against all of them."


def read_splits(folder: Path, train: str, validation: str) -> dict[str, Iterator[Row]]:
    """The splits at hand of a set in two files."""
    files = files_at_hand(folder, {"train": (train,), "validation": (validation,)})
    rows = {split: not_empty(file, read_squad(file)) for split, (file, *_) in files.items()}
    return {split: first_answers(several) if split == "train" else several for split, several in rows.items()}


def read_original(folder: Path) -> dict[str, Iterator[Row]]:
    """SQuAD 1.1 as published."""
    return read_splits(folder, "train-v1.1.json", "dev-v1.1.json")


def read_qed(folder: Path) -> dict[str, Iterator[Row]]:
    """QED in SQuAD's format; questions whose answer is blank, which the conversion did not find, are always skipped."""
    splits = read_splits(folder, "squad_format_train.json", "squad_format_dev.json")
    return {
        split: (replace(row, always_skipped=row.problem == BLANK_ANSWER) for row in rows)
        for split, rows in splits.items()
    }


def read_shift(domain: str) -> Callable[[Path], dict[str, Iterator[Row]]]:
    """How one of SQuADShifts' files is read: all of it is a test set."""

    def read(folder: Path) -> dict[str, Iterator[Row]]:
        (file,) = files_at_hand(folder, {"test": (f"{domain}_v1.0.json",)})["test"]
        return {"test": not_empty(file, read_squad(file))}

    return read


def read_new_wiki_split(folder: Path) -> dict[str, Iterator[Row]]:
    """SQuADShifts' new Wikipedia articles in three, each article as a whole."""
    splits = split_by_text(
        lambda: read_shift("new_wiki")(folder)["test"], "title", {"train": 60, "validation": 20, "test": 20}
    )
    return {**splits, "train": first_answers(splits["train"])}


def define_shift(name: str, domain: str, texts: str) -> TaskDefinition:
    """One of the test sets of SQuADShifts."""
    return TaskDefinition(
        name=f"squadshifts_{name}",
        summary=f"Questions on {texts}, answered in a passage's words: a test set for readers trained on Wikipedia.",
        format=QA_FORMAT,
        metrics=QA_METRICS,
        splits=("test",),
        read=read_shift(domain),
        source=SHIFTS_SOURCE,
        licence=SHIFTS_LICENCE,
        citation=SHIFTS_CITATION,
        layout=f"{domain}_v1.0.json.",
    )


SHIFTS_SOURCE = "https://modestyachts.github.io/squadshifts-website"
SHIFTS_LICENCE = "CC BY 4.0 as commonly stated; the published files come without a licence text"
SHIFTS_CITATION = "Miller et al. 2020, The Effect of Natural Distribution Shift on Question Answering Models, ICML"

SQUAD = TaskDefinition(
    name="squad",
    summary=f"SQuAD 1.1: questions on Wikipedia's paragraphs, answered in their words. {REFERENCES}",
    format=QA_FORMAT,
    metrics=QA_METRICS,
    splits=("train", "validation"),
    read=read_original,
    source="https://rajpurkar.github.io/SQuAD-explorer, version 1.1",
    licence="CC BY-SA 4.0",
    citation="Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text, EMNLP",
    hub=HubSource(path="rajpurkar/squad", splits={"train": "train", "validation": "validation"}, adapt=answers_on_hub),
    layout="train-v1.1.json and dev-v1.1.json, or one of them.",
)

QED_NQ = TaskDefinition(
    name="qed_nq",
    summary=(
        "Searched questions with a short answer in one paragraph of Wikipedia: those of Natural Questions that QED "
        "explains, brought into SQuAD's format. Text is tokenised. Questions with a blank answer are skipped."
    ),
    format=QA_FORMAT,
    metrics=QA_METRICS,
    splits=("train", "validation"),
    read=read_qed,
    source="https://github.com/google-research-datasets/QED, converted: each question with the span of its answer",
    licence="CC BY-SA 3.0",
    citation=(
        "Lamm et al. 2021, QED: A Framework and Dataset for Explanations in Question Answering, TACL; Kwiatkowski et "
        "al. 2019, Natural Questions, TACL"
    ),
    layout="squad_format_train.json and squad_format_dev.json, in SQuAD's format, or one of them.",
)

SQUADSHIFTS = (
    define_shift("amazon", "amazon_reviews", "reviews of products"),
    define_shift("new_wiki", "new_wiki", "other articles of Wikipedia, asked as SQuAD's were"),
    define_shift("nyt", "nyt", "articles of the New York Times"),
    define_shift("reddit", "reddit", "posts of Reddit"),
    TaskDefinition(
        name="squadshifts_new_wiki_split",
        summary=(
            "SQuADShifts' new Wikipedia articles, to train on where SQuAD is not at hand: 60, 20 and 20 % of the "
            f"articles, drawn by title by softprompt. {REFERENCES}"
        ),
        format=QA_FORMAT,
        metrics=QA_METRICS,
        splits=("train", "validation", "test"),
        read=read_new_wiki_split,
        source=SHIFTS_SOURCE,
        licence=SHIFTS_LICENCE,
        citation=SHIFTS_CITATION,
        layout="new_wiki_v1.0.json.",
    ),
)
