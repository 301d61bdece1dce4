"""MRPC: two sentences of the news in, whether they say the same out."""

from __future__ import annotations

from functools import partial

from softprompt.tasks.builtin.glue import GLUE, SOURCE, glue_hub, read_glue
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat

__all__ = ["MRPC"]

SPLITS = ("train", "validation", "test")

MRPC = TaskDefinition(
    name="mrpc",
    summary="Microsoft Research Paraphrase Corpus (GLUE): two sentences of the news; do they say the same?",
    format=TextFormat(
        input="sentence1: {sentence1} sentence2: {sentence2}",
        target="{label}",
        label_words={"0": "not_equivalent", "1": "equivalent"},
    ),
    metrics=("accuracy+binary_f1", "accuracy", "binary_f1"),
    splits=SPLITS,
    read=partial(
        read_glue,
        name="MRPC",
        label="Quality",
        columns={"Quality": "label", "#1 String": "sentence1", "#2 String": "sentence2"},
        tests=("test.tsv", "msr_paraphrase_test.txt"),
    ),
    source=f"{SOURCE}; https://www.microsoft.com/en-us/download/details.aspx?id=52398",
    licence="Microsoft Research's own",
    citation=(f"Dolan and Brockett 2005, Automatically Constructing a Corpus of Sentential Paraphrases, IWP; {GLUE}"),
    hub=glue_hub("mrpc", *SPLITS),
    layout=(
        "GLUE's train.tsv and dev.tsv (columns Quality, #1 String, #2 String) and, if it has labels, test.tsv or "
        "msr_paraphrase_test.txt; those of them that are at hand; also in a folder MRPC."
    ),
)
