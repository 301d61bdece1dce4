"""Held-out loss against tokens seen, drawn from the cards of backbones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softprompt.config import choose
from softprompt.errors import ConfigError, DataError
from softprompt.reporting.styles import COLOURS, MARKERS, SETTINGS, STROKES, need_matplotlib, plain_metadata

__all__ = ["MEASURES", "Segment", "draw_curves", "segments"]

MEASURES = {
    "bits_per_byte": ("bits_per_byte", "held-out loss (bits per byte)"),
    "nats_per_token": ("loss", "held-out loss (nats per token)"),
}
"""Key in a card's history, and label of the axis."""

_MARKERS_PER_LINE = 8
_KINDS = (".svg", ".png")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Losses under one objective; those under two cannot be compared, so they are no single line."""

    objective: str
    tokens: tuple[int, ...]
    """Tokens of text seen since the random weights."""
    losses: tuple[float, ...]


def segments(card: Mapping[str, Any], measure: str) -> list[Segment]:
    """The losses of a backbone, from its first stage to its last; stages under one objective follow on each other.

    Args:
        card: A backbone's, with its `history` and that of the stages in `started_from`.
        measure: A key of `MEASURES`.
    """
    before = segments(card["started_from"], measure) if card["started_from"] else []
    tokens = tuple(card["tokens_seen_before"] + entry["tokens"] for entry in card["history"])
    losses = tuple(entry[MEASURES[measure][0]] for entry in card["history"])
    if before and before[-1].objective == card["objective"]:
        last = before.pop()
        tokens, losses = last.tokens + tokens, last.losses + losses
    return [*before, Segment(objective=card["objective"], tokens=tokens, losses=losses)]


def draw_curves(cards: Sequence[Mapping[str, Any]], path: str | Path, *, measure: str = "bits_per_byte") -> None:
    """Draw one line per backbone; its style is the objective's, and its colour and marker the backbone's.

    The same cards give the same file, to the byte.

    Args:
        cards: Of finished backbones.
        path: The file, `.svg` or `.png`.
        measure: A key of `MEASURES`.

    Raises:
        ConfigError: If the measure or the kind of file is unknown.
        DataError: If no card holds a loss.
        MissingDependencyError: If matplotlib is not installed.
    """
    if measure not in MEASURES:
        raise choose("measure", measure, MEASURES)
    if Path(path).suffix not in _KINDS:
        raise ConfigError(f"{path}: expected a file name that ends in {' or '.join(_KINDS)}.")
    lines = [(card["name"], segments(card, measure)) for card in cards]
    if not any(segment.tokens for _, parts in lines for segment in parts):
        raise DataError("The cards hold no held-out loss; give backbones that were measured on their way.")
    matplotlib = need_matplotlib("Curves")
    with matplotlib.rc_context(SETTINGS):
        figure = matplotlib.figure.Figure(figsize=(6.5, 4.2), layout="constrained")
        _draw(figure.add_subplot(), lines, MEASURES[measure][1])
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200, metadata=plain_metadata(path))


def _draw(axes: Any, lines: Sequence[tuple[str, Sequence[Segment]]], label: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter

    objectives = dict.fromkeys(part.objective for _, parts in lines for part in parts)
    styles: dict[str, Any] = dict(zip(objectives, itertools.cycle(STROKES), strict=False))
    looks = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
    keys = []
    for (name, parts), (colour, marker) in zip(lines, looks, strict=False):
        for part in parts:
            axes.plot(
                [tokens / 1e6 for tokens in part.tokens],
                part.losses,
                color=colour,
                linestyle=styles[part.objective],
                linewidth=1.4,
                marker=marker,
                markersize=3.5,
                markevery=max(1, len(part.tokens) // _MARKERS_PER_LINE),
            )
        keys.append(Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1.4, label=name))
    for objective, style in styles.items():
        keys.append(Line2D([], [], color="#555555", linestyle=style, linewidth=1.4, label=objective))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("text seen (million tokens)")
    axes.set_ylabel(label)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(handles=keys, frameon=False, fontsize=8)
