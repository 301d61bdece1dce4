"""Whether two libraries compute the same: otherwise their times compare nothing.

What they say of the same rows may differ by a small part of what the prompt changes at all; so a prompt that one of
them leaves out is noticed, however little it says. That is looked at in float32; shorter numbers round the effect of a
prompt that has learned nothing away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.peers import TASK, Ours, Peft
from benchmarks.rows import make_rows
from softprompt.training.data import TrainRow

__all__ = ["UnlikeError", "check_alike", "check_losses", "check_scores", "check_texts", "rows_of_one_length"]

_SHARE = 1e-3
"""Of a prompt's effect, by which two libraries may differ."""
_ROUNDED = 4 * torch.finfo(torch.float32).eps
"""Of a number, by which they may differ whatever the effect: a sum in another order rounds so."""


class UnlikeError(AssertionError):
    """Two libraries disagree on what the same prompt says of the same rows."""


def rows_of_one_length(ours: Ours) -> list[TrainRow]:
    """Some that need no padding."""
    return make_rows([(20, 2)] * 4, ours.backbone.spec, prompt=TASK)


def check_losses(ours: Ours, theirs: Peft, rows: Sequence[TrainRow], *, best: bool) -> None:
    """Refuse to go on if the losses of rows differ, each row's by itself."""
    with torch.no_grad():
        said = torch.stack([theirs.loss([row], best=best) for row in rows])
        together = theirs.loss(rows, best=best)
    mine, bare = (torch.stack([ours.loss([row]) for row in some]) for some in (rows, _bare(rows)))
    _check(ours, "losses", mine, said, bare)
    _check(ours, "loss of a batch", ours.loss(rows), together, ours.loss(_bare(rows)))


def check_scores(
    ours: Ours, theirs: Peft, rows: Sequence[TrainRow], labels: Sequence[list[int]], *, best: bool
) -> None:
    """Refuse to go on if the labels' log-probabilities differ in any row."""
    said = theirs.score(rows, labels, best=best)
    _check(ours, "scores", ours.score(rows, labels), said, ours.score(_bare(rows), labels))


def check_texts(ours: Ours, theirs: Peft, rows: Sequence[TrainRow], tokens: int) -> None:
    """Refuse to go on if the generated texts of rows of one length differ in any token.

    Raises:
        UnlikeError: If they do.
    """
    mine, other = (one.generate(rows, tokens)[:, -tokens:].tolist() for one in (ours, theirs))
    if ours.backbone.dtype == torch.float32 and mine != other:
        raise UnlikeError(f"texts: softprompt says {mine}, PEFT {other}.")


def _bare(rows: Sequence[TrainRow]) -> list[TrainRow]:
    return [replace(row, prompt=None) for row in rows]


def _check(ours: Ours, what: str, mine: Tensor, theirs: Tensor, bare: Tensor) -> None:
    if ours.backbone.dtype == torch.float32:
        check_alike(what, mine, theirs, bare)


def check_alike(what: str, ours: Tensor, theirs: Tensor, bare: Tensor) -> None:
    """Refuse to compare the times of libraries that compute different things.

    Args:
        what: What they computed.
        ours: What softprompt says.
        theirs: What PEFT says, of the same shape.
        bare: What softprompt says without the prompt.

    Raises:
        UnlikeError: If they differ by more than a small part of what the prompt changes, or what it changes is lost in
            rounding.
    """
    effect, error = (float((ours - other).abs().max()) for other in (bare, theirs))
    rounded = _ROUNDED * float(ours.abs().max())
    if not error <= max(_SHARE * effect, rounded) or effect <= 10 * rounded:
        raise UnlikeError(
            f"{what}: softprompt says {ours.tolist()}, PEFT {theirs.tolist()}; without the prompt it were"
            f" {bare.tolist()}."
        )
