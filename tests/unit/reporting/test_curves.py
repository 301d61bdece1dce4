"""Curves: what is drawn, what is refused, and the same file at every drawing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from softprompt.errors import ConfigError, DataError, MissingDependencyError
from softprompt.reporting.curves import Segment, draw_curves, segments


def card(name: str, objective: str, losses: list[float], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """A card with a loss after each hundred tokens."""
    history = [
        {"step": n, "tokens": 100 * n, "loss": loss, "bits_per_byte": loss / 2} for n, loss in enumerate(losses, 1)
    ]
    seen = before["tokens_seen_before"] + before["tokens_seen"] if before else 0
    return {
        "name": name,
        "objective": objective,
        "tokens_seen": 100 * len(losses),
        "tokens_seen_before": seen,
        "history": history,
        "started_from": before,
    }


SPAN = card("first", "span_corruption", [6.0, 5.0])
STAGES = card("third", "prefix_lm", [4.0], card("second", "span_corruption", [3.0], SPAN))


def test_stages_follow_on_each_other_and_part_where_the_objective_changes():
    assert segments(STAGES, "nats_per_token") == [
        Segment(objective="span_corruption", tokens=(100, 200, 300), losses=(6.0, 5.0, 3.0)),
        Segment(objective="prefix_lm", tokens=(400,), losses=(4.0,)),
    ]
    assert [part.losses for part in segments(STAGES, "bits_per_byte")] == [(3.0, 2.5, 1.5), (2.0,)]


@pytest.mark.parametrize(
    ("measure", "label"),
    [("bits_per_byte", "held-out loss (bits per byte)"), ("nats_per_token", "held-out loss (nats per token)")],
)
def test_a_drawing_names_its_lines_and_units_and_is_the_same_each_time(tmp_path: Path, measure: str, label: str):
    paths = [tmp_path / "new" / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        draw_curves([STAGES, card("other", "causal_lm", [5.0, 4.5])], path, measure=measure)
    drawn = paths[0].read_text(encoding="utf-8")
    for text in (label, "text seen (million tokens)", "third", "other", "span_corruption", "prefix_lm", "causal_lm"):
        assert f">{text}</text>" in drawn
    assert "<dc:date>" not in drawn
    assert paths[1].read_text(encoding="utf-8") == drawn


def test_more_lines_than_colours_are_told_apart(tmp_path: Path):
    cards = [card(f"number {n}", "causal_lm", [5.0 - n / 10, 4.0]) for n in range(9)]
    draw_curves(cards, tmp_path / "many.svg")
    assert all(f"number {n}<" in (tmp_path / "many.svg").read_text(encoding="utf-8") for n in range(9))


def test_a_picture_of_dots_too(tmp_path: Path):
    for name in ("a.png", "b.png"):
        draw_curves([STAGES], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="Unknown measure 'bits'"):
        draw_curves([STAGES], tmp_path / "a.svg", measure="bits")
    with pytest.raises(ConfigError, match=r"a\.pdf: expected a file name that ends in \.svg or \.png\."):
        draw_curves([STAGES], tmp_path / "a.pdf")
    with pytest.raises(DataError, match="hold no held-out loss; give backbones that were measured"):
        draw_curves([card("new", "causal_lm", [])], tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_its_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="Curves need matplotlib: pip install 'softprompt\\[report\\]'"):
        draw_curves([STAGES], tmp_path / "a.svg")
