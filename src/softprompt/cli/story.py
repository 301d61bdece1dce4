"""What `softprompt demo` trains, compares and asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import softprompt as sp
from softprompt.backbones import Backbone
from softprompt.cli.tables import print_table
from softprompt.evaluation import Evaluation, TextPrompt, evaluate_majority
from softprompt.prompts import SoftPrompt
from softprompt.prompts.registry import Method
from softprompt.tasks import Task
from softprompt.training import Run

__all__ = ["Comparison", "compare", "mixed_batch", "runs"]

_TEXT_PROMPTS = {
    "subjectivity": "Say whether the sentence is subjective or objective.",
    "sentiment": "Say whether the film is good or bad.",
    "restaurant": "Write a sentence that says all of this about the restaurant.",
}
# Nothing is chosen by them; they show that it learns.
_VALIDATION_ROWS = 50
_NEW_TOKENS = 64


def runs(steps: int | None) -> list[Run]:
    """A classification by prompt tuning, sentiment and data-to-text by prefix tuning.

    Rows of prompt tuning are appended, next to the answer, where they do more in a backbone this small.

    Args:
        steps: Most optimizer steps of each; None takes all that it needs.
    """

    def run(name: str, task: Task, method: Method, *, rate: float, batch: int, needs: int, **own: Any) -> Run:
        taken = needs if steps is None else min(steps, needs)
        return sp.Run(name=name, task=task, method=method, learning_rate=rate, batch_size=batch, steps=taken,
                      warmup_steps=min(20, taken), optimizer="adamw", schedule="linear", truncate=True,
                      evaluate_rows=_VALIDATION_ROWS, **own)  # fmt: skip

    words = sp.PromptTuning(length=20, init="class_labels", placement="append")
    keys, activations = (sp.PrefixTuning(length=10, hidden=None, init=init) for init in ("random", "vocab"))
    return [
        run("subjectivity", sp.load_task("subj"), words, rate=0.1, batch=16, needs=300),
        run("sentiment", _films(), keys, rate=0.05, batch=16, needs=700),
        run(
            "restaurant",
            sp.load_task("e2e_sample"),
            activations,
            rate=0.1,
            batch=8,
            needs=700,
            max_new_tokens=_NEW_TOKENS,
        ),
    ]


def _films() -> Task:
    """Sentences from film reviews, asked for in words that a language model would go on with."""
    return sp.load_task("sentence_polarity").with_format(
        input="{text}\n\nThis film is", label_words={"negative": "bad", "positive": "good"}
    )


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A prompt and what it must beat, on the same held-out rows.

    Attributes:
        metric: The task's metric.
        scores: By name, the prompt's own last.
    """

    metric: str
    scores: dict[str, Evaluation]

    @property
    def rows(self) -> int:
        """Rows that each was scored on."""
        return min(len(evaluation.predictions) for evaluation in self.scores.values())

    def cells(self) -> list[str]:
        """Each score with its 95 % interval."""
        return [_with_interval(evaluation, self.metric) for evaluation in self.scores.values()]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values."""
        scores = {name: {"score": one[self.metric], "interval": list(one.intervals[self.metric]),
                         "rows": len(one.predictions)}
                  for name, one in self.scores.items()}  # fmt: skip
        return {"metric": self.metric, "scores": scores}


def compare(backbone: Backbone, run: Run, prompt: SoftPrompt, rows: int) -> Comparison:
    """Score a run's prompt and its rivals on the test split.

    Args:
        backbone: The frozen model.
        run: What was trained.
        prompt: What came of it.
        rows: Most rows to score on.

    Returns:
        The scores of the prompt and of its rivals.
    """
    task = run.tasks[0]
    task = replace(task, metrics=task.metrics[:1])  # others would have intervals computed that are not shown
    count = min(rows, len(task.examples("test")))
    scores = {"most frequent answer": evaluate_majority(task, "test", rows=count)}
    rivals = {"bare backbone": None, "text prompt": TextPrompt(_TEXT_PROMPTS[run.name]), "soft prompt": prompt}
    for name, rival in rivals.items():
        scores[name] = sp.evaluate(
            backbone, rival, task, "test", run.by, rows=count, max_new_tokens=run.max_new_tokens, truncate=True
        )
    return Comparison(metric=run.watches, scores=scores)


def _with_interval(evaluation: Evaluation, metric: str) -> str:
    low, high = evaluation.intervals[metric]
    return f"{evaluation[metric]:.1f} [{low:.1f}, {high:.1f}]"


def mixed_batch(backbone: Backbone, prompts: dict[str, SoftPrompt], asked_of: list[Run]) -> None:
    """Answer one batch in which each row has another prompt, and print it.

    Args:
        backbone: The frozen model.
        prompts: The prompts by name.
        asked_of: The runs whose prompts are asked, each for the first row of its task's test split.
    """
    model = sp.Prompted(backbone, prompts)
    asked = [(run.name, run.tasks[0].examples("test")[0]) for run in asked_of]
    answers = model.generate(
        [example.columns for _, example in asked], prompts=[name for name, _ in asked], max_new_tokens=_NEW_TOKENS
    )
    print("\nOne batch, each row with its own prompt; answers are generated:\n")
    print_table(
        ("prompt", "input", "answer"),
        [
            (name, " ".join(example.input.split())[:70], answer)
            for (name, example), answer in zip(asked, answers, strict=True)
        ],
    )
