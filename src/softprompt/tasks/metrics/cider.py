"""The sums of CIDEr: how alike a description and its references are in n-grams that are rare elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from softprompt.tasks.metrics.words import caption_words, ngrams

__all__ = ["CiderSums"]

_ORDERS = 4
_LENGTH_SPREAD = 6.0


@final
@dataclass(frozen=True, kw_only=True)
class CiderSums:
    """What CIDEr sums up, so that drawn rows are scored without a look at their texts.

    An n-gram's entry in a text's vector is its count times its rarity. So squared norms and products of vectors are
    sums over n-grams of products of counts, times the squared rarity, which is all that depends on the draw.

    Attributes:
        order: Of each n-gram, its length less 1.
        row: Of each reference, its row.
        penalty: Of each reference, what is left for the difference of lengths.
        present: Row, n-gram, and 1, where a reference has it.
        said: Row, n-gram, and its squared count in the prediction.
        true: Reference, n-gram, and its squared count.
        both: Reference, n-gram, and the product of its counts, the prediction's being cut to the reference's.
    """

    order: Int[np.ndarray, " ngrams"]
    row: Int[np.ndarray, " references"]
    penalty: Float[np.ndarray, " references"]
    present: Int[np.ndarray, "3 occurrences"]
    said: Int[np.ndarray, "3 ours"]
    true: Int[np.ndarray, "3 theirs"]
    both: Int[np.ndarray, "3 shared"]

    @classmethod
    def of(cls, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> CiderSums:
        """Count once.

        Args:
            predictions: One text per row.
            references: One or more texts per row.
        """
        known: dict[tuple[str, ...], int] = {}
        present, said, true, both = [], [], [], []
        rows: list[int] = []
        longer: list[int] = []
        for row, (prediction, several) in enumerate(zip(predictions, references, strict=True)):
            words = caption_words(prediction)
            ours = ngrams(words, _ORDERS)
            said += [(row, known.setdefault(gram, len(known)), count**2) for gram, count in ours.items()]
            seen: set[tuple[str, ...]] = set()
            for other in map(caption_words, several):
                theirs = ngrams(other, _ORDERS)
                place = len(rows)
                true += [(place, known.setdefault(gram, len(known)), count**2) for gram, count in theirs.items()]
                both += [(place, known[gram], count * theirs[gram]) for gram, count in (ours & theirs).items()]
                seen |= theirs.keys()
                rows.append(row)
                longer.append(len(words) - len(other))
            present += [(row, known[gram], 1) for gram in seen]
        entries = {"present": present, "said": said, "true": true, "both": both}
        return cls(
            order=np.array([len(gram) - 1 for gram in known], dtype=int),
            row=np.array(rows),
            penalty=np.exp(-np.square(longer) / (2 * _LENGTH_SPREAD**2)),
            **{name: np.array(one, dtype=int).reshape(-1, 3).T for name, one in entries.items()},
        )

    def total(self) -> float:
        """CIDEr of all rows."""
        return self.score(np.ones(self.row[-1] + 1, dtype=int))

    def score(self, counts: Int[np.ndarray, " rows"]) -> float:
        """CIDEr of rows that count so often.

        Args:
            counts: How often, by row.
        """
        row, gram, _ = self.present
        having = np.bincount(gram, counts[row], len(self.order))  # [ngrams], in rows
        weight = np.square(np.log(counts.sum() / np.maximum(having, 1)))  # [ngrams]
        ours = self._sums(self.said, len(counts), weight)[self.row]  # [references, orders]
        theirs = self._sums(self.true, len(self.row), weight)  # [references, orders]
        shared = self._sums(self.both, len(self.row), weight)  # [references, orders]
        norms = np.sqrt(ours * theirs)
        alike = np.divide(shared, norms, out=np.zeros_like(norms), where=norms > 0).mean(1) * self.penalty
        share = counts / np.bincount(self.row, minlength=len(counts)) / counts.sum()  # [rows], of each reference
        return float(10 * share[self.row] @ alike)

    def _sums(
        self, entries: Int[np.ndarray, "3 entries"], places: int, weight: Float[np.ndarray, " ngrams"]
    ) -> Float[np.ndarray, "places orders"]:
        place, gram, value = entries
        flat = np.bincount(place * _ORDERS + self.order[gram], value * weight[gram], places * _ORDERS)
        return flat.reshape(places, _ORDERS).astype(float)  # of no entries NumPy counts in integers
