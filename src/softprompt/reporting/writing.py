"""A report on disk: each file is whole or not there."""

from __future__ import annotations

from pathlib import Path

from softprompt.reporting.figures import draw_figure
from softprompt.reporting.html import as_html
from softprompt.reporting.markdown import FIGURES, as_markdown
from softprompt.reporting.parts import Report

__all__ = ["write_report", "write_text"]


def write_report(report: Report, folder: str | Path) -> tuple[Path, Path]:
    """Write `figures/NAME.svg`, `report.md`, and last `report.html`; what was written before is replaced.

    Args:
        report: What it says.
        folder: Made if it is not there.

    Returns:
        The HTML file and the Markdown.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    folder = Path(folder)
    drawings = {figure.name: draw_figure(figure) for figure in report.figures}
    for name, drawing in drawings.items():
        write_text(folder / FIGURES / f"{name}.svg", f'<?xml version="1.0" encoding="utf-8"?>\n{drawing}')
    markdown = write_text(folder / "report.md", as_markdown(report))
    return write_text(folder / "report.html", as_html(report, drawings)), markdown


def write_text(path: Path, text: str) -> Path:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path
