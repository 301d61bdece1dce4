"""BoolQ: a passage and a yes/no question in, True or False out."""

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
from softprompt.tasks.hub import label_values

__all__ = ["BOOLQ"]

BOOLQ = TaskDefinition(
    name="boolq",
    summary="BoolQ (SuperGLUE): a passage of Wikipedia and a yes/no question that people asked a search engine.",
    format=TextFormat(
        input="passage: {passage} question: {question}",
        target="{label}",
        label_words={"false": "False", "true": "True"},
    ),
    metrics=("accuracy",),
    splits=SPLITS,
    read=partial(read_superglue, name="BoolQ"),
    source=SOURCE,
    licence="CC BY-SA 3.0",
    citation=(
        "Clark et al. 2019, BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions, NAACL; " + SUPERGLUE
    ),
    hub=superglue_hub("boolq", label_values(False, True)),
    layout=superglue_layout("BoolQ"),
)
