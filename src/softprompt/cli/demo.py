"""`softprompt demo`: the whole story on a bundled backbone and bundled data, offline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt.cli.tables import print_table

if TYPE_CHECKING:
    from softprompt.backbones import Backbone
    from softprompt.evaluation import Evaluation
    from softprompt.training import Run

__all__ = ["demo"]

_TEXT_PROMPTS = {
    "topic": "Name the topic of the question: banking, travel, work, home or another.",
    "sentiment": "Is the sentence about a film positive or negative?",
    "restaurant": "Write a sentence that says all of this about the restaurant.",
}


def demo(
    *,
    backbone: str = "bundled:gpt-mini",
    output_dir: str = "runs/demo",
    test_rows: int = 400,
    device: str = "cpu",
) -> None:
    """Train three prompts in one session, compare them with what they must beat, and use them in one mixed batch.

    Stopped, the same command goes on where it was.

    Args:
        backbone: A bundled backbone, or any other.
        output_dir: Folder for prompts and checkpoints.
        test_rows: Held-out rows that each task is scored on.
        device: Where to compute.
    """
    import softprompt as sp

    start_s = time.perf_counter()
    loaded = sp.Backbone.from_pretrained(backbone, device=device, dtype="float32")
    runs = _runs()
    print(f"Training {len(runs)} prompts in one session on {backbone}, which stays frozen.\n")
    result = sp.train(loaded, runs, sp.TrainConfig(output_dir=output_dir))
    trained_s = time.perf_counter() - start_s
    print("\nScores on held-out rows, with 95 % intervals:\n")
    print_table(
        ("task", "metric", "most frequent answer", "bare backbone", "text prompt", "soft prompt", "values"),
        [
            (run.name, run.watches, *_scores(loaded, run, result[run.name].prompt, test_rows),
             result[run.name].prompt.num_parameters())
            for run in runs
        ],
    )  # fmt: skip
    _mixed_batch(loaded, {name: one.prompt for name, one in result.items()}, runs)
    total_s = time.perf_counter() - start_s
    print(f"\nTraining took {trained_s:.0f} s, everything {total_s:.0f} s. The prompts are in {output_dir}/prompts:")
    for name, one in result.items():
        size = sum(file.stat().st_size for file in Path(str(one.path)).iterdir())
        print(f"  {one.path}  {size / 1000:.0f} kB  {name}: {type(one.prompt.method).__name__}")


def _runs() -> list[Run]:
    import softprompt as sp

    shared = {"evaluate_rows": 300, "evaluate_every": 100, "schedule": "linear", "warmup_steps": 20}
    return [
        sp.Run(
            name="topic",
            task=sp.load_task("clinc150_domains"),
            method=sp.PromptTuning(length=20, init="class_labels"),
            learning_rate=0.3,
            batch_size=32,
            steps=400,
            **shared,
        ),
        sp.Run(
            name="sentiment",
            task=sp.load_task("sentence_polarity"),
            method=sp.PrefixTuning(length=10, hidden=None, init="vocab"),
            optimizer="adamw",
            learning_rate=0.02,
            batch_size=32,
            steps=400,
            **shared,
        ),
        sp.Run(
            name="restaurant",
            task=sp.load_task("e2e_sample"),
            method=sp.PrefixTuning(length=10, hidden=None, init="vocab"),
            optimizer="adamw",
            learning_rate=0.02,
            batch_size=16,
            steps=400,
            max_new_tokens=64,
            **{**shared, "evaluate_rows": 50},
        ),
    ]


def _scores(backbone: Backbone, run: Run, prompt: object, rows: int) -> list[str]:
    """A run's prompt and its rivals on the test split."""
    import softprompt as sp
    from softprompt.evaluation import TextPrompt, evaluate_majority

    by = run.evaluates_by
    count = min(rows, len(run.task.examples("test")))
    rivals = (None, TextPrompt(_TEXT_PROMPTS[run.name]), prompt)
    scored = [
        sp.evaluate(
            backbone, rival, run.task, "test", by, rows=count, max_new_tokens=run.max_new_tokens, truncate=True
        )
        for rival in rivals
    ]  # fmt: skip
    return [_with_interval(one, run.watches) for one in (evaluate_majority(run.task, "test"), *scored)]


def _with_interval(evaluation: Evaluation, metric: str) -> str:
    low, high = evaluation.intervals[metric]
    return f"{evaluation[metric]:.1f} [{low:.1f}, {high:.1f}]"


def _mixed_batch(backbone: Backbone, prompts: dict[str, object], runs: list[Run]) -> None:
    """One batch in which each row has another prompt."""
    import softprompt as sp

    model = sp.Prompted(backbone, prompts)
    asked = [(run.name, run.task.examples("test")[0]) for run in runs]
    answers = model.generate(
        [example.columns for _, example in asked], prompts=[name for name, _ in asked], max_new_tokens=48
    )
    print("\nOne batch, each row with its own prompt:\n")
    print_table(
        ("prompt", "input", "answer"),
        [(name, example.input[:70], answer) for (name, example), answer in zip(asked, answers, strict=True)],
    )
