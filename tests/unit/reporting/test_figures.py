"""Drawings: what they say, that they can stand in one page, and the same text at every drawing."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pytest
from tests.unit.reporting.rows import SIZES, grid, rows

from softprompt.errors import MissingDependencyError
from softprompt.reporting.figures import draw_figure
from softprompt.reporting.parts import Figure
from softprompt.reporting.plots import plan_figures
from softprompt.studies import summarise

METHODS = {
    "rows": {"method": "prompt_tuning", "length": [1, 100], "init": ["random", "labels & more"], "learning_rate": 1},
    "bare": {"method": "text_prompt"},
}  # fmt: skip
TASKS = {"films": {"task": "sst2", "tested_on": {"a place with a long name": {}, "another place of that kind": {}}}}


def all_figures() -> dict[str, Figure]:
    found = {}
    for asked in (grid(backbones=list(SIZES)), grid(methods=METHODS, tasks=TASKS)):
        lines = rows(asked)
        found |= {figure.name: figure for figure in plan_figures(asked, summarise(asked, lines), lines)}
    return found


FIGURES = all_figures()


def test_there_is_every_kind():
    assert FIGURES.keys() >= {"score_against_size", "pre_training", "axis_length", "axis_init", "domain_shift"}


@pytest.mark.parametrize("name", FIGURES)
def test_a_drawing_names_its_panels_series_and_axis(name):
    figure = FIGURES[name]
    drawing = draw_figure(figure)
    assert draw_figure(figure) == drawing
    texts = {
        "".join(text.itertext()).strip()
        for text in ElementTree.fromstring(drawing).iter()
        if text.tag.endswith("}text")
    }
    assert {figure.x_label, *(panel.title for panel in figure.panels)} <= texts
    assert {series.label for panel in figure.panels for series in panel.series} <= texts
    assert {level.label for panel in figure.panels for level in panel.levels} <= texts
    assert "<dc:date>" not in drawing


def test_ids_are_a_figures_own_and_lead_somewhere():
    first, second = (draw_figure(FIGURES[name]) for name in ("score_against_size", "axis_length"))
    ids = [set(re.findall(r'\sid="([^"]+)"', drawing)) for drawing in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for drawing, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', drawing)) == own


def test_series_are_told_apart_by_more_than_colour():
    drawing = draw_figure(FIGURES["score_against_size"])
    assert "stroke-dasharray" in drawing


def test_without_matplotlib_its_installation_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"Figures need matplotlib: pip install 'softprompt\[report\]'"):
        draw_figure(FIGURES["score_against_size"])
