"""TREC's questions by what they ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.shares import split_by_text
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.hub import HubSource
from softprompt.tasks.reshaping import member, reshape
from softprompt.tasks.rows import Row, not_empty, numbered_lines

__all__ = ["TREC", "read_questions", "read_trec"]

FILES = {"train": ["train_5500.label", "train.txt"], "test": ["TREC_10.label", "test.txt"]}
COARSE = ("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM")
HELD_OUT = {"train": 90, "validation": 10}
LINE = re.compile(r"([A-Z]+):(\w+)\s+(\S.*)")


def read_trec(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits at hand; a tenth of the training file validates."""
    files = {split: paths[0] for split, paths in files_at_hand(folder, FILES).items()}
    splits: dict[str, Iterator[Row]] = {}
    if "train" in files:
        splits = split_by_text(lambda: not_empty(files["train"], read_questions(files["train"])), "question", HELD_OUT)
    others = {split: file for split, file in files.items() if split not in splits}
    return splits | {split: not_empty(file, read_questions(file)) for split, file in others.items()}


def read_questions(path: Path) -> Iterator[Row]:
    """The questions of a file in Latin-1, each with its coarse and fine class.

    Raises:
        DataError: If the file cannot be read.
    """
    for number, line in numbered_lines(path):
        text = line.decode("latin-1").strip()
        parts = LINE.fullmatch(text)
        if parts:
            yield Row(f"{path}:{number}", {"coarse": parts[1], "fine": parts[2], "question": parts[3]})
        elif text:
            yield Row(
                f"{path}:{number}", {}, f"holds {text!r:.60}; expected a class and a question, as in NUM:dist How"
            )


def from_hub(split: str, rows: Iterable[Row]) -> Iterable[Row]:
    """The rows of the hub, where classes are numbers; its training split is divided as the file is.

    In one training question the hub has a space for a byte that is no letter.
    """

    def named(columns: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        number = member(columns, "coarse_label", int)
        coarse = COARSE[number] if 0 <= number < len(COARSE) else number
        yield {**columns, "coarse": coarse, "question": member(columns, "text", str)}

    shaped = reshape(rows, named)
    return split_by_text(lambda: shaped, "question", HELD_OUT)[split] if split in HELD_OUT else shaped


TREC = TaskDefinition(
    name="trec",
    summary=(
        "Questions by what they ask for, in six coarse classes; the fine one is kept in the column `fine`. A tenth of "
        "the training rows, drawn by their text, is held out by softprompt to validate on."
    ),
    format=TextFormat(
        input="question: {question}",
        target="{coarse}",
        label_words={
            "ABBR": "abbreviation",
            "DESC": "description",
            "ENTY": "entity",
            "HUM": "human",
            "LOC": "location",
            "NUM": "number",
        },
    ),
    metrics=("accuracy", "macro_f1"),
    splits=("train", "validation", "test"),
    read=read_trec,
    source="https://cogcomp.seas.upenn.edu/Data/QA/QC; also in nltk_data (qc)",
    licence="none stated by the authors",
    citation="Li and Roth 2002, Learning Question Classifiers, COLING",
    hub=HubSource(
        path="CogComp/trec",
        splits={"train": "train", "validation": "train", "test": "test"},
        revision="refs/convert/parquet",  # the newest is a script, which `datasets` runs no more
        adapt=from_hub,
    ),
    layout=(
        "train_5500.label or train.txt and, if at hand, TREC_10.label or test.txt; each line a coarse class, a colon, "
        "a fine class, a space and the question."
    ),
)
