"""The results table: one JSON line per run, only ever appended to, and on disk before the next run counts.

`pandas.read_json(path, lines=True)` reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from softprompt.errors import DataError

__all__ = ["ResultsTable"]

Row = Mapping[str, Any]


@final
class ResultsTable:
    """Rows by key, in the order in which they came.

    Args:
        path: The file; it is made with the first row. A last line that a kill cut short is taken off.

    Raises:
        DataError: If a line that is not the last is no row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: dict[str, Row] = {}
        if self.path.is_file():
            self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole, _, torn = content.rpartition(b"\n")
        if torn:
            with open(self.path, "r+b") as file:
                file.truncate(len(whole) + 1 if whole else 0)
        for number, line in enumerate(whole.splitlines() if whole else (), 1):
            try:
                row = json.loads(line)
                self._rows[row["key"]] = row
            except (ValueError, KeyError, TypeError):
                raise DataError(f"{self.path}, line {number}: no row of results; mend or remove the line.") from None

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: Row) -> None:
        """Add a row for good.

        Args:
            row: Finite plain values, `key` among them.

        Raises:
            DataError: If there is a row of that key.
        """
        if row["key"] in self._rows:
            raise DataError(f"{self.path} has a row {row['key']} already; a run is never recorded twice.")
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[row["key"]] = row
