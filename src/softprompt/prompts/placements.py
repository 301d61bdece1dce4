"""Where the rows of a prompt go in an input: plain functions of lengths.

A placement takes the number of the input's tokens, `[batch]`, and the token indices of its marks, `[batch, marks]` (-1
where a row has fewer). It returns before which token each part of the prompt goes, `[batch, parts]`, from 0 (in front)
to the length (behind). `template` divides a prompt as its template says; the others have one part.
Third parties add theirs through the entry-point group `softprompt.placements`, or with `register`.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Int
from torch import Tensor

from softprompt.registry import Registry

__all__ = ["PLACEMENTS", "Placement", "append", "find", "middle", "names", "prepend", "register", "template"]

Placement = Callable[[Tensor, Tensor], Tensor]


def prepend(lengths: Int[Tensor, " batch"], marks: Int[Tensor, "batch marks"]) -> Int[Tensor, "batch 1"]:
    """[P; x; y]: in front of the input (Lester et al. 2021, §2)."""
    del marks
    return lengths[:, None] * 0


def middle(lengths: Int[Tensor, " batch"], marks: Int[Tensor, "batch marks"]) -> Int[Tensor, "batch 1"]:
    """[x1; P; x2; y]: at the template's mark, or half-way through the input."""
    half = lengths[:, None] // 2
    return half.where(marks[:, :1] < 0, marks[:, :1]) if marks.shape[1] else half


def append(lengths: Int[Tensor, " batch"], marks: Int[Tensor, "batch marks"]) -> Int[Tensor, "batch 1"]:
    """[x; P; y]: behind the input; between input and target in a decoder-only model (Li & Liang 2021, §7.3)."""
    del marks
    return lengths[:, None]


def template(lengths: Int[Tensor, " batch"], marks: Int[Tensor, "batch marks"]) -> Int[Tensor, "batch marks"]:
    """[P1; x1; P2; x2; …]: each part at its mark, a `{soft:N}` of the template (Liu et al. 2021, §2.2)."""
    del lengths
    return marks


PLACEMENTS: Registry[Placement] = Registry(
    "placement",
    "softprompt.placements",
    {"append": append, "middle": middle, "prepend": prepend, "template": template},
)


def register(name: str, placement: Placement) -> None:
    """Add a placement under a name.

    Raises:
        ConfigError: If the name already stands for another placement.
    """
    PLACEMENTS.add(name, placement)


def names() -> tuple[str, ...]:
    """All known placements, sorted."""
    return PLACEMENTS.names()


def find(name: str) -> Placement:
    """A placement by name: built in, registered, or another package's.

    Raises:
        ConfigError: If there is none, or it does not load.
    """
    return PLACEMENTS.get(name)
