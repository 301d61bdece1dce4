"""The bootstrap: metrics of rows drawn with replacement, without computing a metric anew for every draw.

Most metrics are means over rows, or functions of sums over rows, so a draw costs one product of its counts with
what was computed once per row. Whether that is so is found out by trying: such a shortcut is taken only if it
gives what the metric itself gives on small draws. Any other metric is computed anew, unless it is a slow one, which
then has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import final

import numpy as np
from jaxtyping import Float, Int

from softprompt.tasks import Answers, get_scorer, metric_of_score
from softprompt.tasks.metrics.cider import CiderSums
from softprompt.tasks.metrics.classes import label_hits, positives
from softprompt.tasks.metrics.corpus import CORPUS_METRICS
from softprompt.tasks.metrics.labels import normalise_label
from softprompt.tasks.metrics.means import PLUS
from softprompt.tasks.metrics.meteor import meteor_of, meteor_statistics
from softprompt.tasks.metrics.nist import NistSums
from softprompt.tasks.metrics.tags import entity_counts, right_tags, scores_of_entities

__all__ = ["Counts", "Dear", "Progress", "Resampled", "bootstrap", "pseudo_values", "resampled_metric"]

Counts = Int[np.ndarray, " rows"]
"""How often each row was drawn."""

Resampled = Callable[[Counts], float]
"""A score of the drawn rows."""

Progress = Callable[[int, int], object]
"""Told how many draws are made, and of how many."""

Shortcut = Callable[[Answers], Mapping[str, Resampled]]

_TRIALS, _TRIAL_UNITS = 3, 50
_TOLERANCE = 1e-6
_TOLD_EACH = 100


@final
@dataclass(frozen=True)
class Dear:
    """A score of drawn rows that takes many milliseconds, so that fewer draws are made where it is asked for.

    Attributes:
        score: The score; not a number where it cannot be had of the drawn rows.
    """

    score: Resampled

    def __call__(self, counts: Counts) -> float:
        """The score of the drawn rows."""
        return self.score(counts)


def bootstrap(
    scores: Mapping[str, Resampled],
    rows: int,
    *,
    groups: Sequence[str] | None = None,
    resamples: int,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Scores of rows drawn with replacement; all scores see the same draws.

    Rows of one group are not independent, and scores of groups need them all: so it is groups that are drawn, whole.

    Args:
        scores: What to compute on each draw, by name.
        rows: How many rows there are; as many, or as many groups as there are, are drawn.
        groups: By row, the name of its group; None draws single rows.
        resamples: How many draws.
        seed: Of the draws.
        progress: Told of each hundredth draw and the last.

    References:
        Efron and Tibshirani 1993, chapter 6; Davison and Hinkley 1997, chapter 3 (groups).
    """
    unit = _units(rows, groups)
    table = np.empty((resamples, len(scores)))
    for place, counts in enumerate(_draws(unit, None, resamples, seed)):
        table[place] = [score(counts) for score in scores.values()]
        done = place + 1
        if progress is not None and (done % _TOLD_EACH == 0 or done == resamples):
            progress(done, resamples)
    return {name: table[:, column] for column, name in enumerate(scores)}


def pseudo_values(score: Resampled, rows: int, *, groups: Sequence[str] | None = None) -> Float[np.ndarray, " units"]:
    """What each row, or each group of rows, makes of a score: n times the score less n - 1 times that without it.

    Of a mean over rows these are the rows' own scores. Their standard deviation over the root of n is about the score's
    standard error as rows are drawn.

    Args:
        score: Of the rows.
        rows: How many there are.
        groups: As in `bootstrap`.

    References:
        Efron and Tibshirani 1993, §11.5 (pseudo-values of the jackknife).
    """
    unit = _units(rows, groups)
    units = int(unit.max()) + 1
    whole = units * score(np.ones(rows, dtype=int))
    return np.array([whole - (units - 1) * score((unit != place).astype(int)) for place in range(units)])


