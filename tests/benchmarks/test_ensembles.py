"""What is said about ensembles is computed from the scores and times of their members."""

from __future__ import annotations

import statistics

import benchmarks.ensembles as ensembles
import pytest
from tests.models import tiny_backbone

from softprompt.prompts import PromptTuning
from softprompt.tasks import Task

ROWS = [
    {"sentence": f"the film was {word}", "label": label} for word, label in (("good", 1), ("bad", 0), ("sad", 0)) * 4
]


@pytest.fixture(scope="module")
def task():
    return Task.from_rows(
        {"train": ROWS, "validation": ROWS, "test": ROWS},
        name="films",
        input="{sentence} the film is",
        target="{label}",
        label_words={"0": "bad", "1": "good"},
    )


@pytest.fixture(scope="module")
def prompts():
    return [PromptTuning(length=3, init="random").build(tiny_backbone("decoder-only"), seed=seed) for seed in range(15)]


def test_gain_is_told_by_draw(task, prompts):
    found = ensembles.gain(tiny_backbone("decoder-only"), prompts, task)
    assert found["test_rows"] == len(ROWS)
    assert len(found["draws"]) == ensembles.DRAWS
    for draw in found["draws"]:
        assert draw["mean of members"] == pytest.approx(statistics.fmean(draw["members"]))
        assert draw["best on validation"] == max(draw["members"])  # the same rows here
        assert 0 <= draw["vote"] <= 100
        assert 0 <= draw["mean of probabilities"] <= 100


def test_cost_is_told_by_the_number_of_members(task, prompts):
    found = ensembles.cost(tiny_backbone("decoder-only"), prompts, task, rounds=1)
    assert [one["members"] for one in found] == list(range(1, ensembles.MOST + 1))
    assert found[0]["one pass"] == 1
    assert all(one["passes"] > 0 for one in found)


def test_prompts_are_trained_once_and_read_again(task, tmp_path):
    few = [one.to_parts()[0] for one in ensembles.trained(tiny_backbone("decoder-only"), task, tmp_path, steps=4)]
    again = [one.to_parts()[0] for one in ensembles.trained(tiny_backbone("decoder-only"), task, tmp_path, steps=4)]
    assert len(few) == ensembles.DRAWS * ensembles.MEMBERS
    for one, other in zip(few, again, strict=True):
        assert all(one[name].equal(other[name]) for name in one)
