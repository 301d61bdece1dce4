"""Data sets of the hub, or of a folder that `datasets` can load, as rows by split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from softprompt.config import choose
from softprompt.errors import DataError
from softprompt.tasks.reshaping import reshape
from softprompt.tasks.rows import Row, numbered

__all__ = ["Adapt", "HubSource", "label_values", "read_hub", "unchanged"]

SPLITS = ("train", "validation", "test")

Adapt: TypeAlias = Callable[[str, Iterable[Row]], Iterable[Row]]
"""From a split's name, as a task has it, and its rows to rows that the task's template can fill."""


def unchanged(split: str, rows: Iterable[Row]) -> Iterable[Row]:
    """The rows as they are."""
    return rows


@final
@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Where on the hub a task's data are, and how its rows become those that its files give.

    Args:
        path: The data set's id.
        subset: Its configuration, where it has several.
        splits: The task's splits to the data set's; splits without labels are left out.
        revision: Branch, tag or commit; None takes the newest.
        adapt: From the data set's rows to the task's.
    """

    path: str
    subset: str | None = None
    splits: Mapping[str, str]
    revision: str | None = None
    adapt: Adapt = unchanged

    def __str__(self) -> str:
        return self.path if self.subset is None else f"{self.path}, {self.subset}"

    def rows(self) -> dict[str, Iterable[Row]]:
        """The task's rows by split.

        Raises:
            ConfigError: If the data set lacks one of the splits.
            DataError: If the data set cannot be loaded.
        """
        found = read_hub(self.path, self.subset, splits=self.splits, revision=self.revision)
        return {split: self.adapt(split, rows) for split, rows in found.items()}


def label_values(*values: object) -> Adapt:
    """An adaptation that puts, for the number of a class, the value that the published files have.

    Args:
        values: What stands for the classes 0, 1, …; a number beyond them stays as it is.
    """
    spelt = dict(enumerate(values))

    def name(columns: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        yield {**columns, "label": spelt.get(columns["label"], columns["label"])} if "label" in columns else columns

    return lambda split, rows: reshape(rows, name)


def read_hub(
    path: str, subset: str | None = None, *, splits: Mapping[str, str] | None = None, revision: str | None = None
) -> dict[str, Iterable[Row]]:
    """The rows of a data set by split; a row's place is the data set's split and the row's index from 0.

    Args:
        path: The data set's id, or a folder.
        subset: Its configuration, where it has several.
        splits: Our splits to the data set's; by default those that it calls train, validation and test.
        revision: Commit, branch or tag; by default the newest.

    Raises:
        ConfigError: If the data set has no split of a name that is asked for.
        DataError: If the data set cannot be found, reached or read.
    """
    found = load_all_splits(path, subset, revision)
    chosen = splits or {split: split for split in SPLITS if split in found} or {"train": "train"}
    for theirs in chosen.values():
        if theirs not in found:
            raise choose(f"split of the data set {path}", theirs, found)
    return {ours: numbered(theirs, found[theirs]) for ours, theirs in chosen.items()}


def load_all_splits(path: str, subset: str | None, revision: str | None) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    """A data set's splits by its own names.

    Raises:
        DataError: If it cannot be found, reached or read.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset(path, subset, revision=revision)
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"The data set {path!r} cannot be loaded ({error}); check its name, files and the network."
        ) from None
    except RuntimeError as error:  # so `datasets` says that it found a script, which it no longer runs
        raise DataError(
            f"The data set {path!r} cannot be loaded ({error}); where it is a script, take the hub's Parquet copy of "
            "it: the revision refs/convert/parquet (--dataset_revision)."
        ) from None
