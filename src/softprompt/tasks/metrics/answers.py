"""Metrics of short answers, as the official scripts of SQuAD and ReCoRD score them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from softprompt.tasks.metrics.signature import Answers

__all__ = ["exact_match", "normalise_answer", "record", "token_f1"]

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

    Two answers without any word left after normalisation, such as "The" alone, are an exact match, but have no F1:
    so it is in version 1.1 of the script, which MRQA and T5 follow. Version 2.0 drops such references and is another.

    References:
        Rajpurkar et al. 2016, §6.1, and `f1_score` of evaluate-v1.1.py; Fisch et al. 2019 (MRQA).
    """
    return {"token_f1": best_mean(word_f1, predictions, references)}


def record(answers: Answers) -> dict[str, float]:
    """Share of rows whose normalised prediction is a reference, and mean F1 of words with the best one, in percent.

    Normalised as for SQuAD, and two answers without any word left are scored as there.

    References:
        Zhang et al. 2018, and the official evaluation script, version 1.0; Wang et al. 2019 (SuperGLUE).
    """
    said, true = answers.predictions, answers.references
    return {"record_f1": best_mean(word_f1, said, true), "record_em": exact_match(said, true)["exact_match"]}


def word_f1(said: str, true: str) -> float:
    """Harmonic mean of precision and recall over two bags of words, from 0 to 1; 0 where there is no word at all."""
    said_words, true_words = said.split(), true.split()
    shared = (Counter(said_words) & Counter(true_words)).total()
    return 2 * shared / max(1, len(said_words) + len(true_words))


def best_mean(
    score: Callable[[str, str], float], predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    """Mean over rows, in percent, of the best score that a normalised prediction gets against a reference."""
    best = [
        max(score(normalise_answer(prediction), normalise_answer(reference)) for reference in row)
        for prediction, row in zip(predictions, references, strict=True)
    ]
    return 100 * sum(best) / len(best)
