"""Settings of runs and sessions check themselves."""

from __future__ import annotations

import dataclasses
import json

import jaxtyping
import pytest

from softprompt.errors import ConfigError
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.tasks import Task
from softprompt.training import Run, TrainConfig

ROWS = [{"text": "a good film", "label": "1"}, {"text": "bad", "label": "0"}]


def task(splits=("train", "validation"), **settings) -> Task:
    return Task.from_rows(dict.fromkeys(splits, ROWS), **{"input": "{text}", "target": "{label}", **settings})


def labelled() -> Task:
    return task(label_words={"0": "bad", "1": "good"})


def run(**settings) -> Run:
    return Run(**{"name": "a", "method": PromptTuning(length=3), "task": labelled(), **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a/b"}, r"^name='a/b': expected letters, digits, '_', '\.', '-', at most 100 of them\.$"),
        ({"name": ""}, r"^name='': expected letters"),
        ({"name": ".hidden"}, r"^name='\.hidden': expected letters"),
        ({"name": "x" * 101}, r"at most 100 of them\.$"),
        ({"optimizer": "sgd"}, r"^optimizer='sgd': expected one of 'adafactor', 'adamw'\.$"),
        ({"schedule": "step"}, r"^schedule='step': expected one of 'constant', 'cosine', 'inverse_sqrt', 'linear'\.$"),
        ({"by": "guess"}, r"^by='guess': expected one of 'generate', 'rank', None\.$"),
        ({"batch_size": 0}, r"^batch_size=0: expected at least 1\.$"),
        ({"batch_tokens": 0}, r"^batch_tokens=0: expected at least 1\.$"),
        ({"accumulate": 0}, r"^accumulate=0: expected at least 1\.$"),
        ({"steps": 0}, r"^steps=0: expected at least 1\.$"),
        ({"evaluate_rows": 0}, r"^evaluate_rows=0: expected at least 1\.$"),
        ({"patience": 0}, r"^patience=0: expected at least 1\.$"),
        ({"max_input_tokens": 0}, r"^max_input_tokens=0: expected at least 1\.$"),
        ({"max_new_tokens": 0}, r"^max_new_tokens=0: expected at least 1\.$"),
        ({"warmup_steps": -1}, r"^warmup_steps=-1: expected at least 0\.$"),
        ({"evaluate_every": -1}, r"^evaluate_every=-1: expected at least 0\.$"),
        ({"weight_decay": -0.1}, r"^weight_decay=-0\.1: expected at least 0\.$"),
        ({"learning_rate": 0.0}, r"^learning_rate=0\.0: expected a positive number\.$"),
        ({"learning_rate": float("nan")}, r"^learning_rate=nan: expected a positive number\.$"),
        ({"learning_rate": "high"}, r"^learning_rate='high': expected a number, but got str\.$"),
        ({"batch_size": 2.5}, r"^batch_size=2\.5: expected a whole number, but got float\.$"),
        ({"clip_norm": -1.0}, r"^clip_norm=-1\.0: expected a positive number\.$"),
        ({"warmup_steps": 9, "steps": 8}, r"^warmup_steps=9 is more than steps=8\.$"),
        ({"task": task(), "by": "rank"}, r"^run 'a': by='rank' needs label words, which rows has not\.$"),
        ({"task": task(["validation"])}, r"^run 'a': the task rows has no train split\.$"),
        (
            {"task": task(["train", "test"])},
            r"^run 'a': the task rows has no validation split; give it one, or set evaluate_every=0\.$",
        ),
    ],
)
def test_a_run_refuses_what_cannot_be(settings, message, monkeypatch):
    """Without the types that tests check, as users run it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ConfigError, match=message):
        run(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, r"^precision='fp16': expected one of 'float32', 'bf16'\.$"),
        ({"conditioning": "both"}, r"^conditioning='both': expected one of 'auto', 'shared', 'concatenation'\.$"),
        ({"pass_tokens": "many"}, r"^pass_tokens='many': expected a whole number, but got str\.$"),
        ({"pass_tokens": 0}, r"^pass_tokens=0: expected at least 1\.$"),
        ({"checkpoint_every": 0}, r"^checkpoint_every=0: expected at least 1\.$"),
        ({"keep_checkpoints": 0}, r"^keep_checkpoints=0: expected at least 1\.$"),
        ({"evaluation_tokens": 0}, r"^evaluation_tokens=0: expected at least 1\.$"),
    ],
)
def test_a_session_refuses_what_cannot_be(settings, message, monkeypatch):
    """Without the types that tests check, as users run it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


def test_the_edges_are_allowed():
    found = run(name="x" * 100, warmup_steps=8, steps=8, evaluate_every=0, task=task(["train", "test"]))
    assert found.evaluate_every == 0
    assert TrainConfig(trackers=["tensorboard"]).trackers == ("tensorboard",)


@pytest.mark.parametrize(
    ("settings", "by", "watches"),
    [
        ({}, "rank", "accuracy"),
        ({"by": "generate"}, "generate", "accuracy"),
        ({"task": task()}, "generate", "exact_match"),
        ({"metric": "macro_f1"}, "rank", "macro_f1"),
        ({"task": task(metrics=["bleu", "chrf"])}, "generate", "bleu"),
    ],
)
def test_how_a_run_is_evaluated_unless_it_says(settings, by, watches):
    made = run(**settings)
    assert made.evaluates_by(made.task) == by
    assert run(**settings).watches == watches


def test_settings_are_plain_and_name_method_and_task():
    found = run(method=PrefixTuning(length=2, hidden=8), clip_norm=1.0).settings()
    assert json.loads(json.dumps(found)) == found
    assert found["method"]["name"] == "prefix_tuning"
    assert found["method"]["hidden"] == 8
    assert found["task"] == "rows"
    assert found["data"] == {
        "rows": {"train": 2, "validation": 2},
        "skipped": {},
        "duplicates": {"train, validation": 2},
    }
    assert set(found) == {field.name for field in dataclasses.fields(Run)} | {"data"}