def resampled_metric(name: str, answers: Answers) -> Mapping[str, Resampled]:
    """The scores of a metric as functions of how often each row counts.

    Args:
        name: The metric's name.
        answers: The rows.

    Returns:
        The scores by name; none where the metric is slow and no sums over rows are known that give it.
    """
    if PLUS in name:
        return _mean_of_scores(name, answers)
    scorer = get_scorer(name)
    anew = _computed_anew(name, answers)
    shortcuts = [_SHORTCUTS[name]] if name in _SHORTCUTS else []
    for shortcut in shortcuts if scorer.slow else [*shortcuts, _row_means(name)]:
        found = _tried(shortcut, anew, answers)
        if found:
            return {key: Dear(score) for key, score in found.items()} if name in _DEAR else found
    return {} if scorer.slow else {key: Dear(_one_of(anew, key)) for key in scorer.function(answers)}


def _mean_of_scores(name: str, answers: Answers) -> Mapping[str, Resampled]:
    """The mean of several scores, each resampled in its own way; none if one of them is not."""
    parts = [part.strip() for part in name.split(PLUS)]
    found = {key: score for part in parts for key, score in resampled_metric(metric_of_score(part), answers).items()}
    if not found.keys() >= set(parts):
        return {}
    scores = [found[part] for part in parts]

    def mean(counts: Counts) -> float:
        return fmean(score(counts) for score in scores)

    return {name: Dear(mean) if any(isinstance(score, Dear) for score in scores) else mean}


def _tried(
    shortcut: Shortcut, anew: Callable[[Counts], Mapping[str, float]], answers: Answers
) -> Mapping[str, Resampled]:
    """What a shortcut gives; nothing if it is wrong, or the metric scores no single row."""
    try:
        found = shortcut(answers)
        return found if _agree(found, anew, answers) else {}
    except Exception:  # metrics of other packages refuse rows in their own ways
        return {}


def _units(rows: int, groups: Sequence[str] | None) -> Int[np.ndarray, " rows"]:
    """The number of each row's group, or its own."""
    if groups is None:
        return np.arange(rows)
    number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    return np.array([number[group] for group in groups])


def _draws(unit: Int[np.ndarray, " rows"], most: int | None, resamples: int, seed: int) -> Iterator[Counts]:
    """How often each row comes, when as many units are drawn as there are, or at most so many."""
    generator = np.random.default_rng(seed)
    units = int(unit.max()) + 1
    for _ in range(resamples):
        yield np.bincount(generator.integers(0, units, min(units, most or units)), minlength=units)[unit]


def _agree(found: Mapping[str, Resampled], anew: Callable[[Counts], Mapping[str, float]], answers: Answers) -> bool:
    """Whether a shortcut gives the metric's own scores on a few small draws."""
    for counts in _draws(_units(len(answers.predictions), answers.groups), _TRIAL_UNITS, _TRIALS, seed=0):
        expected = anew(counts)
        if expected.keys() != found.keys():
            return False
        if any(abs(found[key](counts) - score) > _TOLERANCE for key, score in expected.items()):
            return False
    return True


def _computed_anew(name: str, answers: Answers) -> Callable[[Counts], Mapping[str, float]]:
    scorer = get_scorer(name)
    return lambda counts: scorer.function(answers.repeated(counts.tolist()))


def _one_of(scores: Callable[[Counts], Mapping[str, float]], key: str) -> Resampled:
    def score(counts: Counts) -> float:
        try:
            return scores(counts)[key]
        except Exception:  # such as of one class alone; metrics of other packages say so in their own ways
            return math.nan

    return score


def _row_means(name: str) -> Shortcut:
    """The shortcut of metrics that are means over rows: accuracy, exact match, token F1, ROUGE."""

    def shortcut(answers: Answers) -> Mapping[str, Resampled]:
        scorer = get_scorer(name)
        by_row = [scorer.function(answers.row(index)) for index in range(len(answers.predictions))]
        return {key: mean_of(np.array([scores[key] for scores in by_row], dtype=float)) for key in by_row[0]}

    return shortcut


