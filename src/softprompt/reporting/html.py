"""A report as one HTML file that needs nothing beside it: no script, no picture, no network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from softprompt.reporting.parts import Report

__all__ = ["SECTIONS", "as_html"]

SECTIONS = (
    ("question", "Question"),
    ("summary", "Summary"),
    ("setting", "Setting"),
    ("results", "Results"),
    ("figures", "Figures"),
    ("ablations", "Ablations"),
    ("cases", "Error cases"),
    ("verdicts", "Verdicts"),
    ("limits", "Limits"),
    ("commands", "How to make it anew"),
    ("references", "References"),
)
"""Names and titles, in the order in which they stand."""


def as_html(report: Report, drawings: Mapping[str, str]) -> str:
    """The page.

    Args:
        report: What it says; every text is escaped.
        drawings: By name of a figure, its SVG.
    """
    folder = files("softprompt.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["coded"] = _coded
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    style = (folder / "report.css").read_text(encoding="utf-8")
    return template.render(report=report, drawings=drawings, style=style, sections=SECTIONS) + "\n"


def _coded(text: str) -> Markup:
    """A text whose parts between backticks are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
