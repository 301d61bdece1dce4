"""Candidates ranked by an engine that tells the log-probabilities of next tokens alone.

vLLM scores no tokens of an input that is given as embeddings. So each beginning that candidates share is an input of
its own, behind which those tokens are asked for that go on from it: as many inputs as the candidates' tree has knots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Beginnings", "beginnings", "summed"]

_MOST_TOKENS = 128
"""Log-probabilities that vLLM tells of one place."""

Known = Mapping[tuple[tuple[int, ...], int], float]
"""Log-probabilities, in nats, of a token behind a beginning."""


@final
@dataclass(frozen=True)
class Beginnings:
    """What is asked at once.

    Attributes:
        ids: Of each input, the token ids behind what is asked.
        tokens: Whose log-probabilities are asked for, of each.
    """

    ids: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]


def beginnings(targets: Sequence[Sequence[int]]) -> list[Beginnings]:
    """Everything that has to be asked to score candidates, in few requests.

    Args:
        targets: Token ids of each candidate.
    """
    following: dict[tuple[int, ...], dict[int, None]] = {}
    for target in targets:
        for place, token in enumerate(target):
            following.setdefault(tuple(target[:place]), {})[token] = None
    asked: list[tuple[list[tuple[int, ...]], dict[int, None]]] = []
    for begun, nexts in following.items():
        tokens = list(nexts)
        for start in range(0, len(tokens), _MOST_TOKENS):
            some = dict.fromkeys(tokens[start : start + _MOST_TOKENS])
            if asked and len(asked[-1][1] | some) <= _MOST_TOKENS and begun not in asked[-1][0]:
                asked[-1][0].append(begun)
                asked[-1][1].update(some)
            else:
                asked.append(([begun], some))
    return [Beginnings(tuple(ids), tuple(tokens)) for ids, tokens in asked]


def summed(targets: Sequence[Sequence[int]], known: Known) -> Float[Tensor, "members candidates"]:
    """Log-probabilities of candidates, in nats, as one prompt's: the sums over their tokens."""
    sums = [sum(known[tuple(target[:place]), token] for place, token in enumerate(target)) for target in targets]
    return torch.tensor([sums], dtype=torch.double)
