"""The sums of NIST: n-grams that match, weighted by how much a reader learns from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from softprompt.tasks.metrics.words import mteval_words, ngrams

__all__ = ["NistSums"]

_ORDERS = 5


@final
@dataclass(frozen=True, kw_only=True)
class NistSums:
    """What NIST sums up over rows, so that drawn rows are scored without a look at their texts.

    Attributes:
        order: Of each n-gram of the references, its length less 1.
        shorter: The n-gram less its last word; -1 for single words.
        written: Row, n-gram, and how often the row's references have it, all together.
        matched: Row, n-gram, and how often the prediction and a reference have it both.
        said: N-grams in the prediction, by length.
        true: Words in all references.
        length: Mean words of a reference.
    """

    order: Int[np.ndarray, " ngrams"]
    shorter: Int[np.ndarray, " ngrams"]
    written: Int[np.ndarray, "3 entries"]
    matched: Int[np.ndarray, "3 matches"]
    said: Int[np.ndarray, "rows orders"]
    true: Int[np.ndarray, " rows"]
    length: Float[np.ndarray, " rows"]

    @classmethod
    def of(cls, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> NistSums:
        """Count once.

        Args:
            predictions: One text per row.
            references: One or more texts per row.
        """
        known: dict[tuple[str, ...], int] = {}
        written, matched, said, true = [], [], [], []
        for row, (prediction, several) in enumerate(zip(predictions, references, strict=True)):
            texts = [mteval_words(text) for text in several]
            most: Counter[tuple[str, ...]] = Counter()
            for grams in (ngrams(text, _ORDERS) for text in texts):
                written += [(row, known.setdefault(gram, len(known)), count) for gram, count in grams.items()]
                most |= grams
            words = mteval_words(prediction)
            matched += [(row, known[gram], count) for gram, count in (ngrams(words, _ORDERS) & most).items()]
            said.append([max(0, len(words) - n) for n in range(_ORDERS)])
            true.append(sum(map(len, texts)))
        return cls(
            order=np.array([len(gram) - 1 for gram in known], dtype=int),
            shorter=np.array([known.get(gram[:-1], -1) for gram in known], dtype=int),
            written=np.array(written, dtype=int).reshape(-1, 3).T,
            matched=np.array(matched, dtype=int).reshape(-1, 3).T,
            said=np.array(said),
            true=np.array(true),
            length=np.array(true) / [len(several) for several in references],
        )

    def total(self) -> float:
        """NIST of all rows."""
        return self.score(np.ones(len(self.true), dtype=int))

    def score(self, counts: Int[np.ndarray, " rows"]) -> float:
        """NIST of rows that count so often.

        Args:
            counts: How often, by row.
        """
        row, gram, times = self.written
        seen = np.bincount(gram, counts[row] * times, len(self.order))  # [ngrams]
        before = np.where(self.shorter < 0, counts @ self.true, seen[self.shorter])  # [ngrams]
        bits = np.log2(before / np.maximum(seen, 1), out=np.zeros(len(seen)), where=seen > 0)  # [ngrams]
        row, gram, times = self.matched
        gained = np.bincount(self.order[gram], bits[gram] * times * counts[row], _ORDERS)  # [orders]
        said = counts @ self.said  # [orders]
        return float((gained / np.maximum(said, 1)).sum()) * _brevity(float(said[0]), float(counts @ self.length))


def _brevity(said: float, true: float) -> float:
    """The penalty of a text that is shorter than the references: 1/2 at two thirds of their length."""
    if not said or not true:
        return 0.0
    return math.exp(math.log(0.5) * (math.log(min(said / true, 1)) / math.log(1.5)) ** 2)