def mean_of(values: Float[np.ndarray, " rows"]) -> Resampled:
    """The mean of what each row has."""
    return lambda counts: float(counts @ values / counts.sum())


def _sums_of(name: str) -> Shortcut:
    """The shortcut of corpus metrics: sacrebleu scores the sums of each row's counts of n-grams or edits."""
    metric = CORPUS_METRICS[name]

    def shortcut(answers: Answers) -> Mapping[str, Resampled]:
        statistics = np.array(metric.statistics(answers.predictions, answers.references))  # [rows, counts]
        return {name: lambda counts: metric.score_of((counts @ statistics).tolist())}

    return shortcut


def _macro_f1(answers: Answers) -> Mapping[str, Resampled]:
    """The shortcut of macro-F1: it is a function of how often each pair of true and predicted class occurs."""
    true = [normalise_label(row[0]) for row in answers.references]
    index = {label: place for place, label in enumerate(sorted(set(true)))}
    said = [index.get(normalise_label(text), len(index)) for text in answers.predictions]
    pairs = np.array([index[label] for label in true]) * (len(index) + 1) + np.array(said)

    def score(counts: Counts) -> float:
        shape = len(index), len(index) + 1
        table = np.bincount(pairs, weights=counts, minlength=shape[0] * shape[1]).reshape(shape)
        drawn = table.sum(1) > 0
        of_class, as_class, right = table.sum(1)[drawn], table[:, :-1].sum(0)[drawn], np.diag(table)[drawn]
        return float(100 * np.mean(2 * right / (of_class + as_class)))

    return {"macro_f1": score}


def _f1_of_positives(answers: Answers) -> Resampled:
    said, true = np.array(positives("binary_f1", answers))  # [2, rows]
    return lambda counts: float(200 * (counts @ (said & true)) / max(1, counts @ said + counts @ true))


def _multirc(answers: Answers) -> Mapping[str, Resampled]:
    """The shortcut of MultiRC's scores: a question counts as often as each of its rows."""
    question = _units(len(answers.predictions), answers.groups)
    mistakes = np.bincount(question, ~np.array(label_hits(answers.predictions, answers.references)))
    first = np.unique(question, return_index=True)[1]
    flawless = mean_of(100.0 * (mistakes == 0))
    return {"f1a": _f1_of_positives(answers), "multirc_em": lambda counts: flawless(counts[first])}


def _meteor(answers: Answers) -> Mapping[str, Resampled]:
    """The shortcut of METEOR, which sums up what is counted in the alignment of each row."""
    statistics = meteor_statistics(answers.predictions, answers.references)
    return {"meteor": lambda counts: meteor_of(counts @ statistics)}


def _entities(answers: Answers) -> Mapping[str, Resampled]:
    """The shortcut of entities' scores, which sum up what is counted in each row."""
    counted = np.array(entity_counts(answers.predictions, answers.references))  # [rows, 3]

    def score_of(name: str) -> Resampled:
        return lambda counts: scores_of_entities((counts @ counted).tolist())[name]

    return {name: score_of(name) for name in scores_of_entities((1, 1, 1))}


def _tag_accuracy(answers: Answers) -> Mapping[str, Resampled]:
    right, words = np.array(right_tags(answers.predictions, answers.references)).T  # [2, rows]
    return {"tag_accuracy": lambda counts: float(100 * (counts @ right) / max(1, counts @ words))}


_DEAR = ("cider", "nist")
"""Their sums are over all n-grams, once for each draw."""

_SHORTCUTS: Mapping[str, Shortcut] = {
    "binary_f1": lambda answers: {"binary_f1": _f1_of_positives(answers)},
    "cider": lambda answers: {"cider": CiderSums.of(answers.predictions, answers.references).score},
    "entity_f1": _entities,
    "macro_f1": _macro_f1,
    "meteor": _meteor,
    "multirc": _multirc,
    "nist": lambda answers: {"nist": NistSums.of(answers.predictions, answers.references).score},
    "tag_accuracy": _tag_accuracy,
    **{name: _sums_of(name) for name in CORPUS_METRICS},
}
