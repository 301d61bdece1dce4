"""CommitmentBank: a premise and a hypothesis in, whether the first entails the second out."""

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

__all__ = ["CB"]

CLASSES = ("entailment", "contradiction", "neutral")

CB = TaskDefinition(
    name="cb",
    summary=(
        "CommitmentBank (SuperGLUE): a short text and a clause that is embedded in it; does its author hold the clause "
        "to be true?"
    ),
    format=TextFormat(
        input="hypothesis: {hypothesis} premise: {premise}",
        target="{label}",
        label_words={name: name for name in CLASSES},
    ),
    metrics=("accuracy+macro_f1", "accuracy", "macro_f1"),
    splits=SPLITS,
    read=partial(read_superglue, name="CB"),
    source=SOURCE,
    licence="research use",
    citation=(
        "de Marneffe, Simons and Tonhauser 2019, The CommitmentBank: Investigating Projection in Naturally Occurring "
        "Discourse, Sinn und Bedeutung; " + SUPERGLUE
    ),
    hub=superglue_hub("cb", label_values(*CLASSES)),
    layout=superglue_layout("CB"),
)
