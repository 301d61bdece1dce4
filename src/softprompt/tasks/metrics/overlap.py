"""Metrics of generated text: overlap with references, through sacrebleu and rouge-score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

__all__ = ["bleu", "chrf", "rouge1", "rouge2", "rouge_l"]


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU in percent: up to 4-grams, 13a tokenisation, exponential smoothing; rows may differ in references.

    References:
        Papineni et al. 2002; Post 2018 (the settings: sacrebleu's defaults).
    """
    from sacrebleu.metrics.bleu import BLEU

    # Detokenised text that ends in " ." is what small models write, not a mistake that deserves a warning.
    return {"bleu": BLEU(force=True).corpus_score(list(predictions), reference_columns(references)).score}


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus chrF2 in percent: character 1- to 6-grams, beta 2; rows may differ in references.

    References:
        Popović 2015; Post 2018 (the settings: sacrebleu's defaults).
    """
    from sacrebleu.metrics.chrf import CHRF

    return {"chrf": CHRF().corpus_score(list(predictions), reference_columns(references)).score}


def rouge1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of the F1 of stemmed words against the reference that fits best.

    References:
        Lin 2004, §2.
    """
    return {"rouge1": rouge("rouge1", predictions, references)}


def rouge2(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of the F1 of stemmed word pairs against the reference that fits best.

    References:
        Lin 2004, §2.
    """
    return {"rouge2": rouge("rouge2", predictions, references)}


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of the F1 of the longest common subsequence of stemmed words; best reference.

    References:
        Lin 2004, §3.
    """
    return {"rougeL": rouge("rougeL", predictions, references)}


def reference_columns(references: Sequence[Sequence[str]]) -> list[tuple[str | None, ...]]:
    """References as sacrebleu takes them: one sequence per rank, `None` where a row has fewer."""
    return list(zip_longest(*references))


def rouge(kind: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean over rows, in percent, of one kind of ROUGE (Porter stemming, best F1 over the references)."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind], use_stemmer=True)
    best = [
        scorer.score_multi(list(row), prediction)[kind].fmeasure
        for prediction, row in zip(predictions, references, strict=True)
    ]
    return 100 * sum(best) / len(best)
