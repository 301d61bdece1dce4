"""Several scores in one: their mean, as papers on SuperGLUE report it."""

from __future__ import annotations

from statistics import fmean

import pytest

from softprompt.errors import ConfigError
from softprompt.evaluation.resampling import bootstrap, resampled_metric
from softprompt.tasks import (
    Answers,
    compute_metrics,
    get_scorer,
    load_task,
    metric_of_score,
    register_metric,
    task_definition,
)

CLASSES = Answers(
    predictions=["yes", "no", "no", "maybe", "yes", "no", "no"],
    references=[["yes"], ["yes"], ["no"], ["maybe"], ["no"], ["no"], ["maybe"]],
    labels=("no", "yes", "maybe"),
)
QUESTIONS = Answers(
    predictions=["True", "False", "True", "True", "False", "False"],
    references=[["True"], ["False"], ["False"], ["True"], ["True"], ["False"]],
    labels=("False", "True"),
    groups=["a", "a", "b", "b", "c", "d"],
)


@pytest.mark.parametrize(
    ("name", "answers", "needs"),
    [("accuracy+macro_f1", CLASSES, ("accuracy", "macro_f1")), ("f1a+multirc_em", QUESTIONS, ("multirc",))],
)
def test_a_mean_is_that_of_the_scores_themselves(name, answers, needs):
    given = answers.predictions, answers.references
    scores = compute_metrics([name, *needs], *given, labels=answers.labels, groups=answers.groups)
    assert scores[name] == pytest.approx(fmean(scores[part] for part in name.split("+")))
    assert len(set(scores.values())) == 3  # scores that were all alike would prove nothing
    assert get_scorer(name).scores == (name,)


@pytest.mark.parametrize(("name", "answers"), [("accuracy+macro_f1", CLASSES), ("f1a+multirc_em", QUESTIONS)])
def test_draws_of_a_mean_are_those_of_the_metric_itself(name, answers):
    resampled = resampled_metric(name, answers)
    anew = {name: lambda counts: get_scorer(name).function(answers.repeated(counts.tolist()))[name]}
    how = {"groups": answers.groups, "resamples": 20, "seed": 1}
    drawn, expected = (bootstrap(some, len(answers.predictions), **how)[name] for some in (resampled, anew))
    assert drawn == pytest.approx(expected)
    assert len(set(drawn)) > 3


def test_a_mean_needs_what_its_scores_need():
    scorer = get_scorer("accuracy+f1a")
    assert scorer.binary
    assert scorer.grouped
    assert not get_scorer("accuracy+macro_f1").binary
    assert get_scorer("meteor+chrf").slow


def test_a_score_is_found_by_the_metric_that_gives_it():
    assert [metric_of_score(score) for score in ("accuracy", "f1a", "record_em")] == ["accuracy", "multirc", "record"]
    with pytest.raises(ConfigError, match=r"score 'acuracy'.*accuracy"):
        get_scorer("macro_f1+acuracy")


def test_what_has_no_mean_is_refused():
    with pytest.raises(ConfigError, match="less of ter is better"):
        get_scorer("chrf+ter")
    with pytest.raises(ConfigError, match="names a score twice"):
        get_scorer("accuracy+accuracy")
    with pytest.raises(ConfigError, match="names with a plus stand for means"):
        register_metric("mine+yours", lambda said, true: {"mine+yours": 0.0})


def test_tasks_with_several_scores_choose_by_their_mean():
    """SuperGLUE's CB, MultiRC and ReCoRD, MRPC and QQP; a first score alone would choose another checkpoint."""
    watched = {name: task_definition(name).metrics[0] for name in ("cb", "multirc", "record", "mrpc", "qqp")}
    assert watched == {
        "cb": "accuracy+macro_f1",
        "multirc": "f1a+multirc_em",
        "record": "record_f1+record_em",
        "mrpc": "accuracy+binary_f1",
        "qqp": "accuracy+binary_f1",
    }
    assert load_task("sentence_polarity").watched == "accuracy"
