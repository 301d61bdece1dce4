"""What was measured, as a page to read and plots to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.cases.loading import ALLOWED_S, FROM_DISK, IN_MEMORY
from benchmarks.cases.slopes import AXES
from benchmarks.lines import LIMIT, OURS, Line
from benchmarks.timing import Spread, spread

__all__ = ["plot_slopes", "render_case", "render_slopes"]


def render_case(lines: Sequence[Line]) -> str:
    """The lines of one case as a Markdown table: ratios first."""
    timed = [line for line in lines if line.seconds]
    tables = [_times(base, [line for line in timed if line.base == base]) for base in _distinct(timed)]
    kept = [line for line in lines if line.memory]
    if kept:
        tables.append(_memory(kept))
    return "\n\n".join(tables)


def _distinct(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line.base for line in lines))


def _times(base: str, lines: Sequence[Line]) -> str:
    others = list(dict.fromkeys(way for line in lines for way in _ways(line)))
    head = ["shape", "what", *(f"{way}, times as long" for way in others), f"{base}, ms", f"{base} over its products"]
    rows = [
        [
            line.shape,
            line.setting,
            *(_against(line, way) for way in others),
            f"{1000 * spread(line.seconds[line.base]).median:,.0f}",
            _shown(line.over_limit) if line.over_limit else "",
        ]
        for line in lines
    ]
    return _table(head, rows)


def _ways(line: Line) -> list[str]:
    return [way for way in line.seconds if way not in (line.base, LIMIT)]


def _against(line: Line, way: str) -> str:
    """The ratio with its spread; what counted work predicts; the goal, and whether it was reached."""
    if way not in line.seconds:
        return ""
    if (line.base, way) == (IN_MEMORY, FROM_DISK):
        beyond = spread([a - b for a, b in zip(line.seconds[way], line.seconds[line.base], strict=True)]).median
        return f"{1000 * beyond:.1f} ms longer (at most {1000 * ALLOWED_S:.0f}: {_met(beyond <= ALLOWED_S)})"
    parts = [_shown(line.ratio(way))]
    predicted = line.predicted(way)
    if predicted is not None:
        parts.append(f"work predicts {predicted:.1f}")
    if way in line.goals:
        parts.append(f"goal {line.goals[way]:g}: {_met(line.ratio(way).median >= line.goals[way])}")
    return "; ".join(parts)


def _met(reached: bool) -> str:
    return "met" if reached else "**missed**"


def _shown(found: Spread) -> str:
    return f"**{found.median:.2f}** ({found.low:.2f} to {found.high:.2f})"


def _memory(lines: Sequence[Line]) -> str:
    rows = []
    for line in lines:
        for way, held in line.memory.items():
            ratio = held / line.memory[line.base] if line.memory[line.base] else float("nan")
            goal = line.goals.get(way)
            verdict = f"; goal {goal:g}: {_met(ratio >= goal)}" if goal else ""
            rows.append([line.shape, line.setting, way, f"{held / 2**20:,.0f}", f"{ratio:.2f}{verdict}"])
    return _table(["shape", "what", "way", "peak, MiB", "times as much"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))


def render_slopes(lines: Sequence[Line]) -> str:
    """What one more of each costs, by least squares."""
    rows = []
    for (axis, shape), found in _by_axis(lines).items():
        for way in _plotted(found):
            slope, base = _fit(found, way)
            rows.append([shape, AXES[axis], way, f"{1000 * slope:.2f}", f"{1000 * base:.1f}"])
    return _table(["shape", "one more of", "way", "costs, ms", "and without any, ms"], rows)


def plot_slopes(lines: Sequence[Line], folder: Path) -> list[Path]:
    """A plot for each axis: seconds of a step or a batch, by shape and way."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "softprompt"
    import matplotlib.pyplot as plt

    files = []
    for axis, label in AXES.items():
        found = {shape: some for (name, shape), some in _by_axis(lines).items() if name == axis}
        if not found:
            continue
        figure, plots = plt.subplots(1, len(found), figsize=(4.2 * len(found), 3.2), squeeze=False, layout="tight")
        for plot, (shape, some) in zip(plots[0], found.items(), strict=True):
            for way in _plotted(some):
                middles = [1000 * spread(line.seconds[way]).median for line in some]
                slope, _ = _fit(some, way)
                plot.plot([line.x for line in some], middles, marker="o", label=f"{way}: {1000 * slope:.2f} ms each")
            plot.set(xlabel=label, ylabel="ms", title=shape, ylim=(0, None))
            plot.legend(fontsize=7, frameon=False)
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"cost-{axis}.svg")
        figure.savefig(files[-1], metadata={"Date": None})
        plt.close(figure)
    return files


def _by_axis(lines: Sequence[Line]) -> Mapping[tuple[str, str], list[Line]]:
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        found.setdefault((line.case.removeprefix("slopes: "), line.shape), []).append(line)
    return found


def _plotted(lines: Sequence[Line]) -> list[str]:
    return [way for way in lines[0].seconds if way != LIMIT or lines[0].base == OURS]


def _fit(lines: Sequence[Line], way: str) -> tuple[float, float]:
    """Seconds of one more, and of none."""
    slope, base = np.polyfit([line.x for line in lines], [spread(line.seconds[way]).median for line in lines], 1)
    return float(slope), float(base)
