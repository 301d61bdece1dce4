"""Splits of data that were published without."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from softprompt.tasks.rows import Row

__all__ = ["split_by_text"]


def split_by_text(
    read: Callable[[], Iterable[Row]], column: str, percent: Mapping[str, int]
) -> dict[str, Iterator[Row]]:
    """Rows in one piece as splits.

    A row's split depends on the text in one of its columns and on nothing else: equal texts are never divided, within
    a file or between two. The shares are met roughly, as chance has it. Rows without that text go to the first split.

    Args:
        read: Reads all rows; called once for each split.
        column: What decides.
        percent: Share of each split, 100 in all.
    """
    splits: dict[str, Iterator[Row]] = {}
    start = 0
    for split, share in percent.items():
        splits[split] = _between(read(), column, start, start + share)
        start += share
    return splits


def _between(rows: Iterable[Row], column: str, start: int, end: int) -> Iterator[Row]:
    for row in rows:
        text = row.columns.get(column)
        if start <= (_percentile(text) if isinstance(text, str) and not row.problem else 0) < end:
            yield row


def _percentile(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100
