"""Rows cut into batches where it costs least, padding and the start of each batch together."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Width", "divide"]

Width = tuple[int, int]
"""Columns that a row takes up in the model's input, and in the target where a decoder of its own reads it."""


def divide(widths: Sequence[Width], *, tokens: int, cost: int, rows: int | None = None) -> list[int]:
    """Cut a list of rows where it costs least.

    Args:
        widths: Of the rows, in order; like ones side by side waste least.
        tokens: Most tokens of a batch, padding included. A single row may be larger.
        cost: What a batch costs beside its tokens, in tokens.
        rows: Most rows of a batch; None does not bound them.

    Returns:
        How many rows each batch has, in order.
    """
    least = [0]  # of the first rows, by their number
    begins = [0]  # where the last batch of that division begins
    for end in range(1, len(widths) + 1):
        best, begin = None, end - 1
        first, second = 0, 0
        for start in range(end - 1, -1 if rows is None else max(-1, end - rows - 1), -1):
            first, second = max(first, widths[start][0]), max(second, widths[start][1])
            size = (end - start) * (first + second)
            if size > tokens and start < end - 1:
                break
            if best is None or least[start] + size < best:
                best, begin = least[start] + size, start
        assert best is not None
        least.append(best + cost)
        begins.append(begin)
    sizes: list[int] = []
    end = len(widths)
    while end:
        sizes.append(end - begins[end])
        end = begins[end]
    return sizes[::-1]
