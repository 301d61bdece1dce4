"""Evaluation while training: the best prompt is kept, and what is kept scores as it did."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from tests.training.sessions import calm_backbone, describing, difference, sentiment, short_run, trained

from softprompt.errors import ConfigError, LengthError, MissingDependencyError
from softprompt.evaluation import evaluate
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt
from softprompt.tasks import Row, Scorer, Task, TextFormat
from softprompt.tasks.metrics import registry
from softprompt.training import session


def scripted(monkeypatch, scores):
    """Let evaluations give these accuracies, in this order; returns the steps' prompts they were asked about."""
    given, seen = iter(scores), []
    real = session.evaluate_many

    def scoring(model, jobs, **settings):
        real(model, jobs, **settings)
        seen.append({name: prompt.fold() for name, prompt in model.prompts.items()})
        return {name: {"accuracy": next(given), "macro_f1": 0.0} for name in jobs}

    monkeypatch.setattr(session, "evaluate_many", scoring)
    return seen


def test_the_best_prompt_by_the_metric_is_kept(monkeypatch):
    seen = scripted(monkeypatch, [20.0, 50.0, 50.0, 30.0])
    result = trained("decoder-only", [short_run(evaluate_every=2, steps=8)])["a"]
    assert [entry["step"] for entry in result.history if "accuracy" in entry] == [2, 4, 6, 8]
    assert result.best_step == 4
    assert result.metrics == {"accuracy": 50.0, "macro_f1": 0.0}
    assert difference(result.prompt, seen[1]["a"]) == 0
    assert difference(result.prompt, seen[3]["a"]) > 1e-3


def test_a_named_metric_chooses(monkeypatch):
    seen = scripted(monkeypatch, [20.0, 50.0])
    result = trained("decoder-only", [short_run(evaluate_every=2, steps=4, metric="macro_f1")])["a"]
    assert result.best_step == 2
    assert difference(result.prompt, seen[0]["a"]) == 0


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_a_score_that_is_nan_fails_the_run_alone(metric, monkeypatch, tmp_path):
    """Nothing is larger than NaN, so the first prompt was kept for ever; and no run's folder could be written."""
    good = {"accuracy": 20.0, "macro_f1": 10.0}
    real = session.evaluate_many
    calls = []

    def scoring(model, jobs, **settings):
        real(model, jobs, **settings)
        calls.append(sorted(run for run, _ in jobs))
        return {name: {**good, metric: math.nan} if name[0] == "a" and len(calls) == 2 else good for name in jobs}

    monkeypatch.setattr(session, "evaluate_many", scoring)
    runs = [short_run(name, evaluate_every=2, steps=6) for name in "ab"]
    result = trained("decoder-only", runs, output_dir=tmp_path)
    assert calls == [["a", "b"], ["a", "b"], ["b"]]
    assert result["a"].status == "failed"
    assert result["a"].reason == (
        f"run 'a': at step 4 the score '{metric}' is nan; mend its metric, or leave it out of the task's metrics."
    )
    assert result["a"].best_step == 2
    assert result["a"].metrics == good
    assert metric not in result["a"].history[-1]
    assert result["b"].status == "finished"
    assert SoftPrompt.load(tmp_path / "prompts" / "a").info.metrics == {"validation": good}


def test_patience_stops_a_run_and_not_the_others(monkeypatch):
    scripted(monkeypatch, [50.0, 40.0, 60.0, 60.0, 10.0])
    impatient = short_run("a", evaluate_every=2, steps=20, patience=2)
    result = trained("decoder-only", [impatient, short_run("b", steps=14)])
    assert result["a"].status == "stopped early"
    assert result["a"].reason == "no better accuracy in 2 evaluations"
    assert [entry["step"] for entry in result["a"].history] == list(range(1, 11))
    assert result["a"].best_step == 6
    assert result["b"].status == "finished"
    assert result.steps == 14


def test_patience_does_not_stop_what_is_over(monkeypatch):
    scripted(monkeypatch, [50.0, 40.0])
    result = trained("decoder-only", [short_run(evaluate_every=2, steps=4, patience=1)])["a"]
    assert result.status == "finished"
    assert result.reason == ""


