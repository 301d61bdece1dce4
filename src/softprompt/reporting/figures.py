"""Figures as SVG, by matplotlib: readable in print, in grey, and by colour-blind readers."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from softprompt.reporting.parts import Figure, Panel, Series
from softprompt.reporting.styles import COLOURS, MARKERS, SETTINGS, STROKES, need_matplotlib, plain_metadata
from softprompt.reporting.wording import short_count

__all__ = ["draw_figure"]

_WIDTH_INCHES, _ROW_INCHES, _KEY_INCHES = 6.5, 2.5, 0.19
_TITLE_WIDTH = 36
"""Characters of a panel's title in a line."""
_SPREAD = 0.5
"""How much of the room of a word its points take."""
_GREYS = ("#666666", "#222222", "#999999", "#8a6d3b")
# As many strokes as share no divisor with the number of colours.
_DOTTED: tuple[Any, ...] = (":", (0, (5, 2, 1, 2)), (0, (8, 3)))

Look = dict[str, Any]


def draw_figure(figure: Figure) -> str:
    """A figure as an SVG document; the same figure gives the same text.

    Every id in it begins with the figure's name, so that several can stand in one page.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    matplotlib = need_matplotlib("Figures")
    looks, key = _looks(figure), _key_entries(figure)
    several = len(figure.panels)
    columns = 1 if several == 1 else 2
    rows = -(-several // columns)
    key_columns = next(n for n, longest in ((3, 25), (2, 45), (1, math.inf)) if max(map(len, key)) <= longest)
    height = rows * (_ROW_INCHES + 0.6 * (columns == 1)) + _KEY_INCHES * (-(-len(key) // key_columns) + 1)
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": figure.name}):
        drawn = matplotlib.figure.Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        for number, panel in enumerate(figure.panels, 1):
            axes = drawn.add_subplot(rows, columns, number)
            _draw_panel(axes, figure, panel, looks)
            if number + columns > several:  # nothing stands below it
                axes.set_xlabel(figure.x_label, fontsize=8)
        drawn.legend(
            handles=[_handle(label, look) for label, look in key.items()],
            loc="outside lower center",
            ncols=key_columns,
            frameon=False,
            fontsize=8,
        )
        written = io.StringIO()
        drawn.savefig(written, format="svg", metadata=plain_metadata("figure.svg"))
    return _own_ids(written.getvalue(), figure.name)


def _looks(figure: Figure) -> dict[str, Look]:
    """How each series and each line across looks: a label has a colour, a state a stroke and a marker."""
    series = [series for panel in figure.panels for series in panel.series]
    labels = list(dict.fromkeys(one.label for one in series))
    states = list(dict.fromkeys(one.state for one in series))
    looks: dict[str, Look] = {}
    for one in series:
        label, state = labels.index(one.label), states.index(one.state)
        looks[_named(one)] = {
            "color": COLOURS[label % len(COLOURS)],
            "marker": MARKERS[(state if one.state else label) % len(MARKERS)],
            "linestyle": STROKES[state % len(STROKES)] if figure.joined else "",
        }
    across = dict.fromkeys(level.label for panel in figure.panels for level in panel.levels)
    for number, name in enumerate(across):
        stroke = _DOTTED[number % len(_DOTTED)]
        looks[name] = {"color": _GREYS[number % len(_GREYS)], "linestyle": stroke, "marker": ""}
    return looks


def _key_entries(figure: Figure) -> dict[str, Look]:
    """What the key shows: where there are states, colours by themselves, and strokes and markers in grey."""
    looks = _looks(figure)
    series = [series for panel in figure.panels for series in panel.series]
    if not any(one.state for one in series):
        return looks
    colours: dict[str, Look] = {
        one.label: {"color": looks[_named(one)]["color"], "linestyle": "-", "linewidth": 4} for one in series
    }
    shapes = {one.state: {**looks[_named(one)], "color": "#555555"} for one in series}
    across = {level.label: looks[level.label] for panel in figure.panels for level in panel.levels}
    return {**colours, **shapes, **across}


def _named(series: Series) -> str:
    return f"{series.label} ({series.state})" if series.state else series.label


def _handle(label: str, look: Look) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **{"label": label, "markersize": 4.5, "linewidth": 1.3, **look})


def _draw_panel(axes: Any, figure: Figure, panel: Panel, looks: Mapping[str, Look]) -> None:
    words = list(dict.fromkeys(point.x for series in panel.series for point in series.points))
    numeric = all(isinstance(word, int | float) for word in words)
    for number, series in enumerate(panel.series):
        shift = 0.0 if numeric else _shift(number, len(panel.series))
        axes.errorbar(
            [point.x if numeric else words.index(point.x) + shift for point in series.points],
            [point.mean for point in series.points],
            yerr=[point.deviation or 0.0 for point in series.points],
            capsize=2,
            elinewidth=0.9,
            linewidth=1.3,
            markersize=4.5,
            **looks[_named(series)],
        )
    for level in panel.levels:
        axes.axhline(level.score, linewidth=1.0, zorder=0, **looks[level.label])
    if figure.log:
        _log_axis(axes, [float(word) for word in words])
    elif numeric and len(words) <= 8:
        axes.set_xticks(sorted(words), [f"{word:g}" for word in sorted(words)])
    elif not numeric:
        _word_axis(axes, words)
    axes.set_title("\n".join(textwrap.wrap(panel.title, _TITLE_WIDTH)), fontsize=9)
    axes.set_ylabel(panel.y_label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)


def _shift(number: int, several: int) -> float:
    """Where among its word a series stands, so that bars do not cover each other."""
    return 0.0 if several == 1 else _SPREAD * (number / (several - 1) - 0.5)


def _log_axis(axes: Any, values: Sequence[float]) -> None:
    """Ticks at whole powers where the values span several, else at 1, 2 and 5 of each."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    wide = max(values) / min(values) > 100
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08)


def _word_axis(axes: Any, words: Sequence[Any]) -> None:
    long = max(len(str(word)) for word in words) * len(words) > 40
    axes.set_xticks(range(len(words)), [str(word) for word in words], **_TILTED if long else {})
    axes.set_xlim(-0.6, len(words) - 0.4)


_TILTED = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}


def _own_ids(document: str, name: str) -> str:
    """The drawing alone, with ids of its own: those that nothing refers to are left out."""
    drawing = document[document.index("<svg") :]
    drawing = re.sub(r"\s*<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', drawing))

    def renamed(found: re.Match[str]) -> str:
        return f' id="{name}-{found[1]}"' if found[1] in used else ""

    drawing = re.sub(r'\sid="([^"]*)"', renamed, drawing)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", drawing)
