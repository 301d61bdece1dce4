"""DART: facts from tables and other sets in, a sentence that says them out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.errors import DataError
from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.references import group_references, one_row_each
from softprompt.tasks.builtin.triples import TABLE_FORMAT, TABLE_METRICS, read_benchmark, triples_row
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.documents import read_json
from softprompt.tasks.rows import Row, not_empty

__all__ = ["DART", "read_dart"]

PARTS = {"train": "train", "validation": "dev", "test": "test"}


def read_dart(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits at hand: a row per text to train on, one per set of triples elsewhere."""
    wanted = {
        split: [f"{part}dart-v1.1.1-full-{name}.{form}" for form in ("json", "xml") for part in ("", "v1.1.1/")]
        for split, name in PARTS.items()
    }
    splits = {}
    for split, (file, *_) in files_at_hand(folder, wanted).items():
        rows = read_benchmark(file, lower=True) if file.suffix == ".xml" else not_empty(file, read_entries(file))
        splits[split] = one_row_each(rows) if split == "train" else group_references(rows, by="table")
    return splits


def read_entries(path: Path) -> Iterator[Row]:
    """The entries of a JSON file; a row's place is its index.

    Raises:
        DataError: If the file cannot be read, or is no list.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DataError(f"{path} holds a JSON {type(entries).__name__}; expected DART's list of entries.")
    for index, entry in enumerate(entries):
        source = f"{path}:[{index}]"
        triples, texts = _listed(entry, "tripleset"), _listed(entry, "annotations")
        if triples is None or texts is None:
            yield Row(source, {}, "is no entry of DART; expected the lists tripleset and annotations")
        else:
            references = [text.get("text", "") if isinstance(text, dict) else "" for text in texts]
            yield triples_row(source, triples, references, lower=True)


def _listed(entry: Any, key: str) -> list[Any] | None:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, list) else None


DART = TaskDefinition(
    name="dart",
    summary=(
        "DART 1.1.1: facts as triples in, a sentence that says them out. They come from tables of Wikipedia and from "
        "WebNLG and E2E. A row per sentence to train on; elsewhere one per set of facts with all of its sentences."
    ),
    format=TABLE_FORMAT,
    metrics=TABLE_METRICS,
    splits=tuple(PARTS),
    read=read_dart,
    source="https://github.com/Yale-LILY/dart (data/v1.1.1)",
    licence="MIT; parts come from WebNLG (CC BY-NC-SA 4.0), E2E (CC BY-SA 4.0) and tables of Wikipedia (CC BY-SA)",
    citation="Nan et al. 2021, DART: Open-Domain Structured Data Record to Text Generation, NAACL",
    layout="dart-v1.1.1-full-train, -dev and -test, each .json or .xml; those of them that are at hand.",
)