@pytest.mark.parametrize(("every", "evaluated"), [(0, []), (None, [5]), (2, [2, 4, 5]), (5, [5]), (9, [5])])
def test_when_a_run_is_evaluated(every, evaluated):
    result = trained("decoder-only", [short_run(evaluate_every=every, steps=5)])["a"]
    assert [entry["step"] for entry in result.history if "accuracy" in entry] == evaluated
    assert set(result.metrics) == ({"accuracy", "macro_f1"} if evaluated else set())


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder", "encoder-only"])
@pytest.mark.parametrize("method", [PromptTuning(length=3), PrefixTuning(length=2, hidden=8)], ids=["rows", "keys"])
def test_the_artefact_loads_and_scores_the_same(kind, method, tmp_path):
    run = short_run("a", method=method, task=sentiment(), evaluate_every=2, steps=6)
    result = trained(kind, [run], output_dir=tmp_path)["a"]
    assert result.path == tmp_path / "prompts" / "a"
    loaded = SoftPrompt.load(result.path)
    assert difference(loaded, result.prompt) == 0
    assert loaded.info.task == "sentiment"
    assert TextFormat.from_mapping(loaded.info.format) == run.task.format
    end = {"status": "finished", "reason": "", "best_step": result.best_step}
    assert loaded.info.run == json.loads(json.dumps({**run.settings(), **end}))
    assert loaded.info.metrics == {"validation": result.metrics}
    again = evaluate(calm_backbone(kind), loaded, run.task, by="rank")
    assert dict(again) == result.metrics
    lines = (tmp_path / "runs" / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
def test_each_evaluation_is_of_the_prompt_as_it_is_then(optimizer, monkeypatch):
    """With AdamW as one kernel, every evaluation but the first was of the first one's prompt."""
    real, steps = session.evaluate_many, []

    def scoring(model, jobs, **settings):
        steps.append(model.prompts["a"].fold())
        return real(model, jobs, **settings)

    monkeypatch.setattr(session, "evaluate_many", scoring)
    method = PrefixTuning(length=3, hidden=8)
    run = short_run("a", method=method, optimizer=optimizer, learning_rate=0.1, evaluate_every=2, steps=8)
    history = trained("decoder-only", [run])["a"].history
    found = [entry["accuracy"] for entry in history if "accuracy" in entry]
    backbone = calm_backbone("decoder-only")
    assert found == [evaluate(backbone, prompt, run.task, by="rank")["accuracy"] for prompt in steps]
    assert len(set(found)) > 1


def test_generated_answers_are_scored_as_evaluate_does():
    run = short_run("a", task=describing(), evaluate_every=None, max_new_tokens=5, evaluate_rows=4)
    result = trained("encoder-decoder", [run])["a"]
    again = evaluate(calm_backbone("encoder-decoder"), result.prompt, run.task, max_new_tokens=5, rows=4)
    assert dict(again) == result.metrics
    assert set(result.metrics) == {"exact_match", "token_f1"}


def test_labels_can_be_generated():
    run = short_run("a", by="generate", evaluate_every=None)
    assert set(trained("decoder-only", [run])["a"].metrics) == {"accuracy", "macro_f1", "illegal", "empty"}


def test_training_learns():
    """A random backbone cannot say labels alone at once; a prefix soon makes it."""
    task = sentiment(rows=60)
    run = short_run(
        "a",
        task=task,
        method=PrefixTuning(length=4, hidden=None, init="vocab"),
        optimizer="adamw",
        learning_rate=0.2,
        batch_size=16,
        steps=60,
        evaluate_every=10,
    )
    result = trained("encoder-decoder", [run])["a"]
    losses = [entry["loss"] for entry in result.history]
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_an_evaluation_that_cannot_be_is_refused_before_training(monkeypatch):
    monkeypatch.setattr(session, "backward_in_memory", pytest.fail)
    unknown = short_run(evaluate_every=2, metric="rouge9")
    with pytest.raises(ConfigError, match=r"Unknown metric of run 'a' 'rouge9'\..* Known: accuracy, macro_f1"):
        trained("decoder-only", [unknown])
    generating = short_run(evaluate_every=2, by="generate")
    with pytest.raises(ConfigError, match="by='generate' needs a model that generates text, but calm encoder-only"):
        trained("encoder-only", [generating])
    long = sentiment()
    texts = [dataclasses.replace(e, columns={**e.columns, "text": "film " * 200}) for e in long.examples("validation")]
    long = dataclasses.replace(long, _examples={**long._examples, "validation": texts})
    with pytest.raises(LengthError, match=r"^validation:0: An input has 202 tokens, but only"):
        trained("decoder-only", [short_run(task=long, evaluate_every=None)])


def absent(predictions, references):
    raise MissingDependencyError("it needs a jar: pip install jar")


def test_a_metric_that_cannot_be_computed_is_named_and_left_out(monkeypatch, capsys):
    monkeypatch.setitem(registry.METRICS._values, "absent", absent)
    run = short_run("a", task=sentiment(metrics=["accuracy", "absent"]), evaluate_every=None, steps=1)
    assert set(trained("decoder-only", [run], progress=True)["a"].metrics) == {"accuracy"}
    assert "absent is left out: it needs a jar: pip install jar" in capsys.readouterr().err


def test_slow_metrics_are_computed_while_training_only_to_choose_by_them(monkeypatch, capsys):
    """METEOR would start Java at every evaluation of every run, and TER takes a minute for some hundred rows."""
    calls = []

    def slow(answers):
        calls.append(len(answers.predictions))
        return {"slow": 1.0}

    monkeypatch.setitem(registry.METRICS._values, "slow", Scorer(function=slow, scores=("slow",), slow=True))
    monkeypatch.setitem(registry.METRICS._values, "absent", Scorer(function=absent, scores=("absent",), slow=True))
    task = sentiment(metrics=["accuracy", "slow", "absent"])
    run = short_run("a", task=task, evaluate_every=None, steps=1)
    assert set(trained("decoder-only", [run], progress=True)["a"].metrics) == {"accuracy"}
    assert (calls, "absent" in capsys.readouterr().err) == ([], False)
    chosen = short_run("a", task=task, evaluate_every=None, steps=1, metric="slow")
    assert set(trained("decoder-only", [chosen])["a"].metrics) == {"accuracy", "slow"}
    assert len(calls) == 2


def test_no_checkpoint_is_chosen_by_what_cannot_be_computed(monkeypatch):
    monkeypatch.setattr(session, "backward_in_memory", pytest.fail)
    monkeypatch.setitem(registry.METRICS._values, "absent", absent)
    run = short_run("a", task=sentiment(metrics=["absent", "accuracy"]), evaluate_every=None)
    with pytest.raises(MissingDependencyError, match=r"run 'a' is to be chosen by 'absent'\. it needs a jar"):
        trained("decoder-only", [run])


def test_no_checkpoint_is_chosen_by_an_error_rate(monkeypatch):
    """The more errors, the better the prompt would be."""
    monkeypatch.setattr(session, "backward_in_memory", pytest.fail)
    run = short_run("a", task=sentiment(metrics=["ter", "accuracy"]), evaluate_every=None)
    with pytest.raises(ConfigError, match="run 'a' is to be chosen by 'ter', but less of it is better; set metric to"):
        trained("decoder-only", [run])
    short_run("a", task=sentiment(metrics=["ter", "accuracy"]), metric="accuracy").check_watched(
        sentiment(metrics=["ter", "accuracy"]), ["ter", "accuracy"], {}
    )


def test_groups_are_scored_while_training():
    rows = [
        Row(f"train:{n}", {"question": str(n // 3), "text": "film " * (n % 5 + 1), "label": str(n % 2)})
        for n in range(12)
    ]
    form = TextFormat(input="{text}", target="{label}", label_words={"0": "bad", "1": "good"})
    task = Task.from_splits(
        {"train": rows, "validation": rows}, form, name="questions", metrics=["multirc"], group="question"
    )
    run = short_run("a", task=task, evaluate_every=None, evaluate_rows=5)
    result = trained("decoder-only", [run])["a"]
    again = evaluate(calm_backbone("decoder-only"), result.prompt, task, rows=5)
    assert run.watches == "f1a"
    assert dict(again) == result.metrics
    assert [row.group for row in again.predictions] == sorted([row.group for row in again.predictions])
    assert len(again.predictions) == 6
