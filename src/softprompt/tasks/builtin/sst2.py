"""SST-2: movie-review sentences and phrases, positive or negative; from the user's copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from softprompt.tasks.builtin.glue import glue_hub
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import Row, first_line, read_delimited

__all__ = ["SST2", "read_sst2"]

HEADER = b"sentence\tlabel"
UNLABELLED = b"index\tsentence"


def read_sst2(folder: Path) -> dict[str, Iterator[Row]]:
    """The rows of GLUE's files (with a first line that names the columns) or of the sentence-level ones (without)."""
    files = {"train": folder / "train.tsv", "validation": folder / "dev.tsv"}
    test = folder / "test.tsv"
    if test.is_file() and first_line(test) != UNLABELLED:
        files["test"] = test
    return {
        split: read_delimited(
            file,
            delimiter="\t",
            quoted=False,
            header=None if first_line(file) == HEADER else ("sentence", "label"),
        )
        for split, file in files.items()
    }


SST2 = TaskDefinition(
    name="sst2",
    summary=(
        "Stanford Sentiment Treebank, two classes: phrases and sentences of movie reviews (GLUE's form) or sentences "
        "alone. GLUE's test set has no labels and is left out."
    ),
    format=TextFormat(input="sentence: {sentence}", target="{label}", label_words={"0": "negative", "1": "positive"}),
    metrics=("accuracy", "macro_f1"),
    splits=("train", "validation", "test"),
    read=read_sst2,
    source="https://gluebenchmark.com/tasks (SST-2) or https://github.com/clairett/pytorch-sentiment-classification",
    licence="none stated by the authors; research use",
    citation=(
        "Socher et al. 2013, Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank, EMNLP; "
        "Wang et al. 2019, GLUE, ICLR"
    ),
    hub=glue_hub("sst2", "train", "validation"),
    layout="train.tsv, dev.tsv and, if it has labels, test.tsv; each line a sentence, a tab and 0 or 1.",
)
