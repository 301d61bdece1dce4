"""A task: text in, text out, in splits, with the metrics that score it."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.tasks.examples import Example, OnBadRow, TaskReport, count_duplicates
from softprompt.tasks.format import FORMAT_SETTINGS, TextFormat
from softprompt.tasks.hub import SPLITS, read_hub
from softprompt.tasks.metrics import Answers, get_scorer
from softprompt.tasks.rows import Row, not_empty, numbered, read_rows
from softprompt.tasks.splits import LoneTrain, gather_references, name_tags, read_splits

__all__ = ["Task"]

SPLIT_SIZES = (0.8, 0.1, 0.1)


@final
@dataclass(frozen=True, eq=False)
class Task:
    """Labelled text in splits. Made by `from_files`, `from_hub`, `from_rows`, `from_splits` or `load_task`.

    Args:
        name: What runs and reports call it.
        format: How a row becomes input and targets; stored beside a prompt that is trained on the task.
        metrics: Names of the metrics that score it, the one that chooses the best checkpoint first.
        report: What reading found: rows, skipped rows, duplicates across splits.
        card: Where the data come from, for built-in tasks; else empty.
        group: Column that rows have in common which are scored together; None where each row is scored by itself.
        start_words: Words that a prompt may start from where there are no labels (Lester et al. 2021, §3.2).
    """

    name: str
    format: TextFormat
    metrics: tuple[str, ...]
    report: TaskReport
    card: str = ""
    group: str | None = None
    _examples: Mapping[str, Sequence[Example]] = field(default_factory=dict, repr=False)
    start_words: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The legal targets in the label words' order; `None` where targets are free text."""
        return self.format.labels

    @property
    def tags(self) -> tuple[str, ...] | None:
        """The tags that words may have; `None` where targets are none."""
        return self.format.tags

    @property
    def context(self) -> str | None:
        """The column in whose words targets stand; `None` where they need not stand anywhere."""
        return self.format.context

    @property
    def segments(self) -> tuple[int, ...]:
        """Virtual tokens at each place that the input's template has for them; empty if it does not divide them."""
        return self.format.segments

    @property
    def watched(self) -> str:
        """The score that chooses the best checkpoint: the first of the first metric."""
        return get_scorer(self.metrics[0]).scores[0]

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, train first."""
        return tuple(self._examples)

    def examples(self, split: str) -> Sequence[Example]:
        """The examples of a split, in the data's order.

        Raises:
            ConfigError: If the task has no such split.
        """
        if split not in self._examples:
            raise choose(f"split of the task {self.name}", split, self.splits)
        return self._examples[split]

    def group_of(self, example: Example) -> str | None:
        """What an example has in common with those that it is scored with; None where each is scored by itself."""
        return None if self.group is None else str(example.columns[self.group])

    def answers(self, examples: Sequence[Example], said: Sequence[str]) -> Answers:
        """Examples and a text for each of them, as metrics take them."""
        return Answers(
            predictions=said,
            references=[example.targets for example in examples],
            labels=self.labels or (),
            groups=None if self.group is None else [str(self.group_of(example)) for example in examples],
        )

    def with_format(self, **settings: Any) -> Task:
        """The same rows in other words.

        Args:
            **settings: Of the format (see `TextFormat`), by name, e.g. `input="{text} It is"`; those that are None or
                not given stay the task's own.

        Raises:
            ConfigError: If a setting is unknown, or a template or label word cannot be used.
            DataError: If a row lacks what a template names.
        """
        for name in settings:
            if name not in FORMAT_SETTINGS:
                raise choose("setting of a format", name, FORMAT_SETTINGS)
        form = replace(self.format, **{name: value for name, value in settings.items() if value is not None})
        rows = {split: [Row(one.source, one.columns) for one in several] for split, several in self._examples.items()}
        made = Task.from_splits(rows, form, name=self.name, metrics=self.metrics, group=self.group, card=self.card)
        found = replace(made.report, skipped=self.report.skipped, split_seed=self.report.split_seed)
        return replace(made, report=found, start_words=self.start_words)

    def with_metrics(self, names: Sequence[str]) -> Task:
        """The same rows, scored by other metrics.

        Args:
            names: Names of metrics, the one that chooses the best checkpoint first.

        Raises:
            ConfigError: If none is named, one is unknown or needs labels or groups that the task has not, or two give
                a score of the same name.
        """
        if not names:
            raise ConfigError(f"The task {self.name} needs a metric; name one, such as {self.metrics[0]}.")
        return replace(self, metrics=_checked(names, self.format, self.group))

    def validated_on_train(self, inputs: int, *, seed: int = 0) -> Task:
        """The task with some of its training inputs as validation and its validation split as test.

        For tasks whose published test split has no labels: what is reported is then never what was chosen on.

        Args:
            inputs: How many distinct training inputs validate, each with all of its rows: where targets are free text
                they are references of one example. The others are trained on. In a task with groups, how many groups.
            seed: Of the draw.

        Raises:
            ConfigError: If there is a test split, no validation split, or there are not more training inputs than that.
        """
        if "test" in self.splits:
            raise ConfigError(
                f"The task {self.name} has a test split; choose on its validation split and report on that."
            )
        drawn, kept = self._drawn("validation_rows", inputs, seed, self._units())
        held = drawn if self.labels is not None else gather_references(drawn)
        return self._with_splits({"train": kept, "validation": held, "test": self.examples("validation")})

    def with_train_rows(self, rows: int, *, seed: int = 0) -> Task:
        """The task with that many of its training rows, drawn by the seed.

        Where targets are free text, several rows may have one input, each with a reference of its own: each counts, and
        is drawn by itself, as Li and Liang drew lines of the training file. Where they are labels, rows of one input
        say the same, so they count once and come together. In a task with groups, that many whole groups are drawn.

        Args:
            rows: How many rows, distinct inputs or groups.
            seed: Of the draw.

        Raises:
            ConfigError: If there are not more of them than that.

        References:
            Li and Liang 2021, §6.3.
        """
        if self.group is None and self.labels is None:
            units: tuple[str, Sequence[Hashable]] = "rows", range(len(self.examples("train")))
        else:
            units = self._units()
        return self._with_splits({**self._examples, "train": self._drawn("train_rows", rows, seed, units)[0]})

    def _units(self) -> tuple[str, Sequence[Hashable]]:
        """What stays together of the training rows, by name, and which of them each row is of."""
        rows = self.examples("train")
        if self.group is not None:
            return "distinct groups", [self.group_of(example) for example in rows]
        return "distinct inputs", [example.input for example in rows]

    def _drawn(
        self, what: str, wanted: int, seed: int, units: tuple[str, Sequence[Hashable]]
    ) -> tuple[list[Example], list[Example]]:
        """Training rows of that many units, and those of the others."""
        name, by_row = units
        distinct = list(dict.fromkeys(by_row))
        if not 1 <= wanted < len(distinct):
            raise ConfigError(
                f"{what}={wanted}: {self.name} has {len(distinct)} {name} to train on; give at least 1 and fewer than"
                " that."
            )
        chosen = set(random.Random(seed).sample(distinct, wanted))
        rows = list(zip(by_row, self.examples("train"), strict=True))
        drawn = [example for unit, example in rows if unit in chosen]
        return drawn, [example for unit, example in rows if unit not in chosen]

    def _with_splits(self, splits: Mapping[str, Sequence[Example]]) -> Task:
        counts = {split: len(examples) for split, examples in splits.items()}
        report = replace(self.report, rows=counts, duplicates=count_duplicates(splits))
        return replace(self, report=report, _examples=splits)

    @classmethod
    def from_files(
        cls,
        *,
        input: str,
        target: str,
        train: str | Path | None = None,
        validation: str | Path | None = None,
        test: str | Path | None = None,
        label_words: Mapping[Any, str] | None = None,
        chat: bool = False,
        system: str | None = None,
        words: str | None = None,
        context: str | None = None,
        metrics: Sequence[str] | None = None,
        group: str | None = None,
        name: str | None = None,
        on_bad_row: OnBadRow = "error",
        split_seed: int = 0,
        split_sizes: tuple[float, float, float] = SPLIT_SIZES,
    ) -> Task:
        """A task from files: .jsonl, .csv, .tsv (each also with .gz) or .parquet (see `read_rows`).

        Args:
            input: Template of the input, e.g. `{text}` (see `TextFormat`).
            target: Template of the target, e.g. `{label}`.
            train: File of the split. Given alone, it is split into three.
            validation: File of the split.
            test: File of the split.
            label_words: Word for each value of the target's column, e.g. `{"0": "bad", "1": "great"}`; of tagged words
                for each tag, and all tags that the data hold if None.
            chat: Whether the tokenizer's chat template goes around the input.
            system: The conversation's system turn, with `chat`; `{prompt}` or `{soft:N}` may stand in it.
            words: Column of the input whose words are tagged; the target's column holds a tag for each.
            context: Column of the input in whose words the target stands.
            metrics: Names of metrics; by default accuracy and macro_f1 with label words, entity_f1 and tag_accuracy
                with tagged words, else exact_match and token_f1.
            group: Column that rows have in common which are scored together, such as a question with several answers.
            name: The task's name; by default the stem of its first file.
            on_bad_row: `error` stops at the first bad row, `skip` counts them in `report`.
            split_seed: Seed of the split of a lone train file.
            split_sizes: Shares of train, validation and test in that split.

        Raises:
            ConfigError: If no file is named, or a template, label word, metric or size cannot be used.
            DataError: If a file cannot be read, a row is bad (the message has file and line), or a split is empty.
        """
        form = _form(locals())
        paths = {split: path for split, path in zip(SPLITS, (train, validation, test), strict=True) if path is not None}
        return cls.from_splits(
            {split: not_empty(Path(path), read_rows(path)) for split, path in paths.items()},
            form,
            metrics=metrics,
            name=name or next((Path(path).name.partition(".")[0] for path in paths.values()), ""),
            on_bad_row=on_bad_row,
            lone_train=(split_seed, split_sizes),
            group=group,
        )

    @classmethod
    def from_rows(
        cls,
        rows: Mapping[str, Iterable[Mapping[str, Any]]],
        *,
        input: str,
        target: str,
        label_words: Mapping[Any, str] | None = None,
        chat: bool = False,
        system: str | None = None,
        words: str | None = None,
        context: str | None = None,
        metrics: Sequence[str] | None = None,
        group: str | None = None,
        name: str = "rows",
        on_bad_row: OnBadRow = "error",
        split_seed: int = 0,
        split_sizes: tuple[float, float, float] = SPLIT_SIZES,
    ) -> Task:
        """A task from rows in memory.

        Args:
            rows: Rows by split. A split `train` alone is split into three.
            input: As in `from_files`, and so are all that follow.
            target: Template of the target.
            label_words: Word for each value of the target's column.
            chat: Whether the tokenizer's chat template goes around the input.
            system: The conversation's system turn, with `chat`; `{prompt}` or `{soft:N}` may stand in it.
            words: Column of the input whose words are tagged; the target's column holds a tag for each.
            context: Column of the input in whose words the target stands.
            metrics: Names of metrics.
            group: Column that rows have in common which are scored together.
            name: The task's name.
            on_bad_row: `error` or `skip`.
            split_seed: Seed of the split.
            split_sizes: Shares of train, validation and test.

        Raises:
            ConfigError: As in `from_files`.
            DataError: As in `from_files`; a row's place is its split and index from 0.
        """
        form = _form(locals())
        return cls.from_splits(
            {split: numbered(split, several) for split, several in rows.items()},
            form,
            metrics=metrics,
            name=name,
            on_bad_row=on_bad_row,
            lone_train=(split_seed, split_sizes),
            group=group,
        )

    @classmethod
    def from_hub(
        cls,
        path: str,
        subset: str | None = None,
        *,
        input: str,
        target: str,
        splits: Mapping[str, str] | None = None,
        revision: str | None = None,
        label_words: Mapping[Any, str] | None = None,
        chat: bool = False,
        system: str | None = None,
        words: str | None = None,
        context: str | None = None,
        metrics: Sequence[str] | None = None,
        group: str | None = None,
        name: str | None = None,
        on_bad_row: OnBadRow = "error",
        split_seed: int = 0,
        split_sizes: tuple[float, float, float] = SPLIT_SIZES,
    ) -> Task:
        """A task from a data set of the hub, or a local folder that `datasets` can load.

        Args:
            path: The data set's id or folder.
            subset: Its configuration, where it has several, e.g. `sst2` of `nyu-mll/glue`.
            input: As in `from_files`, and so are all that are not named here.
            target: Template of the target.
            splits: Our splits to the data set's, e.g. `{"validation": "validation_matched"}`; by default those that it
                calls train, validation and test. Our `train` alone is split into three.
            revision: Commit, branch or tag; by default the newest.
            label_words: Word for each value of the target's column; a class label's value is its number.
            chat: Whether the tokenizer's chat template goes around the input.
            system: The conversation's system turn, with `chat`; `{prompt}` or `{soft:N}` may stand in it.
            words: Column of the input whose words are tagged; the target's column holds a tag for each.
            context: Column of the input in whose words the target stands.
            metrics: Names of metrics.
            group: Column that rows have in common which are scored together.
            name: The task's name; by default the last part of `path`.
            on_bad_row: `error` or `skip`.
            split_seed: Seed of the split.
            split_sizes: Shares of train, validation and test.

        Raises:
            ConfigError: As in `from_files`, or if the data set has no split of a name that is asked for.
            DataError: If the data set cannot be loaded, or a row is bad; a row's place is its split and index from 0.
        """
        form = _form(locals())
        return cls.from_splits(
            read_hub(path, subset, splits=splits, revision=revision),
            form,
            metrics=metrics,
            name=name or path.rstrip("/").rpartition("/")[2],
            on_bad_row=on_bad_row,
            lone_train=(split_seed, split_sizes),
            group=group,
        )

    @classmethod
    def from_splits(
        cls,
        rows: Mapping[str, Iterable[Row]],
        form: TextFormat,
        *,
        name: str,
        metrics: Sequence[str] | None = None,
        on_bad_row: OnBadRow = "error",
        lone_train: LoneTrain | None = None,
        group: str | None = None,
        card: str = "",
    ) -> Task:
        """A task from rows that know their place: what every other way of making one ends in.

        Args:
            rows: Rows by split.
            form: How a row becomes text.
            name: The task's name.
            metrics: Names of metrics; by default accuracy and macro_f1 with label words, entity_f1 and tag_accuracy
                with tagged words, else exact_match and token_f1.
            on_bad_row: `error` or `skip`.
            lone_train: Seed and shares by which a lone `train` is split; `None` leaves it alone.
            group: Column that rows have in common which are scored together, if any.
            card: Where the data come from.

        Raises:
            ConfigError: If a metric is unknown or needs labels or groups that the task has not, two give a score of the
                same name, or the split's shares are none.
            DataError: If there is no split, a split has no usable row, a row is bad and none is skipped, one has no
                group in a task with groups, or tags that are found in the data differ only in case.
        """
        chosen = _checked(metrics or _default_metrics(form), form, group)
        splits, report = read_splits(rows, form, name=name, on_bad_row=on_bad_row, lone_train=lone_train, group=group)
        return cls(name, name_tags(form, splits), chosen, report, card, group, splits)


def _form(settings: Mapping[str, Any]) -> TextFormat:
    """The format that is among the settings by which a task is read."""
    return TextFormat(**{name: settings[name] for name in FORMAT_SETTINGS})


def _checked(names: Sequence[str], form: TextFormat, group: str | None) -> tuple[str, ...]:
    """Names of metrics that can score rows of a format and a group's column."""
    scores: set[str] = set()
    for name in names:
        scorer = get_scorer(name)
        scorer.check(name, form.labels or (), grouped=group is not None)
        if twice := scores.intersection(scorer.scores):
            raise ConfigError(
                f"The metric {name!r} gives {min(twice)!r}, as one before it does; name only one of them."
            )
        scores |= set(scorer.scores)
    return tuple(names)


def _default_metrics(form: TextFormat) -> tuple[str, ...]:
    if form.words is not None:
        return "entity_f1", "tag_accuracy"
    return ("accuracy", "macro_f1") if form.labels else ("exact_match", "token_f1")
