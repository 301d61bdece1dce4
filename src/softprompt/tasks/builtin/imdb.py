"""Reviews of films as they were written, and rewritten by people so that the opposite is true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import Row, not_empty, read_delimited

__all__ = ["IMDB_ORIGINAL", "IMDB_REVISED"]

FILES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}


def read_part(part: str) -> Callable[[Path], dict[str, Iterator[Row]]]:
    """How the files in one folder of the repository are read: quoted, unlike other TSV."""

    def read(folder: Path) -> dict[str, Iterator[Row]]:
        files = files_at_hand(folder, {split: [f"sentiment/{part}/{file}"] for split, file in FILES.items()})
        return {
            split: not_empty(file, read_delimited(file, delimiter="\t", quoted=True))
            for split, (file, *_) in files.items()
        }

    return read


def define_part(name: str, part: str, summary: str) -> TaskDefinition:
    """The task of one of the folders."""
    return TaskDefinition(
        name=f"imdb_{name}",
        summary=summary,
        format=TextFormat(
            input="review: {Text}",
            target="{Sentiment}",
            label_words={"Negative": "negative", "Positive": "positive"},
        ),
        metrics=("accuracy", "macro_f1"),
        splits=tuple(FILES),
        read=read_part(part),
        source="https://github.com/acmi-lab/counterfactually-augmented-data",
        licence="Apache-2.0",
        citation=(
            "Kaushik, Hovy and Lipton 2020, Learning the Difference that Makes a Difference with "
            "Counterfactually-Augmented Data, ICLR"
        ),
        layout=f"{', '.join(f'sentiment/{part}/{file}' for file in FILES.values())}; those of them that are at hand.",
    )


IMDB_ORIGINAL = define_part(
    "original",
    "orig",
    "Reviews of films, positive or negative: those of IMDB that were rewritten for imdb_revised, in the same splits.",
)
IMDB_REVISED = define_part(
    "revised",
    "new",
    "The reviews of imdb_original, each with as few words changed as turn its sentiment round; in the same splits.",
)
