"""SuperGLUE: how its files lie in a folder, and where they are on the hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.hub import Adapt, HubSource, unchanged
from softprompt.tasks.rows import Row, not_empty, read_rows

__all__ = ["SOURCE", "SPLITS", "SUPERGLUE", "benchmark_folder", "read_superglue", "superglue_hub", "superglue_layout"]

SOURCE = "https://super.gluebenchmark.com/tasks"
SUPERGLUE = "Wang et al. 2019, SuperGLUE: A Stickier Benchmark for General-Purpose Language Understanding, NeurIPS"
SPLITS = ("train", "validation")
TRAIN = ("train.jsonl", "{name}_train_joined.jsonl")
PARTS = ("{name}_val_part_train.jsonl", "{name}_val_part_dev.jsonl")


def benchmark_folder(folder: Path, name: str) -> Path:
    """One task's folder: the folder itself, or the one of that name in it, as the benchmark's archive has it."""
    return folder / name if (folder / name).is_dir() else folder


def read_superglue(folder: Path, *, name: str, adapt: Adapt = unchanged) -> dict[str, Iterable[Row]]:
    """The rows of a task's JSON lines at hand by split; `test.jsonl` has no labels and is not read.

    A few-shot copy has a `dev32.jsonl`, which validates; its `val.jsonl`, if it is there, is then the test split. Where
    the validation file alone was to be had, its two parts are read instead, never with all of it.

    Args:
        folder: The task's folder, or that of the whole benchmark.
        name: How the benchmark calls the task's folder, e.g. `BoolQ`.
        adapt: From a split's rows as published to those of the task.

    References:
        Schick and Schütze 2021 (few-shot SuperGLUE); Liu et al. 2021, §4.1 (its `dev32` sets).
    """
    home = benchmark_folder(folder, name)
    train, parts = [part.format(name=name) for part in TRAIN], [part.format(name=name) for part in PARTS]
    if (home / "dev32.jsonl").is_file():
        wanted = {"train": train, "validation": ["dev32.jsonl"], "test": ["val.jsonl"]}
    elif any((home / file).is_file() for file in (*train, "val.jsonl")):
        wanted = {"train": train, "validation": ["val.jsonl"]}
    else:
        wanted = {"train": [*train, parts[0]], "validation": ["val.jsonl", parts[1]]}
    files = files_at_hand(home, wanted)
    return {split: adapt(split, not_empty(file, read_rows(file))) for split, (file, *_) in files.items()}


def superglue_hub(subset: str, adapt: Adapt = unchanged) -> HubSource:
    """A task's place on the hub."""
    return HubSource(path="aps/super_glue", subset=subset, splits={split: split for split in SPLITS}, adapt=adapt)


def superglue_layout(name: str) -> str:
    """What a folder of users must hold."""
    joined, *parts = (file.format(name=name) for file in (TRAIN[1], *PARTS))
    return (
        f"train.jsonl and val.jsonl of SuperGLUE's {name}, or of its few-shot copies (with dev32.jsonl, which "
        f"validates; val.jsonl is then the test split); also in a folder {name}. Those of them that are at hand; for "
        f"train.jsonl also {joined} (labels joined from elsewhere), and for both {' and '.join(parts)} (a split of "
        "val.jsonl)."
    )
