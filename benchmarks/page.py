"""What was measured, as a page to read and plots to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.cases.loading import COMPILED, FROM_DISK, READ_ANEW
from benchmarks.cases.slopes import AXES
from benchmarks.goals import BEYOND_TOKEN_S, OF_PREDICTED, goal_of, of_predicted, over_products_goal, verdict
from benchmarks.lines import LIMIT, OURS, Line
from benchmarks.peaks import MEASURABLE_BYTES
from benchmarks.profile import ATTENTION, CLASSES, PRODUCTS
from benchmarks.timing import Spread, spread

__all__ = ["plot_slopes", "render_case", "render_profiles", "render_slopes"]


def render_case(lines: Sequence[Line]) -> str:
    """The lines of one case as Markdown tables, ratios first, and what they come to at worst."""
    timed = [line for line in lines if line.seconds]
    tables = [
        _first_tokens(some) if base == COMPILED else _times(base, some)
        for base in _distinct(timed)
        for some in [[line for line in timed if line.base == base]]
    ]
    kept = [line for line in lines if line.memory]
    if kept:
        tables.append(_memory(kept))
    return "\n\n".join([*tables, *_at_worst(timed)])


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
            _over_products(line),
        ]
        for line in lines
    ]
    return _table(head, rows)


def _ways(line: Line) -> list[str]:
    return [way for way in line.seconds if way not in (line.base, LIMIT)]


def _against(line: Line, way: str) -> str:
    """The ratio with its spread; how much that is of what counted work predicts; the goal, and whether it was met."""
    if way not in line.seconds:
        return ""
    parts = [_shown(line.ratio(way))]
    predicted = line.predicted(way)
    if predicted is not None:
        share = of_predicted(line, line.ratio(way).median, predicted)
        enough = verdict([of_predicted(line, ratio, predicted) >= OF_PREDICTED for ratio in line.ratios(way)])
        parts.append(f"{share:.0%} of the {predicted:.1f} that work predicts: {enough}")
    goal = goal_of(line, way)
    if goal is not None:
        parts.append(f"goal {goal:g}: {verdict([ratio >= goal for ratio in line.ratios(way)])}")
    return "; ".join(parts)


def _over_products(line: Line) -> str:
    if line.over_limit is None:
        return ""
    goal = over_products_goal(line)
    told = "" if goal is None else f"; under {goal:g}: {verdict([ratio < goal for ratio in line.ratios_over_limit])}"
    return _shown(line.over_limit) + told


def _at_worst(lines: Sequence[Line]) -> list[str]:
    """Which of the lines is furthest over its products, and how many reach what counted work predicts."""
    told = []
    if limited := [(line.over_limit.median, line) for line in lines if line.over_limit is not None]:
        highest, worst = max(limited, key=lambda one: one[0])
        told.append(f"Furthest over its products: {highest:.2f} ({worst.shape}, {worst.setting}).")
    shares = [
        of_predicted(line, line.ratio(way).median, predicted)
        for line in lines
        for way in _ways(line)
        if (predicted := line.predicted(way)) is not None
    ]
    if shares:
        below = sum(share < OF_PREDICTED for share in shares)
        told.append(f"Below {OF_PREDICTED:.0%} of what counted work predicts: {below} of {len(shares)} ratios.")
    return [" ".join(told)] if told else []


def _first_tokens(lines: Sequence[Line]) -> str:
    """How much later a first token comes than behind a prompt that is ready."""
    head = [
        "shape",
        "what",
        f"{FROM_DISK}, ms beyond the token's own time",
        f"{READ_ANEW}, ms beyond it",
        "the token's own time, ms",
    ]
    rows = []
    for line in lines:
        beyond = _beyond(line, FROM_DISK)
        soon = verdict([one < BEYOND_TOKEN_S for one in beyond])
        rows.append(
            [
                line.shape,
                line.setting,
                f"{_shown_ms(beyond)}; under {1000 * BEYOND_TOKEN_S:.0f}: {soon}",
                _shown_ms(_beyond(line, READ_ANEW)),
                f"{1000 * spread(line.seconds[COMPILED]).median:,.0f}",
            ]
        )
    return _table(head, rows)


def _beyond(line: Line, way: str) -> list[float]:
    return [a - b for a, b in zip(line.seconds[way], line.seconds[COMPILED], strict=True)]


def _shown_ms(seconds: Sequence[float]) -> str:
    found = spread([1000 * one for one in seconds])
    return f"**{found.median:.1f}** ({found.low:.1f} to {found.high:.1f})"


def _shown(found: Spread) -> str:
    return f"**{found.median:.2f}** ({found.low:.2f} to {found.high:.2f})"


def _memory(lines: Sequence[Line]) -> str:
    rows = []
    for line in lines:
        for way, held in line.memory.items():
            least = min(held, line.memory[line.base])
            shown = f"{held / 2**20:,.0f}" if held >= MEASURABLE_BYTES else f"under {MEASURABLE_BYTES / 2**20:.0f}"
            rows.append([line.shape, line.setting, way, shown, _more(line, way) if least >= MEASURABLE_BYTES else ""])
    return _table(["shape", "what", "way", "peak, MiB", "times as much"], rows)


def _more(line: Line, way: str) -> str:
    ratio, goal = line.memory[way] / line.memory[line.base], goal_of(line, way)
    return f"{ratio:.2f}" + ("" if goal is None else f"; goal {goal:g}: {verdict([ratio >= goal])}")


def render_profiles(lines: Sequence[Line]) -> str:
    """Where the time of each way goes, in parts of the whole; and how fast its products and its attention are."""
    head = ["shape", "what", "way", "ms", "GFLOP/s in products and attention", *CLASSES]
    rows = []
    for line in lines:
        for way, seconds in line.profiles.items():
            whole_s = sum(seconds.values())
            rate = line.flops[way] / max(1e-9, seconds[PRODUCTS] + seconds[ATTENTION]) / 1e9
            parts = [f"{seconds[name] / whole_s:.0%}" for name in CLASSES]
            rows.append([line.shape, line.setting, way, f"{1000 * whole_s:,.0f}", f"{rate:.0f}", *parts])
    return _table(head, rows)


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
