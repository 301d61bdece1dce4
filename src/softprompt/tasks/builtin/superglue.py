"""SuperGLUE: how its files lie in a folder, and where they are on the hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from softprompt.tasks.hub import Adapt, HubSource, unchanged
from softprompt.tasks.rows import Row, not_empty, read_rows

__all__ = ["SOURCE", "SPLITS", "SUPERGLUE", "benchmark_folder", "read_superglue", "superglue_hub", "superglue_layout"]

SOURCE = "https://super.gluebenchmark.com/tasks"
SUPERGLUE = "Wang et al. 2019, SuperGLUE: A Stickier Benchmark for General-Purpose Language Understanding, NeurIPS"
SPLITS = ("train", "validation")


def benchmark_folder(folder: Path, name: str) -> Path:
    """One task's folder: the folder itself, or the one of that name in it, as the benchmark's archive has it."""
    return folder / name if (folder / name).is_dir() else folder


def read_superglue(folder: Path, *, name: str, adapt: Adapt = unchanged) -> dict[str, Iterable[Row]]:
    """The rows of a task's JSON lines by split; `test.jsonl` has no labels and is not read.

    A few-shot copy has a `dev32.jsonl`, which validates; its `val.jsonl`, if it is there, is then the test split.

    Args:
        folder: The task's folder, or that of the whole benchmark.
        name: How the benchmark calls the task's folder, e.g. `BoolQ`.
        adapt: From a split's rows as published to those of the task.

    References:
        Schick and Schütze 2021 (few-shot SuperGLUE); Liu et al. 2021, §4.1 (its `dev32` sets).
    """
    home = benchmark_folder(folder, name)
    files = {"train": home / "train.jsonl", "validation": home / "val.jsonl"}
    if (home / "dev32.jsonl").is_file():
        few_shot = {"validation": home / "dev32.jsonl", "test": files["validation"]}
        files |= {split: file for split, file in few_shot.items() if file.is_file()}
    return {split: adapt(split, not_empty(file, read_rows(file))) for split, file in files.items()}


def superglue_hub(subset: str, adapt: Adapt = unchanged) -> HubSource:
    """A task's place on the hub."""
    return HubSource(path="aps/super_glue", subset=subset, splits={split: split for split in SPLITS}, adapt=adapt)


def superglue_layout(name: str) -> str:
    """What a folder of users must hold."""
    return (
        f"train.jsonl and val.jsonl of SuperGLUE's {name}, or of its few-shot copies (with dev32.jsonl, which "
        f"validates; val.jsonl is then the test split); also in a folder {name}."
    )
