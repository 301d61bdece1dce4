"""What is said of the cost of ensembles, by the number of their members."""

from __future__ import annotations

import benchmarks.ensembles as ensembles
from tests.models import tiny_backbone

from softprompt.prompts import PromptTuning
from softprompt.tasks import Task

ROWS = [
    {"sentence": f"the film was {word}", "label": label} for word, label in (("good", 1), ("bad", 0), ("sad", 0)) * 4
]


def test_cost_is_told_by_the_number_of_members(monkeypatch):
    """Of one member either way is the same work; of several, each member's rows go through the model."""
    backbone = tiny_backbone("decoder-only")
    task = Task.from_rows(
        {"train": ROWS, "validation": ROWS, "test": ROWS},
        name="films",
        input="{sentence} the film is",
        target="{label}",
        label_words={"0": "bad", "1": "good"},
    )
    prompts = [PromptTuning(length=3, init="random").build(backbone, seed=seed) for seed in range(3)]
    asked = []
    classify = ensembles.classify
    monkeypatch.setattr(ensembles, "classify", lambda model, queries: asked.append(queries) or classify(model, queries))
    found = ensembles.cost(backbone, prompts, task, rounds=1)
    assert [one["count"] for one in found] == [1, 2, 3]
    assert found[0]["one pass"] == 1
    assert all(one["passes"] > 0 for one in found)
    assert len(asked) == 2 * (3 + 1 + 2 + 3)  # warmed up and timed: a call for each ensemble, one for each member
    assert {len(queries) for queries in asked} == {len(ROWS)}
