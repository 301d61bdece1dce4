"""Scores of a data set in one: `accuracy+macro_f1` is their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean

from softprompt.errors import ConfigError
from softprompt.tasks.metrics.signature import Answers, Scorer

__all__ = ["PLUS", "mean_scorer"]

PLUS = "+"
"""What stands between the scores whose mean is meant."""


def mean_scorer(name: str, find: Callable[[str], Scorer]) -> Scorer:
    """The mean of several scores as a metric that gives one score, of its own name.

    Papers on SuperGLUE report a data set with several scores so (Lester et al. 2021, §3).

    Args:
        name: The scores' names with a plus between each two.
        find: From a score's name to the metric that gives it.

    Raises:
        ConfigError: If a score is unknown, comes twice, or counts errors.
    """
    parts = tuple(part.strip() for part in name.split(PLUS))
    if len(set(parts)) < len(parts):
        raise ConfigError(f"The metric {name!r} names a score twice; name each once.")
    scorers = {part: find(part) for part in parts}
    if errors := [part for part, scorer in scorers.items() if scorer.less_is_better]:
        raise ConfigError(f"The metric {name!r}: less of {errors[0]} is better, so it has no place in a mean; drop it.")

    def mean(answers: Answers) -> dict[str, float]:
        several = _distinct(scorers.values())
        scores = {key: score for scorer in several for key, score in scorer.function(answers).items()}
        return {name: fmean(scores[part] for part in parts)}

    return Scorer(
        function=mean,
        scores=(name,),
        binary=any(scorer.binary for scorer in scorers.values()),
        grouped=any(scorer.grouped for scorer in scorers.values()),
        slow=any(scorer.slow for scorer in scorers.values()),
    )


def _distinct(scorers: Iterable[Scorer]) -> list[Scorer]:
    """Each metric once, whose several scores are meant."""
    return list({id(scorer): scorer for scorer in scorers}.values())
