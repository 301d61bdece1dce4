"""QQP: two questions in, whether they ask the same out."""

from __future__ import annotations

from functools import partial

from softprompt.tasks.builtin.glue import GLUE, SOURCE, glue_hub, read_glue
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat

__all__ = ["QQP"]

QQP = TaskDefinition(
    name="qqp",
    summary="Quora Question Pairs (GLUE): two questions of the site; do they ask the same?",
    format=TextFormat(
        input="question1: {question1} question2: {question2}",
        target="{label}",
        label_words={"0": "not_duplicate", "1": "duplicate"},
    ),
    metrics=("accuracy+binary_f1", "accuracy", "binary_f1"),
    splits=("train", "validation"),
    read=partial(read_glue, name="QQP", label="is_duplicate", columns={"is_duplicate": "label"}),
    source=f"{SOURCE}; https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
    licence="Quora's terms of service, not for commercial use",
    citation=f"Iyer, Dandekar and Csernai 2017, First Quora Dataset Release: Question Pairs; {GLUE}",
    hub=glue_hub("qqp", "train", "validation"),
    layout=(
        "GLUE's train.tsv and dev.tsv (columns question1, question2, is_duplicate) and, if it has labels, test.tsv; "
        "those of them that are at hand; also in a folder QQP. A few lines of the published files are torn: leave them "
        "out with on_bad_row='skip'."
    ),
)
