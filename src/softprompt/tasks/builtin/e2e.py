"""E2E: a restaurant's meaning representation in, a description out; a bundled sample, and all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from softprompt.errors import DataError
from softprompt.tasks.builtin.bundled import DATA, read_bundled
from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.references import group_references
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import Row, not_empty, read_rows

__all__ = ["E2E", "E2E_SAMPLE", "as_pairs", "linearise", "read_e2e", "read_sample"]

SLOT = re.compile(r"(?! )([^\[\],]++)(?<! )\[([^\[\]]*+)\](?:, |$)")
SLOT_NAMES = {"eatType": "Type", "priceRange": "price", "familyFriendly": "family friendly"}
FILES = {
    "train": ["trainset.csv", "trainset_reconstructed.csv"],
    "validation": ["devset.csv"],
    "test": ["testset_w_refs.csv"],
}


def linearise(meaning: str) -> str:
    """A meaning representation as prefix-tuning writes it.

    `name[Aromi], eatType[pub]` becomes `name : Aromi | Type : pub`.

    Raises:
        DataError: If it is no list of `slot[value]`.

    References:
        Li and Liang 2021, §5.1 and the E2E files of their repository.
    """
    slots: list[str] = []
    text, place = meaning.strip(), 0
    while not slots or place < len(text):
        found = SLOT.match(text, place)
        if found is None:
            raise DataError(
                f"column 'mr' holds {meaning!r:.60}; expected slots and values, as in name[Aromi], area[riverside]"
            )
        slots.append(f"{SLOT_NAMES.get(found[1], found[1])} : {found[2]}")
        place = found.end()
    return " | ".join(slots)


def with_table(rows: Iterable[Row]) -> Iterator[Row]:
    """Add the linearised meaning representation as the column `table`."""
    for row in rows:
        try:
            yield row if row.problem else replace(row, columns={**row.columns, "table": linearise(row.columns["mr"])})
        except DataError as problem:
            yield replace(row, problem=str(problem))


def as_pairs(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of the original files, with the reference in a list; without a column, or with a blank one, they are bad."""
    for row in rows:
        blank = [name for name in ("mr", "ref") if not row.columns.get(name, "").strip()]
        if row.problem or blank:
            yield replace(row, problem=row.problem or f"column {blank[0]!r} is missing or empty; expected mr and ref")
        else:
            yield replace(row, columns={"mr": row.columns["mr"], "references": [row.columns["ref"]]})


def read_e2e(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits at hand: a row per reference to train on, one per meaning representation elsewhere."""
    pairs = {
        split: as_pairs(not_empty(file, read_rows(file))) for split, (file, *_) in files_at_hand(folder, FILES).items()
    }
    return {
        split: with_table(rows if split == "train" else group_references(rows, by="mr"))
        for split, rows in pairs.items()
    }


def read_sample(folder: Path) -> dict[str, Iterator[Row]]:
    """The bundled rows, which are grouped already."""
    return {split: with_table(rows) for split, rows in read_bundled(folder).items()}


FORMAT = TextFormat(input="{table}", target="{references}")
METRICS = ("bleu", "chrf", "rougeL")
SPLITS = ("train", "validation", "test")
SOURCE = "https://github.com/tuetschek/e2e-dataset"
LICENCE = "CC BY-SA 4.0"
CITATION = "Novikova, Dušek and Rieser 2017, The E2E Dataset: New Challenges For End-to-End Generation, SIGDIAL"

E2E_SAMPLE = TaskDefinition(
    name="e2e_sample",
    summary=(
        "A sample of E2E: restaurants as slots and values in, a description out. Train is drawn from the training set, "
        "a row per reference; validation and test are two halves of the development set, a row per meaning "
        "representation with all of its references. Scores are not those of the official test set."
    ),
    format=FORMAT,
    metrics=METRICS,
    splits=SPLITS,
    read=read_sample,
    source=f"{SOURCE}; training references detokenised by rule from https://github.com/harvardnlp/neural-template-gen",
    licence=LICENCE,
    citation=CITATION,
    folder=DATA / "e2e_sample",
)

E2E = TaskDefinition(
    name="e2e",
    summary=(
        "E2E NLG challenge: restaurants as slots and values in, a description out. A row per reference to train on; "
        "validation and test have a row per meaning representation with all of its references."
    ),
    format=FORMAT,
    metrics=METRICS,
    splits=SPLITS,
    read=read_e2e,
    source=SOURCE,
    licence=LICENCE,
    citation=CITATION,
    layout=(
        f"{' or '.join(FILES['train'])}, devset.csv and testset_w_refs.csv, with the columns mr and ref; those of them "
        "that are at hand."
    ),
)
