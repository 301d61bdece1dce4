"""`softprompt evaluate`: score a prompt, or what it must beat, on a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from softprompt.cli.tables import print_table

__all__ = ["evaluate_prompt"]


def evaluate_prompt(
    *,
    backbone: str,
    task: str,
    prompt: str | None = None,
    text_prompt: str | None = None,
    majority: bool = False,
    data_dir: str | None = None,
    split: str = "validation",
    by: Literal["generate", "rank"] | None = None,
    rows: int | None = None,
    max_new_tokens: int | None = None,
    truncate: bool = False,
    output: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int = 16384,
) -> None:
    """Score a prompt on a task: metrics with 95 % intervals, and every prediction in a file if asked.

    Without a prompt the bare backbone is scored.

    Args:
        backbone: Hub id, folder, or bundled:NAME.
        task: A task's name (see `softprompt tasks list`).
        prompt: The prompt's folder.
        text_prompt: Words to put before each input instead of a prompt.
        majority: Score the most frequent training target instead of a model.
        data_dir: Folder with the task's original files.
        split: Which split to score on.
        by: Rank the task's label words, or generate; ranks if the task has label words.
        rows: Score that many rows only, drawn by a fixed seed.
        max_new_tokens: Longest text to generate, in tokens.
        truncate: Cut inputs that are too long, instead of failing.
        output: File for the predictions, one JSON object per row.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        device: auto, cpu, cuda, mps.
        batch_tokens: Most tokens per batch, padding included.
    """
    from dataclasses import asdict

    import softprompt as sp
    from softprompt.errors import ConfigError
    from softprompt.evaluation import TextPrompt, evaluate_majority
    from softprompt.inference import BatchLimits
    from softprompt.loop.progress import Progress

    if (prompt is not None) + (text_prompt is not None) + majority > 1:
        raise ConfigError("Give at most one of --prompt, --text_prompt and --majority.")
    loaded_task = sp.load_task(task, data_dir)
    if majority:
        evaluation = evaluate_majority(loaded_task, split)
    else:
        scored = sp.SoftPrompt.load(prompt) if prompt else TextPrompt(text_prompt) if text_prompt else None
        with Progress() as progress:
            bar = progress.add(task, total=min(rows or 10**9, len(loaded_task.examples(split))))
            evaluation = sp.evaluate(
                sp.Backbone.from_pretrained(backbone, dtype=dtype, device=device),
                scored,
                loaded_task,
                split,
                by,
                rows=rows,
                max_new_tokens=max_new_tokens,
                truncate=truncate,
                limits=BatchLimits(tokens=batch_tokens),
                progress=bar.advance,
            )
    print_table(
        ("metric", "score", "95 % from", "to"),
        [(name, float(score), *evaluation.intervals[name]) for name, score in evaluation.items()],
    )
    if output is not None:
        lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in evaluation.predictions)
        Path(output).write_text("".join(lines), encoding="utf-8")
