"""Metrics of short answers, as SQuAD's official script scores them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

__all__ = ["exact_match", "normalise_answer", "token_f1"]

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """An answer in lower case without ASCII punctuation and English articles, with single spaces.

    References:
        Rajpurkar et al. 2016, §6.1, and the official evaluation script's `normalize_answer`.
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of rows, in percent, whose normalised prediction is one of the normalised references.

    References:
        Rajpurkar et al. 2016, §6.1.
    """
    return {"exact_match": best_mean(lambda said, true: float(said == true), predictions, references)}


def token_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of the F1 of words against the reference that fits best.

    Two answers without any word left after normalisation agree (version 2.0 of the script).

    References:
        Rajpurkar et al. 2016, §6.1; Rajpurkar et al. 2018.
    """
    return {"token_f1": best_mean(word_f1, predictions, references)}


def word_f1(said: str, true: str) -> float:
    """Harmonic mean of precision and recall over two bags of words, from 0 to 1."""
    said_words, true_words = said.split(), true.split()
    if not said_words or not true_words:
        return float(said_words == true_words)
    shared = (Counter(said_words) & Counter(true_words)).total()
    return 2 * shared / (len(said_words) + len(true_words))


def best_mean(
    score: Callable[[str, str], float], predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    """Mean over rows, in percent, of the best score that a normalised prediction gets against a reference."""
    best = [
        max(score(normalise_answer(prediction), normalise_answer(reference)) for reference in row)
        for prediction, row in zip(predictions, references, strict=True)
    ]
    return 100 * sum(best) / len(best)
