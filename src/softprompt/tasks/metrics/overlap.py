"""Metrics of generated text: overlap with references. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from softprompt.tasks.metrics.signature import Answers

__all__ = [
    "bleu",
    "bleu_multi",
    "chrf",
    "rouge1",
    "rouge2",
    "rouge_l",
    "ter",
]


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU in percent: up to 4-grams, 13a tokenisation, exponential smoothing; rows may differ in references.

    References:
        Papineni et al. 2002; Post 2018 (the settings: sacrebleu's defaults).
    """
    from sacrebleu.metrics.bleu import BLEU

    # Detokenised text that ends in " ." is what small models write, not a mistake that deserves a warning.
    return {"bleu": BLEU(force=True).corpus_score(list(predictions), reference_columns(references)).score}


def bleu_multi(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU in percent as Moses' multi-bleu.perl gives it: up to 4-grams of words between blanks, no smoothing.

    Texts are scored as they are: tokenise and lower-case them first where a published number was. The reference
    length of a row is the closest to the prediction's, of two equally close ones the shorter.

    References:
        Papineni et al. 2002; Koehn et al. 2007 (Moses).
    """
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(tokenize="none", smooth_method="none", force=True)
    return {"bleu_multi": scorer.corpus_score(list(predictions), reference_columns(references)).score}


def ter(answers: Answers) -> dict[str, float]:
    """Corpus TER in percent: edits and shifts of words that lead to the nearest reference, per word of one.

    Less is better, and more than 100 is possible. The length is the mean of a row's references; case is ignored.

    References:
        Snover et al. 2006; Post 2018 (the settings: sacrebleu's defaults, which are TERCOM's).
    """
    from sacrebleu.metrics.ter import TER

    return {"ter": TER().corpus_score(list(answers.predictions), reference_columns(answers.references)).score}


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
