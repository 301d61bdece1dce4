"""Inputs with several references: together where they are scored, one by one where they are trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from softprompt.tasks.rows import Row

__all__ = ["group_references", "one_row_each"]


def group_references(rows: Iterable[Row], *, by: str, column: str = "references") -> Iterator[Row]:
    """One row per input, with all of its references and else as its first; bad rows as they are, before the others.

    Args:
        rows: Rows with a list of references each.
        by: The column of the input.
        column: The column of the list.
    """
    groups: dict[str, Row] = {}
    for row in rows:
        if row.problem:
            yield row
            continue
        first = groups.setdefault(row.columns[by], row)
        if first is not row:
            together = [*first.columns[column], *row.columns[column]]
            groups[row.columns[by]] = replace(first, columns={**first.columns, column: together})
    yield from groups.values()


def one_row_each(rows: Iterable[Row], *, column: str = "references") -> Iterator[Row]:
    """One row per reference; rows that are bad or hold no list of references as they are."""
    for row in rows:
        references = row.columns.get(column)
        if row.problem or not isinstance(references, list) or not references:
            yield row
        else:
            for reference in references:
                yield replace(row, columns={**row.columns, column: [reference]})
