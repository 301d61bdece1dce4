"""The results table: one JSON line per run, only ever appended to, and on disk before the next run counts.

`pandas.read_json(path, lines=True)` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from softprompt.errors import DataError
from softprompt.linefile import LineFile

__all__ = ["ResultsTable"]

Row = Mapping[str, Any]


@final
class ResultsTable:
    """Rows by key, in the order in which they came.

    Args:
        path: The file; it is made with the first row. A last line that a kill cut short is none; the next row
            replaces it.

    Raises:
        DataError: If a line that is not the last is no row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = LineFile(path, "key")
        self._rows: dict[str, Row] = {}
        self._is_cut = False
        for number, row in self._file:
            if row is None:
                raise DataError(f"{self.path}, line {number}: no row of results; mend or remove the line.")
            self._rows[row["key"]] = row

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
        json.dumps(row, allow_nan=False)  # refuses what would come back as something else
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._is_cut:  # not before: who only reads may do so while another process writes
            self._file.cut()
            self._is_cut = True
        self._file.add(row)
        self._rows[row["key"]] = row
