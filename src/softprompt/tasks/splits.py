"""Rows of several splits as examples, and what all rows of an input say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from softprompt.errors import DataError
from softprompt.tasks.examples import Example, TaskReport, count_duplicates, render_rows, split_examples
from softprompt.tasks.format import TextFormat
from softprompt.tasks.metrics.labels import normalise_label
from softprompt.tasks.rows import Row

__all__ = ["LoneTrain", "gather_references", "name_tags", "read_splits"]

LoneTrain: TypeAlias = tuple[int, tuple[float, float, float]]
"""Seed and shares by which a split `train` that comes alone becomes train, validation and test."""


def read_splits(
    rows: Mapping[str, Iterable[Row]],
    form: TextFormat,
    *,
    name: str,
    on_bad_row: str,
    lone_train: LoneTrain | None,
    group: str | None,
) -> tuple[dict[str, Sequence[Example]], TaskReport]:
    """Render the rows of every split.

    Args:
        rows: Rows by split.
        form: How a row becomes text.
        name: The task's name.
        on_bad_row: `error` or `skip`.
        lone_train: How a lone `train` is split; `None` leaves it alone.
        group: Column that every row must have, if any.

    Returns:
        The examples by split, and what reading found.

    Raises:
        ConfigError: If the shares of the split are none.
        DataError: If there is no split, a split has no usable row, a row is bad and none is skipped, or one lacks its
            group.
    """
    if not rows:
        raise DataError(f"The task {name!r} has no data; name a file or rows for at least one split.")
    splits: dict[str, Sequence[Example]] = {}
    skipped: dict[str, tuple[str, ...]] = {}
    for split, several in rows.items():
        examples, problems = render_rows(several, form, on_bad_row)
        if not examples:
            reason = f"all are bad, the first so: {problems[0]}" if problems else "it is empty; give it rows"
            raise DataError(f"The split {split!r} of the task {name!r} has no usable row: {reason}.")
        for example in examples if group is not None else ():
            if group not in example.columns:
                raise DataError(f"{example.source} has no column {group!r}, which says what it is scored with.")
        splits[split] = examples
        skipped |= {split: tuple(problems)} if problems else {}
    seed = None
    if lone_train and set(splits) == {"train"}:
        seed, sizes = lone_train
        splits = dict(split_examples(splits["train"], seed=seed, sizes=sizes))
    counts = {split: len(examples) for split, examples in splits.items()}
    return splits, TaskReport(rows=counts, skipped=skipped, duplicates=count_duplicates(splits), split_seed=seed)


def name_tags(form: TextFormat, splits: Mapping[str, Sequence[Example]]) -> TextFormat:
    """The format with all tags that the examples have as label words, where words are tagged and it has none.

    Raises:
        DataError: If two tags differ only in case.
    """
    if form.words is None or form.label_words is not None:
        return form
    tags = sorted({tag for several in splits.values() for one in several for tag in one.targets[0].split()})
    spelled: dict[str, str] = {}
    for tag in tags:
        other = spelled.setdefault(normalise_label(tag), tag)
        if other != tag:
            raise DataError(
                f"column {form.target_fields[0]!r} holds the tags {other!r} and {tag!r}, which differ only in case; "
                "spell one as the other, or give label_words that do."
            )
    return replace(form, label_words={tag: tag for tag in tags})


def gather_references(examples: Iterable[Example]) -> list[Example]:
    """One example per input, whose targets are those of all its rows."""
    grouped: dict[str, Example] = {}
    for example in examples:
        before = grouped.get(example.input)
        targets = (*before.targets, *example.targets) if before else example.targets
        grouped[example.input] = replace(before or example, targets=tuple(dict.fromkeys(targets)))
    return list(grouped.values())
