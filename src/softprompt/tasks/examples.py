"""From rows to examples: what a model reads and should say, which rows were left out, and what overlaps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

from softprompt.errors import ConfigError, DataError
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import Row

__all__ = ["Example", "OnBadRow", "TaskReport", "count_duplicates", "render_rows", "split_examples"]

OnBadRow: TypeAlias = Literal["error", "skip"]

SHOWN = 5


@final
@dataclass(frozen=True, slots=True)
class Example:
    """One row as text.

    Args:
        input: What the model reads.
        targets: What it should say: one text, or several that are equally right.
        label: The class as the data spell it, where the task has label words; else `None`.
        source: Where the row stands, e.g. `train.jsonl:12`.
        columns: The row itself.
    """

    input: str
    targets: tuple[str, ...]
    label: str | None
    source: str
    columns: Mapping[str, Any]


@final
@dataclass(frozen=True)
class TaskReport:
    """What reading the data found; as a string, lines for people.

    Args:
        rows: Usable rows by split.
        skipped: By split, one message for each row that was left out, with its place and the reason.
        duplicates: By pair of splits, the rows of the second whose input also stands in the first; pairs without
            any are left out.
        split_seed: The seed by which data in one piece were split in three; None where splits were given.
    """

    rows: Mapping[str, int]
    skipped: Mapping[str, tuple[str, ...]]
    duplicates: Mapping[tuple[str, str], int]
    split_seed: int | None = None

    def counts(self) -> dict[str, Any]:
        """Its numbers as plain values; a pair of splits is `FIRST, SECOND`."""
        return {
            **({} if self.split_seed is None else {"split_seed": self.split_seed}),
            "rows": dict(self.rows),
            "skipped": {split: len(problems) for split, problems in self.skipped.items()},
            "duplicates": {", ".join(pair): rows for pair, rows in self.duplicates.items()},
        }

    def __str__(self) -> str:
        lines = [f"{split}: {rows:,} rows" for split, rows in self.rows.items()]
        if self.split_seed is not None:
            lines.append(f"split in three by the seed {self.split_seed}")
        for split, problems in self.skipped.items():
            lines.append(f"{split}: {len(problems):,} bad rows skipped")
            lines += [f"  {problem}" for problem in problems[:SHOWN]]
            if len(problems) > SHOWN:
                lines.append(f"  and {len(problems) - SHOWN:,} more")
        lines += [
            f"{second}: {rows:,} rows have an input that is also in {first}"
            for (first, second), rows in self.duplicates.items()
        ]
        return "\n".join(lines)


def render_rows(rows: Iterable[Row], form: TextFormat, on_bad_row: str) -> tuple[list[Example], list[str]]:
    """Render rows, and collect the reasons of those that were skipped.

    Raises:
        ConfigError: If `on_bad_row` is neither `error` nor `skip`.
        DataError: At the first bad row, unless bad rows, or rows of its kind, are skipped.
    """
    if on_bad_row not in ("error", "skip"):
        raise ConfigError(f"on_bad_row is {on_bad_row!r}; it is 'error' (stop at a bad row) or 'skip' (count it).")
    examples: list[Example] = []
    problems: list[str] = []
    for row in rows:
        try:
            if row.problem:
                raise DataError(row.problem)
            examples.append(render_row(row, form))
        except DataError as problem:
            problems.append(f"{row.source}: {problem}")
            if on_bad_row == "error" and not row.always_skipped:
                raise DataError(
                    f"{problems[0]}. To leave bad rows out and count them, say on_bad_row='skip'."
                ) from None
    return examples, problems


def render_row(row: Row, form: TextFormat) -> Example:
    """Render one row.

    Raises:
        DataError: If the format refuses it.
    """
    return Example(
        input=form.render_input(row.columns),
        targets=form.render_targets(row.columns),
        label=None if form.labels is None else form.label_key(row.columns),
        source=row.source,
        columns=dict(row.columns),
    )


def count_duplicates(splits: Mapping[str, Sequence[Example]]) -> dict[tuple[str, str], int]:
    """For each pair of splits, in order, how many rows of the second have an input that the first has too."""
    inputs = {split: {example.input for example in examples} for split, examples in splits.items()}
    names = list(splits)
    counts = {
        (first, second): sum(example.input in inputs[first] for example in splits[second])
        for place, second in enumerate(names)
        for first in names[:place]
    }
    return {pair: rows for pair, rows in counts.items() if rows}


def split_examples(
    examples: Sequence[Example], *, seed: int, sizes: tuple[float, float, float]
) -> dict[str, list[Example]]:
    """Split one set into train, validation and test, the rows of one input together and each split in its old order.

    An input's place depends on the seed and its own text, so the order of the rows does not matter.

    Args:
        examples: All of them.
        seed: Another seed, another split.
        sizes: Shares of the distinct inputs for train, validation and test; they add up to 1. A share of 0 gives no
            such split, any other at least one input.

    Raises:
        ConfigError: If the sizes are no shares, or train has none.
        DataError: If there are fewer distinct inputs than splits.
    """
    if min(sizes) < 0 or abs(sum(sizes) - 1) > 1e-6 or not sizes[0]:
        raise ConfigError(
            f"split_sizes is {sizes}; give shares of train, validation and test that add up to 1, e.g. (0.8, 0.1, 0.1)."
        )
    wanted = {split: size for split, size in zip(("train", "validation", "test"), sizes, strict=True) if size}
    inputs = sorted(
        {example.input for example in examples},
        key=lambda text: hashlib.blake2b(text.encode(), key=str(seed).encode()).digest(),
    )
    if len(inputs) < len(wanted):
        raise DataError(
            f"{len(inputs)} distinct inputs cannot be split into {', '.join(wanted)}; add rows, or a file for each."
        )
    home: dict[str, str] = {}
    start, share = 0, 0.0
    for left, (split, size) in zip(reversed(range(len(wanted))), wanted.items(), strict=True):
        share += size
        end = min(max(round(share * len(inputs)), start + 1), len(inputs) - left)
        home |= dict.fromkeys(inputs[start:end], split)
        start = end
    return {split: [example for example in examples if home[example.input] == split] for split in wanted}
