"""The rows of one step, cut into passes through the backbone of which little is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from softprompt.conditioning import Prompted
from softprompt.conditioning.splitting import start_cost
from softprompt.inference.dividing import Width, divide
from softprompt.training.data import TrainRow

__all__ = ["NamedRow", "cut_passes", "widths"]

NamedRow = tuple[str | None, TrainRow]
"""A row with the name of its run; None where it counts for nothing."""


def cut_passes(model: Prompted, rows: Sequence[NamedRow], pass_tokens: int) -> list[list[NamedRow]]:
    """Cut rows into passes of one kind of loss and of like widths, of at most `pass_tokens` tokens, or a single row.

    Rows that are ranked share a pass with those of as many and as long candidates, so that none needs more room in
    company than alone.
    """
    cost = start_cost(model.backbone.device)
    passes: list[list[NamedRow]] = []
    for ranking in sorted({row.ranking for _, row in rows}):
        alike = [named for named in rows if named[1].ranking == ranking]
        wide = sorted(zip(alike, widths(model, alike), strict=True), key=lambda pair: sum(pair[1]))
        sizes = divide([width for _, width in wide], tokens=pass_tokens, cost=cost)
        named = iter(one for one, _ in wide)
        passes += [[next(named) for _ in range(size)] for size in sizes]
    return passes


@torch.no_grad()
def widths(model: Prompted, rows: Sequence[NamedRow]) -> list[Width]:
    """Columns that rows take up, the prompts included that are inserted among them.

    Where rows are read whole, the input of one that is ranked stands before each of its candidates.
    """
    inserted = {
        name: model.prompts[name].length if name is not None and model.pass_of(name) == "concatenation" else 0
        for name in {row.prompt for _, row in rows}
    }
    repeated = model.reads_whole
    columns = []
    for _, row in rows:
        first, second = row.width
        copies = len(row.candidates) - 1 if repeated and row.candidates else 0
        own = inserted[row.prompt]
        columns.append((first + own + copies * (len(row.input) + own), second))
    return columns
