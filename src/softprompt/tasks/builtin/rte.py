"""RTE: a premise and a hypothesis in, whether the first entails the second out; from GLUE's or SuperGLUE's files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from softprompt.tasks.builtin.glue import GLUE, read_glue
from softprompt.tasks.builtin.superglue import (
    SOURCE,
    SPLITS,
    SUPERGLUE,
    benchmark_folder,
    read_superglue,
    superglue_hub,
    superglue_layout,
)
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.hub import label_values
from softprompt.tasks.rows import Row

__all__ = ["RTE"]

CLASSES = ("entailment", "not_entailment")
GLUE_COLUMNS = {"sentence1": "premise", "sentence2": "hypothesis"}


def read_rte(folder: Path) -> dict[str, Iterable[Row]]:
    """The rows of GLUE's tables if they are there, else of SuperGLUE's JSON lines: the same pairs."""
    home = benchmark_folder(folder, "RTE")
    if (home / "train.tsv").is_file() or (home / "dev.tsv").is_file():
        return {**read_glue(folder, name="RTE", label="label", columns=GLUE_COLUMNS)}
    return read_superglue(folder, name="RTE")


RTE = TaskDefinition(
    name="rte",
    summary=(
        "Recognizing Textual Entailment (GLUE and SuperGLUE): a text of the news or Wikipedia and a sentence; does the "
        "sentence follow from the text?"
    ),
    format=TextFormat(
        input="hypothesis: {hypothesis} premise: {premise}",
        target="{label}",
        label_words={name: name for name in CLASSES},
    ),
    metrics=("accuracy",),
    splits=SPLITS,
    read=read_rte,
    source=SOURCE,
    licence="research use (PASCAL and TAC challenges)",
    citation=(
        "Dagan, Glickman and Magnini 2006, The PASCAL Recognising Textual Entailment Challenge, and the second, third "
        f"and fifth challenges; {GLUE}; {SUPERGLUE}"
    ),
    hub=superglue_hub("rte", label_values(*CLASSES)),
    layout=f"{superglue_layout('RTE')} Or GLUE's train.tsv and dev.tsv.",
)
