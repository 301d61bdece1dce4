"""The rows of one step, shared out over processes: each has its own, and all of them together have every row once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from softprompt.conditioning import Prompted
from softprompt.training.passes import NamedRow, cut_passes, widths

__all__ = ["alike_passes", "share_rows"]


def share_rows(model: Prompted, rows: Sequence[NamedRow], count: int) -> list[list[NamedRow]]:
    """Share out rows, like ones together and about as many tokens to each process.

    Args:
        model: The backbone with every run's prompt.
        rows: All rows of the step.
        count: How many processes there are.

    Returns:
        The rows of each process: one at least, if there are so many.
    """
    wide = sorted(zip(rows, widths(model, rows), strict=True), key=lambda pair: (pair[0][1].ranking, sum(pair[1])))
    reached = list(accumulate((sum(width) for _, width in wide), initial=0))  # tokens before each row
    ends = [0]
    for process in range(1, count):
        fair = min(range(len(reached)), key=lambda row: abs(reached[row] * count - reached[-1] * process))
        ends.append(min(max(fair, ends[-1] + 1), max(len(wide) - (count - process), process), len(wide)))
    return [[named for named, _ in wide[start:end]] for start, end in pairwise([*ends, len(wide)])]


def alike_passes(
    model: Prompted, rows: Sequence[NamedRow], pass_tokens: int, *, count: int, index: int
) -> list[list[NamedRow]]:
    """The passes of one process where weights are gathered from all: each process takes the same in the same order.

    The rows of a pass reach the same layers in the same way, so that processes ask each other for the same weights,
    forward and backward. One that has fewer passes of a kind than another computes a row that counts for nothing.

    Args:
        model: The backbone with every run's prompt.
        rows: All rows of the step.
        pass_tokens: Most tokens of a pass.
        count: How many processes there are.
        index: Which of them this is.
    """
    kinds = {name: _kind(model, name) for name in dict.fromkeys(row.prompt for _, row in rows)}
    order = sorted({(row.ranking, kinds[row.prompt]) for _, row in rows})
    passes: list[list[NamedRow]] = []
    for kind in order:
        alike = [named for named in rows if (named[1].ranking, kinds[named[1].prompt]) == kind]
        cut = [cut_passes(model, share, pass_tokens) for share in share_rows(model, alike, count)]
        most = max(map(len, cut))
        shortest = min((row for _, row in alike), key=lambda row: row.tokens)
        passes += cut[index]
        for _ in range(most - len(cut[index])):
            passes.append([(None, shortest)])
    return passes


def _kind(model: Prompted, name: str | None) -> str:
    """How rows with a prompt go through the backbone, and which layers they bring gradients to."""
    if name is None:
        return ""
    prompt = model.prompts[name]
    return f"{model.pass_of(name)} {sorted(prompt().keys_values)} {prompt.layers}"
