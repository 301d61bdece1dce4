"""What `softprompt demo` trains, compares and asks."""

from __future__ import annotations

from typing import Any

import softprompt as sp
from softprompt.backbones import Backbone
from softprompt.cli.tables import print_table
from softprompt.evaluation import Evaluation, TextPrompt, evaluate_majority
from softprompt.prompts import SoftPrompt
from softprompt.training import Run

__all__ = ["mixed_batch", "runs", "scores"]

_TEXT_PROMPTS = {
    "topic": "Name the topic of the question: banking, travel, work, home or another.",
    "sentiment": "Is the sentence about a film positive or negative?",
    "restaurant": "Write a sentence that says all of this about the restaurant.",
}


def runs() -> list[Run]:
    """A classification by prompt tuning, sentiment and data-to-text by prefix tuning."""
    shared: dict[str, Any] = {
        "steps": 400,
        "evaluate_every": 100,
        "schedule": "linear",
        "warmup_steps": 20,
        "truncate": True,
    }
    prefix: dict[str, Any] = {
        "method": sp.PrefixTuning(length=10, hidden=None, init="vocab"),
        "optimizer": "adamw",
        "learning_rate": 0.02,
        **shared,
    }
    rows = sp.PromptTuning(length=20, init="class_labels")
    topic, sentiment = sp.load_task("clinc150_domains"), sp.load_task("sentence_polarity")
    restaurant = sp.load_task("e2e_sample")
    return [
        sp.Run(name="topic", task=topic, method=rows, learning_rate=0.3, evaluate_rows=300, **shared),
        sp.Run(name="sentiment", task=sentiment, evaluate_rows=300, **prefix),
        sp.Run(name="restaurant", task=restaurant, batch_size=16, evaluate_rows=50, max_new_tokens=64, **prefix),
    ]


def scores(backbone: Backbone, run: Run, prompt: SoftPrompt, rows: int) -> list[str]:
    """A run's prompt and its rivals on the test split."""
    by = run.evaluates_by
    count = min(rows, len(run.task.examples("test")))
    rivals = (None, TextPrompt(_TEXT_PROMPTS[run.name]), prompt)
    scored = [
        sp.evaluate(
            backbone, rival, run.task, "test", by, rows=count, max_new_tokens=run.max_new_tokens, truncate=True
        )
        for rival in rivals
    ]  # fmt: skip
    return [_with_interval(one, run.watches) for one in (evaluate_majority(run.task, "test", rows=count), *scored)]


def _with_interval(evaluation: Evaluation, metric: str) -> str:
    low, high = evaluation.intervals[metric]
    return f"{evaluation[metric]:.1f} [{low:.1f}, {high:.1f}]"


def mixed_batch(backbone: Backbone, prompts: dict[str, SoftPrompt], asked_of: list[Run]) -> None:
    """One batch in which each row has another prompt."""
    model = sp.Prompted(backbone, prompts)
    asked = [(run.name, run.task.examples("test")[0]) for run in asked_of]
    answers = model.generate(
        [example.columns for _, example in asked], prompts=[name for name, _ in asked], max_new_tokens=48
    )
    print("\nOne batch, each row with its own prompt:\n")
    print_table(
        ("prompt", "input", "answer"),
        [(name, example.input[:70], answer) for (name, example), answer in zip(asked, answers, strict=True)],
    )
