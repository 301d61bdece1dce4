"""Metrics by name, and several at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from softprompt.config import choose
from softprompt.errors import ConfigError, DataError, MissingDependencyError
from softprompt.registry import Registry
from softprompt.tasks.metrics.answers import exact_match, record, token_f1
from softprompt.tasks.metrics.classes import accuracy, binary_f1, macro_f1, multirc
from softprompt.tasks.metrics.corpus import bleu, bleu_multi, bleu_uncased, bleu_webnlg, chrf, ter, ter_webnlg
from softprompt.tasks.metrics.means import PLUS, mean_scorer
from softprompt.tasks.metrics.overlap import cider, meteor, nist, rouge1, rouge2, rouge_l, rouge_l_coco, rouge_l_sum
from softprompt.tasks.metrics.referents import wsc
from softprompt.tasks.metrics.signature import Answers, Metric, Scorer, described
from softprompt.tasks.metrics.tags import entity_f1, tag_accuracy

__all__ = [
    "compute_available",
    "compute_metrics",
    "get_metric",
    "get_scorer",
    "metric_names",
    "metric_of_score",
    "register_metric",
]

METRICS: Registry[Metric | Scorer] = Registry(
    "metric",
    "softprompt.metrics",
    {
        "accuracy": accuracy,
        "binary_f1": Scorer(function=binary_f1, scores=("binary_f1",), binary=True),
        "bleu": bleu,
        "bleu_multi": bleu_multi,
        "bleu_uncased": bleu_uncased,
        "bleu_webnlg": bleu_webnlg,
        "chrf": chrf,
        "cider": cider,
        "entity_f1": Scorer(function=entity_f1, scores=("entity_f1", "entity_precision", "entity_recall")),
        "exact_match": exact_match,
        "macro_f1": macro_f1,
        "meteor": Scorer(function=meteor, scores=("meteor",), slow=True),
        "multirc": Scorer(function=multirc, scores=("f1a", "multirc_em"), binary=True, grouped=True),
        "nist": nist,
        "record": Scorer(function=record, scores=("record_f1", "record_em")),
        "rouge1": rouge1,
        "rouge2": rouge2,
        "rougeL": rouge_l,
        "rougeL_coco": rouge_l_coco,
        "rougeLsum": rouge_l_sum,
        "tag_accuracy": tag_accuracy,
        "ter": Scorer(function=ter, scores=("ter",), less_is_better=True, slow=True),
        "ter_webnlg": Scorer(function=ter_webnlg, scores=("ter_webnlg",), less_is_better=True, slow=True),
        "token_f1": token_f1,
        "wsc": wsc,
    },
)


def register_metric(name: str, metric: Metric | Scorer) -> None:
    """Add a metric of your own; installed packages can offer theirs in the entry point group `softprompt.metrics`.

    Args:
        name: What tasks call it.
        metric: A plain function, or a `Scorer` if it needs labels or groups, gives several scores, or counts errors.
            Its scores' names must differ from those of other metrics. One that needs a library or a file which may be
            absent raises `MissingDependencyError`; it is then left out by name, and other metrics are computed.

    Raises:
        ConfigError: If the name already stands for another metric, or for a mean.
    """
    if PLUS in name:
        raise ConfigError(f"A metric cannot be called {name!r}: names with a plus stand for means; take another.")
    METRICS.add(name, metric)


def metric_names() -> tuple[str, ...]:
    """All known metrics, sorted."""
    return METRICS.names()


def get_metric(name: str) -> Metric | Scorer:
    """A metric by name, as it was registered.

    Raises:
        ConfigError: If there is none of that name.
    """
    return METRICS.get(name)


def get_scorer(name: str) -> Scorer:
    """A metric by name, with what it needs and how it is to be read; `accuracy+macro_f1` is the mean of these scores.

    Raises:
        ConfigError: If there is none of that name, or no mean can be had of what is named.
    """
    if PLUS in name:
        return mean_scorer(name, lambda score: get_scorer(metric_of_score(score)))
    return described(name, get_metric(name))


def metric_of_score(score: str) -> str:
    """The name of the metric that gives a score: mostly its own.

    Raises:
        ConfigError: If no metric gives it.
    """
    if score in METRICS.names() and score in get_scorer(score).scores:
        return score
    scores = {key: name for name in METRICS.names() for key in get_scorer(name).scores}
    if score not in scores:
        raise choose("score", score, scores)
    return scores[score]


def compute_metrics(
    names: Iterable[str],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    labels: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> dict[str, float]:
    """The scores of several metrics.

    Args:
        names: Names of metrics, e.g. a task's.
        predictions: One text per row.
        references: One or more texts per row.
        labels: The legal targets, for metrics that ask which is the positive one: the second of two.
        groups: By row, the name of its group, for metrics of groups.

    Returns:
        Scores by name, in the metrics' order.

    Raises:
        ConfigError: If a metric is unknown, lacks labels or groups, or two give a score the same name.
        DataError: If there are no rows, the numbers of rows differ, or a row has no reference.
        MissingDependencyError: If a metric needs a library or a file that is not here.
    """
    answers = Answers(predictions=predictions, references=references, labels=tuple(labels), groups=groups)
    scores, missing = compute_available(names, answers)
    for reason in missing.values():
        raise MissingDependencyError(reason)
    return scores


def compute_available(names: Iterable[str], answers: Answers) -> tuple[dict[str, float], dict[str, str]]:
    """The scores of those metrics that can be computed here, and why the others cannot.

    Args:
        names: Names of metrics, e.g. a task's.
        answers: What to score.

    Returns:
        Scores by name, in the metrics' order; and by metric what is missing.

    Raises:
        ConfigError: If a metric is unknown, lacks labels or groups, or two give a score the same name.
        DataError: If there are no rows, the numbers of rows differ, or a row has no reference.
    """
    scorers = {name: get_scorer(name) for name in names}
    _check_rows(answers)
    scores: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, scorer in scorers.items():
        scorer.check(name, answers.labels, grouped=answers.groups is not None)
        try:
            found = scorer.function(answers)
        except MissingDependencyError as error:
            missing[name] = str(error)
            continue
        for key, score in found.items():
            if key in scores:
                raise ConfigError(f"The metric {name!r} gives {key!r}, as one before it does; name only one of them.")
            scores[key] = score
    return scores, missing


def _check_rows(answers: Answers) -> None:
    said, true = len(answers.predictions), len(answers.references)
    if not said or said != true:
        raise DataError(
            f"Metrics compare predictions with references, one row each, but {said} predictions and {true} rows of "
            "references came; give as many of each, and at least one."
        )
    if answers.groups is not None and len(answers.groups) != said:
        raise DataError(f"{len(answers.groups)} groups came for {said} predictions; name one for each row.")
    for index, row in enumerate(answers.references):
        if not row:
            raise DataError(f"Row {index} has no reference; give at least one for each prediction.")
