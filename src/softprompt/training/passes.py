"""The rows of one step, cut into passes through the backbone of which little is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from softprompt.conditioning import Prompted
from softprompt.training.data import TrainRow, Width

__all__ = ["NamedRow", "cut_passes", "divide", "widths"]

NamedRow = tuple[str, TrainRow]
"""A row with the name of its run."""

_PASS_COSTS = {"cpu": 64}
_LAUNCHED = 2048
"""What starting a pass costs, in tokens that could go through the backbone instead: an accelerator waits longer."""


def cut_passes(model: Prompted, rows: Sequence[NamedRow], pass_tokens: int) -> list[list[NamedRow]]:
    """Cut rows into passes of one kind of loss and of like widths, of at most `pass_tokens` tokens, or a single row.

    Rows that are ranked share a pass with those of as many and as long candidates, so that none needs more room in
    company than alone.
    """
    cost = _PASS_COSTS.get(model.backbone.device.type, _LAUNCHED)
    passes: list[list[NamedRow]] = []
    for ranking in sorted({row.ranking for _, row in rows}):
        alike = [named for named in rows if named[1].ranking == ranking]
        wide = sorted(zip(alike, widths(model, alike), strict=True), key=lambda pair: sum(pair[1]))
        sizes = divide([width for _, width in wide], tokens=pass_tokens, cost=cost)
        named = iter(one for one, _ in wide)
        passes += [[next(named) for _ in range(size)] for size in sizes]
    return passes


def divide(widths: Sequence[Width], *, tokens: int, cost: int) -> list[int]:
    """Cut a list of rows where it costs least, padding and the start of each pass together.

    Args:
        widths: Of the rows, in order; like ones side by side waste least.
        tokens: Most tokens of a pass, padding included. A single row may be larger.
        cost: What a pass costs beside its tokens, in tokens.

    Returns:
        How many rows each pass has, in order.
    """
    least = [0]  # of the first rows, by their number
    begins = [0]  # where the last pass of that division begins
    for end in range(1, len(widths) + 1):
        best, begin = None, end - 1
        first, second = 0, 0
        for start in range(end - 1, -1, -1):
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


@torch.no_grad()
def widths(model: Prompted, rows: Sequence[NamedRow]) -> list[Width]:
    """Columns that rows take up, the prompts included that are inserted among them.

    Where layers are recomputed, the input of a row that is ranked stands before each of its candidates.
    """
    inserted = {
        name: model.prompts[name].length if name is not None and model.pass_of(name) == "concatenation" else 0
        for name in {row.prompt for _, row in rows}
    }
    repeated = model.gradient_checkpointing
    columns = []
    for _, row in rows:
        first, second = row.width
        copies = len(row.candidates) - 1 if repeated and row.candidates else 0
        own = inserted[row.prompt]
        columns.append((first + own + copies * (len(row.input) + own), second))
    return columns
