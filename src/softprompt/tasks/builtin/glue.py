"""GLUE: how its files lie in a folder, and where they are on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.superglue import benchmark_folder
from softprompt.tasks.hub import HubSource
from softprompt.tasks.rows import Row, first_line, not_empty, read_delimited

__all__ = ["GLUE", "SOURCE", "glue_hub", "read_glue"]

SOURCE = "https://gluebenchmark.com/tasks"
GLUE = "Wang et al. 2019, GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding, ICLR"


def read_glue(
    folder: Path, *, name: str, label: str, columns: Mapping[str, str], tests: Sequence[str] = ("test.tsv",)
) -> dict[str, Iterator[Row]]:
    """The rows of a task's tab-separated files at hand by split, with a test split if it has labels.

    Args:
        folder: The task's folder, or that of the whole benchmark.
        name: How the benchmark calls the task's folder, e.g. `QQP`.
        label: The published name of the label's column.
        columns: Published names of columns to those of the task; others keep theirs.
        tests: Names of files that may hold the test split; the first with labels does.
    """
    home = benchmark_folder(folder, name)
    labelled = [test for test in tests if label.encode() in first_line(home / test).split(b"\t")]
    files = files_at_hand(home, {"train": ["train.tsv"], "validation": ["dev.tsv"], "test": labelled})
    return {
        split: (
            replace(row, columns={columns.get(key, key): value for key, value in row.columns.items()})
            for row in not_empty(file, read_delimited(file, delimiter="\t", quoted=False))
        )
        for split, (file, *_) in files.items()
    }


def glue_hub(subset: str, *splits: str) -> HubSource:
    """A task's place on the hub, and its splits that have labels there."""
    return HubSource(path="nyu-mll/glue", subset=subset, splits={split: split for split in splits})
