"""A folder of lines: a file of them for each case, which runs have finished, and the page that shows them all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.lines import Line, merge_lines, read_lines
from benchmarks.page import plot_slopes, render_case, render_slopes
from benchmarks.shapes import SHAPES

__all__ = ["begin", "end", "keep", "merge_folders", "write_page"]

_INTRODUCTION = f"""# What was measured

Ratios are medians of rounds, with the lowest and the highest. A goal is met if every round reaches it, open if some do,
and missed if none does. "Work" are the operations of all matrix products. "Over its products" is the time against that
of the matrix products of the same work by themselves: its own products, not the least that would do.
Shapes are {", ".join(f"`{name}`" for name in SHAPES)}, with random weights."""


def begin(folder: Path, case: str, run: str) -> None:
    """Note that a run of a case has not finished (any more)."""
    _write_finished(folder, case, [one for one in _finished(folder, case) if one != run])


def keep(folder: Path, case: str, line: Line) -> None:
    """Keep a line of a run, in the place of the same line of an earlier one."""
    merge_lines(folder / f"{case}.jsonl", [line])


def end(folder: Path, case: str, run: str) -> None:
    """Note that a run of a case has finished."""
    _write_finished(folder, case, [*_finished(folder, case), run])


def merge_folders(folders: Sequence[Path], output: Path) -> None:
    """Add what lies in folders to what lies in another, and write its page; of the same line the last one stays."""
    for folder in folders:
        for case in CASES:
            if lines := read_lines(folder / f"{case}.jsonl"):
                merge_lines(output / f"{case}.jsonl", lines)
                _write_finished(output, case, [*_finished(output, case), *_finished(folder, case)])
    write_page(output)


def write_page(folder: Path) -> None:
    """Write `benchmarks.md` and the plots of every case whose lines lie in a folder."""
    parts = [_INTRODUCTION]
    for case in CASES:
        lines = sorted(read_lines(folder / f"{case}.jsonl"), key=lambda line: list(SHAPES).index(line.shape))
        if not lines:
            continue
        parts.append(f"## {case.capitalize()}\n\n{_told_runs(folder, case, lines)}")
        if case == "slopes":
            parts.append(render_slopes(lines))
            parts += [f"![{plot.stem}]({plot.name})" for plot in plot_slopes(lines, folder)]
        else:
            parts.append(render_case(lines))
    (folder / "benchmarks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _told_runs(folder: Path, case: str, lines: Sequence[Line]) -> str:
    finished = _finished(folder, case)
    runs = dict.fromkeys(line.run for line in lines)
    return "\n".join(f"- {run}{'' if run in finished else ': **not finished**'}" for run in runs)


def _finished(folder: Path, case: str) -> list[str]:
    file = folder / f"{case}.json"
    runs: list[str] = json.loads(file.read_text(encoding="utf-8"))["finished"] if file.exists() else []
    return runs


def _write_finished(folder: Path, case: str, runs: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"finished": list(dict.fromkeys(runs))}, indent=2)
    (folder / f"{case}.json").write_text(text + "\n", encoding="utf-8")
