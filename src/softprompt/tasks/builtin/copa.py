"""COPA: a premise and two choices in, the likelier cause or effect out."""

from __future__ import annotations

from functools import partial

from softprompt.tasks.builtin.superglue import (
    SOURCE,
    SPLITS,
    SUPERGLUE,
    read_superglue,
    superglue_hub,
    superglue_layout,
)
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat

__all__ = ["COPA"]

COPA = TaskDefinition(
    name="copa",
    summary="COPA (SuperGLUE): a premise and two choices; which one is its likelier cause or effect?",
    format=TextFormat(
        input="choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}",
        target="{label}",
        label_words={"0": "choice1", "1": "choice2"},
    ),
    metrics=("accuracy",),
    splits=SPLITS,
    read=partial(read_superglue, name="COPA"),
    source=SOURCE,
    licence="BSD 2-Clause",
    citation=(
        "Roemmele, Bejan and Gordon 2011, Choice of Plausible Alternatives: An Evaluation of Commonsense Causal "
        "Reasoning, AAAI Spring Symposium; " + SUPERGLUE
    ),
    hub=superglue_hub("copa"),
    layout=superglue_layout("COPA"),
)
