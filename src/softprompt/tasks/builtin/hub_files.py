"""Data sets of the hub as files: their columns, in JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.rows import Row, not_empty, read_rows

__all__ = ["HUB_FILES", "read_hub_files"]

HUB_FILES = (
    "train.jsonl, validation.jsonl and test.jsonl (also with .gz), or Parquet files as the hub has them, such as "
    "train-00000-of-00003.parquet; those splits that are at hand"
)
"""What a layout says of them."""


def read_hub_files(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits at hand, with the columns as they are."""
    endings = (".jsonl", ".jsonl.gz", ".parquet", "-*.parquet")
    wanted = {split: [split + ending for ending in endings] for split in ("train", "validation", "test")}
    return {
        split: not_empty(files[0], chain.from_iterable(map(read_rows, files)))
        for split, files in files_at_hand(folder, wanted).items()
    }
