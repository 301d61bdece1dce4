"""`softprompt evaluate`: score a prompt, or what it must beat, on a task."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

from softprompt.cli.tables import print_table

__all__ = ["evaluate_prompt"]


def evaluate_prompt(
    *,
    backbone: str,
    prompt: str | None = None,
    text_prompt: str | None = None,
    majority: bool = False,
    task: str | None = None,
    data_dir: str | None = None,
    train_file: str | None = None,
    validation_file: str | None = None,
    test_file: str | None = None,
    dataset: str | None = None,
    subset: str | None = None,
    splits: dict[str, str] | None = None,
    dataset_revision: str | None = None,
    split_seed: int | None = None,
    input: str | None = None,
    target: str | None = None,
    label_words: dict[str, str] | None = None,
    metrics: list[str] | None = None,
    chat: bool = False,
    system: str | None = None,
    words: str | None = None,
    context: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    split: str = "validation",
    by: Literal["generate", "rank"] | None = None,
    rows: int | None = None,
    max_new_tokens: int | None = None,
    truncate: bool = False,
    output: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    classes: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    batch_tokens: int = 16384,
) -> None:
    """Score a prompt on a task: metrics with 95 % intervals, and every prediction in a file if asked.

    Without a prompt the bare backbone is scored. Files and data sets are read in the format that is stored with the
    prompt, unless --input, --target, --label_words or --chat say another.

    Args:
        backbone: Hub id, folder, or bundled:NAME.
        prompt: The prompt's folder.
        text_prompt: Words to put before each input instead of a prompt.
        majority: Score the most frequent training target instead of a model.
        task: A task's name (see `softprompt tasks list`); or give files or a data set.
        data_dir: Folder with the task's original files.
        train_file: JSONL, CSV, TSV or Parquet file; alone, it is split in three.
        validation_file: File of the validation split.
        test_file: File of the test split.
        dataset: Data set of the hub, or a folder that `datasets` loads, instead of files.
        subset: Which of the data set's configurations.
        splits: Our splits to the data set's, e.g. {"train": train, "validation": validation_matched}.
        dataset_revision: The data set's branch, tag or commit on the hub.
        split_seed: Seed by which data that come in one piece are split in three; by default that of the prompt's
            training, so that its test rows are none that it was trained on; without a prompt 0: give the prompt's seed
            to score its rivals on the same rows.
        input: Template of the input over the data's columns, e.g. "{text}".
        target: Template of the target, e.g. "{label}".
        label_words: Word for each value of the target's column, e.g. {"0": bad, "1": great}.
        metrics: Names of metrics.
        chat: Whether to put the tokenizer's chat template around inputs.
        system: The conversation's system turn, with chat; {prompt} or {soft:N} may stand in it.
        words: Column of the input whose words are tagged; the target's column holds a tag for each.
        context: Column of the input in whose words the target stands, as an answer does in a passage.
        on_bad_row: Whether a bad row is an error or is skipped and counted.
        split: Which split to score on.
        by: Rank the task's label words, or generate; ranks if the task has label words.
        rows: Score that many rows only, drawn by a fixed seed.
        max_new_tokens: Longest text to generate, in tokens.
        truncate: Cut inputs that are too long, instead of failing.
        output: File for the predictions, one JSON object per row.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        device: auto, cpu, cuda, mps.
        classes: Give an encoder without classification head a new one of so many classes, for prompts with heads.
        revision: The backbone's branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the backbone may run.
        batch_tokens: Most tokens per batch, padding included.
    """
    settings = dict(locals())
    from dataclasses import asdict

    import softprompt as sp
    from softprompt.cli.data import read_task
    from softprompt.errors import ConfigError
    from softprompt.evaluation import TextPrompt, evaluate_majority
    from softprompt.inference import BatchLimits
    from softprompt.loop.progress import Progress

    if (prompt is not None) + (text_prompt is not None) + majority > 1:
        raise ConfigError("Give at most one of --prompt, --text_prompt and --majority.")
    soft = sp.SoftPrompt.load(prompt) if prompt is not None else None
    loaded_task = read_task(settings, soft.info if soft else None)
    if majority:
        evaluation = evaluate_majority(loaded_task, split, rows=rows)
    else:
        loaded = sp.Backbone.from_pretrained(
            backbone,
            dtype=dtype,
            device=device,
            classes=classes,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        with Progress() as progress:
            count = len(loaded_task.examples(split))
            bar = progress.add(loaded_task.name, total=count if rows is None else min(rows, count))
            evaluation = sp.evaluate(
                loaded,
                TextPrompt(text_prompt) if text_prompt is not None else soft,
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
    for name, reason in evaluation.missing.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    if output is not None:
        lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in evaluation.predictions)
        Path(output).write_text("".join(lines), encoding="utf-8")
