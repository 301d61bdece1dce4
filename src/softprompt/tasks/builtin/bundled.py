"""Where the bundled data lie, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from softprompt.tasks.rows import Row, read_rows

__all__ = ["DATA", "read_bundled"]

DATA = Path(__file__).parents[1] / "data"
"""One folder per task, with `SPLIT.jsonl.gz`; ATTRIBUTION.md names authors, licences and changes."""


def read_bundled(folder: Path) -> dict[str, Iterator[Row]]:
    """The rows of a bundled folder by split."""
    return {split: read_rows(folder / f"{split}.jsonl.gz") for split in ("train", "validation", "test")}
