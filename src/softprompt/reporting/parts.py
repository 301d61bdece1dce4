"""What a report consists of, as plain values: no part knows how it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

__all__ = ["Case", "Figure", "Level", "Panel", "Point", "Report", "Series", "Table"]


@final
@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells of text under headings.

    Attributes:
        title: What it is of.
        columns: Headings; the first column names its row.
        rows: One cell per heading.
        note: How to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@final
@dataclass(frozen=True)
class Point:
    """A mean over seeds.

    Attributes:
        x: A number, or a word.
        mean: Of the scores.
        deviation: Standard deviation over seeds; None of a single one.
        seeds: How many there are.
    """

    x: float | str
    mean: float
    deviation: float | None
    seeds: int


@final
@dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one kind.

    Attributes:
        label: What its colour stands for.
        points: In order of their x, where it is a number.
        state: What its stroke and marker stand for beside the label; empty if every label has a marker of its own.
    """

    label: str
    points: tuple[Point, ...]
    state: str = ""


@final
@dataclass(frozen=True)
class Level:
    """A score that does not depend on what is drawn, such as that of the most frequent answer."""

    label: str
    score: float


@final
@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes: a task, as scores of two tasks share no scale, and mostly a backbone.

    Attributes:
        title: What it is of.
        y_label: The metric.
        series: What is drawn.
        levels: Lines across.
    """

    title: str
    y_label: str
    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot with its numbers.

    Attributes:
        name: Of its file, without ending.
        title: What it shows.
        note: How to read it.
        x_label: Quantity and unit.
        panels: At most six, so that it fits on a page.
        joined: Whether points of a series are joined.
        log: Whether x is on a logarithmic axis.
        numbers: What is drawn, as a table.
        ablation: Whether it varies a setting of the methods, and so stands among the ablations.
    """

    name: str
    title: str
    note: str
    x_label: str
    panels: tuple[Panel, ...]
    joined: bool
    log: bool
    numbers: Table
    ablation: bool = False

    @property
    def description(self) -> str:
        """The figure in words, for those who do not see it."""
        panels = "; ".join(panel.title for panel in self.panels)
        labels = ", ".join(dict.fromkeys(series.label for panel in self.panels for series in panel.series))
        return f"{self.title}. Panels: {panels}. Series: {labels}. The numbers are in the table below."


@final
@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of a task, and what was said of it.

    Attributes:
        task: The task's name, with the split.
        right: Whether the prediction is one of the targets.
        input: What the model read; trimmed.
        targets: What it should say; trimmed.
        prediction: What it said; trimmed.
        certainty: Probability of the prediction among the labels, where they were ranked.
    """

    task: str
    right: bool
    input: str
    targets: str
    prediction: str
    certainty: float | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """A study, told from its question to its references.

    Attributes:
        title: Name of the study.
        state: What is unfinished, failed or refused, to be said before all else; empty if nothing is.
        question: What was asked.
        summary: Sentences with the numbers that answer.
        setting: Facts: what, on what, measured how, at what cost.
        tables: At most five.
        figures: In the order in which they are told.
        cases: Rows with what was said of them.
        cases_note: How many there were, or which command makes them.
        verdicts: What became of the claims; None if the grid holds none.
        limits: What the numbers do not show.
        commands: What makes all of it anew.
        references: Papers.
    """

    title: str
    state: tuple[str, ...]
    question: str
    summary: tuple[str, ...]
    setting: Table
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    cases: tuple[Case, ...]
    cases_note: str
    verdicts: Table | None
    limits: tuple[str, ...]
    commands: tuple[str, ...]
    references: tuple[str, ...]

    @property
    def measured(self) -> Sequence[Figure]:
        """Figures of methods, sizes and domains."""
        return [figure for figure in self.figures if not figure.ablation]

    @property
    def ablations(self) -> Sequence[Figure]:
        """Figures of single settings."""
        return [figure for figure in self.figures if figure.ablation]
