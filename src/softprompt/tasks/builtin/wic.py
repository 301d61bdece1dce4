"""WiC: a word in two sentences in, whether it means the same in both out."""

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

__all__ = ["WIC"]

WIC = TaskDefinition(
    name="wic",
    summary="Words in Context (SuperGLUE): two sentences and a word of both; does it mean the same in them?",
    format=TextFormat(
        input="sentence1: {sentence1} sentence2: {sentence2} word: {word}",
        target="{label}",
        label_words={"false": "False", "true": "True"},
    ),
    metrics=("accuracy",),
    splits=SPLITS,
    read=partial(read_superglue, name="WiC"),
    source=SOURCE,
    licence="CC BY-NC 4.0",
    citation=(
        "Pilehvar and Camacho-Collados 2019, WiC: the Word-in-Context Dataset for Evaluating Context-Sensitive Meaning "
        "Representations, NAACL; " + SUPERGLUE
    ),
    hub=superglue_hub("wic", label_values(False, True)),
    layout=superglue_layout("WiC"),
)
