"""A report as Markdown, with its plots as files beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from softprompt.reporting.parts import Case, Figure, Report, Table

__all__ = ["FIGURES", "as_markdown", "as_table"]

FIGURES = "figures"
"""The folder of the plots."""
_ACTIVE = re.compile(r"([\\`*_\[\]<>|])")


def as_markdown(report: Report) -> str:
    """The page; it shows `figures/NAME.svg` beside it."""
    parts = [f"# {_text(report.title)}", *(f"> {_text(said)}" for said in report.state)]
    parts += ["## Question", _text(report.question), "## Summary", _list(report.summary)]
    parts += ["## Setting", as_table(report.setting), "## Results"]
    parts += [part for table in report.tables for part in (f"### {_text(table.title)}", as_table(table))]
    parts += ["## Figures", *_figures(report.measured, "This study varies nothing that is drawn here.")]
    nothing = "This study varies no setting of its methods but those that were chosen on validation rows."
    parts += ["## Ablations", *_figures(report.ablations, nothing)]
    parts += ["## Error cases", _coded(report.cases_note), *map(_case, report.cases)]
    verdicts = "The grid of this study holds no claims." if report.verdicts is None else as_table(report.verdicts)
    parts += ["## Verdicts on claims", verdicts, "## Limits", _list(report.limits)]
    parts += ["## How to make it anew", "```console\n" + "\n".join(report.commands) + "\n```"]
    parts += ["## References", _list(report.references)]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_table(table: Table) -> str:
    """A table and its note."""
    lines = [_row(table.columns), "|" + "---|" * len(table.columns), *map(_row, table.rows)]
    return "\n".join(lines) + (f"\n\n{_text(table.note)}" if table.note else "")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_text(cell).replace(chr(10), '<br>') for cell in cells)} |"


def _list(said: Sequence[str]) -> str:
    return "\n".join(f"- {_text(one)}" for one in said)


def _figures(figures: Sequence[Figure], nothing: str) -> list[str]:
    if not figures:
        return [nothing]
    return [
        part
        for figure in figures
        for part in (
            f"### {_text(figure.title)}",
            f"![{_text(figure.description)}]({FIGURES}/{figure.name}.svg)",
            _text(figure.note),
            as_table(figure.numbers),
        )
    ]


def _case(case: Case) -> str:
    held = "" if case.certainty is None else f"\n\nIts probability: {case.certainty:.2f}"
    kind = "one of the targets" if case.right else "none of the targets"
    texts = {"input": case.input, "target": case.targets, "output": case.prediction}
    shown = "\n\n".join(f"{name}:\n\n{_quoted(text)}" for name, text in texts.items())
    return f"### {_text(case.task)}: {kind}\n\n{shown}{held}"


def _quoted(text: str) -> str:
    """A text as it is, in a block that no line of it can end."""
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])


def _text(text: str) -> str:
    """A text that Markdown and HTML leave as it is."""
    return html.unescape(_ACTIVE.sub(r"\\\1", text))


def _coded(text: str) -> str:
    """A text whose parts between backticks are code."""
    parts = text.split("`")
    return "`".join(_text(part) if place % 2 == 0 else part for place, part in enumerate(parts))
