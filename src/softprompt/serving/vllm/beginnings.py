"""Candidates ranked by an engine that tells the log-probabilities of next tokens alone.

vLLM scores no tokens of an input that is given as embeddings. So each beginning that candidates share is an input of
its own, behind which those tokens are asked for that go on from it: as many inputs as the candidates' tree has knots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Beginnings", "Known", "beginnings", "summed", "tokens_sent"]

_MOST_TOLD = 128
"""Log-probabilities that vLLM tells of one place."""
_MOST_SENT = 8192
"""Tokens of the inputs of one request, unless a single one has more."""

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


def tokens_sent(targets: Sequence[Sequence[int]], before: int) -> int:
    """Tokens of all inputs that are sent to score candidates, counted before any is made.

    Args:
        targets: Token ids of each candidate.
        before: Tokens in front of each beginning.
    """
    knots: dict[tuple[int, int], int] = {}
    following: dict[tuple[int, int], set[int]] = {}  # by knot and its depth
    for target in targets:
        knot = 0
        for place, token in enumerate(target):
            following.setdefault((knot, place), set()).add(token)
            knot = knots.setdefault((knot, token), len(knots) + 1)
    return sum(math.ceil(len(nexts) / _MOST_TOLD) * (before + place) for (_, place), nexts in following.items())


def beginnings(targets: Sequence[Sequence[int]], before: int) -> list[Beginnings]:
    """Everything that has to be asked to score candidates, in few requests.

    Args:
        targets: Token ids of each candidate.
        before: Tokens in front of each beginning, which count where a request would become too large.
    """
    following: dict[tuple[int, ...], dict[int, None]] = {}
    for target in targets:
        for place, token in enumerate(target):
            following.setdefault(tuple(target[:place]), {})[token] = None
    asked: list[tuple[list[tuple[int, ...]], dict[int, None]]] = []
    sent = 0
    for begun, nexts in following.items():
        tokens, size = list(nexts), before + len(begun)
        for start in range(0, len(tokens), _MOST_TOLD):
            some = dict.fromkeys(tokens[start : start + _MOST_TOLD])
            fits = asked and len(asked[-1][1] | some) <= _MOST_TOLD and begun not in asked[-1][0]
            if fits and sent + size <= _MOST_SENT:
                asked[-1][0].append(begun)
                asked[-1][1].update(some)
                sent += size
            else:
                asked.append(([begun], some))
                sent = size
    return [Beginnings(tuple(ids), tuple(tokens)) for ids, tokens in asked]


def summed(targets: Sequence[Sequence[int]], known: Known) -> Float[Tensor, "members candidates"]:
    """Log-probabilities of candidates, in nats, as one prompt's: the sums over their tokens."""
    sums = [sum(known[tuple(target[:place]), token] for place, token in enumerate(target)) for target in targets]
    return torch.tensor([sums], dtype=torch.double)
