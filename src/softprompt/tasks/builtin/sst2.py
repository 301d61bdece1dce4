"""SST-2: movie-review sentences and phrases, positive or negative; from the user's copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.glue import glue_hub
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import Row, first_line, not_empty, read_delimited

__all__ = ["SST2", "read_sst2"]

COLUMNS = ("sentence", "label")
UNLABELLED = b"index\tsentence"


def read_sst2(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits at hand of GLUE's files (which name their columns) or of the sentence-level ones (which do not).

    A test file without labels is passed over.
    """
    labelled = ["test.tsv"] if first_line(folder / "test.tsv") != UNLABELLED else []
    files = files_at_hand(folder, {"train": ["train.tsv"], "validation": ["dev.tsv"], "test": labelled})
    return {split: not_empty(file, read_sentences(file)) for split, (file, *_) in files.items()}


def read_sentences(path: Path) -> Iterator[Row]:
    """The rows of a file, whose first line names the columns if one of them is called as it should be."""
    named = any(name.encode() in first_line(path).split(b"\t") for name in COLUMNS)
    return read_delimited(path, delimiter="\t", quoted=False, header=None if named else COLUMNS)


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
    layout=(
        "train.tsv, dev.tsv and, if it has labels, test.tsv, or those of them that are at hand; each line a sentence, "
        "a tab and 0 or 1."
    ),
)
