"""The bootstrap: metrics of rows drawn with replacement, without computing a metric anew for every draw.

Most metrics are means over rows, or functions of sums over rows, so a draw costs one product of its counts with
what was computed once per row. Whether that is so is found out by trying: such a shortcut is taken only if it
gives what the metric itself gives on small draws. Any other metric is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from sacrebleu.metrics.base import Metric as SacreMetric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from softprompt.tasks import get_metric
from softprompt.tasks.metrics.labels import normalise_label

__all__ = ["Counts", "Resampled", "bootstrap", "resampled_metric"]

Counts = Int[np.ndarray, " rows"]
"""How often each row was drawn."""

Resampled = Callable[[Counts], float]
"""A score of the drawn rows."""

Shortcut = Callable[[Sequence[str], Sequence[Sequence[str]]], Mapping[str, Resampled]]

_TRIALS, _TRIAL_ROWS = 3, 50
_TOLERANCE = 1e-6


def bootstrap(
    scores: Mapping[str, Resampled], rows: int, *, resamples: int, seed: int
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Scores of rows drawn with replacement; all scores see the same draws.

    Args:
        scores: What to compute on each draw, by name.
        rows: How many rows there are, and are drawn.
        resamples: How many draws.
        seed: Of the draws.

    References:
        Efron and Tibshirani 1993, chapter 6.
    """
    drawn = [[score(counts) for score in scores.values()] for counts in _draws(rows, rows, resamples, seed)]
    table = np.array(drawn, dtype=float).reshape(resamples, len(scores))
    return {name: table[:, column] for column, name in enumerate(scores)}


def resampled_metric(
    name: str, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Mapping[str, Resampled]:
    """The scores of a metric as functions of how often each row counts.

    Args:
        name: The metric's name.
        predictions: One text per row.
        references: One or more texts per row.
    """
    anew = _computed_anew(name, predictions, references)
    for shortcut in (_SHORTCUTS.get(name, _row_means(name)), _row_means(name)):
        found = shortcut(predictions, references)
        if _agree(found, anew, len(predictions)):
            return found
    return {key: _one_of(anew, key) for key in get_metric(name)(predictions, references)}


def _draws(rows: int, drawn: int, resamples: int, seed: int) -> Iterator[Counts]:
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(generator.integers(0, rows, drawn), minlength=rows)


def _agree(found: Mapping[str, Resampled], anew: Callable[[Counts], Mapping[str, float]], rows: int) -> bool:
    """Whether a shortcut gives the metric's own scores on a few small draws."""
    for counts in _draws(rows, min(rows, _TRIAL_ROWS), _TRIALS, seed=0):
        expected = anew(counts)
        if expected.keys() != found.keys():
            return False
        if any(abs(found[key](counts) - score) > _TOLERANCE for key, score in expected.items()):
            return False
    return True


def _computed_anew(
    name: str, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Callable[[Counts], Mapping[str, float]]:
    metric = get_metric(name)

    def scores(counts: Counts) -> Mapping[str, float]:
        chosen = np.repeat(np.arange(len(counts)), counts).tolist()
        return metric([predictions[i] for i in chosen], [references[i] for i in chosen])

    return scores


def _one_of(scores: Callable[[Counts], Mapping[str, float]], key: str) -> Resampled:
    return lambda counts: scores(counts)[key]


def _row_means(name: str) -> Shortcut:
    """The shortcut of metrics that are means over rows: accuracy, exact match, token F1, ROUGE."""

    def shortcut(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, Resampled]:
        metric = get_metric(name)
        by_row = [metric([said], [true]) for said, true in zip(predictions, references, strict=True)]
        return {key: mean_of(np.array([scores[key] for scores in by_row])) for key in by_row[0]}

    return shortcut


def mean_of(values: Float[np.ndarray, " rows"]) -> Resampled:
    """The mean of what each row has."""
    return lambda counts: float(counts @ values / counts.sum())


def _sums_of(metric: SacreMetric, key: str) -> Shortcut:
    """The shortcut of corpus metrics: sacrebleu scores the sums of each row's counts of n-grams."""

    def shortcut(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, Resampled]:
        statistics = np.array(
            [
                metric._extract_corpus_statistics([said], [[text] for text in true])[0]
                for said, true in zip(predictions, references, strict=True)
            ]
        )  # [rows, counts]
        return {key: lambda counts: float(metric._compute_score_from_stats((counts @ statistics).tolist()).score)}

    return shortcut


def _macro_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, Resampled]:
    """The shortcut of macro-F1: it is a function of how often each pair of true and predicted class occurs."""
    true = [normalise_label(row[0]) for row in references]
    index = {label: place for place, label in enumerate(sorted(set(true)))}
    said = [index.get(normalise_label(text), len(index)) for text in predictions]
    pairs = np.array([index[label] for label in true]) * (len(index) + 1) + np.array(said)

    def score(counts: Counts) -> float:
        shape = len(index), len(index) + 1
        table = np.bincount(pairs, weights=counts, minlength=shape[0] * shape[1]).reshape(shape)
        drawn = table.sum(1) > 0
        of_class, as_class, right = table.sum(1)[drawn], table[:, :-1].sum(0)[drawn], np.diag(table)[drawn]
        return float(100 * np.mean(2 * right / (of_class + as_class)))

    return {"macro_f1": score}


_SHORTCUTS: Mapping[str, Shortcut] = {
    "bleu": _sums_of(BLEU(force=True), "bleu"),
    "chrf": _sums_of(CHRF(), "chrf"),
    "macro_f1": _macro_f1,
}
