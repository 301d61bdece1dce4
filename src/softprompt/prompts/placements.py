"""Where the rows of a prompt go in an input: plain functions of lengths.

A placement takes the number of the input's tokens and the token index of its mark (-1 if the template has
none), each `[batch]`, and returns before which token the prompt goes, from 0 (in front) to the length (behind).
Third parties add theirs through the entry-point group `softprompt.placements`, or with `register`.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Int
from torch import Tensor

from softprompt.registry import Registry

__all__ = ["PLACEMENTS", "Placement", "append", "find", "middle", "names", "prepend", "register"]

Placement = Callable[[Tensor, Tensor], Tensor]


def prepend(lengths: Int[Tensor, " batch"], marks: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """[P; x; y]: in front of the input (Lester et al. 2021, §2)."""
    del marks
    return lengths * 0


def middle(lengths: Int[Tensor, " batch"], marks: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """[x1; P; x2; y]: at the template's mark, or half-way through the input."""
    return (lengths // 2).where(marks < 0, marks)


def append(lengths: Int[Tensor, " batch"], marks: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """[x; P; y]: behind the input; between input and target in a decoder-only model (Li & Liang 2021, §7.3)."""
    del marks
    return lengths


PLACEMENTS: Registry[Placement] = Registry(
    "placement", "softprompt.placements", {"append": append, "middle": middle, "prepend": prepend}
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
